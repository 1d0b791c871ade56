"""How is an error told to a client of either protocol?

The one table from `ErrorCode` to an HTTP status and a gRPC status code. REST and gRPC
both read it, so the two can never disagree.
"""

from __future__ import annotations

from typing import NamedTuple

import grpc

from headrace.model.errors import BadRequest, ErrorCode, HeadraceError

# What a client is told when the fault is ours; the cause goes to the server's log alone.
UNEXPECTED_ERROR_TEXT = "Service internal error: unexpected error, see the server's log"


class WireStatus(NamedTuple):
    """The status of one kind of error, as each protocol says it."""

    http: int
    grpc: grpc.StatusCode


WIRE_STATUS: dict[ErrorCode, WireStatus] = {
    ErrorCode.BAD_INPUT: WireStatus(400, grpc.StatusCode.INVALID_ARGUMENT),
    ErrorCode.INVALID_BODY: WireStatus(422, grpc.StatusCode.INVALID_ARGUMENT),
    ErrorCode.NOT_FOUND: WireStatus(404, grpc.StatusCode.NOT_FOUND),
    ErrorCode.ALREADY_EXISTS: WireStatus(409, grpc.StatusCode.ALREADY_EXISTS),
    ErrorCode.UNAUTHENTICATED: WireStatus(401, grpc.StatusCode.UNAUTHENTICATED),
    ErrorCode.FORBIDDEN: WireStatus(403, grpc.StatusCode.PERMISSION_DENIED),
    ErrorCode.NOT_SUPPORTED: WireStatus(405, grpc.StatusCode.UNIMPLEMENTED),
    ErrorCode.RATE_LIMITED: WireStatus(429, grpc.StatusCode.RESOURCE_EXHAUSTED),
    ErrorCode.NO_SPACE: WireStatus(507, grpc.StatusCode.RESOURCE_EXHAUSTED),
    ErrorCode.TIMEOUT: WireStatus(408, grpc.StatusCode.DEADLINE_EXCEEDED),
    ErrorCode.UNAVAILABLE: WireStatus(503, grpc.StatusCode.UNAVAILABLE),
    ErrorCode.CORRUPT: WireStatus(500, grpc.StatusCode.INTERNAL),
    ErrorCode.STORAGE_FAILED: WireStatus(500, grpc.StatusCode.INTERNAL),
    ErrorCode.INTERNAL: WireStatus(500, grpc.StatusCode.INTERNAL),
}


def wire_status(error: HeadraceError) -> WireStatus:
    """The HTTP status and the gRPC status code with which `error` is answered."""
    return WIRE_STATUS[error.code]


def not_supported(feature: str) -> BadRequest:
    """The refusal of a feature of Qdrant that this version lacks: nothing is left out silently.

    Args:
        feature: as the caller spelled it, such as "`prefetch`".
    """
    return BadRequest(f"{feature} is not supported in this version of Headrace")
