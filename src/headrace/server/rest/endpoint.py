"""How does one HTTP request pass through: rights, body, handler, envelope, errors, threads?

A handler is a plain function from a `Call` to a result. Where it runs is decided here:
on the event loop if it is certainly short, else on a thread, so that one request never
holds up the others. Encoding and compressing an answer happen where its handler ran.
"""

from __future__ import annotations

import gzip
import logging
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from time import perf_counter
from typing import Any, BinaryIO, NamedTuple
from uuid import uuid4

from anyio import CapacityLimiter, move_on_after, to_thread
from starlette.types import Message, Receive, Scope, Send

from headrace.model.errors import (
    HeadraceError,
    MalformedInput,
    RateLimited,
    TimedOut,
    Unavailable,
)
from headrace.server import requests_log
from headrace.server.auth import Access, Need, TokenRefused, Unauthenticated
from headrace.server.errors import UNEXPECTED_ERROR_TEXT, wire_status
from headrace.server.node import Node
from headrace.server.requests_log import Protocol
from headrace.server.rest.answers import failure, success
from headrace.server.rest.parameters import collection_name, path_parameter, timeout_hint_s
from headrace.service.service import Service

logger = logging.getLogger(__name__)

# Qdrant's default `max_request_size_mb`.
BODY_BYTES_MAX = 32 * 2**20

# A read runs on the event loop if the collection has at most this many points and there
# is no filter: at 1,536 dimensions exact search over so many takes about a millisecond.
IN_PLACE_POINTS_MAX = 2_000

# With a filter each point's payload may be decoded, at some microseconds each.
IN_PLACE_FILTERED_POINTS_MAX = 100

# Nothing larger is parsed on the event loop.
IN_PLACE_BODY_BYTES_MAX = 32 * 1024

# Writers mostly wait for one another's sync: the more wait, the more share one.
WRITE_THREADS = 32

# Readers mostly compute.
READ_THREADS = 8

# Beyond this many requests that wait for a thread, further ones are told to come again.
WAITING_MAX = 1024

# After how long.
OVERLOAD_RETRY_AFTER_S = 1

# A longer wait is none: event loops cannot time what a u64 can say.
TIMEOUT_S_MAX = 365 * 24 * 3600

# Smaller answers cost more to compress than to send.
GZIP_BYTES_MIN = 16 * 1024

# What logs and metrics call a request whose client left before it was complete.
_CLIENT_CLOSED = 499

_REQUEST_ID_BYTES_MAX = 128

# The fastest level: vectors hardly compress better at the others.
_GZIP_LEVEL = 1

_JSON = b"application/json"
_TEXT = b"text/plain; charset=utf-8"
_ENCODED = (b"content-encoding", b"gzip")
_VARY = (b"vary", b"accept-encoding")


# A file is sent in pieces of this size: few enough threads' hops, little enough memory.
_FILE_CHUNK_BYTES = 2**20


class Place(Enum):
    """Where a handler runs."""

    LOOP = auto()
    READ_THREAD = auto()
    WRITE_THREAD = auto()


@dataclass(frozen=True, slots=True)
class Call:
    """One request, as a handler sees it.

    Attributes:
        node: what all fronts of this process share.
        access: what the caller may do; rights on the path's collection are checked already.
        path_parameters: percent-encoded, as the route matched them.
        query_string: without the `?`.
        body: empty if the route takes none.
    """

    service: Service
    node: Node
    access: Access
    path_parameters: Mapping[str, str]
    query_string: bytes
    body: bytes


class Operation(NamedTuple):
    """What a route does.

    Attributes:
        handle: from a call to a result that `answers.success` can encode, or to an `Answer`.
        place: where `handle` runs.
        takes_body: whether the request must carry JSON.
        on_timeout: the result when it takes longer than the call's `timeout`, or the
            error to raise; the handler then goes on in its thread.
    """

    handle: Callable[[Call], Any]
    place: Callable[[Call], Place]
    takes_body: bool = False
    on_timeout: Callable[[Call, int], Any] | None = None


class JsonRoute(NamedTuple):
    """A method and path, and what answers there in JSON.

    Attributes:
        path: in Starlette's notation; its parameters reach the handler percent-encoded.
        need: which right it takes.
    """

    method: str
    path: str
    operation: Operation
    need: Need

    @property
    def name(self) -> str:
        """As metrics and logs call it."""
        return f"{self.method} {self.path}"


class Answer(NamedTuple):
    """A response, ready to be sent.

    Attributes:
        file: sent in place of `body`, from its beginning, and closed; None for none.
    """

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    content_type: bytes = _JSON
    file: BinaryIO | None = None


class Threads:
    """How many handlers may run on threads at once; one per application."""

    def __init__(self) -> None:
        self.limiters = {
            Place.READ_THREAD: CapacityLimiter(READ_THREADS),
            Place.WRITE_THREAD: CapacityLimiter(WRITE_THREADS),
        }

    async def run(self, work: Callable[[], Answer], place: Place) -> Answer:
        """Run a handler on a thread; it goes on if this is cancelled.

        Raises:
            Unavailable: too many wait already.
        """
        limiter = self.limiters[place]
        if limiter.statistics().tasks_waiting >= WAITING_MAX:
            raise Unavailable("Shard temporarily unavailable: too many requests wait already")
        return await to_thread.run_sync(work, limiter=limiter, abandon_on_cancel=True)


class _Disconnected(Exception):
    """The client left before its request was complete."""


class Endpoint:
    """The ASGI application of one route.

    Args:
        route: what it answers.
        service: the store.
        node: what all fronts of this process share.
        threads: shared by all endpoints of an application.
    """

    def __init__(self, route: JsonRoute, service: Service, node: Node, threads: Threads) -> None:
        self._route = route
        self._service = service
        self._node = node
        self._threads = threads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request_id = _request_id(headers)
        self._node.requests_log.begin()
        status = _CLIENT_CLOSED
        try:
            answer = await self._answer_or_error(scope, headers, receive, started, request_id)
            status = answer.status
            named = answer._replace(headers=(*answer.headers, (b"x-request-id", request_id)))
            await send_answer(named, send)
        except _Disconnected:
            return
        finally:
            endpoint = requests_log.Endpoint(
                Protocol.REST, self._route.name, status, self._collection(scope)
            )
            seconds = perf_counter() - started
            self._node.requests_log.end(endpoint, seconds, request_id.decode("latin-1"))

    async def _answer_or_error(
        self,
        scope: Scope,
        headers: Mapping[bytes, bytes],
        receive: Receive,
        started: float,
        request_id: bytes,
    ) -> Answer:
        try:
            return await self._answer(scope, headers, receive, started)
        except HeadraceError as error:
            return error_answer(error, perf_counter() - started)
        except _Disconnected:
            raise
        except Exception:
            logger.exception("%s failed, request_id=%s", self._route.name, request_id.decode())
            return Answer(500, failure(UNEXPECTED_ERROR_TEXT, perf_counter() - started))

    async def _answer(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, started: float
    ) -> Answer:
        operation = self._route.operation
        access = self._access(headers, scope["path_params"])
        body = await _read_body(headers, receive) if operation.takes_body else b""
        call = Call(
            self._service, self._node, access, scope["path_params"], scope["query_string"], body
        )
        gzipped = _accepts_gzip(headers)

        def work() -> Answer:
            self._node.authenticator.confirm(access, self._service)
            result = operation.handle(call)
            return _success_answer(result, perf_counter() - started, gzipped)

        place = operation.place(call)
        if place is Place.LOOP:
            if access.value_exists is None:
                return work()
            place = Place.READ_THREAD
        timeout_s = timeout_hint_s(call.query_string) if operation.on_timeout else None
        with move_on_after(math.inf if timeout_s is None else min(timeout_s, TIMEOUT_S_MAX)):
            return await self._threads.run(work, place)
        assert operation.on_timeout is not None
        assert timeout_s is not None
        result = operation.on_timeout(call, timeout_s)
        return _success_answer(result, perf_counter() - started, gzipped)

    def _access(self, headers: Mapping[bytes, bytes], path_parameters: Mapping[str, str]) -> Access:
        """The caller's rights, once they are seen to be enough for the path's collection."""
        access = caller_access(self._node, headers)
        name = None
        if "collection_name" in path_parameters and not access.may_manage:
            name = path_parameter(path_parameters, "collection_name")
        access.check(self._route.need, name)
        return access

    def _collection(self, scope: Scope) -> str:
        """The collection of a request, if there is one: others would be names without end."""
        try:
            name = path_parameter(scope["path_params"], "collection_name")
        except (KeyError, MalformedInput):
            return ""
        return name if self._service.collection_exists(name) else ""


def caller_access(node: Node, headers: Mapping[bytes, bytes]) -> Access:
    """What the caller may do, by the headers of its request.

    Raises:
        Unauthenticated, TokenRefused: as `Authenticator.authenticate`.
    """
    if not node.authenticator.is_on:
        return node.authenticator.authenticate(None, None)
    shown = (headers.get(b"api-key"), headers.get(b"authorization"))
    return node.authenticator.authenticate(
        *(None if one is None else one.decode("latin-1") for one in shown)
    )


def on_loop(call: Call) -> Place:
    """For handlers that only look something up."""
    return Place.LOOP


def on_write_thread(call: Call) -> Place:
    """For handlers that sync files."""
    return Place.WRITE_THREAD


def by_collection_size(call: Call) -> Place:
    """For handlers that search: on the loop if the collection is small."""
    if len(call.body) > IN_PLACE_BODY_BYTES_MAX:
        return Place.READ_THREAD
    try:
        points = call.service.points_count(collection_name(call.path_parameters))
    except HeadraceError:
        return Place.LOOP
    most = IN_PLACE_FILTERED_POINTS_MAX if b'"filter"' in call.body else IN_PLACE_POINTS_MAX
    return Place.LOOP if points <= most else Place.READ_THREAD


def read_timed_out(call: Call, timeout_s: int) -> Any:
    """What a read answers when its time is over.

    Raises:
        TimedOut: always.
    """
    raise TimedOut(f"Operation timed out after {timeout_s} seconds")


def error_answer(error: HeadraceError, seconds: float) -> Answer:
    """The answer that tells an error; who the caller is, is told as plain text."""
    status = wire_status(error).http
    if isinstance(error, (Unauthenticated, TokenRefused)):
        return Answer(status, error.message.encode(), content_type=_TEXT)
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if isinstance(error, RateLimited):
        headers = ((b"retry-after", b"%d" % error.retry_after_s),)
    elif isinstance(error, Unavailable):
        headers = ((b"retry-after", b"%d" % OVERLOAD_RETRY_AFTER_S),)
    return Answer(status, failure(error.message, seconds), headers)


def text_answer(text: str) -> Answer:
    """An answer in plain text, without the envelope."""
    return Answer(200, text.encode(), content_type=_TEXT)


async def send_answer(answer: Answer, send: Send) -> None:
    """Send an answer whole."""
    bytes_count = os.fstat(answer.file.fileno()).st_size if answer.file else len(answer.body)
    headers = [
        (b"content-type", answer.content_type),
        (b"content-length", b"%d" % bytes_count),
        *answer.headers,
    ]
    if answer.file is not None:
        with answer.file:
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            while chunk := await to_thread.run_sync(answer.file.read, _FILE_CHUNK_BYTES):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
    else:
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def _success_answer(result: Any, seconds: float, gzipped: bool) -> Answer:
    if isinstance(result, Answer):
        return result
    body = success(result, seconds)
    if not gzipped or len(body) < GZIP_BYTES_MIN:
        return Answer(200, body)
    return Answer(200, gzip.compress(body, _GZIP_LEVEL, mtime=0), (_ENCODED, _VARY))


def _request_id(headers: Mapping[bytes, bytes]) -> bytes:
    """The caller's own, if it is a plain one, else a new one."""
    given = headers.get(b"x-request-id", b"")
    plain = given.replace(b"-", b"").replace(b"_", b"")
    if plain.isalnum() and len(given) <= _REQUEST_ID_BYTES_MAX:
        return given
    return uuid4().hex.encode()


def _accepts_gzip(headers: Mapping[bytes, bytes]) -> bool:
    accepted = headers.get(b"accept-encoding", b"").replace(b" ", b"")
    return b"gzip" in accepted and b"gzip;q=0" not in accepted


async def _read_body(headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
    """The whole body, of a JSON content type and not too large.

    Raises:
        MalformedInput: it is of another type, or too large.
        _Disconnected: it never came.
    """
    content_type = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    if content_type != b"application/json" and not content_type.endswith(b"+json"):
        raise MalformedInput("Payload error: Content type error")
    declared = headers.get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > BODY_BYTES_MAX:
        raise _too_large(f"JSON payload ({int(declared)} bytes)")
    chunks: list[bytes] = []
    received = 0
    while True:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            raise _Disconnected
        chunk = message.get("body", b"")
        received += len(chunk)
        if received > BODY_BYTES_MAX:
            raise _too_large("JSON payload")
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(what: str) -> MalformedInput:
    return MalformedInput(
        f"Payload error: {what} is larger than allowed (limit: {BODY_BYTES_MAX} bytes)."
    )
