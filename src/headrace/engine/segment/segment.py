"""Which row holds which point, and what does a reader see while a writer writes?

One growing row space per collection. A point's vectors never change in place: an upsert
takes a new row and the old one dies; an update of payload alone keeps the row. The writer
works on the newest state; readers hold a `View`, which nothing
changes. What was written since a savepoint can be taken back, so a batch that fails
half-way leaves no trace.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from headrace.engine.payload.store import PayloadStore, PayloadTable, payload_at
from headrace.engine.payload_index.changes import ChangeLog, ChangeMark
from headrace.engine.payload_index.index import PayloadIndex
from headrace.engine.payload_index.row_set_cache import RowSetCache
from headrace.engine.payload_index.transient_memory import TransientMemory
from headrace.engine.segment.id_index import IdIndex
from headrace.engine.segment.ids import NO_ROW, IdWords, RowIds
from headrace.engine.storage.mapped_memory import scratch_matrix
from headrace.engine.vector_index.builder import IndexBuilder
from headrace.engine.vector_index.indexed_vectors import IndexedVectors
from headrace.engine.vector_index.settings import IndexSettings
from headrace.engine.vectors.arrays import Allocate, GrowingArray
from headrace.engine.vectors.base import VectorStore
from headrace.engine.vectors.multi import MultiVectors
from headrace.engine.vectors.row_set import RowSet
from headrace.engine.vectors.sparse import SparseVectors
from headrace.engine.vectors.stored import StoredArray
from headrace.model.collection_config import (
    CollectionConfig,
    PayloadFieldSchema,
    SparseVectorParams,
    VectorParams,
)
from headrace.model.errors import UnknownVectorName
from headrace.model.ids import PointId, point_id_order
from headrace.model.operations import PayloadJson, SourcePartition
from headrace.model.vectors import Mask, Rows, Vector, VectorBatch

# Of the memory that vectors on disk may take while they are copied.
_COMPACTED_ROWS_PER_STEP = 2048

Name = TypeVar("Name")

# The seq_no that last changed the point of each row.
Versions = NDArray[np.uint64]

PayloadSchema = Mapping[str, PayloadFieldSchema]


@dataclass(frozen=True, eq=False)
class View:
    """A collection at one moment, for readers; nothing in it ever changes.

    Attributes:
        seq_no: the last log record it shows.
        row_count: rows below this exist.
        live: shape (row_count,): which rows hold the newest version of a point.
        live_count: how many points there are.
        schema: the payload indexes, by payload path.
        payloads: the payloads by row.
        changes: which changes of payloads it shows.
        source_offsets: how far each source partition has been taken.
        config: the collection's configuration.
        stores: the vectors, by vector name.
        segment: where rows are read.
    """

    seq_no: int
    row_count: int
    live: Mask
    live_count: int
    schema: PayloadSchema
    payloads: PayloadTable
    changes: ChangeMark
    source_offsets: Mapping[SourcePartition, int]
    config: CollectionConfig
    stores: Mapping[str, VectorStore]
    segment: Segment

    @cached_property
    def live_set(self) -> RowSet:
        """The live rows as a set."""
        return RowSet.of_mask(self.live, self.live_count)

    @cached_property
    def row_sets(self) -> RowSetCache:
        """The filters that were answered for this view lately."""
        return RowSetCache()

    @cached_property
    def rows_by_id(self) -> Rows:
        """The live rows in id order; sorted when first asked for."""
        return self.segment.row_ids.in_id_order(np.flatnonzero(self.live))

    def first_place_from(self, start_id: PointId) -> int:
        """Where in `rows_by_id` the ids from `start_id` on begin."""
        rows = self.rows_by_id
        return bisect_left(
            range(len(rows)),
            point_id_order(start_id),
            key=lambda place: point_id_order(self.id_of(int(rows[place]))),
        )

    def id_of(self, row: int) -> PointId:
        """The id of a row."""
        return self.segment.row_ids.get(row)

    def row_of(self, point_id: PointId) -> int:
        """The row of a point, or NO_ROW; see `Segment.row_in`."""
        return self.segment.row_in(self, point_id)

    def payload(self, row: int) -> PayloadJson:
        """The payload of a row, as JSON bytes."""
        return payload_at(self.payloads, row)

    def versions(self, rows: Rows) -> list[int]:
        """The seq_no that last changed the point of each row."""
        versions: list[int] = self.segment.versions.buffer[rows].tolist()
        return versions

    def vectors(self, name: str) -> VectorStore:
        """The store of one vector name.

        Raises:
            UnknownVectorName: the collection has none of that name.
        """
        try:
            return self.stores[name]
        except KeyError:
            raise UnknownVectorName(name) from None

    def vector_names(self) -> list[str]:
        """All vector names of the collection."""
        return list(self.stores)

    def indexed_stores(self) -> dict[str, IndexedVectors]:
        """The stores that have graphs, by vector name."""
        return _indexed(self.stores)

    def stored_arrays(self) -> dict[str, StoredArray]:
        """The append-only arrays that a checkpoint keeps, by name."""
        return _stored_arrays(self.segment.row_ids, self.stores)

    def shows(self, row: int) -> bool:
        """Whether the row holds a point in this view."""
        return 0 <= row < self.row_count and bool(self.live[row])


class _Savepoint(NamedTuple):
    """What is needed to take back everything written since."""

    seq_no: int
    row_count: int
    live_count: int
    schema: dict[str, PayloadFieldSchema]
    payloads: PayloadTable
    source_offsets: dict[SourcePartition, int]
    config: CollectionConfig
    stores: dict[str, VectorStore]
    dropped: list[VectorStore]
    killed_rows: list[Rows]
    replaced_rows: dict[PointId, int]
    replaced_versions: list[tuple[Rows, np.ndarray[tuple[int], np.dtype[np.uint64]]]]


class StoredState(NamedTuple):
    """What a checkpoint holds besides the append-only arrays.

    Attributes:
        seq_no: the last log record it includes.
        versions: shape (row_count,).
        live: shape (row_count,).
        payloads, schema, source_offsets: as a view has them.
        lengths: of each append-only array, by name.
    """

    seq_no: int
    versions: NDArray[np.uint64]
    live: Mask
    payloads: PayloadTable
    schema: dict[str, PayloadFieldSchema]
    source_offsets: dict[SourcePartition, int]
    lengths: dict[str, int]


class Segment:
    """All rows of a collection: ids, versions, payloads, vectors. One writer.

    Args:
        config: the collection's.
        builder: makes the graphs of dense vectors in the background.
        transient_memory: bounds the columns that filters leave behind; None is a bound of
            its own.
        directory: where vectors that are not to be in memory stay until a checkpoint holds
            them; None = in memory.
    """

    def __init__(
        self,
        config: CollectionConfig,
        builder: IndexBuilder,
        transient_memory: TransientMemory | None = None,
        directory: Path | None = None,
    ) -> None:
        self._builder = builder
        self._transient_memory = transient_memory or TransientMemory()
        self._directory = directory
        self.row_ids = RowIds()
        self.id_index = IdIndex(self.row_ids)
        self.versions: GrowingArray[np.uint64] = GrowingArray(np.uint64)
        self.config = config
        # Replaced as a whole when a name comes or goes: views keep the one they have.
        self.stores: dict[str, VectorStore] = {}
        self._live: GrowingArray[np.bool_] = GrowingArray(np.bool_)
        self._payloads = PayloadStore()
        self._changes = ChangeLog()
        self.payload_index = PayloadIndex(self._changes.mark(), self._transient_memory)
        self._row_count = 0
        self._live_count = 0
        self._schema: dict[str, PayloadFieldSchema] = {}
        self._source_offsets: dict[SourcePartition, int] = {}
        self._savepoints: list[_Savepoint] = []
        # Their work is given up once readers see that the names are gone.
        self._dropped: list[VectorStore] = []
        self._seq_no = 0
        self._begun_seq_no = 0
        self.adopt_config(config)

    @property
    def begun_seq_no(self) -> int:
        """The batch that was begun last, also if it was taken back.

        A view of it has every change of the id index that a reader can have met.
        """
        return self._begun_seq_no

    @classmethod
    def compacted(cls, view: View, versions: Versions) -> Segment:
        """A new segment that shows what `view` shows, without its dead rows.

        Args:
            view: of another segment.
            versions: shape (view.row_count,): of its rows, at the moment of the view.
        """
        source = view.segment
        segment = cls(view.config, source._builder, source._transient_memory, source._directory)
        segment.begin(view.seq_no)
        live_rows = np.flatnonzero(view.live)
        for begin in range(0, len(live_rows), _COMPACTED_ROWS_PER_STEP):
            rows = live_rows[begin : begin + _COMPACTED_ROWS_PER_STEP]
            new_rows = segment.append(
                view.segment.row_ids.get_many(rows),
                {name: store.read(rows) for name, store in view.stores.items()},
                [view.payload(row) for row in rows.tolist()],
            )
            segment.versions.buffer[new_rows] = versions[rows]
        segment._schema = dict(view.schema)
        segment._source_offsets = dict(view.source_offsets)
        segment.end_batches()
        for name, store in segment.indexed_stores().items():
            store.adopt_renumbered(view.indexed_stores()[name], live_rows)
        return segment

    # Graphs

    def indexed_stores(self) -> dict[str, IndexedVectors]:
        """The stores that have graphs, by vector name."""
        return _indexed(self.stores)

    def published(self, view: View) -> None:
        """Have graphs made, where that is worth it, now that readers have this view."""
        for store in self.indexed_stores().values():
            store.published(view.live)

    def close(self) -> None:
        """Give up what is built in the background."""
        for store in self.indexed_stores().values():
            store.close()

    # Storing

    def stored_arrays(self) -> dict[str, StoredArray]:
        """The append-only arrays that a checkpoint keeps, by name."""
        return _stored_arrays(self.row_ids, self.stores)

    def adopt_config(self, config: CollectionConfig) -> None:
        """Take another configuration; for a segment without rows."""
        assert not self._row_count
        self.config = config
        self.stores = {name: self._new_store(params) for name, params in config.vectors.items()}
        self.stores |= {
            name: self._new_store(params) for name, params in config.sparse_vectors.items()
        }

    def _new_store(self, params: VectorParams | SparseVectorParams) -> VectorStore:
        """A store for vectors of rows that are still to be written."""
        if isinstance(params, SparseVectorParams):
            return SparseVectors(params)
        scratch = self._scratch(params)
        if params.is_multi:
            return MultiVectors(params, scratch)
        return IndexedVectors(params, self.config, self._builder, self._row_count, scratch)

    def _scratch(self, params: VectorParams) -> Allocate | None:
        """What makes room for vectors, if that is not to be in memory."""
        if self._directory is None or not params.is_cold:
            return None
        return partial(scratch_matrix, self._directory)

    def load_state(self, state: StoredState) -> None:
        """Take the rest of a checkpoint, once the arrays of an empty segment are loaded."""
        self._row_count = len(state.live)
        self._live_count = int(np.count_nonzero(state.live))
        self._seq_no = self._begun_seq_no = state.seq_no
        self._schema = state.schema
        self._source_offsets = state.source_offsets
        self._payloads.load(state.payloads)
        self.versions.load([state.versions.data], 0)
        self._live.load([state.live.data], 0)
        self.id_index.load(np.flatnonzero(state.live))
        for vector_name, store in self.stores.items():
            prefix = f"vectors/{vector_name}/"
            lengths = {
                name.removeprefix(prefix): length
                for name, length in state.lengths.items()
                if name.startswith(prefix)
            }
            store.after_load(state.live, lengths)

    # Writing

    def begin(self, seq_no: int) -> None:
        """Start a batch: everything until `rollback` can be taken back."""
        self._savepoints.append(
            _Savepoint(
                self._seq_no,
                self._row_count,
                self._live_count,
                self._schema.copy(),
                self._payloads.snapshot(),
                self._source_offsets.copy(),
                self.config,
                self.stores,
                self._dropped.copy(),
                [],
                {},
                [],
            )
        )
        self._seq_no = self._begun_seq_no = seq_no

    def rollback(self) -> None:
        """Take back the newest batch. Its rows stay behind, dead: they are never reused.

        If this fails, for want of memory, the batch is still there, and it can be called again.
        """
        savepoint = self._savepoints[-1]
        self._live.buffer[savepoint.row_count : self._row_count] = False
        for rows in savepoint.killed_rows:
            self._live.buffer[rows[rows < savepoint.row_count]] = True
        for rows, versions in reversed(savepoint.replaced_versions):
            self.versions.buffer[rows] = versions
            self._changes.append(rows)
        replaced = savepoint.replaced_rows
        before = np.fromiter(replaced.values(), dtype=np.int64, count=len(replaced))
        self.id_index.point_to(list(replaced), before)
        self._payloads.restore(savepoint.payloads, self._row_count)
        self._live_count = savepoint.live_count
        self._schema = savepoint.schema
        self._source_offsets = savepoint.source_offsets
        # What is shown next must not claim the log record of a batch that never got one.
        self._seq_no = savepoint.seq_no
        if self.config is not savepoint.config:
            self.config, self.stores = savepoint.config, savepoint.stores
            self._dropped = savepoint.dropped
            self._settle_stores()
        self._savepoints.pop()

    def rollback_all(self) -> None:
        """Take back every batch that readers do not see."""
        while self._savepoints:
            self.rollback()

    @property
    def open_batches(self) -> int:
        """How many batches can still be taken back."""
        return len(self._savepoints)

    def end_batches(self) -> None:
        """Forget how to take the batches back; call it once readers see them."""
        self._savepoints.clear()
        for store in _indexed(dict(enumerate(self._dropped))).values():
            store.give_up()
        self._dropped.clear()

    def working_view(self) -> View:
        """The newest state, published or not: what the next operation of a batch sees."""
        return View(
            seq_no=self._seq_no,
            row_count=self._row_count,
            live=self._live.view(self._row_count).copy(),
            live_count=self._live_count,
            schema=self._schema.copy(),
            payloads=self._payloads.snapshot(),
            changes=self._changes.mark(),
            source_offsets=self._source_offsets.copy(),
            config=self.config,
            stores=self.stores,
            segment=self,
        )

    def append(
        self,
        ids: Sequence[PointId],
        vectors: Mapping[str, VectorBatch],
        payloads: Sequence[PayloadJson],
        copied_from: Rows | None = None,
        left_out: frozenset[str] = frozenset(),
    ) -> Rows:
        """Give points new rows; the rows that held them before die.

        Args:
            ids: unique.
            vectors: by name; `positions` of each batch count within `ids`.
            payloads: one per id.
            copied_from: shape (len(ids),), if given: the row whose vectors each point
                keeps under the names that `vectors` does not give it.
            left_out: names that are not copied.

        Returns:
            The new rows, shape (len(ids),).
        """
        begin, end = self._row_count, self._row_count + len(ids)
        rows = np.arange(begin, end, dtype=np.int64)
        words = IdWords.of(ids)
        self._live.reserve(end)
        self.versions.reserve(end)
        # Whatever fails from here on, these rows are taken, so that nothing of them is mixed
        # with what comes later.
        self._row_count = end
        for name, store in self.stores.items():
            batch = vectors.get(name)
            if batch is not None:
                store.write(rows[batch.positions], batch)
            if copied_from is not None and name not in left_out:
                kept = np.ones(len(ids), dtype=np.bool_)
                if batch is not None:
                    kept[batch.positions] = False
                store.copy(copied_from[kept], rows[kept])
        self._payloads.append(payloads)
        self.row_ids.write(begin, words)
        self.versions.buffer[rows] = self._seq_no
        self._replace(ids, self._living(self.id_index.rows_of_words(words)))
        self._live.buffer[rows] = True
        self._live_count += len(ids)
        self.id_index.point_to(ids, rows)
        return rows

    def delete(self, ids: Sequence[PointId]) -> None:
        """Forget points; ids that are not stored, or come again, are no error."""
        ids = list(dict.fromkeys(ids))
        self._replace(ids, self.rows_of(ids))

    def replace_payloads(self, rows: Rows, payloads: Sequence[PayloadJson]) -> None:
        """Change the payloads of live rows in place."""
        self._payloads.replace(rows.tolist(), payloads)
        self._savepoints[-1].replaced_versions.append((rows, self.versions.buffer[rows].copy()))
        self.versions.buffer[rows] = self._seq_no
        self._changes.append(rows)

    def rows_of(self, ids: Sequence[PointId]) -> Rows:
        """The rows of points as the writer sees them, shape (len(ids),); NO_ROW for others."""
        return self._living(self.id_index.rows(ids))

    @property
    def payload_bytes_max(self) -> int:
        """No payload is larger; one that was may be gone."""
        return self._payloads.bytes_max

    def read_payloads(self, rows: Rows) -> list[PayloadJson]:
        """The payloads of some rows as the writer sees them."""
        return self._payloads.get_many(rows.tolist())

    def set_schema(self, payload_path: str, schema: PayloadFieldSchema | None) -> None:
        """Declare, or with None forget, the payload index of a path."""
        if schema is None:
            self._schema.pop(payload_path, None)
        else:
            self._schema[payload_path] = schema

    def change_config(self, config: CollectionConfig) -> None:
        """Take a configuration whose vector names may be others; new ones have no vectors."""
        self.config = config
        names = [*config.vectors, *config.sparse_vectors]
        self._dropped += [store for name, store in self.stores.items() if name not in names]
        self.stores = {
            name: self.stores.get(name) or self._new_store(config.vector_params(name))
            for name in names
        }
        self._settle_stores()

    def _settle_stores(self) -> None:
        """Have the stores follow the configuration."""
        for name, params in self.config.vectors.items():
            store = self.stores[name]
            for matrix in store.matrices().values():
                matrix.scratch = self._scratch(params)
            if isinstance(store, IndexedVectors):
                store.take_settings(IndexSettings.from_config(params, self.config))

    def set_source_offset(self, partition: SourcePartition, next_offset: int) -> None:
        """Remember how far a source partition has been taken; never moves back."""
        taken = self._source_offsets.get(partition, 0)
        self._source_offsets[partition] = max(taken, next_offset)

    def rewind_source(self, partition: SourcePartition, next_offset: int) -> None:
        """Forget what of a source partition was taken from an offset on; never moves ahead."""
        taken = min(self._source_offsets.get(partition, 0), next_offset)
        if taken > 0:
            self._source_offsets[partition] = taken
        else:
            self._source_offsets.pop(partition, None)

    # Reading by id

    def row_in(self, view: View, point_id: PointId) -> int:
        """The row that holds a point in a view, or NO_ROW if the view shows no such point.

        The id index knows the writer's newest state. What is not published yet is looked
        up as it was before the running batches. NO_ROW may also mean that `view` is no
        longer the newest: see `Collection.locate`.
        """
        while True:
            row = self.id_index.row(point_id)
            if view.shows(row):
                return row
            for savepoint in tuple(self._savepoints):
                before = savepoint.replaced_rows.get(point_id)
                if before is not None:
                    return before if view.shows(before) else NO_ROW
            if self.id_index.row(point_id) == row:
                return NO_ROW

    def _living(self, rows: Rows) -> Rows:
        """The rows that hold the newest version of a point; NO_ROW in the place of others."""
        return np.where((rows != NO_ROW) & self._live.buffer[rows], rows, NO_ROW)

    def _replace(self, ids: Sequence[PointId], rows: Rows) -> None:
        """Let the rows of points die, where they have one, and remember which these were."""
        places = np.flatnonzero(rows != NO_ROW)
        held = rows[places]
        savepoint = self._savepoints[-1]
        for place, row in zip(places.tolist(), held.tolist(), strict=True):
            savepoint.replaced_rows.setdefault(ids[place], row)
        savepoint.killed_rows.append(held)
        self._live.buffer[held] = False
        self._live_count -= len(held)


def _indexed(stores: Mapping[Name, VectorStore]) -> dict[Name, IndexedVectors]:
    return {name: store for name, store in stores.items() if isinstance(store, IndexedVectors)}


def _stored_arrays(row_ids: RowIds, stores: Mapping[str, VectorStore]) -> dict[str, StoredArray]:
    arrays = {f"ids/{name}": stored for name, stored in row_ids.stored_arrays().items()}
    for vector_name, store in stores.items():
        for name, stored in store.stored_arrays().items():
            arrays[f"vectors/{vector_name}/{name}"] = stored
    return arrays


def read_vectors(view: View, row: int, names: Sequence[str]) -> dict[str, Vector]:
    """The vectors of a row under the given names, of those it has."""
    found = ((name, view.vectors(name).get(row)) for name in names)
    return {name: vector for name, vector in found if vector is not None}
