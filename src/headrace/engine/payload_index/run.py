"""Which rows does one piece of the payload index cover, and which parts has it?

A run is a set of rows with their payloads as of one moment; nothing in it ever changes.
Its parts are built when they are first needed, by whoever needs them; others who need
them meanwhile wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np

from headrace.engine.payload.chunk import CHUNK_ROWS
from headrace.engine.payload.groups import GROUP_CHUNKS, GROUP_ROWS, drop_mapped_pages
from headrace.engine.payload.store import PayloadTable, payloads_at
from headrace.engine.payload_index.build import Part, build_parts
from headrace.engine.payload_index.documents import CHUNK_DOCUMENTS
from headrace.engine.payload_index.part_key import PartKey, elements_keys
from headrace.engine.vectors.row_set import RowSet
from headrace.model.operations import PayloadJson
from headrace.model.vectors import Mask, Rows


class Run:
    """Rows and the parts of the payload index over them.

    Args:
        rows: shape (n,), int64, ascending, unique: the rows of the collection.
        table: their payloads.
        parts: that exist already.

    Attributes:
        row_count: how many rows; inside the run they are numbered from 0.
        parts: that exist; replaced when more come.
    """

    def __init__(
        self, rows: Rows, table: PayloadTable, parts: Mapping[PartKey, Part] | None = None
    ) -> None:
        self.row_count = len(rows)
        self._first_row = int(rows[0]) if len(rows) else 0
        is_gapless = len(rows) > 0 and int(rows[-1]) - self._first_row + 1 == len(rows)
        self._rows = None if is_gapless else rows
        self._table = table
        self.parts: Mapping[PartKey, Part] = dict(parts or {})
        self._building: dict[PartKey, threading.Event] = {}
        self._lock = threading.Lock()

    @property
    def rows(self) -> Rows:
        """The rows of the collection, ascending."""
        if self._rows is None:
            return np.arange(self._first_row, self._first_row + self.row_count)
        return self._rows

    def outer_rows(self, rows: Rows) -> Rows:
        """The rows of the collection that these rows of the run are."""
        if self._rows is None:
            return rows + self._first_row if self._first_row else rows
        outer: Rows = self._rows[rows]
        return outer

    def places_of(self, outer: Rows) -> tuple[Rows, Rows]:
        """Where ascending rows of the collection are in the run, of those it has.

        Returns:
            (places, rows): `rows[i]` of the run is `outer[places[i]]`.
        """
        if self._rows is None:
            bounds = (self._first_row, self._first_row + self.row_count)
            begin, end = np.searchsorted(outer, bounds)
            return np.arange(begin, end), outer[begin:end] - self._first_row
        rows = np.searchsorted(self._rows, outer)
        rows[rows == self.row_count] = 0
        places = np.flatnonzero(self._rows[rows] == outer)
        return places, rows[places]

    def inner_rows(self, outer: Rows) -> Rows:
        """The rows of the run that these ascending rows of the collection are, of those it has."""
        return self.places_of(outer)[1]

    def inner_mask(self, outer: Mask) -> Mask:
        """The stretch of a mask over the collection that this run covers, by its own rows.

        Args:
            outer: shape (row_count,) of a view; what lies beyond it is False.
        """
        if self._rows is None:
            mask = outer[self._first_row : self._first_row + self.row_count]
        else:
            mask = outer[self._rows[: int(np.searchsorted(self._rows, len(outer)))]]
        if len(mask) < self.row_count:
            mask = np.concatenate((mask, np.zeros(self.row_count - len(mask), dtype=np.bool_)))
        return mask

    def is_whole(self, outer_count: int) -> bool:
        """Whether its rows are those of the collection below `outer_count`, and no others."""
        return self._rows is None and not self._first_row and self.row_count == outer_count

    def outer_set(self, inner: RowSet, outer_count: int) -> RowSet:
        """A set of this run's rows as one of the collection's rows below `outer_count`."""
        if self.is_whole(outer_count):
            return inner
        if inner.is_few or self._rows is not None:
            rows = self.outer_rows(inner.rows)
            if len(rows) and rows[-1] >= outer_count:
                rows = rows[: int(np.searchsorted(rows, outer_count))]
            return RowSet.of_rows(rows, outer_count)
        mask = np.zeros(outer_count, dtype=np.bool_)
        covered = mask[self._first_row : self._first_row + self.row_count]
        covered[:] = inner.mask[: len(covered)]
        return RowSet.of_mask(mask, None if len(covered) < self.row_count else inner.count)

    def require(
        self, keys: Collection[PartKey], tell: Callable[[int], None] = lambda rows: None
    ) -> Mapping[PartKey, Part]:
        """The parts, with those of `keys` among them; built now if they are missing.

        Args:
            keys: a part inside elements needs those elements among the keys.
            tell: called with the number of rows read, while parts are built.
        """
        while True:
            parts = self.parts
            missing = [key for key in keys if key not in parts]
            if not missing:
                return parts
            claimed, awaited = self._claim(missing)
            if claimed:
                self._build(claimed, tell)
            for event in awaited:
                event.wait()

    def forget(self, keys: Collection[PartKey]) -> None:
        """Give back the memory of parts; they are built anew when they are needed again."""
        with self._lock:
            self.parts = {key: part for key, part in self.parts.items() if key not in keys}

    def _claim(self, keys: Collection[PartKey]) -> tuple[list[PartKey], list[threading.Event]]:
        """Which of the missing parts are built here; what to wait for for the others."""
        with self._lock:
            claimed = [key for key in keys if key not in self.parts and key not in self._building]
            awaited = [self._building[key] for key in keys if key in self._building]
            event = threading.Event()
            self._building.update(dict.fromkeys(claimed, event))
        return claimed, awaited

    def _build(self, keys: list[PartKey], tell: Callable[[int], None]) -> None:
        built: dict[PartKey, Part] = {}
        try:
            tell(0)
            built = build_parts(_with_elements(keys), self._chunks(), tell)
        finally:
            with self._lock:
                self.parts = {**built, **self.parts}
                event = self._building[keys[0]]
                for key in keys:
                    del self._building[key]
            event.set()

    def _chunks(self) -> Iterator[Sequence[PayloadJson]]:
        """The payloads in row order; those in files take no memory once all were read."""
        first = chunk = self._first_row // GROUP_ROWS * GROUP_CHUNKS
        for last_row, payloads in self._pieces():
            yield payloads
            chunk = last_row // CHUNK_ROWS
            group = chunk // GROUP_CHUNKS * GROUP_CHUNKS
            if group > first:
                drop_mapped_pages(self._table[first:group])
                first = group
        drop_mapped_pages(self._table[first : chunk + 1])

    def _pieces(self) -> Iterator[tuple[int, Sequence[PayloadJson]]]:
        """The last row of each piece of the rows, and their payloads."""
        if self._rows is not None:
            for begin in range(0, self.row_count, CHUNK_DOCUMENTS):
                rows = self._rows[begin : begin + CHUNK_DOCUMENTS].tolist()
                yield rows[-1], payloads_at(self._table, rows)
            return
        row, end = self._first_row, self._first_row + self.row_count
        while row < end:
            within = row % CHUNK_ROWS
            taken = min(CHUNK_ROWS - within, end - row)
            yield row + taken - 1, self._table[row // CHUNK_ROWS][within : within + taken]
            row += taken


def _with_elements(keys: Collection[PartKey]) -> set[PartKey]:
    return set(keys).union(*(elements_keys(key.space) for key in keys))
