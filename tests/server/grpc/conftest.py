"""A real server over a real store, for tests that speak gRPC to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest

from headrace.model.collection_config import CollectionConfig, VectorParams
from headrace.model.vectors import DEFAULT_VECTOR_NAME, Distance
from headrace.service.service import Service
from tests.server.grpc.grpc_server import Grpc, serving

NewCollection = Callable[[CollectionConfig], str]


@pytest.fixture(scope="session")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grpc]:
    service = Service.open(tmp_path_factory.mktemp("data"))
    with serving(service) as front:
        yield front
    service.close()


@pytest.fixture
def new_collection(front: Grpc) -> Iterator[NewCollection]:
    """Makes collections of names of their own, which are gone after the test."""
    names: list[str] = []

    def make(config: CollectionConfig) -> str:
        name = f"c-{uuid4().hex}"
        front.service.create_collection(name, config)
        names.append(name)
        return name

    yield make
    for name in names:
        front.service.delete_collection(name)


@pytest.fixture
def collection(new_collection: NewCollection) -> str:
    """A collection of one unnamed dot-product vector, 4 wide."""
    params = VectorParams(size=4, distance=Distance.DOT)
    return new_collection(CollectionConfig(vectors={DEFAULT_VECTOR_NAME: params}))
