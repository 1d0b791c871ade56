"""What may stand in a request's path and query string?

Texts and order follow Qdrant: a value that does not parse is a 400 (`Deserialize
error`), one that breaks a rule a 422 (`Validation error`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

from headrace.model.errors import MalformedInput, WrongInput
from headrace.model.ids import POINT_ID_NUMBER_MAX, PointId, parse_uuid
from headrace.model.names import collection_name_problems
from headrace.server.rest.body import U64_MAX, Rules

_WRITE_ORDERINGS = ("weak", "medium", "strong")
_READ_CONSISTENCIES = ("majority", "quorum", "all", "")


class WriteParameters(NamedTuple):
    """How a write is answered.

    Attributes:
        wait: answer "completed" rather than "acknowledged"; both are durable by then.
        timeout_s: with `wait`, answer "wait_timeout" if it takes longer.
    """

    wait: bool
    timeout_s: int | None


def collection_name(path_parameters: Mapping[str, str], new: bool = False) -> str:
    """The collection's name in a path.

    Args:
        path_parameters: percent-encoded, as the route matched them.
        new: whether a collection of this name is to be made, for which Qdrant is stricter.

    Raises:
        MalformedInput: not UTF-8.
        InvalidBody: a name that no collection can have.
    """
    name = path_parameter(path_parameters, "collection_name")
    rules = Rules("path parameters")
    for problem in collection_name_problems(name, new):
        rules.broken("name", problem)
    rules.check()
    return name


def path_parameter(path_parameters: Mapping[str, str], name: str) -> str:
    """One part of the path, percent-decoded.

    Raises:
        MalformedInput: not UTF-8.
    """
    try:
        return unquote(path_parameters[name], errors="strict")
    except UnicodeDecodeError as error:
        raise MalformedInput(f"Deserialize error in path parameters: {error}") from None


def point_id(path_parameters: Mapping[str, str]) -> PointId:
    """The point id in a path: digits are a number, else it must spell a UUID.

    Raises:
        WrongInput: it is neither.
    """
    text = path_parameter(path_parameters, "id")
    if text.isascii() and text.isdigit() and int(text) <= POINT_ID_NUMBER_MAX:
        return int(text)
    uuid = parse_uuid(text)
    if uuid is None:
        raise WrongInput(f'Can not recognize "{text}" as point id')
    return uuid


def write_parameters(query_string: bytes) -> WriteParameters:
    """`wait`, `ordering` and `timeout` of a write; the ordering says nothing on one node.

    Raises:
        MalformedInput: one of them does not parse.
    """
    values = _parse(query_string)
    ordering = values.get("ordering", "weak")
    if ordering not in _WRITE_ORDERINGS:
        expected = ", ".join(f"`{one}`" for one in _WRITE_ORDERINGS)
        raise _malformed(f"unknown variant `{ordering}`, expected one of {expected}")
    return WriteParameters(_boolean(values.get("wait", "false")), _timeout(values, _non_zero))


def read_timeout_s(query_string: bytes) -> int | None:
    """`timeout` of a read; `consistency` is checked, and says nothing on one node.

    Raises:
        MalformedInput: one of them does not parse.
    """
    values = _parse(query_string)
    consistency = values.get("consistency", "")
    if consistency not in _READ_CONSISTENCIES and _unsigned_or_none(consistency) in (None, 0):
        raise _malformed("failed to deserialize read consistency query parameter value")
    return _timeout(values, _non_zero)


def integer_parameter(query_string: bytes, name: str, default: int) -> int:
    """A number in a query string.

    Raises:
        MalformedInput: it is none.
    """
    text = _parse(query_string).get(name)
    return default if text is None else _unsigned(text)


def boolean_parameter(query_string: bytes, name: str, default: bool = False) -> bool:
    """true or false in a query string.

    Raises:
        MalformedInput: it is neither.
    """
    text = _parse(query_string).get(name)
    return default if text is None else _boolean(text)


def text_parameter(query_string: bytes, name: str, default: str = "") -> str:
    """A text in a query string.

    Raises:
        MalformedInput: the query string does not parse.
    """
    return _parse(query_string).get(name, default)


def collection_timeout_s(query_string: bytes) -> int | None:
    """`timeout` of a change to a collection.

    Raises:
        MalformedInput: it does not parse.
        InvalidBody: it is 0.
    """
    timeout_s = _timeout(_parse(query_string), _unsigned)
    if timeout_s == 0:
        rules = Rules("query parameters")
        rules.broken("timeout", "value 0 invalid, must be 1 or larger")
        rules.check()
    return timeout_s


def timeout_hint_s(query_string: bytes) -> int | None:
    """`timeout`, if there is a good one: how long to wait, before anything else was read."""
    if b"timeout" not in query_string:
        return None
    try:
        return _timeout(_parse(query_string), _unsigned) or None
    except MalformedInput:
        return None


def _parse(query_string: bytes) -> dict[str, str]:
    if not query_string:
        return {}
    try:
        pairs = parse_qsl(query_string.decode(), keep_blank_values=True, errors="strict")
    except ValueError as error:
        raise _malformed(str(error)) from None
    values: dict[str, str] = {}
    for name, value in pairs:
        if name in values:
            raise _malformed(f"duplicate field `{name}`")
        values[name] = value
    return values


def _timeout(values: Mapping[str, str], read: Callable[[str], int]) -> int | None:
    text = values.get("timeout")
    return None if text is None else read(text)


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise _malformed("provided string was not `true` or `false`")
    return text == "true"


def _non_zero(text: str) -> int:
    value = _unsigned(text)
    if value == 0:
        raise _malformed("invalid value: integer `0`, expected a nonzero u64")
    return value


def _unsigned(text: str) -> int:
    value = _unsigned_or_none(text)
    if value is None:
        reason = (
            "invalid digit found in string" if text else "cannot parse integer from empty string"
        )
        raise _malformed(reason)
    return value


def _unsigned_or_none(text: str) -> int | None:
    if not (text.isascii() and text.isdigit()) or len(text) > 20 or int(text) > U64_MAX:
        return None
    return int(text)


def _malformed(reason: str) -> MalformedInput:
    return MalformedInput(f"Deserialize error in query parameters: {reason}")
