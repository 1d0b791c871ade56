"""When does building a graph give way to writes?

Linking takes all processors, from writers, from readers, and from whoever sends the records.
New rows are found without a graph too, if more slowly. So a burst of writes goes first; in a
long stream building has one thread and every second turn, until there is too much to scan. It
waits as long as a stream is so fast that linking would fall behind in any case, and there is
little to scan: what comes together is linked together, in less time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

# How long a burst may hold building up.
_BURST_S: Final = 1.0
# A stream's next write comes sooner than this.
_QUIET_S: Final = 0.15
_LOOK_S: Final = 0.01
# Scanning that takes some 6 ms, or 1 to 4 ms by codes; with more rows searches need a graph
# more than writes need the processors.
_SCANNED_BYTES_MAX: Final = 64 * 2**20
# Half of it is little beside what linking costs searches and writes meanwhile.
_SCANNED_BYTES_LITTLE: Final = 32 * 2**20
# Of vectors, in float32: what one thread links, some 5,000 of 128 components or 400 of 1,536.
_LINKED_BYTES_PER_S: Final = 2.5e6
# How fast a stream is, is told by so much of it at least and twice as much at most.
_RATED_S: Final = 2.0


class Pace:
    """How the builder of one store goes on while its writer writes.

    The writer calls `note_write`, the builder everything else.
    """

    def __init__(self) -> None:
        self._written_at = -_QUIET_S
        self._scanned_bytes = 0
        self._patience_s = _BURST_S
        self._resumed_at = time.monotonic()
        # Of the running stream, or its last seconds.
        self._rated_from = self._written_at
        self._rated_bytes = 0.0

    def note_write(self, vector_bytes: int, scanned_bytes: int) -> None:
        """A write has just been published.

        Args:
            vector_bytes: size of its vectors.
            scanned_bytes: size of what is compared of the vectors that have no graph yet.
        """
        now = time.monotonic()
        if now >= self._written_at + _QUIET_S:
            self._rated_from, self._rated_bytes = now, 0.0
        elif now > self._rated_from + 2 * _RATED_S:
            self._rated_from += (now - self._rated_from) / 2
            self._rated_bytes /= 2
        self._rated_bytes += vector_bytes
        self._written_at = now
        self._scanned_bytes = scanned_bytes

    def threads(self, threads_max: int) -> int:
        """How many threads may link now."""
        return 1 if self._is_streaming_at(time.monotonic()) else threads_max

    def is_quiet(self) -> bool:
        """Whether no write came lately."""
        return time.monotonic() >= self._written_at + _QUIET_S

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
        while (
            not (stopped := is_stopped())
            and self._is_streaming_at(now)
            and (now < until or self._is_outrun(now))
        ):
            time.sleep(_LOOK_S)
            now = time.monotonic()
        self._patience_s = max(0.0, until - now)
        self._resumed_at = now
        return stopped

    def _is_streaming_at(self, now: float) -> bool:
        return now < self._written_at + _QUIET_S and self._scanned_bytes <= _SCANNED_BYTES_MAX

    def _is_outrun(self, now: float) -> bool:
        """Whether more comes than linking would keep up with, and searches can bear it."""
        seconds = max(now - self._rated_from, _RATED_S)
        is_fast = self._rated_bytes > _LINKED_BYTES_PER_S * seconds
        return is_fast and self._scanned_bytes <= _SCANNED_BYTES_LITTLE
