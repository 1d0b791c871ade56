"""What has a condition found, before it is known how much of it is needed?

A find knows an upper bound of its rows at once. It can give all of them, or only say which
of some candidates it holds: conditions are taken in the order of their bounds, and once
few candidates are left the rest of the conditions look at those alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from headrace.engine.vectors.row_set import RowSet
from headrace.model.vectors import Mask, Rows

# Testing a candidate costs about as much as making this many rows of a whole answer.
_CANDIDATE_COST = 4


class Found(Protocol):
    """The rows of one run, or elements of one space, that satisfy a condition."""

    @property
    def at_most(self) -> int:
        """No more rows than this; costs next to nothing."""

    @property
    def is_slow(self) -> bool:
        """Whether payloads must be read, row by row."""

    def row_set(self) -> RowSet:
        """All of them."""

    def holds(self, rows: Rows) -> Mask:
        """Which of these ascending rows are among them, shape (len(rows),)."""


class Exactly:
    """Rows that are known already."""

    is_slow = False

    def __init__(self, rows: RowSet) -> None:
        self._rows = rows
        self.at_most = rows.count

    def row_set(self) -> RowSet:
        """See `Found`."""
        return self._rows

    def holds(self, rows: Rows) -> Mask:
        """See `Found`."""
        return self._rows.contains(rows)


class ByMask:
    """Rows by a mask that is at hand, not counted yet."""

    is_slow = False

    def __init__(self, mask: Mask) -> None:
        self._mask = mask
        self.at_most = len(mask)

    def row_set(self) -> RowSet:
        """See `Found`."""
        return RowSet.of_mask(self._mask)

    def holds(self, rows: Rows) -> Mask:
        """See `Found`."""
        inside: Mask = self._mask[rows]
        return inside


class ByTest:
    """Rows that only a slow test of each can tell."""

    is_slow = True

    def __init__(self, row_count: int, test: Callable[[Rows], Mask]) -> None:
        self.at_most = row_count
        self._test = test

    def row_set(self) -> RowSet:
        """See `Found`."""
        rows = np.arange(self.at_most, dtype=np.int64)
        return RowSet.of_rows(rows[self._test(rows)], self.at_most)

    def holds(self, rows: Rows) -> Mask:
        """See `Found`."""
        return self._test(rows)


class Not:
    """The rows that another find does not hold."""

    def __init__(self, found: Found, row_count: int) -> None:
        self._found = found
        self.is_slow = found.is_slow
        self.at_most = row_count

    def row_set(self) -> RowSet:
        """See `Found`."""
        return self._found.row_set().complement()

    def holds(self, rows: Rows) -> Mask:
        """See `Found`."""
        return ~self._found.holds(rows)


class AllOf:
    """The rows that every one of several finds holds, the most selective taken first."""

    def __init__(self, found: Sequence[Found]) -> None:
        self._found = sorted(found, key=_order)
        self.at_most = self._found[0].at_most
        self.is_slow = any(one.is_slow for one in found)

    def row_set(self) -> RowSet:
        """See `Found`."""
        rows = self._found[0].row_set()
        for found in self._found[1:]:
            if not rows.count:
                break
            if found.is_slow or rows.count * _CANDIDATE_COST < found.at_most:
                rows = rows.keep(found.holds(rows.rows))
            else:
                rows = rows & found.row_set()
        return rows

    def holds(self, rows: Rows) -> Mask:
        """See `Found`."""
        held = self._found[0].holds(rows)
        for found in self._found[1:]:
            places = np.flatnonzero(held)
            held[places] = found.holds(rows[places])
        return held


class AnyOf:
    """The rows that at least one of several finds holds."""

    def __init__(self, found: Sequence[Found], row_count: int) -> None:
        self._found = sorted(found, key=_order)
        self._row_count = row_count
        self.at_most = min(row_count, sum(one.at_most for one in found))
        self.is_slow = any(one.is_slow for one in found)

    def row_set(self) -> RowSet:
        """See `Found`."""
        fast = (found.row_set() for found in self._found if not found.is_slow)
        rows = RowSet.union(fast, self._row_count)
        for found in self._found:
            if found.is_slow:
                others = rows.complement()
                rows = rows | others.keep(found.holds(others.rows))
        return rows

    def holds(self, rows: Rows) -> Mask:
        """See `Found`."""
        held = np.zeros(len(rows), dtype=np.bool_)
        for found in self._found:
            places = np.flatnonzero(~held)
            held[places] = found.holds(rows[places])
        return held


class AtLeast:
    """The rows that a number of several finds hold."""

    def __init__(self, found: Sequence[Found], min_count: int, row_count: int) -> None:
        self._found = found
        self._min_count = min_count
        self._row_count = row_count
        self.at_most = min(row_count, sum(one.at_most for one in found) // max(min_count, 1))
        self.is_slow = any(one.is_slow for one in found)

    def row_set(self) -> RowSet:
        """See `Found`."""
        held = np.zeros(self._row_count, dtype=np.int32)
        for found in self._found:
            held[found.row_set().rows] += 1
        return RowSet.of_mask(held >= self._min_count)

    def holds(self, rows: Rows) -> Mask:
        """See `Found`."""
        held = np.zeros(len(rows), dtype=np.int32)
        for found in self._found:
            held += found.holds(rows)
        return held >= self._min_count


def _order(found: Found) -> tuple[bool, int]:
    return found.is_slow, found.at_most
