# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: cdivision=True
"""Which of some nodes, whose codes have 8 bits, are nearest to a query?

All their codes are compared; or first their *sketches*, an eighth as large: one bit for each
code, which says on which side of the middle it is. As in RaBitQ (Gao and Long, 2024), for a
node with the codes x and a query with the codes q, both less the middle, and s the signs
of x,

    |x - q|^2 = |x|^2 + |q|^2 - 2 <x, q>,  and  <x, q> is about <s, q> |x|^2 / <s, x>.

How far <s, q> is from what would be right is known from a sample. So there is a number
below nearly all distances of a node, and only where that is below the distances of the
nearest found so far its codes are compared. Where sketches tell little apart, as within
clusters that are dense beside their distance from the middle, more codes are compared and
the answers are the same. No rotation, which RaBitQ needs for its proof, is done: the sample
says what the components' own axes make of it.

<s, q> is counted in bits: q is rounded to whole numbers of four bits each, and what that
loses is part of the bound.
"""

from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.math cimport INFINITY, fabsf, rintf, sqrtf
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint64_t
from libc.string cimport memcpy, memset

import threading

import numpy as np

from headrace.engine.vector_index.byte_codes cimport hr_prefetch, hr_score_nodes
from headrace.engine.vector_index.byte_pool cimport (
    FLOAT_MAX,
    Pool,
    encode_into,
    insert,
    is_rounding,
    node_of,
    nodes_into,
    packed,
)

cdef extern from "sketches.h":
    enum:
        HR_PLANES
        HR_WORD_CODES
    uint8_t hr_packed(const uint8_t *eight) noexcept nogil
    void hr_sketch_nodes(
        const uint8_t *codes, size_t dim, const uint8_t *middle, Py_ssize_t count,
        size_t words, uint8_t *sketches, float *squares, float *slopes
    ) noexcept nogil
    void hr_sketch_bounds(
        const uint64_t *sketches, size_t words, const uint16_t *factors,
        const uint64_t *planes, const int32_t *nodes, Py_ssize_t count,
        const float *of_query, float *out
    ) noexcept nogil

cdef extern from *:
    """
    #if defined(__GNUC__)
    #define HR_LOWEST_BIT(word) __builtin_ctzll(word)
    #else
    static int HR_LOWEST_BIT(unsigned long long word)
    {
        int place = 0;
        while (!(word & 1)) { word >>= 1; place++; }
        return place;
    }
    #endif
    """
    int HR_LOWEST_BIT(uint64_t word) noexcept nogil

cdef enum:
    # How many nodes are listed at a time; with their bounds they stay in a near cache. With
    # fewer, more codes are compared before those of the nearest are.
    CHUNK = 32768
    # How many codes are asked for before they are compared.
    BATCH = 64

# The bound allows for so many times the usual error. On 200,000 x 256 text embeddings and
# 100,000 x 128 clustered vectors, of which a tenth were compared, 1, 1.5 and 2 times found
# 0.988, 0.998 and 0.9995 of the nearest, by comparing 85, 140 and 220 codes. Where among the
# nearest of a sample errors are larger, as for vectors that are mostly zeros, it allows for
# what one in so many of them needs.
_ERRORS_ALLOWED = 2.0
_NEAREST_COVERED = 0.995

# Sketches that rule out a smaller share of a sample are not worth their time.
_RULED_OUT_MIN = 0.5

_SAMPLE_NODES = 1024
# Of very wide vectors fewer, so that the first search does not take long.
_SAMPLE_NODES_MIN = 128
_SAMPLE_CODES = 2**21
_SAMPLE_QUERIES = 32
_SAMPLE_NEAREST = 10
_FACTOR_MAX = 65535


cdef struct Listed:
    # Which nodes are left: those listed, or those that have a bit.
    const int64_t *nodes
    const uint8_t *bits
    Py_ssize_t next, end


cdef class NodeScan:
    """Compares the codes of nodes one by one; any number of threads at a time.

    Args:
        codes: shape (nodes * code_dim,): of all nodes, one behind the other.
        code_dim: codes of a node, a multiple of 16.
        offset: shape (dim,): what is added to a scaled query.
        scale: what a query is multiplied with before.
        outside_share: a query with a larger share outside the box, squared, has no answer.
    """

    cdef const uint8_t[::1] codes
    cdef const float[::1] offset
    cdef float scale, outside_share
    cdef size_t code_dim
    cdef Py_ssize_t node_count
    cdef object sketching
    # Whether sketches may be made, or are there, for what a sample says.
    cdef readonly bint can_sketch
    # What follows is set once, `has_sketches` last.
    cdef readonly bint has_sketches
    cdef Py_ssize_t words
    cdef const uint64_t[::1] sketches
    cdef const uint16_t[::1] factors
    cdef const uint8_t[::1] middle
    cdef float square_step, slope_step, error_allowed

    def __init__(
        self,
        const uint8_t[::1] codes,
        size_t code_dim,
        const float[::1] offset,
        float scale,
        float outside_share,
    ):
        if code_dim % 16 or <size_t>offset.shape[0] > code_dim or not offset.shape[0]:
            raise ValueError("codes come in groups of 16")
        self.codes, self.code_dim = codes, code_dim
        self.node_count = codes.shape[0] // <Py_ssize_t>code_dim
        self.offset, self.scale, self.outside_share = offset, scale, outside_share
        self.sketching = threading.Lock()
        self.can_sketch = self.node_count > 0
        self.words = (<Py_ssize_t>code_dim + HR_WORD_CODES - 1) // HR_WORD_CODES

    def nearest_of(
        self,
        const float[::1] query,
        Py_ssize_t k,
        const int64_t[::1] nodes=None,
        const uint8_t[::1] bits=None,
        bint is_forced=False,
        Py_ssize_t surely=0,
    ):
        """The nearest of some nodes by their codes, nearest first; k at most.

        Releases the interpreter lock.

        Args:
            query: shape (dim,).
            k: how many are wanted.
            nodes: shape (n,): which nodes; or, where that is None,
            bits: a mask of them, the lowest bit of a byte first; it may end early, and has
                no bits behind the last node.
            is_forced: take of the query what the codes can express.
            surely: if not 0, sketches decide which codes are compared: so many of the
                nearest are nearly always found, and others as they come. The first such
                call makes the sketches; until they are there, and if a sample says that
                they are worth nothing (see `can_sketch`), all codes are compared.

        Returns:
            shape (n,), int64; None if the codes cannot express the query, or if rounding
            decides which nodes are nearest.
        """
        cdef Py_ssize_t dim = self.offset.shape[0], plane_words = HR_PLANES * self.words
        cdef Pool found, seeds
        cdef Listed listed
        cdef uint64_t *planes
        cdef float *bounds
        cdef int32_t *chunk
        cdef uint8_t *coded
        cdef float[4] of_query
        if query.shape[0] != dim:
            raise ValueError("the query has another dimension than the nodes")
        if nodes is None and (bits is None or bits.shape[0] > (self.node_count + 7) // 8):
            raise ValueError("neither nodes nor a mask of them")
        k = max(1, min(k, self.node_count))
        surely = min(surely, k)
        if surely > 0 and not self._is_sketched():
            surely = 0
        found.capacity, seeds.capacity = k, max(surely, 1)
        found.size = seeds.size = 0
        found.entries = <uint64_t *>PyMem_RawMalloc(
            (k + 1 + seeds.capacity + 1 + plane_words) * sizeof(uint64_t)
            + CHUNK * (sizeof(float) + sizeof(int32_t))
            + self.code_dim
        )
        if found.entries == NULL:
            raise MemoryError
        seeds.entries = found.entries + k + 1
        planes = seeds.entries + seeds.capacity + 1
        bounds = <float *>(planes + plane_words)
        chunk = <int32_t *>(bounds + CHUNK)
        coded = <uint8_t *>(chunk + CHUNK)
        try:
            if not encode_into(
                &query[0], &self.offset[0], self.scale, dim, self.code_dim, self.outside_share,
                is_forced, coded
            ):
                return None
            listed = Listed(NULL, NULL, 0, 0)
            if nodes is not None and nodes.shape[0]:
                listed.nodes, listed.end = &nodes[0], nodes.shape[0]
            elif nodes is None and bits.shape[0]:
                listed.bits, listed.end = &bits[0], bits.shape[0]
            with nogil:
                if surely > 0:
                    self._ask_sketches(coded, planes, of_query)
                    self._scan_sketches(
                        coded, planes, of_query, &found, &seeds, &listed, chunk, bounds
                    )
                else:
                    self._scan_codes(coded, &found, &listed, chunk)
            if is_rounding(&found, k, dim):
                return None
            out = np.empty(found.size, dtype=np.int64)
            nodes_into(&found, out)
            return out
        finally:
            PyMem_RawFree(found.entries)

    cdef bint _is_sketched(self):
        """Whether there are sketches; makes them, unless that is being done."""
        if self.has_sketches or not self.can_sketch:
            return self.has_sketches
        if self.sketching.acquire(blocking=False):
            try:
                if not self.has_sketches and self.can_sketch:
                    self._sketch()
            finally:
                self.sketching.release()
        return self.has_sketches

    cdef object _sketch(self):
        cdef Py_ssize_t count = self.node_count
        codes = np.asarray(self.codes)[: count * self.code_dim].reshape(count, self.code_dim)
        affordable = max(_SAMPLE_NODES_MIN, _SAMPLE_CODES // <Py_ssize_t>self.code_dim)
        wanted = min(_SAMPLE_NODES, affordable)
        sample = codes[:: max(1, count // wanted)]
        # The middle is half a step below it, so that no code is there.
        middle = np.minimum(np.rint(sample.mean(axis=0) + 0.5), 255).astype(np.uint8)
        self.error_allowed, ruled_out = _judged(sample - (middle - np.float32(0.5)))
        if ruled_out < _RULED_OUT_MIN:
            self.can_sketch = False
            return
        sketches = np.zeros(count * self.words, dtype=np.uint64)
        of_nodes = np.empty((2, count), dtype=np.float32)
        cdef const uint8_t[:, ::1] codes_view = codes
        cdef const uint8_t[::1] middle_view = middle
        cdef uint8_t[::1] sketches_view = sketches.view(np.uint8)
        cdef float[:, ::1] of_nodes_view = of_nodes
        with nogil:
            hr_sketch_nodes(
                &codes_view[0, 0], self.code_dim, &middle_view[0], count, self.words,
                &sketches_view[0], &of_nodes_view[0, 0], &of_nodes_view[1, 0]
            )
        steps = of_nodes.max(axis=1, keepdims=True) / np.float32(_FACTOR_MAX)
        of_nodes /= steps
        self.square_step, self.slope_step = steps[0, 0], steps[1, 0]
        self.middle, self.sketches = middle, sketches
        self.factors = np.ascontiguousarray(of_nodes.T).astype(np.uint16).reshape(-1)
        self.has_sketches = True

    cdef void _ask_sketches(
        self, const uint8_t *coded, uint64_t *planes, float *of_query
    ) noexcept nogil:
        """What `hr_sketch_bounds` and a comparison of its bounds need of a query."""
        cdef Py_ssize_t i, j, plane
        cdef Py_ssize_t plane_bytes = self.words * sizeof(uint64_t)
        cdef float component, carried, most = 0, square = 0, lost = 0, unit
        cdef int32_t whole, sum = 0
        cdef uint8_t[8] eight
        for i in range(<Py_ssize_t>self.code_dim):
            component = <float>coded[i] - self.middle[i] + <float>0.5
            square += component * component
            most = max(most, fabsf(component))
        unit = most / <float>7.49
        memset(planes, 0, HR_PLANES * plane_bytes)
        for plane in range(HR_PLANES):
            carried = 0
            for i in range(0, <Py_ssize_t>self.code_dim, 8):
                for j in range(8):
                    component = <float>coded[i + j] - self.middle[i + j] + <float>0.5
                    # What rounding leaves is carried on: else it would all go one way where
                    # most components are alike, and so would the sketches.
                    carried += component / unit
                    whole = min(<int32_t>rintf(carried), 7)
                    carried -= whole
                    eight[j] = (whole >> plane) & 1
                    if not plane:
                        sum += whole
                        component -= whole * unit
                        lost += component * component
                (<uint8_t *>planes)[plane * plane_bytes + i // 8] = hr_packed(eight)
        of_query[0] = self.square_step
        of_query[1] = 2 * unit * self.slope_step
        of_query[2] = self.slope_step * (
            sqrtf(self.error_allowed * self.error_allowed * square + 4 * lost) - unit * sum
        )
        of_query[3] = square

    cdef void _scan_codes(
        self, const uint8_t *coded, Pool *found, Listed *listed, int32_t *chunk
    ) noexcept nogil:
        cdef Py_ssize_t i, begin, count
        while True:
            count = take_into(listed, chunk)
            if not count:
                return
            begin = 0
            for i in range(count):
                hr_prefetch(&self.codes[<size_t>chunk[i] * self.code_dim], self.code_dim)
                if i - begin == BATCH - 1:
                    self._offer(coded, found, chunk + begin, BATCH)
                    begin = i + 1
            self._offer(coded, found, chunk + begin, count - begin)

    cdef void _scan_sketches(
        self,
        const uint8_t *coded,
        const uint64_t *planes,
        const float *of_query,
        Pool *found,
        Pool *seeds,
        Listed *listed,
        int32_t *chunk,
        float *bounds,
    ) noexcept nogil:
        """As `_scan_codes`; as many as there is room in `seeds` for are found."""
        cdef int32_t[BATCH] batch
        cdef Py_ssize_t i, count, size, surely = seeds.capacity
        cdef float enough
        while True:
            count = take_into(listed, chunk)
            if not count:
                return
            hr_sketch_bounds(
                &self.sketches[0], self.words, &self.factors[0], planes, chunk, count,
                of_query, bounds
            )
            if found.size < surely:
                # Where nothing is known yet, the best by the bounds are compared first.
                seeds.size = 0
                enough = INFINITY
                for i in range(count):
                    if bounds[i] < enough:
                        insert(seeds, packed(<int32_t>max(bounds[i] + of_query[3], <float>0), i))
                        if seeds.size == surely:
                            enough = <float>(seeds.entries[surely - 1] >> 32) - of_query[3]
                for i in range(seeds.size):
                    batch[0] = chunk[node_of(seeds.entries[i])]
                    self._offer(coded, found, batch, 1)
                    bounds[node_of(seeds.entries[i])] = INFINITY
            enough = self._enough(found, surely, of_query)
            size = 0
            for i in range(count):
                if bounds[i] < enough:
                    batch[size] = chunk[i]
                    hr_prefetch(
                        &self.codes[<size_t>chunk[i] * self.code_dim], self.code_dim
                    )
                    size += 1
                    if size == BATCH:
                        self._offer(coded, found, batch, size)
                        enough = self._enough(found, surely, of_query)
                        size = 0
            self._offer(coded, found, batch, size)

    cdef float _enough(
        self, const Pool *found, Py_ssize_t surely, const float *of_query
    ) noexcept nogil:
        """The bound from which on a node is no longer among the nearest.

        As in `is_rounding`, codes do not tell apart what is nearer than so many steps.
        """
        cdef Py_ssize_t distance
        if found.size < surely:
            return FLOAT_MAX
        distance = <Py_ssize_t>(found.entries[surely - 1] >> 32)
        return <float>max(distance, self.offset.shape[0]) - of_query[3]

    cdef void _offer(
        self, const uint8_t *coded, Pool *found, const int32_t *batch, Py_ssize_t size
    ) noexcept nogil:
        cdef int32_t[BATCH] distances
        cdef Py_ssize_t i
        hr_score_nodes(&self.codes[0], self.code_dim, coded, batch, size, distances)
        for i in range(size):
            insert(found, packed(distances[i], batch[i]))


cdef Py_ssize_t take_into(Listed *listed, int32_t *chunk) noexcept nogil:
    """The next nodes, `CHUNK` at most; how many they are."""
    cdef Py_ssize_t size = 0
    cdef uint64_t word
    if listed.nodes != NULL:
        while size < CHUNK and listed.next < listed.end:
            chunk[size] = <int32_t>listed.nodes[listed.next]
            listed.next += 1
            size += 1
        return size
    # A word has 64 nodes at most.
    while size <= CHUNK - 64 and listed.next < listed.end:
        word = 0
        memcpy(&word, listed.bits + listed.next, min(8, listed.end - listed.next))
        while word:
            chunk[size] = <int32_t>(listed.next * 8 + HR_LOWEST_BIT(word))
            word &= word - 1
            size += 1
        listed.next += 8
    return size


def _judged(sample):
    """What the bound has to allow for, and what it is worth, by a sample.

    Args:
        sample: shape (n, code_dim): codes of nodes less the middle.

    Returns:
        How much lower <s, q> may be than what would be right, as a share of |q|; and which
        share of the sample bounds rule out.
    """
    queries = sample[:: max(1, len(sample) // _SAMPLE_QUERIES)]
    squares = np.einsum("ij,ij->i", sample, sample)[:, None]
    slopes = squares / np.abs(sample).sum(axis=1)[:, None]
    of_queries = np.einsum("ij,ij->i", queries, queries)
    # Not by `@`, whose threads would wait for more beside the searches.
    products = np.einsum("ij,kj->ik", sample, queries)
    sums = np.einsum("ij,kj->ik", np.sign(sample), queries)
    errors = (products / slopes - sums) / np.sqrt(of_queries)
    distances = squares + of_queries - 2 * products
    # The nearest of all is the query itself.
    nearest = np.argsort(distances, axis=0)[1 : _SAMPLE_NEAREST + 1]
    if not len(nearest):
        return 0.0, 0.0
    needed = np.quantile(np.take_along_axis(errors, nearest, axis=0), _NEAREST_COVERED)
    allowed = max(float(needed), _ERRORS_ALLOWED * float(np.sqrt(np.mean(errors**2))))
    bounds = squares + of_queries - 2 * slopes * (sums + allowed * np.sqrt(of_queries))
    enough = np.take_along_axis(distances, nearest[len(nearest) - 1 :], axis=0)
    return allowed, float(np.mean(bounds >= enough))
