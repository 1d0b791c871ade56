"""How does a condition read?"""

from __future__ import annotations

from collections.abc import Sequence

from headrace.engine.filter.values import Bounds
from headrace.model.filters import (
    Condition,
    DatetimeRange,
    FieldCondition,
    Filter,
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
    Nested,
    Range,
    Slice,
)

# So many values of a list are shown.
_SHOWN_VALUES_MAX = 5


def describe(condition: Condition) -> str:
    """A condition in one line, for people; long lists are cut."""
    match condition:
        case FieldCondition():
            return f"{condition.key} {' or '.join(_operators(condition))}"
        case IsEmpty(key):
            return f"{key} is empty"
        case IsNull(key):
            return f"{key} is null"
        case HasId(ids):
            return f"id in {_listed(ids)}"
        case HasVector(name):
            return f"has vector {name!r}"
        case Slice(total, rank):
            return f"slice {rank} of {total}"
        case Nested(key, filter):
            return f"an element of {key} with ({describe(filter)})"
        case Filter():
            return " and ".join(_clauses(condition)) or "anything"


def _clauses(filter: Filter) -> list[str]:
    clauses = [describe(condition) for condition in filter.must]
    clauses += [f"not ({describe(condition)})" for condition in filter.must_not]
    if filter.should:
        clauses.append("(" + " or ".join(map(describe, filter.should)) + ")")
    if filter.min_should is not None:
        conditions = "; ".join(map(describe, filter.min_should.conditions))
        clauses.append(f"at least {filter.min_should.min_count} of ({conditions})")
    return clauses


def _operators(condition: FieldCondition) -> list[str]:
    shown = []
    if condition.match is not None:
        shown.append(_match(condition.match))
    if condition.range is not None:
        shown.append(_range(condition.range))
    shapes = (condition.geo_bounding_box, condition.geo_radius, condition.geo_polygon)
    shown += [_shape(shape) for shape in shapes if shape is not None]
    if condition.values_count is not None:
        shown.append(f"has a number of values {_bounds(condition.values_count)}")
    if condition.is_empty is not None:
        shown.append("is empty" if condition.is_empty else "is not empty")
    if condition.is_null is not None:
        shown.append("is null" if condition.is_null else "is not null")
    return shown


def _match(match: Match) -> str:
    match match:
        case MatchValue(value):
            return f"= {value!r}"
        case MatchAny(values):
            return f"in {_listed(values)}"
        case MatchExcept(values):
            return f"has a value not in {_listed(values)}"
        case MatchText(text):
            return f"has all of the text {text!r}"
        case MatchTextAny(text):
            return f"has any of the text {text!r}"
        case MatchPhrase(text):
            return f"has the phrase {text!r}"
        case MatchPrefix(text):
            return f"begins with {text!r}"


def _range(bounds: Range | DatetimeRange) -> str:
    unit = " us since 1970" if isinstance(bounds, DatetimeRange) else ""
    return _bounds(bounds) + unit


def _bounds(bounds: Bounds) -> str:
    named = ((">=", bounds.gte), (">", bounds.gt), ("<=", bounds.lte), ("<", bounds.lt))
    shown = [f"{sign} {bound:g}" for sign, bound in named if bound is not None]
    return " and ".join(shown) or "of any size"


def _shape(shape: GeoBoundingBox | GeoRadius | GeoPolygon) -> str:
    match shape:
        case GeoBoundingBox(top_left, bottom_right):
            return (
                f"in the box from ({top_left.lon:g}, {top_left.lat:g}) "
                f"to ({bottom_right.lon:g}, {bottom_right.lat:g})"
            )
        case GeoRadius(center, radius_m):
            return f"within {radius_m:g} m of ({center.lon:g}, {center.lat:g})"
        case GeoPolygon(exterior, interiors):
            holes = f" with {len(interiors)} holes" if interiors else ""
            return f"in a polygon of {len(exterior) - 1} corners{holes}"


def _listed(values: Sequence[object]) -> str:
    shown = ", ".join(
        repr(value) if isinstance(value, (str, int)) else str(value)
        for value in values[:_SHOWN_VALUES_MAX]
    )
    rest = len(values) - _SHOWN_VALUES_MAX
    return f"[{shown}, and {rest} more]" if rest > 0 else f"[{shown}]"
