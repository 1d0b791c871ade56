# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: cdivision=True
"""Which of some nodes or rows, whose codes have 8 bits, are nearest to a query?

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
from libc.string cimport memset

import threading

import numpy as np

from headrace.engine.vector_index.byte_codes cimport (
    hr_encode,
    hr_prefetch,
    hr_score_block,
    hr_score_nodes,
)
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
    Py_ssize_t hr_take_bits(
        const uint8_t *bits, Py_ssize_t *next, Py_ssize_t end, int32_t *out, Py_ssize_t most
    ) noexcept nogil
    Py_ssize_t hr_next_below(
        const float *bounds, Py_ssize_t begin, Py_ssize_t end, float enough
    ) noexcept nogil

cdef enum:
    # How many nodes are listed at a time; with their bounds they stay in a near cache. With
    # fewer, more codes are compared before those of the nearest are.
    CHUNK = 32768
    # How many codes are asked for before they are compared.
    BATCH = 64
    # How many codes that stand one behind the other are compared at a time.
    BLOCK = 256
    # Of how many rows that stand one behind the other bounds are made at a time.
    BOUNDED = 4096
    # On so many nodes each query is tried.
    TRIED = 32

# The bound allows for so many times the usual error. On 200,000 x 256 text embeddings and
# 100,000 x 128 clustered vectors, of which a tenth were compared, 1, 1.5 and 2 times found
# 0.988, 0.998 and 0.9995 of the nearest, by comparing 85, 140 and 220 codes. Where among the
# nearest of a sample errors are larger, as for vectors that are mostly zeros, it allows for
# what one in so many of them needs; and for a query unlike all of these, for so many times the
# usual error of the query on a few nodes.
cdef float ERRORS_ALLOWED = 2
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


cdef struct SketchView:
    # What `Sketches` has, for code without the interpreter lock.
    const uint64_t *bits
    const uint16_t *factors
    const uint8_t *middle
    size_t code_dim
    const int32_t *tried
    Py_ssize_t words, tried_count
    float square_step, slope_step, error_allowed


cdef class Sketches:
    """Sketches of some codes, one behind the other; immutable.

    Args:
        codes: shape (n, code_dim), n >= 1; `code_dim` is a multiple of 16.
        middle: shape (code_dim,): half a step above it, so that no code is there.
        error_allowed: see `_judged`.
        tried: shape (m,), 1 <= m <= TRIED: ascending nodes on which a query is tried.
    """

    cdef SketchView view
    # What the view looks at.
    cdef const uint64_t[::1] bits
    cdef const uint16_t[::1] factors
    cdef const uint8_t[::1] middle
    cdef const int32_t[::1] tried

    def __init__(
        self,
        const uint8_t[:, ::1] codes,
        const uint8_t[::1] middle,
        float error_allowed,
        const int32_t[::1] tried,
    ):
        cdef Py_ssize_t count = codes.shape[0], words
        if not 0 < tried.shape[0] <= TRIED:
            raise ValueError("a query is tried on no nodes or on too many")
        words = (codes.shape[1] + HR_WORD_CODES - 1) // HR_WORD_CODES
        bits = np.zeros(count * words, dtype=np.uint64)
        of_nodes = np.empty((2, count), dtype=np.float32)
        cdef uint8_t[::1] bits_view = bits.view(np.uint8)
        cdef float[:, ::1] of_nodes_view = of_nodes
        with nogil:
            hr_sketch_nodes(
                &codes[0, 0], codes.shape[1], &middle[0], count, words, &bits_view[0],
                &of_nodes_view[0, 0], &of_nodes_view[1, 0]
            )
        steps = of_nodes.max(axis=1, keepdims=True) / np.float32(_FACTOR_MAX)
        of_nodes /= steps
        self.bits, self.middle, self.tried = bits, middle, tried
        self.factors = np.ascontiguousarray(of_nodes.T).astype(np.uint16).reshape(-1)
        self.view = SketchView(
            &self.bits[0], &self.factors[0], &self.middle[0], codes.shape[1], &self.tried[0],
            words, self.tried.shape[0], steps[0, 0], steps[1, 0], error_allowed
        )


def sketched(codes, sample_nodes):
    """Sketches of codes; None if they would not be worth their time.

    Args:
        codes: shape (n, code_dim), n >= 1, uint8.
        sample_nodes: shape (m,), m >= 1, ascending: some that vectors have.
    """
    sample = codes[sample_nodes]
    # The middle is half a step below it, so that no code is there.
    middle = np.minimum(np.rint(sample.mean(axis=0) + 0.5), 255).astype(np.uint8)
    error_allowed, ruled_out = _judged(sample - (middle - np.float32(0.5)))
    if ruled_out < _RULED_OUT_MIN:
        return None
    tried = sample_nodes[:: (len(sample_nodes) + TRIED - 1) // TRIED].astype(np.int32)
    return Sketches(codes, middle, error_allowed, tried)


cdef struct Asked:
    # A query with what it has found: the best by codes. Where sketches are looked at, also the
    # best by bounds while nothing is known yet, and room for what is worked out.
    Pool found
    Pool seeds
    uint64_t *planes
    float *bounds
    int32_t *nodes
    uint8_t *coded
    Py_ssize_t dim
    float[4] of_query


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
    cdef Sketches sketches
    # Whether sketches may be made, or are there, for what a sample says.
    cdef readonly bint can_sketch

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

    @property
    def has_sketches(self):
        """Whether sketches are there; they stay."""
        return self.sketches is not None

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
            nodes: shape (n,), ascending: which nodes; or, where that is None,
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
        cdef Asked asked
        cdef Listed listed
        cdef Sketches sketches = None
        cdef const SketchView *view = NULL
        cdef Py_ssize_t count
        if query.shape[0] != self.offset.shape[0]:
            raise ValueError("the query has another dimension than the nodes")
        if nodes is None and (bits is None or bits.shape[0] > (self.node_count + 7) // 8):
            raise ValueError("neither nodes nor a mask of them")
        k = max(1, min(k, self.node_count))
        surely = min(surely, k)
        if surely > 0:
            sketches = self._made_sketches()
            if sketches is not None:
                view = &sketches.view
        begin_asking(&asked, query.shape[0], self.code_dim, k, surely, CHUNK)
        try:
            if not encode_into(
                &query[0], &self.offset[0], self.scale, asked.dim, self.code_dim,
                self.outside_share, is_forced, asked.coded
            ):
                return None
            listed = Listed(NULL, NULL, 0, 0)
            if nodes is not None and nodes.shape[0]:
                listed.nodes, listed.end = &nodes[0], nodes.shape[0]
            elif nodes is None and bits.shape[0]:
                listed.bits, listed.end = &bits[0], bits.shape[0]
            with nogil:
                if view != NULL:
                    ask_sketches(view, &asked, &self.codes[0])
                while True:
                    count = take_into(&listed, asked.nodes)
                    if not count:
                        break
                    if view != NULL:
                        offer_sketched(&asked, view, &self.codes[0], 0, count)
                    else:
                        offer_listed(&asked, &self.codes[0], self.code_dim, count)
            return nodes_found(&asked, k)
        finally:
            PyMem_RawFree(asked.found.entries)

    cdef Sketches _made_sketches(self):
        """The sketches; makes them, unless that is being done or is of no use."""
        if self.sketches is None and self.can_sketch and self.sketching.acquire(blocking=False):
            try:
                if self.sketches is None and self.can_sketch:
                    count = self.node_count
                    codes = np.asarray(self.codes)[: count * self.code_dim].reshape(count, -1)
                    affordable = max(_SAMPLE_NODES_MIN, _SAMPLE_CODES // <int>self.code_dim)
                    step = max(1, count // min(_SAMPLE_NODES, affordable))
                    self.sketches = sketched(codes, np.arange(0, count, step))
                    self.can_sketch = self.sketches is not None
            finally:
                self.sketching.release()
        return self.sketches


cdef class ByteScan:
    """Codes of vectors that have no graph: makes them, and compares all of them.

    Args:
        code_dim: codes of a vector, a multiple of 16.
        offset: shape (dim,): what is added to a scaled vector.
        scale: what a vector is multiplied with before.
        outside_share: a vector with a larger share outside the box, squared, has no codes.
    """

    cdef size_t code_dim
    cdef const float[::1] offset
    cdef float scale, outside_share

    def __init__(
        self, size_t code_dim, const float[::1] offset, float scale, float outside_share
    ):
        if code_dim % 16 or <size_t>offset.shape[0] > code_dim or not offset.shape[0]:
            raise ValueError("codes come in groups of 16")
        self.code_dim, self.offset = code_dim, offset
        self.scale, self.outside_share = scale, outside_share

    def encode(
        self, const float[:, ::1] vectors, uint8_t[:, ::1] codes, uint8_t[::1] expressed
    ):
        """The codes of vectors. Releases the interpreter lock.

        Args:
            vectors: shape (n, dim).
            codes: shape (n, code_dim); written.
            expressed: shape (n,); 1 is written for those that the codes can express, else 0.
        """
        cdef Py_ssize_t i, count = vectors.shape[0], dim = self.offset.shape[0]
        if vectors.shape[1] != dim or codes.shape[1] != <Py_ssize_t>self.code_dim:
            raise ValueError("the vectors or the codes have another dimension")
        if codes.shape[0] != count or expressed.shape[0] != count:
            raise ValueError("not as many codes as vectors")
        if not count:
            return
        with nogil:
            memset(&codes[0, 0], 0, count * self.code_dim)
            for i in range(count):
                expressed[i] = hr_encode(
                    &vectors[i, 0], dim, &self.offset[0], self.scale, self.outside_share,
                    &codes[i, 0],
                )

    def nearest_of(
        self,
        const float[::1] query,
        Py_ssize_t k,
        tuple chunks,
        Py_ssize_t begin,
        const uint8_t[::1] allowed,
        tuple sketches=(),
        Py_ssize_t surely=0,
    ):
        """The places of the nearest codes, nearest first; k at most.

        Releases the interpreter lock, once.

        Args:
            query: shape (dim,).
            k: how many are wanted.
            chunks: arrays of codes, shape (n, code_dim), all of the same n; one behind the other.
            begin: the first place.
            allowed: shape (m,): 1 for the places, from `begin` on, that may be returned.
            sketches: of the first chunks, `Sketches` of each, or None for those whose codes are
                all compared.
            surely: of the nearest codes that have sketches so many are nearly always found, and
                others as they come.

        Returns:
            Places, shape (j,), int64; None if the codes cannot express the query, or if rounding
            decides which are nearest.
        """
        cdef Asked asked
        cdef Sketches of_chunk
        cdef const uint8_t[:, ::1] codes
        cdef const uint8_t **firsts
        cdef const SketchView **views
        cdef Py_ssize_t chunk_count = len(chunks), chunk_rows = 1, chunk, first, last, i
        cdef Py_ssize_t end = begin + allowed.shape[0]
        if query.shape[0] != self.offset.shape[0]:
            raise ValueError("the query has another dimension")
        k = min(k, allowed.shape[0])
        if k <= 0:
            return np.empty(0, dtype=np.int64)
        if len(sketches) > chunk_count:
            raise ValueError("fewer codes than sketches")
        begin_asking(&asked, query.shape[0], self.code_dim, k, min(surely, k), BOUNDED)
        firsts = <const uint8_t **>PyMem_RawMalloc(2 * (chunk_count + 1) * sizeof(uint8_t *))
        try:
            if firsts == NULL:
                raise MemoryError
            views = <const SketchView **>(firsts + chunk_count + 1)
            for chunk in range(chunk_count):
                codes = chunks[chunk]
                if codes.shape[1] != <Py_ssize_t>self.code_dim:
                    raise ValueError("the codes have another shape")
                if chunk and codes.shape[0] != chunk_rows:
                    raise ValueError("the codes have another shape")
                chunk_rows = codes.shape[0]
                firsts[chunk], views[chunk] = &codes[0, 0], NULL
                if surely > 0 and chunk < len(sketches) and sketches[chunk] is not None:
                    of_chunk = sketches[chunk]
                    views[chunk] = &of_chunk.view
            if begin < 0 or end > chunk_rows * chunk_count:
                raise ValueError("fewer codes than places")
            memset(asked.coded, 0, self.code_dim)
            if not hr_encode(
                &query[0], asked.dim, &self.offset[0], self.scale, self.outside_share,
                asked.coded
            ):
                return None
            with nogil:
                for chunk in range(begin // chunk_rows, (end + chunk_rows - 1) // chunk_rows):
                    i = chunk * chunk_rows
                    first, last = max(begin - i, 0), min(end - i, chunk_rows)
                    if views[chunk] == NULL:
                        self._offer_codes(
                            &asked, firsts[chunk], first, last, i, &allowed[i + first - begin]
                        )
                    else:
                        self._offer_sketched(
                            &asked, views[chunk], firsts[chunk], first, last, i,
                            &allowed[i + first - begin]
                        )
            return nodes_found(&asked, k)
        finally:
            PyMem_RawFree(firsts)
            PyMem_RawFree(asked.found.entries)

    cdef void _offer_codes(
        self,
        Asked *asked,
        const uint8_t *codes,
        Py_ssize_t first,
        Py_ssize_t last,
        Py_ssize_t base,
        const uint8_t *allowed,
    ) noexcept nogil:
        """Compare the codes of the rows first..last - 1 of a chunk whose first place is `base`."""
        cdef int32_t[BLOCK] distances
        cdef Py_ssize_t i, count, row = first
        while row < last:
            count = min(last - row, <Py_ssize_t>BLOCK)
            hr_score_block(
                codes + row * self.code_dim, self.code_dim, asked.coded, count, distances
            )
            for i in range(count):
                if allowed[row + i - first]:
                    insert(&asked.found, packed(distances[i], <int32_t>(base + row + i)))
            row += count

    cdef void _offer_sketched(
        self,
        Asked *asked,
        const SketchView *view,
        const uint8_t *codes,
        Py_ssize_t first,
        Py_ssize_t last,
        Py_ssize_t base,
        const uint8_t *allowed,
    ) noexcept nogil:
        """As `_offer_codes`, but sketches decide which codes are compared."""
        cdef Py_ssize_t row = first, until, count
        ask_sketches(view, asked, codes)
        while row < last:
            until = min(last, row + BOUNDED)
            count = 0
            while row < until:
                asked.nodes[count] = <int32_t>row
                count += allowed[row - first] != 0
                row += 1
            offer_sketched(asked, view, codes, <int32_t>base, count)


cdef int begin_asking(
    Asked *asked,
    Py_ssize_t dim,
    size_t code_dim,
    Py_ssize_t k,
    Py_ssize_t surely,
    Py_ssize_t nodes,
) except -1:
    """Make room; what `asked.found.entries` points to is to be freed.

    Args:
        dim: of the query.
        code_dim: codes of a node.
        k: how many are to be found.
        surely: how many of them surely; 0 without sketches.
        nodes: of how many there are bounds at a time.
    """
    cdef Py_ssize_t plane_words = (<Py_ssize_t>code_dim + HR_WORD_CODES - 1) // HR_WORD_CODES
    plane_words *= HR_PLANES
    asked.dim = dim
    asked.found.capacity, asked.seeds.capacity = k, max(surely, 1)
    asked.found.size = asked.seeds.size = 0
    asked.found.entries = <uint64_t *>PyMem_RawMalloc(
        (k + 1 + asked.seeds.capacity + 1 + plane_words) * sizeof(uint64_t)
        + nodes * (sizeof(float) + sizeof(int32_t))
        + code_dim
    )
    if asked.found.entries == NULL:
        raise MemoryError
    asked.seeds.entries = asked.found.entries + k + 1
    asked.planes = asked.seeds.entries + asked.seeds.capacity + 1
    asked.bounds = <float *>(asked.planes + plane_words)
    asked.nodes = <int32_t *>(asked.bounds + nodes)
    asked.coded = <uint8_t *>(asked.nodes + nodes)
    return 0


cdef object nodes_found(Asked *asked, Py_ssize_t k):
    """All that were found; None if rounding decides which are nearest."""
    if is_rounding(&asked.found, k, asked.dim):
        return None
    out = np.empty(asked.found.size, dtype=np.int64)
    nodes_into(&asked.found, out)
    return out


cdef Py_ssize_t take_into(Listed *listed, int32_t *chunk) noexcept nogil:
    """The next nodes, `CHUNK` at most; how many they are."""
    cdef Py_ssize_t size = 0
    if listed.nodes == NULL:
        return hr_take_bits(listed.bits, &listed.next, listed.end, chunk, CHUNK)
    while size < CHUNK and listed.next < listed.end:
        chunk[size] = <int32_t>listed.nodes[listed.next]
        listed.next += 1
        size += 1
    return size


cdef void offer_listed(
    Asked *asked, const uint8_t *codes, size_t code_dim, Py_ssize_t count
) noexcept nogil:
    """Compare the codes of the first of `asked.nodes`."""
    cdef Py_ssize_t i, begin = 0
    for i in range(count):
        hr_prefetch(codes + <size_t>asked.nodes[i] * code_dim, code_dim)
        if i - begin == BATCH - 1:
            offer(asked, codes, code_dim, asked.nodes + begin, BATCH, 0)
            begin = i + 1
    offer(asked, codes, code_dim, asked.nodes + begin, count - begin, 0)


cdef void offer(
    Asked *asked,
    const uint8_t *codes,
    size_t code_dim,
    const int32_t *batch,
    Py_ssize_t size,
    int32_t base,
) noexcept nogil:
    """Compare the codes of a batch; what is found is counted from `base` on."""
    cdef int32_t[BATCH] distances
    cdef Py_ssize_t i
    hr_score_nodes(codes, code_dim, asked.coded, batch, size, distances)
    for i in range(size):
        insert(&asked.found, packed(distances[i], base + batch[i]))


cdef void ask_sketches(
    const SketchView *view, Asked *asked, const uint8_t *codes
) noexcept nogil:
    """Make of the query what `hr_sketch_bounds` and a comparison of its bounds need.

    Args:
        codes: of all nodes.
    """
    cdef Py_ssize_t i, j, plane, code_dim = view.code_dim
    cdef Py_ssize_t plane_bytes = view.words * sizeof(uint64_t)
    cdef float component, carried = 0, most = 0, square = 0, lost = 0, unit, per_unit
    cdef float error, errors = 0
    cdef int32_t[TRIED] distances
    cdef int32_t sum = 0
    cdef int32_t[8] whole
    cdef uint8_t[8] eight
    for i in range(code_dim):
        component = <float>asked.coded[i] - view.middle[i] + <float>0.5
        square += component * component
        most = max(most, fabsf(component))
    unit = most / <float>7.49
    per_unit = 1 / unit
    memset(asked.planes, 0, HR_PLANES * plane_bytes)
    for i in range(0, code_dim, 8):
        for j in range(8):
            component = <float>asked.coded[i + j] - view.middle[i + j] + <float>0.5
            # What rounding leaves is carried on: else it would all go one way where most
            # components are alike, and so would the sketches.
            carried += component * per_unit
            whole[j] = min(<int32_t>rintf(carried), 7)
            carried -= whole[j]
            sum += whole[j]
            component -= whole[j] * unit
            lost += component * component
        for plane in range(HR_PLANES):
            for j in range(8):
                eight[j] = (whole[j] >> plane) & 1
            (<uint8_t *>asked.planes)[plane * plane_bytes + i // 8] = hr_packed(eight)
    asked.of_query[0] = view.square_step
    asked.of_query[1] = 2 * unit * view.slope_step
    asked.of_query[2] = -view.slope_step * unit * sum
    # What is true of the nodes among each other need not be of this query.
    hr_sketch_bounds(
        view.bits, view.words, view.factors, asked.planes, view.tried, view.tried_count,
        asked.of_query, asked.bounds
    )
    hr_score_nodes(codes, code_dim, asked.coded, view.tried, view.tried_count, distances)
    for i in range(view.tried_count):
        error = asked.bounds[i] + square - distances[i]
        error /= view.slope_step * max(view.factors[2 * view.tried[i] + 1], 1)
        errors += error * error
    asked.of_query[2] += view.slope_step * max(
        sqrtf(view.error_allowed * view.error_allowed * square + 4 * lost),
        ERRORS_ALLOWED * sqrtf(errors / view.tried_count)
    )
    asked.of_query[3] = square


cdef void offer_sketched(
    Asked *asked, const SketchView *view, const uint8_t *codes, int32_t base, Py_ssize_t count
) noexcept nogil:
    """Compare the codes of those of the first of `asked.nodes` that sketches do not rule out.

    Args:
        asked: its query was asked of the same sketches.
        view: sketches of the codes.
        codes: of all nodes.
        base: what is found is counted from it on.
        count: how many nodes; what `asked.bounds` has of them is lost.
    """
    cdef int32_t[BATCH] batch
    cdef Py_ssize_t i, size, surely = asked.seeds.capacity
    cdef float enough
    cdef float *bounds = asked.bounds
    hr_sketch_bounds(
        view.bits, view.words, view.factors, asked.planes, asked.nodes, count, asked.of_query,
        bounds
    )
    if asked.found.size < surely:
        # Where nothing is known yet, the best by the bounds are compared first.
        asked.seeds.size = 0
        enough = INFINITY
        i = hr_next_below(bounds, 0, count, enough)
        while i < count:
            insert(
                &asked.seeds, packed(<int32_t>max(bounds[i] + asked.of_query[3], <float>0), i)
            )
            if asked.seeds.size == surely:
                enough = <float>(asked.seeds.entries[surely - 1] >> 32) - asked.of_query[3]
            i = hr_next_below(bounds, i + 1, count, enough)
        for i in range(asked.seeds.size):
            batch[0] = asked.nodes[node_of(asked.seeds.entries[i])]
            offer(asked, codes, view.code_dim, batch, 1, base)
            bounds[node_of(asked.seeds.entries[i])] = INFINITY
    enough = enough_of(asked)
    size = 0
    i = hr_next_below(bounds, 0, count, enough)
    while i < count:
        batch[size] = asked.nodes[i]
        hr_prefetch(codes + <size_t>batch[size] * view.code_dim, view.code_dim)
        size += 1
        if size == BATCH:
            offer(asked, codes, view.code_dim, batch, size, base)
            enough = enough_of(asked)
            size = 0
        i = hr_next_below(bounds, i + 1, count, enough)
    offer(asked, codes, view.code_dim, batch, size, base)


cdef float enough_of(const Asked *asked) noexcept nogil:
    """The bound from which on a node is no longer among the nearest.

    As in `is_rounding`, codes do not tell apart what is nearer than so many steps.
    """
    cdef Py_ssize_t distance
    if asked.found.size < asked.seeds.capacity:
        return FLOAT_MAX
    distance = <Py_ssize_t>(asked.found.entries[asked.seeds.capacity - 1] >> 32)
    return <float>max(distance, asked.dim) - asked.of_query[3]


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
    allowed = max(float(needed), ERRORS_ALLOWED * float(np.sqrt(np.mean(errors**2))))
    bounds = squares + of_queries - 2 * slopes * (sums + allowed * np.sqrt(of_queries))
    enough = np.take_along_axis(distances, nearest[len(nearest) - 1 :], axis=0)
    return allowed, float(np.mean(bounds >= enough))
