"""Which point does a row belong to?

Ids are exact: numbers are uint64, UUIDs 16 bytes. They stand in flat arrays, 17 bytes a row.
The way back, from an id to its row, is `id_index.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
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

Words = NDArray[np.uint64]


class IdWords(NamedTuple):
    """Ids as numbers; each of shape (n,).

    Attributes:
        low: the number, or the lower 64 bits of a UUID.
        high: 0, or the upper 64 bits of a UUID.
        is_uuid: which ids are UUIDs.
    """

    low: Words
    high: Words
    is_uuid: Mask

    @classmethod
    def of(cls, ids: Sequence[PointId]) -> IdWords:
        """The words of some ids."""
        count = len(ids)
        is_uuid = np.fromiter((isinstance(i, UUID) for i in ids), np.bool_, count)
        if not is_uuid.any():
            return cls(np.array(ids, dtype=np.uint64), np.zeros(count, dtype=np.uint64), is_uuid)
        content = b"".join([i.bytes if isinstance(i, UUID) else i.to_bytes(16, "big") for i in ids])
        words = np.frombuffer(content, dtype=">u8").reshape(count, 2).astype(np.uint64)
        return cls(words[:, 1].copy(), words[:, 0].copy(), is_uuid)

    def at(self, places: Rows | Mask) -> IdWords:
        """Some of the ids."""
        return IdWords(self.low[places], self.high[places], self.is_uuid[places])


class RowIds:
    """The id of each row; one writer."""

    def __init__(self) -> None:
        self._low: GrowingArray[np.uint64] = GrowingArray(np.uint64)
        self._high: GrowingArray[np.uint64] = GrowingArray(np.uint64)
        self._is_uuid: GrowingArray[np.bool_] = GrowingArray(np.bool_)
        self._slice_hashes = np.empty(0, dtype=np.uint64)
        self._has_written_uuids = False

    def stored_arrays(self) -> dict[str, StoredArray]:
        """The arrays that a checkpoint keeps, by name."""
        return {
            "low": StoredArray(self._low),
            "high": StoredArray(self._high),
            "is_uuid": StoredArray(self._is_uuid),
        }

    def words(self, rows: Rows) -> IdWords:
        """The ids of many rows, as numbers."""
        end = int(rows.max(initial=-1)) + 1
        return IdWords(
            self._low.view(end)[rows], self._high.view(end)[rows], self._is_uuid.view(end)[rows]
        )

    def is_named(self, row: int, low: int, high: int, is_uuid: bool) -> bool:
        """Whether a row has the id of these words."""
        named: bool = (
            self._low.buffer.item(row) == low
            and self._high.buffer.item(row) == high
            and self._is_uuid.buffer.item(row) == is_uuid
        )
        return named

    def are_named(self, rows: Rows, ids: IdWords) -> Mask:
        """Whether each row has the id at its place; shape (len(rows),)."""
        end = int(rows.max(initial=-1)) + 1
        named: Mask = (
            (self._low.view(end)[rows] == ids.low)
            & (self._high.view(end)[rows] == ids.high)
            & (self._is_uuid.view(end)[rows] == ids.is_uuid)
        )
        return named

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

    def write(self, row_begin: int, ids: IdWords) -> None:
        """Name the rows from `row_begin` on."""
        end = row_begin + len(ids.low)
        if not self._has_written_uuids and ids.is_uuid.any():
            self._has_written_uuids = True
        for array in (self._low, self._high, self._is_uuid):
            array.reserve(end)
        self._low.buffer[row_begin:end] = ids.low
        self._high.buffer[row_begin:end] = ids.high
        self._is_uuid.buffer[row_begin:end] = ids.is_uuid

    def get(self, row: int) -> PointId:
        """The id of one row."""
        low = int(self._low.view(row + 1)[row])
        if not self._is_uuid.view(row + 1)[row]:
            return low
        return UUID(int=int(self._high.view(row + 1)[row]) << 64 | low)

    def get_many(self, rows: Rows) -> list[PointId]:
        """The ids of many rows, all of which have one."""
        low = self._low.buffer[rows]
        if not self._has_written_uuids and not self._has_older_uuids:
            return list(low.tolist())
        is_uuid = self._is_uuid.buffer[rows]
        high = self._high.buffer[rows]
        return [
            UUID(int=high_word << 64 | low_word) if is_one else low_word
            for low_word, high_word, is_one in zip(
                low.tolist(), high.tolist(), is_uuid.tolist(), strict=True
            )
        ]

    @cached_property
    def _has_older_uuids(self) -> bool:
        """Whether there were UUIDs when this was first asked; `write` tells of later ones."""
        return bool(self._is_uuid.buffer.any())

    def in_id_order(self, rows: Rows) -> Rows:
        """The rows sorted by their ids: numbers ascending, then UUIDs by their bytes."""
        low, high, is_uuid = self.words(rows)
        numbers, uuids = np.flatnonzero(~is_uuid), np.flatnonzero(is_uuid)
        return rows[
            np.concatenate(
                (
                    numbers[np.argsort(low[numbers], kind="stable")],
                    uuids[np.lexsort((low[uuids], high[uuids]))],
                )
            )
        ]
