"""An engine in this process answers as a server does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from qdrant_client import QdrantClient
from qdrant_client.client_base import QdrantBase

import headrace
from tests.client.scenario import STEPS, answers_of, answers_of_async, step_ids


@pytest.fixture(scope="session")
def served_answers(server_url: str) -> Iterator[list[Any]]:
    client = QdrantClient(url=server_url, timeout=60, check_compatibility=False)
    yield answers_of(client)
    client.close()


@pytest.fixture(scope="session")
def embedded_answers() -> list[Any]:
    client = headrace.connect(":memory:")
    try:
        return answers_of(client)
    finally:
        client.close()


@pytest.fixture(scope="session")
def async_answers() -> list[Any]:
    async def run() -> list[Any]:
        client = headrace.connect_async(":memory:")
        try:
            return await answers_of_async(client)
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


def test_the_scenario_calls_every_method_of_the_client() -> None:
    methods = {name for name, _ in vars(QdrantBase).items() if not name.startswith("_")}
    assert methods - {one.method for one in STEPS} == {"close", "migrate"}
