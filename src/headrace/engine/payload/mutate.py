"""What does a write to part of a payload make of it?

Nothing here changes its arguments: each function returns the new payload, which shares
the untouched parts with the old one. Treat both as read only afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable

from headrace.engine.payload.paths import JsonObject, JsonValue
from headrace.model.payload_path import ArrayElement, EachElement, Key, PathStep, PayloadPath


def set_payload(
    payload: JsonObject, patch: JsonObject, path: PayloadPath | None = None
) -> JsonObject:
    """The payload with each key of `patch` replaced, or removed where it is null.

    With a path, the keys go into the object there. What is not an object is replaced by
    one on the way, missing keys are made; a missing array becomes `[]` and a missing
    array element stays missing, since Qdrant invents no elements.
    """
    if path is None:
        return _merged(payload, patch)
    result = _with_patch(payload, path.steps, patch)
    assert isinstance(result, dict), "a path begins with a key"
    return result


def delete_payload_paths(payload: JsonObject, paths: Iterable[PayloadPath]) -> JsonObject:
    """The payload without the values at `paths`; paths that lead nowhere change nothing.

    `a[]` empties an array; `a[0]` does nothing, as in Qdrant, because removing one
    element twice would remove two.
    """
    result: JsonValue = payload
    for path in paths:
        result = _without(result, path.steps)
    assert isinstance(result, dict), "a path begins with a key"
    return result


def _merged(target: JsonObject, patch: JsonObject) -> JsonObject:
    result = target | patch
    for name, value in patch.items():
        if value is None:
            del result[name]
    return result


def _with_patch(value: JsonValue, steps: tuple[PathStep, ...], patch: JsonObject) -> JsonValue:
    if not steps:
        return _merged(value if isinstance(value, dict) else {}, patch)
    match steps[0]:
        case Key(name):
            target = value if isinstance(value, dict) else {}
            return target | {name: _with_patch(target.get(name), steps[1:], patch)}
        case ArrayElement(position):
            elements = list(value) if isinstance(value, list) else []
            if position < len(elements):
                elements[position] = _with_patch(elements[position], steps[1:], patch)
            return elements
        case EachElement():
            elements = value if isinstance(value, list) else []
            return [_with_patch(element, steps[1:], patch) for element in elements]


def _without(value: JsonValue, steps: tuple[PathStep, ...]) -> JsonValue:
    step, rest = steps[0], steps[1:]
    match step:
        case Key(name) if isinstance(value, dict) and name in value:
            if rest:
                return value | {name: _without(value[name], rest)}
            return {key: kept for key, kept in value.items() if key != name}
        case ArrayElement(position) if isinstance(value, list) and position < len(value) and rest:
            elements = list(value)
            elements[position] = _without(elements[position], rest)
            return elements
        case EachElement() if isinstance(value, list):
            return [_without(element, rest) for element in value] if rest else []
    return value
