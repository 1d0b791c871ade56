"""Filters of every kind, drawn at random, and payloads for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

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

WORDS = ("red", "green", "Red", "quick", "the", "running", "café", "redder")
SENTENCES = (
    *("", "red green", "the quick Red", "quick red green", "running the redder", "red red"),
    *(
        "don't x-y_z naïve",
        "Straße ŒUVRE ΟΔΟΣ",
        "İstanbul ﬁne, Привет!",
        "a1b2 ３ हिंदी  red\tgreen",
    ),
)
UUID_TEXTS = ("550e8400-e29b-41d4-a716-446655440000", "123e4567-e89b-12d3-a456-426614174000")
DATETIMES = (
    "2020-01-01T00:00:00Z",
    "2020-01-01",
    "2020-01-01T01:00:00+01:00",
    "2020-06-15 12:30:00.123456",
    "1969-12-31T23:59:59.999999Z",
    "2020-12-31T23:59:60Z",
)
INTEGERS = (0, 1, 2, 5, -3, 2**53, 2**53 + 1, 2**63 - 1, -(2**63))
LARGE_INTEGERS = (2**63, 2**64 - 1)
PLACES = (Geo(0.0, 0.0), Geo(1.0, 2.0), Geo(10.0, 20.0), Geo(-30.0, 40.0), Geo(179.5, 89.0))

SCALARS: tuple[Any, ...] = (
    None,
    *(True, False),
    *INTEGERS,
    *LARGE_INTEGERS,
    *(0.0, -0.0, 1.0, 1.5, -2.5, 2.0**53, 2.0**63, -(2.0**63), 1e300),
    *WORDS,
    *SENTENCES,
    *DATETIMES,
    *UUID_TEXTS,
    *(text.upper() for text in UUID_TEXTS),
    *({"lon": place.lon, "lat": place.lat} for place in PLACES),
    *({"longitude": 2.0, "latitude": 1.0}, {"lon": 200.0, "lat": 5.0}, {"lon": "1", "lat": 2}),
    {},
    [],
    [[1]],
)
scalars = st.sampled_from(SCALARS)
values = scalars | st.lists(scalars, max_size=4)
elements = st.one_of(
    st.fixed_dictionaries(
        {},
        optional={"x": values, "y": values, "m": st.lists(st.builds(lambda x: {"x": x}, values))},
    ),
    scalars,
)
payloads: SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "a": values,
        "b": st.fixed_dictionaries({}, optional={"c": values}) | values,
        "n": st.lists(elements, max_size=4) | scalars,
        'odd "key': values,
    },
)
KEYS = ("a", "b", "b.c", "a[]", "a[0]", "n", "n[].x", "n[0].x", "n[].m[].x", "zz")
ELEMENT_KEYS = ("x", "y", "x[]", "m[].x", "zz")
IDS = (*range(12), UUID(int=1), UUID(int=2**100))

_integers = st.sampled_from(INTEGERS)
_texts = st.sampled_from((*WORDS, *SENTENCES, *DATETIMES, *UUID_TEXTS))
_floats = st.sampled_from(
    (0.0, 1.0, 1.2, 1.5, -2.5, 5.0, 2.0**53, 2.0**63, -(2.0**63), 1e300, -1e300, float("inf"))
)
_micros = st.sampled_from(
    (1_577_836_800_000_000, 1_592_224_200_123_456, -1, 0, 2**53 + 1, 2**63 - 1, -(2**63))
)
_uuids = st.sampled_from(UUID_TEXTS).flatmap(
    lambda text: st.sampled_from((text, text.upper(), text.replace("-", ""), f"{{{text}}}"))
)
_places = st.sampled_from(PLACES)
_SQUARE = (Geo(0.0, 0.0), Geo(5.0, 0.0), Geo(5.0, 5.0), Geo(0.0, 5.0), Geo(0.0, 0.0))
_HOLE = (Geo(0.5, 1.0), Geo(3.0, 1.0), Geo(3.0, 3.0), Geo(0.5, 3.0), Geo(0.5, 1.0))


def _bounds(bounds: SearchStrategy[Any]) -> SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(("lt", "gt", "lte", "gte")), bounds, max_size=2)


matches: SearchStrategy[Match] = st.one_of(
    st.builds(
        MatchValue,
        st.one_of(_texts, _integers, st.booleans(), _uuids, st.sampled_from(LARGE_INTEGERS)),
    ),
    st.builds(
        MatchAny,
        (
            st.lists(_texts | _uuids, max_size=3)
            | st.lists(_integers, max_size=3)
            | st.lists(st.sampled_from(LARGE_INTEGERS), max_size=2)
        ).map(tuple),
    ),
    st.builds(
        MatchExcept,
        (
            st.lists(_texts | _uuids, max_size=3)
            | st.lists(_integers, max_size=3)
            | st.lists(st.sampled_from(LARGE_INTEGERS), max_size=2)
        ).map(tuple),
    ),
    st.builds(MatchPrefix, st.sampled_from(("", "r", "red", "Re", "2020", "café"))),
    st.builds(MatchText, st.sampled_from(SENTENCES) | _texts),
    st.builds(MatchTextAny, st.sampled_from(SENTENCES) | _texts),
    st.builds(MatchPhrase, st.sampled_from(SENTENCES) | _texts),
)
_OPERATORS: dict[str, SearchStrategy[Any]] = {
    "match": matches,
    "range": _bounds(_floats | st.integers(-3, 3)).map(lambda bounds: Range(**bounds))
    | _bounds(_micros).map(lambda bounds: DatetimeRange(**bounds)),
    "geo_bounding_box": st.sampled_from(
        (
            GeoBoundingBox(Geo(-5.0, 5.0), Geo(5.0, -5.0)),
            GeoBoundingBox(Geo(9.0, 45.0), Geo(-20.0, -45.0)),
            GeoBoundingBox(Geo(150.0, 90.0), Geo(250.0, -5.0)),
        )
    ),
    "geo_radius": st.builds(
        GeoRadius, _places, st.sampled_from((0.0, 1.0, 300_000.0, 4e6, 1e7, 1.9e7, 3e7))
    ),
    "geo_polygon": st.sampled_from((GeoPolygon(_SQUARE), GeoPolygon(_SQUARE, (_HOLE,)))),
    "values_count": _bounds(st.integers(0, 3)).map(lambda bounds: ValuesCount(**bounds)),
    "is_empty": st.booleans(),
    "is_null": st.booleans(),
}


def field_conditions(keys: Sequence[str]) -> SearchStrategy[FieldCondition]:
    """Conditions with one operator, sometimes two, on one of these fields."""
    chosen = st.lists(
        st.sampled_from(sorted(_OPERATORS)), min_size=1, max_size=2, unique=True
    ).flatmap(lambda names: st.fixed_dictionaries({name: _OPERATORS[name] for name in names}))
    return st.builds(
        lambda key, operators: FieldCondition(key, **operators), st.sampled_from(keys), chosen
    )


def filters_of(conditions: SearchStrategy[Any]) -> SearchStrategy[Filter]:
    """Filters whose clauses hold such conditions."""
    several = st.lists(conditions, max_size=3).map(tuple)
    min_should = st.builds(MinShould, several, st.integers(0, 3))
    return st.builds(Filter, several, several, several, st.none() | min_should)


_ids = st.lists(st.sampled_from((*IDS, 999)), max_size=4).map(tuple)
_point_leaves: SearchStrategy[Condition] = st.one_of(
    field_conditions(KEYS),
    st.builds(IsEmpty, st.sampled_from(KEYS)),
    st.builds(IsNull, st.sampled_from(KEYS)),
    st.builds(HasId, _ids),
    st.builds(HasVector, st.sampled_from(("", "other", "unknown"))),
    st.builds(Slice, st.just(3), st.integers(0, 2)),
)
_element_leaves: SearchStrategy[Condition] = st.one_of(
    field_conditions(ELEMENT_KEYS),
    st.builds(IsEmpty, st.sampled_from(ELEMENT_KEYS)),
    st.builds(IsNull, st.sampled_from(ELEMENT_KEYS)),
    st.builds(HasId, _ids),
    st.builds(HasVector, st.just("")),
)
_nested_in_elements = st.builds(Nested, st.sampled_from(("m", "x")), filters_of(_element_leaves))
nested_conditions: SearchStrategy[Condition] = st.builds(
    Nested,
    st.sampled_from(("n", "n[]", "a", "b")),
    filters_of(_element_leaves | _nested_in_elements),
)
filters: SearchStrategy[Filter] = filters_of(
    _point_leaves
    | nested_conditions
    | st.recursive(_point_leaves, lambda conditions: filters_of(conditions), max_leaves=3)
)
