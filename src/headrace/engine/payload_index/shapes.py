"""Which kinds of values does each row have at a path?

One byte of flags a row: enough for is_empty, is_null, and for `except`, which any value of
another type satisfies.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headrace.engine.payload_index.found import ByMask
from headrace.engine.payload_index.leaves import Leaves
from headrace.model.vectors import Rows

# A value, arrays closed, that is neither null nor [].
FILLED = 1
# A value, arrays closed, that is null.
NULL_VALUE = 2
# What conditions test, arrays opened: null, a string, a 64-bit integer, anything else.
NULL = 4
STRING = 8
INTEGER = 16
OTHER = 32

Flags = NDArray[np.uint8]


class Shapes:
    """Flags by row.

    Attributes:
        flags: shape (row_count,).
    """

    def __init__(self, flags: Flags) -> None:
        self.flags = flags

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.flags.nbytes

    def with_any(self, flags: int) -> ByMask:
        """The rows that have at least one of the flags."""
        return ByMask((self.flags & flags) != 0)


class ShapesBuilder:
    """Collects flags, a chunk of rows at a time."""

    def __init__(self) -> None:
        self._chunks: list[Flags] = [np.empty(0, dtype=np.uint8)]

    def add(self, leaves: Leaves) -> None:
        """Take the values of the next rows."""
        flags = np.zeros(leaves.row_count, dtype=np.uint8)
        closed_rows = np.array(leaves.value_rows, dtype=np.int64) - leaves.first_row
        if leaves.value_types.isdisjoint((list, type(None))):
            flags[closed_rows] = FILLED
        else:
            kinds = [_closed_flag(value) for value in leaves.values]
            np.bitwise_or.at(flags, closed_rows, np.array(kinds, dtype=np.uint8))
        for kind, (rows, _) in leaves.by_type().items():
            flags[np.array(rows, dtype=np.int64) - leaves.first_row] |= _FLAG_OF_TYPE.get(
                kind, OTHER
            )
        self._chunks.append(flags)

    def finish(self) -> Shapes:
        """The part."""
        return Shapes(np.concatenate(self._chunks))


def merge_shapes(parts: Sequence[Shapes], new_rows: Sequence[Rows], row_count: int) -> Shapes:
    """One part from several; see `merge_numbers`."""
    flags = np.zeros(row_count, dtype=np.uint8)
    for part, moved in zip(parts, new_rows, strict=True):
        kept = moved >= 0
        flags[moved[kept]] = part.flags[kept]
    return Shapes(flags)


_FLAG_OF_TYPE = {type(None): NULL, str: STRING, int: INTEGER}


def _closed_flag(value: object) -> int:
    if value is None:
        return NULL_VALUE
    return 0 if value == [] else FILLED
