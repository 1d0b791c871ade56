# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""What walking a graph over 8-bit codes and comparing all of some codes have in common."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memmove, memset

cdef extern from "float.h":
    float FLOAT_MAX "FLT_MAX"

cdef extern from "math.h":
    float rintf(float x) noexcept nogil


cdef struct Pool:
    # The best entries so far, ascending.
    uint64_t *entries
    Py_ssize_t size
    Py_ssize_t capacity


cdef inline uint64_t packed(int32_t distance, int32_t node) noexcept nogil:
    return (<uint64_t>distance << 32) | (<uint64_t>node << 1)


cdef inline int32_t node_of(uint64_t entry) noexcept nogil:
    return <int32_t>(<uint32_t>entry >> 1)


cdef inline Py_ssize_t insert(Pool *pool, uint64_t entry) noexcept nogil:
    """Put an entry in its place, and return that; the pool's capacity if it has none."""
    cdef Py_ssize_t low = 0, high = pool.size, middle
    if pool.size == pool.capacity:
        if entry >= pool.entries[pool.size - 1]:
            return pool.capacity
        high = pool.size - 1
        pool.size -= 1
    while low < high:
        middle = (low + high) >> 1
        if pool.entries[middle] < entry:
            low = middle + 1
        else:
            high = middle
    memmove(
        pool.entries + low + 1, pool.entries + low, (pool.size - low) * sizeof(uint64_t)
    )
    pool.entries[low] = entry
    pool.size += 1
    return low


cdef inline bint is_rounding(Pool *found, Py_ssize_t k, Py_ssize_t dim) noexcept nogil:
    """Whether the k nearest, if there are as many, all lie within a few steps.

    Rounding alone makes a sixth of a squared step of each component, on average.
    """
    if not k or found.size < k:
        return False
    return <Py_ssize_t>(found.entries[k - 1] >> 32) < dim


cdef inline void nodes_into(const Pool *found, int64_t[::1] nodes) noexcept nogil:
    """The nodes of all entries, in their order."""
    cdef Py_ssize_t i
    for i in range(found.size):
        nodes[i] = node_of(found.entries[i])


cdef inline bint encode_into(
    const float *query,
    const float *offset,
    float scale,
    Py_ssize_t dim,
    size_t code_dim,
    float outside_share,
    bint is_forced,
    uint8_t *coded,
) noexcept nogil:
    """The codes of a query; False if they do not express it."""
    cdef Py_ssize_t i
    cdef float scaled, inside, far = 0, far_from_middle = 0
    memset(coded, 0, code_dim)
    for i in range(dim):
        scaled = query[i] * scale + offset[i]
        inside = min(max(scaled, <float>0), <float>255)
        far += (scaled - inside) * (scaled - inside)
        far_from_middle += (scaled - <float>127.5) * (scaled - <float>127.5)
        coded[i] = <uint8_t>rintf(inside)
    # Beyond what a float holds the comparison says nothing.
    return is_forced or (far <= outside_share * far_from_middle and far < FLOAT_MAX)
