"""Which rules may a well-formed message break, and what does it carry that is not supported?

Protobuf checks types alone. Rules about values are checked here, and so is every field
that this version does nothing with: a reader names the fields that it handles, and a
message that sets any other is refused. So a field that a later `qdrant-client` brings is
refused until it is handled, not left out in silence.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import orjson
from google.protobuf.message import Message
from qdrant_client import grpc as qdrant

from headrace.model.errors import HeadraceError, InvalidBody, MalformedInput
from headrace.model.names import collection_name_problems
from headrace.model.payload_path import parse_payload_path
from headrace.server.errors import not_supported
from headrace.server.rest.body import FormatError

_T = TypeVar("_T")

# What any request may carry. One node satisfies every consistency and ordering that can
# be asked for; the timeout is kept where calls are answered.
ENVELOPE = frozenset({"collection_name", "wait", "ordering", "read_consistency", "timeout"})


def refuse_other_fields(
    message: Message, *handled: str, envelope: frozenset[str] = ENVELOPE
) -> None:
    """Refuse a message that sets a field which its reader does not handle.

    Args:
        message: a request, or a part of one.
        handled: the fields that its reader acts on.
        envelope: fields that are handled for all requests.

    Raises:
        BadRequest: it sets another one.
    """
    for field, _ in message.ListFields():
        if field.name not in handled and field.name not in envelope:
            raise not_supported(f"`{field.name}`")


def check_collection_name(name: str) -> str:
    """The name of a collection that may be there.

    Raises:
        InvalidBody: no collection can have it.
    """
    return _check_name(name)


def check_new_collection_name(name: str) -> str:
    """The name of a collection that is to be made, for which Qdrant is stricter.

    Raises:
        InvalidBody: no new collection can have it.
    """
    return _check_name(name, new=True)


def refuse_shard_keys(
    selector: qdrant.ShardKeySelector, refusal: Callable[[str], HeadraceError]
) -> None:
    """Refuse a choice of shards: no collection here has shards to choose from.

    Args:
        selector: of the request; empty if it has none.
        refusal: the error that Qdrant raises: `WrongInput` for writes, `BadRequest` for reads.

    Raises:
        HeadraceError: the refusal.
    """
    shard_keys = [*selector.shard_keys]
    if selector.HasField("fallback"):
        shard_keys.append(selector.fallback)
    for shard_key in shard_keys:
        name = shard_key.WhichOneof("key")
        shown = getattr(shard_key, name) if name else ""
        raise refusal(f"Shard key {shown} not found")


def broken_rule(path: str, text: str) -> InvalidBody:
    """The refusal of a value of the right type, in the words of Qdrant's gRPC front."""
    return InvalidBody(f"Validation error in body: [{path}: {text}]")


def read_as_json(
    parse: Callable[[bytes], _T], value: Any, names: Mapping[str, str] | None = None
) -> _T:
    """What REST's reader makes of JSON that says the same as a message.

    Args:
        parse: REST's reader.
        value: what it reads.
        names: what members of the body are called in the message, where that differs.

    Raises:
        MalformedInput, InvalidBody: as `parse`, in words about a message.
        HeadraceError: whatever else `parse` raises.
    """
    try:
        return parse(orjson.dumps(value))
    except FormatError as error:
        where = f"{_renamed(error.path, names)}: " if error.path else ""
        raise MalformedInput(where + error.reason) from None
    except InvalidBody as error:
        paths = error.message.removeprefix("Validation error in JSON body: [")
        renamed = "; ".join(_renamed(one, names) for one in paths.split("; "))
        raise InvalidBody(f"Validation error in body: [{renamed}") from None


def check_at_least(path: str, value: float, minimum: float) -> None:
    """Refuse a number below a bound, or one that is not a number.

    Raises:
        InvalidBody: it is.
    """
    if not value >= minimum:
        raise broken_rule(path, f"value {value} invalid, must be {minimum} or larger")


def check_between(path: str, value: float, minimum: float, maximum: float) -> None:
    """Refuse a number outside two bounds, or one that is not a number.

    Raises:
        InvalidBody: it is.
    """
    if not minimum <= value <= maximum:
        raise broken_rule(path, f"value {value} invalid, must be from {minimum} to {maximum}")


def check_is_number(path: str, value: float) -> None:
    """Refuse NaN, which JSON cannot say and no comparison is true of.

    Raises:
        InvalidBody: it is NaN.
    """
    if math.isnan(value):
        raise broken_rule(path, "value NaN invalid, must be a number")


def canonical_path(text: str) -> str:
    """A payload path in its canonical text.

    Raises:
        MalformedInput: it is none.
    """
    return str(parse_payload_path(text))


def _renamed(path: str, names: Mapping[str, str] | None) -> str:
    for member, field in (names or {}).items():
        if re.match(rf"{member}\b", path):
            return field + path.removeprefix(member)
    return path


def _check_name(name: str, new: bool = False) -> str:
    for problem in collection_name_problems(name, new):
        raise broken_rule("collection_name", problem)
    return name
