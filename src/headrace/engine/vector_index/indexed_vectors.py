"""How is one vector name searched while it grows, is indexed and is merged?

Rows are covered by sealed ranges, in order, and behind them by a growing tail that is
scanned, by codes where it is long. The ranges are an immutable tuple: a search takes it
once, a finished build puts another in its place. Rows never change, so both give right
answers. Whoever puts another tuple in its place holds a lock, and starts from the newest.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from headrace.engine.background import give_free_memory_back
from headrace.engine.vector_index.builder import IndexBuilder
from headrace.engine.vector_index.codes import ByteCodes
from headrace.engine.vector_index.graph import (
    Abandoned,
    Graph,
    NodeKind,
    extended,
    is_replaced,
    new_graph,
    resumed,
    with_codes,
)
from headrace.engine.vector_index.pace import Pace
from headrace.engine.vector_index.quantizers import new_codes, padded
from headrace.engine.vector_index.sealed_range import SealedRange
from headrace.engine.vector_index.settings import IndexSettings
from headrace.engine.vector_index.tail_codes import TailCodes, tail_candidates
from headrace.engine.vector_index.tiers import BuildPlan, RangeSize, plan_build, tail_min
from headrace.engine.vectors.arrays import Allocate
from headrace.engine.vectors.base import Candidates
from headrace.engine.vectors.dense import DenseVectors
from headrace.engine.vectors.distances import normalised, top_k
from headrace.engine.vectors.elements import is_compared_by_angle
from headrace.engine.vectors.row_set import RowSet
from headrace.engine.work_log import WorkLog
from headrace.model.collection_config import CollectionConfig, VectorParams
from headrace.model.queries import DEFAULT_SEARCH_PARAMS, SearchParams
from headrace.model.vectors import (
    Distance,
    FloatMatrix,
    FloatVector,
    Mask,
    Rows,
    SparseVector,
    Vector,
)

# Enough to see the box of the vectors and to judge 8-bit codes.
_SAMPLE_ROWS = 16_384

# Among added rows, above this share that the codes of a graph cannot express, the graph
# is made anew with codes that can.
_MISPLACED_SHARE_MAX = 0.02

# A vector of a smaller squared length is not normalised: `distances.normalised`.
_LENGTH_SQUARED_MIN = float(np.finfo(np.float32).eps)
_LENGTH_MIN = math.sqrt(_LENGTH_SQUARED_MIN)

# Linking so many leaves with the allocator as much free memory as their graph takes; giving it
# back holds up whoever asks the allocator for memory, so that is not done after each step.
_MUCH_LINKED = 65_536

# How often, at most, writes look for ranges that have too many deleted rows.
_WEAR_CHECK_SECONDS = 1.0


class GraphProgress(msgspec.Struct, frozen=True):
    """How far the index of a vector name is.

    Attributes:
        vectors_linked: by the running step.
        vectors_to_link: by it in all; 0 while it waits for its turn.
        reason: why it is done.
    """

    vectors_linked: int
    vectors_to_link: int
    reason: str


class IndexedVectors(DenseVectors):
    """Dense vectors with graphs over all rows but the newest.

    One writer writes and calls `published`; the builder's thread calls `build_next`; any
    thread searches.

    Args:
        params: of the vector name.
        config: of the collection.
        builder: of the engine.
        begin: the first row that may have a vector.
        scratch: as for `BlockMatrix`.
    """

    def __init__(
        self,
        params: VectorParams,
        config: CollectionConfig,
        builder: IndexBuilder,
        begin: int = 0,
        scratch: Allocate | None = None,
    ) -> None:
        super().__init__(params, begin, scratch)
        self.settings = IndexSettings.from_config(params, config)
        self._builder = builder
        self._ranges: tuple[SealedRange, ...] = ()
        self._changing_ranges = threading.Lock()
        self._live: Mask = np.empty(0, dtype=np.bool_)
        self._closing = threading.Event()
        self._building = threading.Lock()
        self._progress: GraphProgress | None = None
        self._build_error: Exception | None = None
        self._wear_checked_at = 0.0
        self._pace = Pace()
        self._tail_codes: TailCodes | None = None
        self.work_log = WorkLog()

    # Searching

    def nearest(
        self,
        query: Vector,
        allowed: Mask | RowSet,
        k: int,
        params: SearchParams = DEFAULT_SEARCH_PARAMS,
    ) -> Candidates:
        """See `VectorStore.nearest`; nearly always the nearest, unless `params.exact`.

        Args:
            query, k: as there.
            allowed: the rows that may be returned, of those present, of a view; as a mask
                or, better, as a set that knows its rows or its count.
            params: `exact` scans all rows, `hnsw_ef` widens the walks, `indexed_only`
                leaves the tail out if it is large enough to get a graph.
        """
        assert not isinstance(query, SparseVector)
        ranges = self._ranges
        row_set = allowed if isinstance(allowed, RowSet) else RowSet.of_mask(allowed)
        if params.exact or not ranges:
            return super().nearest(query, row_set.mask, k)
        # One component nearly always tells that a query is not so short.
        if self._distance is Distance.COSINE and abs(query.item(0)) < _LENGTH_MIN:
            length_squared = float(query.dot(query))
            if 0 < length_squared < _LENGTH_SQUARED_MIN:
                # Left as it is by Qdrant's rule; what is nearest does not depend on its length.
                length = np.float32(math.sqrt(length_squared))
                found_by = self.nearest(query / length, row_set, k, params)
                return Candidates(found_by.rows, found_by.similarities * length)
        settings, nearest_among, distance = self.settings, self.nearest_among, self._distance
        first = ranges[0]
        if len(ranges) == 1 and row_set.row_count <= first.row_end:  # as mostly
            return first.nearest(query, row_set, k, settings, nearest_among, params, distance)
        found = [
            sealed.nearest(query, row_set, k, settings, nearest_among, params, distance)
            for sealed in ranges
        ]
        tail_rows = row_set.row_count - ranges[-1].row_end
        if tail_rows > 0 and not (params.indexed_only and self._is_large(tail_rows)):
            found += self._nearest_in_tail(ranges[-1], query, row_set.mask, k)
        return found[0] if len(found) == 1 else _merged(found, k)

    def _nearest_in_tail(
        self, last: SealedRange, query: FloatVector, allowed: Mask, k: int
    ) -> list[Candidates]:
        """The nearest among the rows behind the last range, in one or two parts."""
        tail_begin = last.row_end
        present = self.present(len(allowed))
        in_tail = allowed[tail_begin:] & present[tail_begin:]
        codes = self._tail_codes_behind(last)
        wanted = tail_candidates(int(np.count_nonzero(in_tail)), len(in_tail), k)
        if codes is not None and wanted is not None:
            named = codes.candidates(query, wanted, k, tail_begin, in_tail, present, self._vectors)
            if named is not None:
                rows, coded_end = named
                found = [self.nearest_among(query, rows, k)]
                if coded_end < len(allowed):
                    found.append(self.nearest_from(coded_end, query, allowed, k))
                return found
        return [self.nearest_from(tail_begin, query, allowed, k)]

    def compares_tail_codes(self, allowed_count: int, tail_rows: int, k: int) -> bool:
        """Whether the rows behind the ranges are compared by codes, unless these cannot tell.

        Args:
            allowed_count: how many of them may be returned.
            tail_rows: how many there are.
            k: how many are wanted.
        """
        ranges = self._ranges
        has_codes = bool(ranges) and self._tail_box(ranges[-1]) is not None
        return has_codes and tail_candidates(allowed_count, tail_rows, k) is not None

    def _tail_codes_behind(self, last: SealedRange) -> TailCodes | None:
        """Where the codes of the rows behind the last range are; None if they have none."""
        box = self._tail_box(last)
        if box is None:
            return None
        codes = self._tail_codes
        if codes is None or codes.box is not box:
            is_angle = self._distance is Distance.COSINE
            codes = TailCodes(box, last.row_end, _LENGTH_SQUARED_MIN if is_angle else 0.0)
            self._tail_codes = codes
        return codes

    def _tail_box(self, last: SealedRange) -> ByteCodes | None:
        """What the codes of rows behind a range can express; None if they have none."""
        graph = last.graph
        if graph is None or graph.node_scan is None or graph.options.quantization is not None:
            return None
        # Vectors of other types are not compared as they are stored.
        return graph.codes if self._vectors.dtype is np.float32 else None

    def makes_sketches(self, allowed: RowSet, k: int, params: SearchParams) -> bool:
        """Whether a search has to make the sketches of a graph first, which takes a while.

        Args:
            allowed, k, params: as for `nearest`.
        """
        return any(
            sealed.makes_sketches(allowed, self.dim, k, self.settings, params)
            for sealed in self._ranges
        )

    def scanned_rows_max(self, row_count: int, params: SearchParams) -> int:
        """No more rows than this are compared one by one, but for those that a filter leaves."""
        if params.exact or not self._ranges:
            return row_count
        return row_count - self._ranges[-1].row_end

    # Building

    @property
    def ranges(self) -> tuple[SealedRange, ...]:
        """The sealed ranges, in row order, without gaps from row 0 on."""
        return self._ranges

    def adopt_ranges(self, ranges: Sequence[SealedRange]) -> None:
        """Take ranges that were stored; before the first search, after the rows are loaded."""
        assert not self._ranges
        self._ranges = tuple(ranges)

    def replace_range(self, old: SealedRange, new: SealedRange) -> None:
        """Put a range that shows the same in the place of another, if that is still there."""
        with self._changing_ranges:
            self._ranges = tuple(new if sealed is old else sealed for sealed in self._ranges)

    def take_settings(self, settings: IndexSettings) -> None:
        """Follow other options: by and by, but for `m` = 0, which means no graph at once."""
        with self._changing_ranges:
            self.settings = settings
            if not settings.m:
                self._ranges = ()
                self._tail_codes = None

    def adopt_renumbered(self, old: IndexedVectors, kept_rows: Rows) -> None:
        """Take over the graphs of a store whose dead rows were left out of this one.

        Args:
            old: the store that this one replaces.
            kept_rows: ascending: `kept_rows[i]` of `old` is row i here.
        """
        self.adopt_ranges([sealed.renumbered(kept_rows) for sealed in old.ranges])
        self.work_log.take_over(old.work_log)

    def published(self, live: Mask) -> None:
        """Have the builder look, if that may be worth it; the writer calls it.

        Args:
            live: shape (row_count,), of a view that readers have: never changed again.
        """
        last = self._ranges[-1] if self._ranges else None
        tail_begin = 0 if last is None else last.row_end
        # Of those that were loaded, what has a graph was not written now.
        written = max(0, len(live) - max(len(self._live), tail_begin))
        self._live = live
        box = None if last is None else self._tail_box(last)
        scanned_bytes_per_row = self.dim * 4 if box is None else box.code_dim
        self._pace.note_write(
            written * self.dim * 4, (len(live) - tail_begin) * scanned_bytes_per_row
        )
        if self.settings.rows_min is None or self._closing.is_set():
            return
        enough = tail_min(bool(self._ranges), self.settings.rows_min)
        is_enough = len(live) - tail_begin >= enough
        if not is_enough and not self._has_outdated() and not self._is_wear_check_due():
            return
        plan = self._plan(self._ranges, live, self.settings)
        if plan is not None and self._progress is None:
            self._progress = GraphProgress(0, 0, plan.reason)
            self._builder.submit(self)

    def pending_work(self) -> GraphProgress | None:
        """What is being built or waits for it; None if nothing is."""
        return self._progress

    @property
    def build_error(self) -> Exception | None:
        """Why the last step failed, if it did."""
        return self._build_error

    def indexed_vectors_count(self, live: Mask) -> int:
        """How many vectors of live rows are in sealed ranges."""
        return sum(sealed.live_count(live) for sealed in self._ranges)

    def indexed_only_excluded_count(self, live: Mask) -> int:
        """How many vectors of live rows a search with `indexed_only` leaves out."""
        if not self._ranges:
            return 0
        tail_begin = self._ranges[-1].row_end
        if not self._is_large(len(live) - tail_begin):
            return 0
        return int(np.count_nonzero(self._indexable(live, tail_begin, len(live))))

    def give_up(self) -> None:
        """Have no more built, and the running build end soon."""
        self._closing.set()
        self._progress = None

    def close(self) -> None:
        """Give up the running build, and wait until it no longer reads the vectors."""
        self.give_up()
        with self._building:
            self._progress = None

    def build_next(self, is_stopped: Callable[[], bool]) -> bool:
        """See `Buildable.build_next`."""
        with self._building:
            # Whoever publishes from here on and finds more to do asks the builder again.
            self._progress = None
            # A change of the settings meanwhile is for the next step.
            ranges, live, settings = self._ranges, self._live, self.settings
            plan = None if self._closing.is_set() else self._plan(ranges, live, settings)
            if plan is None:
                return False
            self._progress = GraphProgress(0, 0, plan.reason)
            began = time.monotonic()
            row_begin = _first_row(plan, ranges)

            def is_closing() -> bool:
                return is_stopped() or self._closing.is_set()

            def is_given_up() -> bool:
                return self._pace.give_way(is_closing) or (
                    plan.takes_tail and self._is_outgrown(row_begin, len(live))
                )

            try:
                made = self._build(plan, ranges, live, settings, is_given_up)
            except Abandoned:
                if is_closing():
                    self._progress = None
                    return False
                self._progress = GraphProgress(0, 0, plan.reason)
                return True
            self._build_error = None
            self._put_in_place(made, plan, len(ranges))
            kind = "merge" if plan.end > plan.first else "indexing"
            self.work_log.add(kind, plan.reason, made.vector_count, time.monotonic() - began)
            done = self.pending_work()
            if done is not None and done.vectors_to_link >= _MUCH_LINKED:
                give_free_memory_back()
            return True

    def _is_outgrown(self, row_begin: int, row_end: int) -> bool:
        """Whether a burst has left so many rows behind these that all are better linked anew.

        Args:
            row_begin, row_end: the rows of the running step.
        """
        progress = self._progress
        is_young = progress is None or 2 * progress.vectors_linked <= progress.vectors_to_link
        has_doubled = len(self._live) - row_begin >= 2 * (row_end - row_begin)
        return is_young and has_doubled and self._pace.is_quiet()

    def _put_in_place(self, made: SealedRange, plan: BuildPlan, planned_count: int) -> None:
        """Let a range that was made take the place of those that were planned for it."""
        with self._changing_ranges:
            # Only one thread builds: other ranges were replaced one by one since, or all
            # forgotten.
            ranges = self._ranges
            if self.settings.m and len(ranges) == planned_count:
                self._ranges = (*ranges[: plan.first], made, *ranges[plan.end :])
        codes = self._tail_codes
        if codes is not None:
            codes.forget_before(self._ranges[-1].row_end if self._ranges else 0)

    def build_failed(self, error: Exception) -> None:
        """See `Buildable.build_failed`."""
        self._build_error = error
        self._progress = None

    def _plan(
        self, ranges: Sequence[SealedRange], live: Mask, settings: IndexSettings
    ) -> BuildPlan | None:
        if settings.rows_min is None:
            return None
        tail_begin = ranges[-1].row_end if ranges else 0
        tail = live[tail_begin:] & self.present(len(live))[tail_begin:]
        sizes = [
            RangeSize(sealed.vector_count, sealed.live_count(live), _is_outdated(sealed, settings))
            for sealed in ranges
        ]
        return plan_build(
            sizes,
            int(np.count_nonzero(tail)),
            settings.rows_min,
            settings.deleted_share_max,
        )

    def _build(
        self,
        plan: BuildPlan,
        ranges: Sequence[SealedRange],
        live: Mask,
        settings: IndexSettings,
        is_stopped: Callable[[], bool],
    ) -> SealedRange:
        """The range that takes the place of the planned ones."""
        row_begin = _first_row(plan, ranges)
        row_end = len(live) if plan.takes_tail else ranges[plan.end - 1].row_end
        base = ranges[plan.first] if plan.extends else None
        if base is not None and not self._can_extend(base):
            base = None
        added_begin = row_begin if base is None else base.row_end
        added, loose = self._split(np.flatnonzero(self._indexable(live, added_begin, row_end)))
        sample = self._sample(added)
        if base is not None and not self._fits(base.graph, sample):
            base = None
            added, loose = self._split(np.flatnonzero(self._indexable(live, row_begin, row_end)))
            sample = self._sample(added)
        graph = None if base is None else base.graph
        if len(added):
            before = added[:0] if base is None else base.graph_rows
            graph = self._linked(graph, before, added, sample, settings, plan.reason, is_stopped)
        if base is not None:
            added = np.concatenate((base.graph_rows, added))
            loose = np.concatenate((base.loose_rows, loose))
        return SealedRange(row_begin, row_end, added, loose, graph)

    def _linked(
        self,
        base: Graph | None,
        base_rows: Rows,
        rows: Rows,
        sample_rows: Rows,
        settings: IndexSettings,
        reason: str,
        is_stopped: Callable[[], bool],
    ) -> Graph:
        """The base graph, or an empty one, with these rows as further nodes."""
        codes = None
        if base is None or base.kind is NodeKind.QUANTISED:
            sample = self._compared(sample_rows)
            empty = new_graph(sample, self._distance, settings)
            quantization = settings.quantization
            if base is not None:
                codes = base.copied_storage()
                empty = resumed(
                    empty, base, lambda begin, end: self._compared(base_rows[begin:end])
                )
            elif quantization and is_replaced(self.dim, self._distance, settings):
                codes = new_codes(sample, quantization, self._distance)
            base = empty

        def report(linked: int) -> None:
            self._progress = GraphProgress(linked, len(rows), reason)

        report(0)
        linked = extended(
            base,
            len(rows),
            lambda begin, end: self._compared(rows[begin:end]),
            lambda: self._pace.threads(settings.build_threads),
            is_stopped,
            report,
        )
        if codes is None:
            return linked
        for begin in range(0, len(rows), _SAMPLE_ROWS):
            values = self._compared(rows[begin : begin + _SAMPLE_ROWS])
            codes.add(padded(values, codes.d))
        return with_codes(linked, codes)

    def _has_outdated(self) -> bool:
        return any(_is_outdated(sealed, self.settings) for sealed in self._ranges)

    def _can_extend(self, sealed: SealedRange) -> bool:
        """Whether the nodes' vectors are at hand, where the graph alone does not have them."""
        graph = sealed.graph
        return graph is None or graph.kind is not NodeKind.QUANTISED or not sealed.has_gone_nodes

    def _indexable(self, live: Mask, begin: int, end: int) -> Mask:
        """shape (end,): the live rows from `begin` on that have a vector."""
        wanted = live[:end] & self.present(end)
        wanted[:begin] = False
        return wanted

    def _split(self, rows: Rows) -> tuple[Rows, Rows]:
        """The rows for the graph, and those that have no direction to be near to."""
        if self._distance is not Distance.COSINE:
            return rows, rows[:0]
        has_length = np.ones(len(rows), dtype=np.bool_)
        for begin in range(0, len(rows), _SAMPLE_ROWS):
            values = self._compared(rows[begin : begin + _SAMPLE_ROWS])
            lengths_squared = np.einsum("ij,ij->i", values, values)
            has_length[begin : begin + _SAMPLE_ROWS] = lengths_squared >= _LENGTH_SQUARED_MIN
        return rows[has_length], rows[~has_length]

    def _sample(self, rows: Rows) -> Rows:
        """Some of the rows, ascending, the same for the same rows."""
        if len(rows) <= _SAMPLE_ROWS:
            return rows
        chosen = np.random.default_rng(len(rows)).choice(len(rows), _SAMPLE_ROWS, replace=False)
        return rows[np.sort(chosen)]

    def _fits(self, graph: Graph | None, sample_rows: Rows) -> bool:
        """Whether a graph's codes can express the vectors of these rows."""
        if graph is None:
            return False
        if not len(sample_rows):
            return True
        misplaced = graph.misplaces(self._compared(sample_rows))
        return float(misplaced.mean()) <= _MISPLACED_SHARE_MAX

    def _compared(self, rows: Rows) -> FloatMatrix:
        """The vectors of these ascending rows as a graph compares them."""
        values = self._vectors.gather(rows)
        if is_compared_by_angle(self._distance, self._vectors.dtype):
            return normalised(values)
        return values

    def _is_large(self, rows: int) -> bool:
        return self.settings.rows_min is not None and rows >= self.settings.rows_min

    def _is_wear_check_due(self) -> bool:
        now = time.monotonic()
        if not self._ranges or now - self._wear_checked_at < _WEAR_CHECK_SECONDS:
            return False
        self._wear_checked_at = now
        return True


def _first_row(plan: BuildPlan, ranges: Sequence[SealedRange]) -> int:
    """Where the range that a step makes begins."""
    if plan.first < len(ranges):
        return ranges[plan.first].row_begin
    return ranges[-1].row_end if ranges else 0


def _is_outdated(sealed: SealedRange, settings: IndexSettings) -> bool:
    """Whether its graph was made with other options than these."""
    return sealed.graph is not None and sealed.graph.options != settings.graph_options


def _merged(found: Sequence[Candidates], k: int) -> Candidates:
    rows = np.concatenate([candidates.rows for candidates in found])
    similarities = np.concatenate([candidates.similarities for candidates in found])
    best = top_k(similarities, min(k, len(rows)))
    return Candidates(rows[best], similarities[best])
