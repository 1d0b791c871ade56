"""How are rows searched that have no graph yet, if they are many?

Their vectors are compared by 8-bit codes, a quarter of the memory that a scan would read, and
the best are scored from the vectors. Where there are many codes, sketches of one bit for each
first tell which need not be compared (see `node_scan.pyx`). Nobody pays for codes before
somebody searches: a search makes those of the rows that came since the last one, while it has
them at hand.
"""

from __future__ import annotations

import threading
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.engine.vector_index.codes import OUTSIDE_SHARE, ByteCodes
from headrace.engine.vector_index.cost import candidates_by_codes, scanned_candidates
from headrace.engine.vectors.arrays import BlockMatrix, zeros
from headrace.model.vectors import FloatVector, Mask, Rows

# Where the package was built without a C compiler, the vectors are scanned.
try:
    from headrace.engine.vector_index.node_scan import ByteScan as ByteScan
    from headrace.engine.vector_index.node_scan import Sketches as Sketches
    from headrace.engine.vector_index.node_scan import sketched as sketched
except ImportError:
    ByteScan = None  # type: ignore[assignment, misc]

# Fewer are scanned as quickly.
_TAIL_ROWS_MIN: Final = 2048

# A filter that leaves a smaller share of the rows leaves too few to compare all codes for.
_ALLOWED_SHARE_MIN: Final = 0.25

_CHUNK_ROWS: Final = 16_384

# So many rows of a chunk tell how far its sketches may be trusted; a quarter of what is asked of
# a graph, since a search waits for it.
_SAMPLE_ROWS: Final = 256

# For so many rows a search makes codes, which takes about as long as to score them; it scores
# the others.
_ENCODED_ROWS_MAX: Final = 8192

# With a larger share of rows that the codes cannot express there is nothing to be gained.
_LOOSE_SHARE_MAX: Final = 0.02


class _Coded(NamedTuple):
    """What is coded; replaced as a whole, and what it holds is never changed.

    Attributes:
        begin, end: the rows.
        chunks: their codes, shape (_CHUNK_ROWS, code_dim) each, from row `begin` on.
        sketches: of the chunks that are full; None if they are of no use.
        loose: ascending rows among them that their codes do not express.
    """

    begin: int
    end: int
    chunks: tuple[NDArray[np.uint8], ...]
    sketches: tuple[Sketches | None, ...]
    loose: Rows


class TailCodes:
    """Codes of the rows behind the graphs of one vector name, as far as they were searched.

    Any number of threads search.

    Args:
        box: what the codes can express.
        row_begin: the first row.
        length_squared_min: vectors that are shorter have no direction, and are always scored.
    """

    def __init__(self, box: ByteCodes, row_begin: int, length_squared_min: float = 0.0) -> None:
        assert ByteScan is not None
        self.box = box
        self._scan = ByteScan(box.code_dim, box.offset, float(box.steps_per_unit), OUTSIDE_SHARE)
        self._length_squared_min = length_squared_min
        self._coded = _nothing(row_begin)
        self._is_hopeless = False
        self._encoding = threading.Lock()

    def forget_before(self, row_begin: int) -> None:
        """Give up the codes of the rows before this one, which have a graph now."""
        with self._encoding:
            self._is_hopeless = False
            coded = self._coded
            if row_begin >= coded.end:
                self._coded = _nothing(row_begin)
                return
            gone = max(0, row_begin - coded.begin) // _CHUNK_ROWS
            if gone:
                begin = coded.begin + gone * _CHUNK_ROWS
                loose = coded.loose[coded.loose.searchsorted(begin) :]
                chunks, sketches = coded.chunks[gone:], coded.sketches[gone:]
                self._coded = _Coded(begin, coded.end, chunks, sketches, loose)

    def candidates(
        self,
        query: FloatVector,
        wanted: int,
        k: int,
        row_begin: int,
        allowed: Mask,
        present: Mask,
        vectors: BlockMatrix,
    ) -> tuple[Rows, int] | None:
        """Ascending rows among which the nearest are, and the row up to which that holds.

        Args:
            query: shape (dim,), float32, as the vectors are compared.
            wanted: how many candidates, see `tail_candidates`; more if there are loose rows.
            k: how many of them are surely among the nearest by their codes.
            row_begin: the first row.
            allowed: shape (rows,): which rows from there on may be returned; all have vectors.
            present: shape (row_begin + rows,): which rows have vectors.
            vectors: all vectors; float32, compared as they are stored.

        Returns:
            None if codes do not help here, since too many vectors or this query cannot be
            expressed, or rounding decides which are nearest.
        """
        coded = self._extended(row_begin, present, vectors)
        if coded is None:
            return None
        end = min(coded.end, row_begin + len(allowed))
        loose = coded.loose[slice(*coded.loose.searchsorted((row_begin, end)))]
        compared = allowed[: end - row_begin]
        if len(loose):
            # They are candidates in any case, and leave the places by codes to others.
            compared = compared.copy()
            compared[loose - row_begin] = False
            loose = loose[allowed[loose - row_begin]]
        places = self._scan.nearest_of(
            query,
            wanted,
            coded.chunks,
            row_begin - coded.begin,
            compared.view(np.uint8),
            coded.sketches,
            candidates_by_codes(k),
        )
        if places is None:
            return None
        found = places + coded.begin
        if len(loose):
            return np.union1d(found, loose), end
        found.sort()
        return found, end

    def _extended(self, row_begin: int, present: Mask, vectors: BlockMatrix) -> _Coded | None:
        """What is coded, if that is of use for these rows, after some were added."""
        row_end = len(present)
        is_behind = self._coded.end < row_end and not self._is_hopeless
        if is_behind and self._encoding.acquire(blocking=False):
            try:
                if self._coded.end < row_begin:
                    # What came between has a graph already.
                    self._coded = _nothing(row_begin)
                row_end = min(row_end, self._coded.end + _ENCODED_ROWS_MAX)
                self._encode(present[:row_end], vectors)
                coded = self._coded
                if len(coded.loose) > _LOOSE_SHARE_MAX * (coded.end - coded.begin):
                    self._is_hopeless, self._coded = True, _nothing(coded.begin)
            finally:
                self._encoding.release()
        coded = self._coded
        return coded if coded.begin <= row_begin < coded.end else None

    def _encode(self, present: Mask, vectors: BlockMatrix) -> None:
        """Make the codes of all rows that have none yet."""
        row_end = len(present)
        begin, end, chunks, sketches, loose = self._coded
        while end < row_end:
            place = (end - begin) % _CHUNK_ROWS
            if not place:
                chunks = (*chunks, zeros((_CHUNK_ROWS, self.box.code_dim), np.uint8))
            until = min(row_end, end + _CHUNK_ROWS - place)
            for first, values in vectors.slices_between(end, until):
                at = place + first - end
                expressed = np.empty(len(values), dtype=np.uint8)
                self._scan.encode(values, chunks[-1][at : at + len(values)], expressed)
                if self._length_squared_min:
                    expressed &= np.einsum("ij,ij->i", values, values) >= self._length_squared_min
                if not expressed.all():
                    is_loose = present[first : first + len(values)] & (expressed == 0)
                    loose = np.append(loose, np.flatnonzero(is_loose) + first)
            end = until
            if not (end - begin) % _CHUNK_ROWS:
                first = end - _CHUNK_ROWS
                has_codes = present[first:end].copy()
                has_codes[loose[loose.searchsorted(first) :] - first] = False
                sketches = (*sketches, _sketched(chunks[-1], has_codes))
        self._coded = _Coded(begin, end, chunks, sketches, loose)


def tail_candidates(allowed_count: int, tail_rows: int, k: int) -> int | None:
    """How many candidates by codes are scored; None if codes save no time.

    Args:
        allowed_count: rows without a graph that may be returned.
        tail_rows: all of them.
        k: how many are wanted in the end.
    """
    if tail_rows < _TAIL_ROWS_MIN or allowed_count < _ALLOWED_SHARE_MIN * tail_rows:
        return None
    return scanned_candidates(k, allowed_count)


def _nothing(row_begin: int) -> _Coded:
    return _Coded(row_begin, row_begin, (), (), np.empty(0, dtype=np.int64))


def _sketched(codes: NDArray[np.uint8], has_codes: Mask) -> Sketches | None:
    """Sketches of a chunk, by a sample of the rows that have codes."""
    rows = np.flatnonzero(has_codes)
    if not len(rows):
        return None
    return sketched(codes, rows[:: max(1, len(rows) // _SAMPLE_ROWS)])
