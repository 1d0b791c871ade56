"""Which values of a payload does a path name?

Payloads here are what `orjson.loads` gives: dicts, lists, str, int, float, bool, None.
Objects are entered by key only, arrays by `[N]` and `[]` only (Qdrant's rule): `a.b`
finds nothing in `{"a": [{"b": 1}]}`, `a[].b` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from headrace.model.payload_path import ArrayElement, EachElement, Key, PathStep, PayloadPath

JsonValue: TypeAlias = "dict[str, JsonValue] | list[JsonValue] | str | int | float | bool | None"
JsonObject: TypeAlias = dict[str, JsonValue]


def values_at(payload: JsonObject, path: PayloadPath) -> Iterator[JsonValue]:
    """The values at `path`, in document order; none if it leads nowhere.

    An array at the end of the path is one value; see `leaf_values`.
    """
    return _descend(payload, path.steps)


def leaf_values(values: Iterable[JsonValue]) -> Iterator[JsonValue]:
    """What conditions test: each value, or each element of a value that is an array.

    Arrays are opened one level deep: `[[1]]` yields `[1]`, not 1.
    """
    for value in values:
        if isinstance(value, list):
            yield from value
        else:
            yield value


def _descend(value: JsonValue, steps: tuple[PathStep, ...]) -> Iterator[JsonValue]:
    if not steps:
        yield value
        return
    match steps[0]:
        case Key(name) if isinstance(value, dict) and name in value:
            yield from _descend(value[name], steps[1:])
        case ArrayElement(position) if isinstance(value, list) and position < len(value):
            yield from _descend(value[position], steps[1:])
        case EachElement() if isinstance(value, list):
            for element in value:
                yield from _descend(element, steps[1:])
