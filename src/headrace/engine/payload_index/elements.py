"""Which objects stand in the arrays at a path, and in which row each?

A nested condition is evaluated over these objects as if each were a point; what it finds
belongs to the rows of the elements.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.engine.payload_index.entries import LocalRows, expand, unique_places
from headrace.engine.payload_index.found import Found
from headrace.engine.payload_index.texts import renumbered
from headrace.engine.vectors.row_set import FEW_SHARE, RowSet
from headrace.model.vectors import Mask, Rows


class Elements:
    """The elements of one path, numbered in the order of their rows.

    Attributes:
        rows: shape (elements,), ascending: the row of each.
        row_count: rows are below this.
    """

    def __init__(self, rows: LocalRows, row_count: int) -> None:
        self.rows = rows
        self.row_count = row_count

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.rows.nbytes


class SomeElement:
    """A find: the rows of the elements that another find holds."""

    def __init__(self, elements: Elements, found: Found) -> None:
        self._elements = elements
        self._found = found
        self.at_most = min(found.at_most, elements.row_count)
        self.is_slow = found.is_slow

    def row_set(self) -> RowSet:
        """See `Found`."""
        elements = self._elements
        found = self._found.row_set()
        if found.count > elements.row_count * FEW_SHARE:
            mask = np.zeros(elements.row_count, dtype=np.bool_)
            mask[elements.rows[found.rows]] = True
            return RowSet.of_mask(mask)
        rows = elements.rows[found.rows].astype(np.int64)
        return RowSet.of_rows(rows[unique_places(rows)], elements.row_count)

    def holds(self, rows: Rows) -> Mask:
        """See `Found`."""
        begins = np.searchsorted(self._elements.rows, rows)
        ends = np.searchsorted(self._elements.rows, rows, side="right")
        owners, elements = expand(begins, ends - begins)
        held = np.zeros(len(rows), dtype=np.bool_)
        held[owners[self._found.holds(elements)]] = True
        return held


class ElementsBuilder:
    """Collects elements, a chunk of rows at a time."""

    def __init__(self) -> None:
        self._rows: list[LocalRows] = [np.empty(0, dtype=np.int32)]
        self.count = 0

    def add(self, rows: Sequence[int]) -> None:
        """Take the rows of the next elements."""
        self._rows.append(np.array(rows, dtype=np.int32))
        self.count += len(rows)

    def finish(self, row_count: int) -> Elements:
        """The part."""
        return Elements(np.concatenate(self._rows), row_count)


def merge_elements(
    parts: Sequence[Elements], new_rows: Sequence[Rows], row_count: int
) -> tuple[Elements, list[Rows]]:
    """One part from several; see `merge_numbers`.

    Returns:
        The part, and for each of `parts` the new number of each element, or -1.
    """
    moved_rows = [moved[part.rows] for part, moved in zip(parts, new_rows, strict=True)]
    numbers, rows = renumbered(moved_rows)
    return Elements(rows.astype(np.int32), row_count), numbers
