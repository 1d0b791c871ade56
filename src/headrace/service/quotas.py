"""Has this machine so little room left that writes must wait?

Limits are percentages of the memory and the disk that this process may use. They are kept
in the data directory, and hold only while `enabled` is true.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path

import msgspec

from headrace.engine.engine import Engine
from headrace.model.errors import NoSpace

_SETTINGS = "quotas"

# How far a resource must fall below its limit before it is taken again, if nothing is set.
RELEASE_MARGIN_PERCENT = 5

# A reading is kept this long: it costs some system calls.
_READING_S = 1.0

_CGROUP_MEMORY_FILES = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


class QuotaConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """Limits in percent; None sets none."""

    enabled: bool = False
    max_resident_memory_percent: int | None = None
    max_disk_usage_percent: int | None = None
    release_margin_percent: int | None = None


class QuotaUsage(msgspec.Struct, frozen=True):
    """What is used, in percent; None where the platform does not say."""

    resident_memory_percent: int | None
    disk_usage_percent: int | None


class QuotaExceeded(msgspec.Struct, frozen=True):
    """Which limits hold up writes now; None for a resource without a limit."""

    resident_memory: bool | None = None
    disk_usage: bool | None = None


class Quotas:
    """The limits of one process over one data directory; thread-safe.

    Args:
        engine: whose file system is measured, and which keeps the limits.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._config = engine.read_settings(_SETTINGS, QuotaConfig) or QuotaConfig()
        self._lock = threading.Lock()
        self._read_at_s = -_READING_S
        self._usage = QuotaUsage(None, None)
        self._exceeded = QuotaExceeded()

    @property
    def config(self) -> QuotaConfig:
        """The limits."""
        return self._config

    def change(self, config: QuotaConfig) -> None:
        """Replace the limits; durable when it returns.

        Raises:
            NoSpace, StorageFailed: the old limits hold.
        """
        self._engine.write_settings(_SETTINGS, config)
        self._config = config

    def usage(self) -> QuotaUsage:
        """What is used, no more than a second ago."""
        with self._lock:
            return self._reading()

    def exceeded(self) -> QuotaExceeded:
        """Which limits hold up writes now."""
        config = self.config
        if not config.enabled:
            return QuotaExceeded()
        with self._lock:
            usage = self._reading()
            self._exceeded = QuotaExceeded(
                _is_exceeded(
                    usage.resident_memory_percent,
                    config.max_resident_memory_percent,
                    config,
                    self._exceeded.resident_memory,
                ),
                _is_exceeded(
                    usage.disk_usage_percent,
                    config.max_disk_usage_percent,
                    config,
                    self._exceeded.disk_usage,
                ),
            )
            return self._exceeded

    def check(self) -> None:
        """Let a write pass that takes more room.

        Raises:
            NoSpace: a limit is reached.
        """
        if not self.config.enabled:
            return
        exceeded = self.exceeded()
        for flag, what, most in (
            (exceeded.resident_memory, "memory", self.config.max_resident_memory_percent),
            (exceeded.disk_usage, "disk", self.config.max_disk_usage_percent),
        ):
            if flag:
                raise NoSpace(f"the {what} quota of {most}% is reached; deleting gives room back")

    def check_memory(self, most_percent: int) -> None:
        """Let a write pass that takes more memory, by a collection's own limit.

        Raises:
            NoSpace: the limit is reached.
        """
        used = self.usage().resident_memory_percent
        if used is not None and used >= most_percent:
            raise NoSpace(
                f"memory usage of {used}% is at the collection's limit of {most_percent}%"
            )

    def _reading(self) -> QuotaUsage:
        now_s = time.monotonic()
        if now_s - self._read_at_s >= _READING_S:
            self._usage = QuotaUsage(_memory_percent(), _disk_percent(self._engine.directory))
            self._read_at_s = now_s
        return self._usage


def resident_bytes() -> int | None:
    """The memory that this process holds; None where the platform does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def memory_bytes_max() -> int:
    """The memory that this process may hold: its control group's, else the machine's."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _CGROUP_MEMORY_FILES:
        try:
            return min(machine, int(path.read_text()))
        except (OSError, ValueError):
            continue
    return machine


def _memory_percent() -> int | None:
    resident = resident_bytes()
    return None if resident is None else resident * 100 // memory_bytes_max()


def _disk_percent(directory: Path) -> int | None:
    try:
        usage = shutil.disk_usage(directory)
    except OSError:
        return None
    return usage.used * 100 // usage.total


def _is_exceeded(
    used: int | None, most: int | None, config: QuotaConfig, was_exceeded: bool | None
) -> bool | None:
    if most is None or used is None:
        return None
    margin = config.release_margin_percent
    release = RELEASE_MARGIN_PERCENT if margin is None else margin
    return used >= most or (bool(was_exceeded) and used > most - release)
