"""Who owns a data directory?

One process, for as long as it holds an advisory lock on the file `lock` in it. The system
drops the lock when the process ends, however it ends, so there are no stale locks; the file
stays, and holds the owner's process id for the message that a second opener gets. Its second
line is the owner's note of the newest catalogue (`docs/formats/documents.md`).
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
import weakref
from contextlib import suppress
from pathlib import Path

from crc32c import crc32c

from headrace.model.errors import DirectoryInUse, StorageFailed

LOCK_FILE_NAME = "lock"

# A holder writes its id right after it takes the lock; 20 x 5 ms waits for that.
_HOLDER_READS_MAX = 20
_HOLDER_READ_PAUSE_S = 0.005
# An id, a generation and a checksum, each shorter than this.
_CONTENT_BYTES_MAX = 100


class DirectoryLock:
    """The ownership of one data directory, from `acquire` to `release`.

    A forked child does not own it: its copy of the descriptor is closed in the child, so
    that the child neither releases the lock nor keeps it when the owner ends.

    Attributes:
        noted_generation: of the newest catalogue that an owner has noted; 0 if none has.
    """

    def __init__(self, path: Path, fd: int, noted_generation: int) -> None:
        self._path = path
        self._fd: int | None = fd
        self.noted_generation = noted_generation
        _held_locks.add(self)

    @classmethod
    def acquire(cls, directory: Path, *, may_be_read_only: bool = False) -> DirectoryLock:
        """Own `directory`, which must exist.

        Args:
            directory: what is owned.
            may_be_read_only: whether a lock file that cannot be written will do. A second
                opener is then told no process id.

        Raises:
            DirectoryInUse: it is owned already, by another process or by this one.
            StorageFailed: the lock file cannot be opened, or the file system has no locks.
        """
        path = directory / LOCK_FILE_NAME
        try:
            fd = _open(path, may_be_read_only)
        except OSError as error:
            raise StorageFailed(f"opening {path}: {error.strerror}") from error
        try:
            _lock(fd, directory)
            noted_generation = _noted_generation(os.pread(fd, _CONTENT_BYTES_MAX, 0))
            # As on a full disk, or where nothing can be written: a second opener is told no id.
            with suppress(OSError):
                _write(fd, b"%d" % os.getpid(), noted_generation)
        except OSError as error:
            os.close(fd)
            raise StorageFailed(f"locking {path}: {error.strerror}") from error
        except BaseException:
            os.close(fd)
            raise
        return cls(path, fd, noted_generation)

    @property
    def is_held(self) -> bool:
        """Whether this process owns the directory through this object."""
        return self._fd is not None

    def note(self, generation: int) -> None:
        """Remember the newest catalogue, beside which an older copy is found out.

        It costs no sync: a power loss may leave an older note, which asks for less. Best effort:
        a note that is not written asks for less too, and each opening writes it again.

        Args:
            generation: of a catalogue that is durable.
        """
        if self._fd is None:
            return
        try:
            _write(self._fd, b"%d" % os.getpid(), generation)
        except OSError:
            return
        self.noted_generation = generation

    def release(self) -> None:
        """Give the directory up; does nothing if it is not held."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        try:
            # The id goes before the lock: no later opener may read an id that holds nothing.
            with suppress(OSError):  # As on a full disk: the id of a process that has ended.
                _write(fd, b"", self.noted_generation)
            # Closing would do, but for a child that was forked just now and has not closed yet.
            fcntl.flock(fd, fcntl.LOCK_UN)
        finally:
            os.close(fd)

    def _forget_in_child(self) -> None:
        """Close the child's copy, without unlocking: the lock is shared with the parent."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)


def read_noted_generation(directory: Path) -> int:
    """The generation of the newest catalogue that an owner has noted; 0 if none has.

    Takes no lock: what is read is never more than what is durable.

    Raises:
        StorageFailed: the lock file cannot be read.
    """
    path = directory / LOCK_FILE_NAME
    try:
        return _noted_generation(path.read_bytes())
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise StorageFailed(f"reading {path}: {error.strerror}") from error


def _noted_generation(content: bytes) -> int:
    """What a note says; 0 if it is damaged: then it asks for nothing."""
    lines = content.split(b"\n")
    if len(lines) < 2:
        return 0
    digits, _, checksum = lines[1].partition(b" ")
    is_whole = digits.isdigit() and checksum == b"%08x" % crc32c(digits)
    return int(digits) if is_whole else 0


def _write(fd: int, pid: bytes, noted_generation: int) -> None:
    """Replace the content of a lock file, which a kill may leave with lines behind it."""
    content = pid + b"\n" if pid or noted_generation else b""
    if noted_generation:
        digits = b"%d" % noted_generation
        content += b"%s %08x\n" % (digits, crc32c(digits))
    os.pwrite(fd, content, 0)
    os.ftruncate(fd, len(content))


def _open(path: Path, may_be_read_only: bool) -> int:
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags | os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        if not may_be_read_only or error.errno not in (errno.EROFS, errno.EACCES):
            raise
    return os.open(path, flags | os.O_RDONLY)


def _lock(fd: int, directory: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise DirectoryInUse(str(directory), _read_holder_pid(fd)) from error
        raise


def _read_holder_pid(fd: int) -> int | None:
    """The owner's process id; None if it does not show up, or if no such process is visible."""
    for _ in range(_HOLDER_READS_MAX):
        text = os.pread(fd, _CONTENT_BYTES_MAX, 0).partition(b"\n")[0]
        if text.isdigit() and _is_running(int(text)):
            return int(text)
        time.sleep(_HOLDER_READ_PAUSE_S)
    return None


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _forget_locks_in_child() -> None:
    for lock in list(_held_locks):
        lock._forget_in_child()


_held_locks: weakref.WeakSet[DirectoryLock] = weakref.WeakSet()
os.register_at_fork(after_in_child=_forget_locks_in_child)
