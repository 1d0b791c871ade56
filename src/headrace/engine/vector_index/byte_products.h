/* Many distances between codes of 8 bits at once, from dot products.
 *
 * With |c - q|^2 = |c|^2 + |q|^2 - 2 c.q, where c is a row and q a query, all that takes time
 * are products. So codes are laid out in blocks of 16 rows, of which a vector holds the same
 * few components of each row, and a sum for each row comes out without adding within a vector.
 * The result fits into 32 bits for dim <= 2^15, so what wraps around in between is no matter:
 * these are exactly the distances of byte_codes.h. `dim` is a multiple of 16 throughout.
 *
 * There is a kernel for each generation of processors, which all do the same.
 */

#ifndef HEADRACE_BYTE_PRODUCTS_H
#define HEADRACE_BYTE_PRODUCTS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "../vectors/processor.h"

typedef struct {
    /* How much memory `compare_all` needs. */
    size_t (*compare_bytes)(ptrdiff_t count, size_t dim, ptrdiff_t pool_size);

    /* Offer each of some nodes to each other; pools are those of byte_links.pyx. */
    void (*compare_all)(const uint8_t *codes, size_t dim, const int32_t *nodes, ptrdiff_t count,
                        uint64_t *pools, ptrdiff_t pool_size, uint8_t *memory);

    /* How much memory `nearest_pivots` needs. */
    size_t (*nearest_bytes)(ptrdiff_t pivot_count, size_t dim);

    /* The position of the nearest pivot of each node; the first of those equally near. */
    void (*nearest_pivots)(const uint8_t *codes, size_t dim, const int32_t *nodes,
                           ptrdiff_t count, const int32_t *pivots, ptrdiff_t pivot_count,
                           int32_t *out, uint8_t *memory);

    /* How much memory `spread` needs. */
    size_t (*spread_bytes)(ptrdiff_t count, size_t dim);

    /* As `spread` of byte_links.pyx. */
    ptrdiff_t (*spread)(const uint8_t *codes, size_t dim, const uint64_t *entries,
                        ptrdiff_t count, ptrdiff_t degree, float slack, int32_t *out,
                        uint8_t *memory);
} hr_kernel;

/* Put an entry in its place among ascending ones, unless it is there or all are below it; the
 * last falls out. Returns whether it was. */
HR_INLINE int hr_offer(uint64_t *pool, ptrdiff_t size, uint64_t entry)
{
    ptrdiff_t low = 0;
    if (entry >= pool[size - 1])
        return 0;
    /* Without branches, which no processor could predict. */
    for (ptrdiff_t left = size; left > 1;) {
        ptrdiff_t half = left / 2;
        low += half & -(ptrdiff_t)(pool[low + half - 1] < entry);
        left -= half;
    }
    if (pool[low] == entry)
        return 0;
    memmove(pool + low + 1, pool + low, (size_t)(size - low - 1) * sizeof(uint64_t));
    pool[low] = entry;
    return 1;
}

#if defined(HR_HAS_AVX2)

enum { HR_ROWS = 16, HR_QUERIES = 8 };

/* The rows of as many blocks as `count` rows need. */
HR_INLINE ptrdiff_t hr_filled_rows(ptrdiff_t count)
{
    return (count + HR_ROWS - 1) & ~(ptrdiff_t)(HR_ROWS - 1);
}

/* The next part of some memory, at a multiple of 64 bytes. */
HR_INLINE void *hr_part(uint8_t **memory, size_t byte_count)
{
    void *part = (void *)(((uintptr_t)*memory + 63) & ~(uintptr_t)63);
    *memory = (uint8_t *)part + byte_count;
    return part;
}

/* Inlined, so that what is plain C here is done by each kernel's instructions: */

/* A distance that `wanted` of some are not beyond, and mostly few more: INT32_MAX - 1 if there
 * are not so many; those that are INT32_MAX do not count. */
HR_INLINE int32_t hr_bound(const int32_t *distances, ptrdiff_t rows, ptrdiff_t wanted)
{
    int32_t low = INT32_MAX, high = 0, count = 0;
    for (ptrdiff_t i = 0; i < rows; i++) {
        int32_t present = distances[i] == INT32_MAX ? 0 : distances[i];
        low = distances[i] < low ? distances[i] : low;
        high = present > high ? present : high;
        count += distances[i] != INT32_MAX;
    }
    if (count < wanted)
        return INT32_MAX - 1;
    for (int step = 0; step < 10 && low < high && count > wanted + wanted / 4; step++) {
        int32_t middle = low + (high - low) / 2, within = 0;
        for (ptrdiff_t i = 0; i < rows; i++)
            within += distances[i] <= middle;
        if (within < wanted) {
            low = middle + 1;
        } else {
            high = middle;
            count = within;
        }
    }
    return high;
}

/* The distance beyond which no row is offered to a pool. Of the distances, that of the row
 * itself and those of what fills the last block up become INT32_MAX, as which none is. */
HR_INLINE int32_t hr_worst(int32_t *distances, ptrdiff_t itself, ptrdiff_t count,
                           ptrdiff_t rows, const uint64_t *pool, ptrdiff_t pool_size)
{
    distances[itself] = INT32_MAX;
    for (ptrdiff_t i = count; i < rows; i++)
        distances[i] = INT32_MAX;
    if (pool[pool_size - 1] == UINT64_MAX)
        return hr_bound(distances, rows, pool_size);
    return (int32_t)(pool[pool_size - 1] >> 32);
}

/* The nodes and distances of the entries of a pool; returns how many there are. */
HR_INLINE ptrdiff_t hr_entries(const uint64_t *pool, ptrdiff_t count, int32_t *nodes,
                               int32_t *distances)
{
    ptrdiff_t known = 0;
    for (; known < count && pool[known] != UINT64_MAX; known++) {
        nodes[known] = (int32_t)(uint32_t)pool[known];
        distances[known] = (int32_t)(pool[known] >> 32);
    }
    return known;
}

#include "byte_products_avx2.h"
#include "byte_products_avx512.h"

static const hr_kernel hr_kernels[] = {
    {hr256_compare_bytes, hr256_compare_all, hr256_nearest_bytes, hr256_nearest_pivots,
     hr256_spread_bytes, hr256_spread},
    {hr512_compare_bytes, hr512_compare_all, hr512_nearest_bytes, hr512_nearest_pivots,
     hr512_spread_bytes, hr512_spread},
};

/* How many of these the processor has the instructions for; the last is the fastest. */
static int hr_kernels_supported(void)
{
    if (!hr256_is_supported())
        return 0;
    return hr512_is_supported() ? 2 : 1;
}

#else

static const hr_kernel hr_kernels[1] = {{0, 0, 0, 0, 0, 0}};

static int hr_kernels_supported(void)
{
    return 0;
}

#endif
#endif
