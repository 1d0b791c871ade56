"""Are answers that are too long for memory sent in pieces, and are they the same?"""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import pytest

from headrace.engine.query.records import read_records
from headrace.model.operations import DeletePoints, PointSelector
from headrace.model.points import Record
from headrace.model.queries import ALL_VECTORS, WHOLE_PAYLOAD, Scroll
from headrace.server.rest import endpoint, sending
from headrace.server.rest.answers import PIECE_POINTS, WHOLE_POINTS_MAX
from headrace.server.rest.sending import Answer
from tests.server.rest.rest_server import Rest

POINTS = 2 * WHOLE_POINTS_MAX + 7
IDS = list(range(POINTS))
WAIT_S = 20.0


@pytest.fixture
def filled(rest: Rest, collection: str) -> str:
    """A collection whose points take more than one piece."""
    points = [
        {"id": n, "vector": [n, 1, 2, 3], "payload": {"n": POINTS - n, "text": "[]"}} for n in IDS
    ]
    rest.result("PUT", f"/collections/{collection}/points?wait=true", {"points": points})
    rest.result(
        "PUT",
        f"/collections/{collection}/index?wait=true",
        {"field_name": "n", "field_schema": "integer"},
    )
    return f"/collections/{collection}/points"


def test_a_long_scroll_is_that_of_its_pages(rest: Rest, filled: str) -> None:
    body = {"with_payload": True, "with_vector": True}
    response = rest.call("POST", f"{filled}/scroll", {**body, "limit": POINTS - 1})
    assert response.headers["transfer-encoding"] == "chunked"
    whole = response.json()
    assert set(whole) == {"result", "status", "time"}
    assert (whole["status"], whole["result"]["next_page_offset"]) == ("ok", POINTS - 1)
    paged: list[Any] = []
    place: Any = 0
    while place is not None and len(paged) < POINTS:
        page = rest.result("POST", f"{filled}/scroll", {**body, "limit": 500, "offset": place})
        paged.extend(page["points"])
        place = page["next_page_offset"]
    assert whole["result"]["points"] == paged[:-1]


def test_a_long_scroll_by_value_keeps_the_order(rest: Rest, filled: str) -> None:
    body = {"limit": 10 * POINTS, "order_by": "n"}
    found = rest.result("POST", f"{filled}/scroll", body)
    assert [point["id"] for point in found["points"]] == IDS[::-1]
    assert [point["order_value"] for point in found["points"]] == sorted(range(1, POINTS + 1))
    assert found["next_page_offset"] is None


def test_a_long_query_is_ranked_as_a_short_one(rest: Rest, filled: str) -> None:
    body = {"query": [1, 0, 0, 0], "limit": POINTS, "offset": 2, "explain": True}
    found = rest.result("POST", f"{filled}/query", body)
    assert [point["id"] for point in found["points"]] == IDS[::-1][2:]
    assert found["points"][0]["score"] == POINTS - 3
    assert found["explain"]["cost"] == POINTS


def test_long_retrieves_keep_the_order_and_leave_out_what_is_missing(
    rest: Rest, filled: str
) -> None:
    wanted = [10**9, *IDS[::-1], 0]
    found = rest.result("POST", filled, {"ids": wanted, "with_payload": ["n"]})
    assert [point["id"] for point in found] == IDS[::-1]
    assert found[0]["payload"] == {"n": 1}
    assert rest.result("POST", filled, {"ids": list(range(10**6, 10**6 + 5000))}) == []


def test_a_long_answer_is_compressed_for_who_takes_that(rest: Rest, filled: str) -> None:
    body = {"limit": POINTS}
    headers = {"accept-encoding": "gzip"}
    content = orjson.dumps(body)
    headers["content-type"] = "application/json"
    request = rest.http.build_request("POST", f"{filled}/scroll", content=content, headers=headers)
    response = rest.http.send(request, stream=True)
    raw = b"".join(response.iter_raw())
    assert response.headers["content-encoding"] == "gzip"
    plain = orjson.loads(gzip.decompress(raw))
    assert [point["id"] for point in plain["result"]["points"]] == IDS


def test_pieces_show_the_moment_at_which_they_were_asked_for(rest: Rest, filled: str) -> None:
    name = filled.split("/")[2]
    scroll = Scroll(limit=POINTS, with_payload=WHOLE_PAYLOAD, with_vectors=ALL_VECTORS)
    found = rest.service.scroll_pieces(name, scroll, PIECE_POINTS)
    first = next(found.records.pieces)
    rest.service.write(name, [DeletePoints(PointSelector(ids=tuple(IDS)))])
    assert rest.service.count(name) == 0
    records: list[Record] = [*first, *(one for piece in found.records.pieces for one in piece)]
    assert [record.id for record in records] == IDS
    assert orjson.loads(records[-1].payload or b"")["n"] == 1


def test_an_answer_that_breaks_off_is_no_whole_answer(
    rest: Rest, filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(10**6))

    def fail_later(*arguments: Any) -> Any:
        if next(calls) == 3:
            raise RuntimeError("a fault of ours")
        return read_records(*arguments)

    monkeypatch.setattr("headrace.engine.query.scroll.read_records", fail_later)
    with pytest.raises(httpx.RemoteProtocolError):
        rest.call("POST", f"{filled}/scroll", {"limit": POINTS})
    monkeypatch.undo()
    assert rest.result("POST", f"{filled}/count", {}) == {"count": POINTS}


def test_who_leaves_gets_no_further_pieces_made(
    rest: Rest, filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0
    pieces_max = 20_000

    def endless(*_: Any) -> Iterator[bytes]:
        nonlocal made
        for _piece in range(pieces_max):
            made += 1
            yield b" " * 2**16

    monkeypatch.setattr("headrace.server.rest.endpoint.success_pieces", endless)
    with socket.create_connection(("127.0.0.1", int(rest.url.rpartition(":")[2]))) as peer:
        body = orjson.dumps({"limit": POINTS})
        head = f"POST {filled}/scroll HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        peer.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        assert peer.recv(1000).startswith(b"HTTP/1.1 200")
    deadline = time.monotonic() + WAIT_S
    before = -1
    while made != before and time.monotonic() < deadline:
        before = made
        time.sleep(0.2)
    assert 0 < made < pieces_max


@pytest.mark.parametrize("chars", [20_000, 200_000])
def test_only_what_is_soon_compressed_is_compressed_on_the_event_loop(
    rest: Rest, collection: str, monkeypatch: pytest.MonkeyPatch, chars: int
) -> None:
    threads: list[str] = []

    def gzipped(answer: Answer) -> Answer:
        threads.append(threading.current_thread().name)
        return sending.gzipped(answer)

    monkeypatch.setattr(endpoint, "gzipped", gzipped)
    point = {"id": 1, "vector": [1, 1, 1, 1], "payload": {"text": "a b" * (chars // 3)}}
    rest.result("PUT", f"/collections/{collection}/points?wait=true", {"points": [point]})
    got = rest.result("GET", f"/collections/{collection}/points/1")
    assert got["payload"] == point["payload"]
    name = threads[-1]
    assert name.startswith("AnyIO worker") == (chars > endpoint.IN_PLACE_GZIP_BYTES_MAX)
