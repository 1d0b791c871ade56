/* `sketches.h` with AVX2, which has no instruction that counts bits: a table says how many of four
 * a plane's weight is to be added for.
 */

#ifndef HEADRACE_SKETCHES_AVX2_H
#define HEADRACE_SKETCHES_AVX2_H

#include "../vectors/processor.h"

/* For nodes with more words bits are counted word by word. */
enum { HR256_WORDS_MAX = 32 };

/* A query's planes of four words, by the lower and the higher four bits of each byte. */
typedef struct {
    __m256i low[HR_PLANES], high[HR_PLANES];
} hr256_planes;

/* The weights of a plane's bits, by which of four there are. */
typedef struct {
    __m256i weights[HR_PLANES];
} hr256_weights;

HR_AVX2_INLINE __m256i hr256_low_bits(__m256i bytes)
{
    return _mm256_and_si256(bytes, _mm256_set1_epi8(15));
}

HR_AVX2_INLINE __m256i hr256_high_bits(__m256i bytes)
{
    return hr256_low_bits(_mm256_srli_epi16(bytes, 4));
}

HR_AVX2_INLINE hr256_weights hr256_make_weights(void)
{
    const __m256i counts = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
                                            0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    hr256_weights made;
    made.weights[0] = counts;
    made.weights[1] = _mm256_slli_epi16(counts, 1);
    made.weights[2] = _mm256_slli_epi16(counts, 2);
    made.weights[3] = _mm256_slli_epi16(counts, 3);
    return made;
}

HR_AVX2_INLINE hr256_planes hr256_split(const __m256i *planes)
{
    hr256_planes split;
#pragma GCC unroll 4
    for (int plane = 0; plane < HR_PLANES; plane++) {
        split.low[plane] = hr256_low_bits(planes[plane]);
        split.high[plane] = hr256_high_bits(planes[plane]);
    }
    return split;
}

/* For each word of sketches what is added up of a query where it has bits, and 512 more. */
HR_AVX2_INLINE __m256i hr256_word_sums(__m256i sketches, const hr256_planes *planes,
                                       const hr256_weights *of)
{
    __m256i low = hr256_low_bits(sketches), high = hr256_high_bits(sketches);
    /* Of eight bits that is -64 to 56; bytes are added up without a sign. */
    __m256i sums = _mm256_set1_epi8(64);
#pragma GCC unroll 4
    for (int plane = 0; plane < HR_PLANES; plane++) {
        __m256i weights = of->weights[plane];
        __m256i of_low = _mm256_shuffle_epi8(weights, _mm256_and_si256(low, planes->low[plane]));
        __m256i of_high =
            _mm256_shuffle_epi8(weights, _mm256_and_si256(high, planes->high[plane]));
        __m256i of_plane = _mm256_add_epi8(of_low, of_high);
        sums = plane < HR_PLANES - 1 ? _mm256_add_epi8(sums, of_plane)
                                     : _mm256_sub_epi8(sums, of_plane);
    }
    return _mm256_sad_epu8(sums, _mm256_setzero_si256());
}

/* The words of a sketch from one on, four or the last two; the others are 0. */
HR_AVX2_INLINE __m256i hr256_words(const uint64_t *sketch, size_t begin, size_t words)
{
    if (words - begin >= 4)
        return _mm256_loadu_si256((const __m256i *)(sketch + begin));
    return _mm256_set_m128i(_mm_setzero_si128(),
                            _mm_loadu_si128((const __m128i *)(sketch + begin)));
}

/* For two nodes, in the lower and the higher half, two numbers whose sum is what is added up of
 * a query, and a constant more. */
HR_AVX2_INLINE __m256i hr256_two_sums(const uint64_t *first, const uint64_t *second,
                                      size_t words, const hr256_planes *planes,
                                      const hr256_weights *of)
{
    __m256i of_first = _mm256_setzero_si256(), of_second = of_first;
    if (words == 2)
        return hr256_word_sums(_mm256_set_m128i(_mm_loadu_si128((const __m128i *)second),
                                                _mm_loadu_si128((const __m128i *)first)),
                               planes, of);
    for (size_t begin = 0; begin < words; begin += 4, planes++) {
        of_first = _mm256_add_epi64(
            of_first, hr256_word_sums(hr256_words(first, begin, words), planes, of));
        of_second = _mm256_add_epi64(
            of_second, hr256_word_sums(hr256_words(second, begin, words), planes, of));
    }
    return _mm256_add_epi64(_mm256_permute2x128_si256(of_first, of_second, 0x20),
                            _mm256_permute2x128_si256(of_first, of_second, 0x31));
}

/* As `hr_bounds`; `words` is even and HR256_WORDS_MAX at most. */
HR_AVX2_INLINE void hr256_bounds(const uint64_t *sketches, size_t words,
                                 const uint16_t *factors, const uint64_t *planes,
                                 const int32_t *nodes, ptrdiff_t count, const float *of_query,
                                 float *out)
{
    const __m256 square_step = _mm256_set1_ps(of_query[0]), unit = _mm256_set1_ps(of_query[1]);
    const __m256 rest = _mm256_set1_ps(of_query[2]);
    const hr256_weights weights = hr256_make_weights();
    hr256_planes split[HR256_WORDS_MAX / 4];
    size_t steps = (words + 3) / 4;
    const __m256i more = _mm256_set1_epi32(words == 2 ? 2 * 512 : (int32_t)steps * 4 * 512);
    for (size_t step = 0; step < steps; step++) {
        __m256i of_step[HR_PLANES];
        for (size_t plane = 0; plane < HR_PLANES; plane++) {
            of_step[plane] = hr256_words(planes + plane * words, 4 * step, words);
            if (words == 2)
                of_step[plane] = _mm256_permute2x128_si256(of_step[plane], of_step[plane], 0);
        }
        split[step] = hr256_split(of_step);
    }
    for (ptrdiff_t begin = 0; begin < count; begin += 8) {
        int32_t node[8], both[8];
        const ptrdiff_t rows = count - begin < 8 ? count - begin : 8;
        __m256i two[4];
        memcpy(node, nodes + begin, (size_t)rows * sizeof(int32_t));
        for (ptrdiff_t i = rows; i < 8; i++)
            node[i] = node[rows - 1];
        for (ptrdiff_t i = begin + HR_AHEAD; i < begin + HR_AHEAD + 8 && i < count; i++)
            HR_PREFETCH(sketches + (size_t)nodes[i] * words);
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++)
            memcpy(both + i, factors + 2 * (size_t)node[i], sizeof(int32_t));
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            two[i] = hr256_two_sums(sketches + (size_t)node[i] * words,
                                    sketches + (size_t)node[i + 4] * words, words, split,
                                    &weights);
        __m256i even = _mm256_add_epi64(_mm256_unpacklo_epi64(two[0], two[1]),
                                        _mm256_unpackhi_epi64(two[0], two[1]));
        __m256i odd = _mm256_add_epi64(_mm256_unpacklo_epi64(two[2], two[3]),
                                       _mm256_unpackhi_epi64(two[2], two[3]));
        __m256i sums = _mm256_castps_si256(_mm256_shuffle_ps(
            _mm256_castsi256_ps(even), _mm256_castsi256_ps(odd), _MM_SHUFFLE(2, 0, 2, 0)));
        __m256 sum = _mm256_cvtepi32_ps(_mm256_sub_epi32(sums, more));
        __m256i of_nodes = _mm256_loadu_si256((const __m256i *)both);
        __m256 square = _mm256_cvtepi32_ps(_mm256_and_si256(of_nodes, _mm256_set1_epi32(0xffff)));
        __m256 slope = _mm256_cvtepi32_ps(_mm256_srli_epi32(of_nodes, 16));
        __m256 bounds = _mm256_sub_ps(
            _mm256_mul_ps(square_step, square),
            _mm256_mul_ps(_mm256_add_ps(_mm256_mul_ps(unit, sum), rest), slope));
        if (rows == 8) {
            _mm256_storeu_ps(out + begin, bounds);
        } else {
            float eight[8];
            _mm256_storeu_ps(eight, bounds);
            memcpy(out + begin, eight, (size_t)rows * sizeof(float));
        }
    }
}

HR_AVX2 static void hr256_sketch_bounds(const uint64_t *sketches, size_t words,
                                        const uint16_t *factors, const uint64_t *planes,
                                        const int32_t *nodes, ptrdiff_t count,
                                        const float *of_query, float *out)
{
    if (words == 2)
        hr256_bounds(sketches, 2, factors, planes, nodes, count, of_query, out);
    else if (words == 4)
        hr256_bounds(sketches, 4, factors, planes, nodes, count, of_query, out);
    else
        hr256_bounds(sketches, words, factors, planes, nodes, count, of_query, out);
}

#endif
