from __future__ import annotations

from collections import deque
from typing import cast

import pytest

from headrace.model.errors import Unavailable
from headrace.model.operations import SourcePartition
from headrace.sink.batch import KafkaRecord
from headrace.sink.config import BatchLimits, ConnectorConfig, RetryLimits
from headrace.sink.progress import TaskCounters, total_progress
from headrace.sink.retry import Backoff
from headrace.sink.source import Source
from headrace.sink.task import SinkTask
from headrace.sink.writer import BatchWriter
from tests.sink.memory_target import MemoryTarget
from tests.sink.records import kafka_records, value

OTHER_PARTITION = SourcePartition("connect-test", "topic", 1)


class StubSource:
    """A source with some batches ready."""

    def __init__(self, *batches: list[KafkaRecord]) -> None:
        self.ready = deque(batches)
        self.durable_marks = 0

    def close_batch(self, limits: BatchLimits) -> list[KafkaRecord]:
        return self.ready.popleft() if self.ready else []

    def read(self, limits: BatchLimits, wait_s: float) -> list[KafkaRecord]:
        return self.close_batch(limits)

    def mark_durable(self) -> None:
        self.durable_marks += 1

    def check(self) -> None:
        pass

    def save(self) -> None:
        pass

    def set_paused(self, paused: bool) -> None:
        pass

    def lags(self) -> dict[SourcePartition, int]:
        return {}

    partitions_count = 1
    commits_completed = 0


def task_with(target: MemoryTarget, source: StubSource) -> SinkTask:
    config = ConnectorConfig.from_mapping(
        {"name": "test", "topics": "topic", "bootstrap.servers": "unused"}
    )
    task = SinkTask(config, target, 0)
    task._source = cast(Source, source)
    task._writer = BatchWriter(
        config, target, None, task.counters, lambda _partition: None, lambda: False
    )
    return task


def test_what_could_not_be_flushed_and_stays_ours_is_written_later() -> None:
    target = MemoryTarget(c=2)
    ours = kafka_records(value(2), partition=OTHER_PARTITION)
    source = StubSource(kafka_records(value(1)) + ours, kafka_records(value(3), first_offset=1))
    task = task_with(target, source)
    target.failures = [Unavailable("down")]
    task._flush()
    assert source.durable_marks == 0
    task._drop({kafka_records(value(1))[0].partition})
    task._turn(cast(Source, source))
    assert set(target.collections["c"]) == {2, 3}
    assert source.durable_marks == 1
    assert task.counters.records_read == 3


def test_a_flush_writes_all_that_was_read() -> None:
    target = MemoryTarget(c=2)
    source = StubSource(kafka_records(value(1)), kafka_records(value(2), first_offset=1))
    task = task_with(target, source)
    task._flush()
    assert set(target.collections["c"]) == {1, 2}
    assert source.durable_marks == 1


@pytest.fixture
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda _low, high: high)


def test_waits_double_up_to_their_bound(no_jitter: None) -> None:
    backoff = Backoff(RetryLimits(timeout_ms=None, backoff_ms=100, backoff_max_ms=1_000))
    waits_s = [backoff.next_wait_s() for _ in range(100)]
    assert waits_s[:5] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0])
    assert waits_s[-1] == pytest.approx(1.0)
    assert backoff.next_wait_s(retry_after_s=7) == 7
    assert not backoff.is_exhausted
    assert Backoff(RetryLimits(timeout_ms=0, backoff_ms=1, backoff_max_ms=1)).is_exhausted


def test_waits_are_spread_over_their_bound() -> None:
    backoff = Backoff(RetryLimits(timeout_ms=None, backoff_ms=1_000, backoff_max_ms=1_000))
    waits_s = [backoff.next_wait_s() for _ in range(200)]
    assert 0 <= min(waits_s) < 0.2 < 0.8 < max(waits_s) <= 1


def test_the_lag_is_known_once_it_is_for_every_task_with_partitions() -> None:
    with_lag = TaskCounters(has_partitions=True, lag=5)
    without_partitions = TaskCounters(has_partitions=False, lag=None)
    unknown = TaskCounters(has_partitions=True, lag=None)
    assert total_progress([with_lag, without_partitions]).lag == 5
    assert total_progress([with_lag, with_lag]).lag == 10
    assert total_progress([with_lag, unknown]).lag is None
    assert total_progress([without_partitions]).lag is None
