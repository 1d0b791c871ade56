"""Which members may stand in the JSON bodies of an operation, and what bodies reach them?

Bodies are made from the OpenAPI document: on the way to a member, of several alternatives the
one that leads there, and beside it what is required and no more.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

Schema = dict[str, Any]
# Puts a value where its schema stands in a body.
Wrap = Callable[[Any], Any]

_JSON = "application/json"
_DOCUMENT_PATH = Path(__file__).parent / "openapi-1.19.json"
_PREFIX = "#/components/schemas/"
_KEY = "a"

# Of these not any will do, or the least is not the simplest.
_POINT = {"lon": 1.0, "lat": 1.0}
_COMPONENT_EXAMPLES: dict[str, Any] = {
    "GeoLineString": {
        "points": [_POINT, {"lon": 2.0, "lat": 1.0}, {"lon": 2.0, "lat": 2.0}, _POINT]
    },
    "Expression": 1.0,
}
_PROPERTY_EXAMPLES: dict[str, Any] = {
    "location": "file:///a.snapshot",
    "checksum": "0" * 64,
    "model": "qdrant/bm25",
    "language": "english",
    "datetime": "2024-01-01T00:00:00Z",
    "total": 2,
}
_SELECTED = {"points": [1]}
# What the document does not say that an object must have.
_UNSAID: dict[str, dict[str, Any]] = {
    "CreateFieldIndex": {"field_schema": "keyword"},
    "FieldCondition": {"match": {"value": "n"}},
    "SetPayload": _SELECTED,
    "DeletePayload": _SELECTED,
    "DeleteVectors": _SELECTED,
    "RecommendInput": {"positive": [1]},
}
_SCALARS: dict[str, Any] = {"integer": 1, "number": 1.0, "boolean": True, "string": "n"}
_FORMATS: dict[str, str] = {
    "date-time": "2024-01-01T00:00:00Z",
    "uuid": "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
}


class Member(NamedTuple):
    """A property of an object of a body.

    Attributes:
        component: whose property it is, such as `Filter`; what is written inside a property
            is called after it, `CreateCollection.vectors`.
        name: the property's.
        good: a value as the schema wants it.
        body: a body with a value for the property, by that value.
    """

    component: str
    name: str
    good: Any
    body: Wrap


class Operation(NamedTuple):
    """One that takes a JSON body, as the document names it."""

    method: str
    path: str


class _Unbounded(Exception):
    """There is no example without the component that it is an example of."""


class _Place(NamedTuple):
    schema: Schema
    name: str
    wrap: Wrap


@cache
def _document() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(_DOCUMENT_PATH.read_text("utf-8"))
    return document


def operations_with_body() -> dict[Operation, Schema]:
    """The schemas of the JSON bodies of the document."""
    return {
        Operation(method.upper(), path): operation["requestBody"]["content"][_JSON]["schema"]
        for path, methods in _document()["paths"].items()
        for method, operation in methods.items()
        if _JSON in operation.get("requestBody", {}).get("content", {})
    }


def members(schema: Schema) -> Iterator[Member]:
    """Every property of every component in a body, by way of each property that holds it."""
    seen: set[tuple[str, str]] = set()
    waiting = deque([_Place(schema, "body", lambda value: value)])
    while waiting:
        place = waiting.popleft()
        if "$ref" in place.schema:
            component = place.schema["$ref"].removeprefix(_PREFIX)
            if (place.name, component) not in seen:
                seen.add((place.name, component))
                waiting.append(place._replace(schema=_component(component), name=component))
            continue
        for alternative in _alternatives(place.schema):
            waiting.append(place._replace(schema=alternative))
        if "items" in place.schema:
            waiting.append(_element(place))
        if isinstance(place.schema.get("additionalProperties"), dict):
            waiting.append(_value(place))
        for name, inner in place.schema.get("properties", {}).items():
            member = _member(place, name, inner)
            yield member
            waiting.append(_Place(inner, f"{place.name}.{name}", member.body))


def example(schema: Schema, inside: frozenset[str] = frozenset()) -> Any:
    """A small value that a schema takes.

    Raises:
        _Unbounded: each has one of the components `inside` in it.
    """
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_PREFIX)
        if name in _COMPONENT_EXAMPLES:
            return _COMPONENT_EXAMPLES[name]
        if name in inside:
            raise _Unbounded
        value = example(_component(name), inside | {name})
        return {**value, **_UNSAID[name]} if name in _UNSAID else value
    for alternative in _alternatives(schema):
        try:
            return example(alternative, inside)
        except _Unbounded:
            continue
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "string")
    if kind == "object":
        return _least(schema, inside)
    if kind == "array":
        return [example(schema["items"], inside)]
    if kind == "integer":
        return max(1, int(schema.get("minimum", 1)))
    return _FORMATS.get(schema.get("format", ""), _SCALARS[kind])


def _least(schema: Schema, inside: frozenset[str] = frozenset()) -> dict[str, Any]:
    """An object with what it must have."""
    return {
        name: _example_of(name, schema["properties"][name], inside)
        for name in schema.get("required", ())
    }


def _example_of(name: str, schema: Schema, inside: frozenset[str] = frozenset()) -> Any:
    if name in _PROPERTY_EXAMPLES:
        return _PROPERTY_EXAMPLES[name]
    return example(schema, inside)


def _component(name: str) -> Schema:
    schema: Schema = _document()["components"]["schemas"][name]
    return schema


def _alternatives(schema: Schema) -> list[Schema]:
    alternatives: list[Schema] = [
        one
        for keyword in ("anyOf", "oneOf", "allOf")
        for one in schema.get(keyword, ())
        if one != {"nullable": True}
    ]
    return alternatives


def _member(place: _Place, name: str, schema: Schema) -> Member:
    def body(value: Any) -> Any:
        # Where points are given, a filter selects nothing.
        unsaid = {} if name == "filter" else _UNSAID.get(place.name, {})
        return place.wrap({**_least(place.schema), **unsaid, name: value})

    whole = _COMPONENT_EXAMPLES.get(place.name)
    good = whole[name] if isinstance(whole, dict) else _example_of(name, schema)
    return Member(place.name, name, good, body)


def _element(place: _Place) -> _Place:
    # A ring has four points at least.
    count = 4 if place.name == "GeoLineString.points" else 1
    return _Place(place.schema["items"], place.name, lambda value: place.wrap([value] * count))


def _value(place: _Place) -> _Place:
    return _Place(
        place.schema["additionalProperties"],
        place.name,
        lambda value: place.wrap({_KEY: value}),
    )
