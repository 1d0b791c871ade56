"""Which runs cover the rows of a view, and which rows does none of them know?

Runs are exact for one moment. A view of another moment has rows whose payloads changed in
between, or that are newer: for those the runs do not count, the evaluator does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from headrace.engine.payload.store import PayloadTable
from headrace.engine.payload_index.changes import ChangeMark
from headrace.engine.payload_index.run import Run
from headrace.engine.vectors.row_set import RowSet
from headrace.model.collection_config import PayloadFieldSchema
from headrace.model.vectors import Mask, Rows

# Two runs are merged when the larger has less than this many times the rows of the
# smaller: each row is then merged a logarithmic number of times, and runs stay few.
_MERGE_RATIO = 4


NO_ROWS = np.empty(0, dtype=np.int64)


class IndexedView(Protocol):
    """What the payload index knows of a view."""

    @property
    def row_count(self) -> int:
        """Rows below this exist."""

    @property
    def live(self) -> Mask:
        """shape (row_count,): which rows hold a point."""

    @property
    def schema(self) -> Mapping[str, PayloadFieldSchema]:
        """The payload indexes, by payload path."""

    @property
    def payloads(self) -> PayloadTable:
        """The payloads by row."""

    @property
    def changes(self) -> ChangeMark:
        """Which changes of payloads it shows."""


class CoveredRun(NamedTuple):
    """A run, and which of its rows have another payload since.

    Attributes:
        superseded: shape (run.row_count,); None if there are none.
    """

    run: Run
    superseded: Mask | None

    @property
    def row_count(self) -> int:
        """How many rows it speaks for."""
        if self.superseded is None:
            return self.run.row_count
        return self.run.row_count - int(np.count_nonzero(self.superseded))

    def without(self, changed: Rows) -> CoveredRun:
        """The same run, not speaking for these rows of the collection any more."""
        inner = self.run.inner_rows(changed)
        if not len(inner):
            return self
        if self.superseded is None:
            superseded = np.zeros(self.run.row_count, dtype=np.bool_)
        else:
            superseded = self.superseded.copy()
        superseded[inner] = True
        return CoveredRun(self.run, superseded)

    def places_of(self, outer: Rows) -> tuple[Rows, Rows]:
        """As `Run.places_of`, of the rows that the run speaks for."""
        places, rows = self.run.places_of(outer)
        if self.superseded is None:
            return places, rows
        speaks = ~self.superseded[rows]
        return places[speaks], rows[speaks]

    def inner_set(self, outer: RowSet) -> RowSet:
        """A set of the collection's rows, of those this run speaks for, as the run's rows."""
        if outer.is_few:
            return RowSet.of_rows(self.places_of(outer.rows)[1], self.run.row_count)
        mask = self.run.inner_mask(outer.mask)
        if self.superseded is not None:
            mask = mask & ~self.superseded
        return RowSet.of_mask(mask)

    def outer_set(self, inner: RowSet, outer_count: int) -> RowSet:
        """A set of the run's rows, of those it speaks for, as the collection's rows."""
        if self.superseded is not None:
            inner = inner - RowSet.of_mask(self.superseded)
        return self.run.outer_set(inner, outer_count)


class IndexState(NamedTuple):
    """The runs, exact for one moment; immutable.

    Attributes:
        changes, row_count: the moment.
        table: the payloads of that moment.
        runs: each row below `row_count` is spoken for by one of them.
    """

    changes: ChangeMark
    row_count: int
    table: PayloadTable
    runs: tuple[CoveredRun, ...]

    def pending_count(self, view: IndexedView) -> int:
        """How many changes and new rows of a view the runs do not know, roughly."""
        newer = view.row_count - self.row_count
        changed = view.changes.position - self.changes.position
        return (newer if newer > 0 else 0) + (changed if changed > 0 else -changed)

    def unknown_rows(self, view: IndexedView) -> Rows:
        """The live rows of a view that the runs do not speak for, ascending."""
        if not self.pending_count(view):
            return NO_ROWS
        earlier, later = sorted((self.changes, view.changes), key=lambda mark: mark.position)
        changed = earlier.rows_until(later)
        known_count = min(self.row_count, view.row_count)
        rows = np.concatenate(
            (
                changed[: int(np.searchsorted(changed, known_count))],
                np.arange(self.row_count, view.row_count),
            )
        )
        live: Rows = rows[view.live[rows]]
        return live

    def is_behind(self, view: IndexedView) -> bool:
        """Whether a view shows later changes or rows than the runs."""
        if not self.row_count:
            return view.row_count > 0
        return (
            view.row_count >= self.row_count
            and view.changes.position >= self.changes.position
            and self.pending_count(view) > 0
        )

    def advanced(self, view: IndexedView) -> IndexState:
        """The state of a later view: what is unknown becomes a run of its own."""
        changed = self.changes.rows_until(view.changes)
        changed = changed[: int(np.searchsorted(changed, self.row_count))]
        rows = np.concatenate((changed, np.arange(self.row_count, view.row_count)))
        older = [covered.without(changed) for covered in self.runs]
        runs = [covered for covered in older if covered.row_count]
        if len(rows):
            runs.append(CoveredRun(Run(rows, view.payloads), None))
        return IndexState(view.changes, view.row_count, view.payloads, tuple(runs))

    def with_merged(self, base: IndexState, sources: Sequence[CoveredRun], run: Run) -> IndexState:
        """The state with a run in the place of those it was merged from.

        Args:
            base: the state, this or an earlier one, that `sources` are of.
            sources: what was merged.
            run: of the rows they speak for in `base`.
        """
        merged = CoveredRun(run, None).without(base.changes.rows_until(self.changes))
        replaced = [covered.run for covered in sources]
        kept = [covered for covered in self.runs if covered.run not in replaced]
        return self._replace(runs=(*kept, merged))

    def all_if_several(self) -> list[CoveredRun]:
        """All runs, if there are two or more."""
        return list(self.runs) if len(self.runs) > 1 else []

    def due_for_merge(self, row_count_max: int | None = None) -> list[CoveredRun]:
        """The runs that should become one; none if fewer than two.

        Args:
            row_count_max: runs with more rows are left alone.
        """
        by_size = sorted(self.runs, key=lambda covered: covered.row_count)
        if row_count_max is not None:
            by_size = [covered for covered in by_size if covered.row_count <= row_count_max]
        total, taken = 0, 0
        for place, covered in enumerate(by_size):
            if covered.row_count < _MERGE_RATIO * total:
                taken = place + 1
            total += covered.row_count
        return by_size[:taken]
