"""An engine in this process answers as a server does, and gRPC as REST."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient
from qdrant_client.client_base import QdrantBase

import headrace
from headrace.server.options import ServeOptions
from headrace.server.run import serve_in_thread
from tests.client.scenario import STEPS, step_ids
from tests.client.steps import answers_of, answers_of_async, over_any_protocol


@pytest.fixture(scope="session")
def served_answers(server_url: str) -> Iterator[list[Any]]:
    client = QdrantClient(url=server_url, timeout=60, check_compatibility=False)
    yield answers_of(client, STEPS)
    client.close()


@pytest.fixture(scope="session")
def grpc_answers(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    options = ServeOptions(tmp_path_factory.mktemp("grpc"), http_port=0, grpc_port=0)
    with serve_in_thread(options) as serving:
        client = QdrantClient(**over_grpc(serving.rest_url, serving.grpc_address))
        try:
            return answers_of(client, STEPS)
        finally:
            client.close()


@pytest.fixture(scope="session")
def async_grpc_answers(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    async def run(options: dict[str, Any]) -> list[Any]:
        client = AsyncQdrantClient(**options)
        try:
            return await answers_of_async(client, STEPS)
        finally:
            await client.close()

    options = ServeOptions(tmp_path_factory.mktemp("grpc-async"), http_port=0, grpc_port=0)
    with serve_in_thread(options) as serving:
        return asyncio.run(run(over_grpc(serving.rest_url, serving.grpc_address)))


def over_grpc(rest_url: str, grpc_address: str | None) -> dict[str, Any]:
    assert grpc_address is not None
    return {
        "url": rest_url,
        "grpc_port": int(grpc_address.rpartition(":")[2]),
        "prefer_grpc": True,
        "timeout": 60,
        "check_compatibility": False,
    }


@pytest.fixture(scope="session")
def embedded_answers() -> list[Any]:
    client = headrace.connect(":memory:")
    try:
        return answers_of(client, STEPS)
    finally:
        client.close()


@pytest.fixture(scope="session")
def async_answers() -> list[Any]:
    async def run() -> list[Any]:
        client = headrace.connect_async(":memory:")
        try:
            return await answers_of_async(client, STEPS)
        finally:
            await client.close()

    return asyncio.run(run())


@pytest.mark.parametrize("number", range(len(STEPS)), ids=step_ids())
def test_an_engine_in_process_answers_as_a_server(
    number: int, served_answers: list[Any], embedded_answers: list[Any]
) -> None:
    assert embedded_answers[number] == served_answers[number]


@pytest.mark.parametrize("number", range(len(STEPS)), ids=step_ids())
def test_the_async_client_has_the_same_answers(
    number: int, embedded_answers: list[Any], async_answers: list[Any]
) -> None:
    assert async_answers[number] == embedded_answers[number]


@pytest.mark.parametrize("number", range(len(STEPS)), ids=step_ids())
def test_grpc_answers_as_rest(
    number: int, served_answers: list[Any], grpc_answers: list[Any]
) -> None:
    expected = over_any_protocol(served_answers[number])
    assert over_any_protocol(grpc_answers[number]) == expected


@pytest.mark.parametrize("number", range(len(STEPS)), ids=step_ids())
def test_the_async_client_has_the_same_answers_over_grpc(
    number: int, grpc_answers: list[Any], async_grpc_answers: list[Any]
) -> None:
    assert async_grpc_answers[number] == grpc_answers[number]


# What is asked of the store by no other call, and where it is tested.
BESIDE_THE_SCENARIO = {
    "close": "test_connect.py",
    "migrate": "test_connect.py",
    "grpc_collections": "test_connect.py",
    "grpc_points": "test_connect.py",
    "http": "test_connect.py",
    "init_options": "test_connect.py",
}
# What says something of FastEmbed's models, without the store; an extra of the client.
OF_FASTEMBED = {
    "get_embedding_size": ("BAAI/bge-small-en",),
    "list_image_models": (),
    "list_late_interaction_multimodal_models": (),
    "list_late_interaction_text_models": (),
    "list_sparse_models": (),
    "list_text_models": (),
}


def test_the_scenario_calls_every_method_of_the_client() -> None:
    methods = {name for name, _ in vars(QdrantBase).items() if not name.startswith("_")}
    assert methods - {one.method for one in STEPS} == {"close", "migrate"}


@pytest.mark.parametrize("kind", [QdrantClient, AsyncQdrantClient])
def test_every_public_name_of_the_client_is_tried(kind: type) -> None:
    names = {name for name in dir(kind) if not name.startswith("_")} - {"DEFAULT_BATCH_SIZE"}
    tried = {one.method for one in STEPS} | set(BESIDE_THE_SCENARIO) | set(OF_FASTEMBED)
    assert names == tried
    for name, file in BESIDE_THE_SCENARIO.items():
        assert re.search(rf"\b{name}\b", (Path(__file__).parent / file).read_text())


@pytest.mark.parametrize("name", OF_FASTEMBED)
def test_what_needs_fastembed_works_or_says_so(name: str) -> None:
    client = headrace.connect(":memory:")
    method = getattr(client, name)
    if importlib.util.find_spec("fastembed") is not None:
        assert method(*OF_FASTEMBED[name])
    else:
        with contextlib.suppress(ImportError):
            assert method(*OF_FASTEMBED[name]) == {}
    client.close()
