"""Clients that ask whether the connection is alive keep it."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import grpc
from qdrant_client import grpc as qdrant

from headrace.server.grpc.server import PING_INTERVAL_MS_MIN
from tests.server.grpc.grpc_server import Grpc

PINGS = 8
TIMEOUT_S = 30
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, PING, GOAWAY = 4, 6, 7
ACK = 1


class Http2:
    """As much of HTTP/2 as pings need."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        connection.sendall(PREFACE)
        self.send(SETTINGS, 0, b"")

    def send(self, kind: int, flags: int, content: bytes) -> None:
        head = struct.pack(">I", len(content))[1:] + bytes((kind, flags)) + bytes(4)
        self._connection.sendall(head + content)

    def frames(self) -> Iterator[tuple[int, int, bytes]]:
        """Kind, flags and content of what comes; the end when the server closes."""
        while head := self._read(9):
            yield head[3], head[4], self._read(int.from_bytes(head[:3]))

    def _read(self, size: int) -> bytes:
        found = b""
        while len(found) < size and (more := self._connection.recv(size - len(found))):
            found += more
        return found


@contextmanager
def connected(front: Grpc) -> Iterator[Http2]:
    host, _, port = front.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as connection:
        yield Http2(connection)


def test_pings_of_an_idle_connection_are_answered(front: Grpc) -> None:
    """As Go's, Java's and Rust's clients send them: one after the other, without any call."""
    with connected(front) as peer:
        frames = peer.frames()
        for number in range(PINGS):
            peer.send(PING, 0, number.to_bytes(8))
            answer = next(frame for frame in frames if frame[0] in (PING, GOAWAY))
            assert answer == (PING, ACK, number.to_bytes(8))
            time.sleep(1.2 * PING_INTERVAL_MS_MIN / 1000)


def test_a_flood_of_pings_ends_its_connection(front: Grpc) -> None:
    with connected(front) as peer, suppress(ConnectionError):
        for number in range(PINGS):
            peer.send(PING, 0, number.to_bytes(8))
        *_, (kind, _, content) = peer.frames()
        assert kind == GOAWAY
        assert b"too_many_pings" in content


def test_a_client_that_keeps_its_idle_connection_alive_has_no_other(front: Grpc) -> None:
    options = {
        "grpc.keepalive_time_ms": 2 * PING_INTERVAL_MS_MIN,
        "grpc.keepalive_timeout_ms": 1000 * TIMEOUT_S,
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.http2.max_pings_without_data": 0,
    }
    states: list[grpc.ChannelConnectivity] = []
    with grpc.insecure_channel(front.address, options=tuple(options.items())) as channel:
        channel.subscribe(states.append)
        grpc.channel_ready_future(channel).result(TIMEOUT_S)
        # It asks once a second; the third time was too often for the library's own front.
        time.sleep(4)
        assert states[-1] is grpc.ChannelConnectivity.READY
        stub: Any = qdrant.QdrantStub(channel)  # type: ignore[no-untyped-call]
        stub.HealthCheck(qdrant.HealthCheckRequest())
        assert states.count(grpc.ChannelConnectivity.READY) == 1
