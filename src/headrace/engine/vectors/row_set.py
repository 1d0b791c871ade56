"""Which rows, whether they are few or many?

Few rows are a sorted list, many are one mask, of bytes or of bits; each is made from another
when it is asked for. The count is exact.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from headrace.model.vectors import Mask, Rows

# Below this share of all rows a list is the cheaper form: testing a listed row in a mask
# takes about as long as combining 16 bytes of two masks.
FEW_SHARE = 1 / 16


class RowSet:
    """A set of rows below `row_count`; immutable.

    Attributes:
        row_count: rows are below this.
        count: how many rows are in the set.
    """

    __slots__ = ("_mask", "_packed", "_rows", "count", "row_count")

    def __init__(
        self, row_count: int, count: int, rows: Rows | None = None, mask: Mask | None = None
    ) -> None:
        self.row_count = row_count
        self.count = count
        self._rows = rows
        self._mask = mask
        self._packed: NDArray[np.uint8] | None = None

    @classmethod
    def of_rows(cls, rows: Rows, row_count: int) -> RowSet:
        """The set of the given rows: shape (n,), int64, ascending, unique."""
        return cls(row_count, len(rows), rows)

    @classmethod
    def of_mask(cls, mask: Mask, count: int | None = None) -> RowSet:
        """The set of the rows where `mask` is True; shape (row_count,), not changed later."""
        if count is None:
            count = int(np.count_nonzero(mask))
        return cls(len(mask), count, mask=mask)

    @classmethod
    def of_bits(cls, packed: NDArray[np.uint8], row_count: int, count: int) -> RowSet:
        """The set of the rows whose bits are set, the lowest of a byte first.

        Args:
            packed: shape ((row_count + 7) // 8,), not changed later.
            row_count: rows are below this; bits behind them are 0.
            count: how many bits are set.
        """
        rows = cls(row_count, count)
        rows._packed = packed
        return rows

    @classmethod
    def none(cls, row_count: int) -> RowSet:
        """The empty set."""
        return cls(row_count, 0, rows=np.empty(0, dtype=np.int64))

    @classmethod
    def all(cls, row_count: int) -> RowSet:
        """Every row; takes no memory until it is changed into a list."""
        return cls(row_count, row_count, mask=np.broadcast_to(np.True_, row_count))

    @classmethod
    def union(cls, sets: Iterable[RowSet], row_count: int) -> RowSet:
        """The rows of any of several sets, which are looked at one after the other."""
        listed: list[Rows] = []
        room = row_count * FEW_SHARE
        sets = iter(sets)
        for one in sets:
            room -= one.count
            if room < 0:
                mask = np.zeros(row_count, dtype=np.bool_)
                for rows in listed:
                    mask[rows] = True
                for other in chain((one,), sets):
                    other._add_into(mask)
                return cls.of_mask(mask)
            if one.count:
                listed.append(one.rows)
        if len(listed) < 2:
            return cls.of_rows(listed[0], row_count) if listed else cls.none(row_count)
        return cls.of_rows(np.unique(np.concatenate(listed)), row_count)

    @property
    def rows(self) -> Rows:
        """The rows, shape (count,), int64, ascending; not to be changed."""
        if self._rows is None:
            self._rows = np.flatnonzero(self.mask)
        return self._rows

    @property
    def mask(self) -> Mask:
        """shape (row_count,): which rows are in the set; not to be changed."""
        if self._mask is None:
            if self._rows is None:
                assert self._packed is not None
                unpacked = np.unpackbits(self._packed, count=self.row_count, bitorder="little")
                self._mask = unpacked.view(np.bool_)
            else:
                mask = np.zeros(self.row_count, dtype=np.bool_)
                mask[self._rows] = True
                self._mask = mask
        return self._mask

    @property
    def packed(self) -> NDArray[np.uint8]:
        """The mask as bits, the lowest of a byte first; not to be changed."""
        if self._packed is None:
            self._packed = np.packbits(self.mask, bitorder="little")
        return self._packed

    @property
    def is_listed(self) -> bool:
        """Whether the rows are at hand as a list."""
        return self._rows is not None

    @property
    def is_few(self) -> bool:
        """Whether a list is the cheaper form of the set."""
        return self.count <= self.row_count * FEW_SHARE

    def contains(self, rows: Rows) -> Mask:
        """Which of the given rows are in the set, shape (len(rows),)."""
        if self._rows is None or self._mask is not None or len(rows) > self.row_count * FEW_SHARE:
            inside: Mask = self.mask[rows]
            return inside
        if not self.count:
            return np.zeros(len(rows), dtype=np.bool_)
        places = np.searchsorted(self._rows, rows)
        places[places == self.count] = 0
        found: Mask = self._rows[places] == rows
        return found

    def keep(self, kept: Mask) -> RowSet:
        """The rows for which `kept`, shape (count,) in the order of `rows`, is True."""
        return RowSet.of_rows(self.rows[kept], self.row_count)

    def having(self, mask: Mask) -> RowSet:
        """The rows of the set for which `mask`, shape (row_count,), is True."""
        if self._rows is not None and self.is_few:
            return self.keep(mask[self._rows])
        return RowSet.of_mask(self.mask & mask)

    def __and__(self, other: RowSet) -> RowSet:
        few, many = (self, other) if self.count <= other.count else (other, self)
        if few.is_few:
            return few.keep(many.contains(few.rows))
        return RowSet.of_mask(few.mask & many.mask)

    def __or__(self, other: RowSet) -> RowSet:
        few, many = (self, other) if self.count <= other.count else (other, self)
        if not few.count:
            return many
        if self.count + other.count <= self.row_count * FEW_SHARE:
            return RowSet.of_rows(np.union1d(few.rows, many.rows), self.row_count)
        mask = many.mask.copy()
        few._add_into(mask)
        return RowSet.of_mask(mask)

    def __sub__(self, other: RowSet) -> RowSet:
        if not self.count or not other.count:
            return self
        if self.is_few:
            return self.keep(~other.contains(self.rows))
        if other.is_few:
            mask = self.mask.copy()
            mask[other.rows] = False
            return RowSet.of_mask(mask)
        return RowSet.of_mask(self.mask & ~other.mask)

    def _add_into(self, mask: Mask) -> None:
        """Mark the rows of the set in a mask."""
        if self.is_few:
            mask[self.rows] = True
        else:
            mask |= self.mask

    def complement(self) -> RowSet:
        """The rows that are not in the set."""
        return RowSet.of_mask(~self.mask, self.row_count - self.count)
