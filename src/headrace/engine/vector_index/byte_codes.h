/* Squared Euclidean distances between codes of 8 bits, by the instructions of the processor. */

#ifndef HEADRACE_BYTE_CODES_H
#define HEADRACE_BYTE_CODES_H

#include <stdint.h>

#include <float.h>

#include "../vectors/processor.h"

#if defined(HR_HAS_AVX2)
#include "byte_codes_avx2.h"
#endif

HR_INLINE int32_t hr_distance(const uint8_t *a, const uint8_t *b, size_t dim)
{
    int32_t sum = 0;
    /* The mask tells the compiler what is true anyway. */
    for (size_t i = 0; i < (dim & ~(size_t)15); i++) {
        int16_t difference = (int16_t)((int16_t)a[i] - (int16_t)b[i]);
        sum += (int32_t)difference * (int32_t)difference;
    }
    return sum;
}

HR_CLONES
static void hr_score_nodes_plainly(const uint8_t *codes, size_t dim, const uint8_t *query,
                                   const int32_t *nodes, ptrdiff_t count, int32_t *out)
{
    for (ptrdiff_t i = 0; i < count; i++)
        out[i] = hr_distance(query, codes + (size_t)nodes[i] * dim, dim);
}

HR_CLONES
static void hr_score_block_plainly(const uint8_t *codes, size_t dim, const uint8_t *query,
                                   ptrdiff_t count, int32_t *out)
{
    for (ptrdiff_t i = 0; i < count; i++)
        out[i] = hr_distance(query, codes + (size_t)i * dim, dim);
}

/* Of a code to those of some nodes; `dim` is a multiple of 16. */
static void hr_score_nodes(const uint8_t *codes, size_t dim, const uint8_t *query,
                           const int32_t *nodes, ptrdiff_t count, int32_t *out)
{
#if defined(HR_HAS_AVX2)
    if (hr256_is_best()) {
        hr256_score_nodes(codes, dim, query, nodes, count, out);
        return;
    }
#endif
    hr_score_nodes_plainly(codes, dim, query, nodes, count, out);
}

/* Of a code to the first of some that stand one behind the other. */
static void hr_score_block(const uint8_t *codes, size_t dim, const uint8_t *query,
                           ptrdiff_t count, int32_t *out)
{
#if defined(HR_HAS_AVX2)
    if (hr256_is_best()) {
        hr256_score_block(codes, dim, query, count, out);
        return;
    }
#endif
    hr_score_block_plainly(codes, dim, query, count, out);
}

/* The codes of a vector; 0 if more of it lies outside the box than that share, or so much that
   it cannot be compared with it. */
HR_CLONES
static int hr_encode(const float *restrict values, size_t dim, const float *restrict offset,
                     float scale, float outside_share, uint8_t *restrict out)
{
    float far = 0, far_from_middle = 0;
    for (size_t i = 0; i < dim; i++) {
        float scaled = values[i] * scale + offset[i];
        float inside = scaled > 0 ? scaled : 0;
        inside = inside < 255 ? inside : 255;
        far += (scaled - inside) * (scaled - inside);
        far_from_middle += (scaled - 127.5f) * (scaled - 127.5f);
        out[i] = (uint8_t)(int32_t)(inside + 0.5f);
    }
    return far <= outside_share * far_from_middle && far < FLT_MAX;
}

#endif
