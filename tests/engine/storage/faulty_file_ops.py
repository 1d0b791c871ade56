"""The real file operations without the syncs, and with the faults that a test sets."""

import errno
import os
from pathlib import Path

from headrace.engine.storage.file_ops import FileOps, ReadableBuffer


class FaultyFileOps(FileOps):
    """The real operations without the syncs, and with the faults that a test sets.

    Attributes:
        room_bytes: how many more bytes can be written; None for no bound.
        failing: by operation name, the errno it fails with.
        fails_after: by operation name, how many calls succeed before it fails.
        calls: by operation name, how often it was called.
    """

    def __init__(self) -> None:
        self.room_bytes: int | None = None
        self.failing: dict[str, int] = {}
        self.fails_after: dict[str, int] = {}
        self.calls: dict[str, int] = {}

    def open(self, path: Path, flags: int) -> int:
        self._check("open")
        return super().open(path, flags)

    def read_file(self, path: Path) -> bytes:
        self._check("read_file")
        return super().read_file(path)

    def write(self, fd: int, data: ReadableBuffer, byte_offset: int) -> int:
        self._check("write")
        if self.room_bytes is None:
            return super().write(fd, data, byte_offset)
        if self.room_bytes == 0 and len(data) > 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = super().write(fd, data[: self.room_bytes], byte_offset)
        self.room_bytes -= taken
        return taken

    def fdatasync(self, fd: int) -> None:
        self._check("fdatasync")

    def ftruncate(self, fd: int, size_bytes: int) -> None:
        self._check("ftruncate")
        super().ftruncate(fd, size_bytes)

    def rename(self, source: Path, target: Path) -> None:
        self._check("rename")
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        self._check("unlink")
        super().unlink(path)

    def fsync_dir(self, path: Path) -> None:
        self._check("fsync_dir")

    def _check(self, name: str) -> None:
        count = self.calls[name] = self.calls.get(name, 0) + 1
        if name in self.failing and count > self.fails_after.get(name, 0):
            number = self.failing[name]
            raise OSError(number, os.strerror(number))
