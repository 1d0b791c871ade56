from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

import pytest

from headrace.model.errors import Unavailable
from headrace.model.operations import SourcePartition
from headrace.service.embedding_models import guarded, guarded_batch
from headrace.service.inference import register_model
from headrace.sink.batch import KafkaRecord
from headrace.sink.config import BatchLimits, ConnectorConfig, RetryLimits
from headrace.sink.progress import TaskCounters, total_progress
from headrace.sink.retry import Backoff
from headrace.sink.source import Source
from headrace.sink.task import SinkTask
from tests.sink.memory_target import MemoryTarget
from tests.sink.records import PARTITION, kafka_records, value

OTHER_PARTITION = SourcePartition("connect-test", "topic", 1)
SLOW_MODEL = {"vector__from__text": "text", "vector__from__text__model": "test/slow"}


class StubSource:
    """A source with some batches ready."""

    def __init__(self, *batches: list[KafkaRecord]) -> None:
        self.ready = deque(batches)
        self.durable: dict[SourcePartition, int] = {}

    def close_batch(self, limits: BatchLimits) -> list[KafkaRecord]:
        return self.ready.popleft() if self.ready else []

    def read(self, limits: BatchLimits, wait_s: float) -> list[KafkaRecord]:
        return self.close_batch(limits)

    def mark_durable(self, next_offsets: Mapping[SourcePartition, int]) -> None:
        self.durable |= next_offsets

    def log_end(self, partition: SourcePartition) -> None:
        return None

    def check(self) -> None:
        pass

    def save(self) -> None:
        pass

    def wait(self, wait_s: float) -> None:
        pass

    def set_paused(self, paused: bool) -> None:
        pass

    def lags(self) -> dict[SourcePartition, int]:
        return {}

    partitions_count = 1
    commits_completed = 0


@contextmanager
def task_with(target: MemoryTarget, source: StubSource, **more: str) -> Iterator[SinkTask]:
    settings = {"name": "test", "topics": "topic", "bootstrap.servers": "unused"}
    settings |= {name.replace("__", "."): text for name, text in more.items()}
    config = ConnectorConfig.from_mapping(settings | {"retry.backoff.max.ms": "20"})
    task = SinkTask(config, target, 0)
    task._source = cast(Source, source)
    task._lanes = task._open_lanes(cast(Source, source), None)
    yield task
    task._lanes.close()


def turn_until(task: SinkTask, source: StubSource, is_done: Callable[[], bool]) -> None:
    assert task._lanes is not None
    deadline = time.monotonic() + 20
    while not is_done():
        assert time.monotonic() < deadline, "it did not come true"
        task._turn(cast(Source, source), task._lanes)


def test_what_could_not_be_flushed_and_stays_ours_is_written_later() -> None:
    target = MemoryTarget(c=2)
    ours = kafka_records(value(2), partition=OTHER_PARTITION)
    lost = kafka_records(value(1))
    source = StubSource(lost + ours)
    is_down = True

    def refuse(_points: object) -> None:
        if is_down:
            raise Unavailable("down")

    target.before_write = refuse
    with task_with(target, source) as task:
        turn_until(task, source, lambda: task.counters.retries > 0)
        task._flush()
        assert source.durable == {}
        task._drop({lost[0].partition})
        source.ready.append(kafka_records(value(3), first_offset=1))
        is_down = False
        turn_until(task, source, lambda: len(source.durable) == 2)
    assert set(target.collections["c"]) == {2, 3}
    assert source.durable == {OTHER_PARTITION: 1, PARTITION: 2}
    assert task.counters.records_read == 3


def test_a_flush_writes_all_that_was_read() -> None:
    target = MemoryTarget(c=2)
    source = StubSource(kafka_records(value(1)), kafka_records(value(2), first_offset=1))
    with task_with(target, source) as task:
        task._flush()
    assert set(target.collections["c"]) == {1, 2}
    assert source.durable == {PARTITION: 2}


def test_a_flush_waits_for_a_slow_model_no_longer_than_it_may_and_the_rest_comes_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("headrace.sink.task._FLUSH_TIMEOUT_S", 0.0)
    texts = register_slow_model()
    target = MemoryTarget(c=2)
    source = StubSource(
        kafka_records(*(envelope(number) for number in range(200))),
        kafka_records(envelope(200), first_offset=200),
    )
    with task_with(target, source, **SLOW_MODEL) as task:
        task._flush()
        assert 0 < len(texts) < 200
        assert "handed partitions over before all was written" in caplog.text
        turn_until(task, source, lambda: source.durable == {PARTITION: 201})
    assert set(target.collections["c"]) == set(range(201))
    assert len(texts) == 201


def test_what_was_read_and_lost_behind_a_slow_batch_is_not_written_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("headrace.sink.task._FLUSH_TIMEOUT_S", 0.0)
    register_slow_model()
    target = MemoryTarget(c=2)
    slow = kafka_records(*(envelope(number) for number in range(200)))
    later = kafka_records(envelope(200), first_offset=200)
    source = StubSource(slow, later)
    other = kafka_records(envelope(201), partition=OTHER_PARTITION)
    with task_with(target, source, **SLOW_MODEL) as task:
        task._flush()
        assert list(source.ready) == [later]
        source.ready[0] = later + other
        # Once, while the model is at the first records, somebody else gets their partition.
        losses = [{PARTITION}]

        def wait(wait_s: float) -> None:
            if losses:
                task._drop(losses.pop())

        source.wait = wait  # type: ignore[method-assign]
        turn_until(task, source, lambda: OTHER_PARTITION in source.durable)
    assert set(target.collections["c"]) == {201}
    # Who gets the partition would take what was not written for repeated.
    assert PARTITION not in target.taken("c")
    assert PARTITION not in source.durable


def register_slow_model() -> list[str]:
    """Register `test/slow`; returns the texts that it is given."""
    texts: list[str] = []

    def model(some: Sequence[str], options: object, as_query: bool) -> list[list[float]]:
        texts.extend(some)
        return [[float(len(one)), 0.0] for one in some]

    register_model(
        "test/slow",
        guarded("test/slow", lambda text, *others: model([text], *others)[0]),
        guarded_batch("test/slow", model),
    )
    return texts


def envelope(point_id: int) -> bytes:
    return json.dumps(
        {"collection_name": "c", "id": point_id, "payload": {"text": "words"}}
    ).encode()


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
