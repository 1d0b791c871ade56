"""How does a request's body come in, within bounds of size, time and memory?

Each body has a bound, and so have all bodies together that are in memory at one moment. A
peer that stops in the middle of one is told so and let go.
"""

from __future__ import annotations

import asyncio
import threading
import zlib
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from anyio import to_thread
from starlette.types import Message, Receive, Scope

from headrace.model.errors import MalformedInput, TimedOut, Unavailable
from headrace.service.quotas import memory_bytes_max

# Qdrant's default `max_request_size_mb`.
BODY_BYTES_MAX = 32 * 2**20

# A peer that sends nothing for so long in the middle of a body is let go.
RECEIVE_STALL_S = 30.0

# Stands in a request's ASGI scope once all of it has come, if the connection says so: nobody
# waits for its body then.
IS_WHOLE = "headrace.is_whole"

# Of all bodies together: as many of the largest as there are threads for writes, if that
# leaves three quarters of the memory to what they are for.
_BODIES_BYTES_MAX = 32 * BODY_BYTES_MAX
_BODIES_MEMORY_SHARE = 0.25

# Inflating more than so many compressed bytes would hold up the event loop.
_IN_PLACE_COMPRESSED_BYTES_MAX = 4 * 1024

# Inflated bytes are counted as often as this.
_INFLATED_CHUNK_BYTES = 2**20

# For zlib: a header tells which of gzip and deflate it is.
_GZIP_OR_DEFLATE = zlib.MAX_WBITS | 32

_COMPRESSED = (b"gzip", b"x-gzip", b"deflate")


class Disconnected(Exception):
    """The client left before its request was complete."""


class Intake:
    """How many bytes of bodies are in memory now, of all requests; thread-safe.

    Args:
        bytes_max: how many there may be.
    """

    def __init__(self, bytes_max: int | None = None) -> None:
        share = int(memory_bytes_max() * _BODIES_MEMORY_SHARE)
        self._bytes_max = min(_BODIES_BYTES_MAX, share) if bytes_max is None else bytes_max
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """How many there are."""
        return self._bytes

    def take(self, bytes_count: int) -> None:
        """Count further bytes.

        Raises:
            Unavailable: there would be too many.
        """
        with self._lock:
            if self._bytes + bytes_count > self._bytes_max:
                raise Unavailable(
                    "Shard temporarily unavailable: the requests in hand fill the memory that "
                    "there is for them"
                )
            self._bytes += bytes_count

    def give_back(self, bytes_count: int) -> None:
        """Count bytes no more."""
        with self._lock:
            self._bytes -= bytes_count


class Room:
    """What one request's body takes of the memory for all bodies, until its block ends."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._bytes = 0

    def take(self, bytes_count: int) -> None:
        """See `Intake.take`."""
        self._intake.take(bytes_count)
        self._bytes += bytes_count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._intake.give_back(self._bytes)


async def read_body(
    scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, room: Room
) -> bytes:
    """The whole body, of a JSON content type and not too large; inflated if it came so.

    Args:
        scope: of the request.
        headers: of it, by name.
        receive: gives its parts.
        room: what it takes of the memory.

    Raises:
        MalformedInput: it is of another type, too large, or not compressed as it says.
        TimedOut: it stopped coming.
        Unavailable: there is no memory for it now.
        Disconnected: it never came.
    """
    content_type = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    if content_type != b"application/json" and not content_type.endswith(b"+json"):
        raise MalformedInput("Payload error: Content type error")
    encoding = headers.get(b"content-encoding", b"identity").strip().lower()
    if encoding not in (b"identity", *_COMPRESSED):
        raise MalformedInput(
            f"Payload error: content encoding `{encoding[:20].decode('latin-1')}` is not "
            "supported, only gzip and deflate are"
        )
    declared = headers.get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > BODY_BYTES_MAX:
        raise _too_large(f"JSON payload ({int(declared)} bytes)")
    body = await _receive_whole(scope, receive, room)
    if encoding == b"identity":
        return body
    if len(body) <= _IN_PLACE_COMPRESSED_BYTES_MAX:
        return _inflated(body, room)
    return await to_thread.run_sync(_inflated, body, room)


async def receive_in_time(receive: Receive) -> Message:
    """The next part of a request.

    Raises:
        TimedOut: the peer sent nothing for too long.
    """
    try:
        async with asyncio.timeout(RECEIVE_STALL_S):
            return await receive()
    except TimeoutError:
        raise TimedOut(
            f"the request stopped in the middle: nothing came for {RECEIVE_STALL_S:g} seconds"
        ) from None


async def _receive_whole(scope: Scope, receive: Receive, room: Room) -> bytes:
    chunks: list[bytes] = []
    received = 0
    while True:
        # To time what is there already takes longer than to take it.
        message = await (receive() if IS_WHOLE in scope else receive_in_time(receive))
        if message["type"] == "http.disconnect":
            raise Disconnected
        chunk = message.get("body", b"")
        received += len(chunk)
        if received > BODY_BYTES_MAX:
            raise _too_large("JSON payload")
        room.take(len(chunk))
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _inflated(body: bytes, room: Room) -> bytes:
    inflater = zlib.decompressobj(_GZIP_OR_DEFLATE)
    chunks: list[bytes] = []
    inflated = 0
    try:
        while not inflater.eof:
            chunk = inflater.decompress(body, _INFLATED_CHUNK_BYTES)
            body = inflater.unconsumed_tail
            inflated += len(chunk)
            if inflated > BODY_BYTES_MAX:
                raise _too_large("JSON payload")
            room.take(len(chunk))
            chunks.append(chunk)
            if not chunk and not body:
                break
    except zlib.error as error:
        raise MalformedInput(f"Payload error: {error}") from None
    if not inflater.eof or inflater.unused_data:
        raise MalformedInput("Payload error: the compressed body is incomplete")
    return b"".join(chunks)


def _too_large(what: str) -> MalformedInput:
    return MalformedInput(
        f"Payload error: {what} is larger than allowed (limit: {BODY_BYTES_MAX} bytes)."
    )
