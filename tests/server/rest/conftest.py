"""A real server over a real store, for tests that speak HTTP to it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from uuid import uuid4

import httpx
import pytest
import uvicorn
from qdrant_client import QdrantClient

from headrace.server.rest.app import create_app
from headrace.service.service import Service
from tests.server.rest.rest_server import Rest

START_TIMEOUT_S = 20.0


@pytest.fixture(scope="session")
def rest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rest]:
    service = Service.open(tmp_path_factory.mktemp("data"))
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    config = uvicorn.Config(
        create_app(service), loop="uvloop", http="httptools", lifespan="off", log_level="warning"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + START_TIMEOUT_S
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.started
    client = QdrantClient(url=url)
    with httpx.Client(base_url=url) as http:
        yield Rest(url, service, http, client)
    client.close()
    server.should_exit = True
    thread.join(START_TIMEOUT_S)
    assert not thread.is_alive()
    listener.close()
    service.close()


@pytest.fixture
def new_collection(rest: Rest) -> Iterator[Callable[..., str]]:
    """Makes collections of names of their own, which are gone after the test."""
    names: list[str] = []

    def make(**body: object) -> str:
        name = f"c-{uuid4().hex}"
        body.setdefault("vectors", {"size": 4, "distance": "Dot"})
        assert rest.result("PUT", f"/collections/{name}", body) is True
        names.append(name)
        return name

    yield make
    for name in names:
        rest.result("DELETE", f"/collections/{name}")


@pytest.fixture
def collection(new_collection: Callable[..., str]) -> str:
    """A collection of one unnamed dot-product vector, 4 wide."""
    return new_collection()
