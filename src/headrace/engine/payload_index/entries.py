"""Which rows stand behind a stretch of sorted values?

The entries of a part are (value, row) pairs, sorted by value, then row, each once. A
condition selects stretches of them; each value's own stretch has ascending rows. The way
back, from a row to its entries, is made when candidates are to be tested.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.engine.vectors.row_set import FEW_SHARE, RowSet
from headrace.model.vectors import Mask, Rows

# Rows inside a part: half the memory of int64, and no run has more.
LocalRows = NDArray[np.int32]

NO_ENTRY = -1

# Where the package was built without a C compiler, NumPy does it in four times the time.
are_between: Callable[[LocalRows, int, int], Mask] | None
bits_between: Callable[[LocalRows, int, int], NDArray[np.uint8]] | None
try:
    from headrace.engine.payload_index.sorted_integers import are_between, bits_between
except ImportError:
    are_between = bits_between = None


class Entries:
    """The rows of sorted entries.

    Args:
        rows: shape (n,): the row of each entry.
        row_count: rows are below this.
    """

    def __init__(self, rows: LocalRows, row_count: int) -> None:
        self.rows = rows
        self.row_count = row_count

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def nbytes(self) -> int:
        """Bytes of memory, the way back included whether made or not."""
        return self.rows.nbytes * 2 + 4 * self.row_count

    @cached_property
    def _order(self) -> LocalRows:
        """The places of the entries in the order of their rows."""
        return np.argsort(self.rows, kind="stable").astype(np.int32)

    @cached_property
    def _bounds(self) -> LocalRows:
        """The entries of row i are `_order[_bounds[i] : _bounds[i + 1]]`."""
        bounds = np.zeros(self.row_count + 1, dtype=np.int32)
        np.cumsum(np.bincount(self.rows, minlength=self.row_count), out=bounds[1:])
        return bounds

    @cached_property
    def is_single(self) -> bool:
        """Whether no row has more than one entry."""
        return len(self.rows) < 2 or int(np.bincount(self.rows).max()) == 1

    @cached_property
    def _entry_of_row(self) -> LocalRows:
        """Where no row has two: its entry, or NO_ENTRY."""
        entry = np.full(self.row_count, NO_ENTRY, dtype=np.int32)
        entry[self.rows] = np.arange(len(self.rows), dtype=np.int32)
        return entry

    def rows_between(self, begin: int, end: int) -> RowSet:
        """The rows that have one of these entries, which are many; if `is_single`."""
        if bits_between is not None:
            bits = bits_between(self._entry_of_row, begin, end)
            return RowSet.of_bits(bits, self.row_count, end - begin)
        return RowSet.of_mask(_are_between(self._entry_of_row, begin, end), end - begin)

    def are_between(self, rows: Rows, begin: int, end: int) -> Mask:
        """shape (len(rows),): which of these have one of those entries; if `is_single`."""
        return _are_between(self._entry_of_row[rows], begin, end)

    def of_rows(self, rows: Rows) -> tuple[Rows, Rows]:
        """The entries of some rows.

        Returns:
            (places, entries): entry `entries[i]` belongs to `rows[places[i]]`.
        """
        if self.is_single:
            entries = self._entry_of_row[rows]
            places = np.flatnonzero(entries != NO_ENTRY)
            return places, entries[places].astype(np.int64)
        begins, ends = self._bounds[rows], self._bounds[rows + 1]
        places, within = expand(begins, ends - begins)
        return places, self._order[within].astype(np.int64)

    def row_mask(self) -> Mask:
        """shape (row_count,): which rows have an entry."""
        mask = np.zeros(self.row_count, dtype=np.bool_)
        mask[self.rows] = True
        return mask


class Stretches:
    """A find: the rows of some stretches of entries.

    Args:
        entries: the part's.
        begins, ends: of each stretch, ascending, not overlapping.
        one_value: whether there is one stretch at most, of a single value.
    """

    is_slow = False

    def __init__(
        self,
        entries: Entries,
        begins: Sequence[int],
        ends: Sequence[int],
        one_value: bool = False,
    ) -> None:
        self._entries = entries
        self._begins = begins
        self._ends = ends
        self._one_value = one_value
        self.at_most = ends[0] - begins[0] if len(ends) == 1 else sum(ends) - sum(begins)

    @property
    def exact_count(self) -> int | None:
        """How many rows, where that needs no look at them."""
        is_known = not self._begins or self._one_value or self._entries.is_single
        return self.at_most if is_known else None

    def row_set(self) -> RowSet:
        """See `Found`."""
        entries = self._entries
        if self.at_most > entries.row_count * FEW_SHARE:
            if len(self._begins) == 1 and entries.is_single:
                return entries.rows_between(self._begins[0], self._ends[0])
            mask = np.zeros(entries.row_count, dtype=np.bool_)
            for begin, end in zip(self._begins, self._ends, strict=True):
                mask[entries.rows[begin:end]] = True
            return RowSet.of_mask(mask)
        if len(self._begins) == 1:
            rows = entries.rows[self._begins[0] : self._ends[0]]
        else:
            pieces = [
                entries.rows[begin:end] for begin, end in zip(self._begins, self._ends, strict=True)
            ]
            rows = np.concatenate((*pieces, entries.rows[:0]))
        if not self._one_value and len(rows) > 1:
            # Narrow numbers are sorted in little more than half the time.
            rows = rows.copy()
            rows.sort()
            if not entries.is_single:
                rows = rows[unique_places(rows)]
        return RowSet(entries.row_count, len(rows), rows.astype(np.int64))

    def holds(self, rows: Rows) -> Mask:
        """See `Found`."""
        if len(self._begins) == 1 and self._entries.is_single:
            return self._entries.are_between(rows, self._begins[0], self._ends[0])
        places, entries = self._entries.of_rows(rows)
        if len(self._begins) == 1:
            inside = (entries >= self._begins[0]) & (entries < self._ends[0])
        elif self._begins:
            stretch = np.searchsorted(self._begins, entries, side="right") - 1
            inside = (stretch >= 0) & (entries < np.asarray(self._ends)[stretch])
        else:
            inside = np.zeros(len(entries), dtype=np.bool_)
        held = np.zeros(len(rows), dtype=np.bool_)
        held[places[inside]] = True
        return held


def _are_between(entries: LocalRows, begin: int, end: int) -> Mask:
    """Which are from `begin` on, below `end`; NO_ENTRY is not."""
    if are_between is not None:
        return are_between(entries, begin, end)
    # One comparison for both bounds: what lies before `begin` wraps around.
    distance = (entries - np.int32(begin)).view(np.uint32)
    return distance < np.uint32(end - begin)


def all_but(entries: Entries, begins: Sequence[int], ends: Sequence[int]) -> Stretches:
    """The entries outside of some ascending stretches."""
    return Stretches(entries, [0, *ends], [*begins, len(entries)])


def joined(begins: Sequence[int], ends: Sequence[int]) -> tuple[list[int], list[int]]:
    """Ascending stretches, with those that touch made one."""
    joined_begins: list[int] = []
    joined_ends: list[int] = []
    for begin, end in zip(begins, ends, strict=True):
        if joined_ends and joined_ends[-1] == begin:
            joined_ends[-1] = end
        else:
            joined_begins.append(begin)
            joined_ends.append(end)
    return joined_begins, joined_ends


def unique_places(ascending: NDArray[Any]) -> Rows:
    """The places at which a new value begins."""
    if not len(ascending):
        return np.empty(0, dtype=np.int64)
    begins = np.ones(len(ascending), dtype=np.bool_)
    np.not_equal(ascending[1:], ascending[:-1], out=begins[1:])
    return np.flatnonzero(begins)


def expand(begins: NDArray[Any], counts: NDArray[Any]) -> tuple[Rows, Rows]:
    """All places of stretches.

    Args:
        begins: shape (n,): where each stretch begins.
        counts: shape (n,): how long it is.

    Returns:
        (stretches, places): place `places[i]` lies in stretch `stretches[i]`.
    """
    counts = counts.astype(np.int64)
    stretches = np.repeat(np.arange(len(counts)), counts)
    shifts = begins - (np.cumsum(counts) - counts)
    return stretches, np.arange(len(stretches)) + shifts[stretches]


def sort_pairs(codes: NDArray[Any], rows: LocalRows) -> tuple[Rows, LocalRows]:
    """(code, row) pairs sorted by code, then row, each once.

    Args:
        codes: shape (n,), integers from 0 to 2**32 - 1.
        rows: shape (n,).
    """
    # One sort of 64-bit numbers is several times faster than a sort by two keys.
    pairs = codes.astype(np.uint64) << np.uint64(32) | rows.astype(np.uint64)
    pairs.sort()
    pairs = pairs[unique_places(pairs)]
    return (pairs >> np.uint64(32)).astype(np.int64), pairs.astype(np.uint32).astype(np.int32)
