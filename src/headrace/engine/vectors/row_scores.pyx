# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: cdivision=True
"""How are a few chosen rows scored in one call?

A filter leaves rows that nobody has looked at for long: the time goes into waiting for
memory, and into the calls around each block of vectors. Here the rows to come are asked for
while others are scored, and the best ones are kept on the way.
"""

from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.stdint cimport int64_t
from libc.string cimport memmove

import numpy as np

cdef extern from "row_scores.h":
    void hr_score_rows(
        const float *matrix, size_t dim, const float *query, int is_product,
        const int64_t *rows, int64_t first_row, Py_ssize_t count, float *out
    ) noexcept nogil

# So many rows are scored before the best of them are looked for.
cdef enum:
    BATCH = 256

cdef object _empty = np.empty
cdef object _INT64 = np.dtype(np.int64)
cdef object _FLOAT32 = np.dtype(np.float32)


cdef struct Block:
    const float *values
    int64_t begin
    int64_t end


cdef inline bint is_better(float one, float other) noexcept nogil:
    """Whether a similarity comes before another; what is no number comes last."""
    return one > other or (other != other and one == one)


cdef class RowScores:
    """Scores rows of some blocks of floats, where they lie; any number of threads at a time.

    Args:
        blocks: each of shape (n, dim), float32, C order; may be read only. They stand one
            behind the other.
        begin: the first row of the first block.
        is_product: whether the similarity is the dot product; else it is the negative squared
            distance.
    """

    cdef list kept
    cdef Block *blocks
    cdef Py_ssize_t block_count
    cdef size_t dim
    cdef int is_product

    def __cinit__(self, blocks, int64_t begin, bint is_product):
        cdef const float[:, ::1] values
        cdef Block *block
        self.kept = []
        self.block_count = 0
        self.is_product = is_product
        self.blocks = <Block *>PyMem_RawMalloc((len(blocks) + 1) * sizeof(Block))
        if self.blocks == NULL:
            raise MemoryError
        for values in blocks:
            if self.block_count == 0:
                self.dim = values.shape[1]
            elif <size_t>values.shape[1] != self.dim:
                raise ValueError("the blocks have different dimensions")
            if not values.shape[0] or not self.dim:
                continue
            block = &self.blocks[self.block_count]
            block.values = &values[0, 0]
            block.begin = begin
            begin += values.shape[0]
            block.end = begin
            self.block_count += 1
            self.kept.append(values)

    def __dealloc__(self):
        PyMem_RawFree(self.blocks)

    def similarities(self, const float[::1] query, const int64_t[::1] rows):
        """Similarity of a query to each of the given rows; larger is nearer.

        Args:
            query: shape (dim,), float32.
            rows: shape (n,), int64, ascending, each in a block.

        Returns:
            shape (n,), float32.
        """
        cdef Py_ssize_t count = rows.shape[0]
        self._check(query, rows)
        scored = _empty(count, _FLOAT32)
        cdef float[::1] out = scored
        if count:
            with nogil:
                self._score(&query[0], &rows[0], count, &out[0])
        return scored

    def nearest(self, const float[::1] query, const int64_t[::1] rows, Py_ssize_t k):
        """The nearest of the given rows, nearest first, of equally near ones the first.

        Args:
            query, rows: as above.
            k: how many at most; each row is compared with these, so they should be few.

        Returns:
            shape (min(k, n),), int64, and their similarities, of the same shape, float32.
        """
        cdef Py_ssize_t count = rows.shape[0]
        self._check(query, rows)
        k = min(k, count)
        found, similarities = _empty(max(k, 0), _INT64), _empty(max(k, 0), _FLOAT32)
        cdef int64_t[::1] best = found
        cdef float[::1] scores = similarities
        if k > 0:
            with nogil:
                self._choose(&query[0], &rows[0], count, k, &best[0], &scores[0])
        return found, similarities

    cdef _check(self, const float[::1] query, const int64_t[::1] rows):
        """Refuse what would read outside of the blocks; that the rows ascend is relied on."""
        cdef Py_ssize_t count = rows.shape[0]
        if not count:
            return
        if not self.block_count or <size_t>query.shape[0] != self.dim:
            raise ValueError("the query has another dimension than the rows")
        if rows[0] < self.blocks[0].begin or rows[count - 1] >= self.blocks[self.block_count - 1].end:
            raise ValueError("a row that no block has")

    cdef void _choose(
        self,
        const float *query,
        const int64_t *rows,
        Py_ssize_t count,
        Py_ssize_t k,
        int64_t *best,
        float *scores,
    ) noexcept nogil:
        cdef float batch[BATCH]
        cdef Py_ssize_t begin = 0, i, low, high, middle, taken, size = 0
        while begin < count:
            taken = min(BATCH, count - begin)
            self._score(query, rows + begin, taken, batch)
            for i in range(taken):
                if size == k:
                    if not is_better(batch[i], scores[k - 1]):
                        continue
                    size -= 1
                low, high = 0, size
                while low < high:
                    middle = (low + high) >> 1
                    if is_better(batch[i], scores[middle]):
                        high = middle
                    else:
                        low = middle + 1
                memmove(&scores[low + 1], &scores[low], (size - low) * sizeof(float))
                memmove(&best[low + 1], &best[low], (size - low) * sizeof(int64_t))
                scores[low] = batch[i]
                best[low] = rows[begin + i]
                size += 1
            begin += taken

    cdef void _score(
        self, const float *query, const int64_t *rows, Py_ssize_t count, float *out
    ) noexcept nogil:
        cdef Py_ssize_t begin = 0, end, low, high
        cdef Py_ssize_t number = 0
        while begin < count:
            while rows[begin] >= self.blocks[number].end:
                number += 1
            end = count
            if rows[count - 1] >= self.blocks[number].end:
                # The first row that lies behind the block.
                low, high = begin, count - 1
                while low < high:
                    end = (low + high) >> 1
                    if rows[end] >= self.blocks[number].end:
                        high = end
                    else:
                        low = end + 1
                end = low
            hr_score_rows(
                self.blocks[number].values,
                self.dim,
                query,
                self.is_product,
                rows + begin,
                self.blocks[number].begin,
                end - begin,
                out + begin,
            )
            begin = end
