"""How many requests were answered, how, and how fast; and which were slow?

Both fronts record here, and `/metrics` and `/telemetry` read it.
"""

from __future__ import annotations

import logging
import os
import threading
from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

import orjson

from headrace.server.logs import fields

logger = logging.getLogger(__name__)

# Upper bounds of the duration histogram, in seconds; the last bucket has none.
DURATION_BOUNDS_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    *(1.0, 2.0, 5.0, 10.0, 20.0, 50.0),
)

# A request that takes longer is logged and kept.
SLOW_REQUEST_S = 1.0

_SLOW_REQUESTS_KEPT = 1000

# Averages are of so many latest requests, as in Qdrant.
_LATEST_COUNT = 128

_REQUEST_ID_BYTES_MAX = 128

# As many as a UUID has; to make one of them as well takes longer than all else that is logged.
_NEW_REQUEST_ID_BYTES = 16

# An HTTP status from here on is a failure of the server's.
_FAILURE_STATUS = 500


class Protocol(StrEnum):
    """Which front answered."""

    REST = "rest"
    GRPC = "grpc"


class Endpoint(NamedTuple):
    """What was called, and how it ended.

    Attributes:
        name: the method and route, such as `PUT /collections/{collection_name}/points`, or
            the full name of a gRPC method.
        status: of HTTP or gRPC, as a number.
        collection_name: the collection that the request named; "" if it named none.
    """

    protocol: Protocol
    name: str
    status: int
    collection_name: str


class SlowRequest(NamedTuple):
    """A request that took long.

    Attributes:
        seconds: of the slowest one, as are the others.
        shape: what was asked; see `request_shape`.
        times: how often it was asked slowly.
    """

    request_id: str
    endpoint: Endpoint
    seconds: float
    ended_at: datetime
    shape: Any
    times: int


class Durations:
    """How long the requests of one endpoint took."""

    def __init__(self) -> None:
        self.count = 0
        self.total_s = 0.0
        self.min_s = 0.0
        self.max_s = 0.0
        self.buckets = [0] * (len(DURATION_BOUNDS_S) + 1)
        self.last_at: datetime | None = None
        self._latest: deque[float] = deque(maxlen=_LATEST_COUNT)

    @property
    def average_s(self) -> float:
        """Of the latest requests."""
        return sum(self._latest) / max(1, len(self._latest))

    def add(self, seconds: float) -> None:
        """Count one request."""
        self.min_s = seconds if not self.count else min(self.min_s, seconds)
        self.max_s = max(self.max_s, seconds)
        self.count += 1
        self.total_s += seconds
        self.buckets[bisect_left(DURATION_BOUNDS_S, seconds)] += 1
        self.last_at = datetime.now(UTC)
        self._latest.append(seconds)

    def merged(self, other: Durations) -> Durations:
        """Both together."""
        both = Durations()
        both.count = self.count + other.count
        both.total_s = self.total_s + other.total_s
        both.min_s = min(self.min_s, other.min_s)
        both.max_s = max(self.max_s, other.max_s)
        both.buckets = [a + b for a, b in zip(self.buckets, other.buckets, strict=True)]
        both.last_at = max(filter(None, (self.last_at, other.last_at)), default=None)
        both._latest.extend([*self._latest, *other._latest])
        return both


class RequestsLog:
    """Counts the requests of one process; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._durations: dict[Endpoint, Durations] = {}
        self._slow: OrderedDict[bytes, SlowRequest] = OrderedDict()
        self._running = 0

    @property
    def running(self) -> int:
        """How many requests are being answered now."""
        return self._running

    def begin(self) -> None:
        """A request has come."""
        with self._lock:
            self._running += 1

    def end(
        self,
        endpoint: Endpoint,
        seconds: float,
        request_id: str = "",
        shape: Callable[[], Any] = lambda: None,
    ) -> None:
        """A request that had come was answered; a slow one is logged and kept.

        Args:
            endpoint: what was called.
            seconds: how long it took.
            request_id: that it was answered with.
            shape: what was asked; called for a slow one.
        """
        with self._lock:
            self._running -= 1
            durations = self._durations.get(endpoint)
            if durations is None:
                durations = self._durations[endpoint] = Durations()
            durations.add(seconds)
        if seconds >= SLOW_REQUEST_S:
            now = datetime.now(UTC)
            self._keep(SlowRequest(request_id, endpoint, seconds, now, shape(), 1))
        level = logging.WARNING if seconds >= SLOW_REQUEST_S else logging.DEBUG
        if logger.isEnabledFor(level):
            logger.log(
                level,
                "slow request" if level == logging.WARNING else "request",
                extra=fields(
                    request_id=request_id,
                    endpoint=endpoint.name,
                    collection=endpoint.collection_name,
                    status=endpoint.status,
                    seconds=round(seconds, 6),
                ),
            )

    def forget_collection(self, collection_name: str) -> None:
        """Count the requests of a collection that is gone under no name."""
        with self._lock:
            gone = [one for one in self._durations if one.collection_name == collection_name]
            for endpoint in gone:
                unnamed = endpoint._replace(collection_name="")
                durations = self._durations.pop(endpoint)
                known = self._durations.get(unnamed)
                self._durations[unnamed] = durations if known is None else known.merged(durations)

    def durations(self, per_collection: bool = False) -> Mapping[Endpoint, Durations]:
        """The requests so far, by endpoint; of all collections together, or of each."""
        with self._lock:
            if per_collection:
                return dict(self._durations)
            merged: dict[Endpoint, Durations] = {}
            for endpoint, durations in self._durations.items():
                unnamed = endpoint._replace(collection_name="")
                known = merged.get(unnamed)
                merged[unnamed] = durations if known is None else known.merged(durations)
            return merged

    def slow_requests(self) -> list[SlowRequest]:
        """The slow requests, slowest first; one that was asked often stands once."""
        with self._lock:
            return sorted(self._slow.values(), key=lambda slow: slow.seconds, reverse=True)

    def _keep(self, slow: SlowRequest) -> None:
        named = (slow.endpoint.name, slow.endpoint.collection_name, slow.shape)
        key = orjson.dumps(named, default=str)
        with self._lock:
            before = self._slow.pop(key, None)
            if before is not None:
                slower = max(before, slow, key=lambda one: one.seconds)
                slow = slower._replace(times=before.times + 1)
            self._slow[key] = slow
            if len(self._slow) > _SLOW_REQUESTS_KEPT:
                self._slow.popitem(last=False)


def request_id_of(given: bytes) -> bytes:
    """The caller's own id of its request, if it is a plain one, else a new one."""
    plain = given.replace(b"-", b"").replace(b"_", b"")
    if plain.isalnum() and len(given) <= _REQUEST_ID_BYTES_MAX:
        return given
    return os.urandom(_NEW_REQUEST_ID_BYTES).hex().encode()


def is_failure(endpoint: Endpoint) -> bool:
    """Whether the server is to blame for how a request ended."""
    return endpoint.protocol is Protocol.REST and endpoint.status >= _FAILURE_STATUS
