"""What becomes of connections that say little, or too much, before a request is whole?"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import httpx
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from headrace.server import http_connection
from headrace.server.http_connection import REQUEST_HEAD_BYTES_MAX, BoundedHttpProtocol
from headrace.server.options import ServeOptions
from headrace.server.rest.receiving import IS_WHOLE
from headrace.server.run import serve_in_thread

WAIT_S = 20.0


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with serve_in_thread(ServeOptions(tmp_path, http_port=0, grpc_port=None)) as serving:
        yield serving.rest_url


def connected(url: str) -> socket.socket:
    peer = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
    peer.settimeout(WAIT_S)
    return peer


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET /coll",
        b"GET /collections HTTP/1.1\r\nhost: x\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\nGET /coll",
    ],
)
def test_a_head_that_does_not_end_in_time_ends_the_connection(
    url: str, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connection, "REQUEST_HEAD_S", 0.2)
    with connected(url) as peer:
        peer.sendall(said)
        answer = b""
        while part := peer.recv(10_000):
            answer += part
    assert answer.count(b"HTTP/1.1 200") == said.count(b"\r\n\r\n")
    assert httpx.get(url).status_code == 200


def test_a_request_may_take_longer_than_its_head(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "REQUEST_HEAD_S", 0.2)
    with connected(url) as peer:
        head = b"POST /collections/c/points/scroll HTTP/1.1\r\ncontent-type: application/json\r\n"
        peer.sendall(head + b"content-length: 2\r\n\r\n{")
        peer.settimeout(0.5)
        with pytest.raises(TimeoutError):
            peer.recv(1)
        peer.settimeout(WAIT_S)
        peer.sendall(b"}")
        assert peer.recv(10_000).startswith(b"HTTP/1.1 404 ")


def test_a_head_too_large_is_refused(url: str) -> None:
    with connected(url) as peer:
        peer.sendall(b"GET / HTTP/1.1\r\nx: " + b"y" * REQUEST_HEAD_BYTES_MAX)
        answer = b""
        while part := peer.recv(10_000):
            answer += part
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.endswith(b"Request head too large.")
    assert httpx.get(url).status_code == 200


def test_names_as_long_as_a_head_allows_are_read(url: str) -> None:
    name = "c" * (REQUEST_HEAD_BYTES_MAX // 4)
    assert httpx.get(f"{url}/collections/{name}").status_code == 422


@pytest.mark.parametrize("cut", [40, 75, 100, -1])
def test_a_request_is_whole_once_its_last_byte_is_there(cut: int) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def talk() -> None:
        config = uvicorn.Config(app, lifespan="off", log_config=None)
        config.load()
        protocol = BoundedHttpProtocol(config, ServerState(), app_state={})
        transport = Mock(asyncio.Transport)
        transport.is_closing.return_value = False
        protocol.connection_made(transport)
        for _ in range(2):
            protocol.data_received(request[:cut])
            assert IS_WHOLE not in protocol.scope
            protocol.data_received(request[cut:])
            assert IS_WHOLE in protocol.scope
            await asyncio.gather(*protocol.tasks)
        protocol.connection_lost(None)

    head = b"POST /collections/c/points/scroll HTTP/1.1\r\nhost: x\r\ncontent-length: 40\r\n\r\n"
    request = head + b"{" + b" " * 38 + b"}"
    asyncio.run(talk())
