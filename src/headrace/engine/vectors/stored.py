"""How do append-only arrays get into files, and back?

A checkpoint writes only what was appended since the last one. Each array says what its
elements are and gives them a stretch at a time; on opening it takes the stretches back,
mapped files as they are where it can.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray


class AppendOnlyArray(Protocol):
    """An array whose elements never change once written."""

    @property
    def begin(self) -> int:
        """The first element that is kept."""

    @property
    def item_bytes(self) -> int:
        """Of one element."""

    def parts(self, begin: int, end: int) -> list[NDArray[Any]]:
        """The elements from `begin` to `end`, in pieces that are contiguous."""

    def load(self, pieces: list[memoryview], begin: int) -> None:
        """Take back, as an empty array, what `parts` gave; pieces may be mapped files.

        Args:
            pieces: one behind the other.
            begin: the first element of the first piece.
        """


class StoredArray(NamedTuple):
    """An array that a checkpoint keeps.

    Attributes:
        array: the array.
        length: how many elements it has; None if it has one a row.
    """

    array: AppendOnlyArray
    length: int | None = None

    @property
    def bytes_count(self) -> int:
        """Of all elements, if their number is known."""
        return (self.length or 0) * self.array.item_bytes
