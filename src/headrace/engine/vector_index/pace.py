"""When does building a graph give way to writes?

Linking takes all processors, and new rows are found without a graph too, if more slowly. So
a burst of writes goes first, and in a long stream of them building has every second turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

# How long a burst may hold building up: in it a stream brings some 100,000 rows, which take
# a few milliseconds to scan.
_BURST_S: Final = 1.0
# A stream's next write comes sooner than this.
_QUIET_S: Final = 0.05
_LOOK_S: Final = 0.01


class Pace:
    """How long the builder waits for the writer of one store.

    The writer calls `note_write`, the builder everything else.
    """

    def __init__(self) -> None:
        self._written_at = -_QUIET_S
        self._patience_s = _BURST_S
        self._resumed_at = time.monotonic()

    def note_write(self) -> None:
        """A write has just been published."""
        self._written_at = time.monotonic()

    def give_way(self, is_stopped: Callable[[], bool]) -> bool:
        """Wait while writes come, within bounds; called before each step of work.

        Args:
            is_stopped: whether the work is to be given up; ends the wait.

        Returns:
            What `is_stopped` said last.
        """
        began = now = time.monotonic()
        self._patience_s = min(_BURST_S, self._patience_s + began - self._resumed_at)
        until = began + self._patience_s
        while not (stopped := is_stopped()) and now < min(until, self._written_at + _QUIET_S):
            time.sleep(_LOOK_S)
            now = time.monotonic()
        self._patience_s -= now - began
        self._resumed_at = now
        return stopped
