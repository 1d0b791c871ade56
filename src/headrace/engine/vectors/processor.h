/* What all kernels share: one function for each generation of processors, and prefetches. */

#ifndef HEADRACE_PROCESSOR_H
#define HEADRACE_PROCESSOR_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The loader takes the right one. */
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) \
    && !defined(__clang__) && __GNUC__ >= 12
#define HR_HAS_CLONES
#define HR_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define HR_CLONES
#endif

/* What compilers do not find out by themselves is written for AVX2. */
#if defined(__x86_64__) && (defined(__clang__) ? __clang_major__ >= 9 : __GNUC__ >= 9)
#define HR_HAS_AVX2
#include <immintrin.h>
#define HR_AVX2 __attribute__((target("avx2,popcnt")))
#define HR_AVX2_INLINE static inline __attribute__((always_inline, target("avx2,popcnt")))
#endif

#if defined(__GNUC__)
#define HR_PREFETCH(address) __builtin_prefetch(address)
#define HR_INLINE static inline __attribute__((always_inline))
#else
#define HR_PREFETCH(address) ((void)(address))
#define HR_INLINE static inline
#endif

#if defined(HR_HAS_AVX2)
HR_INLINE int hr256_is_supported(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt");
}

/* Whether AVX2 is the best there is: where there are clones for AVX-512, those do better. */
HR_INLINE int hr256_is_best(void)
{
#if defined(HR_HAS_CLONES)
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        return 0;
#endif
    return hr256_is_supported();
}
#endif

/* Eight bytes of 0 or 1 as bits, the lowest first. */
HR_INLINE uint8_t hr_packed(const uint8_t *eight)
{
    uint64_t word;
    memcpy(&word, eight, 8);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return (uint8_t)(word * 0x0102040810204080u >> 56);
}

HR_INLINE void hr_prefetch(const void *first, size_t byte_count)
{
    for (size_t i = 0; i < byte_count; i += 64)
        HR_PREFETCH((const char *)first + i);
}

#endif
