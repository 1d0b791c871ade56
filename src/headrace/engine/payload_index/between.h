/* Which numbers lie between two others, by the instructions of the processor. */

#ifndef HEADRACE_BETWEEN_H
#define HEADRACE_BETWEEN_H

#include <stdint.h>

#include "../vectors/processor.h"

#if defined(HR_HAS_CLONES)
#include <immintrin.h>
#endif

/* 1 for numbers from `begin` on, `span` of them, else 0. What lies before wraps around. */
HR_CLONES
static void hr_between(const int32_t *numbers, ptrdiff_t count, int32_t begin, uint32_t span,
                       uint8_t *out)
{
    for (ptrdiff_t i = 0; i < count; i++)
        out[i] = (uint32_t)numbers[i] - (uint32_t)begin < span;
}

/* The same for groups of eight, as a byte of bits each, the lowest first. */
static void hr_groups_between(const int32_t *numbers, ptrdiff_t groups, int32_t begin,
                              uint32_t span, uint8_t *out)
{
    uint8_t each[512];
    for (ptrdiff_t done = 0; done < groups; done += 64) {
        ptrdiff_t taken = groups - done < 64 ? groups - done : 64;
        hr_between(numbers + done * 8, taken * 8, begin, span, each);
        for (ptrdiff_t i = 0; i < taken; i++)
            out[done + i] = hr_packed(each + i * 8);
    }
}

#if defined(HR_HAS_CLONES)
/* A comparison of 16 numbers leaves 16 bits. */
__attribute__((target("avx512f")))
static ptrdiff_t hr_groups_by_sixteen(const int32_t *numbers, ptrdiff_t groups, int32_t begin,
                                      uint32_t span, uint8_t *out)
{
    __m512i begins = _mm512_set1_epi32(begin), spans = _mm512_set1_epi32((int32_t)span);
    ptrdiff_t done = 0;
    for (; done + 2 <= groups; done += 2) {
        __m512i from = _mm512_sub_epi32(_mm512_loadu_si512(numbers + done * 8), begins);
        __mmask16 bits = _mm512_cmplt_epu32_mask(from, spans);
        memcpy(out + done, &bits, 2);
    }
    return done;
}
#endif

/* Bits in the place of the bytes of `hr_between`, the lowest of a byte first; those behind the
   last number are 0. */
static void hr_bits_between(const int32_t *numbers, ptrdiff_t count, int32_t begin,
                            uint32_t span, uint8_t *out)
{
    ptrdiff_t groups = count / 8, done = 0;
#if defined(HR_HAS_CLONES)
    if (__builtin_cpu_supports("avx512f"))
        done = hr_groups_by_sixteen(numbers, groups, begin, span, out);
#endif
    hr_groups_between(numbers + done * 8, groups - done, begin, span, out + done);
    if (count % 8) {
        uint8_t last[8] = {0};
        hr_between(numbers + groups * 8, count % 8, begin, span, last);
        out[groups] = hr_packed(last);
    }
}

#endif
