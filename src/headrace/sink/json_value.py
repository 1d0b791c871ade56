"""How is JSON read and written when no digit may change?

Python's own reader is the reference: integers of any size stay exact. It is slow, so the
sink reads most records another way (see `decode`), and comes here when in doubt.
"""

from __future__ import annotations

import json
import math
from typing import Final, TypeAlias

import orjson

from headrace.model.ids import POINT_ID_NUMBER_MAX

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"

# What a payload may hold: Qdrant keeps i64 and u64, and orjson writes no deeper.
INTEGER_MIN: Final = -(2**63)
INTEGER_MAX: Final = POINT_ID_NUMBER_MAX
OBJECT_DEPTH_MAX: Final = 254


class InvalidJson(Exception):
    """Bytes that are not one JSON text, or a value that JSON cannot hold exactly."""


def parse_json(data: bytes) -> JsonValue:
    """One JSON text; of a key given twice the last value counts.

    `NaN` and `Infinity` are read as numbers, so that whoever meets one can say where.

    Raises:
        InvalidJson: not UTF-8, not JSON, or nested too deeply to be read.
    """
    try:
        value: JsonValue = json.loads(data.decode("utf-8-sig"))
    except RecursionError:
        raise InvalidJson("the JSON is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise InvalidJson(f"not JSON: not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise InvalidJson(f"not JSON: {error.msg} at character {error.pos}") from None
    except ValueError as error:
        raise InvalidJson(f"not JSON: {error}") from None
    return value


def encode_object(value: dict[str, JsonValue]) -> bytes:
    """The UTF-8 bytes of a JSON object; reading them back gives the same value.

    Raises:
        InvalidJson: a number is not finite or beyond 64 bits, a string is not Unicode, or
            the object is nested deeper than `OBJECT_DEPTH_MAX`; names the place.
    """
    _check(value)
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        raise InvalidJson(str(error)) from None


def _check(value: dict[str, JsonValue]) -> None:
    """Refuse what orjson would write as null, or not at all; without recursion."""
    waiting: list[tuple[int, str, JsonValue]] = [(1, "", value)]
    while waiting:
        depth, path, item = waiting.pop()
        if isinstance(item, dict):
            waiting.extend((depth + 1, f"{path}.{name}", v) for name, v in item.items())
        elif isinstance(item, list):
            waiting.extend((depth + 1, f"{path}[{rank}]", v) for rank, v in enumerate(item))
        elif isinstance(item, float) and not math.isfinite(item):
            raise InvalidJson(f"the number at '{path[1:]}' is not finite")
        elif isinstance(item, int) and not INTEGER_MIN <= item <= INTEGER_MAX:
            raise InvalidJson(f"the integer at '{path[1:]}' does not fit into 64 bits")
        if depth > OBJECT_DEPTH_MAX:
            raise InvalidJson(f"nested deeper than {OBJECT_DEPTH_MAX} levels")
