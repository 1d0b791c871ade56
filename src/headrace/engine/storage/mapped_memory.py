"""How is a file mapped without holding a descriptor of it?

Python's own `mmap` keeps a duplicate of the descriptor for as long as the map lives, so a
directory of many files would run into the limit of open files. The system needs none: a
map stays when its file is closed, and also when its name is removed.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.engine.storage.file_ops import storage_error

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_longlong,
)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

_MAP_FAILED = ctypes.c_void_p(-1).value


def map_for_reading(fd: int, bytes_count: int) -> memoryview:
    """The first bytes of an open file, read only; the descriptor may be closed.

    Raises:
        OSError: the system refused.
    """
    return _mapped(fd, bytes_count, mmap.PROT_READ).toreadonly()


def drop_pages(content: memoryview, begin: int, end: int) -> None:
    """Give the memory of a part of a map back; it is read from the file when next used.

    Args:
        content: a map, or a piece of it.
        begin, end: in bytes of `content`; whole pages within are dropped.
    """
    array = np.frombuffer(content, dtype=np.uint8)
    page = mmap.PAGESIZE
    first = -(-(array.ctypes.data + begin) // page) * page
    last = (array.ctypes.data + min(end, len(content))) // page * page
    if first < last:
        # Only advice: where it is not taken, nothing is wrong.
        _libc.madvise(first, last - first, mmap.MADV_DONTNEED)


def scratch_matrix(directory: Path, rows: int, dim: int, dtype: Any) -> NDArray[Any]:
    """A matrix of zeros in a file without a name, gone with the array or the process.

    The system writes it out when memory is short, so it may be larger than that. All of
    its room is taken beforehand: a disk that is full later does no harm.

    Args:
        directory: on whose disk the file is.
        rows, dim: the shape.
        dtype: of the elements.

    Raises:
        NoSpace: the disk is full.
        StorageFailed: the system refused.
    """
    bytes_count = rows * dim * np.dtype(dtype).itemsize
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            _take_room(file.fileno(), bytes_count)
            content = _mapped(file.fileno(), bytes_count, mmap.PROT_READ | mmap.PROT_WRITE)
    except OSError as error:
        raise storage_error(error, f"making a scratch file in {directory}") from error
    return np.frombuffer(content, dtype=dtype).reshape(rows, dim)


def _mapped(fd: int, bytes_count: int, protection: int) -> memoryview:
    address = _libc.mmap(None, bytes_count, protection, mmap.MAP_SHARED, fd, 0)
    if address == _MAP_FAILED:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    owner = (ctypes.c_char * bytes_count).from_address(address)
    # Not at exit: threads and other exit handlers may still read; the system unmaps.
    weakref.finalize(owner, _libc.munmap, address, bytes_count).atexit = False
    return memoryview(owner).cast("B")


def _take_room(fd: int, bytes_count: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, bytes_count)
        return
    zeros = bytes(2**20)
    for begin in range(0, bytes_count, len(zeros)):
        os.pwrite(fd, zeros[: bytes_count - begin], begin)
