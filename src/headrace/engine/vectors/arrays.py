"""How do arrays grow while readers read them?

Two append-only containers. Neither ever changes or moves what a reader may already see:
a reader keeps the length it was told, and rows beyond it are invisible to it.
"""

from __future__ import annotations

import math
import mmap
import sys
from bisect import bisect_right
from itertools import pairwise
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from headrace.model.vectors import FloatMatrix, FloatVector, Rows

Scalar = TypeVar("Scalar", bound=np.generic)

_CAPACITY_MIN = 1024

# The first block of vectors is about this large, and each further one this many times what
# all before it hold, so that blocks stay few: a search that scores some rows calls a kernel
# for each block. Untouched pages of a fresh block are address space only.
_BLOCK_BYTES = 16 * 2**20
_BLOCK_ROWS_MIN = 256
_BLOCK_ROWS_MAX = 65_536
_BLOCK_GROWTH = 3


# Smaller arrays come from the allocator's heap.
_MAPPED_BYTES_MIN = 2**18


def zeros(
    shape: int | tuple[int, ...], dtype: type[Scalar], *, huge_pages: bool = False
) -> NDArray[Scalar]:
    """An array of zeros that takes memory where it is written, and gives all back when freed.

    A freed array of NumPy's may stay with the allocator's heap, where the next, larger one
    does not fit.

    Args:
        shape: of the array.
        dtype: of the array.
        huge_pages: ask for pages of 2 MiB, which make reading here and there faster, and
            take memory in such pieces.
    """
    length = math.prod(shape) if isinstance(shape, tuple) else shape
    size = length * np.dtype(dtype).itemsize
    if size < _MAPPED_BYTES_MIN:
        return np.zeros(shape, dtype=dtype)
    try:
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"{size} bytes") from error
    if huge_pages and sys.platform == "linux":
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, dtype=dtype).reshape(shape)


class GrowingArray(Generic[Scalar]):
    """A 1-D array by row; it doubles by copying, so views that readers hold stay valid.

    Args:
        dtype: the element type; new elements are zero.
    """

    def __init__(self, dtype: type[Scalar]) -> None:
        self._dtype = dtype
        self._buffer: NDArray[Scalar] = zeros(_CAPACITY_MIN, dtype)

    def reserve(self, length: int) -> None:
        """Make room for elements below `length`."""
        capacity = len(self._buffer)
        if length <= capacity:
            return
        while capacity < length:
            capacity *= 2
        grown = zeros(capacity, self._dtype)
        grown[: len(self._buffer)] = self._buffer
        self._buffer = grown

    def view(self, length: int) -> NDArray[Scalar]:
        """The first `length` elements, zero where nothing was written; not copied if it can."""
        buffer = self._buffer
        if length <= len(buffer):
            return buffer[:length]
        padded = np.zeros(length, dtype=buffer.dtype)
        padded[: len(buffer)] = buffer
        return padded

    def parts(self, begin: int, end: int) -> list[NDArray[Scalar]]:
        """See `AppendOnlyArray`."""
        return [self.view(end)[begin:]]

    begin = 0

    def load(self, pieces: list[memoryview], begin: int) -> None:
        """See `AppendOnlyArray`; copies, since the array will grow."""
        assert begin == 0
        stored = [np.frombuffer(piece, dtype=self._buffer.dtype) for piece in pieces]
        length = sum(len(piece) for piece in stored)
        self.reserve(length)
        np.concatenate([self._buffer[:0], *stored], out=self._buffer[:length])

    @property
    def buffer(self) -> NDArray[Scalar]:
        """All elements and the room behind them; for the writer."""
        return self._buffer


class BlockMatrix:
    """Rows of `dim` floats in blocks that never move.

    Args:
        dim: floats per row.
        begin: the first row that can be written; the rows before it take no room.
    """

    def __init__(self, dim: int, begin: int = 0) -> None:
        self.dim = dim
        self.begin = begin
        rows = _BLOCK_BYTES // (4 * dim)
        self.block_rows = int(np.clip(1 << rows.bit_length() - 1, _BLOCK_ROWS_MIN, _BLOCK_ROWS_MAX))
        # A block is listed before its start: a reader never finds a start without a block.
        self._blocks: list[FloatMatrix] = []
        self._starts: list[int] = []
        self._later_starts: Rows = np.empty(0, dtype=np.int64)
        self._end = begin

    def adopt(self, block: FloatMatrix) -> None:
        """Take rows that are stored already, such as a mapped file, as the next block.

        Args:
            block: shape (n, dim), float32, C order; may be read only.
        """
        self._blocks.append(block)
        self._starts.append(self._end)
        self._later_starts = np.array(self._starts[1:], dtype=np.int64)
        self._end += len(block)

    @property
    def end(self) -> int:
        """Rows below this are reserved."""
        return self._end

    def parts(self, begin: int, end: int) -> list[FloatMatrix]:
        """See `AppendOnlyArray`; zeros where no row was reserved."""
        found = [
            block[max(0, begin - first) :]
            for first, block in self.slices(end)
            if first + len(block) > begin
        ]
        missing = end - begin - sum(len(part) for part in found)
        padding = zeros((min(missing, self.block_rows), self.dim), np.float32)
        while missing > 0:
            found.append(padding[:missing])
            missing -= len(padding)
        return found

    def load(self, pieces: list[memoryview], begin: int) -> None:
        """See `AppendOnlyArray`; the pieces become blocks as they are."""
        assert not self._blocks
        self.begin = self._end = begin
        for piece in pieces:
            self.adopt(np.frombuffer(piece, dtype=np.float32).reshape(-1, self.dim))

    def reserve(self, rows: int) -> None:
        """Make room for rows below `rows`."""
        while self._end < rows:
            block_rows = max(self.block_rows, _BLOCK_GROWTH * (self._end - self.begin))
            self.adopt(zeros((block_rows, self.dim), np.float32, huge_pages=True))

    def write(self, rows: Rows, values: FloatMatrix) -> None:
        """Store `values[i]` at `rows[i]`; the rows must be reserved.

        Args:
            rows: shape (n,), ascending.
            values: shape (n, dim).
        """
        for begin, end, number in self._runs(rows):
            self._blocks[number][rows[begin:end] - self._starts[number]] = values[begin:end]

    def row(self, row: int) -> FloatVector:
        """One row, shape (dim,), a view of the block."""
        number = bisect_right(self._starts, row) - 1
        vector: FloatVector = self._blocks[number][row - self._starts[number]]
        return vector

    def gather(self, rows: Rows) -> FloatMatrix:
        """A copy of the given ascending rows, shape (n, dim)."""
        runs = self._runs(rows)
        if len(runs) == 1:
            number = runs[0][2]
            return self._blocks[number].take(rows - self._starts[number], axis=0)
        values = np.empty((len(rows), self.dim), dtype=np.float32)
        for begin, end, number in runs:
            places = rows[begin:end] - self._starts[number]
            # "clip" writes straight into `out`; the default mode goes through a copy.
            self._blocks[number].take(places, axis=0, out=values[begin:end], mode="clip")
        return values

    def runs(self, rows: Rows) -> list[tuple[int, int, int, FloatMatrix]]:
        """(begin, end, first row of the block, block) of the runs of `rows` within one block.

        Args:
            rows: shape (n,), ascending.
        """
        return [
            (begin, end, self._starts[number], self._blocks[number])
            for begin, end, number in self._runs(rows)
        ]

    def slices_between(self, begin: int, end: int) -> list[tuple[int, FloatMatrix]]:
        """(first row, matrix) of each piece of a block within [begin, end), not copied."""
        return [
            (max(first, begin), block[max(0, begin - first) :])
            for first, block in self.slices(end)
            if first + len(block) > begin
        ]

    def slices(self, rows: int) -> list[tuple[int, FloatMatrix]]:
        """(first row, matrix) of each block up to `rows`, not copied."""
        return [
            (first, block[: rows - first])
            for first, block in zip(self._starts.copy(), self._blocks, strict=False)
            if first < rows
        ]

    def _runs(self, rows: Rows) -> list[tuple[int, int, int]]:
        """(begin, end, block number) of the runs of ascending `rows` within one block."""
        if not len(rows):
            return []
        last = bisect_right(self._starts, int(rows[-1])) - 1
        if self._starts[last] <= int(rows[0]):
            return [(0, len(rows), last)]
        cuts = [0, *rows.searchsorted(self._later_starts[:last]).tolist(), len(rows)]
        return [
            (begin, end, number)
            for number, (begin, end) in enumerate(pairwise(cuts))
            if begin < end
        ]
