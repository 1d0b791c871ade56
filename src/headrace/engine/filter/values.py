"""Does one payload value satisfy one operator, where no payload index says otherwise?

Types never mix: `true` is not 1 although Python says so, 1.0 is not 1, "1" is not 1.
"""

from __future__ import annotations

from typing import Protocol

from headrace.engine.filter.geo import GeoShape, geo_of, shape_contains
from headrace.engine.payload.paths import JsonValue
from headrace.model.datetimes import parse_datetime_micros
from headrace.model.filters import (
    DatetimeRange,
    Match,
    MatchAny,
    MatchExcept,
    MatchPhrase,
    MatchPrefix,
    MatchText,
    MatchTextAny,
    MatchValue,
    Range,
)

Operator = Match | Range | DatetimeRange | GeoShape


class Bounds(Protocol):
    """What `Range`, `DatetimeRange` and `ValuesCount` have in common."""

    @property
    def lt(self) -> float | None:
        """The value must be less."""

    @property
    def gt(self) -> float | None:
        """The value must be greater."""

    @property
    def lte(self) -> float | None:
        """The value must be less or equal."""

    @property
    def gte(self) -> float | None:
        """The value must be greater or equal."""


def is_within(number: float, bounds: Bounds) -> bool:
    """Whether a number keeps all bounds; an int is compared exactly."""
    return (
        (bounds.lt is None or number < bounds.lt)
        and (bounds.gt is None or number > bounds.gt)
        and (bounds.lte is None or number <= bounds.lte)
        and (bounds.gte is None or number >= bounds.gte)
    )


def value_satisfies(operator: Operator, value: JsonValue) -> bool:
    """Whether a value, which is no array to be opened, satisfies an operator."""
    match operator:
        case Range():
            number = float_of(value)
            return number is not None and is_within(number, operator)
        case DatetimeRange():
            micros = parse_datetime_micros(value) if isinstance(value, str) else None
            return micros is not None and is_within(micros, operator)
        case MatchValue() | MatchAny() | MatchExcept():
            return value_matches(operator, value)
        case MatchText() | MatchTextAny() | MatchPhrase() | MatchPrefix():
            return isinstance(value, str) and _string_matches(operator, value)
    place = geo_of(value)
    return place is not None and shape_contains(operator, place)


def value_matches(operator: MatchValue | MatchAny | MatchExcept, value: JsonValue) -> bool:
    """Whether a value is the one, one of, or none of those wanted; null never is."""
    match operator:
        case MatchValue(wanted):
            return _is_same(value, wanted)
        case MatchAny(listed):
            return any(_is_same(value, wanted) for wanted in listed)
        case MatchExcept(listed):
            return value is not None and not any(_is_same(value, wanted) for wanted in listed)


def float_of(value: JsonValue) -> float | None:
    """A number as the f64 that ranges compare; None if it is not a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def _is_same(value: JsonValue, wanted: bool | int | str) -> bool:
    return type(value) is type(wanted) and value == wanted


def _string_matches(
    operator: MatchText | MatchTextAny | MatchPhrase | MatchPrefix, value: str
) -> bool:
    """Without a text index, text is a substring, case and all (Qdrant 1.19)."""
    match operator:
        case MatchPrefix(prefix):
            return value.startswith(prefix)
        case MatchTextAny(text):
            return any(word in value for word in text.split())
        case MatchText(text) | MatchPhrase(text):
            return text in value
