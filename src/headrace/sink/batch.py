"""What do many records come to, once those of one point are folded into the last?

A batch keeps every record until the target has it: if the newest record of a point turns
out to be bad, the one before it counts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import msgspec

from headrace.model.errors import HeadraceError
from headrace.model.ids import PointId
from headrace.model.operations import SourcePartition
from headrace.sink.changes import Delete, Upsert
from headrace.sink.decode import RecordDecoder, quiet_overflow
from headrace.sink.entries import Entry, UpsertColumns
from headrace.sink.errors import FailureClass, RecordError, failure_class
from headrace.sink.kafka_record import KafkaHeaders, KafkaRecord, in_runs

__all__ = [
    "Batch",
    "Entry",
    "Fold",
    "KafkaHeaders",
    "KafkaRecord",
    "Refusal",
    "decode_batch",
    "fold",
]


class Refusal(msgspec.Struct, frozen=True, eq=False):
    """A record that was refused, and why."""

    kafka_record: KafkaRecord
    error: RecordError


@dataclass(slots=True)
class Batch:
    """Records that are read and not yet durable, on their way through a writer.

    Attributes:
        entries: by collection, in the order they were read; the writer takes out what is
            refused, and a collection once all its entries are durable.
        refusals: what was refused and is not settled yet.
        failure: the first refusal that the task must fail for, once the rest is durable.
        next_offsets: by partition, the first offset that is not in the batch.
        undecoded: records that wait for a schema registry to answer, newest first.
        decoder: reads them.
        lost: partitions whose records are to be forgotten: see `lose`.
    """

    entries: dict[str, Sequence[Entry]] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    failure: Refusal | None = None
    next_offsets: dict[SourcePartition, int] = field(default_factory=dict)
    undecoded: list[KafkaRecord] = field(default_factory=list)
    decoder: RecordDecoder | None = None
    lost: frozenset[SourcePartition] = frozenset()

    @property
    def is_decoded(self) -> bool:
        """Whether nothing waits to be decoded."""
        return not self.undecoded

    def decode_rest(self, known: Mapping[int, Upsert] = MappingProxyType({})) -> None:
        """Decode what could not be decoded yet; nothing is lost or done twice by an error.

        Args:
            known: by rank among those, what was read already.

        Raises:
            HeadraceError: of the class TARGET, if the registry still does not answer.
        """
        with quiet_overflow():
            rank = 0
            while self.undecoded:
                assert self.decoder is not None
                upsert = known.get(rank)
                if upsert is None:
                    self._decode(self.undecoded[-1], self.decoder)
                else:
                    self._add(Entry(self.undecoded[-1], upsert))
                self.undecoded.pop()
                rank += 1

    def _decode(self, kafka_record: KafkaRecord, decoder: RecordDecoder) -> None:
        try:
            changes = decoder.decode_record(kafka_record)
        except RecordError as error:
            self.refusals.append(Refusal(kafka_record, error))
            return
        for change in changes:
            self._add(Entry(kafka_record, change))

    def _add(self, entry: Entry) -> None:
        entries = self.entries.setdefault(entry.change.collection_name, [])
        assert isinstance(entries, list)
        entries.append(entry)

    def share(self, entries: Mapping[str, Sequence[Entry]], with_rest: bool) -> Batch:
        """Some of the entries of a decoded batch, to be written by themselves.

        Args:
            entries: those, by collection.
            with_rest: whether what was refused is settled with them.
        """
        refusals = list(self.refusals) if with_rest else []
        return Batch(dict(entries), refusals, next_offsets=dict(self.next_offsets))

    def lose(self, partitions: Collection[SourcePartition]) -> None:
        """As `drop`, from another thread than the writer's; it takes effect at the next step."""
        self.lost |= frozenset(partitions)

    def forget_points(self, collection_name: str, ids: Collection[PointId]) -> None:
        """Forget all records of points whose newest state is written."""
        entries = self.entries.get(collection_name, [])
        self.entries[collection_name] = [one for one in entries if one.change.point_id not in ids]

    def drop_lost(self) -> None:
        """Forget what was lost meanwhile; for the writer's thread."""
        if self.lost:
            self.drop(self.lost)

    def drop(self, partitions: Collection[SourcePartition]) -> None:
        """Forget the records of partitions that somebody else reads now."""
        for partition in partitions:
            self.next_offsets.pop(partition, None)
        self.undecoded = [one for one in self.undecoded if one.partition not in partitions]
        self.refusals = [
            one for one in self.refusals if one.kafka_record.partition not in partitions
        ]
        if self.failure is not None and self.failure.kafka_record.partition in partitions:
            self.failure = None
        for name, entries in list(self.entries.items()):
            kept = [one for one in entries if one.kafka_record.partition not in partitions]
            if kept:
                self.entries[name] = kept
            else:
                del self.entries[name]


@dataclass(frozen=True, slots=True)
class Fold:
    """What is left of the entries of each point.

    Attributes:
        upserts: entries that put a point; their ids are unique, and not among `deletes`.
        deletes: entries that delete a point; their ids are unique.
        patches: by point, the entries that change a part of it, in order; they come after
            its entry in `upserts` or `deletes`, if it has one.
        superseded: entries that a later whole change of the same point has overtaken.
    """

    upserts: list[Entry]
    deletes: list[Entry]
    patches: dict[PointId, list[Entry]]
    superseded: list[Entry]

    @property
    def ids(self) -> set[PointId]:
        """The ids of all points."""
        return {one.change.point_id for one in (*self.upserts, *self.deletes)} | {*self.patches}

    @property
    def deleted_ids(self) -> list[PointId]:
        """The ids of the deleted points."""
        return [entry.change.point_id for entry in self.deletes]


def decode_batch(kafka_records: Sequence[KafkaRecord], decoder: RecordDecoder) -> Batch:
    """Decode records, in the order they were read; bad ones become refusals.

    If a schema registry does not answer, the rest stays undecoded, to be tried again: an
    outage of the registry is like one of the target.
    """
    batch = Batch(decoder=decoder)
    for partition, run in in_runs(kafka_records):
        batch.next_offsets[partition] = run[-1].kafka_offset + 1
    with quiet_overflow():
        together = decoder.decode_together(kafka_records)
        if isinstance(together, UpsertColumns):
            batch.entries[together.collection_name] = together
            return batch
        batch.undecoded = list(reversed(kafka_records))
        try:
            batch.decode_rest(together)
        except HeadraceError as error:
            if failure_class(error) is not FailureClass.TARGET:
                raise
    return batch


def fold(entries: Sequence[Entry]) -> Fold:
    """What the entries of one collection come to, by point.

    An upsert or a delete says all about its point, so nothing before it counts. What
    changes a part is kept, in order.
    """
    latest: dict[PointId, Entry] = {}
    patches: dict[PointId, list[Entry]] = {}
    superseded: list[Entry] = []
    for entry in entries:
        point_id = entry.change.point_id
        if isinstance(entry.change, Upsert | Delete):
            overtaken = latest.pop(point_id, None)
            if overtaken is not None:
                superseded.append(overtaken)
            if patches:
                superseded += patches.pop(point_id, ())
            latest[point_id] = entry
        else:
            patches.setdefault(point_id, []).append(entry)
    deletes = [entry for entry in latest.values() if isinstance(entry.change, Delete)]
    upserts = [entry for entry in latest.values() if not isinstance(entry.change, Delete)]
    return Fold(upserts, deletes, patches, superseded)
