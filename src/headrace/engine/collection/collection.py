"""How does a write become durable and visible, one collection at a time?

Writers queue; whoever gets the write lock commits everything that is queued as a group:
apply each batch, append it to the log, sync once, show the result, wake the others. What
fails is taken back whole. Readers take the newest view and never wait.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from headrace.engine.background import give_free_memory_back
from headrace.engine.collection.apply import apply_operation
from headrace.engine.collection.identity import (
    WAL_DIRECTORY,
    Identities,
    Identity,
    document_checksum,
    generation_min,
    known_logs,
)
from headrace.engine.collection.maintenance import Maintenance
from headrace.engine.collection.prepare import prepare_batch
from headrace.engine.payload_index.index import BuildProgress
from headrace.engine.payload_index.transient_memory import TransientMemory
from headrace.engine.query.counts import count_points, indexed_points_count
from headrace.engine.query.duration import is_short
from headrace.engine.query.execute import QueryContext, query_pieces, run_query
from headrace.engine.query.explain import explain_query
from headrace.engine.query.facet import run_facet
from headrace.engine.query.groups import run_groups
from headrace.engine.query.matrix import MatrixRow, run_matrix
from headrace.engine.query.plan import StagePlan
from headrace.engine.query.records import check_vector_selection, read_record
from headrace.engine.query.resolve import FindView
from headrace.engine.query.scroll import run_scroll, scroll_pieces
from headrace.engine.segment.checkpoint import Checkpoints, Manifest, holds_cold_in_memory
from headrace.engine.segment.ids import NO_ROW
from headrace.engine.segment.segment import Segment, Versions, View
from headrace.engine.storage.file_ops import FILE_OPS, FileOps
from headrace.engine.storage.wal import Wal
from headrace.engine.storage.wal_scan import WalRecord
from headrace.engine.vector_index.builder import IndexBuilder
from headrace.engine.vector_index.indexed_vectors import GraphProgress
from headrace.engine.work_log import FinishedWork, WorkLog
from headrace.model.collection_config import CollectionConfig, PayloadFieldSchema
from headrace.model.errors import (
    HeadraceError,
    NotFound,
    Unavailable,
    collection_not_found,
)
from headrace.model.filters import Filter
from headrace.model.ids import PointId
from headrace.model.operations import (
    SourcePartition,
    WriteBatch,
    decode_write_batch,
    encode_write_batch,
)
from headrace.model.points import (
    Pieces,
    PointGroup,
    Record,
    ScoredPoint,
    ScrollPage,
    ScrollPieces,
)
from headrace.model.queries import (
    Facet,
    FacetHit,
    GroupBy,
    MatrixRequest,
    PayloadSelection,
    Query,
    Scroll,
    VectorSelection,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")

# A log this long is replaced by a checkpoint: replaying it takes about half a second.
_CHECKPOINT_WAL_BYTES = 64 * 2**20

# After a compaction the next one waits this many times as long as it took, so that a
# small collection that is overwritten all the time spends a tenth of its time on it.
_COMPACTION_PAUSE = 9.0

# Failed background work is tried again after this long, at the next write.
_RETRY_AFTER_S = 10.0

# Indexing the payloads of so many rows leaves megabytes of free memory with the allocator.
_MUCH_INDEXED_ROWS = 65_536

# A group is closed beyond this, so that one sync never writes much more than this.
_GROUP_BYTES_MAX = 32 * 2**20

# Qdrant's defaults of `vacuum_min_vector_number` and `deleted_threshold`.
_VACUUM_ROWS_MIN = 1000
_DELETED_THRESHOLD = 0.2

# How many applied records between two lines of progress while a log is replayed.
_REPLAY_RECORDS_PER_LINE = 100_000


class PinnedCheckpoint(NamedTuple):
    """A checkpoint whose files stay for now.

    Attributes:
        name: of the collection.
        config: of the collection, at the same moment.
        directory: of the collection.
        manifest: what the checkpoint holds.
    """

    name: str
    config: CollectionConfig
    directory: Path
    manifest: Manifest


class _Ticket:
    """One writer's batch in the queue, and how it ended.

    Attributes:
        given: the batch as it came; prepared again if the configuration changes meanwhile.
        config: what `batch` and `body` were prepared for.
    """

    __slots__ = ("batch", "body", "config", "done", "error", "given", "seq_no")

    def __init__(self, given: WriteBatch, config: CollectionConfig) -> None:
        self.given = given
        self.prepare(config)
        self.seq_no = 0
        self.error: Exception | None = None
        self.done = False

    def prepare(self, config: CollectionConfig) -> None:
        """Check and bring the batch into the form in which it is logged.

        Raises: as `prepare_batch`.
        """
        self.config = config
        self.batch = prepare_batch(self.given, config)
        self.body = encode_write_batch(self.batch)


class _Syncing(NamedTuple):
    """A group whose batches are applied, and perhaps durable."""

    view: View
    applied: list[_Ticket]


class Collection:
    """One opened collection; thread-safe.

    Attributes:
        view: the newest view, which each write and each compaction replaces.

    Args:
        name: as its creator spelled it.
        directory: its own; holds the log.
        config: what it was created with; its checkpoint and log know what it is by now.
        maintenance: where checkpoints and compaction run.
        builder: where graphs are made.
        transient_memory: bounds the columns that filters leave behind.
        ops: the file operations of the log and the checkpoints.
        known: which it may be; None if that is not known.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        config: CollectionConfig,
        maintenance: Maintenance,
        builder: IndexBuilder,
        transient_memory: TransientMemory,
        ops: FileOps = FILE_OPS,
        known: Identities | None = None,
    ) -> None:
        self.name = name
        self._segment = Segment(config, builder, transient_memory, directory)
        wal_directory = directory / WAL_DIRECTORY
        self._wal = Wal.open(wal_directory, create=False, known=known_logs(known), ops=ops)
        self._queue: list[_Ticket] = []
        self._queue_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._syncing: _Syncing | None = None
        self._directory = directory
        # Taken before the write lock, by whatever writes or needs checkpoints.
        self._checkpoint_lock = threading.RLock()
        self._closed = False
        self._deleted = False
        self._maintenance = maintenance
        self._maintained_after = 0.0
        self._compacted_after = 0.0
        self._work_log = WorkLog()
        began = time.monotonic()
        try:
            self._document = document_checksum(directory, ops)
            self._checkpoints = Checkpoints(directory, ops)
            self._checkpoints.load_into(self._segment, generation_min(known))
            self._checkpoints.remove_unnamed_files()
            self._seq_no = self._checkpoints.seq_no
            self._replay()
            self._checkpoints.place_graphs(self._segment.working_view())
        except BaseException:
            self._wal.close()
            raise
        self.load_seconds = time.monotonic() - began
        self.view = self._segment.working_view()
        self._segment.published(self.view)
        self._request_maintenance()

    def delete(self) -> None:
        """Close a collection that is there no more: later writes find none of its name."""
        self._deleted = True
        self.close()

    def close(self) -> None:
        """Finish running writes and release the log; later writes are refused."""
        with self._checkpoint_lock:
            if self._closed:
                return
            self._segment.close()
            try:
                if not self._deleted and self._checkpoints.lacks_graphs(self.view):
                    self.checkpoint()
            except HeadraceError as error:
                logger.warning("graphs of %s are not kept, and made anew: %s", self.name, error)
            with self._write_lock:
                self._closed = True
                self._wal.close()

    def forget_in_child(self) -> None:
        """In a forked child: refuse every write, whatever the parent's threads held."""
        self._write_lock, self._queue_lock = threading.Lock(), threading.Lock()
        self._checkpoint_lock = threading.RLock()
        self._queue = []
        self._closed = True

    # Writing

    def write(self, batch: WriteBatch) -> int:
        """Apply a batch, all or nothing; durable and visible when it returns.

        Returns:
            The seq_no of its log record.

        Raises:
            WrongInput, NotFound, ...: the batch does not fit; nothing was applied.
            NoSpace, StorageFailed: the log could not be written; nothing was applied.
            NotFound: the collection was deleted.
            Unavailable: the collection is closed.
        """
        ticket = _Ticket(batch, self.config)
        try:
            with self._queue_lock:
                self._queue.append(ticket)
            with self._write_lock:
                while not ticket.done:
                    self._commit_next()
        finally:
            self._withdraw(ticket)
        if ticket.error is not None:
            raise ticket.error
        return ticket.seq_no

    def _next_group(self) -> list[_Ticket]:
        """The oldest queued tickets, as many as one sync should carry; they stay queued."""
        with self._queue_lock:
            self._queue = [ticket for ticket in self._queue if not ticket.done]
            group_bytes = 0
            for taken, ticket in enumerate(self._queue):
                group_bytes += len(ticket.body)
                if taken and group_bytes > _GROUP_BYTES_MAX:
                    return self._queue[:taken]
            return self._queue[:]

    def _withdraw(self, ticket: _Ticket) -> None:
        """Forget a batch that is done; one whose writer was interrupted, unless it is at hand."""
        with self._queue_lock:
            if ticket in self._queue:
                self._queue.remove(ticket)

    def _commit_next(self) -> None:
        """Let each batch of the oldest queued group be durable and visible, or leave no trace.

        A writer that is interrupted, as by Ctrl-C, leaves the others queued for the next one,
        or done, if they are durable.
        """
        group = self._next_group()
        try:
            # What an earlier group was interrupted in, or had no memory left to take back.
            self._settle()
            applied = self._apply_and_append(group)
            if applied:
                self._sync(applied)
        except Exception as error:
            for ticket in group:
                ticket.error = ticket.error or error
            # If memory is still short, the next group does it.
            with suppress(MemoryError):
                self._settle()
        except BaseException:
            self._settle()
            raise
        for ticket in group:
            ticket.done = True

    def _settle(self) -> None:
        """Show what a group has made durable, and take back what it has not."""
        self._wal.discard_pending()
        if self._syncing is not None and self._wal.synced_seq_no >= self._syncing.view.seq_no:
            self._show(self._syncing)
        self._syncing = None
        self._segment.rollback_all()

    def _apply_and_append(self, group: list[_Ticket]) -> list[_Ticket]:
        """The tickets whose batches are applied, and wait to be synced."""
        applied: list[_Ticket] = []
        for ticket in group:
            seq_no = self._seq_no + len(applied) + 1
            ticket.error = None
            try:
                if self._closed:
                    raise self._gone()
                self._prepare_again(ticket)
                _apply(self._segment, seq_no, ticket.batch)
            except Exception as error:
                ticket.error = error
                if self._segment.open_batches > len(applied):
                    raise
                continue
            try:
                self._wal.append(seq_no, ticket.body)
            except Exception as error:
                ticket.error = error
                self._segment.rollback()
                continue
            ticket.seq_no = seq_no
            applied.append(ticket)
        return applied

    def _prepare_again(self, ticket: _Ticket) -> None:
        """Let a batch fit a configuration that changed since it was queued."""
        if ticket.config is not self._segment.config:
            # A vector name may have gone, or come again as another.
            ticket.prepare(self._segment.config)

    def _sync(self, applied: list[_Ticket]) -> None:
        """Make the applied batches durable and visible."""
        # Made before, so that nothing is left that could fail once they are durable.
        self._syncing = _Syncing(self._segment.working_view(), applied)
        self._wal.sync()
        self._show(self._syncing)
        self._syncing = None

    def _show(self, synced: _Syncing) -> None:
        """Let readers and writers see what is durable; once more does no harm."""
        self._seq_no = synced.view.seq_no
        self.view = synced.view
        self._segment.end_batches()
        for ticket in synced.applied:
            ticket.error, ticket.done = None, True
        try:
            self._segment.published(synced.view)
            self._request_maintenance()
        except Exception:
            # The write is done; the next one asks again.
            logger.exception("asking for background work on %s failed", self.name)

    def _replay(self) -> None:
        for replayed, wal_record in enumerate(self._wal.replay(self._seq_no), start=1):
            _replay_one(self._segment, wal_record)
            self._seq_no = wal_record.seq_no
            if replayed % _REPLAY_RECORDS_PER_LINE == 0:
                logger.info("collection %s: replayed %d log records", self.name, replayed)

    # Background work

    def maintain(self) -> None:
        """Compact, and make a checkpoint, if it is time; for the maintenance thread.

        Raises:
            NoSpace, StorageFailed: nothing was changed; it will be tried again.
        """
        with self._checkpoint_lock:
            if self._closed:
                return
            self._maintained_after = time.monotonic() + _RETRY_AFTER_S
            compacts = self._is_sparse()
            # The graph that a new one takes the place of is held until a checkpoint has that.
            makes_room = compacts or self._checkpoints.lacks_graphs(self.view)
            if compacts:
                self._compact()
            if compacts or self._needs_checkpoint():
                self.checkpoint()
            if makes_room:
                # By itself and later: what this step still holds, and readers that ran beside it.
                self._maintenance.request(give_free_memory_back)
            self._maintained_after = 0.0
            self._request_maintenance()

    def checkpoint(self) -> None:
        """Write the newest view to files and cut the log.

        Raises:
            NoSpace, StorageFailed: the last checkpoint is still the newest.
            NotFound: the collection was deleted.
            Unavailable: the collection is closed.
        """
        with self._checkpoint_lock:
            if self._closed:
                raise self._gone()
            view, versions = self._view_with_versions()
            self._checkpoints.write(view, versions)
            with self._write_lock:
                self._wal.cut(self._checkpoints.seq_no)
            self._move_into_files(view)

    def _gone(self) -> HeadraceError:
        """Why nothing can be written any more."""
        if self._deleted:
            return collection_not_found(self.name)
        return Unavailable(f"Collection `{self.name}` is closed")

    def _view_with_versions(self) -> tuple[View, Versions]:
        """The newest view, and the versions of its rows.

        Writers change versions in place, also for batches that may still be taken back.
        """
        with self._write_lock:
            self._settle()
            return self.view, self._segment.versions.view(self.view.row_count).copy()

    def _move_into_files(self, view: View) -> None:
        """From here on, read from the checkpoint's files what is not to be in memory."""
        self._checkpoints.move_payloads()
        self._checkpoints.place_graphs(view)
        files = self._checkpoints.map_cold(view)
        with self._write_lock:
            for matrix, pieces in files:
                matrix.rebind(pieces)

    @contextmanager
    def pinned_checkpoint(self) -> Iterator[PinnedCheckpoint]:
        """A checkpoint of the newest view; its files stay until the block ends.

        Writes and further checkpoints go on meanwhile.

        Raises: as `checkpoint`.
        """
        with self._checkpoint_lock:
            self.checkpoint()
            manifest = self._checkpoints.pin()
            pinned = PinnedCheckpoint(
                self.name, manifest.config or self.config, self._directory, manifest
            )
        try:
            yield pinned
        finally:
            with self._checkpoint_lock:
                self._checkpoints.unpin(manifest)

    def keep_payload_index_up(self) -> None:
        """Take newer payloads into the payload index; for the maintenance thread."""
        view = self.view
        if self._closed:
            return
        built_rows = view.segment.payload_index.keep_up(
            view,
            is_stopped=lambda: self._closed,
            is_settled=lambda: not view.segment.payload_index.is_due(self.view),
        )
        if built_rows >= _MUCH_INDEXED_ROWS:
            give_free_memory_back()
        self._request_maintenance()

    def _request_maintenance(self) -> None:
        if self.view.segment.payload_index.is_due(self.view):
            self._maintenance.request(self.keep_payload_index_up)
        is_due = self._is_sparse() or self._needs_checkpoint()
        if is_due and time.monotonic() >= self._maintained_after:
            self._maintenance.request(self.maintain)

    def _needs_checkpoint(self) -> bool:
        is_long = self._wal.bytes_size >= _CHECKPOINT_WAL_BYTES
        view = self.view
        return (
            is_long
            or self._checkpoints.lacks_graphs(view)
            or self._checkpoints.misplaces_graphs(view)
            or holds_cold_in_memory(view)
        )

    def _is_sparse(self) -> bool:
        """Whether so many rows are dead that rewriting the others is worth it."""
        if time.monotonic() < self._compacted_after:
            return False
        view = self.view
        dead = view.row_count - view.live_count
        optimizers = self.config.optimizers_config
        asked = optimizers.get("vacuum_min_vector_number"), optimizers.get("deleted_threshold")
        at_least = _VACUUM_ROWS_MIN if asked[0] is None else asked[0]
        share = _DELETED_THRESHOLD if asked[1] is None else asked[1]
        return dead >= at_least and dead > share * view.row_count

    def _compact(self) -> None:
        """Replace the segment by one without dead rows; writes wait for the end only."""
        with self._checkpoint_lock:
            started_at = time.monotonic()
            view, versions = self._view_with_versions()
            compacted = Segment.compacted(view, versions)
            with self._write_lock:
                written_since = self._wal.replay(view.seq_no)
            seq_no = catch_up(compacted, view.seq_no, written_since)
            compacted.payload_index.take_over(view.segment.payload_index, compacted.working_view())
            with self._write_lock:
                if self._closed:
                    return
                # A group that is still to be shown would bring the old segment back.
                self._settle()
                catch_up(compacted, seq_no, self._wal.replay(seq_no))
                view = compacted.working_view()
                replaced, self._segment, self.view = self._segment, compacted, view
                self._checkpoints.forget()
                compacted.published(view)
            replaced.close()
            seconds = time.monotonic() - started_at
            self._work_log.add("vacuum", "rows of deleted points", view.row_count, seconds)
            self._compacted_after = time.monotonic() + _COMPACTION_PAUSE * seconds

    # Reading

    def retrieve(
        self,
        ids: Sequence[PointId],
        with_payload: PayloadSelection,
        with_vectors: VectorSelection,
    ) -> list[Record]:
        """Points by id, in request order, once each; missing ids are left out."""
        check_vector_selection(self.view, with_vectors)
        records = []
        for point_id in dict.fromkeys(ids):
            view, row = self.locate(point_id)
            if row != NO_ROW:
                records.append(read_record(view, row, with_payload, with_vectors))
        return records

    def scroll(self, scroll: Scroll) -> ScrollPage:
        """One page of points in id order."""
        return run_scroll(self.view, scroll)

    def scroll_pieces(self, scroll: Scroll, records_max: int) -> ScrollPieces:
        """As `scroll`, `records_max` records at a time."""
        return scroll_pieces(self.view, scroll, records_max)

    def count(self, filter: Filter | None) -> int:
        """How many points pass a filter, exactly."""
        return count_points(self.view, filter)

    def query(self, query: Query, find_view: FindView) -> list[ScoredPoint]:
        """The best points of a query, best first.

        Args:
            query: what is asked.
            find_view: where the collections of `lookup_from` are found.
        """
        return self._of_newest_view(find_view, run_query, query)

    def query_pieces(
        self, query: Query, find_view: FindView, points_max: int
    ) -> Pieces[ScoredPoint]:
        """As `query`, `points_max` points at a time."""

        def run(context: QueryContext, query: Query) -> Pieces[ScoredPoint]:
            return query_pieces(context, query, points_max)

        return self._of_newest_view(find_view, run, query)

    @property
    def payload_bytes_max(self) -> int:
        """No payload is larger, in bytes; one that was may be gone."""
        return self.view.segment.payload_bytes_max

    def is_short(self, query: Query) -> bool:
        """Whether a query certainly takes a millisecond or so at the most; see `duration`."""
        return is_short(self.view, query)

    def explain(self, query: Query, find_view: FindView) -> StagePlan:
        """How a query would be answered, and why; see `query`."""
        return self._of_newest_view(find_view, explain_query, query)

    def _of_newest_view(
        self, find_view: FindView, run: Callable[[QueryContext, Query], T], query: Query
    ) -> T:
        while True:
            view = self.view
            try:
                return run(QueryContext(self.name, view.config, view, find_view), query)
            except NotFound:
                # An example id is looked up in the newest state: see `Segment.row_in`.
                if view is self.view:
                    raise

    def groups(self, query: Query, group_by: GroupBy, find_view: FindView) -> list[PointGroup]:
        """The results of a query by payload value; see `query`."""
        view = self.view
        return run_groups(QueryContext(self.name, view.config, view, find_view), query, group_by)

    def facet(self, facet: Facet) -> list[FacetHit]:
        """The most frequent values of a field."""
        return run_facet(self.view, facet)

    def matrix(self, request: MatrixRequest, find_view: FindView) -> list[MatrixRow]:
        """The nearest neighbours within a random sample."""
        view = self.view
        return run_matrix(QueryContext(self.name, view.config, view, find_view), request)

    def locate(self, point_id: PointId) -> tuple[View, int]:
        """The newest view and the row of a point in it, or NO_ROW."""
        while True:
            view = self.view
            row = view.row_of(point_id)
            if row != NO_ROW or view is self.view:
                return view, row

    @property
    def config(self) -> CollectionConfig:
        """The newest configuration."""
        return self.view.config

    @property
    def directory(self) -> Path:
        """Where it is stored."""
        return self._directory

    @property
    def identity(self) -> Identity:
        """What tells it from any other, and from an older copy of itself."""
        generation, seq_no = self._checkpoints.generation, self._wal.synced_seq_no
        return Identity(self._wal.log_id.hex(), self._document, generation, seq_no)

    def points_count(self) -> int:
        """How many points are stored, exactly."""
        return self.view.live_count

    def indexed_vectors_count(self) -> int:
        """How many vectors of stored points are in a graph, or in postings."""
        view = self.view
        return sum(store.indexed_vectors_count(view.live) for store in view.stores.values())

    def is_optimizing(self) -> bool:
        """Whether graphs are made or dead rows taken out, or wait for it."""
        return self.is_indexing() or self._is_sparse()

    def is_indexing(self) -> bool:
        """Whether graphs are made, or wait for it."""
        stores = self.view.indexed_stores().values()
        return any(store.pending_work() is not None for store in stores)

    def index_error(self) -> str | None:
        """Why the last graph could not be made, if so; the vectors are searched exactly."""
        for name, store in self.view.indexed_stores().items():
            if store.build_error is not None:
                return f"indexing vector '{name}' failed: {store.build_error}"
        return None

    def payload_schema(self) -> dict[str, PayloadFieldSchema]:
        """The payload indexes, by payload path."""
        return dict(self.view.schema)

    def graph_builds(self) -> dict[str, GraphProgress]:
        """What is being done to graphs, or waits for it, by vector name."""
        stores = self.view.indexed_stores()
        found = {name: store.pending_work() for name, store in stores.items()}
        return {name: progress for name, progress in found.items() if progress is not None}

    def finished_work(self) -> list[FinishedWork]:
        """What was done in the background lately, since the collection was opened, newest first."""
        segment = self.view.segment
        logs = [self._work_log, segment.payload_index.work_log]
        logs.extend(store.work_log for store in segment.indexed_stores().values())
        found = [one for log in logs for one in log.finished()]
        return sorted(found, key=lambda one: one.began_at, reverse=True)

    def payload_index_builds(self) -> list[BuildProgress]:
        """What is being built of the payload index at this moment, and how far it is."""
        return self.view.segment.payload_index.progress()

    def indexed_points_count(self, payload_path: str) -> int:
        """How many points have a value that the payload index of a path takes."""
        return indexed_points_count(self.view, payload_path)

    def source_offsets(self) -> dict[SourcePartition, int]:
        """How far each source partition has been taken (next offset)."""
        return dict(self.view.source_offsets)


def _apply(segment: Segment, seq_no: int, batch: WriteBatch) -> None:
    """Apply a batch to the newest state, or leave that as it was and raise."""
    segment.begin(seq_no)
    try:
        for operation in batch.operations:
            apply_operation(segment, operation)
        for taken in batch.source_offsets:
            segment.set_source_offset(taken.partition, taken.next_offset)
    except BaseException:
        segment.rollback()
        raise


def catch_up(segment: Segment, seq_no: int, wal_records: Iterable[WalRecord]) -> int:
    """Apply log records after `seq_no`; returns the last one's seq_no."""
    for wal_record in wal_records:
        _replay_one(segment, wal_record)
        seq_no = wal_record.seq_no
    return seq_no


def _replay_one(segment: Segment, wal_record: WalRecord) -> None:
    _apply(segment, wal_record.seq_no, decode_write_batch(wal_record.body))
    segment.end_batches()
