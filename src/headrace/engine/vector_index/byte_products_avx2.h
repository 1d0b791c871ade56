/* `byte_products.h` with AVX2.
 *
 * It multiplies 16-bit integers and adds two products to each of 8 integers; bytes it can only
 * multiply where sums of two fit into 16 bits, which these do not. So blocks hold components of
 * 16 bits, and of each pair of components one vector for the first 8 rows and one for the others.
 */

#ifndef HEADRACE_BYTE_PRODUCTS_AVX2_H
#define HEADRACE_BYTE_PRODUCTS_AVX2_H

/* With so many queries the sums of 16 rows stay in registers. */
enum { HR256_QUERIES = 4 };

/* Columns of 8 rows of 8 pairs of bytes. */
HR_AVX2_INLINE void hr256_transpose(__m128i *rows)
{
    __m128i a[8], b[8];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        a[2 * i] = _mm_unpacklo_epi16(rows[2 * i], rows[2 * i + 1]);
        a[2 * i + 1] = _mm_unpackhi_epi16(rows[2 * i], rows[2 * i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
        b[i] = _mm_unpacklo_epi32(a[i], a[i + 2]);
        b[i + 1] = _mm_unpackhi_epi32(a[i], a[i + 2]);
        b[i + 2] = _mm_unpacklo_epi32(a[i + 1], a[i + 3]);
        b[i + 3] = _mm_unpackhi_epi32(a[i + 1], a[i + 3]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        rows[2 * i] = _mm_unpacklo_epi64(b[i], b[i + 4]);
        rows[2 * i + 1] = _mm_unpackhi_epi64(b[i], b[i + 4]);
    }
}

/* The codes of some nodes in blocks of 16, the last filled up with the last node; of each
 * |c|^2. */
HR_AVX2_INLINE void hr256_fill_blocks(const uint8_t *codes, size_t dim, const int32_t *nodes,
                                      ptrdiff_t count, int16_t *blocks, int32_t *lengths)
{
    for (ptrdiff_t first = 0; first < count; first += HR_ROWS, blocks += HR_ROWS * dim) {
        for (ptrdiff_t half = 0; half < 2; half++) {
            const ptrdiff_t begin_row = first + 8 * half;
            const uint8_t *of_row[8];
            __m256i length = _mm256_setzero_si256();
            for (ptrdiff_t i = 0; i < 8; i++) {
                ptrdiff_t row = begin_row + i < count ? begin_row + i : count - 1;
                of_row[i] = codes + dim * (size_t)nodes[row];
            }
            for (size_t begin = 0; begin < dim; begin += 16) {
                __m128i rows[8];
#pragma GCC unroll 8
                for (int i = 0; i < 8; i++)
                    rows[i] = _mm_loadu_si128((const __m128i *)(of_row[i] + begin));
                hr256_transpose(rows);
#pragma GCC unroll 8
                for (size_t i = 0; i < 8; i++) {
                    __m256i pairs = _mm256_cvtepu8_epi16(rows[i]);
                    _mm256_store_si256((__m256i *)(blocks + 16 * (begin + 2 * i)) + half, pairs);
                    length = _mm256_add_epi32(length, _mm256_madd_epi16(pairs, pairs));
                }
            }
            _mm256_store_si256((__m256i *)(lengths + begin_row), length);
        }
    }
}

HR_AVX2_INLINE void hr256_copy_wide(const uint8_t *code, size_t dim, int16_t *out)
{
    for (size_t i = 0; i < dim; i += 16)
        _mm256_storeu_si256(
            (__m256i *)(out + i),
            _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(code + i))));
}

/* c.q of the 16 rows of a block with a query, in two vectors. */
HR_AVX2_INLINE void hr256_multiply(const int16_t *block, size_t dim, const int16_t *query,
                                   __m256i *products)
{
    __m256i low = _mm256_setzero_si256(), high = low;
    for (size_t i = 0; i < dim; i += 2) {
        const __m256i *pairs = (const __m256i *)(block + 16 * i);
        int32_t two;
        memcpy(&two, query + i, 4);
        __m256i components = _mm256_set1_epi32(two);
        low = _mm256_add_epi32(low, _mm256_madd_epi16(pairs[0], components));
        high = _mm256_add_epi32(high, _mm256_madd_epi16(pairs[1], components));
    }
    products[0] = low;
    products[1] = high;
}

/* Add products to sums, in the register where they are: compilers that know what comes next
 * move them around. */
#define HR256_ADD(sums, a, b)                                       \
    do {                                                            \
        sums = _mm256_add_epi32(sums, _mm256_madd_epi16(a, b));     \
        __asm__("" : "+x"(sums));                                   \
    } while (0)

/* The same with four queries, which stand one behind the other. */
HR_AVX2_INLINE void hr256_multiply_four(const int16_t *block, size_t dim,
                                        const int16_t *queries, __m256i *products)
{
    __m256i low_0 = _mm256_setzero_si256(), low_1 = low_0, low_2 = low_0, low_3 = low_0;
    __m256i high_0 = low_0, high_1 = low_0, high_2 = low_0, high_3 = low_0;
    for (size_t i = 0; i < dim; i += 2) {
        const __m256i *pairs = (const __m256i *)(block + 16 * i);
        __m256i low = pairs[0], high = pairs[1];
        __asm__("" : "+x"(low), "+x"(high));
        int32_t two[4];
        for (size_t q = 0; q < 4; q++)
            memcpy(two + q, queries + q * dim + i, 4);
        __m256i components = _mm256_set1_epi32(two[0]);
        HR256_ADD(low_0, low, components);
        HR256_ADD(high_0, high, components);
        components = _mm256_set1_epi32(two[1]);
        HR256_ADD(low_1, low, components);
        HR256_ADD(high_1, high, components);
        components = _mm256_set1_epi32(two[2]);
        HR256_ADD(low_2, low, components);
        HR256_ADD(high_2, high, components);
        components = _mm256_set1_epi32(two[3]);
        HR256_ADD(low_3, low, components);
        HR256_ADD(high_3, high, components);
    }
    products[0] = low_0, products[1] = high_0, products[2] = low_1, products[3] = high_1;
    products[4] = low_2, products[5] = high_2, products[6] = low_3, products[7] = high_3;
}

/* Of a query to the 8 rows whose |c|^2 stand there. */
HR_AVX2_INLINE __m256i hr256_distances(__m256i products, const int32_t *lengths, int32_t length)
{
    __m256i both = _mm256_add_epi32(_mm256_load_si256((const __m256i *)lengths),
                                    _mm256_set1_epi32(length));
    return _mm256_sub_epi32(both, _mm256_slli_epi32(products, 1));
}

/* A bit for each of 8 numbers that is more than another. */
HR_AVX2_INLINE unsigned hr256_more(__m256i numbers, __m256i other)
{
    return (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(numbers, other)));
}

static size_t hr256_compare_bytes(ptrdiff_t count, size_t dim, ptrdiff_t pool_size)
{
    size_t rows = (size_t)hr_filled_rows(count);
    (void)pool_size;
    return rows * (dim * sizeof(int16_t) + (1 + HR_QUERIES) * sizeof(int32_t))
        + HR_QUERIES * dim * sizeof(int16_t) + 4 * 64;
}

HR_AVX2 static void hr256_compare_all(const uint8_t *codes, size_t dim, const int32_t *nodes,
                                      ptrdiff_t count, uint64_t *pools, ptrdiff_t pool_size,
                                      uint8_t *memory)
{
    const ptrdiff_t rows = hr_filled_rows(count);
    int16_t *blocks = hr_part(&memory, (size_t)rows * dim * sizeof(int16_t));
    int32_t *lengths = hr_part(&memory, (size_t)rows * sizeof(int32_t));
    int32_t *distances = hr_part(&memory, HR_QUERIES * (size_t)rows * sizeof(int32_t));
    int16_t *queries = hr_part(&memory, HR_QUERIES * dim * sizeof(int16_t));
    if (!count)
        return;
    hr256_fill_blocks(codes, dim, nodes, count, blocks, lengths);
    for (ptrdiff_t first = 0; first < count; first += HR_QUERIES) {
        for (ptrdiff_t q = 0; q < HR_QUERIES; q++) {
            ptrdiff_t row = first + q < count ? first + q : count - 1;
            hr256_copy_wide(codes + dim * (size_t)nodes[row], dim, queries + (size_t)q * dim);
            hr_prefetch(pools + nodes[row] * pool_size, (size_t)pool_size * sizeof(uint64_t));
        }
        for (ptrdiff_t row = 0; row < rows; row += HR_ROWS) {
            for (int part = 0; part < HR_QUERIES; part += HR256_QUERIES) {
                __m256i products[2 * HR256_QUERIES];
                hr256_multiply_four(blocks + (size_t)row * dim, dim,
                                    queries + (size_t)part * dim, products);
#pragma GCC unroll 4
                for (int q = 0; q < HR256_QUERIES; q++) {
                    __m256i *out = (__m256i *)(distances + (part + q) * rows + row);
                    int32_t length = lengths[first + part + q];
                    out[0] = hr256_distances(products[2 * q], lengths + row, length);
                    out[1] = hr256_distances(products[2 * q + 1], lengths + row + 8, length);
                }
            }
        }
        for (ptrdiff_t q = 0; q < HR_QUERIES && first + q < count; q++) {
            int32_t *of_query = distances + q * rows;
            uint64_t *pool = pools + nodes[first + q] * pool_size;
            int32_t worst = hr_worst(of_query, first + q, count, rows, pool, pool_size);
            for (ptrdiff_t i = 0; i < rows; i += 8) {
                __m256i eight = _mm256_load_si256((const __m256i *)(of_query + i));
                unsigned near = hr256_more(_mm256_set1_epi32(worst + 1), eight);
                for (; near; near &= near - 1) {
                    ptrdiff_t row = i + __builtin_ctz(near);
                    uint64_t entry = (uint64_t)of_query[row] << 32 | (uint32_t)nodes[row];
                    if (hr_offer(pool, pool_size, entry) && pool[pool_size - 1] != UINT64_MAX)
                        worst = (int32_t)(pool[pool_size - 1] >> 32);
                }
            }
        }
    }
}

static size_t hr256_nearest_bytes(ptrdiff_t pivot_count, size_t dim)
{
    size_t rows = (size_t)hr_filled_rows(pivot_count);
    return rows * (dim * sizeof(int16_t) + sizeof(int32_t))
        + HR256_QUERIES * dim * sizeof(int16_t) + 3 * 64;
}

HR_AVX2 static void hr256_nearest_pivots(const uint8_t *codes, size_t dim, const int32_t *nodes,
                                         ptrdiff_t count, const int32_t *pivots,
                                         ptrdiff_t pivot_count, int32_t *out, uint8_t *memory)
{
    const ptrdiff_t rows = hr_filled_rows(pivot_count);
    int16_t *blocks = hr_part(&memory, (size_t)rows * dim * sizeof(int16_t));
    int32_t *lengths = hr_part(&memory, (size_t)rows * sizeof(int32_t));
    int16_t *queries = hr_part(&memory, HR256_QUERIES * dim * sizeof(int16_t));
    hr256_fill_blocks(codes, dim, pivots, pivot_count, blocks, lengths);
    for (ptrdiff_t first = 0; first < count; first += HR256_QUERIES) {
        int32_t nearest[HR256_QUERIES];
        for (ptrdiff_t q = 0; q < HR256_QUERIES; q++) {
            ptrdiff_t row = first + q < count ? first + q : count - 1;
            ptrdiff_t next = row + 4 * HR256_QUERIES < count ? row + 4 * HR256_QUERIES : row;
            hr_prefetch(codes + dim * (size_t)nodes[next], dim);
            hr256_copy_wide(codes + dim * (size_t)nodes[row], dim, queries + (size_t)q * dim);
            nearest[q] = INT32_MAX;
        }
        for (ptrdiff_t row = 0; row < rows; row += HR_ROWS) {
            __m256i products[2 * HR256_QUERIES];
            hr256_multiply_four(blocks + (size_t)row * dim, dim, queries, products);
            for (ptrdiff_t q = 0; q < HR256_QUERIES && first + q < count; q++) {
                /* |q|^2 is the same for all; without it they fit into 32 bits as well. The
                 * last pivot stands again in what fills the block up, behind itself. */
                int32_t of_query[HR_ROWS] __attribute__((aligned(32)));
                _mm256_store_si256((__m256i *)of_query,
                                   hr256_distances(products[2 * q], lengths + row, 0));
                _mm256_store_si256((__m256i *)of_query + 1,
                                   hr256_distances(products[2 * q + 1], lengths + row + 8, 0));
                for (ptrdiff_t i = 0; i < HR_ROWS; i++) {
                    if (of_query[i] < nearest[q]) {
                        nearest[q] = of_query[i];
                        out[first + q] = (int32_t)(row + i);
                    }
                }
            }
        }
    }
}

static size_t hr256_spread_bytes(ptrdiff_t count, size_t dim)
{
    size_t rows = (size_t)hr_filled_rows(count);
    return rows * (dim * sizeof(int16_t) + 3 * sizeof(int32_t) + 1) + dim * sizeof(int16_t)
        + 6 * 64;
}

/* A bit for each of 8 rows that is much nearer to a query than to its node. */
HR_AVX2_INLINE unsigned hr256_hidden(__m256i between, const int32_t *distances, float slack)
{
    __m256 distance = _mm256_cvtepi32_ps(_mm256_load_si256((const __m256i *)distances));
    __m256 hidden_from = _mm256_mul_ps(_mm256_set1_ps(slack), _mm256_cvtepi32_ps(between));
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(hidden_from, distance, _CMP_LT_OQ));
}

HR_AVX2 static ptrdiff_t hr256_spread(const uint8_t *codes, size_t dim, const uint64_t *entries,
                                      ptrdiff_t count, ptrdiff_t degree, float slack,
                                      int32_t *out, uint8_t *memory)
{
    const ptrdiff_t most = hr_filled_rows(count);
    int16_t *blocks = hr_part(&memory, (size_t)most * dim * sizeof(int16_t));
    int32_t *lengths = hr_part(&memory, (size_t)most * sizeof(int32_t));
    int32_t *nodes = hr_part(&memory, (size_t)most * sizeof(int32_t));
    int32_t *distances = hr_part(&memory, (size_t)most * sizeof(int32_t));
    int16_t *query = hr_part(&memory, dim * sizeof(int16_t));
    uint16_t *hidden = hr_part(&memory, (size_t)most / HR_ROWS * sizeof(uint16_t));
    const ptrdiff_t known = hr_entries(entries, count, nodes, distances);
    ptrdiff_t kept = 0;
    hr256_fill_blocks(codes, dim, nodes, known, blocks, lengths);
    memset(hidden, 0, (size_t)most / HR_ROWS * sizeof(uint16_t));
    for (ptrdiff_t i = 0; i < known && kept < degree; i++) {
        if (hidden[i / HR_ROWS] >> i % HR_ROWS & 1)
            continue;
        if (!distances[i] && kept >= (degree + 1) / 2)
            continue;
        out[kept++] = nodes[i];
        hr256_copy_wide(codes + dim * (size_t)nodes[i], dim, query);
        for (ptrdiff_t row = i & ~(ptrdiff_t)(HR_ROWS - 1); row < known; row += HR_ROWS) {
            __m256i products[2];
            hr256_multiply(blocks + (size_t)row * dim, dim, query, products);
            for (int half = 0; half < 2; half++) {
                ptrdiff_t begin = row + 8 * half;
                __m256i between =
                    hr256_distances(products[half], lengths + begin, lengths[i]);
                hidden[row / HR_ROWS] |= (uint16_t)(
                    hr256_hidden(between, distances + begin, slack) << 8 * half);
            }
        }
    }
    return kept;
}

#endif
