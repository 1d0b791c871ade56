"""Which work was done in the background lately?"""

from __future__ import annotations

import threading
import time
from collections import deque
from datetime import UTC, datetime

import msgspec

# Of each kind of worker, so many are remembered.
_KEPT = 64


class FinishedWork(msgspec.Struct, frozen=True):
    """One piece of work that came to its end.

    Attributes:
        kind: `indexing` or `merge` (graphs), `vacuum` (compaction), `payload_index`.
        what: what it was done to, such as a vector name.
        rows: how many rows it went through.
        began_at: in UTC.
        seconds: how long it took.
    """

    kind: str
    what: str
    rows: int
    began_at: datetime
    seconds: float


class WorkLog:
    """The latest finished work of one worker; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._finished: deque[FinishedWork] = deque(maxlen=_KEPT)

    def add(self, kind: str, what: str, rows: int, seconds: float) -> None:
        """Note work that ends now."""
        began_at = datetime.fromtimestamp(time.time() - seconds, UTC)
        with self._lock:
            self._finished.append(FinishedWork(kind, what, rows, began_at, seconds))

    def take_over(self, old: WorkLog) -> None:
        """Remember what another one does, whose worker this one's replaces."""
        known = old.finished()
        with self._lock:
            self._finished.extendleft(known)

    def finished(self) -> list[FinishedWork]:
        """The work, newest first."""
        with self._lock:
            return list(self._finished)[::-1]
