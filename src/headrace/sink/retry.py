"""How long to wait before a target is tried again?

Full jitter: a random time up to a bound that doubles, so that tasks that failed together
do not come back together. Source: "Exponential Backoff And Jitter", AWS Architecture Blog.
"""

from __future__ import annotations

import random
import time

from headrace.sink.config import RetryLimits


class Backoff:
    """The waits of one batch that cannot be written yet."""

    def __init__(self, limits: RetryLimits) -> None:
        self._limits = limits
        self._tries = 0
        self._started_s = time.monotonic()

    @property
    def is_exhausted(self) -> bool:
        """Whether the time given for retries has passed."""
        timeout_ms = self._limits.timeout_ms
        return timeout_ms is not None and self.elapsed_s * 1000 >= timeout_ms

    @property
    def elapsed_s(self) -> float:
        """The time since the first try."""
        return time.monotonic() - self._started_s

    def next_wait_s(self, retry_after_s: float = 0.0) -> float:
        """The time to wait now; at least what the target asked for.

        Args:
            retry_after_s: what a rate-limited target asked for.
        """
        bound_ms = min(self._limits.backoff_ms * 2.0**self._tries, self._limits.backoff_max_ms)
        self._tries = min(self._tries + 1, 30)
        return max(retry_after_s, random.uniform(0, bound_ms) / 1000)
