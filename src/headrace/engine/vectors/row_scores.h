/* Similarities of a vector to rows of a matrix of floats, where they lie. */

#ifndef HEADRACE_ROW_SCORES_H
#define HEADRACE_ROW_SCORES_H

#include <stdint.h>

#include "processor.h"

/* So much of the rows to come is asked for before it is needed: with rows that no cache holds,
   100,000 x 128, a row took 29 ns with 2 to 4 KiB, 40 ns with 1 or 16 KiB, 66 ns with none. */
#define HR_AHEAD_BYTES 4096
#define HR_AHEAD_ROWS_MIN 2

/* Of a longer row the rest comes by itself, as the processor sees where it is read. */
#define HR_ROW_BYTES_MAX 2048

HR_INLINE float hr_product(const float *a, const float *b, size_t dim)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < dim; i++)
        sum += a[i] * b[i];
    return sum;
}

HR_INLINE float hr_squared_distance(const float *a, const float *b, size_t dim)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < dim; i++)
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sum;
}

HR_INLINE void hr_score(const float *matrix, size_t dim, const float *query, int is_product,
                        const int64_t *rows, int64_t first_row, ptrdiff_t count, float *out)
{
    size_t row_bytes = dim * sizeof(float);
    size_t asked_bytes = row_bytes < HR_ROW_BYTES_MAX ? row_bytes : HR_ROW_BYTES_MAX;
    ptrdiff_t ahead = HR_AHEAD_BYTES / (asked_bytes ? asked_bytes : 1);
    if (ahead < HR_AHEAD_ROWS_MIN)
        ahead = HR_AHEAD_ROWS_MIN;
    for (ptrdiff_t i = 0; i < ahead && i < count; i++)
        hr_prefetch(matrix + (rows[i] - first_row) * (ptrdiff_t)dim, asked_bytes);
    for (ptrdiff_t i = 0; i < count; i++) {
        if (i + ahead < count)
            hr_prefetch(matrix + (rows[i + ahead] - first_row) * (ptrdiff_t)dim, asked_bytes);
        const float *row = matrix + (rows[i] - first_row) * (ptrdiff_t)dim;
        out[i] = is_product ? hr_product(query, row, dim) : -hr_squared_distance(query, row, dim);
    }
}

/* Of a query to some rows of a matrix, the first of which has the number `first_row`. */
HR_CLONES
static void hr_score_rows(const float *matrix, size_t dim, const float *query, int is_product,
                          const int64_t *rows, int64_t first_row, ptrdiff_t count, float *out)
{
    if (is_product)
        hr_score(matrix, dim, query, 1, rows, first_row, count, out);
    else
        hr_score(matrix, dim, query, 0, rows, first_row, count, out);
}

#endif
