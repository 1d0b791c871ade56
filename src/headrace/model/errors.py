"""What can go wrong, named by who must act.

Every error a user can meet is a `HeadraceError`: a code, typed fields, and a message
built from those fields. The texts follow Qdrant's, since people match on them. The
server maps `code` to HTTP and gRPC in one table; nobody branches on text.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar


class ErrorCode(Enum):
    """Who acts: the caller, the caller later, the caller again, or the operator."""

    BAD_INPUT = "bad_input"
    INVALID_BODY = "invalid_body"
    NOT_FOUND = "not_found"
    ALREADY_EXISTS = "already_exists"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_SUPPORTED = "not_supported"
    RATE_LIMITED = "rate_limited"
    NO_SPACE = "no_space"
    TIMEOUT = "timeout"
    UNAVAILABLE = "unavailable"
    CORRUPT = "corrupt"
    STORAGE_FAILED = "storage_failed"
    INTERNAL = "internal"


class HeadraceError(Exception):
    """Base of every error that Headrace reports on purpose."""

    code: ClassVar[ErrorCode] = ErrorCode.INTERNAL
    prefix: ClassVar[str] = ""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(self.prefix + detail)

    @property
    def message(self) -> str:
        """The text a client reads, prefix included."""
        return self.prefix + self.detail


class WrongInput(HeadraceError):
    """The request cannot be applied to this collection."""

    code = ErrorCode.BAD_INPUT
    prefix = "Wrong input: "


class BadRequest(HeadraceError):
    """The request contradicts itself or a limit."""

    code = ErrorCode.BAD_INPUT
    prefix = "Bad request: "


class MalformedInput(HeadraceError):
    """Input that does not parse: JSON, a type, a path. Qdrant answers 400."""

    code = ErrorCode.BAD_INPUT


class InvalidBody(HeadraceError):
    """A well-typed request that breaks a rule. Qdrant answers 422."""

    code = ErrorCode.INVALID_BODY


class NotFound(HeadraceError):
    """A collection, point or vector that is not there."""

    code = ErrorCode.NOT_FOUND
    prefix = "Not found: "


class AlreadyExists(HeadraceError):
    """A name that is taken."""

    code = ErrorCode.ALREADY_EXISTS
    prefix = "Wrong input: "


class Forbidden(HeadraceError):
    """The caller is known, and may not."""

    code = ErrorCode.FORBIDDEN
    prefix = "Forbidden: "


class NotSupported(HeadraceError):
    """A route that only a cluster has."""

    code = ErrorCode.NOT_SUPPORTED


class RateLimited(HeadraceError):
    """Too many requests; try again after `retry_after_s` seconds."""

    code = ErrorCode.RATE_LIMITED
    prefix = "Rate limiting exceeded: "

    def __init__(self, detail: str, retry_after_s: int) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(detail)


class NoSpace(HeadraceError):
    """The disk is full: reads go on, writes resume by themselves when there is room."""

    code = ErrorCode.NO_SPACE
    prefix = "Insufficient storage: "


class TimedOut(HeadraceError):
    """The request took longer than it was given."""

    code = ErrorCode.TIMEOUT
    prefix = "Timeout: "


class Unavailable(HeadraceError):
    """Not now: shutting down, or overloaded. Call again."""

    code = ErrorCode.UNAVAILABLE


class StorageFailed(HeadraceError):
    """The disk failed a write or a sync; the collection refuses writes until reopened."""

    code = ErrorCode.STORAGE_FAILED
    prefix = "Service internal error: "


class DirectoryInUse(HeadraceError):
    """Another process owns the data directory."""

    code = ErrorCode.UNAVAILABLE

    def __init__(self, path: str, holder_pid: int | None) -> None:
        self.path = path
        self.holder_pid = holder_pid
        holder = f"process {holder_pid}" if holder_pid else "another process"
        super().__init__(
            f"The data directory {path} is in use by {holder}: stop it, or open another directory"
        )


class CorruptFile(HeadraceError):
    """A stored file is not what was written: never served, never guessed at.

    Attributes:
        path: the damaged file.
        byte_offset: where the damage begins, in bytes from the file's start.
        expected: what should be there, as text.
        found: what is there, as text.
    """

    code = ErrorCode.CORRUPT
    prefix = "Service internal error: "
    _what: ClassVar[str] = "corrupt file"
    _advice: ClassVar[str] = (
        "`headrace check` names all damage of a directory; restore a snapshot, or keep what is "
        "whole with `headrace repair`"
    )

    def __init__(self, path: str, byte_offset: int, expected: str, found: str) -> None:
        self.path = path
        self.byte_offset = byte_offset
        self.expected = expected
        self.found = found
        super().__init__(
            f"{self._what} {path} at byte {byte_offset}: expected {expected}, found {found} "
            f"({self._advice})"
        )


class NewerFormat(CorruptFile):
    """A stored file says that it is of a format that only newer versions know.

    It is a `CorruptFile`, since a damaged version number looks the same.
    """

    _what = "unknown format of"
    _advice = (
        "a newer version of Headrace wrote it: open the directory with that one, this one would "
        "lose what it does not know"
    )

    def __init__(self, path: str, version: int, version_max: int) -> None:
        super().__init__(path, 0, f"format version {version_max}", f"format version {version}")


def collection_not_found(collection_name: str) -> NotFound:
    """Qdrant's text for a missing collection."""
    return NotFound(f"Collection `{collection_name}` doesn't exist!")


def point_not_found(point_id: object) -> NotFound:
    """Qdrant's text for an explicit id that a write names and that is not stored."""
    return NotFound(f"No point with id {point_id} found")


class WrongVectorDimension(WrongInput):
    """A vector whose length is not the collection's.

    Attributes:
        expected_dim: the collection's.
        dim: the vector's.
        vector_name: "" for the default vector.
        point_id: the point that carries it, if known.
    """

    def __init__(
        self, expected_dim: int, dim: int, vector_name: str = "", point_id: object = None
    ) -> None:
        self.expected_dim = expected_dim
        self.dim = dim
        self.vector_name = vector_name
        self.point_id = point_id
        where = f" for vector '{vector_name}'" if vector_name else ""
        which = f" (point {point_id})" if point_id is not None else ""
        super().__init__(
            f"Vector dimension error: expected dim: {expected_dim}, got {dim}{where}{which}"
        )


class UnknownVectorName(WrongInput):
    """A vector name that the collection does not have."""

    def __init__(self, vector_name: str, point_id: object = None) -> None:
        self.vector_name = vector_name
        self.point_id = point_id
        which = f" (point {point_id})" if point_id is not None else ""
        super().__init__(f"Not existing vector name error: {vector_name}{which}")


class InvalidVector(WrongInput):
    """A vector that cannot be stored whatever its dimension: empty, not finite, wrong kind.

    Attributes:
        vector_name: "" for the default vector.
        point_id: the point that carries it, if known.
        reason: what is wrong with it, naming the element where there is one.
    """

    def __init__(self, reason: str, vector_name: str = "", point_id: object = None) -> None:
        self.reason = reason
        self.vector_name = vector_name
        self.point_id = point_id
        where = f" in vector '{vector_name}'" if vector_name else ""
        which = f" of point {point_id}" if point_id is not None else ""
        super().__init__(f"{reason}{where}{which}")
