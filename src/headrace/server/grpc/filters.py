"""How does a `Filter` message become a `Filter`?

All conditions of the protocol but `match.substring`. What a client of a later version
may send and this version does not know is refused: a condition that is left out would
widen the answer, or the delete. How deep filters may nest, protobuf bounds: 100 messages
are 49 filters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from qdrant_client import grpc as qdrant

from headrace.model.errors import MalformedInput
from headrace.model.filter_bounds import check_conditions_count
from headrace.model.filters import (
    Condition,
    DatetimeRange,
    FieldCondition,
    Filter,
    Geo,
    GeoBoundingBox,
    GeoPolygon,
    GeoRadius,
    HasId,
    HasVector,
    IsEmpty,
    IsNull,
    Match,
    MatchAny,
    MatchExcept,
    MatchPhrase,
    MatchPrefix,
    MatchText,
    MatchTextAny,
    MatchValue,
    MinShould,
    Nested,
    Range,
    Slice,
    ValuesCount,
)
from headrace.server.errors import not_supported
from headrace.server.grpc.datetimes import read_timestamp_micros
from headrace.server.grpc.ids import read_point_ids
from headrace.server.grpc.rules import broken_rule, canonical_path, check_at_least, check_is_number

_RING_POINTS_MIN = 4


def read_filter(message: qdrant.Filter) -> Filter:
    """A filter.

    Raises:
        MalformedInput: a part of it is missing or no such thing.
        InvalidBody: a value in it breaks a rule.
        BadRequest: it has too many conditions, or asks for `substring`.
    """
    return _FilterReader().filter(message)


def read_condition(message: qdrant.Condition) -> Condition:
    """One condition by itself.

    Raises: as `read_filter`.
    """
    return _FilterReader().condition(message)


def read_geo(message: qdrant.GeoPoint) -> Geo:
    """A place.

    Raises:
        InvalidBody: it is not on the globe.
    """
    if not -180.0 <= message.lon <= 180.0:
        raise broken_rule("lon", f"longitude {message.lon} is not between -180 and 180")
    if not -90.0 <= message.lat <= 90.0:
        raise broken_rule("lat", f"latitude {message.lat} is not between -90 and 90")
    return Geo(message.lon, message.lat)


class _FilterReader:
    """Reads one filter, and counts its conditions."""

    def __init__(self) -> None:
        self._conditions = 0

    def filter(self, message: qdrant.Filter) -> Filter:
        return Filter(
            must=self._conditions_of(message.must),
            should=self._conditions_of(message.should),
            must_not=self._conditions_of(message.must_not),
            min_should=(
                self._min_should(message.min_should) if message.HasField("min_should") else None
            ),
        )

    def _conditions_of(self, messages: Iterable[qdrant.Condition]) -> tuple[Condition, ...]:
        return tuple(self.condition(message) for message in messages)

    def _min_should(self, message: qdrant.MinShould) -> MinShould:
        check_at_least("min_should.min_count", message.min_count, 1)
        return MinShould(self._conditions_of(message.conditions), message.min_count)

    def condition(self, message: qdrant.Condition) -> Condition:
        self._conditions += 1
        check_conditions_count(self._conditions)
        match message.WhichOneof("condition_one_of"):
            case "field":
                return _read_field_condition(message.field)
            case "filter":
                return self.filter(message.filter)
            case "nested":
                return self._nested(message.nested)
            case "is_empty":
                return IsEmpty(canonical_path(message.is_empty.key))
            case "is_null":
                return IsNull(canonical_path(message.is_null.key))
            case "has_id":
                return HasId(read_point_ids(message.has_id.has_id))
            case "has_vector":
                return HasVector(message.has_vector.has_vector)
            case "slice":
                return _read_slice(message.slice)
            case _:
                raise MalformedInput("Malformed Condition type")

    def _nested(self, message: qdrant.NestedCondition) -> Nested:
        if not message.HasField("filter"):
            raise MalformedInput("Nested condition must have a filter")
        return Nested(canonical_path(message.key), self.filter(message.filter))


def _read_slice(message: qdrant.SliceCondition) -> Slice:
    check_at_least("slice.total", message.total, 1)
    if message.index >= message.total:
        raise broken_rule(
            "slice.index", f"index must be in 0..{message.total}, got {message.index}"
        )
    return Slice(message.total, message.index)


def _read_field_condition(message: qdrant.FieldCondition) -> FieldCondition:
    operators: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.name == "key":
            continue
        if field.name not in _OPERATORS:
            raise not_supported(f"`{field.name}` in a field condition")
        name, read = _OPERATORS[field.name]
        if name in operators:
            raise broken_rule("range", "`range` and `datetime_range` cannot be both specified")
        operators[name] = read(value)
    if not operators:
        raise broken_rule(
            "match", "Validation error: At least one field condition must be specified [{}]"
        )
    return FieldCondition(canonical_path(message.key), **operators)


def _read_match(message: qdrant.Match) -> Match:
    form = message.WhichOneof("match_value")
    if form is None:
        raise MalformedInput("Malformed Match condition")
    if form not in _MATCHES:
        raise not_supported(f"`{form}` in a match")
    return _MATCHES[form](getattr(message, form))


_MATCHES: dict[str, Callable[[Any], Match]] = {
    "keyword": MatchValue,
    "integer": MatchValue,
    "boolean": MatchValue,
    "text": MatchText,
    "text_any": MatchTextAny,
    "phrase": MatchPhrase,
    "prefix": MatchPrefix,
    "keywords": lambda message: MatchAny(tuple(dict.fromkeys(message.strings))),
    "integers": lambda message: MatchAny(tuple(dict.fromkeys(message.integers))),
    "except_keywords": lambda message: MatchExcept(tuple(dict.fromkeys(message.strings))),
    "except_integers": lambda message: MatchExcept(tuple(dict.fromkeys(message.integers))),
}


def _read_range(message: qdrant.Range) -> Range:
    bounds = {field.name: bound for field, bound in message.ListFields()}
    for name, bound in bounds.items():
        check_is_number(f"range.{name}", bound)
    return Range(**bounds)


def _read_datetime_range(message: qdrant.DatetimeRange) -> DatetimeRange:
    return DatetimeRange(
        **{
            field.name: read_timestamp_micros(f"datetime_range.{field.name}", bound)
            for field, bound in message.ListFields()
        }
    )


def _read_values_count(message: qdrant.ValuesCount) -> ValuesCount:
    return ValuesCount(**{field.name: bound for field, bound in message.ListFields()})


def _read_bounding_box(message: qdrant.GeoBoundingBox) -> GeoBoundingBox:
    if not (message.HasField("top_left") and message.HasField("bottom_right")):
        raise MalformedInput("Malformed GeoBoundingBox type")
    return GeoBoundingBox(read_geo(message.top_left), read_geo(message.bottom_right))


def _read_radius(message: qdrant.GeoRadius) -> GeoRadius:
    if not message.HasField("center"):
        raise MalformedInput("Malformed GeoRadius type")
    check_is_number("geo_radius.radius", message.radius)
    return GeoRadius(read_geo(message.center), message.radius)


def _read_polygon(message: qdrant.GeoPolygon) -> GeoPolygon:
    if not message.HasField("exterior"):
        raise MalformedInput("Malformed GeoPolygon type - field `exterior` is required")
    return GeoPolygon(
        _read_ring("geo_polygon.exterior", message.exterior),
        tuple(_read_ring("geo_polygon.interiors", ring) for ring in message.interiors),
    )


def _read_ring(path: str, message: qdrant.GeoLineString) -> tuple[Geo, ...]:
    ring = tuple(read_geo(point) for point in message.points)
    if len(ring) < _RING_POINTS_MIN:
        raise broken_rule(
            path,
            f"polygon invalid, the size must be at least {_RING_POINTS_MIN}, got {len(ring)}",
        )
    if ring[0] != ring[-1]:
        raise broken_rule(
            path,
            "polygon invalid, the first and the last points should be same to form a closed line",
        )
    return ring


# By field of the message: the operator of a field condition, and its reader.
_OPERATORS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "match": ("match", _read_match),
    "range": ("range", _read_range),
    "datetime_range": ("range", _read_datetime_range),
    "geo_bounding_box": ("geo_bounding_box", _read_bounding_box),
    "geo_radius": ("geo_radius", _read_radius),
    "geo_polygon": ("geo_polygon", _read_polygon),
    "values_count": ("values_count", _read_values_count),
    "is_empty": ("is_empty", bool),
    "is_null": ("is_null", bool),
}
