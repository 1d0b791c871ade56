"""What `byte_codes.h` has."""

from libc.stdint cimport int32_t, uint8_t

cdef extern from "byte_codes.h":
    void hr_score_nodes(
        const uint8_t *codes, size_t dim, const uint8_t *query,
        const int32_t *nodes, Py_ssize_t count, int32_t *out
    ) noexcept nogil
    void hr_score_block(
        const uint8_t *codes, size_t dim, const uint8_t *query,
        Py_ssize_t count, int32_t *out
    ) noexcept nogil
    int hr_encode(
        const float *values, size_t dim, const float *offset, float scale,
        float outside_share, uint8_t *out
    ) noexcept nogil
    void hr_prefetch(const void *first, size_t byte_count) noexcept nogil
