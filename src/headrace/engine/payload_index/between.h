/* Which numbers lie between two others, by the instructions of the processor. */

#ifndef HEADRACE_BETWEEN_H
#define HEADRACE_BETWEEN_H

#include <stdint.h>

#include "../vectors/processor.h"

/* 1 for numbers from `begin` on, `span` of them, else 0. What lies before wraps around. */
HR_CLONES
static void hr_between(const int32_t *numbers, ptrdiff_t count, int32_t begin, uint32_t span,
                       uint8_t *out)
{
    for (ptrdiff_t i = 0; i < count; i++)
        out[i] = (uint32_t)numbers[i] - (uint32_t)begin < span;
}

#endif
