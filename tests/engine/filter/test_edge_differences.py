"""Where the evaluator differs from Qdrant's engine on purpose, one test for each.

The engine that these tests run is newer than Qdrant 1.19, whose rules the evaluator
follows; in some places it answers the same question in two ways, and the evaluator in one.
Each test shows both answers, so that a change of the engine is noticed.
"""

from __future__ import annotations

from headrace.engine.payload.paths import JsonObject
from headrace.model.collection_config import PayloadFieldSchema
from headrace.model.filters import (
    Condition,
    DatetimeRange,
    FieldCondition,
    Filter,
    Geo,
    GeoBoundingBox,
    GeoRadius,
    IsEmpty,
    IsNull,
    MatchPhrase,
    MatchPrefix,
    MatchText,
    MatchTextAny,
    MatchValue,
    MinShould,
    Nested,
    Range,
)
from headrace.model.ids import PointId
from tests.engine.filter.edge_shard import edge_shard
from tests.engine.filter.points import indexed, passing

Answers = tuple[set[PointId], set[PointId]]


def answers(
    filter: Filter | Condition,
    payloads: list[JsonObject],
    schema: dict[str, PayloadFieldSchema] | None = None,
) -> Answers:
    """Which points pass here, and which in the engine."""
    whole = filter if isinstance(filter, Filter) else Filter(must=(filter,))
    with edge_shard(payloads, schema) as shard:
        return passing(whole, payloads, schema), shard.passing(whole)


# The engine is newer than Qdrant 1.19


def test_text_without_an_index_is_a_substring_not_tokens() -> None:
    texts: list[JsonObject] = [{"a": "quick brown"}, {"a": "Brown and quick"}, {"a": "quickly"}]
    text = FieldCondition("a", match=MatchText("quick brown"))
    assert answers(text, texts) == ({0}, {0, 1})
    assert answers(FieldCondition("a", match=MatchText("")), texts) == ({0, 1, 2}, set())
    assert answers(FieldCondition("a", match=MatchPhrase("Quick")), texts) == (set(), {0, 1})
    assert answers(FieldCondition("a", match=MatchTextAny("quick")), texts) == ({0, 1, 2}, {0, 1})


def test_is_null_condition_without_an_index_does_not_look_into_arrays() -> None:
    assert answers(IsNull("a"), [{"a": None}, {"a": [None, 1]}]) == ({0}, {0, 1})


# The engine contradicts itself


def test_emptiness_of_many_values_is_that_of_all_of_them() -> None:
    """Without an index, the engine asks each value, and misses that `false` is a complement."""
    payloads: list[JsonObject] = [{"a": [{"x": None}, {"x": 1}]}, {"a": []}]
    is_empty = FieldCondition("a[].x", is_empty=True)
    is_not_null = FieldCondition("a[].x", is_null=False)
    assert answers(is_empty, payloads) == ({1}, {0, 1})
    assert answers(is_not_null, payloads) == ({1}, {0, 1})
    assert answers(IsEmpty("a[].x"), payloads) == ({1}, {1})
    schema = {"a[].x": indexed("keyword")["a"]}
    assert answers(is_empty, payloads, schema) == ({1}, {1})
    assert answers(is_not_null, payloads, schema) == ({1}, {1})


def test_leap_second_is_the_second_after_it_without_an_index_too() -> None:
    next_year = 1_609_459_200_000_000
    before = FieldCondition("a", range=DatetimeRange(lt=next_year))
    leap_second: JsonObject = {"a": "2020-12-31T23:59:60Z"}
    assert answers(before, [leap_second]) == (set(), {0})
    assert answers(before, [leap_second], indexed("datetime")) == (set(), set())


def test_uuid_asked_of_a_numeric_index_is_a_string_of_the_payload() -> None:
    uuid = "550e8400-e29b-41d4-a716-446655440000"
    condition = FieldCondition("a", match=MatchValue(uuid))
    assert answers(condition, [{"a": uuid}], indexed("keyword")) == ({0}, {0})
    assert answers(condition, [{"a": uuid}], indexed("float")) == ({0}, set())


def test_datetimes_before_1970_meet_a_float_index_as_negative_micros() -> None:
    since_1969 = FieldCondition("a", range=DatetimeRange(gt=-1))
    assert answers(since_1969, [{"a": 5}], indexed("integer")) == ({0}, {0})
    assert answers(since_1969, [{"a": 5}], indexed("float")) == ({0}, set())


def test_datetimes_beyond_53_bits_meet_a_float_index_exactly() -> None:
    before = FieldCondition("a", range=DatetimeRange(lt=2**53 + 1))
    assert answers(before, [{"a": 2**53}], indexed("integer")) == ({0}, {0})
    assert answers(before, [{"a": 2**53}], indexed("float")) == ({0}, set())


def test_prefix_beside_another_operator_is_what_a_keyword_index_takes() -> None:
    payloads: list[JsonObject] = [{"a": "red"}, {"a": []}]
    with_emptiness = FieldCondition("a", match=MatchPrefix("r"), is_empty=True)
    with_range = FieldCondition("a", match=MatchPrefix("r"), range=Range(gt=0.0))
    assert answers(with_emptiness, payloads, indexed("keyword")) == ({0}, set())
    assert answers(with_range, [*payloads, {"a": 1}], indexed("keyword")) == ({0}, {0})


def test_box_of_the_whole_world_contains_places_with_an_index_too() -> None:
    world = FieldCondition(
        "a", geo_bounding_box=GeoBoundingBox(Geo(-180.0, 90.0), Geo(180.0, -90.0))
    )
    place: JsonObject = {"a": {"lon": 1.0, "lat": 2.0}}
    assert answers(world, [place]) == ({0}, {0})
    assert answers(world, [place], indexed("geo")) == ({0}, set())


def test_bounds_beyond_64_bits_keep_their_meaning_with_an_integer_index() -> None:
    beyond = FieldCondition("a", range=Range(gte=1e20))
    below = FieldCondition("a", range=Range(lt=1e20))
    largest: JsonObject = {"a": 2**63 - 1}
    assert answers(beyond, [largest]) == (set(), set())
    assert answers(beyond, [largest], indexed("integer")) == (set(), {0})
    assert answers(below, [largest], indexed("integer")) == ({0}, set())


def test_min_should_of_more_than_its_conditions_passes_nothing_beside_other_clauses_too() -> None:
    near = FieldCondition("a", geo_radius=GeoRadius(Geo(1.0, 2.0), 1000.0))
    place: JsonObject = {"a": {"lon": 1.0, "lat": 2.0}}
    for impossible in (MinShould((), 1), MinShould((near,), 2)):
        assert answers(Filter(min_should=impossible), [place]) == (set(), set())
        both = Filter(should=(near,), min_should=impossible)
        assert answers(both, [place], indexed("geo")) == (set(), {0})


def test_of_two_shapes_an_index_takes_the_box_wherever_the_condition_stands() -> None:
    both = FieldCondition(
        "a",
        geo_bounding_box=GeoBoundingBox(Geo(0.0, 5.0), Geo(5.0, 0.0)),
        geo_radius=GeoRadius(Geo(50.0, 50.0), 1.0),
    )
    place: JsonObject = {"a": {"lon": 1.0, "lat": 2.0}}
    assert answers(both, [place], indexed("geo")) == ({0}, {0})
    assert answers(Filter(must_not=(both,)), [place], indexed("geo")) == (set(), {0})


def test_all_bounds_of_a_range_count_with_an_index_too() -> None:
    condition = FieldCondition("a", range=Range(gt=0.0, gte=5.0))
    assert answers(condition, [{"a": 3}]) == (set(), set())
    assert answers(condition, [{"a": 3}], indexed("float")) == (set(), {0})


def test_nested_conditions_pass_the_same_points_with_an_index_or_without() -> None:
    """The engine takes candidates from the index, which lacks what is not of its type."""
    payloads: list[JsonObject] = [{"n": [{"x": 1.5}, {"x": "text"}, {"x": None}]}]
    schema = {"n[].x": indexed("integer")["a"]}
    in_range = Nested("n", Filter(must=(FieldCondition("x", range=Range(gt=1.0)),)))
    empty = Nested("n", Filter(must=(IsEmpty("x"),)))
    for condition in (in_range, empty):
        assert answers(condition, payloads) == ({0}, {0})
        assert answers(condition, payloads, schema) == ({0}, set())


def test_phrase_without_phrase_matching_is_found_nowhere_inside_nested() -> None:
    payloads: list[JsonObject] = [{"n": [{"x": "red"}]}]
    schema = {"n[].x": indexed("text")["a"]}
    phrase = FieldCondition("x", match=MatchPhrase("red"))
    assert answers(Nested("n", Filter(must=(phrase,))), payloads, schema) == (set(), set())
    assert answers(Nested("n", Filter(must_not=(phrase,))), payloads, schema) == ({0}, set())


# Headrace does more, or is stricter


def test_places_may_spell_their_degrees_out() -> None:
    near = FieldCondition("a", geo_radius=GeoRadius(Geo(1.0, 2.0), 1000.0))
    place: JsonObject = {"a": {"longitude": 1.0, "latitude": 2.0}}
    assert answers(near, [place]) == ({0}, set())
    assert answers(near, [place], indexed("geo")) == ({0}, set())


def test_datetimes_have_no_spaces_around_them() -> None:
    any_datetime = FieldCondition("a", range=DatetimeRange())
    assert answers(any_datetime, [{"a": " 2020-01-01"}, {"a": "2020-01-01"}]) == ({1}, {0, 1})
