"""A running gRPC front, as tests talk to it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import uvloop
from qdrant_client import QdrantClient
from qdrant_client import grpc as qdrant

from headrace.server.grpc.server import create_grpc_server
from headrace.server.node import Node
from headrace.service.service import Service

START_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Grpc:
    """A server that answers now.

    Attributes:
        service: the store behind it.
        address: host and port.
        channel: speaks raw messages to it.
        client: the official client, which speaks gRPC.
    """

    service: Service
    address: str
    channel: grpc.Channel
    client: QdrantClient

    @property
    def points(self) -> Any:
        return self._stub("PointsStub")

    @property
    def collections(self) -> Any:
        return self._stub("CollectionsStub")

    @property
    def snapshots(self) -> Any:
        return self._stub("SnapshotsStub")

    @property
    def qdrant(self) -> Any:
        return self._stub("QdrantStub")

    def _stub(self, name: str) -> Any:
        return getattr(qdrant, name)(self.channel)


@contextmanager
def serving(service: Service, node: Node | None = None) -> Iterator[Grpc]:
    """Serve on a free port of the loopback, on a thread of its own, under uvloop.

    Args:
        service: the store.
        node: what the front shares with others, such as its keys.
    """
    port: Future[int] = Future()
    stopper: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def live() -> None:
        stop = asyncio.Event()
        stopper.set_result((asyncio.get_running_loop(), stop))
        server = await create_grpc_server(service, node)
        bound_port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        port.set_result(bound_port)
        await stop.wait()
        await server.stop(START_TIMEOUT_S)

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(live())

    thread = threading.Thread(target=run)
    thread.start()
    address = f"127.0.0.1:{port.result(START_TIMEOUT_S)}"
    client = QdrantClient(
        host="127.0.0.1",
        grpc_port=int(address.rpartition(":")[2]),
        prefer_grpc=True,
        check_compatibility=False,
    )
    try:
        with grpc.insecure_channel(address) as channel:
            yield Grpc(service, address, channel, client)
    finally:
        client.close()
        loop, stop = stopper.result(START_TIMEOUT_S)
        loop.call_soon_threadsafe(stop.set)
        thread.join(START_TIMEOUT_S)
        assert not thread.is_alive()


@contextmanager
def refused(code: grpc.StatusCode, text: str) -> Iterator[None]:
    """The call inside must fail with a status code and a text that has `text` in it."""
    with pytest.raises(grpc.RpcError) as raised:
        yield
    error: Any = raised.value
    assert error.code() == code, error
    assert text in error.details()
