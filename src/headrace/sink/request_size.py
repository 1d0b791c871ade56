"""How many points go into one request, so that a target that slows down still takes each?

A request that times out is tried again whole, and would time out again for ever. So its size
halves when one takes long, or is refused for coming too fast, and grows back step by step.
"""

from __future__ import annotations

import threading
from typing import Final

# A request that takes more than this part of its timeout is a warning.
_SLOW_PART: Final = 0.1
# One that takes less than this part of what is slow lets the size grow.
_EASY_PART: Final = 0.5
# By how much it grows at a time: back from half to all in seven requests.
_GROWTH: Final = 1.1


class RequestSize:
    """The size for the requests of one task; thread-safe.

    Args:
        points_max: the size when nothing is wrong.
        timeout_s: of one request.

    Attributes:
        points: the size now, at least 1.
    """

    def __init__(self, points_max: int, timeout_s: float) -> None:
        self.points = points_max
        self._points_max = points_max
        self._slow_s = _SLOW_PART * timeout_s
        self._lock = threading.Lock()

    def note_taken(self, points: int, taken_s: float) -> None:
        """The target took a request of so many points in so long."""
        with self._lock:
            if taken_s > self._slow_s:
                # A small one that is slow says nothing about the size: it may be a pause.
                if points > self.points // 2:
                    self._halve(points)
            elif taken_s < _EASY_PART * self._slow_s and points >= self.points:
                self.points = min(self._points_max, max(points + 1, int(points * _GROWTH)))

    def note_too_much(self, points: int) -> None:
        """The target did not take a request of so many points in time, or now."""
        with self._lock:
            self._halve(points)

    def _halve(self, points: int) -> None:
        # Several requests of the old size may be under way, and halve it once together.
        self.points = max(1, min(self.points, points // 2))
