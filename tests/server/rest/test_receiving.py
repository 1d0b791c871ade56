"""Do bodies come in within bounds of size, time and memory, compressed or not?"""

from __future__ import annotations

import gzip
import socket
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest

from headrace.model.errors import Unavailable
from headrace.server.rest import receiving
from headrace.server.rest.receiving import BODY_BYTES_MAX, Intake, Room
from headrace.service.service import Service
from tests.server.rest.rest_server import Rest

JSON = {"content-type": "application/json"}
POINT = {"points": [{"id": 1, "vector": [1, 0, 0, 0], "payload": {"text": "x" * 50_000}}]}


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("X-GZIP", gzip.compress)],
)
def test_compressed_bodies_are_taken(
    rest: Rest, collection: str, encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    headers = {**JSON, "content-encoding": encoding}
    content = compress(orjson.dumps(POINT))
    path = f"/collections/{collection}/points"
    rest.result("PUT", f"{path}?wait=true", content=content, headers=headers)
    assert rest.result("GET", f"{path}/1")["payload"] == POINT["points"][0]["payload"]


@pytest.mark.parametrize(
    "content",
    [b"{}", b"", gzip.compress(b"{}")[:-3], gzip.compress(b"{}") + b"{}", b"\x1f\x8b" + b"\0" * 99],
)
def test_a_body_that_is_not_compressed_as_it_says_is_refused(
    rest: Rest, collection: str, content: bytes
) -> None:
    headers = {**JSON, "content-encoding": "gzip"}
    path = f"/collections/{collection}/points/scroll"
    status, text = rest.error("POST", path, content=content, headers=headers)
    assert status == 400
    assert text.startswith("Payload error: ")


def test_an_encoding_that_is_not_known_is_refused_by_name(rest: Rest, collection: str) -> None:
    path = f"/collections/{collection}/points/scroll"
    headers = {**JSON, "content-encoding": "br"}
    status, text = rest.error("POST", path, content=b"{}", headers=headers)
    assert (status, "`br` is not supported" in text) == (400, True)


def test_a_body_that_inflates_beyond_the_limit_is_refused(rest: Rest, collection: str) -> None:
    content = gzip.compress(b" " * (BODY_BYTES_MAX + 1))
    assert len(content) < BODY_BYTES_MAX / 500
    path = f"/collections/{collection}/points/scroll"
    headers = {**JSON, "content-encoding": "gzip"}
    status, text = rest.error("POST", path, content=content, headers=headers)
    assert (status, "larger than allowed" in text) == (400, True)


def test_a_body_that_stops_in_the_middle_is_told_so(
    rest: Rest, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "RECEIVE_STALL_S", 0.2)
    path = f"/collections/{collection}/points/scroll"
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", int(rest.url.rpartition(":")[2]))) as peer:
        peer.settimeout(20)
        peer.sendall(f'{head}content-length: 100\r\n\r\n{{"limit": '.encode())
        answer = peer.recv(10_000)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"stopped in the middle" in answer
    assert rest.result("POST", path, {})["points"] == []


def test_all_bodies_together_take_no_more_than_there_is_for_them() -> None:
    intake = Intake(100)
    with Room(intake) as first:
        first.take(60)
        first.take(40)
        with Room(intake) as second, pytest.raises(Unavailable):
            second.take(1)
        assert intake.bytes == 100
    assert intake.bytes == 0


def test_requests_beyond_the_memory_for_bodies_are_told_to_come_again(
    rest: Rest, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, release = threading.Event(), threading.Event()
    write = Service.write

    def slow(self: Service, *arguments: object) -> int:
        entered.set()
        release.wait(30)
        return write(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Service, "write", slow)
    path = f"/collections/{collection}/points?wait=true"
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(rest.call, "PUT", path, POINT)
        assert entered.wait(30)
        taken = len(orjson.dumps(POINT))
        with monkeypatch.context() as full:
            full.setattr(Intake, "take", _refuse_beyond(taken))
            second = rest.call("PUT", path, POINT)
        release.set()
        assert first.result().status_code == 200
    assert (second.status_code, second.headers["retry-after"]) == (503, "1")
    assert rest.call("PUT", path, POINT).status_code == 200


def _refuse_beyond(bytes_max: int) -> Callable[[Intake, int], None]:
    def take(self: Intake, bytes_count: int) -> None:
        assert self.bytes >= bytes_max, "the body in hand is counted"
        raise Unavailable("full")

    return take
