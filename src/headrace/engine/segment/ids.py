"""Which row holds the newest version of a point?

Ids are exact: numbers are uint64, UUIDs 16 bytes. Both ways are flat arrays: row to id by
row; id to row as a large sorted part and a small dictionary of what changed since, which
is folded into it when it has grown. That takes 8 + 8 bytes a point for numbers, 16 + 8
for UUIDs, and 17 bytes a row for the way back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from headrace.engine.filter.slice_hashes import number_hashes, uuid_hashes
from headrace.engine.vectors.arrays import GrowingArray
from headrace.engine.vectors.stored import StoredArray
from headrace.model.ids import PointId
from headrace.model.vectors import Mask, Rows

NO_ROW = -1

# The dictionary is folded when it passes this, or a quarter of the sorted part: folding
# costs a pass over the sorted part, so its cost per change stays constant.
_CHANGES_MIN = 65_536
_CHANGES_SHARE = 4


class SortedIds(NamedTuple):
    """Sorted ids of one kind and their rows."""

    ids: NDArray[np.generic]
    rows: Rows


class _State(NamedTuple):
    """What a reader takes at once, so that a fold never shows it half."""

    numbers: SortedIds
    uuids: SortedIds
    changes: dict[PointId, int]


class RowIds:
    """The id of each row; one writer."""

    def __init__(self) -> None:
        self._low: GrowingArray[np.uint64] = GrowingArray(np.uint64)
        self._high: GrowingArray[np.uint64] = GrowingArray(np.uint64)
        self._is_uuid: GrowingArray[np.bool_] = GrowingArray(np.bool_)
        self._slice_hashes = np.empty(0, dtype=np.uint64)

    def stored_arrays(self) -> dict[str, StoredArray]:
        """The arrays that a checkpoint keeps, by name."""
        return {
            "low": StoredArray(self._low),
            "high": StoredArray(self._high),
            "is_uuid": StoredArray(self._is_uuid),
        }

    def sorted_ids(self, rows: Rows) -> tuple[SortedIds, SortedIds]:
        """The ids of these rows, numbers and UUIDs apart, each sorted, with their rows."""
        end = int(rows.max(initial=-1)) + 1
        ordered = self.in_id_order(rows)
        is_uuid = self._is_uuid.view(end)[ordered]
        numbers, uuids = ordered[~is_uuid], ordered[is_uuid]
        high, low = self._high.view(end)[uuids], self._low.view(end)[uuids]
        words = np.stack((high, low), axis=1).astype(">u8")
        return (
            SortedIds(self._low.view(end)[numbers], numbers),
            SortedIds(np.frombuffer(words.tobytes(), dtype="S16"), uuids),
        )

    def rows_of(self, ids: Sequence[PointId], row_count: int) -> Rows:
        """All rows below `row_count`, old ones too, that were named by one of these ids."""
        numbers = np.array([i for i in ids if not isinstance(i, UUID)], dtype=np.uint64)
        halves = [divmod(i.int, 2**64) for i in ids if isinstance(i, UUID)]
        low, is_uuid = self._low.view(row_count), self._is_uuid.view(row_count)
        named = np.isin(low, numbers) & ~is_uuid
        for high_half, low_half in halves:
            named |= is_uuid & (low == low_half) & (self._high.view(row_count) == high_half)
        return np.flatnonzero(named)

    def slice_hashes(self, row_count: int) -> NDArray[np.uint64]:
        """The hashes by which slices are made, shape (row_count,); kept once made."""
        known = self._slice_hashes
        if len(known) < row_count:
            new = slice(len(known), row_count)
            low, high = self._low.view(row_count)[new], self._high.view(row_count)[new]
            is_uuid = self._is_uuid.view(row_count)[new]
            hashes = number_hashes(low)
            hashes[is_uuid] = uuid_hashes(high[is_uuid], low[is_uuid])
            known = self._slice_hashes = np.concatenate((known, hashes))
        return known[:row_count]

    def write(self, row_begin: int, ids: Sequence[PointId]) -> None:
        """Name the rows from `row_begin` on."""
        end = row_begin + len(ids)
        for array in (self._low, self._high, self._is_uuid):
            array.reserve(end)
        if any(isinstance(point_id, UUID) for point_id in ids):
            for row, point_id in enumerate(ids, start=row_begin):
                self._write_one(row, point_id)
        else:
            self._low.buffer[row_begin:end] = np.array(ids, dtype=np.uint64)

    def get(self, row: int) -> PointId:
        """The id of one row."""
        low = int(self._low.view(row + 1)[row])
        if not self._is_uuid.view(row + 1)[row]:
            return low
        return UUID(int=int(self._high.view(row + 1)[row]) << 64 | low)

    def get_many(self, rows: Rows) -> list[PointId]:
        """The ids of many rows, all of which have one."""
        if not np.count_nonzero(self._is_uuid.buffer[rows]):
            return list(self._low.buffer[rows].tolist())
        return [self.get(row) for row in rows.tolist()]

    def in_id_order(self, rows: Rows) -> Rows:
        """The rows sorted by their ids: numbers ascending, then UUIDs by their bytes."""
        end = int(rows.max(initial=-1)) + 1
        is_uuid = self._is_uuid.view(end)[rows]
        numbers, uuids = rows[~is_uuid], rows[is_uuid]
        low, high = self._low.view(end), self._high.view(end)
        return np.concatenate(
            (
                numbers[np.argsort(low[numbers], kind="stable")],
                uuids[np.lexsort((low[uuids], high[uuids]))],
            )
        )

    def _write_one(self, row: int, point_id: PointId) -> None:
        if isinstance(point_id, UUID):
            self._low.buffer[row] = point_id.int & (2**64 - 1)
            self._high.buffer[row] = point_id.int >> 64
            self._is_uuid.buffer[row] = True
        else:
            self._low.buffer[row] = point_id


class IdIndex:
    """From id to row: the writer's newest state, with what is needed to take it back."""

    def __init__(self) -> None:
        self._state = _State(
            SortedIds(np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64)),
            SortedIds(np.empty(0, dtype="S16"), np.empty(0, dtype=np.int64)),
            {},
        )

    def row(self, point_id: PointId) -> int:
        """The row of one id, or NO_ROW."""
        row = self._state.changes.get(point_id)
        return int(self.rows([point_id])[0]) if row is None else row

    def rows(self, ids: Sequence[PointId]) -> Rows:
        """The rows of many ids, shape (len(ids),); NO_ROW where there is none."""
        state = self._state
        unknown = NO_ROW - 1
        get = state.changes.get
        rows = np.fromiter((get(i, unknown) for i in ids), dtype=np.int64, count=len(ids))
        asked = np.flatnonzero(rows == unknown).tolist()
        numbers = [place for place in asked if not isinstance(ids[place], UUID)]
        uuids = [place for place in asked if isinstance(ids[place], UUID)]
        rows[numbers] = _find(state.numbers, np.array([ids[p] for p in numbers], dtype=np.uint64))
        rows[uuids] = _find(state.uuids, _uuid_bytes(ids[place] for place in uuids))
        return rows

    def set(self, ids: Sequence[PointId], rows: Sequence[int]) -> None:
        """Point ids to rows; NO_ROW forgets an id."""
        self._state.changes.update(zip(ids, rows, strict=True))

    def load(self, row_ids: RowIds, rows: Rows) -> None:
        """Know exactly the ids of these rows."""
        self._state = _State(*row_ids.sorted_ids(rows), {})

    def fold_if_grown(self) -> None:
        """Fold the changes when they have grown; for the writer, between writes."""
        state = self._state
        sorted_count = len(state.numbers.ids) + len(state.uuids.ids)
        if len(state.changes) > max(_CHANGES_MIN, sorted_count // _CHANGES_SHARE):
            self.fold()

    def fold(self) -> None:
        """Move all changes into the sorted parts; readers keep the state they took."""
        state = self._state
        if not state.changes:
            return
        numbers = {i: row for i, row in state.changes.items() if not isinstance(i, UUID)}
        uuids = {i.bytes: row for i, row in state.changes.items() if isinstance(i, UUID)}
        self._state = _State(
            _merge(state.numbers, np.fromiter(numbers, np.uint64, len(numbers)), numbers.values()),
            _merge(state.uuids, np.array(list(uuids), dtype="S16"), uuids.values()),
            {},
        )


def _find(part: SortedIds, ids: NDArray[np.generic]) -> Rows:
    """The row of each id in a sorted part, or NO_ROW."""
    found, places = _places(part, ids)
    rows = np.full(len(ids), NO_ROW, dtype=np.int64)
    rows[found] = part.rows[places[found]]
    return rows


def _uuid_bytes(ids: Iterable[PointId]) -> NDArray[np.bytes_]:
    """UUIDs as fixed-width byte strings, which sort as their numbers do."""
    return np.array([i.bytes for i in ids if isinstance(i, UUID)], dtype="S16")


def _places(part: SortedIds, ids: NDArray[np.generic]) -> tuple[Mask, Rows]:
    """Whether each id is in the sorted part, and where it is or would be."""
    places = np.searchsorted(part.ids, ids)
    found = places < len(part.ids)
    found[found] = part.ids[places[found]] == ids[found]
    return found, places


def _merge(part: SortedIds, ids: NDArray[np.generic], rows: Iterable[int]) -> SortedIds:
    """The sorted part with changed ids pointed elsewhere, added, or (NO_ROW) left out."""
    changed_rows = np.fromiter(rows, np.int64, len(ids))
    found, places = _places(part, ids)
    unchanged = np.ones(len(part.ids), dtype=np.bool_)
    unchanged[places[found]] = False
    stored = changed_rows != NO_ROW
    all_ids = np.concatenate((part.ids[unchanged], ids[stored]))
    all_rows = np.concatenate((part.rows[unchanged], changed_rows[stored]))
    order = np.argsort(all_ids, kind="stable")
    return SortedIds(all_ids[order], all_rows[order])
