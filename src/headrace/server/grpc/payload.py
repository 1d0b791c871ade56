"""How does a payload, stored as JSON, cross the wire as `Value` messages?

A `Value` tells integers from doubles, so `1` and `1.0` both come back as they were sent.
Its integers are signed 64-bit: larger ones, which JSON may hold, leave as doubles.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping
from typing import Any

import orjson
from qdrant_client import grpc as qdrant

from headrace.model.errors import BadRequest, MalformedInput
from headrace.model.operations import PayloadJson

# Readers of protobuf give up below 100 nested messages. An answer, its point and the
# payload's entry take three; an object inside takes three more, an array two.
_MESSAGE_DEPTH_MAX = 100
_ANSWER_DEPTH = 3
_OBJECT_DEPTH = 3
_ARRAY_DEPTH = 2

_I64_MIN, _I64_MAX = -(2**63), 2**63 - 1


def read_payload(fields: Mapping[str, qdrant.Value]) -> PayloadJson:
    """The JSON object of a payload map.

    Raises:
        MalformedInput: a number is not finite.
    """
    return orjson.dumps(read_object(fields))


def read_object(fields: Mapping[str, qdrant.Value]) -> dict[str, Any]:
    """The decoded JSON object of a payload map.

    Raises: as `read_payload`.
    """
    return {name: _read_value(value) for name, value in fields.items()}


def write_payload_into(payload: PayloadJson, fields: MutableMapping[str, qdrant.Value]) -> None:
    """Put a stored payload into the payload map of an answer.

    Raises:
        BadRequest: the payload nests deeper than a reader of protobuf follows.
    """
    write_object_into(orjson.loads(payload), fields)


def write_object_into(
    members: Mapping[str, Any],
    fields: MutableMapping[str, qdrant.Value],
    message_depth: int = _ANSWER_DEPTH,
) -> None:
    """Put a decoded JSON object into a payload map.

    Raises: as `write_payload_into`.
    """
    for name, member in members.items():
        _write_value_into(member, fields[name], message_depth)


def _read_value(value: qdrant.Value) -> Any:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "integer_value":
            return value.integer_value
        case "double_value":
            if not math.isfinite(value.double_value):
                raise MalformedInput("cannot convert to json number")
            return value.double_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return read_object(value.struct_value.fields)
        case "list_value":
            return [_read_value(element) for element in value.list_value.values]
        case _:
            return None


def _write_value_into(json_value: Any, value: qdrant.Value, message_depth: int) -> None:
    if message_depth > _MESSAGE_DEPTH_MAX:
        raise BadRequest("A payload nests too deep for gRPC; read it through REST")
    match json_value:
        case str():
            value.string_value = json_value
        case bool():
            value.bool_value = json_value
        case int():
            if _I64_MIN <= json_value <= _I64_MAX:
                value.integer_value = json_value
            else:
                value.double_value = float(json_value)
        case float():
            value.double_value = json_value
        case dict():
            value.struct_value.SetInParent()
            write_object_into(json_value, value.struct_value.fields, message_depth + _OBJECT_DEPTH)
        case list():
            value.list_value.SetInParent()
            elements = value.list_value.values
            for element in json_value:
                _write_value_into(element, elements.add(), message_depth + _ARRAY_DEPTH)
        case _:
            value.null_value = qdrant.NULL_VALUE
