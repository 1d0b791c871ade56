"""How does one HTTP request pass through: rights, body, handler, envelope, errors, threads?

A handler is a plain function from a `Call` to a result. Where it runs is decided here:
on the event loop if it is certainly short, else on a thread, so that one request never
holds up the others. Encoding and compressing an answer happen where its handler ran.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

from anyio import CapacityLimiter, move_on_after, to_thread
from starlette.types import Receive, Scope, Send

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
from headrace.server.logs import fields
from headrace.server.node import Node
from headrace.server.request_shape import body_shape
from headrace.server.requests_log import Protocol, request_id_of
from headrace.server.rest.answers import LongList, failure, success, success_pieces
from headrace.server.rest.parameters import collection_name, path_parameter, timeout_hint_s
from headrace.server.rest.receiving import Disconnected, Intake, Room, read_body
from headrace.server.rest.sending import (
    TEXT_TYPE,
    Answer,
    Stalled,
    accepts_gzip,
    gzipped,
    send_answer,
)
from headrace.service.service import Service

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

# A read runs on the event loop if the collection has at most this many points and there
# is no filter: at 1,536 dimensions exact search over so many takes about a millisecond.
IN_PLACE_POINTS_MAX = 2_000

# With a filter each point's payload may be decoded, at some microseconds each.
IN_PLACE_FILTERED_POINTS_MAX = 100

# Nothing larger is parsed on the event loop.
IN_PLACE_BODY_BYTES_MAX = 32 * 1024

# Writing down so many components takes a millisecond or two.
IN_PLACE_COMPONENTS_MAX = 50_000

# Writing down so many bytes of payload, or looking through them, takes a millisecond.
IN_PLACE_PAYLOAD_BYTES_MAX = 256 * 1024

# A multi-vector has about so many vectors.
_VECTORS_OF_ONE = 32

# Three digits of points to show.
_ASKS_FOR_MANY = re.compile(rb'"(?:limit|top|sample)"\s*:\s*[1-9]\d\d')
# Others ask for fewer.
_FEW_POINTS = 100

# Writers mostly wait for one another's sync: the more wait, the more share one.
WRITE_THREADS = 32

# Readers mostly compute.
READ_THREADS = 8

# Beyond this many requests that wait for a thread, further ones are told to come again.
WAITING_MAX = 1024

# After how long.
OVERLOAD_RETRY_AFTER_S = 1

# Compressing this much takes two milliseconds; payloads may make a short answer large.
IN_PLACE_GZIP_BYTES_MAX = 64 * 1024

# A longer wait is none: event loops cannot time what a u64 can say.
TIMEOUT_S_MAX = 365 * 24 * 3600

# Of these requests what was asked is shown to who looks for slow ones.
_POINTS_PATH = "/points"

# What logs and metrics call a request whose client left before it was complete.
_CLIENT_CLOSED = 499


class Place(Enum):
    """Where a handler runs."""

    LOOP = auto()
    READ_THREAD = auto()
    WRITE_THREAD = auto()


@dataclass(slots=True)
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
    _request: Any = None

    def read(self, parse: Callable[[bytes], _T]) -> _T:
        """The body as its route's parser reads it, once, however often it is asked for.

        Raises: as the parser.
        """
        if self._request is None:
            self._request = parse(self.body)
        request: _T = self._request
        return request


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


class Threads:
    """How many handlers may run on threads at once; one per application.

    Attributes:
        limiters: by where handlers run.
        intake: what the bodies of all requests take of the memory.
    """

    def __init__(self) -> None:
        self.intake = Intake()
        self._unlimited = CapacityLimiter(math.inf)
        self.limiters = {
            Place.READ_THREAD: CapacityLimiter(READ_THREADS),
            Place.WRITE_THREAD: CapacityLimiter(WRITE_THREADS),
        }

    async def run(self, work: Callable[[], Answer], place: Place) -> Answer:
        """Run a handler on a thread; it goes on if this is cancelled, and counts till its end.

        Raises:
            Unavailable: too many wait already.
        """
        limiter = self.limiters[place]
        if limiter.statistics().tasks_waiting >= WAITING_MAX:
            raise Unavailable("Shard temporarily unavailable: too many requests wait already")
        thread = _Thread(limiter, work)
        await limiter.acquire_on_behalf_of(thread)
        try:
            return await to_thread.run_sync(
                thread.main, limiter=self._unlimited, abandon_on_cancel=True
            )
        finally:
            thread.release_when_ended()


class _Thread:
    """One handler on a thread, which holds its place until it has ended, heard or unheard.

    The limiter of `to_thread.run_sync` alone would give the place away at a timeout, while
    the handler goes on: requests that time out would make threads without end.
    """

    def __init__(self, limiter: CapacityLimiter, work: Callable[[], Answer]) -> None:
        self._limiter = limiter
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._has_begun = self._has_ended = self._is_left = self._is_released = False

    def main(self) -> Answer:
        """What the thread does."""
        self._has_begun = True
        try:
            return self._work()
        finally:
            self._has_ended = True
            # Whichever comes last, this or who left, gives the place back.
            if self._is_left:
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    self._loop.call_soon_threadsafe(self._release)

    def release_when_ended(self) -> None:
        """Give the place back, once the thread has ended; called on the event loop."""
        self._is_left = True
        if self._has_ended or not self._has_begun:
            self._release()

    def _release(self) -> None:
        if not self._is_released:
            self._is_released = True
            self._limiter.release_on_behalf_of(self)


class Request:
    """One request on its way.

    Attributes:
        id: that the caller gave it, or a new one.
        started: when it came, by the performance counter.
        room: what its body takes of the memory.
        body: once it has come; empty if the route takes none.
    """

    def __init__(self, scope: Scope, receive: Receive, room: Room) -> None:
        self.scope = scope
        self.receive = receive
        self.room = room
        self.started = perf_counter()
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.id = request_id_of(self.headers.get(b"x-request-id", b"")).decode("latin-1")
        self.body = b""


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
        request = Request(scope, receive, Room(self._threads.intake))
        self._node.requests_log.begin()
        status = _CLIENT_CLOSED
        try:
            with request.room:
                answer = await self._answer_or_error(request)
            limiter = self._threads.limiters[Place.READ_THREAD]
            await send_answer(answer, request.id.encode(), receive, send, limiter)
            status = answer.status
        except Disconnected:
            return
        except Stalled:
            logger.info("%s is not taken", self._route.name, extra=fields(request_id=request.id))
        except Exception:
            # The status is out already: that the answer breaks off tells the peer.
            self._log_failure("%s broke off", request)
            status = 500
        finally:
            endpoint = requests_log.Endpoint(
                Protocol.REST, self._route.name, status, self._collection(scope)
            )
            self._node.requests_log.end(
                endpoint, perf_counter() - request.started, request.id, lambda: self._shape(request)
            )

    async def _answer_or_error(self, request: Request) -> Answer:
        try:
            return await self._answer(request)
        except HeadraceError as error:
            let_go(error)
            return error_answer(error, perf_counter() - request.started)
        except Disconnected:
            raise
        except Exception:
            self._log_failure("%s failed", request)
            seconds = perf_counter() - request.started
            return Answer(500, failure(UNEXPECTED_ERROR_TEXT, seconds))

    async def _answer(self, request: Request) -> Answer:
        operation, scope = self._route.operation, request.scope
        access = self._access(request.headers, scope["path_params"])
        if operation.takes_body:
            request.body = await read_body(scope, request.headers, request.receive, request.room)
        call = Call(
            self._service,
            self._node,
            access,
            scope["path_params"],
            scope["query_string"],
            request.body,
        )
        takes_gzip = accepts_gzip(request.headers)

        def encoded(result: Any) -> Answer:
            answer = success_answer(result, request.started)
            return gzipped(answer) if takes_gzip and not isinstance(result, Answer) else answer

        def work() -> Answer:
            self._node.authenticator.confirm(access, self._service)
            return encoded(operation.handle(call))

        place = operation.place(call)
        if place is Place.LOOP:
            if access.value_exists is None:
                result = operation.handle(call)
                answer = success_answer(result, request.started)
                if not takes_gzip or isinstance(result, Answer):
                    return answer
                if len(answer.body) <= IN_PLACE_GZIP_BYTES_MAX:
                    return gzipped(answer)
                return await self._threads.run(lambda: gzipped(answer), Place.READ_THREAD)
            place = Place.READ_THREAD
        timeout_s = timeout_hint_s(call.query_string) if operation.on_timeout else None
        with move_on_after(math.inf if timeout_s is None else min(timeout_s, TIMEOUT_S_MAX)):
            return await self._threads.run(work, place)
        assert operation.on_timeout is not None
        assert timeout_s is not None
        return encoded(operation.on_timeout(call, timeout_s))

    def _log_failure(self, what: str, request: Request) -> None:
        logger.exception(what, self._route.name, extra=fields(request_id=request.id))

    def _shape(self, request: Request) -> Any:
        """What a slow request asked for, if it is one about points."""
        return body_shape(request.body) if _POINTS_PATH in self._route.path else None

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


def let_go(error: BaseException) -> None:
    """Forget where an error that is answered came from.

    An error that crossed threads is in a cycle with its frames, whose variables hold the
    request; until the garbage is collected, bad requests would fill the memory.
    """
    error.__traceback__ = None
    error.__cause__ = error.__context__ = None


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


def on_read_thread(call: Call) -> Place:
    """For handlers that look at everything, or do many things one after the other."""
    return Place.READ_THREAD


def is_long_to_read(body: bytes) -> bool:
    """Whether reading a body may take long whatever is stored: a model takes what it takes.

    No client writes a member's name with escapes, but who wants it not to be seen.
    """
    if len(body) > IN_PLACE_BODY_BYTES_MAX or b'"model"' in body:
        return True
    return b"\\" in body and b"\\u00" in body  # a single byte is looked for much faster


def by_collection_size(call: Call) -> Place:
    """For handlers that search: on the loop if the collection and what is shown of it are small."""
    if is_long_to_read(call.body):
        return Place.READ_THREAD
    try:
        name = collection_name(call.path_parameters)
        points = call.service.points_count(name)
    except HeadraceError:
        return Place.LOOP
    most = IN_PLACE_FILTERED_POINTS_MAX if b'"filter"' in call.body else IN_PLACE_POINTS_MAX
    if points > most:
        return Place.READ_THREAD
    asks_for_many = _ASKS_FOR_MANY.search(call.body) is not None
    if b'"order_by"' in call.body:  # where a point stands once for each of its values
        return Place.READ_THREAD if asks_for_many else by_payloads_size(call, name, _FEW_POINTS)
    if asks_for_many:
        return by_points_size(call, name, points)
    return by_payloads_size(call, name, min(points, _FEW_POINTS))


def by_payloads_size(call: Call, name: str, points: int) -> Place:
    """On the loop if the payloads of so many points are soon written down, or looked through."""
    is_small = points * call.service.payload_bytes_max(name) <= IN_PLACE_PAYLOAD_BYTES_MAX
    return Place.LOOP if is_small else Place.READ_THREAD


def by_points_size(call: Call, name: str, points: int) -> Place:
    """On the loop if the payloads and vectors of so many points are soon written down."""
    params = call.service.collection_config(name).vectors.values()
    components = sum(one.size * (_VECTORS_OF_ONE if one.is_multi else 1) for one in params)
    if points * components > IN_PLACE_COMPONENTS_MAX:
        return Place.READ_THREAD
    return by_payloads_size(call, name, points)


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
        return Answer(status, error.message.encode(), content_type=TEXT_TYPE)
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if isinstance(error, RateLimited):
        headers = ((b"retry-after", b"%d" % error.retry_after_s),)
    elif isinstance(error, Unavailable):
        headers = ((b"retry-after", b"%d" % OVERLOAD_RETRY_AFTER_S),)
    return Answer(status, failure(error.message, seconds), headers)


def success_answer(result: Any, started: float) -> Answer:
    """The answer of a handler's result."""
    if isinstance(result, Answer):
        return result
    if isinstance(result, LongList):
        return Answer(200, b"", pieces=success_pieces(result, started))
    return Answer(200, success(result, perf_counter() - started))
