"""Where does a task stand in each of its partitions?

For each partition: how far it was read, and how far what was read is durable in the
target. With a target that keeps positions, reading resumes where the target says, and
Kafka's committed offsets only inform; otherwise they are where reading resumes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from headrace.model.operations import SourceOffset, SourcePartition
from headrace.sink.batch import KafkaHeaders, KafkaRecord
from headrace.sink.client_log import ClientLog
from headrace.sink.config import BatchLimits, ConnectorConfig
from headrace.sink.errors import TaskFailed
from headrace.sink.fetch_watch import FetchWatch, ask_kafka
from headrace.sink.group_watch import GroupWatch, ask_group
from headrace.sink.kafka_record import in_runs
from headrace.sink.target import Target
from headrace.sink.writer import check_log_end

logger = logging.getLogger(__name__)

# Messages taken from librdkafka at once: few enough that `batch.bytes` is kept roughly
# when each is a megabyte, many enough that the call costs nothing.
_CHUNK_RECORDS: Final = 100
_REQUEST_TIMEOUT_S: Final = 2.0
# librdkafka's.
_FETCH_WAIT_MS_DEFAULT: Final = 500
_NO_PARTITION: Final = SourcePartition("", "", 0)
# How long the group is waited for at the end: longer than librdkafka waits for an answer to
# its leave (5 s), and shorter than those who stop a connector wait for it (10 s by default).
_CLOSE_TIMEOUT_S: Final = 8.0
_NEEDS_OPERATOR: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError._AUTHENTICATION,
    }
)


@dataclass(slots=True)
class _Standing:
    """Where the task stands in one partition; offsets are those of the next record.

    Attributes:
        read: None until the first record, or the partition's end, was seen.
        durable: all records before it are in the target; None as `read`.
        saved: what the target and Kafka were last told.
        is_checked: whether the partition is known to hold what was taken from it.
        taken: after the last record; `read` may be further, past what nobody sees.
        old_end: the end of the log that an earlier stay of the partition has left behind;
            None once a fetch of this stay has told anything.
    """

    read: int | None
    durable: int | None
    saved: int | None
    is_checked: bool
    taken: int | None = None
    old_end: int | None = None


class Source:
    """The consumer of one task; used by its thread alone.

    Attributes:
        commits_completed: how often Kafka has confirmed committed offsets.

    Args:
        config: the connector's.
        target: knows where to resume, if it keeps positions.
        task: the task's number.
        flush: called when partitions are about to be handed over: make what was read
            durable if that is possible at once, and never raise.
        drop: called when partitions are gone: forget their records.
    """

    def __init__(
        self,
        config: ConnectorConfig,
        target: Target,
        task: int,
        flush: Callable[[], None],
        drop: Callable[[Collection[SourcePartition]], None],
    ) -> None:
        self._source = config.source
        self._target = target
        self._flush = flush
        self._drop = drop
        self._latest = config.reset_to_latest
        self._standings: dict[SourcePartition, _Standing] = {}
        # Read by lanes, too, which must not touch the consumer.
        self._log_ends: dict[SourcePartition, int] = {}
        self._partitions: dict[tuple[str, int], SourcePartition] = {}
        self._ready: deque[KafkaRecord] = deque()
        self._ready_bytes = 0
        self._stalled: set[SourcePartition] = set()
        self._is_paused = False
        self._fatal: KafkaError | None = None
        self._log = ClientLog(logger)
        settings = config.consumer_settings(task)
        # The broker must say when it does not have the offset at which to resume, instead of
        # starting anywhere else: see `_resume_elsewhere`.
        settings["auto.offset.reset"] = "error"
        self._is_static = "group.instance.id" in settings
        # A pattern needs the metadata of all topics anyway.
        self._any_topic = config.topics[0] if config.topics else None
        self.commits_completed = 0
        callbacks = {"error_cb": self._on_client_error, "on_commit": self._on_commit}
        try:
            self._consumer = Consumer({**settings, **callbacks}, logger=ClientLog(logger))
        except KafkaException as error:
            raise TaskFailed(f"The consumer's settings are refused: {error}") from None
        fetch_wait_ms = int(settings.get("fetch.wait.max.ms", _FETCH_WAIT_MS_DEFAULT))
        self._watch = FetchWatch(
            partial(ask_kafka, settings), self._read_to, self._finds_brokers, fetch_wait_ms / 1000
        )
        self._topics, self._pattern = config.topics, config.topics_pattern
        self._reads = config.reads
        self._group_watch: GroupWatch | None = None
        if self._is_static:
            self._group_watch = GroupWatch(
                partial(ask_group, settings, self._topics, self._pattern)
            )
        # Partitions of other topics, that the first assignment of a static member may bring.
        self._ignored: set[tuple[str, int]] = set()
        self._is_first_assignment, self._must_join_again = self._is_static, False
        self._subscribe()

    def _subscribe(self) -> None:
        self._consumer.subscribe(
            list(self._topics) if self._pattern is None else [self._pattern],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    # Reading

    def read(self, limits: BatchLimits, wait_s: float) -> list[KafkaRecord]:
        """The next records, as one batch; waits `wait_s` for the first and then lingers.

        Raises:
            TaskFailed: somebody must act.
        """
        if not self._ready:
            self._take(self._consume(1, wait_s))
        if not self._ready:
            return []
        deadline = time.monotonic() + limits.linger_ms / 1000
        while len(self._ready) < limits.records_max and self._ready_bytes < limits.bytes_max:
            wanted = min(_CHUNK_RECORDS, limits.records_max - len(self._ready))
            taken = self._consume(wanted, 0)
            if not taken:
                linger_s = deadline - time.monotonic()
                if linger_s <= 0:
                    break
                taken = self._consume(wanted, linger_s)
            self._take(taken)
        return self.close_batch(limits)

    def _consume(self, wanted: int, wait_s: float) -> list[Message]:
        messages = self._consumer.consume(wanted, timeout=wait_s)
        if not messages:
            self._watch.note_drained()
        return messages

    def close_batch(self, limits: BatchLimits) -> list[KafkaRecord]:
        """What was read so far, within the limits; an oversize record goes alone."""
        closed = self._first_ready(limits)
        for partition in {partition for partition, _ in in_runs(closed)}:
            self._watch.note(partition)
            self._look_at_end(partition)
        return closed

    def _first_ready(self, limits: BatchLimits) -> list[KafkaRecord]:
        if len(self._ready) <= limits.records_max and self._ready_bytes <= limits.bytes_max:
            closed = [*self._ready]
            self._ready.clear()
            self._ready_bytes = 0
            return closed
        closed = []
        bytes_count = 0
        while self._ready and len(closed) < limits.records_max:
            size = self._ready[0].bytes_count
            if closed and bytes_count + size > limits.bytes_max:
                break
            closed.append(self._ready.popleft())
            bytes_count += size
        self._ready_bytes -= bytes_count
        return closed

    def wait(self, wait_s: float) -> None:
        """Stay a member of the group for a while without reading, while paused."""
        message = self._consumer.poll(wait_s)
        self._take([] if message is None else [message])

    def set_paused(self, paused: bool) -> None:
        """Stop or go on fetching; partitions that come in while paused are paused too."""
        if paused != self._is_paused:
            self._is_paused = paused
            partitions = [_topic_partition(one) for one in self._standings]
            (self._consumer.pause if paused else self._consumer.resume)(partitions)
            self._watch.note_all()

    # Positions

    def mark_durable(self, next_offsets: Mapping[SourcePartition, int]) -> None:
        """All records before these offsets, which were handed out, are durable in the target."""
        for partition, next_offset in next_offsets.items():
            standing = self._standings.get(partition)
            if standing is not None:
                is_all = standing.taken is None or next_offset >= standing.taken
                standing.durable = standing.read if is_all else next_offset

    def save(self) -> None:
        """Tell the target and Kafka how far the partitions are durable.

        Raises:
            HeadraceError: the target cannot keep it now.
        """
        self._save(list(self._standings))

    def check(self) -> None:
        """Make sure that resumed partitions hold what was taken from them.

        Partitions that the broker cannot go on with are started again where they can be.

        Raises:
            TaskFailed: one ends before the offset at which reading resumes.
            ConsumerStuck: the consumer does not fetch what Kafka has.
        """
        self._watch.check()
        try:
            self._check_group()
            for partition, standing in self._standings.items():
                # The end that a fetch told: some brokers, asked for it, tell the beginning
                # of the last batch.
                end = self._look_at_end(partition)
                if not standing.is_checked and standing.read is not None and end is not None:
                    check_log_end(partition, standing.read, end)
                    standing.is_checked = True
            for partition in list(self._stalled):
                self._resume_elsewhere(partition)
                self._stalled.remove(partition)
        except KafkaException as error:
            logger.warning("%s: Kafka does not answer yet: %s", self._source, error)

    def _check_group(self) -> None:
        """Join the group again if partitions would stay with nobody, or with the wrong member."""
        if self._group_watch is None:
            return
        unassigned = self._group_watch.check()
        if unassigned:
            logger.warning(
                "%s: no member of the group has %s: this one leaves it and joins it again, so "
                "that all partitions are assigned anew",
                self._source,
                ", ".join(f"{topic}-{number}" for topic, number in sorted(unassigned)),
            )
        if self._must_join_again:
            logger.info("%s joins its group again: it reads other topics now", self._source)
        if unassigned or self._must_join_again:
            self._consumer.unsubscribe()
            self._subscribe()
            self._must_join_again = False

    def log_end(self, partition: SourcePartition) -> int | None:
        """The end of a partition's log when it was last looked at; for any thread."""
        return self._log_ends.get(partition)

    def lags(self) -> dict[SourcePartition, int]:
        """Records that are not durable yet, by partition; without those not known yet."""
        lags: dict[SourcePartition, int] = {}
        for partition, standing in self._standings.items():
            end = self._look_at_end(partition)
            if end is not None and standing.durable is not None:
                lags[partition] = max(0, end - standing.durable)
        return lags

    @property
    def partitions_count(self) -> int:
        """How many partitions the group has given this task."""
        return len(self._standings)

    def close(self) -> None:
        """Hand the partitions over and leave the group, if Kafka answers within seconds.

        With a broker that went away at the wrong moment the client waits for a minute.
        """
        self._ready.clear()
        closing = self._start_closing()
        closing.join(_CLOSE_TIMEOUT_S)
        if closing.is_alive():
            self._fall_silent()
            logger.warning(
                "%s has not left its group within %g s: Kafka does not answer, and the group may "
                "wait for this member until its session times out (session.timeout.ms)",
                self._source,
                _CLOSE_TIMEOUT_S,
            )

    def abandon(self) -> None:
        """As `close`, of a consumer that is stuck: nobody hears of it any more."""
        self._fall_silent()
        self._start_closing().join(_CLOSE_TIMEOUT_S)

    def _start_closing(self) -> threading.Thread:
        closing = threading.Thread(target=self._close_consumer, daemon=True)
        closing.start()
        return closing

    def _close_consumer(self) -> None:
        try:
            self._consumer.close()
        except Exception:
            logger.warning("%s has not left its group", self._source, exc_info=True)

    def _fall_silent(self) -> None:
        """Nothing is flushed, dropped or saved any more, whatever the consumer calls."""
        self._flush, self._drop = _do_nothing, _do_nothing
        self._standings.clear()
        self._ready.clear()

    # What the client calls, from within `consume`, `poll` and `close`

    def _on_assign(self, consumer: Consumer, given: list[TopicPartition]) -> None:
        self._note_moved()
        if self._is_first_assignment:
            # Kafka gives it what the member before it had, also if that read other topics.
            self._is_first_assignment = False
            others = [one for one in given if not self._reads(one.topic)]
            self._ignored = {(one.topic, one.partition) for one in others}
            self._must_join_again = bool(others)
        assigned = self._ours(given)
        positions = self._target.positions(self._source) if self._target.keeps_positions else {}
        for one in assigned:
            partition = self._partition(one.topic, one.partition)
            resumed = positions.get(partition)
            old_end = self._cached_end(partition)
            self._standings[partition] = _Standing(
                resumed, resumed, resumed, resumed is None, old_end=old_end
            )
            self._watch.note(partition)
            if resumed is not None:
                one.offset = resumed
            elif self._target.keeps_positions:
                one.offset = OFFSET_END if self._latest else OFFSET_BEGINNING
        consumer.incremental_assign(assigned)
        # One that left while it was paused has come back as it was.
        (consumer.pause if self._is_paused else consumer.resume)(assigned)
        logger.info("%s was given %s", self._source, _names(assigned))

    def _on_revoke(self, consumer: Consumer, given: list[TopicPartition]) -> None:
        self._note_moved()
        self._flush()
        revoked = self._ours(given)
        partitions = [self._partition(one.topic, one.partition) for one in revoked]
        try:
            self._save(partitions)
        except Exception:
            # The next owner reads again from the last position that was kept.
            logger.warning("positions of %s were not kept", _names(revoked), exc_info=True)
        self._forget(partitions)
        consumer.incremental_unassign(revoked)
        logger.info("%s handed over %s", self._source, _names(revoked))

    def _on_lost(self, consumer: Consumer, given: list[TopicPartition]) -> None:
        self._note_moved()
        lost = self._ours(given)
        # Somebody else may have them already: nothing is written or committed for them.
        self._forget([self._partition(one.topic, one.partition) for one in lost])
        consumer.incremental_unassign(lost)
        logger.warning("%s lost %s", self._source, _names(lost))

    def _note_moved(self) -> None:
        if self._group_watch is not None:
            self._group_watch.note_moved()

    def _ours(self, given: list[TopicPartition]) -> list[TopicPartition]:
        if not self._ignored:
            return given
        return [one for one in given if (one.topic, one.partition) not in self._ignored]

    def _on_client_error(self, error: KafkaError) -> None:
        if error.fatal() or error.code() in _NEEDS_OPERATOR:
            self._fatal = error
            return
        self._log.log(logging.WARNING, "%s: %s: %s", error.name(), self._source, error.str())

    def _on_commit(self, error: KafkaError | None, kafka_offsets: list[TopicPartition]) -> None:
        if error is None:
            self.commits_completed += 1
        else:
            logger.warning(
                "%s: offsets of %s are not committed yet: %s",
                self._source,
                _names(kafka_offsets),
                error.str(),
            )
            self._save_again(kafka_offsets)

    def _save_again(self, kafka_offsets: list[TopicPartition]) -> None:
        """What was not committed is committed by the next `save`, even if nothing moves."""
        for one in kafka_offsets:
            standing = self._standings.get(self._partition(one.topic, one.partition))
            if standing is not None:
                standing.saved = None

    def _forget(self, partitions: Sequence[SourcePartition]) -> None:
        gone = set(partitions)
        self._stalled -= gone
        for partition in gone:
            self._standings.pop(partition, None)
            self._log_ends.pop(partition, None)
            self._watch.forget(partition)
        self._ready = deque(one for one in self._ready if one.partition not in gone)
        self._ready_bytes = sum(one.bytes_count for one in self._ready)
        self._drop(gone)

    # Messages and events

    def _take(self, messages: list[Message]) -> None:
        topic, number = None, None
        partition, standing = _NO_PARTITION, None
        for message in messages:
            error = message.error()
            if error is not None:
                self._take_event(message, error)
                continue
            # As a rule that of the message before.
            if message.topic() != topic or message.partition() != number:
                topic, number = message.topic(), message.partition()
                partition = self._partition(str(topic), int(number or 0))
                standing = self._standings.get(partition)
            # None: of a partition that was just handed over.
            if standing is not None:
                self._take_record(message, partition, standing)
        if self._fatal is not None:
            raise _kafka_failure(self._fatal)

    def _take_record(
        self, message: Message, partition: SourcePartition, standing: _Standing
    ) -> None:
        kafka_offset = message.offset() or 0
        # Read before: librdkafka may go back a little when a partition is resumed.
        if standing.read is not None and kafka_offset < standing.read:
            return
        if standing.durable is None:
            standing.durable = kafka_offset
        standing.read = standing.taken = kafka_offset + 1
        standing.old_end = None
        kind, timestamp_ms = message.timestamp()
        kafka_key, kafka_value, headers = message.key(), message.value(), message.headers()
        self._ready.append(
            KafkaRecord(
                partition,
                kafka_offset,
                kafka_key,
                kafka_value,
                _headers(headers) if headers else [],
                None if kind == TIMESTAMP_NOT_AVAILABLE else timestamp_ms,
            )
        )
        self._ready_bytes += len(kafka_key or b"") + len(kafka_value or b"")

    def _take_event(self, message: Message, error: KafkaError) -> None:
        code = error.code()
        if code == KafkaError._PARTITION_EOF:
            self._take_end(message)
        elif code == KafkaError._AUTO_OFFSET_RESET:
            partition = self._partition(str(message.topic()), int(message.partition() or 0))
            if partition in self._standings:
                self._stalled.add(partition)
        elif code == KafkaError._FATAL:
            raise self._ended(error)
        elif error.fatal() or code in _NEEDS_OPERATOR:
            raise _kafka_failure(error)
        else:
            is_unknown = code == KafkaError.UNKNOWN_TOPIC_OR_PART
            later = ": it is read once it is there, after some minutes" if is_unknown else ""
            logger.warning("%s: Kafka: %s%s", self._source, error.str(), later)

    def _ended(self, error: KafkaError) -> TaskFailed:
        """The client reads nothing any more, and says so once."""
        advice = "Restart the connector"
        if self._is_static:
            advice = (
                "A group.instance.id is for one member alone: give the connector of each "
                "process its own, or leave it out, and restart the connector"
            )
        return TaskFailed(f"Kafka has ended this client: {error.str()}. {advice}")

    def _take_end(self, message: Message) -> None:
        """The end was reached, maybe behind records that nobody sees: aborted, control, expired."""
        partition = self._partition(str(message.topic()), int(message.partition() or 0))
        standing = self._standings.get(partition)
        end = int(message.offset() or 0)
        if standing is None or (standing.read is not None and end < standing.read):
            return
        standing.old_end = None
        self._watch.note(partition)
        if standing.read == standing.durable:
            standing.durable = end
        standing.read = end

    def _resume_elsewhere(self, partition: SourcePartition) -> None:
        """The broker has no record at the offset where reading should go on, or knows none.

        Raises:
            KafkaException: the broker does not answer.
            TaskFailed: the partition ends before that offset.
        """
        standing = self._standings[partition]
        resume = self._committed(partition) if standing.read is None else standing.read
        if resume is None:
            self._assign_again(partition, OFFSET_END if self._latest else OFFSET_BEGINNING)
            return
        low, high = self._watermarks(partition)
        check_log_end(partition, resume, high)
        if resume < low:
            logger.error(
                "%d records of topic '%s' partition %d expired before they were read",
                low - resume,
                partition.stream,
                partition.partition,
            )
        standing.read = max(resume, low)
        self._assign_again(partition, standing.read)

    def _assign_again(self, partition: SourcePartition, kafka_offset: int) -> None:
        again = [_topic_partition(partition, kafka_offset)]
        self._consumer.incremental_unassign(again)
        self._consumer.incremental_assign(again)
        if self._is_paused:
            self._consumer.pause(again)

    def _save(self, partitions: Sequence[SourcePartition]) -> None:
        moved: dict[SourcePartition, int] = {}
        for partition in partitions:
            standing = self._standings.get(partition)
            if standing and standing.durable is not None and standing.durable != standing.saved:
                moved[partition] = standing.durable
        if not moved:
            return
        if self._target.keeps_positions:
            self._target.save_positions([SourceOffset(*item) for item in moved.items()])
        kafka_offsets = [_topic_partition(*item) for item in moved.items()]
        self._consumer.commit(offsets=kafka_offsets, asynchronous=True)
        for partition, durable in moved.items():
            self._standings[partition].saved = durable

    def _finds_brokers(self) -> bool:
        try:
            if self._any_topic is None:
                return bool(self._consumer.list_topics(timeout=_REQUEST_TIMEOUT_S).brokers)
            found = self._consumer.list_topics(self._any_topic, timeout=_REQUEST_TIMEOUT_S)
            return bool(found.brokers)
        except KafkaException:
            return False

    def _read_to(self, partition: SourcePartition) -> int | None:
        standing = self._standings.get(partition)
        return None if standing is None else standing.read

    def _look_at_end(self, partition: SourcePartition) -> int | None:
        """The end of a partition's log as of the last fetch of its stay; None without one."""
        high = self._cached_end(partition)
        standing = self._standings.get(partition)
        if high is None or standing is None or high == standing.old_end:
            return None
        self._log_ends[partition] = high
        return high

    def _cached_end(self, partition: SourcePartition) -> int | None:
        _, high = self._consumer.get_watermark_offsets(_topic_partition(partition), cached=True)
        return high if high >= 0 else None

    def _watermarks(self, partition: SourcePartition) -> tuple[int, int]:
        return self._consumer.get_watermark_offsets(
            _topic_partition(partition), timeout=_REQUEST_TIMEOUT_S
        )

    def _committed(self, partition: SourcePartition) -> int | None:
        """Kafka's committed offset, where it is what counts."""
        if self._target.keeps_positions:
            return None
        asked = [_topic_partition(partition)]
        (committed,) = self._consumer.committed(asked, timeout=_REQUEST_TIMEOUT_S)
        if committed.error is not None:
            raise KafkaException(committed.error)
        return committed.offset if committed.offset >= 0 else None

    def _partition(self, topic: str, number: int) -> SourcePartition:
        """The one object that stands for a partition: its hash is asked for per record."""
        partition = self._partitions.get((topic, number))
        if partition is None:
            partition = SourcePartition(self._source, topic, number)
            self._partitions[(topic, number)] = partition
        return partition


def _do_nothing(*_: object) -> None:
    """In the place of what is no longer to be called."""


def _topic_partition(partition: SourcePartition, kafka_offset: int | None = None) -> TopicPartition:
    if kafka_offset is None:
        return TopicPartition(partition.stream, partition.partition)
    return TopicPartition(partition.stream, partition.partition, kafka_offset)


def _headers(headers: dict[str, str | bytes | None] | KafkaHeaders) -> KafkaHeaders:
    return list(headers.items()) if isinstance(headers, dict) else headers


def _names(partitions: list[TopicPartition]) -> str:
    return ", ".join(f"{one.topic}-{one.partition}" for one in partitions) or "no partition"


def _kafka_failure(error: KafkaError) -> TaskFailed:
    return TaskFailed(
        f"Kafka refuses this client: {error.str()}. Check bootstrap.servers, the "
        "consumer.override.* credentials and what they may read, then restart the connector"
    )
