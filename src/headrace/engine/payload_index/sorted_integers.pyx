# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Where is the stretch of sorted integers that a range asks for, in one call?

Every search with a range asks, and bisecting takes a fifth of what Python and NumPy take
around it.
"""

from cpython.long cimport PyLong_AsLongLongAndOverflow
from libc.math cimport floor, isfinite
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t

import numpy as np

cdef extern from "between.h":
    void hr_between(
        const int32_t *numbers, Py_ssize_t count, int32_t begin, uint32_t span, uint8_t *out
    ) noexcept nogil
    void hr_bits_between(
        const int32_t *numbers, Py_ssize_t count, int32_t begin, uint32_t span, uint8_t *out
    ) noexcept nogil

cdef double _BEYOND = 9223372036854775808.0  # 2**63


cdef class SortedIntegers:
    """Integers that are searched; immutable.

    Args:
        values: shape (n,), int64, ascending.
    """

    cdef const int64_t[::1] values

    def __init__(self, const int64_t[::1] values):
        self.values = values

    def within(self, gt, gte, lt, lte):
        """The stretch (begin, end) of the values that keep all bounds.

        Args:
            gt, gte, lt, lte: an integer, a float, or None; compared exactly.
        """
        cdef Py_ssize_t begin = 0, end = self.values.shape[0]
        if gt != gt or gte != gte or lt != lt or lte != lte:
            return 0, 0  # nothing compares with what is no number
        if gt is not None:
            begin = self._place(gt, True)
        if gte is not None:
            begin = max(begin, self._place(gte, False))
        if lt is not None:
            end = self._place(lt, False)
        if lte is not None:
            end = min(end, self._place(lte, True))
        return begin, max(begin, end)

    cdef Py_ssize_t _place(self, bound, bint after_equal) except -1:
        """How many values lie before a bound, and with `after_equal` on it."""
        cdef Py_ssize_t low = 0, high = self.values.shape[0], middle
        cdef int64_t whole
        cdef int overflow = 0
        cdef double real, below
        if isinstance(bound, float):
            real = bound
            if not isfinite(real):
                return high if real > 0 else 0
            # Below or on 1.5 means up to 1; above or on it, from 2.
            below = floor(real)
            after_equal = after_equal or below != real
            if below >= _BEYOND:
                return high
            if below < -_BEYOND:
                return 0
            whole = <int64_t>below
        else:
            whole = PyLong_AsLongLongAndOverflow(bound, &overflow)
            if overflow:
                return high if overflow > 0 else 0
        while low < high:
            middle = (low + high) >> 1
            if self.values[middle] < whole or (after_equal and self.values[middle] == whole):
                low = middle + 1
            else:
                high = middle
        return low


def are_between(const int32_t[::1] numbers, int32_t begin, int32_t end):
    """Which numbers are from `begin` on, below `end`.

    Args:
        numbers: shape (n,), none of them negative but for -1, which is never between.
        begin, end: 0 <= begin <= end.

    Returns:
        shape (n,), bool.
    """
    cdef Py_ssize_t count = numbers.shape[0]
    if begin < 0 or end < begin:
        raise ValueError("a stretch has an end before its beginning, or begins before 0")
    between = np.empty(count, dtype=np.bool_)
    cdef uint8_t[::1] out = between.view(np.uint8)
    if count:
        with nogil:
            hr_between(&numbers[0], count, begin, <uint32_t>(end - begin), &out[0])
    return between


def bits_between(const int32_t[::1] numbers, int32_t begin, int32_t end):
    """What `are_between` says, as bits: an eighth as much to write, and what graphs take.

    Returns:
        shape ((n + 7) // 8,), uint8, the lowest bit of a byte first.
    """
    cdef Py_ssize_t count = numbers.shape[0]
    if begin < 0 or end < begin:
        raise ValueError("a stretch has an end before its beginning, or begins before 0")
    packed = np.empty((count + 7) // 8, dtype=np.uint8)
    cdef uint8_t[::1] out = packed
    if count:
        with nogil:
            hr_bits_between(&numbers[0], count, begin, <uint32_t>(end - begin), &out[0])
    return packed
