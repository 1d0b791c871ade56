"""How does an answer go out: whole, as a file, or in pieces that are made as they are sent?

Whatever is long is sent a slice at a time, at the pace at which the peer takes it, so that a
slow one costs little memory; one that takes nothing is let go.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO, NamedTuple

import orjson
from anyio import CapacityLimiter, to_thread
from starlette.types import Receive, Send

JSON_TYPE = b"application/json"
TEXT_TYPE = b"text/plain; charset=utf-8"

# A peer that does not take a slice for so long is let go.
SEND_STALL_S = 60.0

# A slow peer takes this within the above; few enough slices, little enough memory.
_SLICE_BYTES = 256 * 1024

# Smaller answers cost more to compress than to send.
GZIP_BYTES_MIN = 16 * 1024

# The fastest level: vectors hardly compress better at the others.
_GZIP_LEVEL = 1

# For zlib: write a gzip header.
_GZIP_WBITS = zlib.MAX_WBITS | 16

_ENCODED = (b"content-encoding", b"gzip")
# A browser that is led here must not guess that an answer is a page.
_NO_SNIFFING = (b"x-content-type-options", b"nosniff")
_VARY = (b"vary", b"accept-encoding")


class Answer(NamedTuple):
    """A response, ready to be sent.

    Attributes:
        file: sent in place of `body`, from its beginning, and closed; None for none.
        pieces: sent in place of `body`; each is made on a thread when the one before it has
            gone out.
    """

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    content_type: bytes = JSON_TYPE
    file: BinaryIO | None = None
    pieces: Iterator[bytes] | None = None


class Stalled(Exception):
    """The peer does not take its answer."""


def text_answer(text: str) -> Answer:
    """An answer in plain text, without the envelope."""
    return Answer(200, text.encode(), content_type=TEXT_TYPE)


def accepted_answer(seconds: float) -> Answer:
    """The answer to who does not wait for the result."""
    return Answer(202, orjson.dumps({"status": "accepted", "time": seconds}))


def accepts_gzip(headers: Mapping[bytes, bytes]) -> bool:
    """Whether the peer takes compressed answers."""
    accepted = headers.get(b"accept-encoding", b"").replace(b" ", b"")
    return b"gzip" in accepted and b"gzip;q=0" not in accepted


def gzipped(answer: Answer) -> Answer:
    """The answer, compressed if that is worth it."""
    headers = (*answer.headers, _ENCODED, _VARY)
    if answer.pieces is not None:
        return answer._replace(pieces=_gzipped_pieces(answer.pieces), headers=headers)
    if len(answer.body) < GZIP_BYTES_MIN:
        return answer
    return answer._replace(body=gzip.compress(answer.body, _GZIP_LEVEL, mtime=0), headers=headers)


async def send_answer(
    answer: Answer, request_id: bytes, receive: Receive, send: Send, limiter: CapacityLimiter
) -> None:
    """Send an answer whole, unless the peer leaves.

    Args:
        answer: what is sent.
        request_id: which is told with it.
        receive: of the request; asked whether the peer is still there.
        send: of the request.
        limiter: how many threads may make pieces at once.

    Raises:
        Stalled: the peer does not take it.
    """
    if answer.file is not None:
        with answer.file as file:
            length = os.fstat(file.fileno()).st_size
            read = iter(lambda: file.read(_SLICE_BYTES), b"")
            start = _start(answer, request_id, length)
            await _send_pieces(start, read, receive, send, limiter)
    elif answer.pieces is not None:
        start = _start(answer, request_id, None)
        await _send_pieces(start, answer.pieces, receive, send, limiter)
    else:
        await send(_start(answer, request_id, len(answer.body)))
        if len(answer.body) <= _SLICE_BYTES:
            await send(_body(answer.body, more=False))
        else:
            await _send_slices(answer.body, send, more=False)


async def _send_pieces(
    start: dict[str, object],
    pieces: Iterator[bytes],
    receive: Receive,
    send: Send,
    limiter: CapacityLimiter,
) -> None:
    gone = asyncio.create_task(_until_gone(receive))
    try:
        await send(start)
        while (piece := await to_thread.run_sync(next, pieces, None, limiter=limiter)) is not None:
            await _send_slices(piece, send, more=True)
            if gone.done():
                return
        await _send_slices(b"", send, more=False)
    finally:
        gone.cancel()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_slices(body: bytes, send: Send, more: bool) -> None:
    for first in range(0, max(1, len(body)), _SLICE_BYTES):
        is_last = first + _SLICE_BYTES >= len(body)
        await _in_time(send, _body(body[first : first + _SLICE_BYTES], more or not is_last))


async def _in_time(send: Send, message: dict[str, object]) -> None:
    try:
        async with asyncio.timeout(SEND_STALL_S):
            await send(message)
    except TimeoutError:
        raise Stalled from None


def _body(body: bytes, more: bool) -> dict[str, object]:
    return {"type": "http.response.body", "body": body, "more_body": more}


def _start(answer: Answer, request_id: bytes, length: int | None) -> dict[str, object]:
    headers = [(b"content-type", answer.content_type), _NO_SNIFFING]
    if length is not None:
        headers.append((b"content-length", b"%d" % length))
    headers.extend(answer.headers)
    headers.append((b"x-request-id", request_id))
    return {"type": "http.response.start", "status": answer.status, "headers": headers}


def _gzipped_pieces(pieces: Iterable[bytes]) -> Iterator[bytes]:
    deflater = zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_WBITS)
    for piece in pieces:
        if out := deflater.compress(piece):
            yield out
    yield deflater.flush()


def joined(answer: Answer) -> Answer:
    """The answer with its pieces in one."""
    if answer.pieces is None:
        return answer
    return answer._replace(body=b"".join(answer.pieces), pieces=None)
