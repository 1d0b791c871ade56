/* `byte_codes.h` with AVX2: four codes at a time, whose sums are added up together.
 *
 * Compilers widen both codes before they subtract. Here differences are made of bytes, which is
 * half the work.
 */

#ifndef HEADRACE_BYTE_CODES_AVX2_H
#define HEADRACE_BYTE_CODES_AVX2_H

#include "../vectors/processor.h"

/* The squared differences of 32 components, added up in eight sums. */
HR_AVX2_INLINE __m256i hr256_squares(__m256i a, __m256i b)
{
    const __m256i zero = _mm256_setzero_si256();
    __m256i apart = _mm256_or_si256(_mm256_subs_epu8(a, b), _mm256_subs_epu8(b, a));
    __m256i low = _mm256_unpacklo_epi8(apart, zero), high = _mm256_unpackhi_epi8(apart, zero);
    return _mm256_add_epi32(_mm256_madd_epi16(low, low), _mm256_madd_epi16(high, high));
}

/* The components from one on, 32 or the last 16. */
HR_AVX2_INLINE __m256i hr256_components(const uint8_t *code, size_t begin, size_t dim)
{
    if (dim - begin >= 32)
        return _mm256_loadu_si256((const __m256i *)(code + begin));
    /* GCC 9 has no `_mm256_zextsi128_si256`. */
    return _mm256_set_m128i(_mm_setzero_si128(), _mm_loadu_si128((const __m128i *)(code + begin)));
}

/* For each two columns of four numbers, both added up: of `a` in the even columns, of `b` in the
 * odd ones. */
HR_AVX2_INLINE __m256i hr256_add_columns(__m256i a, __m256i b)
{
    return _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
}

/* As `hr_score_nodes`, or without nodes as `hr_score_block`, of four rows or fewer, a number
 * that is known when this is compiled. */
HR_AVX2_INLINE void hr256_score_few(const uint8_t *codes, size_t dim, const uint8_t *query,
                                    const int32_t *nodes, const int rows, int32_t *out)
{
    const uint8_t *of_row[4];
    __m256i sums[4];
    int32_t distances[4];
#pragma GCC unroll 4
    for (int row = 0; row < 4; row++)
        sums[row] = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int row = 0; row < rows; row++)
        of_row[row] = codes + (size_t)(nodes ? nodes[row] : row) * dim;
    for (size_t begin = 0; begin < dim; begin += 32) {
        __m256i components = hr256_components(query, begin, dim);
#pragma GCC unroll 4
        for (int row = 0; row < rows; row++)
            sums[row] = _mm256_add_epi32(
                sums[row],
                hr256_squares(hr256_components(of_row[row], begin, dim), components));
    }
    __m256i first = hr256_add_columns(sums[0], sums[2]);
    __m256i second = hr256_add_columns(sums[1], sums[3]);
    __m256i halves = hr256_add_columns(first, second);
    _mm_storeu_si128((__m128i *)distances, _mm_add_epi32(_mm256_castsi256_si128(halves),
                                                         _mm256_extracti128_si256(halves, 1)));
    memcpy(out, distances, (size_t)rows * sizeof(int32_t));
}

HR_AVX2_INLINE void hr256_score_rows(const uint8_t *codes, size_t dim, const uint8_t *query,
                                     const int32_t *nodes, ptrdiff_t count, int32_t *out)
{
    for (; count >= 4; count -= 4, out += 4) {
        hr256_score_few(codes, dim, query, nodes, 4, out);
        if (nodes)
            nodes += 4;
        else
            codes += 4 * dim;
    }
    /* Half of what a walk asks for is four rows or fewer, so none is compared for nothing. */
    if (count == 3)
        hr256_score_few(codes, dim, query, nodes, 3, out);
    else if (count == 2)
        hr256_score_few(codes, dim, query, nodes, 2, out);
    else if (count == 1)
        hr256_score_few(codes, dim, query, nodes, 1, out);
}

HR_AVX2 static void hr256_score_nodes(const uint8_t *codes, size_t dim, const uint8_t *query,
                                      const int32_t *nodes, ptrdiff_t count, int32_t *out)
{
    hr256_score_rows(codes, dim, query, nodes, count, out);
}

HR_AVX2 static void hr256_score_block(const uint8_t *codes, size_t dim, const uint8_t *query,
                                      ptrdiff_t count, int32_t *out)
{
    hr256_score_rows(codes, dim, query, NULL, count, out);
}

#endif
