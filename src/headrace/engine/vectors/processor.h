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

#if defined(__GNUC__)
#define HR_PREFETCH(address) __builtin_prefetch(address)
#define HR_INLINE static inline __attribute__((always_inline))
#else
#define HR_PREFETCH(address) ((void)(address))
#define HR_INLINE static inline
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
