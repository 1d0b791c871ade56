"""How do arrays grow while readers read them?

Two append-only containers. Neither ever changes or moves what a reader may already see:
a reader keeps the length it was told, and rows beyond it are invisible to it.
"""

from __future__ import annotations

import math
import mmap
import sys
from bisect import bisect_right
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from headrace.engine.vectors.elements import StoredMatrix, as_floats, as_stored
from headrace.model.vectors import FloatMatrix, FloatVector, Rows

# Where the package was built without a C compiler, FAISS scores rows, a block at a time.
try:
    from headrace.engine.vectors.row_scores import RowScores as RowScores
except ImportError:
    RowScores = None  # type: ignore[assignment, misc]

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

    Attributes:
        buffer: all elements and the room behind them; only the writer changes it.
    """

    def __init__(self, dtype: type[Scalar]) -> None:
        self._dtype = dtype
        self.buffer: NDArray[Scalar] = zeros(_CAPACITY_MIN, dtype)

    def reserve(self, length: int) -> None:
        """Make room for elements below `length`."""
        capacity = len(self.buffer)
        if length <= capacity:
            return
        while capacity < length:
            capacity *= 2
        grown = zeros(capacity, self._dtype)
        grown[: len(self.buffer)] = self.buffer
        self.buffer = grown

    def view(self, length: int) -> NDArray[Scalar]:
        """The first `length` elements, zero where nothing was written; not copied if it can."""
        buffer = self.buffer
        if length <= len(buffer):
            return buffer[:length]
        padded = np.zeros(length, dtype=buffer.dtype)
        padded[: len(buffer)] = buffer
        return padded

    def parts(self, begin: int, end: int) -> list[NDArray[Scalar]]:
        """See `AppendOnlyArray`."""
        return [self.view(end)[begin:]]

    begin = 0

    @property
    def item_bytes(self) -> int:
        """See `AppendOnlyArray`."""
        return self.buffer.itemsize

    def load(self, pieces: list[memoryview], begin: int) -> None:
        """See `AppendOnlyArray`; copies, since the array will grow."""
        assert begin == 0
        stored = [np.frombuffer(piece, dtype=self.buffer.dtype) for piece in pieces]
        length = sum(len(piece) for piece in stored)
        self.reserve(length)
        np.concatenate([self.buffer[:0], *stored], out=self.buffer[:length])


class _Layout(NamedTuple):
    """Which block holds which rows; replaced as a whole, never changed."""

    blocks: tuple[StoredMatrix, ...]
    starts: tuple[int, ...]
    later_starts: Rows

    @classmethod
    def of(cls, blocks: tuple[StoredMatrix, ...], begin: int) -> _Layout:
        """The blocks one behind the other, from row `begin` on."""
        starts = tuple(begin + sum(len(one) for one in blocks[:n]) for n in range(len(blocks)))
        return cls(blocks, starts, np.array(starts[1:], dtype=np.int64))


# Makes a block of zeros: rows, dim, dtype.
Allocate = Callable[[int, int, Any], StoredMatrix]


class BlockMatrix:
    """Rows of `dim` components in blocks that never move while somebody reads them.

    Args:
        dim: components per row.
        begin: the first row that can be written; the rows before it take no room.
        dtype: of the components: float32, float16 or uint8.
        scratch: makes the blocks of rows that no file holds yet, if they are not to be in
            memory.

    Attributes:
        is_in_memory: whether rows are in memory that no file backs.
    """

    def __init__(
        self,
        dim: int,
        begin: int = 0,
        dtype: type[np.generic] = np.float32,
        scratch: Allocate | None = None,
    ) -> None:
        self.dim = dim
        self.begin = begin
        self.is_in_memory = False
        self.dtype = dtype
        self.scratch = scratch
        rows = _BLOCK_BYTES // (np.dtype(dtype).itemsize * dim)
        self.block_rows = int(np.clip(1 << rows.bit_length() - 1, _BLOCK_ROWS_MIN, _BLOCK_ROWS_MAX))
        self._layout = _Layout.of((), begin)
        self._row_scores: tuple[_Layout, RowScores] | None = None
        self._end = begin
        self._written_end = begin

    def adopt(self, block: StoredMatrix) -> None:
        """Take rows that are stored already, such as a mapped file, as the next block.

        Args:
            block: shape (n, dim), C order; may be read only.
        """
        self._layout = _Layout.of((*self._layout.blocks, block), self.begin)
        self._end += len(block)

    @property
    def end(self) -> int:
        """Rows below this are reserved."""
        return self._end

    @property
    def item_bytes(self) -> int:
        """See `AppendOnlyArray`."""
        return self.dim * np.dtype(self.dtype).itemsize

    def parts(self, begin: int, end: int) -> list[StoredMatrix]:
        """See `AppendOnlyArray`; zeros where no row was reserved."""
        found = [block for _, block in self.slices_between(begin, end)]
        missing = end - begin - sum(len(part) for part in found)
        padding = zeros((min(missing, self.block_rows), self.dim), self.dtype)
        while missing > 0:
            found.append(padding[:missing])
            missing -= len(padding)
        return found

    def load(self, pieces: list[memoryview], begin: int) -> None:
        """See `AppendOnlyArray`; the pieces become blocks as they are."""
        assert not self._layout.blocks
        self.begin = self._end = begin
        for piece in pieces:
            self.adopt(self._matrix(piece))

    def rebind(self, pieces: list[memoryview]) -> None:
        """Put files in the place of the rows that they hold; no writer may run meanwhile.

        Readers that are at it keep what they have.

        Args:
            pieces: as for `load`, from row `begin` on. Rows behind them are copied.
        """
        made = BlockMatrix(self.dim, self.begin, self.dtype, self.scratch)
        made.load(pieces, self.begin)
        rest = self.slices_between(made.end, self._written_end)
        for first, values in rest:
            made.reserve(first + len(values))
            made._put(np.arange(first, first + len(values)), values)
        # One step: a reader that begins meanwhile sees the old blocks, which have every row.
        self._layout, self._end = made._layout, made._end
        self._row_scores = None  # which would hold on to the old blocks
        self.is_in_memory = made.is_in_memory

    def reserve(self, rows: int) -> None:
        """Make room for rows below `rows`.

        Raises:
            NoSpace, StorageFailed: there is no room for a scratch file.
        """
        while self._end < rows:
            if self.scratch is not None:
                self.adopt(self.scratch(self.block_rows, self.dim, self.dtype))
                continue
            self.is_in_memory = True
            block_rows = max(self.block_rows, _BLOCK_GROWTH * (self._end - self.begin))
            self.adopt(zeros((block_rows, self.dim), self.dtype, huge_pages=True))

    def write(self, rows: Rows, values: FloatMatrix) -> None:
        """Store `values[i]` at `rows[i]`; the rows must be reserved.

        Args:
            rows: shape (n,), ascending.
            values: shape (n, dim), float32.
        """
        self._put(rows, as_stored(values, self.dtype))

    def row(self, row: int) -> FloatVector:
        """One row, shape (dim,), float32: a view of the block if that is so."""
        blocks, starts, _ = self._layout
        number = bisect_right(starts, row) - 1
        return as_floats(blocks[number][row - starts[number]])

    def gather(self, rows: Rows) -> FloatMatrix:
        """A copy of the given ascending rows, shape (n, dim), float32."""
        blocks, starts, _ = layout = self._layout
        runs = _runs(layout, rows)
        if len(runs) == 1:
            number = runs[0][2]
            return as_floats(blocks[number].take(rows - starts[number], axis=0))
        values = np.empty((len(rows), self.dim), dtype=self.dtype)
        for begin, end, number in runs:
            places = rows[begin:end] - starts[number]
            # "clip" writes straight into `out`; the default mode goes through a copy.
            blocks[number].take(places, axis=0, out=values[begin:end], mode="clip")
        return as_floats(values)

    def runs(self, rows: Rows) -> list[tuple[int, int, int, StoredMatrix]]:
        """(begin, end, first row of the block, block) of the runs of `rows` within one block.

        Args:
            rows: shape (n,), ascending.
        """
        blocks, starts, _ = layout = self._layout
        return [
            (begin, end, starts[number], blocks[number])
            for begin, end, number in _runs(layout, rows)
        ]

    def row_scores(self, is_product: bool) -> RowScores | None:
        """What scores rows of all blocks in one call; None if only a block can be scored.

        Args:
            is_product: see `RowScores`; always the same.
        """
        if RowScores is None or self.dtype is not np.float32:
            return None
        layout, made = self._layout, self._row_scores
        if made is None or made[0] is not layout:
            made = (layout, RowScores(layout.blocks, self.begin, is_product))
            if self._layout is layout:
                self._row_scores = made
        return made[1]

    def slices_between(self, begin: int, end: int) -> list[tuple[int, StoredMatrix]]:
        """(first row, matrix) of each piece of a block within [begin, end), not copied."""
        return [
            (max(first, begin), block[max(0, begin - first) :])
            for first, block in self.slices(end)
            if first + len(block) > begin
        ]

    def slices(self, rows: int) -> list[tuple[int, StoredMatrix]]:
        """(first row, matrix) of each block up to `rows`, not copied."""
        blocks, starts, _ = self._layout
        return [
            (first, block[: rows - first])
            for first, block in zip(starts, blocks, strict=True)
            if first < rows
        ]

    def _matrix(self, piece: memoryview) -> StoredMatrix:
        return np.frombuffer(piece, dtype=self.dtype).reshape(-1, self.dim)

    def _put(self, rows: Rows, stored: StoredMatrix) -> None:
        blocks, starts, _ = layout = self._layout
        for begin, end, number in _runs(layout, rows):
            blocks[number][rows[begin:end] - starts[number]] = stored[begin:end]
        if len(rows):
            self._written_end = max(self._written_end, int(rows[-1]) + 1)


def _runs(layout: _Layout, rows: Rows) -> list[tuple[int, int, int]]:
    """(begin, end, block number) of the runs of ascending `rows` within one block."""
    if not len(rows):
        return []
    last = bisect_right(layout.starts, int(rows[-1])) - 1
    if layout.starts[last] <= int(rows[0]):
        return [(0, len(rows), last)]
    cuts = [0, *rows.searchsorted(layout.later_starts[:last]).tolist(), len(rows)]
    return [
        (begin, end, number) for number, (begin, end) in enumerate(pairwise(cuts)) if begin < end
    ]
