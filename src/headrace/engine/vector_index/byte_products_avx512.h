/* `byte_products.h` with AVX-512 VNNI.
 *
 * It multiplies unsigned by signed bytes and adds four products to each of 16 integers. So a
 * vector holds four components of each row of a block. With q' = q - 128, which is signed,
 *
 *     |c - q|^2 = |c|^2 + |q|^2 - 2 c.q = (|c|^2 - 256 sum(c)) + |q|^2 - 2 c.q'
 */

#ifndef HEADRACE_BYTE_PRODUCTS_AVX512_H
#define HEADRACE_BYTE_PRODUCTS_AVX512_H

#define HR_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
#define HR_VNNI_INLINE \
    static inline __attribute__((always_inline, target("avx512f,avx512bw,avx512vl,avx512vnni")))

/* Whether this processor has the instructions. */
static int hr512_is_supported(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}

/* Columns of 16 rows of 16 integers. */
HR_VNNI_INLINE void hr512_transpose(__m512i *rows)
{
    __m512i a[16], b[16];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        a[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        b[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]);
        b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
        b[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]);
        b[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __m512i even_low = _mm512_shuffle_i32x4(b[i], b[i + 4], 0x88);
        __m512i odd_low = _mm512_shuffle_i32x4(b[i], b[i + 4], 0xdd);
        __m512i even_high = _mm512_shuffle_i32x4(b[i + 8], b[i + 12], 0x88);
        __m512i odd_high = _mm512_shuffle_i32x4(b[i + 8], b[i + 12], 0xdd);
        rows[i] = _mm512_shuffle_i32x4(even_low, even_high, 0x88);
        rows[i + 4] = _mm512_shuffle_i32x4(odd_low, odd_high, 0x88);
        rows[i + 8] = _mm512_shuffle_i32x4(even_low, even_high, 0xdd);
        rows[i + 12] = _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd);
    }
}

/* The codes of some nodes in blocks of 16, the last filled up with the last node; of each
 * |c|^2, and |c|^2 - 256 sum(c). */
HR_VNNI_INLINE void hr512_fill_blocks(const uint8_t *codes, size_t dim, const int32_t *nodes,
                                   ptrdiff_t count, uint8_t *blocks, int32_t *lengths,
                                   int32_t *offsets)
{
    const __m512i ones = _mm512_set1_epi8(1), low_bytes = _mm512_set1_epi16(0xff);
    for (ptrdiff_t first = 0; first < count; first += HR_ROWS) {
        const uint8_t *of_row[HR_ROWS];
        __m512i sum = _mm512_setzero_si512(), length = sum;
        for (ptrdiff_t i = 0; i < HR_ROWS; i++)
            of_row[i] = codes + dim * (size_t)nodes[first + i < count ? first + i : count - 1];
        for (size_t begin = 0; begin < dim; begin += 64) {
            size_t vectors = dim - begin < 64 ? (dim - begin) / 4 : 16;
            __mmask16 inside = (__mmask16)(0xffff >> (16 - vectors));
            __m512i rows[HR_ROWS];
#pragma GCC unroll 16
            for (int i = 0; i < HR_ROWS; i++)
                rows[i] = _mm512_maskz_loadu_epi32(inside, of_row[i] + begin);
            hr512_transpose(rows);
#pragma GCC unroll 16
            for (size_t i = 0; i < 16; i++) {
                __m512i even = _mm512_and_si512(rows[i], low_bytes);
                __m512i odd = _mm512_srli_epi16(rows[i], 8);
                if (i >= vectors)
                    break;
                _mm512_store_si512(blocks + 16 * begin + 64 * i, rows[i]);
                sum = _mm512_dpbusd_epi32(sum, rows[i], ones);
                length = _mm512_dpwssd_epi32(length, even, even);
                length = _mm512_dpwssd_epi32(length, odd, odd);
            }
        }
        _mm512_storeu_si512(lengths + first, length);
        _mm512_storeu_si512(offsets + first, _mm512_sub_epi32(length, _mm512_slli_epi32(sum, 8)));
        blocks += HR_ROWS * dim;
    }
}

/* q - 128. */
HR_VNNI_INLINE void hr512_copy_signed(const uint8_t *code, size_t dim, uint8_t *out)
{
    for (size_t i = 0; i < dim; i += 16)
        _mm_storeu_si128((__m128i *)(out + i),
                         _mm_xor_si128(_mm_loadu_si128((const __m128i *)(code + i)),
                                       _mm_set1_epi8((char)0x80)));
}

/* c.q' of the rows of some blocks with some queries: for each block, for each query. Both stand
 * one behind the other, and are so few that all sums stay in registers. */
HR_VNNI_INLINE void hr512_multiply(const uint8_t *blocks, size_t dim, const int block_count,
                                const uint8_t *queries, const int query_count,
                                __m512i *products)
{
    for (int i = 0; i < block_count * query_count; i++)
        products[i] = _mm512_setzero_si512();
    for (size_t i = 0; i < dim; i += 4) {
#pragma GCC unroll 8
        for (int q = 0; q < query_count; q++) {
            int32_t four;
            memcpy(&four, queries + (size_t)q * dim + i, 4);
            __m512i components = _mm512_set1_epi32(four);
#pragma GCC unroll 8
            for (int b = 0; b < block_count; b++)
                products[b * query_count + q] = _mm512_dpbusd_epi32(
                    products[b * query_count + q],
                    _mm512_load_si512(blocks + (size_t)b * HR_ROWS * dim + 16 * i), components);
        }
    }
}

HR_VNNI_INLINE __m512i hr512_distances(__m512i products, const int32_t *offsets, int32_t length)
{
    __m512i constant = _mm512_add_epi32(_mm512_load_si512(offsets), _mm512_set1_epi32(length));
    return _mm512_sub_epi32(constant, _mm512_slli_epi32(products, 1));
}

/* Put an entry in its place among ascending ones that lack it; the last falls out. */
HR_VNNI_INLINE void hr512_insert(__m512i *entries, ptrdiff_t vectors, uint64_t entry)
{
    const __m512i added = _mm512_set1_epi64((long long)entry);
    __m512i here = entries[vectors - 1];
    for (ptrdiff_t i = vectors - 1; i >= 0; i--) {
        __m512i below = i ? entries[i - 1] : _mm512_setzero_si512();
        __m512i before = _mm512_alignr_epi64(here, below, 7);
        entries[i] = _mm512_min_epu64(here, _mm512_max_epu64(before, added));
        here = below;
    }
}

/* Offer nodes to a pool, by their distances; those that it begins with are left out.
 *
 * The pool is filled up with entries of all ones to whole vectors; `known` has room for half
 * as many, and one more; `distances` and `nodes` are changed. */
HR_VNNI_INLINE void hr512_offer(uint64_t *pool, ptrdiff_t pool_size, int32_t *nodes,
                             int32_t *distances, ptrdiff_t count, __m512i *known)
{
    __m512i *entries = (__m512i *)pool;
    const ptrdiff_t vectors = (pool_size + 7) / 8;
    ptrdiff_t new_count = 0;
    for (ptrdiff_t i = 0; i < vectors; i += 2) {
        __m256i first = _mm512_cvtepi64_epi32(entries[i]);
        __m256i second = i + 1 < vectors ? _mm512_cvtepi64_epi32(entries[i + 1]) : first;
        known[i / 2] = _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
    }
    for (ptrdiff_t i = 0; i < count; i++) {
        const __m512i node = _mm512_set1_epi32(nodes[i]);
        __m512i differing = _mm512_xor_si512(known[0], node);
        for (ptrdiff_t j = 1; j < (vectors + 1) / 2; j++)
            differing = _mm512_min_epu32(differing, _mm512_xor_si512(known[j], node));
        nodes[new_count] = nodes[i];
        distances[new_count] = distances[i];
        new_count += !_mm512_testn_epi32_mask(differing, differing);
    }
    for (ptrdiff_t i = 0; i < new_count; i++) {
        uint64_t entry = (uint64_t)distances[i] << 32 | (uint32_t)nodes[i];
        if (entry < pool[pool_size - 1])
            hr512_insert(entries, vectors, entry);
    }
}

static size_t hr512_compare_bytes(ptrdiff_t count, size_t dim, ptrdiff_t pool_size)
{
    size_t rows = (size_t)hr_filled_rows(count);
    return rows * (dim + (5 + HR_QUERIES) * sizeof(int32_t)) + HR_QUERIES * (dim + 4)
        + ((size_t)pool_size + 8) * (sizeof(uint64_t) + sizeof(int32_t)) + 14 * 64;
}

HR_VNNI static void hr512_compare_all(const uint8_t *codes, size_t dim, const int32_t *nodes,
                                   ptrdiff_t count, uint64_t *pools, ptrdiff_t pool_size,
                                   uint8_t *memory)
{
    const ptrdiff_t rows = hr_filled_rows(count);
    const ptrdiff_t pool_vectors = (pool_size + 7) / 8;
    const size_t row_bytes = (size_t)rows * sizeof(int32_t);
    uint8_t *blocks = hr_part(&memory, (size_t)rows * dim);
    int32_t *lengths = hr_part(&memory, row_bytes);
    int32_t *offsets = hr_part(&memory, row_bytes);
    int32_t *names = hr_part(&memory, row_bytes);
    int32_t *distances = hr_part(&memory, HR_QUERIES * row_bytes);
    int32_t *near_distances = hr_part(&memory, row_bytes + 64);
    int32_t *near_nodes = hr_part(&memory, row_bytes + 64);
    uint8_t *queries = hr_part(&memory, HR_QUERIES * dim);
    uint64_t *pool = hr_part(&memory, (size_t)pool_vectors * 64);
    __m512i *known = hr_part(&memory, (size_t)(pool_vectors + 1) / 2 * sizeof(__m512i));
    if (!count)
        return;
    hr512_fill_blocks(codes, dim, nodes, count, blocks, lengths, offsets);
    memcpy(names, nodes, (size_t)count * sizeof(int32_t));
    for (ptrdiff_t first = 0; first < count; first += HR_QUERIES) {
        for (ptrdiff_t q = 0; q < HR_QUERIES; q++) {
            ptrdiff_t row = first + q < count ? first + q : count - 1;
            hr512_copy_signed(codes + dim * (size_t)nodes[row], dim, queries + (size_t)q * dim);
            hr_prefetch(pools + nodes[row] * pool_size, (size_t)pool_size * sizeof(uint64_t));
        }
        for (ptrdiff_t row = 0; row < rows; row += HR_ROWS) {
            __m512i products[HR_QUERIES];
            hr512_multiply(blocks + (size_t)row * dim, dim, 1, queries, HR_QUERIES, products);
#pragma GCC unroll 8
            for (int q = 0; q < HR_QUERIES; q++)
                _mm512_store_si512(
                    distances + q * rows + row,
                    hr512_distances(products[q], offsets + row, lengths[first + q]));
        }
        for (ptrdiff_t q = 0; q < HR_QUERIES && first + q < count; q++) {
            int32_t *of_query = distances + q * rows;
            uint64_t *kept = pools + nodes[first + q] * pool_size;
            ptrdiff_t near_count = 0;
            memcpy(pool, kept, (size_t)pool_size * sizeof(uint64_t));
            for (ptrdiff_t i = pool_size; i < 8 * pool_vectors; i++)
                pool[i] = UINT64_MAX;
            int32_t worst = hr_worst(of_query, first + q, count, rows, pool, pool_size);
            for (ptrdiff_t i = 0; i < rows; i += HR_ROWS) {
                __m512i distance = _mm512_load_si512(of_query + i);
                __mmask16 is_near = _mm512_cmple_epi32_mask(distance, _mm512_set1_epi32(worst));
                _mm512_storeu_si512(near_distances + near_count,
                                    _mm512_maskz_compress_epi32(is_near, distance));
                _mm512_storeu_si512(
                    near_nodes + near_count,
                    _mm512_maskz_compress_epi32(is_near, _mm512_load_si512(names + i)));
                near_count += __builtin_popcount(is_near);
            }
            hr512_offer(pool, pool_size, near_nodes, near_distances, near_count, known);
            memcpy(kept, pool, (size_t)pool_size * sizeof(uint64_t));
        }
    }
}

static size_t hr512_nearest_bytes(ptrdiff_t pivot_count, size_t dim)
{
    size_t rows = (size_t)hr_filled_rows(pivot_count);
    return rows * (dim + 2 * sizeof(int32_t)) + HR_QUERIES * dim + 5 * 64;
}

HR_VNNI static void hr512_nearest_pivots(const uint8_t *codes, size_t dim, const int32_t *nodes,
                                      ptrdiff_t count, const int32_t *pivots,
                                      ptrdiff_t pivot_count, int32_t *out, uint8_t *memory)
{
    const ptrdiff_t rows = hr_filled_rows(pivot_count);
    uint8_t *blocks = hr_part(&memory, (size_t)rows * dim);
    int32_t *lengths = hr_part(&memory, (size_t)rows * sizeof(int32_t));
    int32_t *offsets = hr_part(&memory, (size_t)rows * sizeof(int32_t));
    uint8_t *queries = hr_part(&memory, HR_QUERIES * dim);
    hr512_fill_blocks(codes, dim, pivots, pivot_count, blocks, lengths, offsets);
    for (ptrdiff_t first = 0; first < count; first += HR_QUERIES) {
        int32_t nearest[HR_QUERIES];
        for (ptrdiff_t q = 0; q < HR_QUERIES; q++) {
            ptrdiff_t row = first + q < count ? first + q : count - 1;
            ptrdiff_t next = row + 2 * HR_QUERIES < count ? row + 2 * HR_QUERIES : row;
            hr_prefetch(codes + dim * (size_t)nodes[next], dim);
            hr512_copy_signed(codes + dim * (size_t)nodes[row], dim, queries + (size_t)q * dim);
            nearest[q] = INT32_MAX;
        }
        for (ptrdiff_t row = 0; row < rows; row += HR_ROWS) {
            __m512i products[HR_QUERIES];
            hr512_multiply(blocks + (size_t)row * dim, dim, 1, queries, HR_QUERIES, products);
            for (ptrdiff_t q = 0; q < HR_QUERIES && first + q < count; q++) {
                /* |q|^2 is the same for all; without it they fit into 32 bits as well. The
                 * last pivot stands again in what fills the block up, behind itself. */
                __m512i distance = hr512_distances(products[q], offsets + row, 0);
                int32_t least = _mm512_reduce_min_epi32(distance);
                if (least < nearest[q]) {
                    nearest[q] = least;
                    out[first + q] = (int32_t)row
                        + __builtin_ctz(_mm512_cmpeq_epi32_mask(distance,
                                                                _mm512_set1_epi32(least)));
                }
            }
        }
    }
}

static size_t hr512_spread_bytes(ptrdiff_t count, size_t dim)
{
    size_t rows = (size_t)hr_filled_rows(count);
    return rows * (dim + 4 * sizeof(int32_t) + 1) + dim + 7 * 64;
}

/* Add to `hidden` which rows of some blocks are much nearer to a query than to their node. */
HR_VNNI_INLINE void hr512_hide(const uint8_t *blocks, size_t dim, const int block_count,
                            const uint8_t *query, int32_t length, const int32_t *offsets,
                            const int32_t *distances, float slack, __mmask16 *hidden)
{
    __m512i products[4];
    hr512_multiply(blocks, dim, block_count, query, 1, products);
    for (int b = 0; b < block_count; b++) {
        __m512 between =
            _mm512_cvtepi32_ps(hr512_distances(products[b], offsets + b * HR_ROWS, length));
        __m512 distance = _mm512_cvtepi32_ps(_mm512_load_si512(distances + b * HR_ROWS));
        hidden[b] |= _mm512_cmp_ps_mask(_mm512_mul_ps(_mm512_set1_ps(slack), between), distance,
                                        _CMP_LT_OQ);
    }
}

HR_VNNI static ptrdiff_t hr512_spread(const uint8_t *codes, size_t dim, const uint64_t *entries,
                                   ptrdiff_t count, ptrdiff_t degree, float slack, int32_t *out,
                                   uint8_t *memory)
{
    const ptrdiff_t most = hr_filled_rows(count);
    uint8_t *blocks = hr_part(&memory, (size_t)most * dim);
    int32_t *lengths = hr_part(&memory, (size_t)most * sizeof(int32_t));
    int32_t *offsets = hr_part(&memory, (size_t)most * sizeof(int32_t));
    int32_t *nodes = hr_part(&memory, (size_t)most * sizeof(int32_t));
    int32_t *distances = hr_part(&memory, (size_t)most * sizeof(int32_t));
    uint8_t *query = hr_part(&memory, dim);
    __mmask16 *hidden = hr_part(&memory, (size_t)most / HR_ROWS * sizeof(__mmask16));
    const ptrdiff_t known = hr_entries(entries, count, nodes, distances);
    ptrdiff_t kept = 0;
    hr512_fill_blocks(codes, dim, nodes, known, blocks, lengths, offsets);
    memset(hidden, 0, (size_t)most / HR_ROWS * sizeof(__mmask16));
    for (ptrdiff_t i = 0; i < known && kept < degree; i++) {
        if (hidden[i / HR_ROWS] >> i % HR_ROWS & 1)
            continue;
        if (!distances[i] && kept >= (degree + 1) / 2)
            continue;
        out[kept++] = nodes[i];
        hr512_copy_signed(codes + dim * (size_t)nodes[i], dim, query);
        for (ptrdiff_t row = i & ~(ptrdiff_t)(HR_ROWS - 1); row < known; row += 4 * HR_ROWS) {
            const uint8_t *first = blocks + (size_t)row * dim;
            const int32_t *of_first = offsets + row, *away = distances + row;
            __mmask16 *behind = hidden + row / HR_ROWS;
            switch ((hr_filled_rows(known) - row) / HR_ROWS) {
            case 1:
                hr512_hide(first, dim, 1, query, lengths[i], of_first, away, slack, behind);
                break;
            case 2:
                hr512_hide(first, dim, 2, query, lengths[i], of_first, away, slack, behind);
                break;
            case 3:
                hr512_hide(first, dim, 3, query, lengths[i], of_first, away, slack, behind);
                break;
            default:
                hr512_hide(first, dim, 4, query, lengths[i], of_first, away, slack, behind);
            }
        }
    }
    return kept;
}

#endif
