"""Which file operations may the engine's durability rest on?

Everything that must survive a crash goes through one `FileOps`, so that tests can record
the operations, replay them as a power loss would leave them, and fail any one of them.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

from headrace.model.errors import NoSpace, StorageFailed

if sys.platform == "darwin":
    import fcntl

ReadableBuffer = bytes | bytearray | memoryview

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
_TOO_MANY_OPEN_FILES = frozenset({errno.EMFILE, errno.ENFILE})


class FileOps:
    """The real operations. Stateless, thread-safe; each one raises `OSError` as `os` does."""

    def open(self, path: Path, flags: int) -> int:
        """A descriptor of `path`, closed on exec; the file is created if `flags` say so."""
        return os.open(path, flags | os.O_CLOEXEC, 0o644)

    def close(self, fd: int) -> None:
        """Close a descriptor; says nothing about durability."""
        os.close(fd)

    def read_file(self, path: Path) -> bytes:
        """All bytes of `path`."""
        return path.read_bytes()

    def write(self, fd: int, data: ReadableBuffer, byte_offset: int) -> int:
        """Write at `byte_offset`; returns how many bytes were taken, perhaps fewer than given."""
        return os.pwrite(fd, data, byte_offset)

    def fdatasync(self, fd: int) -> None:
        """When it returns, the file's bytes and length survive a power loss."""
        if sys.platform == "darwin":
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        else:
            os.fdatasync(fd)

    def has_name(self, fd: int) -> bool:
        """Whether the file is still in a directory; some file systems never say so."""
        return os.fstat(fd).st_nlink > 0

    def ftruncate(self, fd: int, size_bytes: int) -> None:
        """Set the file's length; durable after the next `fdatasync`."""
        os.ftruncate(fd, size_bytes)

    def rename(self, source: Path, target: Path) -> None:
        """Put `source` in the place of `target` at once; durable after `fsync_dir`."""
        os.replace(source, target)

    def unlink(self, path: Path) -> None:
        """Remove a file's name; durable after `fsync_dir`."""
        os.unlink(path)

    def mkdir(self, path: Path) -> None:
        """Create a directory; durable after `fsync_dir` of its parent."""
        os.mkdir(path)

    def rmdir(self, path: Path) -> None:
        """Remove an empty directory; durable after `fsync_dir` of its parent."""
        os.rmdir(path)

    def fsync_dir(self, path: Path) -> None:
        """When it returns, the names in directory `path` survive a power loss."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


FILE_OPS = FileOps()


def is_no_space(error: OSError) -> bool:
    """Whether the disk, or the owner's share of it, is full."""
    return error.errno in _NO_SPACE


def is_too_many_open_files(error: OSError) -> bool:
    """Whether the process or the system has run out of descriptors."""
    return error.errno in _TOO_MANY_OPEN_FILES


def storage_error(error: OSError, doing: str) -> NoSpace | StorageFailed:
    """The error to report for a failed operation.

    Args:
        error: what the system said.
        doing: what was tried, with the path, such as `writing /data/x`.
    """
    text = f"{doing}: {error.strerror or error}"
    return NoSpace(text) if is_no_space(error) else StorageFailed(text)


def write_all(ops: FileOps, fd: int, data: ReadableBuffer, byte_offset: int) -> None:
    """Write all of `data` at `byte_offset`, asking again after a short write.

    Raises:
        OSError: the system refused; part of `data` may have been written.
    """
    rest = memoryview(data)
    while rest:
        taken = ops.write(fd, rest, byte_offset)
        if taken <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rest = rest[taken:]
        byte_offset += taken
