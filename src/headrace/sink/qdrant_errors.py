"""Who must act when a remote Qdrant answers with an error?

One table from HTTP status and one from gRPC status to Headrace's errors. What a server
does not explain is taken for its own trouble, and tried again: a record is refused only
when the server says that the request is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import grpc
import httpx
import orjson
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from headrace.model.errors import (
    AlreadyExists,
    Forbidden,
    HeadraceError,
    MalformedInput,
    NoSpace,
    NotFound,
    NotSupported,
    RateLimited,
    TimedOut,
    Unavailable,
)
from headrace.sink.errors import RequestTooLarge, Unauthenticated

_BY_STATUS: Final[dict[int, type[HeadraceError]]] = {
    400: MalformedInput,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    405: NotSupported,
    408: TimedOut,
    409: AlreadyExists,
    413: RequestTooLarge,
    422: MalformedInput,
    507: NoSpace,
}
_BY_GRPC_CODE: Final[dict[grpc.StatusCode, type[HeadraceError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: MalformedInput,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: Forbidden,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    # What Qdrant, and other servers in Rust, answer to a message that is too large.
    grpc.StatusCode.OUT_OF_RANGE: RequestTooLarge,
    grpc.StatusCode.UNIMPLEMENTED: NotSupported,
    grpc.StatusCode.DEADLINE_EXCEEDED: TimedOut,
}
_REFUSES_CLIENT: Final = (Unauthenticated, Forbidden)
_BODY_CHARACTERS_MAX: Final = 300


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise what the client raises as Headrace's errors.

    Raises:
        HeadraceError: by the tables above; `Unavailable` for all else.
    """
    try:
        yield
    except ResourceExhaustedResponse as error:
        raise RateLimited(error.message, error.retry_after_s) from None
    except UnexpectedResponse as error:
        raise _from_response(error) from None
    except ResponseHandlingException as error:
        # Not when connecting: a server that is away would not take less, either.
        too_slow = isinstance(error.source, httpx.ReadTimeout | httpx.WriteTimeout)
        kind = TimedOut if too_slow else Unavailable
        raise kind(f"The server does not answer: {error.source}") from None
    except grpc.RpcError as error:
        raise _from_rpc_error(error) from None


def _from_response(error: UnexpectedResponse) -> HeadraceError:
    status = error.status_code or 0
    detail = _without_prefix(_response_text(error))
    if status == 429:
        return RateLimited(detail, 0)
    return _with_advice(_BY_STATUS.get(status, Unavailable), detail)


def _from_rpc_error(error: grpc.RpcError) -> HeadraceError:
    code = error.code()
    detail = _without_prefix(error.details() or code.name)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return RateLimited(detail, 0)
    return _with_advice(_BY_GRPC_CODE.get(code, Unavailable), detail)


def _with_advice(kind: type[HeadraceError], detail: str) -> HeadraceError:
    if kind in _REFUSES_CLIENT:
        detail = (
            f"{detail.rstrip('.')}. Set qdrant.api.key to a key that may write into the "
            "collection, and restart the connector"
        )
    return kind(detail)


def _response_text(error: UnexpectedResponse) -> str:
    try:
        return str(orjson.loads(error.content)["status"]["error"])
    except (ValueError, KeyError, TypeError):
        text = error.content.decode("utf-8", "replace").strip()[:_BODY_CHARACTERS_MAX]
        return text or f"HTTP status {error.status_code}"


def _without_prefix(text: str) -> str:
    """The text without the prefix that Headrace's error puts before it again."""
    prefixes = {error.prefix for error in {*_BY_STATUS.values(), *_BY_GRPC_CODE.values()}}
    prefix = next((one for one in prefixes if one and text.startswith(one)), "")
    return text.removeprefix(prefix)
