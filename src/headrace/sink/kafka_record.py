"""What is a record as Kafka hands it over, before anybody looks inside?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter

import msgspec

from headrace.model.operations import SourcePartition

KafkaHeaders = list[tuple[str, str | bytes | None]]


class KafkaRecord(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One record as Kafka has it.

    Attributes:
        timestamp_ms: since 1970-01-01 UTC; None if it has none.
    """

    partition: SourcePartition
    kafka_offset: int
    kafka_key: bytes | None
    kafka_value: bytes | None
    headers: KafkaHeaders = []
    timestamp_ms: int | None = None

    @property
    def bytes_count(self) -> int:
        """The size of key and value."""
        return len(self.kafka_key or b"") + len(self.kafka_value or b"")


def in_runs(
    kafka_records: Iterable[KafkaRecord],
) -> Iterator[tuple[SourcePartition, list[KafkaRecord]]]:
    """Neighbours of one partition; a partition may come again."""
    for partition, run in groupby(kafka_records, _partition_of):
        yield partition, [*run]


_partition_of = attrgetter("partition")
