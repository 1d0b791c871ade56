/* Do the kernels of each generation of processors say what plain C says?
 *
 * Prints which ones it has tried; ends with 1 and a line about the first that differs.
 */

#include <stdio.h>

#include "sketches.h"

enum { ROWS = 97, DIM_MAX = 4112, WORDS_MAX = (DIM_MAX + 63) / 64 };

static uint8_t codes[ROWS * DIM_MAX], query[DIM_MAX];
static uint64_t sketches[ROWS * WORDS_MAX], planes[HR_PLANES * WORDS_MAX];
static uint16_t factors[2 * ROWS];
static int32_t nodes[ROWS];

static uint64_t next_random(void)
{
    static uint64_t state = 20240601;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static void fill(void *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ((uint8_t *)bytes)[i] = (uint8_t)(next_random() >> 32);
}

static int differs(const char *what, size_t size, ptrdiff_t count, const int32_t *found,
                   const int32_t *right)
{
    for (ptrdiff_t i = 0; i < count; i++) {
        if (found[i] != right[i]) {
            printf("%s of %zu, row %td of %td: %d for %d\n", what, size, i, count, found[i],
                   right[i]);
            return 1;
        }
    }
    return 0;
}

static int distances_differ(size_t dim, ptrdiff_t count)
{
    int32_t right[ROWS], found[ROWS];
    for (ptrdiff_t i = 0; i < count; i++)
        right[i] = hr_distance(query, codes + (size_t)nodes[i] * dim, dim);
    hr_score_nodes(codes, dim, query, nodes, count, found);
    if (differs("distances to nodes", dim, count, found, right))
        return 1;
#if defined(HR_HAS_AVX2)
    if (hr256_is_supported()) {
        hr256_score_nodes(codes, dim, query, nodes, count, found);
        if (differs("AVX2 distances to nodes", dim, count, found, right))
            return 1;
    }
#endif
    for (ptrdiff_t i = 0; i < count; i++)
        right[i] = hr_distance(query, codes + (size_t)i * dim, dim);
    hr_score_block(codes, dim, query, count, found);
    if (differs("distances to a block", dim, count, found, right))
        return 1;
#if defined(HR_HAS_AVX2)
    if (hr256_is_supported()) {
        hr256_score_block(codes, dim, query, count, found);
        return differs("AVX2 distances to a block", dim, count, found, right);
    }
#endif
    return 0;
}

/* With these factors bounds are the sums themselves, whole numbers that floats hold. */
static const float of_query[4] = {0, -1, 0, 0};

static int bounds_differ(size_t words, ptrdiff_t count)
{
    int32_t right[ROWS], found[ROWS];
    float bounds[ROWS];
    for (ptrdiff_t i = 0; i < ROWS; i++)
        factors[2 * i + 1] = 1;
    for (ptrdiff_t i = 0; i < count; i++)
        right[i] = hr_sketch_sum(sketches + (size_t)nodes[i] * words, planes, words);
    hr_sketch_bounds(sketches, words, factors, planes, nodes, count, of_query, bounds);
    for (ptrdiff_t i = 0; i < count; i++)
        found[i] = (int32_t)bounds[i];
    if (differs("bounds by words", words, count, found, right))
        return 1;
#if defined(HR_HAS_AVX2)
    if (hr256_is_supported() && words % 2 == 0 && words <= HR256_WORDS_MAX) {
        hr256_sketch_bounds(sketches, words, factors, planes, nodes, count, of_query, bounds);
        for (ptrdiff_t i = 0; i < count; i++)
            found[i] = (int32_t)bounds[i];
        return differs("AVX2 bounds by words", words, count, found, right);
    }
#endif
    return 0;
}

/* The larger factors, and what they make of a sum. */
static int factors_differ(size_t words)
{
    const float parts[4] = {0.5f, 0.25f, 3, 0};
    float bounds[ROWS], right[ROWS];
    fill(factors, sizeof factors);
    hr_bounds(sketches, words, factors, planes, nodes, ROWS, parts, right);
    hr_sketch_bounds(sketches, words, factors, planes, nodes, ROWS, parts, bounds);
    for (ptrdiff_t i = 0; i < ROWS; i++) {
        float scale = right[i] < 0 ? -right[i] : right[i];
        float off = bounds[i] < right[i] ? right[i] - bounds[i] : bounds[i] - right[i];
        if (off > 1e-5f * scale + 1) {
            printf("bounds of %zu words, row %td: %f for %f\n", words, i, bounds[i], right[i]);
            return 1;
        }
    }
    return 0;
}

int main(void)
{
    static const ptrdiff_t counts[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33, ROWS};
    fill(codes, sizeof codes);
    fill(query, sizeof query);
    fill(sketches, sizeof sketches);
    fill(planes, sizeof planes);
    for (int is_block = 0; is_block < 2; is_block++) {
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
            ptrdiff_t first = is_block ? (ptrdiff_t)(next_random() % (ROWS + 1 - counts[i])) : 0;
            for (ptrdiff_t row = 0; row < counts[i]; row++)
                nodes[row] = (int32_t)(is_block ? first + row : next_random() % ROWS);
            for (size_t dim = 16; dim <= DIM_MAX; dim += dim < 544 ? 16 : 496)
                if (distances_differ(dim, counts[i]))
                    return 1;
            for (size_t words = 1; words <= WORDS_MAX; words++)
                if (bounds_differ(words, counts[i]))
                    return 1;
        }
        for (size_t words = 1; words <= WORDS_MAX; words++)
            if (factors_differ(words))
                return 1;
    }
#if defined(HR_HAS_AVX2)
    if (hr256_is_supported())
        puts("avx2");
#endif
    puts("processor");
    return 0;
}
