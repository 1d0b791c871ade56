# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""How is one of many payloads that stand one behind the other taken out?

A page takes a hundred of them, nearly each from another chunk: in Python the slices around a
copy take five times as long as the copy.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t


cdef class PackedChunk:
    """As `chunk.UncompiledPackedChunk`."""

    cdef const int64_t[::1] bounds
    cdef const uint8_t[::1] payloads
    cdef Py_ssize_t count
    cdef readonly object file

    def __init__(self, const int64_t[::1] bounds, const uint8_t[::1] payloads, file=None):
        cdef Py_ssize_t i
        self.count = bounds.shape[0] - 1
        if self.count < 0 or bounds[0] < 0 or bounds[self.count] > payloads.shape[0]:
            raise ValueError("the bounds lie outside of the payloads")
        for i in range(self.count):
            if bounds[i + 1] < bounds[i]:
                raise ValueError("the bounds do not ascend")
        self.bounds, self.payloads, self.file = bounds, payloads, file

    def move_to(self, PackedChunk copy not None):
        if copy.count != self.count:
            raise ValueError("the copy has another number of payloads")
        # What is let go of may run code when it is freed, and another thread then: both must
        # be new by then.
        cdef const int64_t[::1] bounds = self.bounds
        cdef const uint8_t[::1] payloads = self.payloads
        file = self.file
        self.bounds, self.payloads, self.file = copy.bounds, copy.payloads, copy.file

    def __len__(self):
        return self.count

    def __getitem__(self, place):
        if isinstance(place, slice):
            return [self.copied(i) for i in range(*place.indices(self.count))]
        return self.copied(place)

    def bytes_max(self):
        cdef Py_ssize_t i
        cdef int64_t most = 0
        for i in range(self.count):
            most = max(most, self.bounds[i + 1] - self.bounds[i])
        return most

    cdef bytes copied(self, Py_ssize_t place):
        if place < 0 or place >= self.count:
            raise IndexError(place)
        cdef int64_t begin = self.bounds[place], end = self.bounds[place + 1]
        if begin == end:
            return b""
        return PyBytes_FromStringAndSize(<const char *>&self.payloads[begin], end - begin)
