"""What a payload index changes in the meaning of a condition."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.engine.payload.paths import JsonObject
from headrace.model.collection_config import PayloadFieldSchema
from headrace.model.filters import (
    DatetimeRange,
    FieldCondition,
    Filter,
    Geo,
    GeoRadius,
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
)
from tests.engine.filter.points import indexed, passes, passing

UUID_TEXT = "550e8400-e29b-41d4-a716-446655440000"
Schema = dict[str, PayloadFieldSchema]


def found(condition: FieldCondition | IsNull, schema: Schema, *values: Any) -> list[Any]:
    payloads: list[JsonObject] = [{"a": value} for value in values]
    ids = passing(Filter(must=(condition,)), payloads, schema)
    return [value for id, value in enumerate(values) if id in ids]


def matched(match: Match, schema: Schema, *values: Any) -> list[Any]:
    return found(FieldCondition("a", match=match), schema, *values)


def test_integer_index_finds_integral_floats() -> None:
    assert matched(MatchValue(1), indexed("integer"), 1, 1.0, 1.5, True, "1", [2.0, 1.0]) == [
        1,
        1.0,
        [2.0, 1.0],
    ]


def test_integer_index_without_lookup_leaves_match_to_the_payload() -> None:
    schema = indexed("integer", lookup=False)
    assert [type(v) for v in matched(MatchValue(1), schema, 1, 1.0)] == [int]


def test_integer_index_sees_only_integers_in_ranges() -> None:
    condition = FieldCondition("a", range=Range(gt=1.0))
    assert found(condition, indexed("integer"), 1, 1.5, 2.0, 3, 1e300, 2**64 - 1) == [2.0, 3]


def test_integer_index_without_range_leaves_ranges_to_the_payload() -> None:
    condition = FieldCondition("a", range=Range(gt=1.0))
    assert found(condition, indexed("integer", range=False), 1, 1.5, 2) == [1.5, 2]


def test_integer_index_compares_ranges_exactly() -> None:
    condition = FieldCondition("a", range=Range(gt=2.0**53))
    assert found(condition, indexed("integer"), 2**53, 2**53 + 1) == [2**53 + 1]


def test_integer_index_holds_two_to_the_63_as_the_largest_integer() -> None:
    values = (2**63 - 1, 2**63, 2.0**63, 2**64 - 1, -(2**63))
    assert matched(MatchValue(2**63 - 1), indexed("integer"), *values) == [*values[:3]]


@pytest.mark.parametrize(
    ("data_type", "listed", "passed"),
    [
        ("keyword", ("x",), ["y", ["x", "y"]]),
        ("keyword", (), ["x", "y", ["x", "y"], ["x", 1]]),
        ("integer", (1,), [2]),
        ("uuid", (UUID_TEXT,), []),
    ],
)
def test_except_counts_only_values_of_the_indexed_type(
    data_type: str, listed: tuple[str | int, ...], passed: list[Any]
) -> None:
    values: tuple[Any, ...] = (
        "x",
        "y",
        ["x", "y"],
        ["x", 1],
        1,
        2,
        True,
        None,
        {},
        UUID_TEXT.upper(),
    )
    expected = [*passed, UUID_TEXT.upper()] if data_type == "keyword" else passed
    assert matched(MatchExcept(listed), indexed(data_type), *values) == expected


def test_except_of_another_type_is_left_to_the_payload() -> None:
    assert matched(MatchExcept((1,)), indexed("keyword"), 1, 2, "x", True) == [2, "x", True]
    assert matched(MatchExcept(("x",)), indexed("integer"), 1, "x", "y") == [1, "y"]
    assert matched(MatchExcept(()), indexed("integer"), 1, "x", None) == [1, "x"]


def test_uuid_index_ignores_spelling() -> None:
    spellings = (UUID_TEXT, UUID_TEXT.upper(), UUID_TEXT.replace("-", ""), f"urn:uuid:{UUID_TEXT}")
    assert matched(MatchValue(UUID_TEXT.upper()), indexed("uuid"), *spellings) == [*spellings]
    assert matched(MatchAny((UUID_TEXT,)), indexed("uuid"), *spellings) == [*spellings]
    assert matched(MatchValue(UUID_TEXT), {}, *spellings) == [UUID_TEXT]


def test_uuid_index_leaves_other_strings_to_the_payload() -> None:
    assert matched(MatchValue("x"), indexed("uuid"), "x", "y") == ["x"]
    assert matched(MatchAny(("x", UUID_TEXT)), indexed("uuid"), "x", UUID_TEXT.upper()) == ["x"]


def test_any_index_sees_nulls_in_arrays() -> None:
    values: tuple[Any, ...] = (None, [None, 1], [[None]], [], 1)
    assert found(IsNull("a"), {}, *values) == [None]
    assert found(IsNull("a"), indexed("bool"), *values) == [None, [None, 1]]


def test_geo_index_skips_places_off_the_earth() -> None:
    condition = FieldCondition("a", geo_radius=GeoRadius(Geo(-160.0, 5.0), 1000.0))
    off, on = {"lon": 200.0, "lat": 5.0}, {"lon": -160.0, "lat": 5.0}
    assert found(condition, {}, off, on) == [off, on]
    assert found(condition, indexed("geo"), off, on, [off, on]) == [on, [off, on]]


def test_numbers_and_datetimes_meet_as_micros_where_an_index_is() -> None:
    since_1970 = FieldCondition("a", range=DatetimeRange(gte=0))
    positive = FieldCondition("a", range=Range(gt=0.0))
    values = (5, -5, 1.5, "1970-01-01", "1970-01-02", "1969-01-01")
    assert found(since_1970, indexed("integer"), *values) == [5]
    assert found(since_1970, indexed("float"), *values) == [5, 1.5]
    assert found(positive, indexed("datetime"), *values) == ["1970-01-02"]
    assert found(positive, {}, *values) == [5, 1.5]


def test_first_operator_that_the_index_serves_decides_alone() -> None:
    both = FieldCondition("a", match=MatchValue("x"), range=Range(gte=5.0))
    values = ("x", 6, 1)
    assert found(both, {}, *values) == ["x", 6]
    assert found(both, indexed("keyword"), *values) == ["x"]
    assert found(both, indexed("integer"), *values) == [6]
    assert found(both, indexed("geo"), *values) == ["x", 6]


def test_served_operator_goes_before_emptiness_and_null() -> None:
    flagged = FieldCondition("a", match=MatchValue("x"), is_null=True)
    assert found(flagged, indexed("keyword"), "x", None, 1) == ["x"]
    assert found(flagged, indexed("integer"), "x", None, 1) == [None]


def test_keyword_index_serves_prefixes_with_the_option_or_without() -> None:
    both = FieldCondition("a", match=MatchPrefix("r"), range=Range(gt=0.0))
    assert found(both, {}, "red", 5) == ["red", 5]
    for schema in (indexed("keyword"), indexed("keyword", prefix=True)):
        assert found(both, schema, "red", 5) == ["red"]
        assert matched(MatchPrefix("r"), schema, "red", "Red", ["x", "r"], 5) == ["red", ["x", "r"]]


# Text


def test_text_index_needs_all_tokens_in_any_order_and_element() -> None:
    values = ("The Quick brown fox", ["brown", "so quick"], "quick", "quickbrown", 5)
    assert matched(MatchText("QUICK brown"), indexed("text"), *values) == [*values[:2]]


@pytest.mark.parametrize("text", ["", "!?", "quick unknown"])
def test_text_index_finds_nothing_for_no_or_unknown_tokens(text: str) -> None:
    assert matched(MatchText(text), indexed("text"), "quick", "") == []


def test_text_any_needs_one_token() -> None:
    values = ("quick", "the brown", "red")
    assert matched(MatchTextAny("brown quick unknown"), indexed("text"), *values) == [*values[:2]]
    assert matched(MatchTextAny(""), indexed("text"), *values) == []


def test_phrase_needs_phrase_matching() -> None:
    assert matched(MatchPhrase("quick"), indexed("text"), "quick") == []
    assert matched(MatchPhrase("quick"), indexed("text", phrase_matching=True), "quick") == [
        "quick"
    ]


def test_phrase_is_in_order_and_within_one_element() -> None:
    schema = indexed("text", phrase_matching=True)
    values = ("so Quick, brown!", "brown quick", "quick red brown", ["quick", "brown"])
    assert matched(MatchPhrase("quick brown"), schema, *values) == ["so Quick, brown!"]
    assert matched(MatchPhrase(""), schema, *values) == []


def test_phrase_closes_up_over_stop_words() -> None:
    schema = indexed("text", phrase_matching=True, stopwords="english")
    assert matched(MatchPhrase("quick brown"), schema, "quick and the brown") == [
        "quick and the brown"
    ]
    assert matched(MatchPhrase("quick of brown"), schema, "quick brown") == ["quick brown"]


def test_other_matches_are_no_business_of_a_text_index() -> None:
    assert matched(MatchValue("Quick"), indexed("text"), "quick", "Quick") == ["Quick"]


# Nested


def test_inside_nested_only_text_indexes_change_the_meaning() -> None:
    payload: JsonObject = {"n": [{"x": 1.0, "t": ["Quick", "brown"]}]}
    schema = {"n[].x": indexed("integer")["a"], "n[].t": indexed("text")["a"]}

    def element_passes(key: str, match: Match) -> bool:
        nested = Nested("n", Filter(must=(FieldCondition(key, match=match),)))
        return passes(nested, payload, schema)

    assert not element_passes("x", MatchValue(1))
    assert element_passes("t", MatchText("quick"))
    assert not element_passes("t", MatchText("quick brown")), "each text by itself"
    assert not element_passes("t", MatchPhrase("quick"))
    assert passes(FieldCondition("n[].x", match=MatchValue(1)), payload, schema)
