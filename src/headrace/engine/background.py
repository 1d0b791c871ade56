"""How does background work leave the processors to requests, and memory to other programs?

Checkpoints and compaction have the priority of requests: they hold the write lock for moments,
in which a writer would wait for a thread of low priority.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from contextlib import suppress
from typing import Final

# Beside a thread of the process's own priority one of this much less gets about a tenth of a
# processor.
_NICER: Final = 10
_NICENESS_MAX: Final = 19


def give_way_to_requests() -> None:
    """Have the calling thread, and those that it starts from now on, run at a low priority.

    Only Linux has priorities of threads; elsewhere they stay as they are.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            of_process = os.getpriority(os.PRIO_PROCESS, os.getpid())
            niceness = min(of_process + _NICER, _NICENESS_MAX)
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)


def give_free_memory_back() -> None:
    """Have the C library's allocator give free pages back to the system.

    By itself it keeps those that lie before something that still lives. Only glibc can be
    asked; others give back what is free as they go.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
