"""What does one task of a connector do, from its first poll to its last?

Read a batch, decode it, write it, remember how far that takes each partition. While the
target can take nothing, the partitions are paused and the polling goes on, so that the
task stays a member of its consumer group for as long as it takes.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Collection, Sequence
from enum import StrEnum
from typing import Final

import numpy as np

from headrace.model.errors import HeadraceError, RateLimited
from headrace.model.operations import SourcePartition
from headrace.sink.batch import Batch, KafkaRecord, Refusal, decode_batch
from headrace.sink.config import ConnectorConfig
from headrace.sink.dead_letters import DeadLetterQueue, DeadLettersUnwritable, Interrupted
from headrace.sink.decode import RecordDecoder
from headrace.sink.errors import FailureClass, TaskFailed, failure_class
from headrace.sink.progress import TaskCounters
from headrace.sink.retry import Backoff
from headrace.sink.source import Source
from headrace.sink.target import Target
from headrace.sink.writer import BatchWriter

logger = logging.getLogger(__name__)

# How long an idle task waits for records before it looks whether it is to stop.
_POLL_WAIT_S: Final = 0.1
_LAG_INTERVAL_S: Final = 0.05


class TaskState(StrEnum):
    """What a task is doing, in Kafka Connect's words."""

    UNASSIGNED = "UNASSIGNED"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    STOPPED = "STOPPED"
    FAILED = "FAILED"


class SinkTask:
    """One consumer of the connector's group, and what it reads on its way to the target.

    Args:
        config: the connector's.
        target: where points go.
        task: its number, from 0.
    """

    def __init__(self, config: ConnectorConfig, target: Target, task: int) -> None:
        self.counters = TaskCounters()
        self.state = TaskState.UNASSIGNED
        self.trace: str | None = None
        self._config = config
        self._target = target
        self._task = task
        self._stopping = threading.Event()
        self._pausing = threading.Event()
        self._decoder = RecordDecoder.of(config)
        # Read and not durable yet, oldest first: one, or a few after a hasty handover.
        self._batches: deque[Batch] = deque()
        # The timestamps of each batch's good records, for the freshness once it is written.
        self._timestamps_ms: deque[list[int]] = deque()
        self._next_save_s = 0.0
        self._next_lag_s = 0.0

    def request_stop(self) -> None:
        """Finish the batch in hand, or give it up if the target cannot take it now."""
        self._stopping.set()

    def set_paused(self, paused: bool) -> None:
        """Stop or go on reading; a paused task stays in its group."""
        (self._pausing.set if paused else self._pausing.clear)()

    def run(self) -> None:
        """Run until `request_stop`, or until somebody must act; never raises."""
        dead_letters: DeadLetterQueue | None = None
        source: Source | None = None
        try:
            self.state = TaskState.RUNNING
            dead_letters = self._open_dead_letters()
            source = Source(self._config, self._target, self._task, self._flush, self._drop)
            self._source = source
            self._writer = BatchWriter(
                self._config,
                self._target,
                None if dead_letters is None else _Counted(dead_letters, self.counters),
                self.counters,
                source.log_end,
                self._stopping.is_set,
            )
            while not self._stopping.is_set():
                self._turn(source)
        except Interrupted:
            logger.info("%s gave up a batch, which it reads again later", self._name)
        except Exception as error:
            self._fail(error)
        finally:
            self._close(source, dead_letters)
            if self.state is not TaskState.FAILED:
                self.state = TaskState.STOPPED

    # One turn of the loop

    def _turn(self, source: Source) -> None:
        paused = self._pausing.is_set()
        source.set_paused(paused)
        self.state = TaskState.PAUSED if paused else TaskState.RUNNING
        if paused:
            source.wait(_POLL_WAIT_S)
        else:
            source.check()
            kafka_records = source.read(self._config.batch, _POLL_WAIT_S)
            self._take_in_hand(kafka_records)
            if self._batches:
                self._write_until_durable(source)
                source.mark_durable()
        self._keep_house(source)

    def _take_in_hand(self, kafka_records: list[KafkaRecord]) -> None:
        if kafka_records:
            self.counters.records_read += len(kafka_records)
            batch = decode_batch(kafka_records, self._decoder)
            self._batches.append(batch)
            self._timestamps_ms.append(
                [
                    entry.kafka_record.timestamp_ms
                    for entries in batch.entries.values()
                    for entry in entries
                    if entry.kafka_record.timestamp_ms is not None
                ]
            )
            topics = {one.stream for one in batch.next_offsets}
            if not topics <= self.counters.topics:
                self.counters.topics |= topics

    def _write_until_durable(self, source: Source) -> None:
        backoff = Backoff(self._config.retry)
        while self._batches:
            try:
                self._write_batches()
            except HeadraceError as error:
                if failure_class(error) is not FailureClass.TARGET:
                    raise
                self._wait_for_target(source, error, backoff)

    def _write_batches(self) -> None:
        counters = self.counters
        while self._batches:
            started_s = time.monotonic()
            self._writer.write(self._batches[0])
            taken_s = time.monotonic() - started_s
            self._batches.popleft()
            counters.batches_written += 1
            counters.write_time_s += taken_s
            counters.write_time_max_s = max(counters.write_time_max_s, taken_s)
            timestamps_ms = np.array(self._timestamps_ms.popleft(), np.int64)
            counters.freshness.observe(timestamps_ms, time.time())

    def _wait_for_target(self, source: Source, error: HeadraceError, backoff: Backoff) -> None:
        if backoff.is_exhausted:
            raise TaskFailed(
                f"The target took nothing for {backoff.elapsed_s:.0f} s (retry.timeout.ms): "
                f"{error.message}. Mend the target and restart the connector"
            ) from error
        wait_s = backoff.next_wait_s(error.retry_after_s if isinstance(error, RateLimited) else 0)
        self.counters.retries += 1
        logger.warning(
            "%s: the target takes nothing, next try in %.1f s: %s",
            self._name,
            wait_s,
            error.message,
        )
        source.set_paused(True)
        deadline = time.monotonic() + wait_s
        while True:
            if self._stopping.is_set():
                raise Interrupted
            remaining_s = deadline - time.monotonic()
            source.wait(max(0.0, min(remaining_s, _POLL_WAIT_S)))
            self._keep_house(source)
            if remaining_s <= _POLL_WAIT_S:
                return

    def _keep_house(self, source: Source) -> None:
        """Save positions and look at the lag, each now and then."""
        now_s = time.monotonic()
        if now_s >= self._next_save_s:
            self._next_save_s = now_s + self._config.offset_flush_interval_ms / 1000
            self._save(source)
        if now_s >= self._next_lag_s:
            self._next_lag_s = now_s + _LAG_INTERVAL_S
            lags = source.lags()
            self.counters.has_partitions = source.partitions_count > 0
            self.counters.partition_lags = lags
            is_known = len(lags) == source.partitions_count
            self.counters.lag = sum(lags.values()) if is_known else None
            self.counters.commits_completed = source.commits_completed

    def _save(self, source: Source) -> None:
        try:
            source.save()
        except HeadraceError as error:
            # A position that is too low costs a second reading, nothing else.
            if failure_class(error) is not FailureClass.TARGET:
                raise
            logger.warning("%s: positions are not kept yet: %s", self._name, error.message)

    # When partitions come and go

    def _flush(self) -> None:
        """One attempt to make durable what was read, before partitions are handed over."""
        if self.state is TaskState.FAILED or self._stopping.is_set():
            return
        try:
            self._write_batches()
            while kafka_records := self._source.close_batch(self._config.batch):
                self._take_in_hand(kafka_records)
                self._write_batches()
            self._source.mark_durable()
        except Exception as error:
            # What stays in hand and stays ours is written later.
            logger.warning("%s: handed partitions over unflushed: %s", self._name, error)

    def _drop(self, partitions: Collection[SourcePartition]) -> None:
        for batch in self._batches:
            batch.drop(partitions)

    # Start and end

    def _open_dead_letters(self) -> DeadLetterQueue | None:
        topic = self._config.errors.dead_letter_topic
        if topic is None:
            return None
        dead_letters = DeadLetterQueue(
            topic,
            self._config.errors,
            self._config.producer_settings(self._task),
            self._config.name,
            self._task,
        )
        backoff = Backoff(self._config.retry)
        while True:
            try:
                dead_letters.ensure_topic()
                return dead_letters
            except HeadraceError as error:
                if failure_class(error) is not FailureClass.TARGET or backoff.is_exhausted:
                    raise
                logger.warning("%s: %s", self._name, error.message)
            if self._stopping.wait(backoff.next_wait_s()):
                raise Interrupted

    def _close(self, source: Source | None, dead_letters: DeadLetterQueue | None) -> None:
        try:
            if source is not None:
                self._batches.clear()
                self._timestamps_ms.clear()
                self._save(source)
                source.close()
            if dead_letters is not None:
                dead_letters.close()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        logger.error("%s failed", self._name, exc_info=error)
        self.trace = self.trace or "".join(traceback.format_exception(error))
        self.state = TaskState.FAILED

    @property
    def _name(self) -> str:
        return f"connector {self._config.name}, task {self._task}"


class _Counted:
    """A dead-letter topic whose failures are counted."""

    def __init__(self, dead_letters: DeadLetterQueue, counters: TaskCounters) -> None:
        self._dead_letters = dead_letters
        self._counters = counters

    def write(self, refusals: Sequence[Refusal], is_interrupted: Callable[[], bool]) -> None:
        """See `DeadLetterQueue`."""
        try:
            self._dead_letters.write(refusals, is_interrupted)
        except DeadLettersUnwritable:
            self._counters.dead_letter_failures += len(refusals)
            raise
