"""Who owns a data directory?

One process, for as long as it holds an advisory lock on the file `lock` in it. The system
drops the lock when the process ends, however it ends, so there are no stale locks; the file
stays, and holds the owner's process id for the message that a second opener gets.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
import weakref
from pathlib import Path

from headrace.model.errors import DirectoryInUse, StorageFailed

LOCK_FILE_NAME = "lock"

# A holder writes its id right after it takes the lock; 20 x 5 ms waits for that.
_HOLDER_READS_MAX = 20
_HOLDER_READ_PAUSE_S = 0.005
_PID_BYTES_MAX = 20


class DirectoryLock:
    """The ownership of one data directory, from `acquire` to `release`.

    A forked child does not own it: its copy of the descriptor is closed in the child, so
    that the child neither releases the lock nor keeps it when the owner ends.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self._fd: int | None = fd
        _held_locks.add(self)

    @classmethod
    def acquire(cls, directory: Path) -> DirectoryLock:
        """Own `directory`, which must exist.

        Raises:
            DirectoryInUse: it is owned already, by another process or by this one.
            StorageFailed: the lock file cannot be opened, or the file system has no locks.
        """
        path = directory / LOCK_FILE_NAME
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise StorageFailed(f"opening {path}: {error.strerror}") from error
        try:
            _lock(fd, directory)
            os.ftruncate(fd, 0)
            os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        except OSError as error:
            os.close(fd)
            raise StorageFailed(f"locking {path}: {error.strerror}") from error
        except BaseException:
            os.close(fd)
            raise
        return cls(path, fd)

    @property
    def is_held(self) -> bool:
        """Whether this process owns the directory through this object."""
        return self._fd is not None

    def release(self) -> None:
        """Give the directory up; does nothing if it is not held."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        try:
            # The id goes before the lock: no later opener may read an id that holds nothing.
            os.ftruncate(fd, 0)
            # Closing would do, but for a child that was forked just now and has not closed yet.
            fcntl.flock(fd, fcntl.LOCK_UN)
        finally:
            os.close(fd)

    def _forget_in_child(self) -> None:
        """Close the child's copy, without unlocking: the lock is shared with the parent."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)


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
        text = os.pread(fd, _PID_BYTES_MAX, 0).strip()
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
