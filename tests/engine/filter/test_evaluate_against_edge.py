"""The evaluator and Qdrant's engine give the same answers to random filters.

The points are a fixed, wide assortment of payloads; the filters are drawn. What is left
out on purpose is where the engine, newer than Qdrant 1.19, differs from it, or contradicts
itself; each of these has its own test in `test_edge_differences.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from headrace.engine.payload.paths import JsonObject, JsonValue
from headrace.model.collection_config import PayloadFieldSchema, PayloadFieldType
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
    ValuesCount,
)
from tests.engine.filter.edge_shard import EdgeShard, edge_shard
from tests.engine.filter.points import indexed, passing

bounded = settings(max_examples=40, derandomize=True, database=None, deadline=None)

UUID_TEXTS = ("550e8400-e29b-41d4-a716-446655440000", "123e4567-e89b-12d3-a456-426614174000")
WORDS = ("red", "green", "Red", "quick", "the", "running", "café", "redder")
SENTENCES = ("", "red green", "the quick Red", "quick red green", "running the redder", "red red")
DATETIMES = (
    "2020-01-01T00:00:00Z",
    "2020-01-01",
    "2020-1-1 00:00",
    "2020-01-01T01:00:00+01:00",
    "2020-06-15 12:30:00.123456",
    "1969-12-31T23:59:59.999999Z",
    "not a date",
)
DATETIME_BOUNDS = (1_577_836_800_000_000, 1_592_224_200_123_456, -1, 0, 1_609_459_200_000_000)
INTEGERS = (0, 1, 2, 5, -3, 2**53, 2**53 + 1, 2**63 - 1, -(2**63))
PLACES = (Geo(0.0, 0.0), Geo(1.0, 2.0), Geo(10.0, 20.0), Geo(-30.0, 40.0), Geo(2.5, 2.5))

SCALARS: tuple[Any, ...] = (
    None,
    True,
    False,
    *INTEGERS,
    2**64 - 1,
    *(0.0, -0.0, 1.0, 1.5, 2.0, -2.5, 2.0**53, 1e300, -1e300),
    *WORDS,
    *SENTENCES,
    *DATETIMES,
    *UUID_TEXTS,
    *(text.upper() for text in UUID_TEXTS),
    *(text.replace("-", "") for text in UUID_TEXTS),
    *({"lon": place.lon, "lat": place.lat} for place in PLACES),
    *({"lon": 200.0, "lat": 5.0}, {"lon": 1, "lat": 95}, {"lon": "1", "lat": 2}, {"lat": 2}),
    {},
    [],
)


def assorted_payloads() -> list[JsonObject]:
    """Payloads in which every scalar occurs at `a`, alone and in arrays, and elsewhere."""
    random = Random(1)

    def some_value() -> Any:
        scalars = [random.choice(SCALARS) for _ in range(random.randrange(4))]
        return scalars if random.random() < 0.4 else random.choice(SCALARS)

    def some_element() -> Any:
        element: JsonObject = {"x": some_value(), "y": random.choice(INTEGERS[:5])}
        return random.choice([element, {"x": some_value()}, {}, random.choice(SCALARS)])

    def payload_around(value: JsonValue) -> JsonObject:
        payload: JsonObject = {
            "a": value,
            "b": random.choice([{"c": some_value()}, {}, some_value()]),
            "n": random.choice([[some_element() for _ in range(random.randrange(4))], None]),
        }
        if random.random() < 0.2:
            del payload[random.choice(list(payload))]
        return payload

    arrays: list[JsonValue] = [[value, random.choice(SCALARS)] for value in SCALARS]
    odd: list[JsonValue] = [[[1]], [["red"]], [[None]], [[]], [None, None], [[], None], {"x": 1}]
    return [payload_around(value) for value in [*SCALARS, *arrays, *odd]] + [{}]


PAYLOADS = assorted_payloads()


class Shard:
    """The same points and indexes, here and in the engine."""

    def __init__(
        self, payloads: Sequence[JsonObject], schema: dict[str, PayloadFieldSchema], edge: EdgeShard
    ) -> None:
        self.payloads = payloads
        self.schema = schema
        self.edge = edge

    def assert_agrees(self, filter: Filter) -> None:
        ours, theirs = passing(filter, self.payloads, self.schema), self.edge.passing(filter)
        differing = [self.payloads[id] for id in ours ^ theirs if isinstance(id, int)]
        assert not differing, f"{filter}: {differing[:9]}"


integers = st.sampled_from(INTEGERS)
# Bounds beyond 64 bits meet an integer index's clamped values: see the differences.
float_bounds = st.sampled_from((0.0, 1.0, 1.2, 1.5, 2.0, -2.5, 5.0, 2.0**53, -1e10, 1e10))
texts = st.sampled_from((*WORDS, *SENTENCES))
sentences = st.lists(st.sampled_from(WORDS), max_size=3).map(" ".join)
uuids = st.sampled_from(UUID_TEXTS).flatmap(
    lambda text: st.sampled_from((text, text.upper(), text.replace("-", ""), f"{{{text}}}"))
)


def bounds_of(bounds: SearchStrategy[Any]) -> SearchStrategy[dict[str, Any]]:
    """At most one lower and one upper bound, not crossed: see the differences."""
    names = st.tuples(st.sampled_from(("gt", "gte")), st.sampled_from(("lt", "lte")))
    ordered = st.tuples(bounds, bounds).map(sorted)
    return st.builds(
        lambda names, bounds, kept: dict(list(zip(names, bounds, strict=True))[kept]),
        names,
        ordered,
        st.sampled_from((slice(2), slice(1), slice(1, 2), slice(0))),
    )


ranges = bounds_of(float_bounds).map(lambda bounds: Range(**bounds))
datetime_ranges = bounds_of(st.sampled_from(DATETIME_BOUNDS)).map(
    lambda bounds: DatetimeRange(**bounds)
)
counts = bounds_of(st.integers(0, 3)).map(lambda bounds: ValuesCount(**bounds))
boxes = st.sampled_from(
    (
        GeoBoundingBox(Geo(-5.0, 5.0), Geo(5.0, -5.0)),
        GeoBoundingBox(Geo(0.0, 20.0), Geo(10.0, 0.0)),
        GeoBoundingBox(Geo(9.0, 45.0), Geo(-20.0, -45.0)),
    )
)
circles = st.builds(
    GeoRadius, st.sampled_from(PLACES), st.sampled_from((0.0, 1.0, 300_000.0, 4_000_000.0))
)
SQUARE = (Geo(0.0, 0.0), Geo(5.0, 0.0), Geo(5.0, 5.0), Geo(0.0, 5.0), Geo(0.0, 0.0))
HOLE = (Geo(2.0, 2.0), Geo(3.0, 2.0), Geo(3.0, 3.0), Geo(2.0, 3.0), Geo(2.0, 2.0))
polygons = st.sampled_from((GeoPolygon(SQUARE), GeoPolygon(SQUARE, (HOLE,))))

plain_strings = texts | st.sampled_from(DATETIMES)
string_lists = st.lists(plain_strings, max_size=3).map(tuple)
integer_lists = st.lists(integers, min_size=1, max_size=3).map(tuple)
value_matches: SearchStrategy[Match] = st.one_of(
    st.builds(MatchValue, st.one_of(plain_strings, integers, st.booleans())),
    st.builds(MatchAny, string_lists.filter(bool) | integer_lists),
    st.builds(MatchExcept, string_lists | integer_lists),
    st.builds(MatchPrefix, st.sampled_from(("", "r", "red", "Re", "2020"))),
)
uuid_matches: SearchStrategy[Match] = st.one_of(
    st.builds(MatchValue, uuids),
    st.builds(MatchAny, st.lists(uuids | texts, min_size=1, max_size=2).map(tuple)),
    st.builds(MatchExcept, st.lists(uuids | texts, max_size=2).map(tuple)),
)
text_matches: SearchStrategy[Match] = st.one_of(
    st.builds(MatchText, sentences),
    st.builds(MatchTextAny, sentences),
    st.builds(MatchPhrase, sentences),
)


def field_conditions(
    keys: Sequence[str], matches: SearchStrategy[Match], operators_max: int = 2
) -> SearchStrategy[FieldCondition]:
    operators: dict[str, SearchStrategy[Any]] = {
        "match": matches,
        "range": ranges | datetime_ranges,
        "geo_bounding_box": boxes,
        "geo_radius": circles,
        "geo_polygon": polygons,
        "values_count": counts,
        "is_empty": st.booleans(),
        "is_null": st.booleans(),
    }
    chosen = st.lists(
        st.sampled_from(sorted(operators)),
        min_size=1,
        max_size=operators_max,
        # Of two shapes, an index of the engine takes now the one, now the other.
        unique_by=lambda name: name.removeprefix("geo_") != name or name,
    ).flatmap(lambda names: st.fixed_dictionaries({name: operators[name] for name in names}))
    # A keyword index of the engine takes a prefix beside another operator now, now not.
    chosen = chosen.filter(
        lambda operator: len(operator) == 1 or not isinstance(operator.get("match"), MatchPrefix)
    )
    return st.builds(
        lambda key, operator: FieldCondition(key=key, **operator), st.sampled_from(keys), chosen
    )


def asks_emptiness_of_one_value(condition: FieldCondition) -> bool:
    """Whether `is_empty` and `is_null` meet one value: of many, see the differences."""
    return "[]" not in condition.key or condition.is_empty is condition.is_null is None


def has_no_datetime_before_1970(condition: FieldCondition) -> bool:
    """Of those a float index of the engine makes something else: see the differences."""
    bounds = condition.range
    return not isinstance(bounds, DatetimeRange) or -1 not in (
        *(bounds.lt, bounds.gt, bounds.lte, bounds.gte),
    )


def filters_of(conditions: SearchStrategy[Condition]) -> SearchStrategy[Filter]:
    several = st.lists(conditions, max_size=2).map(tuple)
    min_should = st.lists(conditions, min_size=1, max_size=3).flatmap(
        lambda listed: st.builds(MinShould, st.just(tuple(listed)), st.integers(1, len(listed)))
    )
    return st.builds(Filter, several, several, several, st.none() | min_should)


def nested_filters_of(conditions: SearchStrategy[Condition]) -> SearchStrategy[Filter]:
    return filters_of(st.recursive(conditions, filters_of, max_leaves=4))


KEYS = ("a", "b", "b.c", "a[]", "n", "n[].x", "n[0]", "n[0].x", "n[].x[]", "zz")
ids = st.lists(st.integers(0, len(PAYLOADS)), max_size=4).map(tuple)
point_conditions: SearchStrategy[Condition] = st.one_of(
    field_conditions(KEYS, value_matches | uuid_matches).filter(asks_emptiness_of_one_value),
    field_conditions(KEYS, value_matches, 1).filter(asks_emptiness_of_one_value),
    st.builds(IsEmpty, st.sampled_from(KEYS)),
    st.builds(HasId, ids),
    st.builds(HasVector, st.sampled_from(("", "other"))),
)
element_conditions: SearchStrategy[Condition] = st.one_of(
    field_conditions(("x", "y", "x[]"), value_matches).filter(asks_emptiness_of_one_value),
    field_conditions(("x", "y"), value_matches, 1),
    st.builds(IsEmpty, st.sampled_from(("x", "y"))),
    st.builds(HasId, ids),
    st.builds(HasVector, st.just("")),
)
nested_conditions: SearchStrategy[Condition] = st.builds(
    Nested, st.sampled_from(("n", "n[]", "a", "b")), nested_filters_of(element_conditions)
)


@pytest.fixture(scope="module")
def unindexed_shard() -> Iterator[Shard]:
    with edge_shard(PAYLOADS) as edge:
        yield Shard(PAYLOADS, {}, edge)


@bounded
@given(filter=nested_filters_of(point_conditions))
def test_filters_without_indexes_agree(unindexed_shard: Shard, filter: Filter) -> None:
    unindexed_shard.assert_agrees(filter)


@bounded
@given(condition=point_conditions)
def test_single_conditions_without_indexes_agree(
    unindexed_shard: Shard, condition: Condition
) -> None:
    unindexed_shard.assert_agrees(Filter(must=(condition,)))


@bounded
@given(filter=filters_of(nested_conditions | point_conditions))
def test_nested_conditions_agree(unindexed_shard: Shard, filter: Filter) -> None:
    unindexed_shard.assert_agrees(filter)


INDEXES = {
    "keyword": indexed("keyword"),
    "integer": indexed("integer"),
    "integer lookup": indexed("integer", lookup=True, range=False),
    "integer range": indexed("integer", lookup=False, range=True),
    "float": indexed("float"),
    "bool": indexed("bool"),
    "datetime": indexed("datetime"),
    "uuid": indexed("uuid"),
    "geo": indexed("geo"),
}


@pytest.fixture(scope="module", params=INDEXES.values(), ids=list(INDEXES))
def indexed_shard(request: pytest.FixtureRequest) -> Iterator[Shard]:
    schema: dict[str, PayloadFieldSchema] = request.param
    with edge_shard(PAYLOADS, schema) as edge:
        yield Shard(PAYLOADS, schema, edge)


@bounded
@given(data=st.data())
def test_conditions_on_an_indexed_field_agree(indexed_shard: Shard, data: st.DataObject) -> None:
    # A uuid asked of a numeric index is one of the differences.
    takes_uuids = indexed_shard.schema["a"].data_type in (
        PayloadFieldType.UUID,
        PayloadFieldType.KEYWORD,
    )
    matches = value_matches | uuid_matches if takes_uuids else value_matches
    conditions = field_conditions(("a",), matches)
    if indexed_shard.schema["a"].data_type is PayloadFieldType.FLOAT:
        conditions = conditions.filter(has_no_datetime_before_1970)
    indexed_shard.assert_agrees(Filter(must=(data.draw(conditions),)))
    indexed_shard.assert_agrees(data.draw(nested_filters_of(conditions)))


LONGER_PATHS = ("b.c", "n[].x", "a[]")


@pytest.fixture(scope="module", params=["keyword", "integer"])
def longer_paths_shard(request: pytest.FixtureRequest) -> Iterator[Shard]:
    schema = {key: indexed(request.param)["a"] for key in LONGER_PATHS}
    with edge_shard(PAYLOADS, schema) as edge:
        yield Shard(PAYLOADS, schema, edge)


@bounded
@given(filter=filters_of(field_conditions(LONGER_PATHS, value_matches)))
def test_conditions_on_longer_indexed_paths_agree(
    longer_paths_shard: Shard, filter: Filter
) -> None:
    longer_paths_shard.assert_agrees(filter)


TEXT_INDEXES = {
    "word": indexed("text"),
    "phrase": indexed("text", phrase_matching=True),
    "whitespace": indexed("text", tokenizer="whitespace", lowercase=False, phrase_matching=True),
    "prefix": indexed(
        "text", tokenizer="prefix", min_token_len=2, max_token_len=4, phrase_matching=True
    ),
    "lengths": indexed("text", min_token_len=4, max_token_len=5),
    "stop words": indexed("text", stopwords="english", phrase_matching=True),
    "own stop words": indexed("text", stopwords={"custom": ["RED"]}, phrase_matching=True),
    "stemmed": indexed("text", stemmer={"type": "snowball", "language": "english"}),
    "folded": indexed("text", ascii_folding=True, lowercase=False),
}


@pytest.fixture(scope="module", params=TEXT_INDEXES.values(), ids=list(TEXT_INDEXES))
def text_shard(request: pytest.FixtureRequest) -> Iterator[Shard]:
    """Texts at `a`, and as `x` in the elements of `n`."""
    random = Random(2)

    def some_text() -> Any:
        text = " ".join(random.choices(WORDS, k=random.randrange(5)))
        return random.choice([text, [text, random.choice(SENTENCES), 5], random.choice(SCALARS)])

    payloads: list[JsonObject] = [
        {"a": some_text(), "n": [{"x": some_text()}, {"x": some_text()}]} for _ in range(80)
    ]
    schema: dict[str, PayloadFieldSchema] = request.param | {"n[].x": request.param["a"]}
    with edge_shard(payloads, schema) as edge:
        yield Shard(payloads, schema, edge)


@bounded
@given(
    filter=filters_of(field_conditions(("a",), text_matches)),
    nested=filters_of(
        st.builds(lambda match: FieldCondition("x", match=match), text_matches),
    ),
)
def test_conditions_on_a_text_index_agree(
    text_shard: Shard, filter: Filter, nested: Filter
) -> None:
    text_shard.assert_agrees(filter)
    if (text_shard.schema["a"].params or {}).get("phrase_matching"):
        # Without it, the engine contradicts itself about phrases inside nested.
        text_shard.assert_agrees(Filter(must=(Nested("n", nested),)))
