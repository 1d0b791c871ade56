"""How many reads and writes a minute may a collection take?

A token bucket each: it holds a minute's worth, is full at first, and fills evenly.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from headrace.model.errors import BadRequest, RateLimited

_MINUTE_S = 60.0


class _Bucket(NamedTuple):
    """What was left in a bucket at some moment."""

    per_minute: int
    tokens: float
    at_s: float


class RateLimits:
    """The buckets of all collections; thread-safe.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def take(self, collection_name: str, kind: str, per_minute: int, cost: int) -> None:
        """Take tokens; a limit that was changed begins with a full bucket.

        Args:
            collection_name: whose bucket.
            kind: "Read" or "Write".
            per_minute: how many tokens a full bucket has.
            cost: how many to take.

        Raises:
            RateLimited: there are too few by now; nothing was taken.
            BadRequest: there will never be so many.
        """
        if cost > per_minute:
            raise BadRequest(
                f"{kind} rate limit: the operation needs {cost} tokens, and the limit is "
                f"{per_minute} per minute. Help: Split the operation into smaller ones."
            )
        with self._lock:
            now_s = self._clock()
            bucket = self._buckets.get((collection_name, kind))
            if bucket is None or bucket.per_minute != per_minute:
                bucket = _Bucket(per_minute, float(per_minute), now_s)
            filled = bucket.tokens + (now_s - bucket.at_s) * per_minute / _MINUTE_S
            tokens = min(float(per_minute), filled)
            if tokens < cost:
                retry_after_s = math.ceil((cost - tokens) * _MINUTE_S / per_minute)
                raise RateLimited(
                    f"{kind} rate limit exceeded: Operation requires {cost} tokens but only "
                    f"{tokens:.1f} were available. Retry after {retry_after_s}s",
                    retry_after_s,
                )
            self._buckets[collection_name, kind] = _Bucket(per_minute, tokens - cost, now_s)

    def forget(self, collection_name: str) -> None:
        """Drop the buckets of a collection that is gone."""
        with self._lock:
            for kind in ("Read", "Write"):
                self._buckets.pop((collection_name, kind), None)
