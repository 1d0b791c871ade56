# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: cdivision=True
"""What linking a graph over 8-bit codes does for each node; see `linking.py` for its order.

A *pool* is a node's nearest others so far: a row of ascending entries, each one number made
of distance and node, filled up with `EMPTY`. All functions release the interpreter lock;
each writes for the nodes that it is given alone, so that calls for different nodes may run
beside each other, and what comes out does not depend on their order.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from headrace.engine.vector_index.byte_codes cimport hr_prefetch, hr_score_block, hr_score_nodes

cdef extern from "byte_products.h":
    ctypedef struct hr_kernel:
        size_t (*compare_bytes)(
            Py_ssize_t count, size_t dim, Py_ssize_t pool_size
        ) noexcept nogil
        void (*compare_all)(
            const uint8_t *codes, size_t dim, const int32_t *nodes, Py_ssize_t count,
            uint64_t *pools, Py_ssize_t pool_size, uint8_t *memory
        ) noexcept nogil
        size_t (*nearest_bytes)(Py_ssize_t pivot_count, size_t dim) noexcept nogil
        void (*nearest_pivots)(
            const uint8_t *codes, size_t dim, const int32_t *nodes, Py_ssize_t count,
            const int32_t *pivots, Py_ssize_t pivot_count, int32_t *out, uint8_t *memory
        ) noexcept nogil
        size_t (*spread_bytes)(Py_ssize_t count, size_t dim) noexcept nogil
        Py_ssize_t (*spread)(
            const uint8_t *codes, size_t dim, const uint64_t *entries, Py_ssize_t count,
            Py_ssize_t degree, float slack, int32_t *out, uint8_t *memory
        ) noexcept nogil

    const hr_kernel hr_kernels[]
    int hr_kernels_supported() noexcept nogil
    bint hr_offer(uint64_t *pool, Py_ssize_t size, uint64_t entry) noexcept nogil

EMPTY = 2**64 - 1

# With how many kernels of `byte_products.h` this processor can work. All functions that are
# told the number of a kernel, the last of which is the fastest, do the same with any, and
# without (0).
KERNELS = hr_kernels_supported()

cdef uint64_t NONE = <uint64_t>-1
cdef int32_t FARTHEST = 0x7FFFFFFF


cdef inline uint64_t packed(int32_t distance, int32_t node) noexcept nogil:
    return (<uint64_t>distance << 32) | <uint64_t><uint32_t>node


cdef inline int32_t node_of(uint64_t entry) noexcept nogil:
    return <int32_t><uint32_t>entry


cdef inline int32_t distance_of(uint64_t entry) noexcept nogil:
    return FARTHEST if entry == NONE else <int32_t>(entry >> 32)


cdef void *reserve(size_t byte_count) except NULL:
    cdef void *memory = malloc(byte_count + 64)
    if memory == NULL:
        raise MemoryError
    return memory


def nearest_pivots(
    const uint8_t[:, ::1] codes,
    const int32_t[::1] nodes,
    const int32_t[::1] pivots,
    int32_t[::1] out,
    int kernel=KERNELS,
):
    """The position of the nearest pivot of each node.

    Args:
        codes: shape (n, code_dim), of all nodes.
        nodes: shape (m,).
        pivots: shape (p,): nodes, p >= 1.
        out: shape (m,); overwritten.
        kernel: see `KERNELS`.
    """
    cdef Py_ssize_t i, j, count = pivots.shape[0], best
    cdef size_t dim = codes.shape[1]
    cdef int32_t *distances
    cdef uint8_t *block
    # A block is only made for many nodes.
    if kernel and nodes.shape[0] > count:
        block = <uint8_t *>reserve(hr_kernels[kernel - 1].nearest_bytes(count, dim))
        with nogil:
            hr_kernels[kernel - 1].nearest_pivots(
                &codes[0, 0], dim, &nodes[0], nodes.shape[0], &pivots[0], count, &out[0], block
            )
        free(block)
        return
    distances = <int32_t *>reserve(count * (sizeof(int32_t) + dim))
    block = <uint8_t *>(distances + count)
    with nogil:
        for j in range(count):
            memcpy(block + j * dim, &codes[pivots[j], 0], dim)
        for i in range(nodes.shape[0]):
            hr_score_block(block, dim, &codes[nodes[i], 0], count, distances)
            best = 0
            for j in range(1, count):
                if distances[j] < distances[best]:
                    best = j
            out[i] = <int32_t>best
    free(distances)


def compare_all(
    const uint8_t[:, ::1] codes,
    const int32_t[::1] nodes,
    uint64_t[:, ::1] pools,
    int kernel=KERNELS,
):
    """Offer each of some nodes to each other.

    Args:
        codes: shape (n, code_dim), of all nodes.
        nodes: shape (m,), unique.
        pools: shape (n, k); changed for these nodes.
        kernel: see `KERNELS`.
    """
    cdef Py_ssize_t i, j, count = nodes.shape[0], size = pools.shape[1], rest
    cdef size_t dim = codes.shape[1]
    cdef uint64_t *pool
    cdef int32_t *distances
    cdef int32_t *worst
    cdef uint8_t *block
    if kernel and count:
        block = <uint8_t *>reserve(hr_kernels[kernel - 1].compare_bytes(count, dim, size))
        with nogil:
            hr_kernels[kernel - 1].compare_all(
                &codes[0, 0], dim, &nodes[0], count, &pools[0, 0], size, block
            )
        free(block)
        return
    distances = <int32_t *>reserve(count * (2 * sizeof(int32_t) + dim))
    worst = distances + count
    block = <uint8_t *>(worst + count)
    with nogil:
        for j in range(count):
            memcpy(block + j * dim, &codes[nodes[j], 0], dim)
            worst[j] = distance_of(pools[nodes[j], size - 1])
        for i in range(count):
            rest = count - i - 1
            hr_score_block(block + (i + 1) * dim, dim, block + i * dim, rest, distances)
            pool = &pools[nodes[i], 0]
            for j in range(rest):
                if distances[j] <= worst[i]:
                    if hr_offer(pool, size, packed(distances[j], nodes[i + 1 + j])):
                        worst[i] = distance_of(pool[size - 1])
            for j in range(rest):
                if distances[j] <= worst[i + 1 + j]:
                    pool = &pools[nodes[i + 1 + j], 0]
                    if hr_offer(pool, size, packed(distances[j], nodes[i])):
                        worst[i + 1 + j] = distance_of(pool[size - 1])
    free(distances)


def compare_neighbours(
    const uint8_t[:, ::1] codes,
    const int32_t[:, ::1] near,
    uint64_t[:, ::1] pools,
    Py_ssize_t begin,
    Py_ssize_t end,
    int32_t[::1] seen,
):
    """Offer to nodes what is near to those that are near to them.

    Args:
        codes: shape (n, code_dim), of all nodes.
        near: shape (n, w): nodes; -1 where there is none.
        pools: shape (n, k); changed for nodes begin..end - 1.
        begin, end: which nodes.
        seen: shape (n,), of -1; used up.
    """
    cdef Py_ssize_t i, a, b, count, size = pools.shape[1], width = near.shape[1]
    cdef size_t dim = codes.shape[1]
    cdef int32_t node, other, mark
    cdef int32_t *batch = <int32_t *>reserve(2 * width * width * sizeof(int32_t))
    cdef int32_t *distances = batch + width * width
    with nogil:
        for i in range(begin, end):
            mark = <int32_t>i
            count = 0
            seen[i] = mark
            for a in range(width):
                if near[i, a] >= 0:
                    seen[near[i, a]] = mark
            for a in range(width):
                node = near[i, a]
                if node < 0:
                    continue
                for b in range(width):
                    other = near[node, b]
                    if other >= 0 and seen[other] != mark:
                        seen[other] = mark
                        batch[count] = other
                        count += 1
                        hr_prefetch(&codes[other, 0], dim)
            hr_score_nodes(&codes[0, 0], dim, &codes[i, 0], batch, count, distances)
            for a in range(count):
                hr_offer(&pools[i, 0], size, packed(distances[a], batch[a]))
    free(batch)


def pooled_nodes(const uint64_t[:, ::1] pools, int32_t[:, ::1] out):
    """The first nodes of each pool; -1 where there are none.

    Args:
        pools: shape (n, k).
        out: shape (n, w), w <= k; overwritten.
    """
    cdef Py_ssize_t i, j
    with nogil:
        for i in range(out.shape[0]):
            for j in range(out.shape[1]):
                out[i, j] = -1 if pools[i, j] == NONE else node_of(pools[i, j])


def linked_from(
    const int32_t[:, ::1] links, int64_t[::1] begins, int32_t[::1] out
):
    """Which nodes link to each node, ascending.

    Args:
        links: shape (n, w): nodes; what stands behind a -1 is not read.
        begins: shape (n + 2,), of zeros; afterwards those that link to node i stand at
            begins[i]..begins[i + 1] - 1 of `out`.
        out: shape (n * w,); overwritten.
    """
    cdef Py_ssize_t i, j, count = links.shape[0]
    with nogil:
        for i in range(count):
            for j in range(links.shape[1]):
                if links[i, j] < 0:
                    break
                begins[links[i, j] + 2] += 1
        for i in range(count):
            begins[i + 2] += begins[i + 1]
        for i in range(count):
            for j in range(links.shape[1]):
                if links[i, j] < 0:
                    break
                out[begins[links[i, j] + 1]] = <int32_t>i
                begins[links[i, j] + 1] += 1


cdef size_t spread_bytes(
    Py_ssize_t count, Py_ssize_t degree, size_t dim, int kernel
) noexcept nogil:
    """How much memory `spread` needs."""
    if kernel:
        return hr_kernels[kernel - 1].spread_bytes(count, dim)
    return degree * (sizeof(int32_t) + dim)


cdef Py_ssize_t spread(
    const uint8_t *codes,
    size_t dim,
    const uint64_t *entries,
    Py_ssize_t count,
    Py_ssize_t degree,
    float slack,
    int32_t *out,
    int32_t *memory,
    int kernel,
) noexcept nogil:
    """The nearest entries none of which is much nearer to one before it than to the node.

    Copies of the node take half of the links at most: many of them would know only each other.
    """
    cdef Py_ssize_t i, j, kept = 0
    cdef int32_t node, distance
    cdef bint is_hidden
    cdef int32_t *distances = memory
    cdef uint8_t *block = <uint8_t *>(memory + degree)
    if kernel:
        return hr_kernels[kernel - 1].spread(
            codes, dim, entries, count, degree, slack, out, <uint8_t *>memory
        )
    for i in range(count):
        if entries[i] == NONE or kept == degree:
            break
        node, distance = node_of(entries[i]), distance_of(entries[i])
        if distance == 0 and kept >= (degree + 1) // 2:
            continue
        hr_score_block(block, dim, codes + <size_t>node * dim, kept, distances)
        is_hidden = False
        for j in range(kept):
            if slack * distances[j] < distance:
                is_hidden = True
                break
        if not is_hidden:
            memcpy(block + kept * dim, codes + <size_t>node * dim, dim)
            out[kept] = node
            kept += 1
    return kept


def choose_links(
    const uint8_t[:, ::1] codes,
    const uint64_t[:, ::1] pools,
    float slack,
    int32_t[:, ::1] out,
    Py_ssize_t begin,
    Py_ssize_t end,
    int kernel=KERNELS,
):
    """Links of nodes to those of their pools that lie in different directions.

    Args:
        codes: shape (n, code_dim), of all nodes.
        pools: shape (n, k).
        slack: a candidate is left out if its squared distance to one that was taken, times
            this, is less than that to the node.
        out: shape (n, degree); overwritten for nodes begin..end - 1, filled up with -1.
        begin, end: which nodes.
        kernel: see `KERNELS`.
    """
    cdef Py_ssize_t i, j, kept, degree = out.shape[1]
    cdef size_t dim = codes.shape[1]
    cdef int32_t *memory = <int32_t *>reserve(
        spread_bytes(pools.shape[1], degree, dim, kernel)
    )
    with nogil:
        for i in range(begin, end):
            for j in range(min(<Py_ssize_t>8, pools.shape[1])):
                if i + 1 < end and pools[i + 1, j] != NONE:
                    hr_prefetch(&codes[node_of(pools[i + 1, j]), 0], dim)
            kept = spread(
                &codes[0, 0], dim, &pools[i, 0], pools.shape[1], degree, slack,
                &out[i, 0], memory, kernel
            )
            for j in range(kept, degree):
                out[i, j] = -1
    free(memory)


def append_links(
    int32_t[:, ::1] links, const int32_t[::1] nodes, const int32_t[:, ::1] more, Py_ssize_t most
):
    """Give some nodes further links, where they have room and do not have them yet.

    Args:
        links: shape (n, degree), filled up with -1; changed.
        nodes: shape (m,): which nodes.
        more: shape (m, w): nodes, filled up with -1.
        most: how many each is given at most.
    """
    cdef Py_ssize_t i, j, place, added
    cdef int32_t node
    with nogil:
        for i in range(nodes.shape[0]):
            node = nodes[i]
            added = 0
            for j in range(more.shape[1]):
                if more[i, j] < 0 or added == most:
                    break
                place = 0
                while place < links.shape[1]:
                    if links[node, place] < 0:
                        links[node, place] = more[i, j]
                        added += 1
                        break
                    if links[node, place] == more[i, j]:
                        break
                    place += 1


def join_links(
    const uint8_t[:, ::1] codes,
    const int32_t[:, ::1] chosen,
    const int64_t[::1] begins,
    const int32_t[::1] linking,
    Py_ssize_t linking_max,
    float slack,
    int32_t[:, ::1] out,
    Py_ssize_t begin,
    Py_ssize_t end,
    int kernel=KERNELS,
):
    """Links both ways: to the chosen nodes, and to those that chose the node.

    Args:
        codes: shape (n, code_dim), of all nodes.
        chosen: shape (n, w): nodes, filled up with -1.
        begins, linking: what `linked_from` made of them.
        linking_max: no more than so many of those that chose a node are looked at.
        slack: as above, where there are more than `out` has room for.
        out: shape (n, degree); overwritten for nodes begin..end - 1, filled up with -1.
        begin, end: which nodes.
        kernel: see `KERNELS`.
    """
    cdef Py_ssize_t i, j, kept, count, degree = out.shape[1], width = chosen.shape[1]
    cdef Py_ssize_t most = width + linking_max
    cdef size_t dim = codes.shape[1]
    cdef uint64_t *entries = <uint64_t *>reserve(
        most * (sizeof(uint64_t) + 2 * sizeof(int32_t)) + spread_bytes(most, degree, dim, kernel)
    )
    cdef int32_t *batch = <int32_t *>(entries + most)
    cdef int32_t *distances = batch + most
    cdef int32_t *memory = distances + most
    with nogil:
        for i in range(begin, end):
            count = 0
            for j in range(width):
                if chosen[i, j] < 0:
                    break
                batch[count] = chosen[i, j]
                count += 1
            for j in range(begins[i], min(begins[i + 1], begins[i] + linking_max)):
                batch[count] = linking[j]
                count += 1
            for j in range(count):
                hr_prefetch(&codes[batch[j], 0], dim)
                entries[j] = NONE
            hr_score_nodes(&codes[0, 0], dim, &codes[i, 0], batch, count, distances)
            for j in range(count):
                hr_offer(entries, count, packed(distances[j], batch[j]))
            kept = 0
            while kept < count and entries[kept] != NONE:
                kept += 1
            if kept <= degree:
                for j in range(kept):
                    out[i, j] = node_of(entries[j])
            else:
                kept = spread(
                    &codes[0, 0], dim, entries, kept, degree, slack, &out[i, 0], memory,
                    kernel
                )
            for j in range(kept, degree):
                out[i, j] = -1
    free(entries)


def reach(
    const int32_t[:, ::1] links, int32_t[::1] queue, Py_ssize_t queued, uint8_t[::1] reached
):
    """Mark all nodes that links lead to; returns how many nodes the queue holds then.

    Args:
        links: shape (n, w): nodes, filled up with -1.
        queue: shape (n,): its first `queued` are where links are followed from.
        queued: as above.
        reached: shape (n,): 1 for nodes that are or were in the queue.
    """
    cdef Py_ssize_t next = 0, j, count = queued
    cdef int32_t node
    with nogil:
        while next < count:
            node = queue[next]
            next += 1
            for j in range(links.shape[1]):
                if links[node, j] < 0:
                    break
                if not reached[links[node, j]]:
                    reached[links[node, j]] = 1
                    queue[count] = links[node, j]
                    count += 1
    return count


def reach_back(
    const int64_t[::1] begins,
    const int32_t[::1] linking,
    int32_t[::1] queue,
    Py_ssize_t queued,
    uint8_t[::1] reached,
):
    """As `reach`, against the direction of the links.

    Args:
        begins, linking: what `linked_from` made of them.
        queue, queued, reached: as there.
    """
    cdef Py_ssize_t next = 0, j, count = queued
    cdef int32_t node
    with nogil:
        while next < count:
            node = queue[next]
            next += 1
            for j in range(begins[node], begins[node + 1]):
                if not reached[linking[j]]:
                    reached[linking[j]] = 1
                    queue[count] = linking[j]
                    count += 1
    return count
