"""How is a JSON body read strictly, with texts that say what and where?

A `Node` is one value of the body and its path. Reading has two kinds of failure, as in
Qdrant: a value of the wrong type raises at once (400, `Format error`), while a value of
the right type that breaks a rule is noted in `Rules` and reported with all others once
the whole body was read (422, `Validation error`).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeVar

import orjson

from headrace.model.errors import InvalidBody, MalformedInput
from headrace.model.payload_path import parse_payload_path

# How deep arrays and objects may nest: the limit of serde_json, which Qdrant parses with.
JSON_DEPTH_MAX = 128

U32_MAX = 2**32 - 1
U64_MAX = 2**64 - 1
I64_MIN, I64_MAX = -(2**63), 2**63 - 1

_T = TypeVar("_T")
_E = TypeVar("_E", bound=StrEnum)


class FormatError(MalformedInput):
    """The body is not JSON, or a value in it has the wrong type.

    Attributes:
        path: where in the body; "" for the body itself.
        reason: what is wrong there.
    """

    def __init__(self, reason: str, path: str = "") -> None:
        self.reason = reason
        self.path = path
        where = f"{path}: " if path else ""
        super().__init__(f"Format error in JSON body: {where}{reason}")


class Rules:
    """The rules that a well-typed request part breaks, collected while it is read.

    Args:
        part: what was read, as error texts name it.
    """

    def __init__(self, part: str = "JSON body") -> None:
        self._part = part
        self._broken: list[str] = []

    def broken(self, path: str, text: str) -> None:
        """Note that the value at `path` breaks a rule."""
        self._broken.append(f"{path}: {text}")

    def check(self) -> None:
        """Report what was noted.

        Raises:
            InvalidBody: something was.
        """
        if self._broken:
            raise InvalidBody(f"Validation error in {self._part}: [{'; '.join(self._broken)}]")


class Node:
    """One value of a JSON body, as `orjson` decodes it.

    Attributes:
        value: the decoded value.
        path: where it is, such as `filter.must[0].key`; "" for the body itself.
        rules: collects broken rules of the whole body.
    """

    __slots__ = ("path", "rules", "value")

    def __init__(self, value: Any, path: str, rules: Rules) -> None:
        self.value = value
        self.path = path
        self.rules = rules

    def format_error(self, reason: str) -> FormatError:
        """The error to raise when the value has the wrong type."""
        return FormatError(reason, self.path)

    def broken(self, text: str) -> None:
        """Note that the value breaks a rule."""
        self.rules.broken(self.path, text)

    def wrong_type(self, expected: str) -> FormatError:
        """The error to raise when the value is of another type than `expected`."""
        return self.format_error(f"invalid type: {describe(self.value)}, expected {expected}")

    # Objects and arrays

    def members(self) -> dict[str, Any]:
        """The members of an object, undecoded further."""
        if type(self.value) is not dict:
            raise self.wrong_type("a map")
        members: dict[str, Any] = self.value
        return members

    def has(self, name: str) -> bool:
        """Whether an object has a member, null or not."""
        return name in self.members()

    def get(self, name: str, *aliases: str) -> Node | None:
        """A member of an object; None if it is missing or null."""
        members = self.members()
        for spelling in (name, *aliases):
            value = members.get(spelling)
            if value is not None:
                return self._child(value, name)
        return None

    def require(self, name: str, *aliases: str) -> Node:
        """A member that must be there; it may be null, which its reader then refuses."""
        members = self.members()
        for spelling in (name, *aliases):
            if spelling in members:
                return self._child(members[spelling], name)
        raise self.format_error(f"missing field `{name}`")

    def elements(self) -> list[Node]:
        """The elements of an array."""
        if type(self.value) is not list:
            raise self.wrong_type("a sequence")
        return [
            Node(value, f"{self.path}[{position}]", self.rules)
            for position, value in enumerate(self.value)
        ]

    def entries(self) -> list[tuple[str, Node]]:
        """The members of an object as nodes; a map's keys collapse to `?` in paths."""
        return [(name, self._child(value, "?")) for name, value in self.members().items()]

    def deny_unknown(self, *known: str) -> None:
        """Refuse members with other names, where Qdrant does."""
        for name in self.members():
            if name not in known:
                expected = ", ".join(f"`{one}`" for one in known)
                raise self.format_error(f"unknown field `{name}`, expected one of {expected}")

    def _child(self, value: Any, name: str) -> Node:
        return Node(value, f"{self.path}.{name}" if self.path else name, self.rules)

    # Scalars

    def text(self) -> str:
        """A string."""
        if type(self.value) is not str:
            raise self.wrong_type("a string")
        return str(self.value)

    def boolean(self) -> bool:
        """true or false."""
        if type(self.value) is not bool:
            raise self.wrong_type("a boolean")
        return bool(self.value)

    def unsigned(self, bound: int = U64_MAX, minimum: int = 0, maximum: int | None = None) -> int:
        """An integer from 0 to `bound`, by rule from `minimum` to `maximum`."""
        if type(self.value) is not int:
            raise self.wrong_type(_UNSIGNED[bound])
        value = int(self.value)
        if not 0 <= value <= bound:
            reason = f"invalid value: {describe(value)}, expected {_UNSIGNED[bound]}"
            raise self.format_error(reason)
        self._check_range(value, minimum, maximum)
        return value

    def number(self, minimum: float | None = None, maximum: float | None = None) -> float:
        """A number, integers included, as float64."""
        if type(self.value) not in (int, float):
            raise self.wrong_type("f64")
        value = float(self.value)
        self._check_range(value, minimum, maximum)
        return value

    def one_of(self, kinds: type[_E]) -> _E:
        """A string that is a value of an enumeration."""
        text = self.text()
        try:
            return kinds(text)
        except ValueError:
            expected = ", ".join(f"`{kind.value}`" for kind in kinds)
            reason = f"unknown variant `{text}`, expected one of {expected}"
            raise self.format_error(reason) from None

    def payload_path(self) -> str:
        """A payload path, in its canonical text."""
        text = self.text()
        try:
            return str(parse_payload_path(text))
        except MalformedInput as error:
            raise self.format_error(error.detail) from None

    def _check_range(
        self, value: float, minimum: float | None = None, maximum: float | None = None
    ) -> None:
        if (minimum is None or value >= minimum) and (maximum is None or value <= maximum):
            return
        if maximum is None:
            self.broken(f"value {value} invalid, must be {minimum} or larger")
        else:
            self.broken(f"value {value} invalid, must be from {minimum} to {maximum}")


_UNSIGNED = {U32_MAX: "u32", U64_MAX: "u64"}


def read_body(body: bytes, reader: Callable[[Node], _T], path: str = "") -> _T:
    """Decode a body and read it whole.

    Args:
        body: the bytes of a request.
        reader: reads the body's value.
        path: what Qdrant prefixes to paths in this body, such as `scroll_request`.

    Raises:
        FormatError: not JSON, nested too deep, or of a wrong type.
        InvalidBody: well typed, but it breaks rules.
    """
    rules = Rules()
    result = reader(Node(decode_json(body), path, rules))
    rules.check()
    return result


def decode_json(body: bytes) -> Any:
    """The value of a JSON text; integers beyond 64 bits become floats, as in serde_json.

    Raises:
        FormatError: not JSON, or nested deeper than `JSON_DEPTH_MAX`.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise FormatError(f"{error.msg} at line {error.lineno} column {error.colno}") from None
    if body.count(b"[") + body.count(b"{") > JSON_DEPTH_MAX:
        check_depth(value)
    return value


def check_depth(value: Any) -> None:
    """Refuse a value that nests deeper than `JSON_DEPTH_MAX`.

    Raises:
        FormatError: it does.
    """
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(JSON_DEPTH_MAX):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return
    raise FormatError("recursion limit exceeded")


def describe(value: Any) -> str:
    """A value as serde's texts name it."""
    match value:
        case None:
            return "null"
        case bool():
            return f"boolean `{str(value).lower()}`"
        case int():
            return f"integer `{value}`"
        case float():
            return f"floating point `{value}`"
        case str():
            return f'string "{_shortened(value)}"'
        case list():
            return "sequence"
        case _:
            return "map"


def _shortened(text: str, chars_max: int = 200) -> str:
    """Long enough to recognise, short enough for a log line."""
    return text if len(text) <= chars_max else text[:chars_max] + "…"
