/* One bit for each code of a node, and what it says of distances. */

#ifndef HEADRACE_SKETCHES_H
#define HEADRACE_SKETCHES_H

#include <stdlib.h>
#include <string.h>

#include "byte_codes.h"

/* A query is compared in four planes: its components as whole numbers from -8 to 7. */
#define HR_PLANES 4
#define HR_WORD_CODES 64

/* For so many nodes at a time the sketches are asked for before they are needed. */
#define HR_AHEAD 16

#if defined(__GNUC__)
#define HR_BIT_COUNT(word) __builtin_popcountll(word)
#define HR_LOWEST_BIT(word) __builtin_ctzll(word)
#else
HR_INLINE int hr_lowest_bit(uint64_t word)
{
    int place = 0;
    while (!(word & 1)) {
        word >>= 1;
        place++;
    }
    return place;
}
#define HR_LOWEST_BIT(word) hr_lowest_bit(word)
HR_INLINE int hr_bit_count(uint64_t word)
{
    word -= word >> 1 & 0x5555555555555555u;
    word = (word & 0x3333333333333333u) + (word >> 2 & 0x3333333333333333u);
    word = (word + (word >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (int)(word * 0x0101010101010101u >> 56);
}
#define HR_BIT_COUNT(word) hr_bit_count(word)
#endif

#if defined(HR_HAS_AVX2)
#include "sketches_avx2.h"
#endif

/* The sketches of `count` nodes, with `words` words each, which are 0 before. Of the codes
   less the middle (which is `middle` less a half): their squares' sum, and that twice,
   divided by the sum of their absolute values. */
HR_CLONES
static void hr_sketch_nodes(const uint8_t *codes, size_t dim, const uint8_t *middle,
                            ptrdiff_t count, size_t words, uint8_t *sketches,
                            float *squares, float *slopes)
{
    /* What compilers know instructions for is added up: with d = code - middle, the codes
       less the middle are d + 1/2, the square of that is d^2 + d + 1/4, and its absolute
       value |d| + 1/2 where the bit is set, and |d| - 1/2 elsewhere. */
    int64_t of_middle = 0;
    for (size_t i = 0; i < (dim & ~(size_t)15); i++)
        of_middle += middle[i];
    for (ptrdiff_t node = 0; node < count; node++) {
        const uint8_t *code = codes + (size_t)node * dim;
        uint8_t *sketch = sketches + (size_t)node * words * 8;
        int32_t sum = 0, apart = 0, above = 0;
        for (size_t i = 0; i < (dim & ~(size_t)15); i++)
            sum += code[i];
        for (size_t i = 0; i < (dim & ~(size_t)15); i++)
            apart += abs((int)code[i] - (int)middle[i]);
        for (size_t begin = 0; begin < (dim & ~(size_t)15); begin += 16) {
            uint8_t is_above[16];
            for (size_t i = 0; i < 16; i++)
                is_above[i] = code[begin + i] >= middle[begin + i];
            sketch[begin / 8] = hr_packed(is_above);
            sketch[begin / 8 + 1] = hr_packed(is_above + 8);
        }
        for (size_t i = 0; i < words * 8; i += 8) {
            uint64_t word;
            memcpy(&word, sketch + i, 8);
            above += (int32_t)HR_BIT_COUNT(word);
        }
        squares[node] = (float)hr_distance(code, middle, dim)
                        + (float)(sum - of_middle) + (float)dim / 4;
        slopes[node] = 2 * squares[node] / ((float)apart + (float)above - (float)dim / 2);
    }
}

/* What is added up of a query where a sketch has a bit. */
HR_INLINE int32_t hr_sketch_sum(const uint64_t *sketch, const uint64_t *planes, size_t words)
{
    int32_t ones = 0, twos = 0, fours = 0, eights = 0;
    for (size_t i = 0; i < words; i++) {
        ones += HR_BIT_COUNT(sketch[i] & planes[i]);
        twos += HR_BIT_COUNT(sketch[i] & planes[words + i]);
        fours += HR_BIT_COUNT(sketch[i] & planes[2 * words + i]);
        eights += HR_BIT_COUNT(sketch[i] & planes[3 * words + i]);
    }
    return ones + 2 * twos + 4 * fours - 8 * eights;
}

/* From the sum of a query's components where a sketch has a bit to the bound. */
HR_INLINE float hr_sketch_bound(int32_t sum, const uint16_t *factors, const float *of_query)
{
    return of_query[0] * factors[0] - (of_query[1] * (float)sum + of_query[2]) * factors[1];
}

HR_INLINE void hr_bounds(const uint64_t *sketches, size_t words, const uint16_t *factors,
                         const uint64_t *planes, const int32_t *nodes, ptrdiff_t count,
                         const float *of_query, float *out)
{
    for (ptrdiff_t i = 0; i < count; i++) {
        size_t node = (size_t)nodes[i];
        if (i + HR_AHEAD < count)
            HR_PREFETCH(sketches + (size_t)nodes[i + HR_AHEAD] * words);
        out[i] = hr_sketch_bound(hr_sketch_sum(sketches + node * words, planes, words),
                          factors + 2 * node, of_query);
    }
}

#if defined(HR_HAS_CLONES)
/* Not clones: their loader knows no two features at once. */
__attribute__((target("popcnt")))
static void hr_bounds_by_words(const uint64_t *sketches, size_t words,
                               const uint16_t *factors, const uint64_t *planes,
                               const int32_t *nodes, ptrdiff_t count,
                               const float *of_query, float *out)
{
    if (words == 2)
        hr_bounds(sketches, 2, factors, planes, nodes, count, of_query, out);
    else if (words == 4)
        hr_bounds(sketches, 4, factors, planes, nodes, count, of_query, out);
    else
        hr_bounds(sketches, words, factors, planes, nodes, count, of_query, out);
}

#define HR_VECTORS __attribute__((target("avx512vpopcntdq,avx512vl,avx512dq,fma")))

HR_INLINE int hr_has_vectors(void)
{
    return __builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("avx512vl")
        && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("fma");
}

/* As `hr_sketch_sum`, of four words at a time. */
HR_VECTORS HR_INLINE int32_t hr_sketch_sum_of_fours(const uint64_t *sketch,
                                                    const uint64_t *planes, size_t words)
{
    __m256i low = _mm256_setzero_si256(), high = low;
    for (size_t i = 0; i < words; i += 4) {
        const uint64_t *plane = planes + i;
        __m256i bits = _mm256_loadu_si256((const __m256i *)(sketch + i));
        __m256i ones = bits & _mm256_loadu_si256((const __m256i *)plane);
        __m256i twos = bits & _mm256_loadu_si256((const __m256i *)(plane + words));
        __m256i fours = bits & _mm256_loadu_si256((const __m256i *)(plane + 2 * words));
        __m256i eights = bits & _mm256_loadu_si256((const __m256i *)(plane + 3 * words));
        twos = _mm256_popcnt_epi64(twos);
        eights = _mm256_popcnt_epi64(eights);
        low += _mm256_popcnt_epi64(ones) + (twos + twos);
        high += _mm256_popcnt_epi64(fours) - (eights + eights);
    }
    low += _mm256_slli_epi64(high, 2);
    __m128i half = _mm256_castsi256_si128(low) + _mm256_extracti128_si256(low, 1);
    return (int32_t)_mm_cvtsi128_si64(half + _mm_unpackhi_epi64(half, half));
}

/* What is added up of a query for each of four nodes with two words, in the first of both;
   the rest of it in the other. */
HR_VECTORS HR_INLINE __m512i hr_sketch_sums_of_pairs(__m512i bits, const __m512i *planes)
{
    __m512i twos = _mm512_popcnt_epi64(bits & planes[1]);
    __m512i fours = _mm512_popcnt_epi64(bits & planes[2]);
    __m512i eights = _mm512_popcnt_epi64(bits & planes[3]);
    fours -= eights + eights;
    return _mm512_popcnt_epi64(bits & planes[0]) + (twos + twos) + _mm512_slli_epi64(fours, 2);
}

/* Of nodes with two words that stand one behind the other. */
HR_VECTORS static void hr_bounds_of_pairs(const uint64_t *sketches, const uint16_t *factors,
                                          const uint64_t *planes, ptrdiff_t count,
                                          const float *of_query, float *out)
{
    const __m512i order = _mm512_set_epi64(7, 5, 3, 1, 6, 4, 2, 0);
    const __m256 square_step = _mm256_set1_ps(of_query[0]);
    const __m256 unit = _mm256_set1_ps(of_query[1]), rest = _mm256_set1_ps(of_query[2]);
    __m512i of_planes[HR_PLANES];
    ptrdiff_t i = 0;
    for (int plane = 0; plane < HR_PLANES; plane++)
        of_planes[plane] =
            _mm512_broadcast_i64x2(_mm_loadu_si128((const __m128i *)(planes + 2 * plane)));
    for (; i + 8 <= count; i += 8) {
        __m512i low = hr_sketch_sums_of_pairs(_mm512_loadu_si512(sketches + 2 * i), of_planes);
        __m512i high =
            hr_sketch_sums_of_pairs(_mm512_loadu_si512(sketches + 2 * i + 8), of_planes);
        __m512i sums = _mm512_unpacklo_epi64(low, high) + _mm512_unpackhi_epi64(low, high);
        __m256 sum = _mm512_cvtepi64_ps(_mm512_permutexvar_epi64(order, sums));
        __m256i both = _mm256_loadu_si256((const __m256i *)(factors + 2 * i));
        __m256 square = _mm256_cvtepi32_ps(_mm256_and_si256(both, _mm256_set1_epi32(0xffff)));
        __m256 slope = _mm256_cvtepi32_ps(_mm256_srli_epi32(both, 16));
        _mm256_storeu_ps(out + i, square_step * square - (unit * sum + rest) * slope);
    }
    for (; i < count; i++)
        out[i] = hr_sketch_bound(hr_sketch_sum(sketches + 2 * i, planes, 2), factors + 2 * i,
                                 of_query);
}

HR_VECTORS static void hr_bounds_of_fours(const uint64_t *sketches, size_t words,
                                          const uint16_t *factors, const uint64_t *planes,
                                          const int32_t *nodes, ptrdiff_t count,
                                          const float *of_query, float *out)
{
    for (ptrdiff_t i = 0; i < count; i++) {
        size_t node = (size_t)nodes[i];
        if (i + HR_AHEAD < count)
            HR_PREFETCH(sketches + (size_t)nodes[i + HR_AHEAD] * words);
        int32_t sum = words == 4 ? hr_sketch_sum_of_fours(sketches + node * 4, planes, 4)
                                 : hr_sketch_sum_of_fours(sketches + node * words, planes, words);
        out[i] = hr_sketch_bound(sum, factors + 2 * node, of_query);
    }
}
#endif

/* The 64 bits from a byte on, or as many as there are. */
HR_INLINE uint64_t hr_bits_at(const uint8_t *bits, ptrdiff_t at, ptrdiff_t end)
{
    uint64_t word = 0;
    memcpy(&word, bits + at, end - at < 8 ? (size_t)(end - at) : 8);
    return word;
}

#if defined(HR_HAS_CLONES)
HR_VECTORS static ptrdiff_t hr_take_bits_by_sixteen(const uint8_t *bits, ptrdiff_t *next,
                                                    ptrdiff_t end, int32_t *out, ptrdiff_t most)
{
    const __m512i places = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    ptrdiff_t size = 0;
    for (; size <= most - 64 && *next < end; *next += 8) {
        uint64_t word = hr_bits_at(bits, *next, end);
        for (int32_t place = (int32_t)*next * 8; word; word >>= 16, place += 16) {
            __mmask16 sixteen = (__mmask16)word;
            __m512i here = _mm512_add_epi32(places, _mm512_set1_epi32(place));
            _mm512_storeu_si512(out + size, _mm512_maskz_compress_epi32(sixteen, here));
            size += __builtin_popcount(sixteen);
        }
    }
    return size;
}
#endif

/* The places of the bits of a mask from byte `*next` on, which is moved behind them; `most` or
   less, and how many they are. `most` is 64 at least; what lies behind the places is written
   to. */
static ptrdiff_t hr_take_bits(const uint8_t *bits, ptrdiff_t *next, ptrdiff_t end, int32_t *out,
                              ptrdiff_t most)
{
    ptrdiff_t size = 0;
#if defined(HR_HAS_CLONES)
    if (hr_has_vectors())
        return hr_take_bits_by_sixteen(bits, next, end, out, most);
#endif
    for (; size <= most - 64 && *next < end; *next += 8)
        for (uint64_t word = hr_bits_at(bits, *next, end); word; word &= word - 1)
            out[size++] = (int32_t)(*next * 8 + HR_LOWEST_BIT(word));
    return size;
}

/* The first of some bounds that is below another, from one on; the end if there is none. */
HR_CLONES
static ptrdiff_t hr_next_below(const float *bounds, ptrdiff_t begin, ptrdiff_t end, float enough)
{
    while (begin + 64 <= end) {
        int below = 0;
        for (ptrdiff_t i = 0; i < 64; i++)
            below |= bounds[begin + i] < enough;
        if (below)
            break;
        begin += 64;
    }
    while (begin < end && !(bounds[begin] < enough))
        begin++;
    return begin;
}

/* For each of some nodes, which ascend, a number below nearly all its distances; see
   `node_scan.pyx`. */
static void hr_sketch_bounds(const uint64_t *sketches, size_t words, const uint16_t *factors,
                             const uint64_t *planes, const int32_t *nodes, ptrdiff_t count,
                             const float *of_query, float *out)
{
#if defined(HR_HAS_CLONES)
    if (hr_has_vectors()) {
        if (words % 4 == 0) {
            hr_bounds_of_fours(sketches, words, factors, planes, nodes, count, of_query, out);
            return;
        }
        if (words == 2 && count && nodes[count - 1] - nodes[0] == count - 1) {
            size_t first = 2 * (size_t)nodes[0];
            hr_bounds_of_pairs(sketches + first, factors + first, planes, count, of_query, out);
            return;
        }
    }
#endif
#if defined(HR_HAS_AVX2)
    /* With AVX-512 too, if it cannot count or has no kernel for such nodes. */
    if (words % 2 == 0 && words <= HR256_WORDS_MAX && hr256_is_supported()) {
        hr256_sketch_bounds(sketches, words, factors, planes, nodes, count, of_query, out);
        return;
    }
#endif
#if defined(HR_HAS_CLONES)
    if (__builtin_cpu_supports("popcnt")) {
        hr_bounds_by_words(sketches, words, factors, planes, nodes, count, of_query, out);
        return;
    }
#endif
    hr_bounds(sketches, words, factors, planes, nodes, count, of_query, out);
}

#endif
