# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: cdivision=True
"""How is a graph over 8-bit codes walked as fast as memory gives it?

FAISS's own walk over such nodes spends most of its time waiting for memory: each distance
is asked for by itself. This walk reads the same arrays where they lie, gathers the
neighbours of a node that it has not met, asks for all their codes at once, and compares
them with instructions of the processor it runs on. Its candidates stand in one sorted
array, an entry of which is one number: distance, node, and whether it was expanded.
"""

from cpython.mem cimport PyMem_RawMalloc, PyMem_RawFree, PyMem_RawCalloc
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memset

import numpy as np

from headrace.engine.vector_index.byte_codes cimport hr_prefetch, hr_score_nodes
from headrace.engine.vector_index.byte_pool cimport (
    Pool,
    encode_into,
    insert,
    is_rounding,
    node_of,
    nodes_into,
    packed,
)


cdef inline bint is_allowed(
    const uint8_t *allowed, int64_t allowed_end, int32_t node
) noexcept nogil:
    return node < allowed_end and allowed[node >> 3] >> (node & 7) & 1


cdef class _Scratch:
    """What one walk needs: which nodes it has met, by the number of the walk."""

    cdef uint8_t *seen
    cdef Py_ssize_t node_count
    cdef uint8_t walk

    def __cinit__(self, Py_ssize_t node_count):
        self.seen = <uint8_t *>PyMem_RawCalloc(max(node_count, 1), 1)
        if self.seen == NULL:
            raise MemoryError
        self.node_count = node_count
        self.walk = 0

    def __dealloc__(self):
        PyMem_RawFree(self.seen)

    cdef void begin(self) noexcept nogil:
        self.walk += 1
        if self.walk == 0:
            memset(self.seen, 0, self.node_count)
            self.walk = 1


cdef class ByteWalk:
    """Walks over one finished graph; any number of threads at a time.

    Args:
        codes: shape (nodes * code_dim,): of all nodes, one behind the other.
        code_dim: codes of a node, a multiple of 16.
        links: of all nodes and layers; unused ones at the end of a layer's are -1.
        begins: shape (nodes + 1,): where the links of a node begin.
        layer_begins: where the links of a layer begin among those of a node.
        entry: the node where walks begin; -1 if there are none.
        top_layer: the one that `entry` is on.
        offset: shape (dim,): what is added to a scaled query.
        scale: what a query is multiplied with before.
        outside_share: a query with a larger share outside the box, squared, is not walked.
    """

    cdef const uint8_t[::1] codes
    cdef const int32_t[::1] links
    cdef const uint64_t[::1] begins
    cdef const int32_t[::1] layer_begins
    cdef const float[::1] offset
    cdef float scale, outside_share
    cdef size_t code_dim
    cdef Py_ssize_t node_count
    cdef int32_t entry, top_layer
    cdef list scratches

    def __init__(
        self,
        const uint8_t[::1] codes,
        size_t code_dim,
        const int32_t[::1] links,
        const uint64_t[::1] begins,
        const int32_t[::1] layer_begins,
        int32_t entry,
        int32_t top_layer,
        const float[::1] offset,
        float scale,
        float outside_share,
    ):
        if code_dim % 16 or <size_t>offset.shape[0] > code_dim:
            raise ValueError("codes come in groups of 16")
        self.node_count = begins.shape[0] - 1
        if codes.shape[0] < self.node_count * <Py_ssize_t>code_dim:
            raise ValueError("fewer codes than nodes")
        if self.node_count and entry >= 0:
            if entry >= self.node_count or top_layer + 1 >= layer_begins.shape[0]:
                raise ValueError("walks begin at a node that is not there")
            if begins[entry + 1] - begins[entry] < <uint64_t>layer_begins[top_layer + 1]:
                raise ValueError("walks begin on a layer that their first node is not on")
            if <uint64_t>links.shape[0] < begins[self.node_count]:
                raise ValueError("fewer links than the nodes have")
        self.codes, self.code_dim = codes, code_dim
        self.links, self.begins, self.layer_begins = links, begins, layer_begins
        self.entry, self.top_layer = entry, top_layer
        self.offset, self.scale, self.outside_share = offset, scale, outside_share
        self.scratches = []

    def nearest(
        self,
        const float[::1] query,
        Py_ssize_t k,
        Py_ssize_t width,
        const uint8_t[::1] allowed=None,
        bint is_forced=False,
    ):
        """The nodes that are nearest by their codes, nearest first; k at most.

        There are none if the codes cannot express the query, and as many as were met, up to
        `width`, if even the k nearest are so near that rounding decides about their order.
        Releases the interpreter lock.

        Args:
            query: shape (dim,).
            k: how many are wanted.
            width: how many candidates are kept; at least k are.
            allowed: the mask of nodes that may be returned, the lowest bit of a byte first;
                it may end early. None = all.
            is_forced: take of the query what the codes can express.

        Returns:
            shape (n,), int64.
        """
        cdef Py_ssize_t dim = self.offset.shape[0]
        cdef _Scratch scratch
        cdef Pool pool, found
        cdef uint8_t *coded
        cdef int32_t *batch
        cdef Py_ssize_t links_max = self.links_max()
        if query.shape[0] != dim:
            raise ValueError("the query has another dimension than the nodes")
        if self.entry < 0 or k <= 0 or (allowed is not None and not allowed.shape[0]):
            return np.empty(0, dtype=np.int64)
        # More than all nodes are never kept.
        k = min(k, self.node_count)
        width = min(max(width, k), self.node_count)
        coded = <uint8_t *>PyMem_RawMalloc(
            self.code_dim
            + 2 * (width + 1) * sizeof(uint64_t)
            + 2 * links_max * sizeof(int32_t)
        )
        if coded == NULL:
            raise MemoryError
        try:
            if not encode_into(
                &query[0], &self.offset[0], self.scale, dim, self.code_dim, self.outside_share,
                is_forced, coded
            ):
                return np.empty(0, dtype=np.int64)
            pool.entries = <uint64_t *>(coded + self.code_dim)
            pool.size, pool.capacity = 0, width
            found.entries = pool.entries + width + 1
            found.size, found.capacity = 0, width
            batch = <int32_t *>(found.entries + width + 1)
            scratch = self._take_scratch()
            with nogil:
                scratch.begin()
                self._walk(coded, &pool, &found, allowed, scratch, batch, batch + links_max)
            self.scratches.append(scratch)
            if allowed is None:
                found.entries, found.size = pool.entries, pool.size
            if not is_rounding(&found, k, dim):
                found.size = min(found.size, k)
            return nodes_of(&found)
        finally:
            PyMem_RawFree(coded)

    cdef Py_ssize_t links_max(self) noexcept:
        cdef Py_ssize_t layer, most = 1
        for layer in range(self.layer_begins.shape[0] - 1):
            most = max(most, self.layer_begins[layer + 1] - self.layer_begins[layer])
        return most

    cdef _Scratch _take_scratch(self):
        try:
            return self.scratches.pop()
        except IndexError:
            return _Scratch(self.node_count)

    cdef void _walk(
        self,
        const uint8_t *coded,
        Pool *pool,
        Pool *found,
        const uint8_t[::1] allowed,
        _Scratch scratch,
        int32_t *batch,
        int32_t *distances,
    ) noexcept nogil:
        cdef const uint8_t *codes = &self.codes[0]
        cdef const int32_t *links = &self.links[0]
        cdef uint8_t *seen = scratch.seen
        cdef uint8_t walk = scratch.walk
        cdef bint is_masked = allowed is not None
        cdef int64_t allowed_end = allowed.shape[0] * 8 if is_masked else 0
        cdef Py_ssize_t width = self.layer_begins[1], i, count, place, lowest, next = 0
        cdef int32_t node, neighbour
        cdef const int32_t *of_node
        batch[0] = self._descend(coded, batch, distances)
        seen[batch[0]] = walk
        count = 1
        lowest = 0
        while True:
            hr_score_nodes(codes, self.code_dim, coded, batch, count, distances)
            for i in range(count):
                node = batch[i]
                place = insert(pool, packed(distances[i], node))
                if place < lowest:
                    lowest = place
                if is_masked and is_allowed(&allowed[0], allowed_end, node):
                    insert(found, packed(distances[i], node))
            next = lowest
            while next < pool.size and pool.entries[next] & 1:
                next += 1
            if next == pool.size:
                return
            node = node_of(pool.entries[next])
            pool.entries[next] |= 1
            lowest = next + 1
            of_node = links + self.begins[node]
            count = 0
            for i in range(width):
                neighbour = of_node[i]
                if neighbour < 0:
                    break
                if seen[neighbour] == walk:
                    continue
                seen[neighbour] = walk
                batch[count] = neighbour
                count += 1
                hr_prefetch(codes + <size_t>neighbour * self.code_dim, self.code_dim)
            # Where the walk most likely goes on.
            if lowest < pool.size:
                of_node = links + self.begins[node_of(pool.entries[lowest])]
                hr_prefetch(of_node, width * sizeof(int32_t))

    cdef int32_t _descend(
        self, const uint8_t *coded, int32_t *batch, int32_t *distances
    ) noexcept nogil:
        """The nearest node that the upper layers lead to."""
        cdef const uint8_t *codes = &self.codes[0]
        cdef int32_t nearest = self.entry, before, distance
        cdef Py_ssize_t layer, i, begin, end, count
        hr_score_nodes(codes, self.code_dim, coded, &nearest, 1, &distance)
        for layer in range(self.top_layer, 0, -1):
            begin, end = self.layer_begins[layer], self.layer_begins[layer + 1]
            while True:
                before = nearest
                count = 0
                for i in range(begin, end):
                    batch[count] = self.links[self.begins[before] + i]
                    if batch[count] < 0:
                        break
                    hr_prefetch(
                        codes + <size_t>batch[count] * self.code_dim, self.code_dim
                    )
                    count += 1
                hr_score_nodes(codes, self.code_dim, coded, batch, count, distances)
                for i in range(count):
                    if distances[i] < distance:
                        nearest, distance = batch[i], distances[i]
                if nearest == before:
                    break
        return nearest


cdef object nodes_of(const Pool *found):
    nodes = np.empty(found.size, dtype=np.int64)
    nodes_into(found, nodes)
    return nodes
