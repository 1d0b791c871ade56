"""How does the payload index of a collection keep up with its payloads?

It follows the views it is shown: new rows and changed payloads become small runs, runs of
like size are merged, and the parts that the collection's payload indexes are stay built.
Parts of other fields are built when a filter first needs them, and kept within a bound of
memory while they are used. Readers take the runs of the moment and never wait for a writer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import msgspec
import numpy as np

from headrace.engine.payload_index.build import Part
from headrace.engine.payload_index.changes import ChangeMark
from headrace.engine.payload_index.conditions import demanded_parts
from headrace.engine.payload_index.coverage import NO_ROWS, CoveredRun, IndexedView, IndexState
from headrace.engine.payload_index.merge import merge_parts
from headrace.engine.payload_index.part_key import PartKey, elements_keys
from headrace.engine.payload_index.run import Run
from headrace.engine.payload_index.transient_memory import TransientColumn, TransientMemory
from headrace.engine.work_log import WorkLog
from headrace.model.collection_config import PayloadFieldSchema
from headrace.model.vectors import Rows

Schema = Mapping[str, PayloadFieldSchema]

# Up to this many unknown rows are evaluated one by one, at a few microseconds each; more
# become a run first, which costs some hundred microseconds.
_UNKNOWN_ROWS_MAX = 96

# A query merges runs up to this size itself, in about a millisecond, so that runs stay few
# also where nothing runs in the background, as while a log is replayed.
_FOREGROUND_ROWS_MAX = 4096

# The background takes note of new rows when there are this many.
_BACKGROUND_ROWS_MIN = 1024

# The log of changes is let go of when it is this long, if no part is wanted.
_BACKGROUND_CHANGES_MAX = 65_536

# A part that no payload index demands is not carried along when unused for this long.
_UNUSED_MAX_S = 600.0


class BuildProgress(NamedTuple):
    """Parts that are being built.

    Attributes:
        keys: which.
        rows_done, rows_total: how many payloads were read, of how many.
    """

    keys: tuple[PartKey, ...]
    rows_done: int
    rows_total: int

    @property
    def payload_paths(self) -> list[str]:
        """The paths that they are about, as they are counted from a point."""
        return sorted({".".join((*key.space, key.path)) for key in self.keys})


class _Stopped(Exception):
    """A build that nobody waits for any more."""


class Coverage(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What the index knows of one view.

    Attributes:
        runs: that together speak for all rows of the view but the unknown ones.
        unknown: the live rows that no run speaks for, ascending.
    """

    runs: tuple[CoveredRun, ...]
    unknown: Rows


class PayloadIndex:
    """The payload index of one segment; thread-safe.

    Args:
        start: the moment before any payload.
        memory: bounds what parts may take that no payload index demands.
    """

    def __init__(self, start: ChangeMark, memory: TransientMemory) -> None:
        self._state = IndexState(start, 0, [], ())
        self._memory = memory
        self._lock = threading.Lock()
        self._merging = threading.Lock()
        self._used_at: dict[PartKey, float] = {}
        self._progress: dict[Run, BuildProgress] = {}
        self._last_demanded: tuple[Schema, set[PartKey]] = ({}, set())
        # What could not be built, so that it is not tried again after each write.
        self._not_buildable: set[PartKey] | None = None
        self.work_log = WorkLog()
        memory.add(self)

    # Reading

    def coverage(self, view: IndexedView) -> Coverage:
        """The runs for a view; many unknown rows become a run first."""
        state = self._state
        if not state.pending_count(view):
            return Coverage(state.runs, NO_ROWS)
        unknown = state.unknown_rows(view)
        if len(unknown) > _UNKNOWN_ROWS_MAX and state.is_behind(view):
            state = self._advance(view)
            unknown = state.unknown_rows(view)
        if len(unknown) > _UNKNOWN_ROWS_MAX:
            # The view is older than the runs; what it shows differently is a run for it alone.
            others = [covered.without(unknown) for covered in state.runs]
            own = CoveredRun(Run(unknown, view.payloads), None)
            return Coverage((*others, own), unknown[:0])
        return Coverage(state.runs, unknown)

    def sole_run(self, view: IndexedView) -> Run | None:
        """The run that speaks for all rows of a view, and for these alone, if there is one."""
        state = self._state
        runs, row_count = state.runs, view.row_count
        if (
            len(runs) == 1
            and state.row_count == row_count
            and state.changes.position == view.changes.position
        ):
            run, superseded = runs[0]
            if superseded is None and run.is_whole(row_count):
                return run
        return None

    def require(
        self, run: Run, keys: Collection[PartKey], schema: Schema
    ) -> Mapping[PartKey, Part]:
        """The parts of a run, built now if they are missing.

        Args:
            run: one of a coverage.
            keys: which parts.
            schema: the payload indexes of the view.
        """
        now, parts, is_missing = time.monotonic(), run.parts, False
        for key in keys:
            self._used_at[key] = now
            is_missing = is_missing or key not in parts
        if not is_missing:
            return parts
        self._demanded(schema)
        parts = self._build(run, keys)
        leading = [elements for key in keys for elements in elements_keys(key.space)]
        self._memory.keep_within_bound(self, {*keys, *leading})
        return parts

    def progress(self) -> list[BuildProgress]:
        """What is being built at this moment."""
        return list(self._progress.values())

    # Keeping up

    def is_due(self, view: IndexedView) -> bool:
        """Whether `keep_up` has something to do; cheap."""
        state = self._state
        demanded = self._demanded(view.schema)
        is_missing = any(key not in covered.run.parts for covered in state.runs for key in demanded)
        if is_missing and demanded is not self._not_buildable:
            return True
        if demanded or state.runs:
            return state.pending_count(view) >= _BACKGROUND_ROWS_MIN
        return view.changes.position - state.changes.position >= _BACKGROUND_CHANGES_MAX

    def keep_up(
        self,
        view: IndexedView,
        is_stopped: Callable[[], bool] = lambda: False,
        is_settled: Callable[[], bool] = lambda: True,
    ) -> int:
        """Take in a view, build what its payload indexes demand, merge; for the background.

        Args:
            view: the newest.
            is_stopped: asked now and then; if so, it returns before it is done.
            is_settled: whether few writes came meanwhile; then all runs become one.

        Returns:
            Of how many rows parts were built, not counting small runs that were merged at once.
        """
        built_rows = 0
        demanded = self._demanded(view.schema)
        kept = demanded | self._recently_used()
        if not kept:
            self._start_anew(view)
            return built_rows
        self._not_buildable = demanded
        try:
            for covered in self._advance(view).runs:
                if any(key not in covered.run.parts for key in demanded):
                    built_rows += covered.row_count
                    self._build(covered.run, demanded, is_stopped)
            while not is_stopped() and self._merge(IndexState.due_for_merge, kept):
                pass
            if not is_stopped() and is_settled():
                self._merge(IndexState.all_if_several, kept)
        except _Stopped:
            self._not_buildable = None
            return built_rows
        self._not_buildable = None
        self.forget(set(self._parts_bytes()) - kept)
        return built_rows

    def take_over(self, old: PayloadIndex, view: IndexedView) -> None:
        """Build the parts that another segment's index has, for one that takes its place."""
        self._used_at.update(old._used_at)
        self.work_log.take_over(old.work_log)
        parts = set(old._parts_bytes()) | self._demanded(view.schema)
        if parts:
            for covered in self._advance(view).runs:
                self._build(covered.run, parts)

    def _demanded(self, schema: Schema) -> set[PartKey]:
        """`demanded_parts` of the schema, which is nearly always that of the last call."""
        last_schema, parts = self._last_demanded
        if schema != last_schema:
            parts = demanded_parts(schema)
            self._last_demanded = (schema, parts)
        return parts

    def _advance(self, view: IndexedView) -> IndexState:
        """Make what the view shows beyond the runs a run."""
        with self._lock:
            if self._state.is_behind(view):
                self._state = self._state.advanced(view)
        self._merge(_due_in_foreground, None, waits=False)
        return self._state

    def _start_anew(self, view: IndexedView) -> None:
        """Give back everything: no part is wanted any more."""
        with self._lock:
            self._used_at.clear()
            self._state = IndexState(view.changes, 0, [], ())

    def _merge(
        self,
        choose: Callable[[IndexState], list[CoveredRun]],
        keys: Collection[PartKey] | None,
        waits: bool = True,
    ) -> bool:
        """Make one run of several; whether there were any to merge.

        Args:
            choose: which of a state's runs.
            keys: parts to carry along, of those that the largest run has; None is all.
            waits: whether to wait for a merge that is going on, or to leave it at that.
        """
        if not self._merging.acquire(blocking=waits):
            return False
        try:
            state = self._state
            sources = choose(state)
            if not sources:
                return False
            merged = self._merged(state, sources, keys)
            with self._lock:
                if self._state.row_count < state.row_count:
                    return False  # it was started anew meanwhile
                self._state = self._state.with_merged(state, sources, merged)
            return True
        finally:
            self._merging.release()

    def _merged(
        self, state: IndexState, sources: list[CoveredRun], keys: Collection[PartKey] | None
    ) -> Run:
        largest = max(sources, key=lambda covered: covered.row_count)
        carried = [key for key in largest.run.parts if keys is None or key in keys]
        carried = [key for key in carried if all(k in carried for k in elements_keys(key.space))]
        rows, new_rows = _merged_rows(sources)
        parts = [self._build(covered.run, carried) for covered in sources]
        return Run(rows, state.table, merge_parts(carried, parts, new_rows, len(rows)))

    def _build(
        self,
        run: Run,
        keys: Collection[PartKey],
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> Mapping[PartKey, Part]:
        began = time.monotonic()

        def tell(rows_done: int) -> None:
            if is_stopped():
                raise _Stopped
            self._progress[run] = BuildProgress(tuple(keys), rows_done, run.row_count)

        try:
            parts = run.require(keys, tell)
        finally:
            progress = self._progress.pop(run, None)
        if progress is not None:
            paths = ", ".join(progress.payload_paths)
            self.work_log.add("payload_index", paths, run.row_count, time.monotonic() - began)
        return parts

    # Memory

    def _parts_bytes(self) -> dict[PartKey, int]:
        """The parts that exist, and the memory of each in all runs."""
        sizes: dict[PartKey, int] = {}
        for covered in self._state.runs:
            for key, part in covered.run.parts.items():
                sizes[key] = sizes.get(key, 0) + part.nbytes
        return sizes

    def _recently_used(self) -> set[PartKey]:
        oldest = time.monotonic() - _UNUSED_MAX_S
        used = {key for key, last in self._used_at.copy().items() if last >= oldest}
        return used.union(*(elements_keys(key.space) for key in used))

    def transient_columns(self) -> list[TransientColumn]:
        """The parts that no payload index demands, by the schema that was seen last."""
        _, demanded = self._last_demanded
        return [
            TransientColumn(key, self._used_at.get(key, 0.0), nbytes)
            for key, nbytes in self._parts_bytes().items()
            if key not in demanded
        ]

    def forget(self, keys: set[PartKey]) -> None:
        """Give back the memory of parts, with what is inside the elements among them."""
        if not keys:
            return
        for covered in self._state.runs:
            inner = [
                key
                for key in covered.run.parts
                if any(outer in keys for outer in elements_keys(key.space))
            ]
            covered.run.forget(keys.union(inner))
        for key in keys:
            self._used_at.pop(key, None)


def _due_in_foreground(state: IndexState) -> list[CoveredRun]:
    return state.due_for_merge(_FOREGROUND_ROWS_MAX)


def _merged_rows(sources: list[CoveredRun]) -> tuple[Rows, list[Rows]]:
    """The rows that runs speak for, ascending, and for each run where its rows go, or -1."""
    kept = []
    for covered in sources:
        rows = covered.run.rows
        kept.append(rows if covered.superseded is None else rows[~covered.superseded])
    order = np.argsort(np.concatenate(kept))
    places = np.empty(len(order), dtype=np.int64)
    places[order] = np.arange(len(order))
    new_rows = []
    begin = 0
    for covered, rows in zip(sources, kept, strict=True):
        moved = np.full(covered.run.row_count, -1, dtype=np.int64)
        speaks = slice(None) if covered.superseded is None else ~covered.superseded
        moved[speaks] = places[begin : begin + len(rows)]
        new_rows.append(moved)
        begin += len(rows)
    return np.concatenate(kept)[order], new_rows
