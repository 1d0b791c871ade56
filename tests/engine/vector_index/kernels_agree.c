/* Do the kernels of each generation of processors say what plain C says?
 *
 * Prints which ones it has tried; ends with 1 and a line about the first that differs.
 */

#include <stdio.h>

#include "sketches.h"

enum { ROWS = 97, DIM_MAX = 1 << 15, WORDS_MAX = 65 };

static uint8_t all_codes[ROWS * DIM_MAX], whole_query[DIM_MAX];
static uint64_t all_sketches[ROWS * WORDS_MAX], all_planes[HR_PLANES * WORDS_MAX];
static uint16_t factors[2 * ROWS];
static int32_t all_nodes[ROWS];

/* The last of an array: sanitizers see what is read behind it. */
#define LAST(array, count) ((array) + sizeof(array) / sizeof *(array) - (count))

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

typedef void score_nodes(const uint8_t *, size_t, const uint8_t *, const int32_t *, ptrdiff_t,
                         int32_t *);
typedef void score_block(const uint8_t *, size_t, const uint8_t *, ptrdiff_t, int32_t *);

static int to_nodes_differ(const char *what, score_nodes *score, size_t dim, ptrdiff_t count)
{
    const uint8_t *codes = LAST(all_codes, ROWS * dim), *query = LAST(whole_query, dim);
    const int32_t *nodes = LAST(all_nodes, count);
    int32_t right[ROWS], found[ROWS];
    for (ptrdiff_t i = 0; i < count; i++)
        right[i] = hr_distance(query, codes + (size_t)nodes[i] * dim, dim);
    score(codes, dim, query, nodes, count, LAST(found, count));
    return differs(what, dim, count, LAST(found, count), right);
}

static int to_block_differ(const char *what, score_block *score, size_t dim, ptrdiff_t count)
{
    const uint8_t *codes = LAST(all_codes, (size_t)count * dim), *query = LAST(whole_query, dim);
    int32_t right[ROWS], found[ROWS];
    for (ptrdiff_t i = 0; i < count; i++)
        right[i] = hr_distance(query, codes + (size_t)i * dim, dim);
    score(codes, dim, query, count, LAST(found, count));
    return differs(what, dim, count, LAST(found, count), right);
}

static int distances_differ(size_t dim, ptrdiff_t count)
{
#if defined(HR_HAS_AVX2)
    if (hr256_is_supported()
        && (to_nodes_differ("AVX2 distances to nodes", hr256_score_nodes, dim, count)
            || to_block_differ("AVX2 distances to a block", hr256_score_block, dim, count)))
        return 1;
#endif
    return to_nodes_differ("plain distances to nodes", hr_score_nodes_plainly, dim, count)
        || to_block_differ("plain distances to a block", hr_score_block_plainly, dim, count)
        || to_nodes_differ("distances to nodes", hr_score_nodes, dim, count)
        || to_block_differ("distances to a block", hr_score_block, dim, count);
}

/* With these factors bounds are the sums themselves, whole numbers that floats hold. */
static const float of_query[4] = {0, -1, 0, 0};

typedef void sketch_bounds(const uint64_t *, size_t, const uint16_t *, const uint64_t *,
                           const int32_t *, ptrdiff_t, const float *, float *);

static int sums_differ(const char *what, sketch_bounds *bounds_of, size_t words, ptrdiff_t count)
{
    const uint64_t *sketches = LAST(all_sketches, ROWS * words);
    const uint64_t *planes = LAST(all_planes, HR_PLANES * words);
    const int32_t *nodes = LAST(all_nodes, count);
    int32_t right[ROWS], found[ROWS];
    float bounds[ROWS];
    for (ptrdiff_t i = 0; i < ROWS; i++)
        factors[2 * i + 1] = 1;
    for (ptrdiff_t i = 0; i < count; i++)
        right[i] = hr_sketch_sum(sketches + (size_t)nodes[i] * words, planes, words);
    bounds_of(sketches, words, factors, planes, nodes, count, of_query, LAST(bounds, count));
    for (ptrdiff_t i = 0; i < count; i++)
        found[i] = (int32_t)LAST(bounds, count)[i];
    return differs(what, words, count, found, right);
}

static int bounds_differ(size_t words, ptrdiff_t count)
{
#if defined(HR_HAS_AVX2)
    if (hr256_is_supported() && words % 2 == 0 && words <= HR256_WORDS_MAX
        && sums_differ("AVX2 bounds by words", hr256_sketch_bounds, words, count))
        return 1;
#endif
    return sums_differ("bounds by words", hr_sketch_bounds, words, count);
}

/* The larger factors, and what they make of a sum. */
static int factors_differ(size_t words)
{
    const uint64_t *sketches = LAST(all_sketches, ROWS * words);
    const uint64_t *planes = LAST(all_planes, HR_PLANES * words);
    const float parts[4] = {0.5f, 0.25f, 3, 0};
    float bounds[ROWS], right[ROWS];
    fill(factors, sizeof factors);
    hr_bounds(sketches, words, factors, planes, all_nodes, ROWS, parts, right);
    hr_sketch_bounds(sketches, words, factors, planes, all_nodes, ROWS, parts, bounds);
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

/* So many of the rows, which ascend and end with the last: scattered, or one behind the other. */
static void take_nodes(ptrdiff_t count, int is_scattered)
{
    int32_t *nodes = LAST(all_nodes, count);
    ptrdiff_t taken = 0;
    for (int32_t row = 0; row < ROWS && taken < count; row++) {
        uint64_t left = (uint64_t)(ROWS - row), missing = (uint64_t)(count - taken);
        if (is_scattered ? next_random() % left < missing : left == missing)
            nodes[taken++] = row;
    }
    if (count)
        nodes[count - 1] = ROWS - 1;
}

static int random_differ(void)
{
    static const ptrdiff_t counts[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 33, ROWS};
    fill(all_codes, sizeof all_codes);
    fill(whole_query, sizeof whole_query);
    fill(all_sketches, sizeof all_sketches);
    fill(all_planes, sizeof all_planes);
    for (int is_scattered = 0; is_scattered < 2; is_scattered++) {
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
            take_nodes(counts[i], is_scattered);
            for (size_t dim = 16; dim <= 4112; dim += dim < 544 ? 16 : 496)
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
    return 0;
}

/* The greatest distances, and with each choice of planes the greatest sums. */
static int extremes_differ(void)
{
    memset(all_codes, 255, sizeof all_codes);
    memset(whole_query, 0, sizeof whole_query);
    memset(all_sketches, 255, sizeof all_sketches);
    take_nodes(ROWS, 0);
    for (size_t dim = 16; dim <= DIM_MAX; dim *= 2)
        if (distances_differ(dim, ROWS))
            return 1;
    for (size_t words = 1; words <= WORDS_MAX; words++) {
        uint64_t *planes = LAST(all_planes, HR_PLANES * words);
        for (int chosen = 0; chosen < 1 << HR_PLANES; chosen++) {
            for (size_t i = 0; i < HR_PLANES * words; i++)
                planes[i] = chosen >> i / words & 1 ? UINT64_MAX : 0;
            if (bounds_differ(words, ROWS))
                return 1;
        }
    }
    return 0;
}

int main(void)
{
    if (random_differ() || extremes_differ())
        return 1;
#if defined(HR_HAS_AVX2)
    if (hr256_is_supported())
        puts("avx2");
#endif
    puts("processor");
    return 0;
}
