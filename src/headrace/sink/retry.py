"""How is tried again what a target, a registry or a broker cannot take now?

Full jitter: a random time up to a bound that doubles, so that tasks that failed together
do not come back together. Source: "Exponential Backoff And Jitter", AWS Architecture Blog.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from headrace.model.errors import HeadraceError, RateLimited
from headrace.sink.config import RetryLimits
from headrace.sink.errors import FailureClass, TaskFailed, failure_class
from headrace.sink.progress import TaskCounters

logger = logging.getLogger(__name__)


def retry(
    attempt: Callable[[], None],
    wait: Callable[[float], None],
    limits: RetryLimits,
    counters: TaskCounters,
    who: str,
    what: str,
) -> None:
    """Make an attempt again and again, until it succeeds.

    Args:
        attempt: raises an error of the class TARGET if it is to be made again.
        wait: for so many seconds; raises if there is to be no further attempt.
        limits: how long that goes on, and how far apart the attempts are.
        counters: of the task, which count them.
        who: makes it, for the log.
        what: is the matter, in words that an error's text can follow.

    Raises:
        HeadraceError: of another class, as it comes.
        TaskFailed: the time for retries has passed.
    """
    backoff = Backoff(limits)
    while True:
        try:
            return attempt()
        except HeadraceError as error:
            if failure_class(error) is not FailureClass.TARGET:
                raise
            if backoff.is_exhausted:
                raise TaskFailed(
                    f"For {backoff.elapsed_s:.0f} s (retry.timeout.ms) {what}: {error.message}. "
                    "Mend that and restart the connector"
                ) from error
            asked_s = error.retry_after_s if isinstance(error, RateLimited) else 0.0
            wait_s = backoff.next_wait_s(asked_s)
            counters.add(retries=1)
            logger.warning("%s: %s, next try in %.1f s: %s", who, what, wait_s, error.message)
        wait(wait_s)


class Backoff:
    """The waits between the attempts at one thing."""

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
