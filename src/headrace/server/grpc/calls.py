"""How does a call become an answer or a status, whatever it calls?

One wrapper does for every method what is the same for all: it asks who calls and what they
may do, decodes the request, runs the method on a thread, keeps the caller's timeout, fills
in `time`, turns errors into the status codes of the one table, and records how it ended.
Methods themselves are plain functions from a request to an answer, which raise
`HeadraceError`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from typing import Any, NamedTuple, NoReturn

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from headrace.model.errors import (
    HeadraceError,
    MalformedInput,
    RateLimited,
    TimedOut,
    Unavailable,
)
from headrace.server.auth import FULL_ACCESS, Access, Need
from headrace.server.errors import UNEXPECTED_ERROR_TEXT, wire_status
from headrace.server.grpc.rules import check_at_least
from headrace.server.logs import fields
from headrace.server.node import Node
from headrace.server.request_shape import shortened
from headrace.server.requests_log import Endpoint, Protocol, request_id_of
from headrace.server.rest.endpoint import OVERLOAD_RETRY_AFTER_S, WAITING_MAX, let_go
from headrace.service.service import Service

logger = logging.getLogger(__name__)

# Smaller requests are decoded on the event loop: that takes less than the way to a thread.
_DECODE_IN_PLACE_BYTES_MAX = 16 * 1024

# A status travels in HTTP/2 headers, of which clients take 8 KiB; percent-encoding may
# make three bytes of each.
_STATUS_TEXT_BYTES_MAX = 2_000

# Longer timeouts are none: timers do not count so far.
_TIMEOUT_S_MAX = 24 * 3600

# Larger requests are told by their size alone where slow ones are shown.
_SHOWN_BYTES_MAX = 256 * 1024

_Context = grpc.aio.ServicerContext[bytes, bytes]


class Method(NamedTuple):
    """One method of a service.

    Attributes:
        answer: makes the answer for a caller of some rights; runs on a thread.
        need: which right it takes, on the request's collection if it names one.
        on_timeout: the answer when the request's `timeout` is over while `answer` goes on;
            None for an error.
    """

    answer: Callable[[Any, Access], Message]
    need: Need
    on_timeout: Callable[[Any], Message] | None = None


def same_for_all(
    answer: Callable[[Any], Message],
    need: Need,
    on_timeout: Callable[[Any], Message] | None = None,
) -> Method:
    """A method that answers every caller alike who may call it."""
    return Method(lambda request, access: answer(request), need, on_timeout)


class Calls:
    """Serves methods by way of an executor.

    Args:
        executor: where methods run; the caller shuts it down.
        threads: how many it has.
        service: the store.
        node: what all fronts of this process share.
    """

    def __init__(self, executor: Executor, threads: int, service: Service, node: Node) -> None:
        self._executor = executor
        self._unfinished_max = threads + WAITING_MAX
        self._unfinished = 0
        self._service = service
        self._node = node

    def handler(
        self, service: ServiceDescriptor, methods: Mapping[str, Method]
    ) -> grpc.GenericRpcHandler:
        """The handler of a service."""
        return grpc.method_handlers_generic_handler(
            service.full_name,
            {
                method.name: grpc.unary_unary_rpc_method_handler(
                    self._behaviour(method, methods[method.name])
                )
                for method in service.methods
            },
        )

    def _behaviour(self, descriptor: MethodDescriptor, method: Method) -> Callable[..., Any]:
        request_class = GetMessageClass(descriptor.input_type)
        name = f"/{descriptor.containing_service.full_name}/{descriptor.name}"

        async def behave(request_bytes: bytes, context: _Context) -> bytes:
            call = _Call(method, time.perf_counter(), _request_id(context))
            context.set_trailing_metadata((("x-request-id", call.request_id),))
            self._node.requests_log.begin()
            code = grpc.StatusCode.CANCELLED
            try:
                answer = await self._answer(call, request_class, request_bytes, context)
                code = grpc.StatusCode.OK
                return answer
            except HeadraceError as error:
                let_go(error)
                code = wire_status(error).grpc
                await _abort(context, error, call.request_id)
            except Exception:
                named = fields(request_id=call.request_id)
                logger.exception("%s failed", descriptor.full_name, extra=named)
                code = grpc.StatusCode.INTERNAL
                await context.abort(code, UNEXPECTED_ERROR_TEXT)
            finally:
                endpoint = Endpoint(Protocol.GRPC, name, code.value[0], self._collection(call))
                seconds = time.perf_counter() - call.started
                self._node.requests_log.end(
                    endpoint, seconds, call.request_id, lambda: _shape(name, call)
                )

        return behave

    async def _answer(
        self,
        call: _Call,
        request_class: type[Message],
        request_bytes: bytes,
        context: _Context,
    ) -> bytes:
        access = self._access(call.method.need, context)
        if len(request_bytes) <= _DECODE_IN_PLACE_BYTES_MAX:
            request = _decoded(request_class, request_bytes)
        else:
            request = await self._on_thread(_decoded, request_class, request_bytes)
        call.request = request
        call.collection_name = getattr(request, "collection_name", None)
        access.check(call.method.need, call.collection_name)
        timeout_s = timeout_of(request)
        answer: asyncio.Future[bytes] = self._on_thread(self._encoded_answer, call, request, access)
        try:
            bounded_s = None if timeout_s is None else min(timeout_s, _TIMEOUT_S_MAX)
            done, _ = await asyncio.wait((answer,), timeout=bounded_s)
        except asyncio.CancelledError:
            answer.add_done_callback(_log_late_failure)
            raise
        if done:
            return await answer
        answer.add_done_callback(_log_late_failure)
        if call.method.on_timeout is not None:
            return _encoded(call.method.on_timeout(request), call.started)
        raise TimedOut(f"Operation timed out after {timeout_s} seconds")

    def _access(self, need: Need, context: _Context) -> Access:
        """What the caller may do; nobody is asked who calls what is open to all."""
        if need is Need.NOTHING:
            return FULL_ACCESS
        return caller_access(self._node, context.invocation_metadata() or ())

    def _encoded_answer(self, call: _Call, request: Message, access: Access) -> bytes:
        self._node.authenticator.confirm(access, self._service)
        return _encoded(call.method.answer(request, access), call.started)

    def _on_thread(self, work: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        """Run work on a thread, unless too much waits already.

        Raises:
            Unavailable: it does.
        """
        if self._unfinished >= self._unfinished_max:
            raise Unavailable("Shard temporarily unavailable: too many requests wait already")
        self._unfinished += 1
        running = asyncio.get_running_loop().run_in_executor(self._executor, work, *arguments)
        running.add_done_callback(self._finished)
        return running

    def _finished(self, running: asyncio.Future[Any]) -> None:
        self._unfinished -= 1

    def _collection(self, call: _Call) -> str:
        """The collection of a request, if there is one: others would be names without end."""
        name = call.collection_name
        return name if name and self._service.collection_exists(name) else ""


class _Call:
    """One call, from its beginning to its record.

    Attributes:
        started: by the performance counter.
        request_id: that the caller gave it, or a new one.
        request: once it is decoded.
        collection_name: that the request names, once it is decoded.
    """

    def __init__(self, method: Method, started: float, request_id: str) -> None:
        self.method = method
        self.started = started
        self.request_id = request_id
        self.request: Message | None = None
        self.collection_name: str | None = None


def caller_access(node: Node, metadata: Iterable[tuple[str, str | bytes]]) -> Access:
    """What the caller may do, by the metadata of its call.

    Raises:
        Unauthenticated, TokenRefused: as `Authenticator.authenticate`.
    """
    shown = {name: value for name, value in metadata if isinstance(value, str)}
    return node.authenticator.authenticate(shown.get("api-key"), shown.get("authorization"))


def timeout_of(request: Any) -> int | None:
    """The timeout that a request sets, in seconds.

    Raises:
        InvalidBody: it is 0.
    """
    if "timeout" not in request.DESCRIPTOR.fields_by_name or not request.HasField("timeout"):
        return None
    timeout_s: int = request.timeout
    check_at_least("timeout", timeout_s, 1)
    return timeout_s


def _shape(name: str, call: _Call) -> Any:
    """What a slow request asked for, if it is one about points."""
    if call.request is None or not name.startswith("/qdrant.Points/"):
        return None
    if call.request.ByteSize() > _SHOWN_BYTES_MAX:
        return f"<{call.request.ByteSize()} bytes>"
    return shortened(MessageToDict(call.request, preserving_proto_field_name=True))


def _decoded(request_class: type[Message], request_bytes: bytes) -> Message:
    try:
        return request_class.FromString(request_bytes)
    except DecodeError as error:
        raise MalformedInput(f"Format error in protobuf body: {error}") from None


def _encoded(response: Message, started: float) -> bytes:
    if "time" in response.DESCRIPTOR.fields_by_name:
        response.time = time.perf_counter() - started  # type: ignore[attr-defined]
    return response.SerializeToString()


def _log_late_failure(answer: asyncio.Future[bytes]) -> None:
    """Log what nobody is told any more; errors that the caller made are no news."""
    if answer.cancelled() or (error := answer.exception()) is None:
        return
    if not isinstance(error, HeadraceError):
        logger.error("a call failed after its caller had gone", exc_info=error)


def _request_id(context: _Context) -> str:
    shown = dict(context.invocation_metadata() or ()).get("x-request-id", "")
    return request_id_of(shown.encode() if isinstance(shown, str) else b"").decode()


async def _abort(context: _Context, error: HeadraceError, request_id: str) -> NoReturn:
    metadata: tuple[tuple[str, str], ...] = (("x-request-id", request_id),)
    if isinstance(error, RateLimited):
        metadata += (("retry-after", str(error.retry_after_s)),)
    elif isinstance(error, Unavailable):
        metadata += (("retry-after", str(OVERLOAD_RETRY_AFTER_S)),)
    await context.abort(wire_status(error).grpc, _status_text(error.message), metadata)


def _status_text(text: str) -> str:
    encoded = text.encode()
    if len(encoded) <= _STATUS_TEXT_BYTES_MAX:
        return text
    return encoded[:_STATUS_TEXT_BYTES_MAX].decode(errors="ignore") + "…"
