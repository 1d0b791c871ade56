"""Which bodies does a worker take?

Those that Kafka Connect takes, JSON that says so, up to a size that no configuration needs. A
page in somebody's browser can send everything else without asking, to this API without a key.
"""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request

BODY_BYTES_MAX: Final = 1024 * 1024
# As long as the whole of it may take: the largest comes at 35 kB a second.
BODY_TIMEOUT_S: Final = 30.0


async def read_body(request: Request) -> bytes:
    """The whole body of a request; empty if it has none.

    Raises:
        HTTPException: 408 if it does not come to its end in time, 413 if it is too large, 415
            if it is not said to be JSON; the rest of it is not read.
    """
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await _read_whole(request)
    except TimeoutError:
        raise _unread(
            408, f"Request Timeout: the body did not come to its end in {BODY_TIMEOUT_S:g} s"
        ) from None


async def _read_whole(request: Request) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > BODY_BYTES_MAX:
        raise _too_large()
    content_type = request.headers.get("content-type", "").partition(";")[0].strip()
    body = bytearray()
    async for chunk in request.stream():
        if chunk and content_type.lower() != "application/json":
            raise _not_json(content_type)
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise _too_large()
    return bytes(body)


def _too_large() -> HTTPException:
    return _unread(413, f"Request Entity Too Large: a body has at most {BODY_BYTES_MAX} bytes")


def _not_json(content_type: str) -> HTTPException:
    found = f"not {content_type[:100]}" if content_type else "which its Content-Type must say"
    return _unread(415, f"Unsupported Media Type: a body must be application/json, {found}")


def _unread(status: int, detail: str) -> HTTPException:
    # What still comes on this connection would be taken for the next request, or be read in vain.
    return HTTPException(status, detail, {"connection": "close"})
