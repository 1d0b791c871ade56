"""How does a JSON filter become a `Filter`?

Every condition form of Qdrant 1.19, recognised as its server recognises them: an object
with `key` is a field condition, else its one telling member says what it is, else it is
a filter itself, in which unknown members are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from headrace.model.datetimes import parse_datetime_micros
from headrace.model.filter_bounds import check_conditions_count, check_depth
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
from headrace.server.rest.body import I64_MAX, I64_MIN, U32_MAX, Node
from headrace.server.rest.ids import read_point_ids

_T = TypeVar("_T")

_BOUNDS = ("lt", "gt", "lte", "gte")
_RING_POINTS_MIN = 4


def read_filter(node: Node) -> Filter:
    """A filter.

    Raises:
        FormatError: it is none.
        BadRequest: it has too many conditions, or nests too deep.
    """
    return _FilterReader().filter(node, depth=1)


def optional_filter(body: Node, name: str) -> Filter | None:
    """A member that is a filter, if it is there."""
    node = body.get(name)
    return None if node is None else read_filter(node)


def read_condition(node: Node) -> Condition:
    """One condition, outside of a filter's lists.

    Raises: as `read_filter`.
    """
    return _FilterReader().condition(node, depth=1)


class _FilterReader:
    """Reads one filter, and counts its conditions."""

    def __init__(self) -> None:
        self._conditions = 0

    def filter(self, node: Node, depth: int) -> Filter:
        check_depth(depth)
        node.deny_unknown("should", "min_should", "must", "must_not")
        return Filter(
            must=self._clause(node.get("must"), depth),
            should=self._clause(node.get("should"), depth),
            must_not=self._clause(node.get("must_not"), depth),
            min_should=self._min_should(node.get("min_should"), depth),
        )

    def _clause(self, node: Node | None, depth: int) -> tuple[Condition, ...]:
        """A list of conditions, or one condition without a list."""
        if node is None:
            return ()
        is_list = isinstance(node.value, list)
        self._conditions += len(node.value) if is_list else 1
        # Before a million of them become nodes.
        check_conditions_count(self._conditions)
        conditions = node.elements() if is_list else [node]
        return tuple(self.condition(condition, depth) for condition in conditions)

    def _min_should(self, node: Node | None, depth: int) -> MinShould | None:
        if node is None:
            return None
        conditions = node.require("conditions")
        if not isinstance(conditions.value, list):
            raise conditions.wrong_type("a sequence")
        return MinShould(
            self._clause(conditions, depth), node.require("min_count").unsigned(minimum=1)
        )

    def condition(self, node: Node, depth: int) -> Condition:
        members = node.members()
        if "key" in members:
            return _read_field_condition(node)
        if "nested" in members:
            nested = node.require("nested")
            key = nested.require("key").payload_path()
            return Nested(key, self.filter(nested.require("filter"), depth + 1))
        for name, read in _CONDITIONS.items():
            if name in members:
                return read(node.require(name))
        return self.filter(node, depth + 1)


def _read_is_empty(node: Node) -> Condition:
    return IsEmpty(node.require("key").payload_path())


def _read_is_null(node: Node) -> Condition:
    return IsNull(node.require("key").payload_path())


def _read_has_id(node: Node) -> Condition:
    return HasId(tuple(read_point_ids(node)))


def _read_has_vector(node: Node) -> Condition:
    return HasVector(node.text())


def _read_slice(node: Node) -> Condition:
    total = node.require("total").unsigned(U32_MAX)
    if total == 0:
        raise node.format_error("invalid value: integer `0`, expected a nonzero u32")
    rank = node.require("index").unsigned(U32_MAX)
    if rank >= total:
        node.broken(f"index must be in 0..{total}, got {rank}")
    return Slice(total, rank)


_CONDITIONS: dict[str, Callable[[Node], Condition]] = {
    "is_empty": _read_is_empty,
    "is_null": _read_is_null,
    "has_id": _read_has_id,
    "has_vector": _read_has_vector,
    "slice": _read_slice,
}


def _read_field_condition(node: Node) -> FieldCondition:
    condition = FieldCondition(
        key=node.require("key").payload_path(),
        match=_optional(node.get("match"), _read_match),
        range=_optional(node.get("range"), _read_range),
        geo_bounding_box=_optional(node.get("geo_bounding_box"), _read_bounding_box),
        geo_radius=_optional(node.get("geo_radius"), _read_radius),
        geo_polygon=_optional(node.get("geo_polygon"), _read_polygon),
        values_count=_optional(node.get("values_count"), _read_values_count),
        is_empty=_optional(node.get("is_empty"), Node.boolean),
        is_null=_optional(node.get("is_null"), Node.boolean),
    )
    if condition == FieldCondition(condition.key):
        node.broken("Validation error: At least one field condition must be specified [{}]")
    return condition


def _optional(node: Node | None, read: Callable[[Node], _T]) -> _T | None:
    return None if node is None else read(node)


def _read_match(node: Node) -> Match:
    for name, read in _MATCHES.items():
        child = node.get(name)
        if child is not None:
            return read(child)
    forms = ", ".join(f"`{name}`" for name in _MATCHES)
    raise node.format_error(
        f"data did not match any variant of untagged enum Match, expected one of {forms}"
    )


def _read_match_value(node: Node) -> Match:
    value = node.value
    if isinstance(value, (bool, str)) or _is_i64(value):
        return MatchValue(value)
    raise node.wrong_type("a string, an i64 or a boolean")


def _read_keywords_or_integers(node: Node) -> tuple[str, ...] | tuple[int, ...]:
    """All strings or all integers, each once."""
    values = [element.value for element in node.elements()]
    if all(isinstance(value, str) for value in values) or all(map(_is_i64, values)):
        return tuple(dict.fromkeys(values))
    raise node.format_error("invalid value: expected a list of strings or a list of i64")


def _is_i64(value: object) -> bool:
    return type(value) is int and I64_MIN <= value <= I64_MAX


_MATCHES: dict[str, Callable[[Node], Match]] = {
    "value": _read_match_value,
    "text": lambda node: MatchText(node.text()),
    "text_any": lambda node: MatchTextAny(node.text()),
    "phrase": lambda node: MatchPhrase(node.text()),
    "prefix": lambda node: MatchPrefix(node.text()),
    "any": lambda node: MatchAny(_read_keywords_or_integers(node)),
    "except": lambda node: MatchExcept(_read_keywords_or_integers(node)),
}


def _read_range(node: Node) -> Range | DatetimeRange:
    """Numbers, or datetimes if any bound is a string; then all must be."""
    bounds = {name: bound for name in _BOUNDS if (bound := node.get(name)) is not None}
    if any(isinstance(bound.value, str) for bound in bounds.values()):
        return DatetimeRange(**{name: read_datetime(bound) for name, bound in bounds.items()})
    return Range(**{name: bound.number() for name, bound in bounds.items()})


def read_datetime(node: Node) -> int:
    """A datetime, in microseconds since 1970-01-01 UTC.

    Raises:
        FormatError: it is none.
    """
    text = node.text()
    micros = parse_datetime_micros(text)
    if micros is None:
        raise node.format_error(
            f"'{text}' does not match accepted datetime format (RFC3339). "
            "Example: 2014-01-01T00:00:00Z"
        )
    return micros


def _read_values_count(node: Node) -> ValuesCount:
    return ValuesCount(
        **{name: bound.unsigned() for name in _BOUNDS if (bound := node.get(name)) is not None}
    )


def read_geo(node: Node) -> Geo:
    """A place on the globe.

    Raises:
        FormatError: it is none.
    """
    lon, lat = node.require("lon"), node.require("lat")
    place = Geo(lon.number(), lat.number())
    if not -180.0 <= place.lon <= 180.0:
        raise lon.format_error(f"longitude {place.lon} is not between -180 and 180")
    if not -90.0 <= place.lat <= 90.0:
        raise lat.format_error(f"latitude {place.lat} is not between -90 and 90")
    return place


def _read_bounding_box(node: Node) -> GeoBoundingBox:
    return GeoBoundingBox(
        read_geo(node.require("top_left")), read_geo(node.require("bottom_right"))
    )


def _read_radius(node: Node) -> GeoRadius:
    return GeoRadius(read_geo(node.require("center")), node.require("radius").number())


def _read_polygon(node: Node) -> GeoPolygon:
    interiors = node.get("interiors")
    rings = () if interiors is None else tuple(_read_ring(one) for one in interiors.elements())
    return GeoPolygon(_read_ring(node.require("exterior")), rings)


def _read_ring(node: Node) -> tuple[Geo, ...]:
    ring = tuple(read_geo(point) for point in node.require("points").elements())
    if len(ring) < _RING_POINTS_MIN:
        raise node.format_error(
            f"polygon invalid, the size must be at least {_RING_POINTS_MIN}, got {len(ring)}"
        )
    if ring[0] != ring[-1]:
        raise node.format_error(
            "polygon invalid, the first and the last points should be same to form a closed line"
        )
    return ring
