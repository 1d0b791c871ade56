"""Records as tests write them."""

from __future__ import annotations

import json

from headrace.model.operations import SourcePartition
from headrace.sink.batch import KafkaRecord

PARTITION = SourcePartition("connect-test", "topic", 0)


def value(
    point_id: object = 1, dim: int = 2, collection_name: str = "c", **payload: object
) -> bytes:
    """An upsert into `c` of a point with a vector of ones."""
    fields = {"collection_name": collection_name, "id": point_id, "payload": payload}
    return json.dumps(fields | {"vector": [1.0] * dim}).encode()


def tombstone_key(point_id: object = 1, collection_name: str = "c") -> bytes:
    """The key of a record that deletes a point of `c`."""
    return json.dumps({"collection_name": collection_name, "id": point_id}).encode()


def kafka_records(
    *pairs: bytes | tuple[bytes | None, bytes | None],
    first_offset: int = 0,
    partition: SourcePartition = PARTITION,
) -> list[KafkaRecord]:
    """Records of one partition from values, or from pairs of key and value."""
    return [
        KafkaRecord(
            partition, first_offset + rank, *(one if isinstance(one, tuple) else (None, one))
        )
        for rank, one in enumerate(pairs)
    ]
