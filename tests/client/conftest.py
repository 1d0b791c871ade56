"""Stores in this process, and a server beside them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from qdrant_client import QdrantClient

import headrace
from headrace.client.arrays import Store
from headrace.server.options import ServeOptions
from headrace.server.run import serve_in_thread


@pytest.fixture
def client() -> Iterator[QdrantClient]:
    """The official client on an empty engine in this process."""
    with_engine = headrace.connect(":memory:")
    yield with_engine
    with_engine.close()


@pytest.fixture
def store() -> Iterator[Store]:
    """An empty store in this process, for arrays."""
    with headrace.open(":memory:") as opened:
        yield opened


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server on a free port of this machine."""
    options = ServeOptions(tmp_path_factory.mktemp("served"), http_port=0, grpc_port=None)
    with serve_in_thread(options) as serving:
        yield serving.rest_url
