"""Every record that must be refused is one dead letter; all others of its batch land."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka import Message
from qdrant_client import QdrantClient, models

from headrace.server.run import Serving
from tests.stream.harness import (
    KafkaPair,
    connector_settings,
    headers_of,
    new_topic,
    produce,
    read_topic,
    rest_client,
    running_sink,
    wait_until,
)

pytestmark = pytest.mark.kafka

COLLECTION = "refusing"
GOOD_VECTOR = {"dense": [1.0, 2.0, 3.0, 4.0]}
ABSENT = object()


def value(**fields: Any) -> bytes:
    """A good record's value with some fields changed; those that are ABSENT are left out."""
    good = {"collection_name": COLLECTION, "id": 1, "vector": GOOD_VECTOR, "payload": {}}
    return json.dumps(
        {name: one for name, one in {**good, **fields}.items() if one is not ABSENT}
    ).encode()


def sparse(**fields: Any) -> bytes:
    """A value whose sparse vector has these fields."""
    return value(vector={"words": fields})


NOT_JSON = "Converting byte[] to Kafka Connect data failed due to serialization error: …"

# The bytes to refuse, and what their dead letter must say; an ellipsis stands for any end.
# The texts are those of qdrant-kafka 1.4.1, where it has one.
REFUSED: list[tuple[bytes, str]] = [
    (value(id=ABSENT), "'id' value is required"),
    (value(id=None), "'id' value cannot be null"),
    (value(id=-1), "Point ID must be a positive integer"),
    (value(id=1.5), "Point ID must be a UUID string or an integer"),
    (value(id=True), "Point ID must be a UUID string or an integer"),
    (value(id=2**64), "Point ID must be a positive integer"),
    (value(id="123"), "Point ID must be a valid UUID string. Invalid UUID: '123'"),
    (value(id="1-1-1-1-1"), "Point ID must be a valid UUID string. Invalid UUID: '1-1-1-1-1'"),
    (value(collection_name=ABSENT), "'collection_name' value is required"),
    (value(collection_name=None), "'collection_name' value cannot be null"),
    (value(collection_name=7), "Collection name must be a string"),
    (value(collection_name=""), "Collection name cannot be empty"),
    (value(payload=[1]), "Payload must be an object."),
    (value(payload="text"), "Payload must be an object."),
    (value(vector="text"), "Invalid vector format"),
    (value(vector=[]), "Dense vector cannot be empty"),
    (value(vector={"dense": []}), "Dense vector cannot be empty"),
    (value(vector=[1.0, "2.0"]), "Dense vector data must be a list of numbers"),
    (value(vector={"dense": 7}), "Named vector values must be either dense or sparse vectors"),
    (
        value(vector={"multi": [[1.0, 2.0], 3.0]}),
        "Multi vector data must be a list of lists of numbers",
    ),
    (
        value(vector={"multi": [[1.0, 2.0], [3.0]]}),
        "Multi vector rows must have consistent dimensions (expected: 2, found: 1)",
    ),
    (sparse(indices=[1]), "Sparse vector must contain 'indices' and 'values' fields"),
    (sparse(values=[1.0]), "Sparse vector must contain 'indices' and 'values' fields"),
    (sparse(indices=["1"], values=[1.0]), "Indices must be a list of integers"),
    (
        sparse(indices=[1, 2], values=[1.0]),
        "Sparse vector 'indices' and 'values' must have the same length (indices: 2, values: 1)",
    ),
    (
        sparse(indices=[1, 1], values=[1.0, 2.0]),
        "Sparse vector indices must be unique (found twice: 1)",
    ),
    (
        sparse(indices=[2**32], values=[1.0]),
        "Indices must be a list of integers from 0 to 4294967295 (found: 4294967296)",
    ),
    (
        value(vector={"dense": [1.0, 1e39, 3.0, 4.0]}),
        "Vector element 1 is not finite in float32: 1e+39",
    ),
    (
        value(vector={"dense": [1.0, 2.0, 3.0, float("nan")]}),
        "Vector element 3 is not finite in float32: nan",
    ),
    (
        value(vector={"dense": [float("inf"), 2.0, 3.0, 4.0]}),
        "Vector element 0 is not finite in float32: inf",
    ),
    (value(vector={"dense": [1.0, 2.0]}), "Wrong input: Vector dimension error: expected dim: 4…"),
    (value(vector={"other": [1.0]}), "Wrong input: Not existing vector name error: other…"),
    (b'{"collection_name": "refusing", "id": 1', NOT_JSON),
    (b"", NOT_JSON),
    (b"[1, 2]", "Record value must be an object"),
    # The same bytes again: two bad records are two dead letters.
    (value(id=ABSENT), "'id' value is required"),
]
BAD_TOMBSTONES: list[tuple[bytes | None, str]] = [
    (None, "'id' value is required"),
    (b'{"collection_name": "refusing"}', "'id' value is required"),
    (b'{"id": -1, "collection_name": "refusing"}', "Point ID must be a positive integer"),
    (b'{"id": 1}', "'collection_name' value is required"),
]


@dataclass(frozen=True)
class Outcome:
    """What became of the stream: the dead letters in order, and the store."""

    topic: str
    dead_letters: list[Message]
    client: QdrantClient


def stream() -> list[KafkaPair]:
    """A good record with an id of its own before each bad one, and a good one at the end."""
    bad: list[KafkaPair] = [(b'"any"', one) for one, _ in REFUSED]
    bad += [(kafka_key, None) for kafka_key, _ in BAD_TOMBSTONES]
    pairs: list[KafkaPair] = []
    for number, one in enumerate(bad):
        pairs += [(None, value(id=1_000 + number)), one]
    return [*pairs, (None, value(id=1_000 + len(bad)))]


@pytest.fixture(scope="module", params=["embedded", "gRPC", "REST"])
def outcome(
    request: pytest.FixtureRequest, kafka_bootstrap_servers: str, serving: Serving
) -> Iterator[Outcome]:
    with rest_client(serving.rest_url) as client:
        create_collection(client)
        topic = new_topic(kafka_bootstrap_servers, "refused")
        dead_letter_topic = f"{topic}-dead-letters"
        settings = connector_settings(
            kafka_bootstrap_servers,
            topic,
            errors__tolerance="all",
            errors__deadletterqueue__topic__name=dead_letter_topic,
            errors__deadletterqueue__context__headers__enable="true",
            errors__deadletterqueue__topic__replication__factor="1",
        )
        pairs = stream()
        produce(kafka_bootstrap_servers, topic, pairs)
        with running_sink(settings, request.param, serving):
            good = len(REFUSED) + len(BAD_TOMBSTONES) + 1
            wait_until(lambda: client.count(COLLECTION).count == good, "all good records land")
        yield Outcome(topic, read_topic(kafka_bootstrap_servers, dead_letter_topic), client)


def create_collection(client: QdrantClient) -> None:
    client.delete_collection(COLLECTION)
    client.create_collection(
        COLLECTION,
        vectors_config={
            "dense": models.VectorParams(size=4, distance=models.Distance.DOT),
            "multi": models.VectorParams(
                size=2,
                distance=models.Distance.DOT,
                multivector_config=models.MultiVectorConfig(
                    comparator=models.MultiVectorComparator.MAX_SIM
                ),
            ),
        },
        sparse_vectors_config={"words": models.SparseVectorParams()},
    )


def test_refused_records_are_the_dead_letters_with_their_bytes(outcome: Outcome) -> None:
    by_source = sorted(outcome.dead_letters, key=_kafka_offset)
    assert [(one.key(), one.value()) for one in by_source] == [
        pair for pair in stream() if pair[0] is not None or pair[1] is None
    ]


def test_dead_letters_say_what_was_wrong(outcome: Outcome) -> None:
    texts = [text for _, text in (*REFUSED, *BAD_TOMBSTONES)]
    by_source = sorted(outcome.dead_letters, key=_kafka_offset)
    for letter, text in zip(by_source, texts, strict=True):
        reason = headers_of(letter)["__connect.errors.exception.message"]
        beginning, ellipsis, _ = text.partition("…")
        matches = reason.startswith(beginning) if ellipsis else reason == text
        assert matches, (letter.key(), letter.value(), reason)


def test_dead_letters_say_where_they_came_from(outcome: Outcome) -> None:
    for number, letter in enumerate(sorted(outcome.dead_letters, key=_kafka_offset)):
        headers = headers_of(letter)
        assert headers["__connect.errors.topic"] == outcome.topic
        assert headers["__connect.errors.partition"] == "0"
        assert headers["__connect.errors.offset"] == str(2 * number + 1)
        assert headers["__connect.errors.connector.name"] == f"sink-{outcome.topic}"
        assert headers["__connect.errors.task.id"] == "0"
        assert headers["__connect.errors.stage"] in ("VALUE_CONVERTER", "TASK_PUT")
        assert headers["__connect.errors.exception.class.name"]


def test_all_other_records_of_the_batch_land(outcome: Outcome) -> None:
    page, following = outcome.client.scroll(COLLECTION, limit=1_000)
    good = len(REFUSED) + len(BAD_TOMBSTONES) + 1
    assert [point.id for point in page] == list(range(1_000, 1_000 + good))
    assert following is None


def _kafka_offset(letter: Message) -> int:
    return int(headers_of(letter)["__connect.errors.offset"])
