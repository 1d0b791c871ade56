"""Traps of Qdrant's filters, without payload indexes."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from headrace.engine.filter.evaluate import matches
from headrace.engine.payload.paths import JsonObject
from headrace.model.filters import (
    Condition,
    DatetimeRange,
    FieldCondition,
    Filter,
    Geo,
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
from tests.engine.filter.points import StoredPoint, passes, passing

NEVER = HasId(())
ALWAYS = Filter()


def match(value: Match, key: str = "a") -> FieldCondition:
    return FieldCondition(key, match=value)


def one_of(*values: Any) -> list[JsonObject]:
    return [{"a": value} for value in values]


def found(condition: Condition, payloads: list[JsonObject]) -> list[Any]:
    """The values of `a` in the payloads that pass, in order."""
    ids = passing(Filter(must=(condition,)), payloads)
    return [payload.get("a", "missing") for id, payload in enumerate(payloads) if id in ids]


# Clauses


def holds(filter: Filter) -> bool:
    return matches(filter, StoredPoint(1, {}), {})


def test_empty_filter_passes_every_point() -> None:
    assert holds(Filter())


def test_empty_should_is_no_constraint() -> None:
    assert holds(Filter(must=(ALWAYS,), should=()))


def test_must_needs_all() -> None:
    assert holds(Filter(must=(ALWAYS, ALWAYS)))
    assert not holds(Filter(must=(ALWAYS, NEVER)))


def test_should_needs_one() -> None:
    assert holds(Filter(should=(NEVER, ALWAYS)))
    assert not holds(Filter(should=(NEVER, NEVER)))


def test_must_not_needs_none() -> None:
    assert holds(Filter(must_not=(NEVER, NEVER)))
    assert not holds(Filter(must_not=(NEVER, ALWAYS)))


def test_clauses_are_combined_with_and() -> None:
    assert not holds(Filter(must=(ALWAYS,), should=(NEVER,)))
    assert not holds(Filter(should=(ALWAYS,), must_not=(ALWAYS,)))


def test_min_should_counts_the_conditions_that_hold() -> None:
    assert holds(Filter(min_should=MinShould((ALWAYS, NEVER, ALWAYS), 2)))
    assert not holds(Filter(min_should=MinShould((ALWAYS, NEVER, NEVER), 2)))


def test_min_should_of_more_than_its_conditions_passes_nothing() -> None:
    assert not holds(Filter(min_should=MinShould((ALWAYS,), 2)))
    assert not holds(Filter(min_should=MinShould((), 1)))


def test_a_filter_is_a_condition() -> None:
    assert holds(Filter(must=(Filter(should=(NEVER, Filter(must_not=(NEVER,)))),)))


def test_must_not_passes_points_that_lack_the_field() -> None:
    filter = Filter(must_not=(match(MatchValue(1)),))
    assert passing(filter, [{}, {"a": 1}, {"a": [2, 1]}, {"a": 2}]) == {0, 3}


# Match


def test_types_never_mix() -> None:
    values = one_of(1, 1.0, True, "1")
    assert [type(v) for v in found(match(MatchValue(1)), values)] == [int]
    assert [type(v) for v in found(match(MatchValue(True)), values)] == [bool]
    assert found(match(MatchValue("1")), values) == ["1"]


def test_zero_is_not_false() -> None:
    assert found(match(MatchValue(False)), one_of(0, "", None, [], False)) == [False]
    assert [type(v) for v in found(match(MatchValue(0)), one_of(False, 0, -0.0))] == [int]


def test_integers_compare_exactly_up_to_64_bits() -> None:
    values = one_of(2**53, 2**53 + 1, 2**64 - 1, 2**64 - 2)
    assert found(match(MatchValue(2**53 + 1)), values) == [2**53 + 1]
    assert found(match(MatchValue(2**64 - 1)), values) == [2**64 - 1]


def test_strings_compare_case_and_all() -> None:
    assert found(match(MatchValue("Red")), one_of("red", "Red", "Red ")) == ["Red"]


def test_one_matching_array_element_is_enough_one_level_deep() -> None:
    assert found(match(MatchValue(1)), one_of([2, 1], [[1]], [])) == [[2, 1]]
    assert found(match(MatchValue(1), "a[]"), one_of([2, 1], [[1]], 1)) == [[2, 1], [[1]]]


def test_any_of_nothing_matches_nothing() -> None:
    assert found(match(MatchAny(())), one_of(1, "x", None, [])) == []
    assert found(match(MatchAny((1, 2))), one_of(1, 1.0, True, 2, 3)) == [1, 2]


def test_except_asks_for_some_value_that_is_not_listed() -> None:
    values = one_of(1, 2, "x", 1.0, [1, 2], [1], {}, [[1]])
    assert found(match(MatchExcept((1,))), values) == [2, "x", 1.0, [1, 2], {}, [[1]]]


def test_except_never_passes_null_empty_or_missing() -> None:
    assert found(match(MatchExcept((1,))), [*one_of(None, [], [None]), {}]) == []
    assert found(match(MatchExcept(())), [*one_of(None, [], [None], 0), {}]) == [0]


def test_text_without_an_index_is_a_substring() -> None:
    values = one_of("quick brown", "Quick", "brown quick", ["x", "a quick one"], 5)
    assert found(match(MatchText("quick")), values) == [
        "quick brown",
        "brown quick",
        ["x", "a quick one"],
    ]
    assert found(match(MatchText("quick brown")), values) == ["quick brown"]
    assert found(match(MatchPhrase("ick br")), values) == ["quick brown"]


def test_empty_text_without_an_index_is_in_every_string() -> None:
    assert found(match(MatchText("")), one_of("x", "", 5, None)) == ["x", ""]
    assert found(match(MatchPhrase("")), one_of("x", "", 5, None)) == ["x", ""]


def test_text_any_without_an_index_is_any_word_as_substring() -> None:
    values = one_of("brownish", "red", "green")
    assert found(match(MatchTextAny("brown red")), values) == ["brownish", "red"]
    assert found(match(MatchTextAny("")), values) == []


def test_prefix_compares_case_and_all() -> None:
    assert found(match(MatchPrefix("re")), one_of("red", "Red", "are", 5)) == ["red"]
    assert found(match(MatchPrefix("")), one_of("red", "", 5)) == ["red", ""]


# Range


def in_range(**bounds: float) -> FieldCondition:
    return FieldCondition("a", range=Range(**bounds))


def test_range_compares_numbers_only() -> None:
    assert found(in_range(gte=1), one_of(1, 1.5, "2", True, None, [0, 3], [])) == [1, 1.5, [0, 3]]


def test_range_without_bounds_passes_any_number() -> None:
    assert found(in_range(), one_of(0, -1.5, "0", False, None)) == [0, -1.5]


def test_range_compares_as_64_bit_floats() -> None:
    assert found(in_range(gt=2.0**53), one_of(2**53, 2**53 + 1, 2**53 + 2)) == [2**53 + 2]


def test_range_bounds_are_strict_or_not() -> None:
    values = one_of(1, 2, 3)
    assert found(in_range(gt=1, lt=3), values) == [2]
    assert found(in_range(gte=1, lte=3), values) == [1, 2, 3]


def test_one_element_must_keep_all_bounds() -> None:
    assert found(in_range(gt=1, lt=3), one_of([0, 5], [0, 2])) == [[0, 2]]


def test_datetime_range_reads_strings_only() -> None:
    new_year_2020 = 1_577_836_800_000_000
    condition = FieldCondition("a", range=DatetimeRange(gte=new_year_2020))
    values = one_of("2020-01-01", "2019-12-31", new_year_2020, "soon", "2020-01-01T00:00+01")
    assert found(condition, values) == ["2020-01-01"]


def test_datetime_range_compares_instants() -> None:
    condition = FieldCondition("a", range=DatetimeRange(lt=0))
    values = one_of("1970-01-01T00:00:00Z", "1970-01-01T00:30:00+01:00")
    assert found(condition, values) == ["1970-01-01T00:30:00+01:00"]


def test_datetime_range_compares_whole_microseconds() -> None:
    condition = FieldCondition("a", range=DatetimeRange(gt=0))
    values = one_of("1970-01-01T00:00:00.0000009Z", "1970-01-01T00:00:00.000001Z")
    assert found(condition, values) == ["1970-01-01T00:00:00.000001Z"]


# Structure


def test_values_count_counts_elements_and_nulls() -> None:
    values = [*one_of(None, [], 5, {"x": 1}, [1, None], [[1, 2]]), {}]
    counted = [
        found(FieldCondition("a", values_count=ValuesCount(gte=n, lte=n)), values) for n in range(3)
    ]
    assert counted == [[None, [], "missing"], [5, {"x": 1}, [[1, 2]]], [[1, None]]]


def test_is_empty_is_missing_null_or_empty_array() -> None:
    values = [*one_of(None, [], [None], [[]], "", {}, 0), {}]
    assert found(IsEmpty("a"), values) == [None, [], "missing"]
    assert found(FieldCondition("a", is_empty=True), values) == [None, [], "missing"]
    assert found(FieldCondition("a", is_empty=False), values) == [[None], [[]], "", {}, 0]


def test_is_empty_asks_all_values_of_a_path() -> None:
    assert passes(IsEmpty("a[].x"), {"a": [{"x": None}, {"x": []}, {}]})
    assert not passes(IsEmpty("a[].x"), {"a": [{"x": None}, {"x": 1}]})


def test_is_null_condition_does_not_look_into_arrays() -> None:
    assert found(IsNull("a"), [*one_of(None, [None, 1], [], 0), {}]) == [None]


def test_is_null_of_a_field_condition_looks_into_arrays() -> None:
    values = [*one_of(None, [None, 1], [[None]], []), {}]
    assert found(FieldCondition("a", is_null=True), values) == [None, [None, 1]]
    assert found(FieldCondition("a", is_null=False), values) == [[[None]], [], "missing"]


def test_several_operators_are_alternatives() -> None:
    condition = FieldCondition("a", match=MatchValue("x"), range=Range(gte=5))
    assert found(condition, one_of("x", 6, 1, "y")) == ["x", 6]


@pytest.mark.parametrize(
    ("condition", "passed"),
    [
        (
            FieldCondition(
                "a",
                match=MatchValue(1),
                values_count=ValuesCount(gte=2),
                is_empty=True,
                is_null=True,
            ),
            [[5, None]],
        ),
        (FieldCondition("a", match=MatchValue(1), is_empty=True, is_null=True), [None, []]),
        (FieldCondition("a", match=MatchValue(1), is_null=True), [None, [5, None]]),
    ],
)
def test_count_then_emptiness_then_null_take_over_alone(
    condition: FieldCondition, passed: list[Any]
) -> None:
    assert found(condition, one_of(1, None, [], [5, None])) == passed


def test_geo_reads_both_spellings_of_degrees() -> None:
    condition = FieldCondition("a", geo_radius=GeoRadius(Geo(1.0, 2.0), 1000.0))
    near: JsonObject = {"lon": 1.0, "lat": 2, "name": "here"}
    spelled_out: JsonObject = {"longitude": 1.0, "latitude": 2.0}
    far: JsonObject = {"lon": 9.0, "lat": 9.0}
    values = one_of(near, spelled_out, far, {"lon": "1", "lat": "2"}, {"lon": True, "lat": 2})
    assert found(condition, values) == [near, spelled_out]
    assert found(condition, one_of([far, near], [far])) == [[far, near]]


# Identity


def test_has_id_compares_numbers_and_uuids() -> None:
    uuid = UUID("550e8400-e29b-41d4-a716-446655440000")
    filter = Filter(must=(HasId((1, uuid)),))
    assert passing(filter, {1: {}, 2: {}, uuid: {}}) == {1, uuid}
    assert passing(Filter(must=(HasId(()),)), {1: {}}) == set()


def test_has_vector_asks_the_point() -> None:
    point = StoredPoint(1, {}, frozenset({"", "image"}))
    assert matches(Filter(must=(HasVector("image"), HasVector(""))), point, {})
    assert not matches(Filter(must=(HasVector("unknown"),)), point, {})


def test_slices_divide_the_points() -> None:
    payloads: dict[Any, JsonObject] = {id: {} for id in range(100)}
    slices = [passing(Filter(must=(Slice(3, rank),)), payloads) for rank in range(3)]
    assert sum(len(part) for part in slices) == 100
    assert set.union(*slices) == set(range(100))


# Nested

PETS: JsonObject = {"pets": [{"kind": "cat", "age": 3}, {"kind": "dog", "age": 9}, "fish"]}


def nested(*must: Condition, must_not: tuple[Condition, ...] = ()) -> Nested:
    return Nested("pets", Filter(must=must, must_not=must_not))


def test_nested_asks_one_element_for_everything() -> None:
    old = FieldCondition("age", range=Range(gt=5))
    assert passes(nested(match(MatchValue("dog"), "kind"), old), PETS)
    assert not passes(nested(match(MatchValue("cat"), "kind"), old), PETS)


def test_nested_must_not_is_some_element_without() -> None:
    assert passes(nested(must_not=(match(MatchValue("cat"), "kind"),)), PETS)
    no_cat = Filter(must_not=(nested(match(MatchValue("cat"), "kind")),))
    assert passing(no_cat, [PETS]) == set()


def test_nested_of_an_empty_filter_needs_an_object() -> None:
    assert passes(nested(), PETS)
    assert not passes(nested(), {"pets": ["fish", 1, []]})
    assert not passes(nested(), {})


def test_nested_never_passes_an_object_outside_an_array() -> None:
    assert not passes(nested(), {"pets": {"kind": "cat"}})


def test_nested_key_may_end_in_each_element() -> None:
    assert passes(Nested("pets[]", Filter(must=(match(MatchValue("cat"), "kind"),))), PETS)


def test_nested_in_nested_descends_twice() -> None:
    payload: JsonObject = {"a": [{"b": [{"x": 1, "y": 1}]}, {"b": [{"x": 2, "y": 2}]}]}
    inner = Nested("b", Filter(must=(match(MatchValue(1), "x"), match(MatchValue(2), "y"))))
    assert not passes(Nested("a", Filter(must=(inner,))), payload)
    inner = Nested("b", Filter(must=(match(MatchValue(2), "x"), match(MatchValue(2), "y"))))
    assert passes(Nested("a", Filter(must=(inner,))), payload)


@pytest.mark.parametrize("condition", [HasId((0,)), HasVector(""), Slice(1, 0)])
def test_elements_have_no_identity(condition: Condition) -> None:
    assert not passes(nested(condition), PETS)
    assert passes(nested(must_not=(condition,)), PETS)
