"""Which type does a field, or a whole key or value, get?"""

from __future__ import annotations

import base64
import datetime
import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Final

import numpy as np

from headrace.sink.connect_value import ConnectValue, plain
from headrace.sink.transforms.base import (
    ConnectRecord,
    Part,
    Settings,
    TransformError,
    fields_of,
    java_name,
)

_INTEGER_TEXT: Final = re.compile(r"[+-]?[0-9]+")
_NUMBER_TEXT: Final = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*")
_INTEGER_BITS: Final = {"int8": 8, "int16": 16, "int32": 32, "int64": 64}
# Between these Java writes a double without an exponent.
_PLAIN_DOUBLE_MIN: Final = 1e-3
_PLAIN_DOUBLE_MAX: Final = 1e7


class Cast:
    """Casts fields, or the whole.

    An integer that its new type cannot hold is refused: Java would keep some of its bits.
    """

    def __init__(self, part: Part, settings: Settings) -> None:
        self._part = part
        self._whole: str | None = None
        self._fields: dict[str, str] = {}
        for spec in settings.required_names("spec"):
            name, colon, type_name = spec.rpartition(":")
            type_name = type_name.strip().lower()
            if type_name not in _CASTS or (colon and not name.strip()):
                raise settings.error(
                    "spec", f"'{spec}' must be a type or field:type; types are {', '.join(_CASTS)}"
                )
            if colon:
                self._fields[name.strip()] = type_name
            else:
                self._whole = type_name
        if self._whole and len(settings.names("spec")) > 1:
            raise settings.error("spec", "one type for the whole value must stand alone")
        settings.check_null_default()

    def apply(self, record: ConnectRecord) -> ConnectRecord:
        """See `Transform`."""
        value = self._part.of(record)
        if value is None:
            return record
        if self._whole is not None:
            return self._part.replaced(record, _cast(value, self._whole))
        changed = dict(fields_of(value, "cast types"))
        for name, type_name in self._fields.items():
            if name in changed:
                changed[name] = _cast(changed[name], type_name)
        return self._part.replaced(record, changed)


def java_double_text(value: float) -> str:
    """A double as Java's `toString` writes it: `5.0`, `1.0E10`."""
    if value == 0 or _PLAIN_DOUBLE_MIN <= abs(value) < _PLAIN_DOUBLE_MAX:
        return repr(value)
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    sign, digits, exponent = Decimal(repr(value)).as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits)).rstrip("0") or "0"
    power = exponent + len(digits) - 1
    return f"{'-' if sign else ''}{text[0]}.{text[1:] or '0'}E{power}"


def _cast(value: ConnectValue, type_name: str) -> ConnectValue:
    if value is None:
        return None
    if isinstance(value, list | dict) or (isinstance(value, bytes) and type_name != "string"):
        raise TransformError(f"Unexpected type in Cast transformation: {java_name(value)}")
    return _CASTS[type_name](value, type_name)


def _to_integer(value: ConnectValue, type_name: str) -> int:
    if isinstance(value, bool | int):
        number = int(value)
    elif isinstance(value, float | Decimal) and math.isfinite(value):
        number = math.trunc(value)
    elif isinstance(value, str) and _INTEGER_TEXT.fullmatch(value) and len(value) <= 64:
        number = int(value)
    elif isinstance(value, datetime.datetime):
        number = round(value.timestamp() * 1000)
    elif isinstance(value, str | float | Decimal):
        raise _out_of_range(value)
    else:
        raise TransformError(f"Unexpected type in Cast transformation: {java_name(value)}")
    bits = _INTEGER_BITS[type_name]
    if not -(1 << (bits - 1)) <= number < 1 << (bits - 1):
        raise _out_of_range(value)
    return number


def _to_float(value: ConnectValue, type_name: str) -> float:
    if isinstance(value, bool | int | float | Decimal):
        try:
            number = float(value)
        except OverflowError:
            raise _out_of_range(value) from None
    elif isinstance(value, str):
        if not _NUMBER_TEXT.fullmatch(value):
            raise _out_of_range(value)
        number = float(value)
    else:
        raise TransformError(f"Unexpected type in Cast transformation: {java_name(value)}")
    if type_name == "float64":
        return number
    with np.errstate(over="ignore"):
        return float(np.float32(number))


def _to_boolean(value: ConnectValue, _type_name: str) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float | Decimal):
        return math.isfinite(value) and math.trunc(value) != 0
    if isinstance(value, str):
        return value.lower() == "true"
    raise TransformError(f"Unexpected type in Cast transformation: {java_name(value)}")


def _to_string(value: ConnectValue, _type_name: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return java_double_text(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return str(plain(value))


def _out_of_range(value: ConnectValue) -> TransformError:
    return TransformError(f"Value ({plain(value)}) was out of range for requested data type")


_CASTS: Final[dict[str, Callable[[ConnectValue, str], ConnectValue]]] = {
    "int8": _to_integer,
    "int16": _to_integer,
    "int32": _to_integer,
    "int64": _to_integer,
    "float32": _to_float,
    "float64": _to_float,
    "boolean": _to_boolean,
    "string": _to_string,
}
