"""Which rows got another payload between two moments?

An append-only log of rows, in stretches that know the next one. A mark holds on to the
stretch it lies in, so what lies before the oldest mark in use is freed by itself.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from headrace.model.vectors import Rows

_STRETCH_ROWS = 4096


class _Stretch:
    """A part of the log: the changes from `begin` on."""

    __slots__ = ("__weakref__", "begin", "next", "rows")

    def __init__(self, begin: int, capacity: int) -> None:
        self.begin = begin
        self.rows = np.empty(capacity, dtype=np.int64)
        self.next: _Stretch | None = None


class ChangeMark(NamedTuple):
    """A moment in the log: `position` changes lie before it."""

    position: int
    stretch: _Stretch

    def rows_until(self, later: ChangeMark) -> Rows:
        """The rows that changed between this mark and a later one, ascending, unique."""
        if later.position <= self.position:
            return np.empty(0, dtype=np.int64)
        pieces = []
        stretch: _Stretch | None = self.stretch
        while stretch is not None and stretch.begin < later.position:
            begin = max(self.position - stretch.begin, 0)
            pieces.append(stretch.rows[begin : later.position - stretch.begin])
            stretch = stretch.next
        return np.unique(np.concatenate(pieces))


class ChangeLog:
    """The log of one segment; one writer. Nothing is ever taken out of it.

    A change that is taken back is logged as another change, so a position never means two
    different states.
    """

    def __init__(self) -> None:
        self._stretch = _Stretch(0, _STRETCH_ROWS)
        self._position = 0

    def append(self, rows: Rows) -> None:
        """Log that these rows have another payload now."""
        begin = 0
        while begin < len(rows):
            room = len(self._stretch.rows) - (self._position - self._stretch.begin)
            if not room:
                following = _Stretch(self._position, max(_STRETCH_ROWS, len(rows) - begin))
                self._stretch.next = following
                self._stretch = following
                continue
            taken = rows[begin : begin + room]
            within = self._position - self._stretch.begin
            self._stretch.rows[within : within + len(taken)] = taken
            self._position += len(taken)
            begin += len(taken)

    def mark(self) -> ChangeMark:
        """This moment."""
        return ChangeMark(self._position, self._stretch)
