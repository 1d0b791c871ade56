"""What does one task of a connector do, from its first poll to its last?

Read a batch, decode it, have it written, remember how far that takes each partition. While
the target takes nothing, or only slowly, the partitions are paused and the polling goes on,
so that the task stays a member of its consumer group for as long as it takes.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable, Collection, Sequence
from enum import StrEnum
from typing import Final

from headrace.model.errors import HeadraceError
from headrace.model.operations import SourcePartition
from headrace.sink.batch import Batch, KafkaRecord, Refusal, decode_batch
from headrace.sink.config import BatchLimits, ConnectorConfig
from headrace.sink.dead_letters import DeadLetterQueue, DeadLettersUnwritable, Interrupted
from headrace.sink.decode import RecordDecoder
from headrace.sink.embedding import Embedder
from headrace.sink.errors import FailureClass, failure_class
from headrace.sink.fetch_watch import ConsumerStuck
from headrace.sink.lanes import Lanes
from headrace.sink.progress import TaskCounters
from headrace.sink.retry import retry
from headrace.sink.source import Source
from headrace.sink.target import Target
from headrace.sink.writer import BatchWriter

logger = logging.getLogger(__name__)

# How long an idle task waits for records before it looks whether it is to stop.
_POLL_WAIT_S: Final = 0.1
_LAG_INTERVAL_S: Final = 0.05
# How full the requests are: points spread unevenly, and a second request would cost as much.
_FILL: Final = 0.75
# How often a task finds no room before it pauses: a pause throws away what was fetched.
_FULL_TURNS_MAX: Final = 10
# For how long partitions that leave wait for what is being written: longer than any request
# may take by default, and never so long that the group takes the task for dead. What takes
# longer is handed over unwritten.
_FLUSH_TIMEOUT_S: Final = 60.0
_FLUSH_SHARE: Final = 0.3


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
        self._lanes_count = 1 if target.keeps_positions else config.max_in_flight
        self._limits = _limits_for(config.batch, self._lanes_count)
        self._lanes: Lanes | None = None
        self._embedder = Embedder(config.shape.text)
        # Read, and not decoded or embedded to its end yet.
        self._decoding: Batch | None = None
        # Read after that, while a flush has left it behind.
        self._read: list[KafkaRecord] = []
        self._full_turns = 0
        # Of consumers that were abandoned.
        self._commits_before = 0
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
            while not self._stopping.is_set():
                source = self._source = self._open_source()
                self._lanes = self._open_lanes(source, dead_letters)
                try:
                    while not self._stopping.is_set():
                        self._turn(source, self._lanes)
                except ConsumerStuck as stuck:
                    logger.warning(
                        "%s: %s: the consumer is closed, and another one opened", self._name, stuck
                    )
                    self._let_go(source)
                    source.abandon()
                    self.counters.add(consumers_abandoned=1)
                    source = None
        except Interrupted:
            logger.info("%s ends as it was told; what was in hand is read again", self._name)
        except Exception as error:
            self._fail(error)
        finally:
            self._close(source, dead_letters)
            if self.state is not TaskState.FAILED:
                self.state = TaskState.STOPPED

    # One turn of the loop

    def _turn(self, source: Source, lanes: Lanes) -> None:
        lanes.check()
        paused = self._pausing.is_set()
        self.state = TaskState.PAUSED if paused else TaskState.RUNNING
        if paused:
            source.set_paused(True)
            source.wait(_POLL_WAIT_S)
        elif lanes.wait_for_room(_POLL_WAIT_S):
            self._full_turns = 0
            source.set_paused(False)
            source.check()
            self._read = source.read(self._limits, _POLL_WAIT_S)
            self._finish_decoding(source, lanes)
            if self._read:
                self._decoding, self._read = self._decoded(self._read), []
                self._finish_decoding(source, lanes)
        else:
            self._full_turns += 1
            source.set_paused(self._full_turns > _FULL_TURNS_MAX)
            source.wait(0)
        self._note_written(source, lanes)
        self._keep_house(source)

    def _finish_decoding(self, source: Source, lanes: Lanes) -> None:
        batch = self._decoding
        if batch is None:
            return
        self._retry(
            lambda: self._finish(batch, source),
            lambda wait_s: self._wait_to_decode(source, lanes, wait_s),
            "records cannot be decoded",
        )
        self._decoding = None
        lanes.submit(batch)

    def _finish(self, batch: Batch, source: Source) -> None:
        """Decode and embed what is not yet; called again after an error of the class TARGET."""
        batch.decode_rest()
        while self._embedder.embed_some(batch):
            # A model may take its time, and the group must not think that the task is gone.
            source.wait(0)

    def _decoded(self, kafka_records: list[KafkaRecord]) -> Batch:
        self.counters.note_read(len(kafka_records))
        batch = decode_batch(kafka_records, self._decoder)
        topics = {one.stream for one in batch.next_offsets}
        if not topics <= self.counters.topics:
            self.counters.topics |= topics
        return batch

    def _wait_to_decode(self, source: Source, lanes: Lanes, wait_s: float) -> None:
        source.set_paused(True)
        deadline = time.monotonic() + wait_s
        while (remaining_s := deadline - time.monotonic()) > 0:
            if self._stopping.is_set():
                raise Interrupted
            source.wait(min(remaining_s, _POLL_WAIT_S))
            self._note_written(source, lanes)
            self._keep_house(source)

    def _note_written(self, source: Source, lanes: Lanes) -> None:
        for next_offsets in lanes.take_written():
            source.mark_durable(next_offsets)

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
            self.counters.commits_completed = self._commits_before + source.commits_completed

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
        """Make durable what was read, before partitions are handed over; never waits long."""
        lanes = self._lanes
        if lanes is None or self.state is TaskState.FAILED or self._stopping.is_set():
            return
        interval_s = self._config.max_poll_interval_ms / 1000
        deadline = time.monotonic() + min(_FLUSH_TIMEOUT_S, _FLUSH_SHARE * interval_s)
        try:
            while lanes.flush(max(0.0, deadline - time.monotonic())):
                self._note_written(self._source, lanes)
                if self._decoding is not None:
                    return
                kafka_records = self._source.close_batch(self._limits)
                if not kafka_records:
                    return
                batch = self._decoding = self._decoded(kafka_records)
                batch.decode_rest()
                if not self._embed_until(batch, deadline):
                    break
                self._decoding = None
                lanes.submit(batch)
            # What stays in hand and stays ours is written later.
            logger.warning("%s: handed partitions over before all was written", self._name)
        except Exception:
            logger.warning("%s: handed partitions over unflushed", self._name, exc_info=True)

    def _embed_until(self, batch: Batch, deadline: float) -> bool:
        """Embed a batch without polling; False if a slow model has not done it in time."""
        while self._embedder.embed_some(batch):
            if time.monotonic() >= deadline:
                return False
        return True

    def _drop(self, partitions: Collection[SourcePartition]) -> None:
        if self._decoding is not None:
            self._decoding.drop(partitions)
        self._read = [one for one in self._read if one.partition not in partitions]
        if self._lanes is not None:
            self._lanes.drop(partitions)

    # Start and end

    def _open_source(self) -> Source:
        return Source(self._config, self._target, self._task, self._flush, self._drop)

    def _open_lanes(self, source: Source, dead_letters: DeadLetterQueue | None) -> Lanes:
        writer = BatchWriter(
            self._config,
            self._target,
            None if dead_letters is None else _Counted(dead_letters, self.counters),
            self.counters,
            source.log_end,
            self._stopping.is_set,
            lambda name: lanes.first_entries(name),
        )
        lanes = Lanes(
            self._name,
            self._lanes_count,
            writer.write,
            self._config.retry,
            self.counters,
            self._stopping.is_set,
        )
        return lanes

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
        what = "the dead-letter topic cannot be looked for"
        self._retry(dead_letters.ensure_topic, self._wait_to_start, what)
        return dead_letters

    def _wait_to_start(self, wait_s: float) -> None:
        if self._stopping.wait(wait_s):
            raise Interrupted

    def _retry(self, attempt: Callable[[], None], wait: Callable[[float], None], what: str) -> None:
        retry(attempt, wait, self._config.retry, self.counters, self._name, what)

    def _close(self, source: Source | None, dead_letters: DeadLetterQueue | None) -> None:
        try:
            if source is not None:
                self._let_go(source)
                source.close()
            if dead_letters is not None:
                dead_letters.close()
        except Exception as error:
            self._fail(error)

    def _let_go(self, source: Source) -> None:
        """Finish what is being written, and keep how far that goes; the rest is read again."""
        if self._lanes is not None:
            self._lanes.close()
            self._note_written(source, self._lanes)
        self._decoding, self._read = None, []
        self._save(source)
        self._commits_before += source.commits_completed

    def _fail(self, error: Exception) -> None:
        logger.error("%s failed", self._name, exc_info=error)
        self.trace = self.trace or "".join(traceback.format_exception(error))
        self.state = TaskState.FAILED

    @property
    def _name(self) -> str:
        return f"connector {self._config.name}, task {self._task}"


def _limits_for(limits: BatchLimits, lanes: int) -> BatchLimits:
    """How much is read at once, so that each lane gets what makes one request."""
    if lanes == 1:
        return limits
    return BatchLimits(
        max(1, int(limits.records_max * lanes * _FILL)),
        max(1, int(limits.bytes_max * lanes * _FILL)),
        limits.linger_ms,
    )


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
            self._counters.add(dead_letter_failures=len(refusals))
            raise
