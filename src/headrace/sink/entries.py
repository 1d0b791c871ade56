"""What are the records of a batch once they are decoded, in the order they were read?

As a rule an object for each. Records that are all plain upserts of one dense vector stay
columns from the decoder to the engine; whoever looks at one of them gets such objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import msgspec

from headrace.model.ids import PointId
from headrace.model.operations import PayloadJson, SourcePartition
from headrace.model.points import PointStruct
from headrace.model.vectors import DEFAULT_VECTOR_NAME, FloatMatrix
from headrace.sink.changes import Change, Upsert
from headrace.sink.kafka_record import KafkaRecord, in_runs


class Entry(msgspec.Struct, frozen=True, eq=False):
    """A record and a change that it stands for; one of many points has an entry for each."""

    kafka_record: KafkaRecord
    change: Change


class UpsertColumns(Sequence[Entry]):
    """Entries that each put another point with the default dense vector.

    Args:
        collection_name: of all.
        kafka_records: one per point, in the order they were read.
        ids: unique.
        vectors: shape (n, dim), float32, all finite; never changed.
        payloads: one JSON object per point.

    Attributes:
        first_offsets: by partition, that of its first record here.
    """

    def __init__(
        self,
        collection_name: str,
        kafka_records: Sequence[KafkaRecord],
        ids: list[PointId],
        vectors: FloatMatrix,
        payloads: list[PayloadJson],
    ) -> None:
        self.collection_name = collection_name
        self.kafka_records = kafka_records
        self.ids = ids
        self.vectors = vectors
        self.payloads = payloads
        self.first_offsets: dict[SourcePartition, int] = {}
        for partition, run in in_runs(kafka_records):
            self.first_offsets.setdefault(partition, run[0].kafka_offset)
        self._entries: list[Entry] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._as_entries())

    @overload
    def __getitem__(self, rank: int) -> Entry: ...

    @overload
    def __getitem__(self, rank: slice) -> list[Entry]: ...

    def __getitem__(self, rank: int | slice) -> Entry | list[Entry]:
        return self._as_entries()[rank]

    def _as_entries(self) -> list[Entry]:
        """The same objects each time: some of who looks tells them apart by identity."""
        if self._entries is None:
            rows = zip(self.kafka_records, self.ids, self.vectors, self.payloads, strict=True)
            self._entries = [
                Entry(
                    kafka_record,
                    Upsert(
                        self.collection_name,
                        PointStruct(point_id, {DEFAULT_VECTOR_NAME: vector}, payload),
                    ),
                )
                for kafka_record, point_id, vector, payload in rows
            ]
        return self._entries


def kafka_records_of(entries: Sequence[Entry]) -> Sequence[KafkaRecord]:
    """The record of each entry."""
    if isinstance(entries, UpsertColumns):
        return entries.kafka_records
    return [entry.kafka_record for entry in entries]
