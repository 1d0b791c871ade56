"""Which part of a payload does an answer carry?"""

from __future__ import annotations

from collections.abc import Callable

import orjson

from headrace.engine.payload.paths import JsonObject, JsonValue
from headrace.model.operations import PayloadJson
from headrace.model.payload_path import EachElement, Key, PathStep, parse_payload_path
from headrace.model.queries import PayloadSelection

Steps = tuple[PathStep, ...]


def select_payload(payload: PayloadJson, selection: PayloadSelection) -> PayloadJson:
    """The part of a payload that an enabled `selection` asks for, as JSON.

    A selection of everything returns the stored bytes as they are, undecoded. Selection
    follows keys and `[]`; a path with `[N]` selects nothing, as in Qdrant. An included
    path that goes on below a plain value includes that value.

    Raises:
        MalformedInput: a path of the selection does not parse.
    """
    assert selection.enabled, "an answer without a payload needs none selected"
    if selection.include is None and selection.exclude is None:
        return payload
    selected: JsonObject = orjson.loads(payload)
    if selection.include is not None:
        included = [parse_payload_path(text).steps for text in selection.include]
        selected = _kept_members(selected, (), lambda here: _leads_to_any(here, included))
    if selection.exclude is not None:
        excluded = {parse_payload_path(text).steps for text in selection.exclude}
        selected = _kept_members(selected, (), lambda here: here not in excluded)
    return orjson.dumps(selected)


def _leads_to_any(here: Steps, included: list[Steps]) -> bool:
    """Whether `here` lies above, at or below one of the paths."""
    return any(all(a == b for a, b in zip(here, path, strict=False)) for path in included)


def _kept_members(value: JsonObject, here: Steps, keeps: Callable[[Steps], bool]) -> JsonObject:
    kept: JsonObject = {}
    for name, member in value.items():
        there = (*here, Key(name))
        if keeps(there):
            kept[name] = _kept(member, there, keeps)
    return kept


def _kept(value: JsonValue, here: Steps, keeps: Callable[[Steps], bool]) -> JsonValue:
    if isinstance(value, dict):
        return _kept_members(value, here, keeps)
    if isinstance(value, list):
        there = (*here, EachElement())
        return [_kept(element, there, keeps) for element in value] if keeps(there) else []
    return value
