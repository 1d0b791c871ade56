"""Where does a store live that is to be gone afterwards?

In a directory of its own, in memory where the system has a memory file system. A process
that is killed leaves its directory behind; the next one that opens a store here removes it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from pathlib import Path

from headrace.engine.storage.lock import DirectoryLock
from headrace.model.errors import HeadraceError

MEMORY = ":memory:"

# On Linux a file system in memory, where a sync costs nothing.
_MEMORY_FILE_SYSTEM = Path("/dev/shm")
_PREFIX = "headrace-memory-"

# A younger directory may belong to a process that has not locked it yet.
_ABANDONED_AFTER_S = 60.0


def create_memory_directory() -> Path:
    """A new directory of this user alone; whoever takes it removes it."""
    parent = _parent()
    _remove_abandoned(parent)
    return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))


def _parent() -> Path:
    if os.access(_MEMORY_FILE_SYSTEM, os.W_OK | os.X_OK):
        return _MEMORY_FILE_SYSTEM
    return Path(tempfile.gettempdir())


def _remove_abandoned(parent: Path) -> None:
    """Remove directories of ours that no process owns any more."""
    for directory in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError, HeadraceError):
            found = directory.lstat()
            is_young = time.time() - found.st_mtime < _ABANDONED_AFTER_S
            if found.st_uid != os.getuid() or is_young:
                continue
            lock = DirectoryLock.acquire(directory)
            shutil.rmtree(directory, ignore_errors=True)
            lock.release()
