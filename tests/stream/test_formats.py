"""The five messages of the connector's page, through a broker, into a store, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from headrace.server.run import Serving
from tests.stream.harness import (
    connector_settings,
    new_topic,
    produce,
    rest_client,
    running_sink,
    wait_until,
)

MESSAGES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "connector_page_messages.json").read_text()
)
DENSE = models.VectorParams(size=8, distance=models.Distance.DOT)
SPARSE = {"some-sparse": models.SparseVectorParams()}
COLLECTIONS: dict[str, dict[str, Any]] = {
    "unnamed-default-vector": {"vectors_config": DENSE},
    "named-multiple-vectors": {"vectors_config": {"some-dense": DENSE, "some-other-dense": DENSE}},
    "sparse-vectors": {"vectors_config": {}, "sparse_vectors_config": SPARSE},
    "multi-vectors": {
        "vectors_config": {
            "some-multi": models.VectorParams(
                size=10,
                distance=models.Distance.DOT,
                multivector_config=models.MultiVectorConfig(
                    comparator=models.MultiVectorComparator.MAX_SIM
                ),
            )
        }
    },
    "dense-and-sparse-vectors": {
        "vectors_config": {"some-other-dense": DENSE},
        "sparse_vectors_config": SPARSE,
    },
}


@pytest.fixture(
    scope="module",
    params=[
        "tansu to embedded",
        pytest.param("kafka to embedded", marks=pytest.mark.kafka),
        pytest.param("kafka to gRPC", marks=pytest.mark.kafka),
        pytest.param("kafka to REST", marks=pytest.mark.kafka),
    ],
)
def written(request: pytest.FixtureRequest, serving: Serving) -> Any:
    """A client of a store that has taken the five messages by one path."""
    broker, _, target = request.param.split()
    bootstrap_servers = request.getfixturevalue(f"{broker}_bootstrap_servers")
    with rest_client(serving.rest_url) as client:
        for name, params in COLLECTIONS.items():
            client.delete_collection(name)
            client.create_collection(name, **params)
        topic = new_topic(bootstrap_servers, "page")
        produce(bootstrap_servers, topic, [(None, json.dumps(one).encode()) for one in MESSAGES])
        with running_sink(connector_settings(bootstrap_servers, topic), target, serving):
            wait_until(
                lambda: all(client.count(name).count == 1 for name in COLLECTIONS), "all written"
            )
        yield client


@pytest.mark.parametrize("message", MESSAGES, ids=lambda one: one["collection_name"])
def test_message_of_the_connector_page_comes_back_equal(
    written: QdrantClient, message: dict[str, Any]
) -> None:
    (point,) = written.retrieve(
        message["collection_name"], [message["id"]], with_payload=True, with_vectors=True
    )
    assert point.id == message["id"]
    assert point.payload == message["payload"]
    assert _in_float32(point.vector) == _in_float32(message["vector"])


def _in_float32(vector: Any) -> Any:
    """Vectors with each number as the bytes of its float32; sparse indices stay integers."""
    if isinstance(vector, models.SparseVector):
        vector = vector.model_dump()
    if isinstance(vector, dict):
        return {
            name: one if name == "indices" else _in_float32(one) for name, one in vector.items()
        }
    if isinstance(vector, list):
        return [_in_float32(one) for one in vector]
    return np.float32(vector).tobytes()
