"""What value does a JSON payload with a Kafka Connect schema beside it stand for?

With `schemas.enable=true` a JSON record is `{"schema": .., "payload": ..}`. The schema
checks the payload and fills in defaults; what comes out is plain JSON again.
Source of the rules: `org.apache.kafka.connect.json.JsonConverter`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Final

from headrace.sink.json_value import JsonValue

_INTEGER_BITS: Final = {"int8": 8, "int16": 16, "int32": 32, "int64": 64}


class SchemaMismatch(Exception):
    """A payload is not what its schema says, or the schema is none."""


def convert_with_schema(schema: JsonValue, payload: JsonValue) -> JsonValue:
    """The plain value of a payload, checked against its schema; no schema, no check.

    Raises:
        SchemaMismatch: with a text that names the field.
    """
    return payload if schema is None else _convert(schema, payload, "payload")


def _convert(schema: JsonValue, value: JsonValue, where: str) -> JsonValue:
    if not isinstance(schema, dict) or not isinstance(schema.get("type"), str):
        raise SchemaMismatch(f"The schema of {where} has no 'type'")
    if schema.get("name") is not None and schema["type"] != "struct":
        raise SchemaMismatch(f"The logical type {schema['name']} of {where} is not supported")
    if value is None:
        return _default(schema, where)
    type_name = str(schema["type"])
    if type_name in _INTEGER_BITS:
        return _integer(value, _INTEGER_BITS[type_name], where)
    converter = _CONVERTERS.get(type_name)
    if converter is None:
        raise SchemaMismatch(f"The schema type '{type_name}' of {where} is unknown")
    return converter(schema, value, where)


def _default(schema: dict[str, JsonValue], where: str) -> JsonValue:
    if schema.get("default") is not None:
        return _convert(schema, schema["default"], where)
    if schema.get("optional") is True:
        return None
    raise SchemaMismatch(f"Invalid null value for required {schema['type']} field {where}")


def _integer(value: JsonValue, bits: int, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not _fits(value, bits):
        raise SchemaMismatch(f"{where} is not an int{bits}")
    return value


def _fits(value: int, bits: int) -> bool:
    return -(1 << (bits - 1)) <= value < 1 << (bits - 1)


def _floating(_schema: dict[str, JsonValue], value: JsonValue, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SchemaMismatch(f"{where} is not a number")
    try:
        return float(value)
    except OverflowError:
        raise SchemaMismatch(f"{where} is beyond the range of a double") from None


def _boolean(_schema: dict[str, JsonValue], value: JsonValue, where: str) -> bool:
    if not isinstance(value, bool):
        raise SchemaMismatch(f"{where} is not a boolean")
    return value


def _string(_schema: dict[str, JsonValue], value: JsonValue, where: str) -> str:
    if not isinstance(value, str):
        raise SchemaMismatch(f"{where} is not a string")
    return value


def _bytes(schema: dict[str, JsonValue], value: JsonValue, where: str) -> str:
    """Bytes stay the base64 text that they are in JSON."""
    text = _string(schema, value, where)
    try:
        base64.b64decode(text, validate=True)
    except binascii.Error:
        raise SchemaMismatch(f"{where} is not base64") from None
    return text


def _array(schema: dict[str, JsonValue], value: JsonValue, where: str) -> list[JsonValue]:
    if not isinstance(value, list):
        raise SchemaMismatch(f"{where} is not an array")
    items = schema.get("items")
    return [_convert(items, item, f"{where}[{rank}]") for rank, item in enumerate(value)]


def _map(schema: dict[str, JsonValue], value: JsonValue, where: str) -> dict[str, JsonValue]:
    if not isinstance(value, dict):
        raise SchemaMismatch(f"{where} is not a map with string keys")
    values = schema.get("values")
    return {name: _convert(values, item, f"{where}.{name}") for name, item in value.items()}


def _struct(schema: dict[str, JsonValue], value: JsonValue, where: str) -> dict[str, JsonValue]:
    fields = schema.get("fields")
    if not isinstance(value, dict) or not isinstance(fields, list):
        raise SchemaMismatch(f"{where} is not a struct")
    result: dict[str, JsonValue] = {}
    for field in fields:
        name = field.get("field") if isinstance(field, dict) else None
        if not isinstance(name, str):
            raise SchemaMismatch(f"A field in the schema of {where} has no name")
        result[name] = _convert(field, value.get(name), f"{where}.{name}")
    return result


_CONVERTERS: Final[dict[str, Callable[[dict[str, JsonValue], JsonValue, str], JsonValue]]] = {
    "boolean": _boolean,
    "float": _floating,
    "double": _floating,
    "string": _string,
    "bytes": _bytes,
    "array": _array,
    "map": _map,
    "struct": _struct,
}
