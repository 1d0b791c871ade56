"""In which order does a batch become durable, so that a crash at any point loses nothing?

1. Bad records go to the dead-letter topic, acknowledged.
2. Per collection, the final state of each point: into a target that keeps positions in one
   write, with how far that takes each partition, into others in requests of a size that they
   take in time. Records that the target refuses go to the dead-letter topic before the write
   that passes over them.
3. Whoever called moves the positions.
A target that can take nothing now ends the attempt; the next one goes on where it ended.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from headrace.model.errors import (
    ErrorCode,
    HeadraceError,
    InvalidVector,
    UnknownVectorName,
    WrongVectorDimension,
)
from headrace.model.ids import PointId
from headrace.model.names import collection_name_problems
from headrace.model.operations import SourceOffset, SourcePartition
from headrace.model.points import PointStruct
from headrace.sink.auto_create import infer_collection_config, unfit
from headrace.sink.batch import Batch, Entry, Fold, Refusal, fold
from headrace.sink.changes import Delete, Merge, Upsert, content_of
from headrace.sink.config import ConnectorConfig
from headrace.sink.entries import UpsertColumns
from headrace.sink.errors import (
    FailureClass,
    Reason,
    RecordError,
    RequestTooLarge,
    TaskFailed,
    failure_class,
)
from headrace.sink.kafka_record import KafkaRecord
from headrace.sink.partition_locks import guard_of, stripe_of
from headrace.sink.parts import in_parts
from headrace.sink.progress import TaskCounters
from headrace.sink.request_size import RequestSize
from headrace.sink.steps import Plan, Step, in_rounds, plan_steps, points_without_whole
from headrace.sink.target import ColumnsTarget, Target
from headrace.sink.version_order import VersionOrder, sort_by_version

logger = logging.getLogger(__name__)

# What a smaller request may help against.
_TOO_MUCH: Final = frozenset({ErrorCode.TIMEOUT, ErrorCode.RATE_LIMITED})


class DeadLetters(Protocol):
    """Where bad records go: see `DeadLetterQueue`."""

    def write(self, refusals: Sequence[Refusal], is_interrupted: Callable[[], bool]) -> None:
        """Write bad records; all are safe when it returns."""
        ...


class BatchWriter:
    """Writes the batches of one task; its lanes use it at the same time.

    Args:
        config: the connector's.
        target: where points go.
        dead_letters: where bad records go, if anywhere.
        counters: the task's.
        log_end: the end of a partition's log as last heard of; None if not heard of yet.
        is_interrupted: whether the task is to stop.
        first_entries: the oldest records in hand that go into a collection.
    """

    def __init__(
        self,
        config: ConnectorConfig,
        target: Target,
        dead_letters: DeadLetters | None,
        counters: TaskCounters,
        log_end: Callable[[SourcePartition], int | None],
        is_interrupted: Callable[[], bool],
        first_entries: Callable[[str], Sequence[Entry]] = lambda _name: [],
    ) -> None:
        self._config = config
        self._target = target
        self._dead_letters = dead_letters
        self._counters = counters
        self._log_end = log_end
        self._is_interrupted = is_interrupted
        self._first_entries = first_entries
        self._size: RequestSize | None = None
        if not target.keeps_positions:
            timeout_s = config.request_timeout_ms / 1000
            self._size = RequestSize(config.batch.records_max, timeout_s)
            counters.request_points_max = self._size.points

    def write(self, batch: Batch) -> None:
        """Make all of a decoded batch durable; may be called again with it after an error.

        Raises:
            HeadraceError: of the class TARGET, if the target can take nothing now.
            TaskFailed: somebody must act; what is durable by then stays so.
            Interrupted: the task is to stop.
        """
        batch.drop_lost()
        self._settle_refusals(batch)
        # What a target that keeps positions has taken must stay true until the write.
        held = [*batch.next_offsets] if self._target.keeps_positions else []
        with self._target.hold([*held, *self._guards(batch)]):
            for name in list(batch.entries):
                self._write_collection(batch, name)
                batch.entries.pop(name, None)
        if batch.failure is not None:
            raise _tolerance_exceeded(batch.failure)

    def _guards(self, batch: Batch) -> set[SourcePartition]:
        """Points to be kept from other tasks: what is stored decides what is written."""
        return {
            guard_of(name, stripe_of(name, entry.change.point_id))
            for name, entries in batch.entries.items()
            if self._config.shape.guard is not None or _has_patches(entries)
            for entry in entries
        }

    def _write_collection(self, batch: Batch, name: str) -> None:
        """Write what a collection gets from a batch, which it does not have already."""
        if self._refuse_name(batch, name, collection_name_problems(name)):
            return
        try:
            if not self._write_columns(batch, name):
                self._write_what_is_good(batch, name)
        except HeadraceError as error:
            if error.code is not ErrorCode.NOT_FOUND:
                raise
            if self._make_collection(batch, name, error):
                self._write_what_is_good(batch, name)

    def _write_columns(self, batch: Batch, name: str) -> bool:
        """Write entries that are columns, as such; False if they have to be looked at."""
        batch.drop_lost()
        columns = batch.entries.get(name)
        target = self._target
        if not isinstance(columns, UpsertColumns) or not isinstance(target, ColumnsTarget):
            return False
        taken = target.taken(name)
        if any(first < taken.get(one, 0) for one, first in columns.first_offsets.items()):
            return False
        # A batch that the task fails for is read again from its first record on.
        source_offsets = [] if batch.failure else _source_offsets(batch)
        try:
            target.write_columns(name, columns, source_offsets)
        except HeadraceError as error:
            if failure_class(error) is not FailureClass.RECORD:
                raise
            return False
        self._counters.add(points_written=len(columns))
        return True

    def _write_what_is_good(self, batch: Batch, name: str) -> None:
        """Write and take out what is refused, until nothing is; each turn has fewer entries."""
        while True:
            batch.drop_lost()
            entries = batch.entries.get(name, [])
            fresh = self._not_taken(name, entries)
            refused, is_all = self._write_parts(batch, name, fresh)
            if is_all:
                self._counters.add(records_repeated=len(entries) - len(fresh))
                return
            if refused:
                self._take_out(batch, name, refused)

    def _write_parts(
        self, batch: Batch, name: str, entries: Sequence[Entry]
    ) -> tuple[list[tuple[Entry, HeadraceError]], bool]:
        """Write request by request, and forget what is written if there will be another turn.

        Returns:
            What is refused, and whether all is written; neither, if partitions were lost.
        """
        lost = batch.lost
        written: set[PointId] = set()
        try:
            for part in self._parts(entries):
                refused = self._write_part(batch, name, part)
                if refused:
                    return refused, False
                written.update(entry.change.point_id for entry in part)
                if batch.lost is not lost:
                    return [], False
            written.clear()
        finally:
            if written:
                batch.forget_points(name, written)
        return [], True

    def _parts(self, entries: Sequence[Entry]) -> Iterable[Sequence[Entry]]:
        size = self._size
        if size is None:
            return [entries]
        return in_parts(entries, lambda: size.points, self._config.batch.bytes_max)

    def _write_part(
        self, batch: Batch, name: str, entries: Sequence[Entry]
    ) -> list[tuple[Entry, HeadraceError]]:
        """Write what nothing newer has overtaken, or find out what cannot be written."""
        order = self._by_version(name, entries)
        if order.refused:
            return [*order.refused]
        if order.current:
            folded = fold(order.current)
            refused = self._refused(name, folded.superseded)
            refused = refused or self._write_folded(batch, name, folded)
            if refused:
                return refused
        # Not before: what was overtaken by a record that is refused is not stale.
        self._counters.add(records_stale=len(order.stale))
        return []

    def _by_version(self, name: str, entries: Sequence[Entry]) -> VersionOrder:
        guard = self._config.shape.guard
        if guard is None or not entries:
            return VersionOrder(current=entries)
        ids = list({entry.change.point_id for entry in entries})
        return sort_by_version(entries, self._target.stored_values(name, ids, guard.field))

    def _write_folded(
        self, batch: Batch, name: str, folded: Fold
    ) -> list[tuple[Entry, HeadraceError]]:
        """Write, or find out which entries cannot be written; then nothing else counts."""
        plan: Plan | None = None
        if folded.patches:
            asked = points_without_whole(folded)
            plan = plan_steps(folded, self._target.stored_values(name, asked, None))
            if plan.without_point:
                return [(entry, _no_such_point(entry)) for entry in plan.without_point]
        refused = self._try_to_write(batch, name, folded, plan)
        if not refused:
            deleted = set(folded.deleted_ids) - folded.patches.keys()
            written = {one.change.point_id for one in folded.upserts} | folded.patches.keys()
            self._counters.add(points_written=len(written), points_deleted=len(deleted))
        return refused

    def _not_taken(self, name: str, entries: Sequence[Entry]) -> list[Entry]:
        """The entries that a collection does not have yet.

        Raises:
            TaskFailed: it has taken more than the partition holds.
        """
        taken = self._target.taken(name)
        fresh = []
        for entry in entries:
            partition = entry.kafka_record.partition
            if entry.kafka_record.kafka_offset >= taken.get(partition, 0):
                fresh.append(entry)
        if len(fresh) < len(entries):
            for partition in {entry.kafka_record.partition for entry in entries}:
                check_log_end(partition, taken.get(partition, 0), self._log_end(partition))
        return fresh

    def _try_to_write(
        self, batch: Batch, name: str, folded: Fold, plan: Plan | None
    ) -> list[tuple[Entry, HeadraceError]]:
        """Write, or find out which entries the target refuses; then nothing else counts."""
        # A batch that the task fails for is read again from its first record on.
        source_offsets = [] if batch.failure else _source_offsets(batch)
        started_s = time.monotonic()
        try:
            if plan is None:
                self._write(name, [*folded.upserts, *folded.deletes], source_offsets)
            else:
                changes = in_rounds(plan.by_point.values())
                self._target.apply(name, changes, source_offsets)
        except HeadraceError as error:
            if error.code in _TOO_MUCH:
                self._note_request(folded, None)
            if failure_class(error) is not FailureClass.RECORD:
                raise
        else:
            self._note_request(folded, time.monotonic() - started_s)
            return []
        patches = [entry for entries in folded.patches.values() for entry in entries]
        refused = self._refused(name, [*folded.upserts, *patches])
        if refused:
            return refused
        if plan is None:
            return self._bisect(name, [*folded.upserts, *folded.deletes])
        return self._bisect_steps(name, list(plan.by_point.values()))

    def _note_request(self, folded: Fold, taken_s: float | None) -> None:
        """Adapt the size of requests to how long one took; None if it was too much."""
        if self._size is None:
            return
        if taken_s is None:
            self._size.note_too_much(len(folded.ids))
        else:
            self._size.note_taken(len(folded.ids), taken_s)
        self._counters.request_points_max = self._size.points

    def _refused(self, name: str, entries: Sequence[Entry]) -> list[tuple[Entry, HeadraceError]]:
        """The entries that a collection's configuration does not admit."""
        contents = [(entry, content_of(entry.change)) for entry in entries]
        checked = [(entry, point) for entry, point in contents if point is not None]
        if not checked:
            return []
        errors = self._target.refusals(name, [point for _, point in checked])
        return [
            (entry, error)
            for (entry, _), error in zip(checked, errors, strict=True)
            if error is not None
        ]

    def _bisect(self, name: str, entries: list[Entry]) -> list[tuple[Entry, HeadraceError]]:
        """Find out by writing halves; those that the target takes are written on the way."""
        try:
            self._write(name, entries, [])
        except HeadraceError as error:
            if failure_class(error) is not FailureClass.RECORD:
                raise
            if len(entries) == 1:
                return [(entries[0], error)]
        else:
            return []
        middle = len(entries) // 2
        return [*self._bisect(name, entries[:middle]), *self._bisect(name, entries[middle:])]

    def _bisect_steps(
        self, name: str, groups: list[list[Step]]
    ) -> list[tuple[Entry, HeadraceError]]:
        """As `_bisect`, with all steps of a point on one side, and one by one at the end."""
        try:
            self._target.apply(name, in_rounds(groups), [])
        except HeadraceError as error:
            if failure_class(error) is not FailureClass.RECORD:
                raise
            if len(groups) == 1:
                return [self._first_refused(name, groups[0], error)]
        else:
            return []
        middle = len(groups) // 2
        halves = groups[:middle], groups[middle:]
        return [refused for half in halves for refused in self._bisect_steps(name, half)]

    def _first_refused(
        self, name: str, steps: list[Step], together: HeadraceError
    ) -> tuple[Entry, HeadraceError]:
        """The first step of a point that the target refuses, or the last if only all are."""
        for step in steps:
            try:
                self._target.apply(name, in_rounds([[step]]), [])
            except HeadraceError as error:
                if failure_class(error) is not FailureClass.RECORD:
                    raise
                return step.entry, error
        return steps[-1].entry, together

    def _write(self, name: str, entries: list[Entry], source_offsets: list[SourceOffset]) -> None:
        points = [one.change.point for one in entries if isinstance(one.change, Upsert)]
        deleted_ids = [one.change.point_id for one in entries if not isinstance(one.change, Upsert)]
        self._target.write(name, points, deleted_ids, source_offsets)

    def _take_out(
        self, batch: Batch, name: str, refused: list[tuple[Entry, HeadraceError]]
    ) -> None:
        """Settle the entries that the target refused, so that the batch goes on without them."""
        # A record that changes many points is refused as a whole, and once.
        errors = {id(entry.kafka_record): (entry.kafka_record, error) for entry, error in refused}
        batch.entries[name] = [
            one for one in batch.entries[name] if id(one.kafka_record) not in errors
        ]
        batch.refusals += [
            Refusal(kafka_record, _as_record_error(error, kafka_record))
            for kafka_record, error in errors.values()
        ]
        self._settle_refusals(batch)

    def _settle_refusals(self, batch: Batch) -> None:
        if not batch.refusals:
            return
        if self._dead_letters is not None:
            self._dead_letters.write(batch.refusals, self._is_interrupted)
            self._counters.add(dead_letters=len(batch.refusals))
        elif self._config.errors.tolerate:
            self._counters.add(records_skipped=len(batch.refusals))
        self._counters.note_bad(refusal.error.reason.value for refusal in batch.refusals)
        for refusal in batch.refusals:
            self._log(refusal)
        if not self._config.errors.tolerate and batch.failure is None:
            batch.failure = batch.refusals[0]
        batch.refusals = []

    def _log(self, refusal: Refusal) -> None:
        if not self._config.errors.log:
            return
        where = ""
        if self._config.errors.log_coordinates:
            where = f" ({_coordinates(refusal)})"
        logger.error("Bad record%s: %s", where, refusal.error.message)

    def _refuse_name(self, batch: Batch, name: str, problems: Sequence[str]) -> bool:
        """Refuse the records of a collection that there cannot be, if there are problems."""
        if not problems:
            return False
        error = RecordError(problems[0], Reason.INVALID_COLLECTION_NAME)
        entries = batch.entries.get(name, [])
        if entries:
            self._take_out(batch, name, [(one, error) for one in entries])
        return True

    def _make_collection(self, batch: Batch, name: str, error: HeadraceError) -> bool:
        """Make a collection for the points that name it; False if there is nothing to put."""
        if self._refuse_name(batch, name, collection_name_problems(name, new=True)):
            return False
        if self._config.auto_create is None:
            raise TaskFailed(
                f"{error.message} Create the collection and restart the connector, or set "
                "collection.auto.create=true"
            ) from None
        # Another lane may have an older record, or be making the collection right now.
        points = _fit_points(self._first_entries(name))
        refused = _unfit_entries(batch.entries.get(name, []))
        if refused:
            self._take_out(batch, name, refused)
        entries = batch.entries.get(name, [])
        points = points or _fit_points(entries)
        if not points:
            patches = [one for one in entries if not isinstance(one.change, Delete)]
            if patches:
                self._take_out(batch, name, [(one, _no_such_point(one)) for one in patches])
            return False
        config = infer_collection_config(points, self._config.auto_create)
        self._target.create_collection(name, config)
        logger.info("made the collection %s, which a record names", name)
        return True


def check_log_end(partition: SourcePartition, taken: int, log_end: int | None) -> None:
    """Make sure that what was taken from a partition is in it.

    Args:
        partition: the partition.
        taken: the first offset that was not taken yet.
        log_end: the offset that the next record will get; None if not known.

    Raises:
        TaskFailed: the records in the partition are not those that were taken.
    """
    if log_end is None or taken <= log_end:
        return
    raise TaskFailed(
        f"Topic '{partition.stream}' partition {partition.partition} ends at offset {log_end}, "
        f"but records up to offset {taken} were taken from it: the topic was made anew, or "
        "Kafka lost records. If it was made anew, give the connector another name, under "
        "which it reads the topic from the beginning; if records were lost, restore them"
    )


def _unfit_entries(entries: Iterable[Entry]) -> list[tuple[Entry, HeadraceError]]:
    """The entries whose vectors no collection can have, and why."""
    found: list[tuple[Entry, HeadraceError]] = []
    for entry in entries:
        point = content_of(entry.change)
        error = None if point is None else unfit(point)
        if error is not None:
            found.append((entry, error))
    return found


def _fit_points(entries: Iterable[Entry]) -> list[PointStruct]:
    """The points that entries put and a collection can have."""
    points = [one.change.point for one in entries if isinstance(one.change, Upsert | Merge)]
    return [one for one in points if unfit(one) is None]


def _has_patches(entries: Sequence[Entry]) -> bool:
    if isinstance(entries, UpsertColumns):
        return False
    return any(not isinstance(entry.change, Upsert | Delete) for entry in entries)


def _no_such_point(entry: Entry) -> RecordError:
    return RecordError(f"No point with id {entry.change.point_id} found", Reason.NO_SUCH_POINT)


def _source_offsets(batch: Batch) -> list[SourceOffset]:
    return [SourceOffset(*item) for item in batch.next_offsets.items()]


def _as_record_error(error: HeadraceError, kafka_record: KafkaRecord) -> RecordError:
    if isinstance(error, RecordError):
        return error
    match error:
        case RequestTooLarge():
            size = f"The record's key and value have {kafka_record.bytes_count} bytes"
            return RecordError(f"{error.message.rstrip('.')}. {size}", Reason.TOO_LARGE)
        case WrongVectorDimension():
            reason = Reason.WRONG_VECTOR_DIMENSION
        case UnknownVectorName():
            reason = Reason.UNKNOWN_VECTOR_NAME
        case InvalidVector():
            reason = Reason.INVALID_VECTOR
        case _:
            reason = Reason.REFUSED_BY_TARGET
    return RecordError(error.message, reason)


def _coordinates(refusal: Refusal) -> str:
    kafka_record = refusal.kafka_record
    return (
        f"topic='{kafka_record.partition.stream}', partition={kafka_record.partition.partition}, "
        f"offset={kafka_record.kafka_offset}, timestamp={kafka_record.timestamp_ms}"
    )


def _tolerance_exceeded(refusal: Refusal) -> TaskFailed:
    return TaskFailed(
        f"Bad record ({_coordinates(refusal)}): {refusal.error.message}. Mend the record, or "
        "set errors.tolerance=all, best with errors.deadletterqueue.topic.name"
    )
