"""How does an HTTP request of a client reach its handler without a socket?

The routes and handlers are those of the REST front, so the answers are the server's. A
handler that speaks JSON is called as the function that it is; what is left, such as files
and the root page, goes through the whole ASGI application.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future
from functools import cache
from time import perf_counter
from typing import Any, BinaryIO, NamedTuple

import httpx
from starlette.types import ASGIApp, Message

from headrace.client.shared import Lease
from headrace.model.errors import HeadraceError
from headrace.server.auth import FULL_ACCESS
from headrace.server.errors import UNEXPECTED_ERROR_TEXT
from headrace.server.node import Node
from headrace.server.rest.answers import failure
from headrace.server.rest.app import JSON_ROUTES, create_app, path_as_sent
from headrace.server.rest.endpoint import (
    TIMEOUT_S_MAX,
    Call,
    Operation,
    Place,
    error_answer,
    success_answer,
)
from headrace.server.rest.parameters import timeout_hint_s
from headrace.server.rest.routes import RouteTable
from headrace.server.rest.sending import Answer, joined

logger = logging.getLogger(__name__)

_FILE_CHUNK_BYTES = 2**20


class _MatchedRoute(NamedTuple):
    operation: Operation
    path_parameters: Mapping[str, str]


class _Work(NamedTuple):
    """One request on its way through a handler."""

    operation: Operation
    call: Call


class Dispatcher:
    """Answers the requests of one connection.

    Args:
        lease: the store; a request after it is closed is refused.
        timeout_s: how long a request may take that says nothing itself; None = for ever.
    """

    def __init__(self, lease: Lease, timeout_s: float | None) -> None:
        self._lease = lease
        self._timeout_s = timeout_s
        self._node = Node()

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer a request on the calling thread, if it may be interrupted there.

        Raises:
            HeadraceError: the store is closed, or belongs to another process.
            httpx.ReadTimeout: it takes too long.
        """
        store = self._lease.store
        route = _find_route(request)
        if route is None:
            return self._through_app(request)
        work = self._work(route, request, request.read())
        timeout_s = _own_timeout_s(work)
        if timeout_s is None and self._timeout_s is None:
            if work.operation.place(work.call) is Place.WRITE_THREAD:
                return _response(store.run_write(lambda: _answer(work)))
            return _response(_answer(work))
        running = store.submit(lambda: _answer(work))
        return _response(self._wait(running, work, timeout_s, request))

    async def answer_async(self, request: httpx.Request) -> httpx.Response:
        """Answer a request without holding up the running event loop.

        Raises: as `answer`.
        """
        store = self._lease.store
        route = _find_route(request)
        if route is None:
            return await _run_app(create_app(store.service, self._node), request)
        work = self._work(route, request, await request.aread())
        timeout_s = _own_timeout_s(work)
        if work.operation.place(work.call) is Place.LOOP:
            return _response(_answer(work))
        running = asyncio.wrap_future(store.submit(lambda: _answer(work)))
        try:
            limit_s = self._timeout_s if timeout_s is None else timeout_s
            return _response(await asyncio.wait_for(asyncio.shield(running), limit_s))
        except TimeoutError:
            return _response(_late_answer(work, timeout_s, request))

    def _work(self, route: _MatchedRoute, request: httpx.Request, body: bytes) -> _Work:
        call = Call(
            self._lease.store.service,
            self._node,
            FULL_ACCESS,
            route.path_parameters,
            request.url.query,
            body,
        )
        return _Work(route.operation, call)

    def _wait(
        self, running: Future[Answer], work: _Work, timeout_s: float | None, request: httpx.Request
    ) -> Answer:
        try:
            return running.result(self._timeout_s if timeout_s is None else timeout_s)
        except TimeoutError:
            return _late_answer(work, timeout_s, request)

    def _through_app(self, request: httpx.Request) -> httpx.Response:
        """Run the application on an event loop of its own, whatever loop runs here."""
        finished: Future[httpx.Response] = Future()
        app = create_app(self._lease.store.service, self._node)

        def thread_main() -> None:
            try:
                finished.set_result(asyncio.run(_run_app(app, request)))
            except BaseException as error:
                finished.set_exception(error)

        threading.Thread(target=thread_main, name="headrace-request", daemon=True).start()
        return finished.result()


@cache
def _operations() -> RouteTable[Operation]:
    return RouteTable((route, route.operation) for route in JSON_ROUTES)


def _find_route(request: httpx.Request) -> _MatchedRoute | None:
    """The JSON route of a request; None if it has none, or does not carry the JSON it takes."""
    path = path_as_sent(request.url.raw_path.partition(b"?")[0])
    found = _operations().find(request.method, path)
    if found is None:
        return None
    matched = _MatchedRoute(*found)
    if matched.operation.takes_body and not _is_json(request.headers):
        return None
    return matched


def _is_json(headers: httpx.Headers) -> bool:
    content_type: str = headers.get("content-type", "")
    return content_type.partition(";")[0].strip() == "application/json"


def _own_timeout_s(work: _Work) -> float | None:
    """The `timeout` that the request gives itself, if the route has one."""
    if work.operation.on_timeout is None:
        return None
    timeout_s = timeout_hint_s(work.call.query_string)
    return None if timeout_s is None else min(timeout_s, TIMEOUT_S_MAX)


def _answer(work: _Work) -> Answer:
    """Run a handler; every error becomes the answer that a server would give."""
    return _guarded(lambda: work.operation.handle(work.call), work)


def _late_answer(work: _Work, timeout_s: float | None, request: httpx.Request) -> Answer:
    """What a request answers whose time is over; its handler goes on.

    Raises:
        httpx.ReadTimeout: it is the connection's time, not the request's own.
    """
    on_timeout = work.operation.on_timeout
    if timeout_s is None or on_timeout is None:
        raise httpx.ReadTimeout("The store has not answered in time", request=request)
    return _guarded(lambda: on_timeout(work.call, int(timeout_s)), work)


def _guarded(run: Callable[[], Any], work: _Work) -> Answer:
    started = perf_counter()
    try:
        return joined(success_answer(run(), started))
    except HeadraceError as error:
        return error_answer(error, perf_counter() - started)
    except Exception:
        logger.exception("%s failed", work.operation.handle)
        return Answer(500, failure(UNEXPECTED_ERROR_TEXT, perf_counter() - started))


def _response(answer: Answer) -> httpx.Response:
    headers = [(b"content-type", answer.content_type), *answer.headers]
    if answer.file is not None:
        return httpx.Response(answer.status, headers=headers, stream=_FileStream(answer.file))
    return httpx.Response(answer.status, headers=headers, content=answer.body)


class _FileStream(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A file that is sent as it is read, and closed then."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self._file.read(_FILE_CHUNK_BYTES):
            yield chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await asyncio.to_thread(self._file.read, _FILE_CHUNK_BYTES):
            yield chunk

    def close(self) -> None:
        self._file.close()

    async def aclose(self) -> None:
        self._file.close()


async def _chunks(request: httpx.Request) -> AsyncIterator[bytes]:
    """The body of a request, as it comes."""
    if isinstance(request.stream, httpx.AsyncByteStream):
        async for chunk in request.stream:
            yield chunk
    else:
        for chunk in request.stream:
            yield chunk


async def _run_app(app: ASGIApp, request: httpx.Request) -> httpx.Response:
    """One request through an ASGI application, in memory."""
    status = 500
    headers: list[tuple[bytes, bytes]] = []
    answer_chunks: list[bytes] = []
    answered = asyncio.Event()
    body = _chunks(request)
    is_read = False

    async def receive() -> Message:
        nonlocal is_read
        if is_read:
            await answered.wait()
            return {"type": "http.disconnect"}
        chunk = await anext(body, None)
        is_read = chunk is None
        return {"type": "http.request", "body": chunk or b"", "more_body": not is_read}

    async def send(message: Message) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status, headers = message["status"], list(message.get("headers", ()))
        else:
            answer_chunks.append(message.get("body", b""))
            if not message.get("more_body", False):
                answered.set()

    await app(_scope(request), receive, send)
    return httpx.Response(status, headers=headers, content=b"".join(answer_chunks))


def _scope(request: httpx.Request) -> dict[str, Any]:
    raw_path, _, query_string = request.url.raw_path.partition(b"?")
    # A compressed answer would only be decompressed again.
    headers = [
        (name.lower(), value)
        for name, value in request.headers.raw
        if name.lower() != b"accept-encoding"
    ]
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": raw_path,
        "query_string": query_string,
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 0),
        "server": (request.url.host, request.url.port),
    }
