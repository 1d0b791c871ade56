"""Which rows have a number, or one within bounds?

Integers, floats, bools as 0 and 1, datetimes in microseconds: sorted, so that a range is
one stretch found by bisection. Bounds compare exactly, also where an integer and a float
meet.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.engine.filter.values import Bounds
from headrace.engine.payload_index.entries import (
    Entries,
    LocalRows,
    Stretches,
    all_but,
    joined,
    sort_pairs,
    unique_places,
)
from headrace.model.vectors import Rows

# Where the package was built without a C compiler, NumPy bisects.
try:
    from headrace.engine.payload_index.sorted_integers import SortedIntegers as SortedIntegers
except ImportError:
    SortedIntegers = None  # type: ignore[assignment, misc]

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1


class Numbers:
    """Sorted numbers and their rows.

    Attributes:
        values: shape (n,), int64, float64 or int8, ascending.
        entries: the row of each value.
    """

    def __init__(self, values: NDArray[Any], entries: Entries) -> None:
        self.values = values
        self.entries = entries
        self._integers: SortedIntegers | None = None
        if SortedIntegers is not None and values.dtype == np.int64:
            self._integers = SortedIntegers(values)

    @classmethod
    def of(cls, values: NDArray[Any], rows: LocalRows, row_count: int) -> Numbers:
        """Sort (value, row) pairs; a row that has a value twice counts once.

        Args:
            values, rows: shape (n,), in any order.
            row_count: rows are below this.
        """
        if values.dtype == np.float64:
            values = values + 0.0  # so that -0.0 is 0.0
        order = np.argsort(values)
        ascending = values[order]
        starts = unique_places(ascending)
        ranks = np.zeros(len(ascending), dtype=np.int64)
        ranks[starts[1:]] = 1
        ranks, sorted_rows = sort_pairs(np.cumsum(ranks), rows[order])
        return cls(ascending[starts][ranks], Entries(sorted_rows, row_count))

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.values.nbytes + self.entries.nbytes

    @cached_property
    def value_begins(self) -> Rows:
        """The entries at which a new value begins."""
        return unique_places(self.values)

    def within(self, bounds: Bounds) -> Stretches:
        """The rows with a number that keeps all bounds."""
        begin, end = self.stretch_within(bounds)
        if end <= begin:
            return Stretches(self.entries, [], [], one_value=True)
        one_value: bool = self.values.item(begin) == self.values.item(end - 1)
        return Stretches(self.entries, [begin], [end], one_value)

    def stretch_within(self, bounds: Bounds) -> tuple[int, int]:
        """The entries (begin, end) with a number that keeps all bounds."""
        gt, gte, lt, lte = bounds.gt, bounds.gte, bounds.lt, bounds.lte
        if self._integers is not None:
            return self._integers.within(gt, gte, lt, lte)
        if gt != gt or gte != gte or lt != lt or lte != lte:
            return 0, 0  # nothing compares with what is no number
        begin, end = 0, len(self.values)
        if gt is not None:
            begin = self._place(gt, after_equal=True)
        if gte is not None:
            begin = max(begin, self._place(gte, after_equal=False))
        if lt is not None:
            end = self._place(lt, after_equal=False)
        if lte is not None:
            end = min(end, self._place(lte, after_equal=True))
        return (begin, end) if begin <= end else (begin, begin)

    def equal_to(self, wanted: Iterable[int]) -> Stretches:
        """The rows with one of these numbers."""
        begins, ends = self._stretches_of(wanted)
        one_value = len(begins) < 2
        return Stretches(self.entries, *joined(begins, ends), one_value)

    def other_than(self, unwanted: Iterable[int]) -> Stretches:
        """The rows with a number that is none of these."""
        return all_but(self.entries, *joined(*self._stretches_of(unwanted)))

    def _stretches_of(self, wanted: Iterable[int]) -> tuple[list[int], list[int]]:
        numbers = sorted(set(wanted))
        if self.values.dtype == np.int64:
            numbers = [n for n in numbers if _INT64_MIN <= n <= _INT64_MAX]
        begins = np.searchsorted(self.values, np.array(numbers, dtype=self.values.dtype))
        ends = np.searchsorted(
            self.values, np.array(numbers, dtype=self.values.dtype), side="right"
        )
        held = ends > begins
        return begins[held].tolist(), ends[held].tolist()

    def _place(self, bound: float, after_equal: bool) -> int:
        """How many values lie before a bound, and with `after_equal` on it.

        NumPy would compare int64 and float64 as floats, so the bound is turned into an
        equivalent one of the values' own type.
        """
        values = self.values
        if values.dtype == np.float64:
            return self._place_among_floats(bound, after_equal)
        if type(bound) is float:
            if not math.isfinite(bound):
                return len(values) if bound > 0 else 0
            # Below or on 1.5 means up to 1; above or on it, from 2.
            whole = math.floor(bound)
            after_equal = after_equal or whole != bound
            bound = whole
        if bound > _INT64_MAX:
            return len(values)
        if bound < _INT64_MIN:
            return 0
        return int(values.searchsorted(bound, "right" if after_equal else "left"))

    def _place_among_floats(self, bound: float, after_equal: bool) -> int:
        try:
            nearest = float(bound)
        except OverflowError:
            return len(self.values) if bound > 0 else 0
        if nearest != bound:
            # The float lies beside the bound, and no other float between the two.
            after_equal = nearest < bound
        return int(self.values.searchsorted(nearest, "right" if after_equal else "left"))


class NumbersBuilder:
    """Collects numbers, a chunk of rows at a time."""

    def __init__(self, dtype: type[np.generic]) -> None:
        self._dtype = dtype
        self._values: list[NDArray[Any]] = [np.empty(0, dtype=dtype)]
        self._rows: list[LocalRows] = [np.empty(0, dtype=np.int32)]

    def add(self, rows: Sequence[int], values: Sequence[int | float]) -> None:
        """Take the values of some rows; a row may come several times."""
        self._rows.append(np.array(rows, dtype=np.int32))
        self._values.append(np.array(values, dtype=self._dtype))

    def finish(self, row_count: int) -> Numbers:
        """The part."""
        return Numbers.of(np.concatenate(self._values), np.concatenate(self._rows), row_count)


def merge_numbers(parts: Sequence[Numbers], new_rows: Sequence[Rows], row_count: int) -> Numbers:
    """One part from several.

    Args:
        parts: of one kind.
        new_rows: for each part, by row: the row in the merged part, or -1 to leave it out.
        row_count: of the merged part.
    """
    values, rows = [], []
    for part, moved in zip(parts, new_rows, strict=True):
        to = moved[part.entries.rows]
        kept = to >= 0
        values.append(part.values[kept])
        rows.append(to[kept])
    return Numbers.of(np.concatenate(values), np.concatenate(rows).astype(np.int32), row_count)
