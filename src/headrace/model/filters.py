"""What is a filter, once it has left JSON, gRPC or a log record?

Frozen, tagged structs: the edges build them, the log stores them as MessagePack, the
engine evaluates them. `key` is always a payload path in its canonical text.
"""

from __future__ import annotations

import msgspec

from headrace.model.ids import PointId


class Geo(msgspec.Struct, frozen=True, array_like=True):
    """A place, in degrees."""

    lon: float
    lat: float


class MatchValue(msgspec.Struct, frozen=True, tag="value"):
    """Equal to a string, an integer or a bool; types never mix."""

    value: bool | int | str


class MatchAny(msgspec.Struct, frozen=True, tag="any"):
    """Equal to one of the values, all strings or all integers; no values match nothing."""

    values: tuple[str | int, ...]


class MatchExcept(msgspec.Struct, frozen=True, tag="except"):
    """Has some non-null value that is none of these, all strings or all integers."""

    values: tuple[str | int, ...]


class MatchText(msgspec.Struct, frozen=True, tag="text"):
    """Full-text match of all tokens; a substring where the field has no text index."""

    text: str


class MatchTextAny(msgspec.Struct, frozen=True, tag="text_any"):
    """Full-text match of any token."""

    text: str


class MatchPhrase(msgspec.Struct, frozen=True, tag="phrase"):
    """Full-text match of the tokens in order."""

    text: str


class MatchPrefix(msgspec.Struct, frozen=True, tag="prefix"):
    """Strings that begin with this one."""

    text: str


Match = MatchValue | MatchAny | MatchExcept | MatchText | MatchTextAny | MatchPhrase | MatchPrefix


class Range(msgspec.Struct, frozen=True, gc=False, tag="range"):
    """Numbers between bounds; a bound that is None is open."""

    lt: float | None = None
    gt: float | None = None
    lte: float | None = None
    gte: float | None = None


class DatetimeRange(msgspec.Struct, frozen=True, tag="datetime_range"):
    """Datetimes between bounds, in microseconds since 1970-01-01 UTC."""

    lt: int | None = None
    gt: int | None = None
    lte: int | None = None
    gte: int | None = None


class GeoBoundingBox(msgspec.Struct, frozen=True, tag="geo_bounding_box"):
    """A rectangle of degrees, border excluded; crosses the antimeridian if left > right."""

    top_left: Geo
    bottom_right: Geo


class GeoRadius(msgspec.Struct, frozen=True, tag="geo_radius"):
    """A circle on the sphere, border excluded."""

    center: Geo
    radius_m: float


class GeoPolygon(msgspec.Struct, frozen=True, tag="geo_polygon"):
    """A planar polygon with holes; each ring is closed and has four points or more."""

    exterior: tuple[Geo, ...]
    interiors: tuple[tuple[Geo, ...], ...] = ()


class ValuesCount(msgspec.Struct, frozen=True, tag="values_count"):
    """How many values a field has."""

    lt: int | None = None
    gt: int | None = None
    lte: int | None = None
    gte: int | None = None


class FieldCondition(msgspec.Struct, frozen=True, gc=False, tag="field"):
    """One or more operators on one payload path."""

    key: str
    match: Match | None = None
    range: Range | DatetimeRange | None = None
    geo_bounding_box: GeoBoundingBox | None = None
    geo_radius: GeoRadius | None = None
    geo_polygon: GeoPolygon | None = None
    values_count: ValuesCount | None = None
    is_empty: bool | None = None
    is_null: bool | None = None


class IsEmpty(msgspec.Struct, frozen=True, tag="is_empty"):
    """The field is missing, null or []."""

    key: str


class IsNull(msgspec.Struct, frozen=True, tag="is_null"):
    """The field is null."""

    key: str


class HasId(msgspec.Struct, frozen=True, tag="has_id"):
    """The point's id is one of these."""

    ids: tuple[PointId, ...]


class HasVector(msgspec.Struct, frozen=True, tag="has_vector"):
    """The point has a vector of this name; "" is the default vector."""

    name: str


class Slice(msgspec.Struct, frozen=True, tag="slice"):
    """The point falls into slice `rank` of `total` by the hash of its id."""

    total: int
    rank: int


class Nested(msgspec.Struct, frozen=True, tag="nested"):
    """Some object in the array at `key` satisfies the whole filter by itself."""

    key: str
    filter: Filter


class MinShould(msgspec.Struct, frozen=True):
    """At least `min_count` of the conditions hold."""

    conditions: tuple[Condition, ...]
    min_count: int


class Filter(msgspec.Struct, frozen=True, gc=False, tag="filter"):
    """All of must, none of must_not, one of should, and min_should; empty = no constraint."""

    must: tuple[Condition, ...] = ()
    should: tuple[Condition, ...] = ()
    must_not: tuple[Condition, ...] = ()
    min_should: MinShould | None = None

    def is_unconstrained(self) -> bool:
        """Whether every point passes."""
        return not (self.must or self.should or self.must_not or self.min_should)

    def has_one_field_condition(self) -> bool:
        """Whether it is a single condition on a field that must hold."""
        must = self.must
        return (
            len(must) == 1
            and type(must[0]) is FieldCondition
            and not (self.should or self.must_not or self.min_should)
        )


Condition = FieldCondition | IsEmpty | IsNull | HasId | HasVector | Slice | Nested | Filter
