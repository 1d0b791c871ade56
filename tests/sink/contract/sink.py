"""A sink without Kafka: records go in at one end and are points in a store at the other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from headrace.model.collection_config import CollectionConfig, VectorParams
from headrace.model.ids import PointId
from headrace.model.points import Record
from headrace.model.queries import ALL_VECTORS, WHOLE_PAYLOAD
from headrace.model.vectors import Distance
from headrace.service.service import Service
from headrace.sink.batch import Batch, KafkaRecord, Refusal, decode_batch
from headrace.sink.changes import Change
from headrace.sink.config import ConnectorConfig
from headrace.sink.decode import RecordDecoder
from headrace.sink.errors import RecordError
from headrace.sink.progress import TaskCounters
from headrace.sink.target import EmbeddedTarget, Target
from headrace.sink.writer import BatchWriter
from tests.sink.records import PARTITION, kafka_records
from tests.sink.test_batch import Letters

Pair = tuple[bytes | None, bytes | None]


def config_of(**settings: str) -> ConnectorConfig:
    """A connector's configuration; dots in names are written as `__`."""
    raw = {"name": "test", "topics": "topic", "bootstrap.servers": "unused"}
    raw |= {name.replace("__", "."): text for name, text in settings.items()}
    return ConnectorConfig.from_mapping(raw)


def value_of(**fields: object) -> bytes:
    """An envelope of point 1 of collection `c`, with some fields added or changed."""
    return json.dumps({"collection_name": "c", "id": 1} | fields).encode()


def change_of(value: bytes | None, kafka_key: bytes | None = None, **settings: str) -> Change:
    """The one change that a record stands for."""
    (change,) = changes_of(value, kafka_key, **settings)
    return change


def changes_of(
    value: bytes | None, kafka_key: bytes | None = None, **settings: str
) -> tuple[Change, ...]:
    """The changes that a record stands for."""
    decoder = RecordDecoder.of(config_of(**settings))
    return decoder.decode_record(KafkaRecord(PARTITION, 0, kafka_key, value))


def refusal_of(value: bytes | None, kafka_key: bytes | None = None, **settings: str) -> RecordError:
    """Why a record is refused."""
    with pytest.raises(RecordError) as caught:
        changes_of(value, kafka_key, **settings)
    return caught.value


class Sink:
    """Writes records into the collection `c` of a store, which is made of the first of them.

    Args:
        service: the store.
        target: another way into it than by this process.
        settings: the connector's; dots in names are written as `__`.

    Attributes:
        dead: what was refused.
    """

    def __init__(self, service: Service, target: Target | None = None, **settings: str) -> None:
        self.service = service
        given = {"errors__tolerance": "all", "collection__auto__create": "true"} | settings
        if given["collection__auto__create"] == "true":
            given.setdefault("collection__auto__create__distance", "Dot")
        self.config = config_of(**given)
        self.counters = TaskCounters()
        self.dead = Letters([])
        self._decoder = RecordDecoder.of(self.config)
        self._next_offset = 0
        self._writer = BatchWriter(
            self.config,
            target or EmbeddedTarget(service),
            self.dead,
            self.counters,
            lambda _partition: None,
            lambda: False,
        )

    def take(self, *records: bytes | Pair) -> None:
        """Write values, or pairs of key and value, as one batch."""
        self.take_records(kafka_records(*records, first_offset=self._next_offset))

    def take_records(self, records: Sequence[KafkaRecord]) -> None:
        """Write records as one batch."""
        self._next_offset += len(records)
        self.write(decode_batch(records, self._decoder))

    def write(self, batch: Batch) -> None:
        """Write a decoded batch."""
        self._writer.write(batch)

    def point(self, point_id: PointId, collection_name: str = "c") -> Record | None:
        """A stored point, whole."""
        found = self.service.retrieve(collection_name, [point_id], WHOLE_PAYLOAD, ALL_VECTORS)
        return found[0] if found else None

    def payload(self, point_id: PointId, collection_name: str = "c") -> Any:
        """A stored point's payload."""
        point = self.point(point_id, collection_name)
        return None if point is None else json.loads(point.payload or b"{}")

    @property
    def reasons(self) -> list[str]:
        """Why records were refused, in order."""
        letters: list[Refusal] = self.dead.letters
        return [one.error.message for one in letters]


def make_collection(service: Service, name: str = "c", dim: int = 2) -> None:
    """A collection of dense vectors."""
    vectors = {"": VectorParams(size=dim, distance=Distance.DOT)}
    service.create_collection(name, CollectionConfig(vectors=vectors))
