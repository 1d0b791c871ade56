"""One consumer of a group, as its task sees it."""

from __future__ import annotations

import time
from collections.abc import Callable

from headrace.sink.config import BatchLimits, ConnectorConfig
from headrace.sink.source import Source
from tests.sink.memory_target import MemoryTarget
from tests.sink.mock_kafka import MockKafka
from tests.sink.test_connector import settings

PATIENCE_S = 30.0
LIMITS = BatchLimits(100, 1_000_000, 0)


def source_of(kafka: MockKafka) -> Source:
    config = ConnectorConfig.from_mapping(settings(kafka))
    return Source(config, MemoryTarget(c=2), 0, lambda: None, lambda _partitions: None)


def take_turns_until(condition: Callable[[], bool], *turns: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        for turn in turns:
            turn()


def test_a_partition_that_left_while_paused_is_read_when_it_comes_back(kafka: MockKafka) -> None:
    kafka.create_topic("topic", 2)
    found: set[bytes | None] = set()

    def read(source: Source) -> None:
        found.update(one.kafka_value for one in source.read(LIMITS, 0.05))

    first = source_of(kafka)
    take_turns_until(lambda: first.partitions_count == 2, lambda: read(first))
    first.set_paused(True)
    second = source_of(kafka)
    take_turns_until(
        lambda: first.partitions_count == second.partitions_count == 1,
        lambda: first.wait(0.05),
        lambda: read(second),
    )
    first.set_paused(False)
    second.close()
    take_turns_until(lambda: first.partitions_count == 2, lambda: read(first))
    for partition in (0, 1):
        kafka.produce("topic", b"%d" % partition, partition=partition)
    take_turns_until(lambda: found == {b"0", b"1"}, lambda: read(first))
    first.close()
