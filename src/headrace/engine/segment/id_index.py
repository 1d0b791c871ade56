"""Which row holds a point?

A hash table of row numbers alone: which id a row has, `RowIds` knows. An id keeps its slot
for good, and names the newest row that it was given; whether that row still lives is asked
of whoever keeps the living. So deletions do not touch the table, and readers probe it while
its one writer writes. It takes 6.7 to 13.3 bytes an id.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from headrace.engine.segment.ids import NO_ROW, IdWords, RowIds, Words
from headrace.engine.vectors.arrays import zeros
from headrace.model.ids import PointId
from headrace.model.vectors import Rows

# The table doubles beyond this load: an id that is not there then costs 2.5 probes.
_LOAD_MAX = 0.6
_SLOTS_MIN = 1024

# So many ids are placed at a time, which bounds the memory that it takes.
_IDS_PER_STEP = 65_536

# Fewer ids than this go one by one, since NumPy's calls would take longer.
_IDS_AT_ONCE_MIN = 16

# The numbers of MurmurHash3's 64-bit finaliser.
_WORD = 2**64 - 1
_SHIFT = 33
_FIRST_FACTOR = 0xFF51AFD7ED558CCD
_SECOND_FACTOR = 0xC4CEB9FE1A85EC53

# Row + 1; 0 where the slot is free.
Slots = NDArray[np.int32]


class IdIndex:
    """From an id to the newest row that it was given, alive or not.

    One writer; readers may also find rows that no view shows yet.

    Args:
        row_ids: the ids of all rows that will be pointed to.
    """

    def __init__(self, row_ids: RowIds) -> None:
        self._row_ids = row_ids
        self._slots: Slots = np.zeros(_SLOTS_MIN, dtype=np.int32)
        self._used = 0
        # Nobody shall be able to choose ids that all want the same slots.
        self._seed = int.from_bytes(os.urandom(8), "little")

    def row(self, point_id: PointId) -> int:
        """The row of one id, or NO_ROW."""
        slots = self._slots
        return slots.item(self._place_of(slots, point_id)) - 1

    def rows(self, ids: Sequence[PointId]) -> Rows:
        """The rows of many ids, shape (len(ids),); NO_ROW where there is none."""
        if len(ids) < _IDS_AT_ONCE_MIN:
            return np.fromiter(map(self.row, ids), dtype=np.int64, count=len(ids))
        return self.rows_of_words(IdWords.of(ids))

    def rows_of_words(self, ids: IdWords) -> Rows:
        """As `rows`."""
        slots = self._slots
        last = np.uint64(len(slots) - 1)
        rows = np.full(len(ids.low), NO_ROW, dtype=np.int64)
        asked, step = np.arange(len(rows)), 0
        places = self._hashes(ids) & last
        while len(asked):
            found = slots[places].astype(np.int64) - 1
            taken = np.flatnonzero(found != NO_ROW)
            asked, places, found = asked[taken], places[taken], found[taken]
            is_same = self._row_ids.are_named(found, ids.at(asked))
            rows[asked[is_same]] = found[is_same]
            step += 1
            asked, places = asked[~is_same], places[~is_same] + np.uint64(step) & last
        return rows

    def point_to(self, ids: Sequence[PointId], rows: Rows) -> None:
        """Let distinct ids name rows, which have these ids in `RowIds` already."""
        self._reserve(len(ids))
        if len(ids) < _IDS_AT_ONCE_MIN:
            for point_id, row in zip(ids, rows.tolist(), strict=True):
                place = self._place_of(self._slots, point_id)
                self._used += not self._slots.item(place)
                self._slots[place] = row + 1
        else:
            self._used += self._place_into(self._slots, rows)

    def load(self, rows: Rows) -> None:
        """Know exactly the ids of these rows; of an empty index."""
        self._reserve(len(rows))
        self._used = self._place_into(self._slots, rows)

    def _reserve(self, more: int) -> None:
        """Make room for that many further ids."""
        slots_count = len(self._slots)
        while self._used + more > _LOAD_MAX * slots_count:
            slots_count *= 2
        if slots_count > len(self._slots):
            grown = zeros(slots_count, np.int32)
            # The rows first, so that the old table and the new one are all that it takes.
            for begin in range(0, len(self._slots), _IDS_PER_STEP):
                stretch = self._slots[begin : begin + _IDS_PER_STEP]
                self._place_into(grown, stretch[stretch > 0].astype(np.int64) - 1)
            self._slots = grown

    def _place_of(self, slots: Slots, point_id: PointId) -> int:
        """The slot of an id, or the free one where it belongs."""
        is_uuid = isinstance(point_id, UUID)
        number = point_id.int if isinstance(point_id, UUID) else point_id
        low, high = number & _WORD, number >> 64
        last, step = len(slots) - 1, 0
        place = self._hash(low, high, is_uuid) & last
        while (row := slots.item(place) - 1) != NO_ROW:
            if self._row_ids.is_named(row, low, high, is_uuid):
                break
            step += 1
            place = place + step & last
        return place

    def _place_into(self, slots: Slots, rows: Rows) -> int:
        """Put rows into the slots of their ids; returns how many slots were free before."""
        used = 0
        for begin in range(0, len(rows), _IDS_PER_STEP):
            used += self._place_step_into(slots, rows[begin : begin + _IDS_PER_STEP])
        return used

    def _place_step_into(self, slots: Slots, rows: Rows) -> int:
        used, step = 0, 0
        last = np.uint64(len(slots) - 1)
        ids = self._row_ids.words(rows)
        places = self._hashes(ids) & last
        while len(rows):
            found = slots[places].astype(np.int64) - 1
            is_free = found == NO_ROW
            is_mine = is_free.copy()
            taken = np.flatnonzero(~is_free)
            is_mine[taken] = self._row_ids.are_named(found[taken], ids.at(taken))
            slots[places[is_mine]] = rows[is_mine] + 1
            # Of several that want one free slot the last gets it, and the others go on.
            is_settled = slots[places] == rows + 1
            used += int(np.count_nonzero(is_free & is_settled))
            step += 1
            rows, ids = rows[~is_settled], ids.at(~is_settled)
            places = places[~is_settled] + np.uint64(step) & last
        return used

    def _hash(self, low: int, high: int, is_uuid: bool) -> int:
        return _mixed(_mixed(high + is_uuid & _WORD ^ self._seed) ^ low)

    def _hashes(self, ids: IdWords) -> Words:
        """As `_hash`, shape (n,)."""
        words = ids.high + ids.is_uuid
        words ^= np.uint64(self._seed)
        _mix_into(words)
        words ^= ids.low
        _mix_into(words)
        return words


def _mixed(word: int) -> int:
    """MurmurHash3's 64-bit finaliser."""
    word = (word ^ word >> _SHIFT) * _FIRST_FACTOR & _WORD
    word = (word ^ word >> _SHIFT) * _SECOND_FACTOR & _WORD
    return word ^ word >> _SHIFT


def _mix_into(words: Words) -> None:
    """As `_mixed`."""
    for factor in (_FIRST_FACTOR, _SECOND_FACTOR):
        words ^= words >> np.uint64(_SHIFT)
        words *= np.uint64(factor)
    words ^= words >> np.uint64(_SHIFT)
