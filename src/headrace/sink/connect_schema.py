"""What value does a JSON payload with a Kafka Connect schema beside it stand for?

With `schemas.enable=true` a JSON record is `{"schema": .., "payload": ..}`. The schema
checks the payload and fills in defaults; Connect's own logical types become decimals and
moments, and those of others (Debezium has many) stay what their base type is.
Source of the rules: `org.apache.kafka.connect.json.JsonConverter`.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Final

from headrace.sink.connect_value import ConnectValue, as_connect
from headrace.sink.json_value import JsonValue

_INTEGER_BITS: Final = {"int8": 8, "int16": 16, "int32": 32, "int64": 64}


_CONNECT: Final = "org.apache.kafka.connect.data."
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_SCALE: Final = re.compile(r"-?[0-9]{1,4}")

# From a schema, a value and the path to it, for error texts.
_Converter = Callable[[dict[str, JsonValue], JsonValue, str], ConnectValue]


class SchemaMismatch(Exception):
    """A payload is not what its schema says, or the schema is none."""


def convert_with_schema(schema: JsonValue, payload: JsonValue) -> ConnectValue:
    """The value of a payload, checked against its schema; no schema, no check.

    Raises:
        SchemaMismatch: with a text that names the field.
    """
    return as_connect(payload) if schema is None else _convert(schema, payload, "payload")


def _convert(schema: JsonValue, value: JsonValue, where: str) -> ConnectValue:
    if not isinstance(schema, dict) or not isinstance(schema.get("type"), str):
        raise SchemaMismatch(f"The schema of {where} has no 'type'")
    if value is None:
        return _default(schema, where)
    type_name = str(schema["type"])
    logical = _LOGICAL.get((str(schema.get("name")), type_name))
    if logical is not None:
        return logical(schema, value, where)
    if type_name in _INTEGER_BITS:
        return _integer(value, _INTEGER_BITS[type_name], where)
    converter = _CONVERTERS.get(type_name)
    if converter is None:
        raise SchemaMismatch(f"The schema type '{type_name}' of {where} is unknown")
    return converter(schema, value, where)


def _default(schema: dict[str, JsonValue], where: str) -> ConnectValue:
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


def _decimal(schema: dict[str, JsonValue], value: JsonValue, where: str) -> Decimal:
    """A number, or the bytes of an integer that the schema's scale divides."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Decimal(repr(value))
    unscaled = int.from_bytes(base64.b64decode(_bytes(schema, value, where)), signed=True)
    parameters = schema.get("parameters")
    scale = parameters.get("scale") if isinstance(parameters, dict) else None
    if not isinstance(scale, str) or not _SCALE.fullmatch(scale):
        raise SchemaMismatch(f"The schema of the decimal {where} has no scale")
    sign, digits, _ = Decimal(unscaled).as_tuple()
    return Decimal((sign, digits, -int(scale)))


def _date(_schema: dict[str, JsonValue], value: JsonValue, where: str) -> datetime.date:
    return _moment(where, days=_integer(value, 32, where)).date()


def _time(_schema: dict[str, JsonValue], value: JsonValue, where: str) -> datetime.time:
    return _moment(where, milliseconds=_integer(value, 32, where)).time()


def _timestamp(_schema: dict[str, JsonValue], value: JsonValue, where: str) -> datetime.datetime:
    return _moment(where, milliseconds=_integer(value, 64, where))


def _moment(where: str, days: int = 0, milliseconds: int = 0) -> datetime.datetime:
    try:
        return _EPOCH + datetime.timedelta(days=days, milliseconds=milliseconds)
    except OverflowError:
        raise SchemaMismatch(f"{where} is beyond the years 1 to 9999") from None


def _array(schema: dict[str, JsonValue], value: JsonValue, where: str) -> list[ConnectValue]:
    if not isinstance(value, list):
        raise SchemaMismatch(f"{where} is not an array")
    items = schema.get("items")
    return [_convert(items, item, f"{where}[{rank}]") for rank, item in enumerate(value)]


def _map(schema: dict[str, JsonValue], value: JsonValue, where: str) -> dict[str, ConnectValue]:
    if not isinstance(value, dict):
        raise SchemaMismatch(f"{where} is not a map with string keys")
    values = schema.get("values")
    return {name: _convert(values, item, f"{where}.{name}") for name, item in value.items()}


def _struct(schema: dict[str, JsonValue], value: JsonValue, where: str) -> dict[str, ConnectValue]:
    fields = schema.get("fields")
    if not isinstance(value, dict) or not isinstance(fields, list):
        raise SchemaMismatch(f"{where} is not a struct")
    result: dict[str, ConnectValue] = {}
    for field in fields:
        name = field.get("field") if isinstance(field, dict) else None
        if not isinstance(name, str):
            raise SchemaMismatch(f"A field in the schema of {where} has no name")
        result[name] = _convert(field, value.get(name), f"{where}.{name}")
    return result


_CONVERTERS: Final[dict[str, _Converter]] = {
    "boolean": _boolean,
    "float": _floating,
    "double": _floating,
    "string": _string,
    "bytes": _bytes,
    "array": _array,
    "map": _map,
    "struct": _struct,
}
_LOGICAL: Final[dict[tuple[str, str], _Converter]] = {
    (f"{_CONNECT}Decimal", "bytes"): _decimal,
    (f"{_CONNECT}Date", "int32"): _date,
    (f"{_CONNECT}Time", "int32"): _time,
    (f"{_CONNECT}Timestamp", "int64"): _timestamp,
}
