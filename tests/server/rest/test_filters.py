from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson
import pytest
from qdrant_client import models

from headrace.model.errors import BadRequest, HeadraceError, InvalidBody
from headrace.model.filter_bounds import FILTER_CONDITIONS_MAX, FILTER_DEPTH_MAX
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
from headrace.server.rest.body import FormatError, read_body
from headrace.server.rest.filters import read_filter

HERE = {"lon": 1.5, "lat": -2}
RING = {"points": [HERE, {"lon": 2, "lat": 2}, {"lon": 3, "lat": 3}, HERE]}
RING_POINTS = (Geo(1.5, -2.0), Geo(2.0, 2.0), Geo(3.0, 3.0), Geo(1.5, -2.0))
DAY_MICROS = 86_400_000_000


def parse(value: Any) -> Filter:
    return read_body(orjson.dumps(value), read_filter)


CONDITIONS: list[tuple[Any, Condition]] = [
    ({"key": "a", "match": {"value": "x"}}, FieldCondition("a", match=MatchValue("x"))),
    ({"key": "a", "match": {"value": True}}, FieldCondition("a", match=MatchValue(True))),
    ({"key": "a", "match": {"value": -(2**63)}}, FieldCondition("a", match=MatchValue(-(2**63)))),
    ({"key": "a", "match": {"text": "x y"}}, FieldCondition("a", match=MatchText("x y"))),
    ({"key": "a", "match": {"text_any": "x"}}, FieldCondition("a", match=MatchTextAny("x"))),
    ({"key": "a", "match": {"phrase": "x"}}, FieldCondition("a", match=MatchPhrase("x"))),
    ({"key": "a", "match": {"prefix": "x"}}, FieldCondition("a", match=MatchPrefix("x"))),
    (
        {"key": "a", "match": {"any": ["x", "y", "x"]}},
        FieldCondition("a", match=MatchAny(("x", "y"))),
    ),
    ({"key": "a", "match": {"any": []}}, FieldCondition("a", match=MatchAny(()))),
    ({"key": "a", "match": {"except": [1, 2]}}, FieldCondition("a", match=MatchExcept((1, 2)))),
    (
        {"key": 'a."b c"[].d[0]', "range": {"gt": 1, "lte": 2.5, "lt": None}},
        FieldCondition('a."b c"[].d[0]', range=Range(gt=1.0, lte=2.5)),
    ),
    ({"key": "a", "range": {}}, FieldCondition("a", range=Range())),
    (
        {"key": "a", "range": {"gte": "1970-01-02", "lt": "1970-01-03T00:00:00Z"}},
        FieldCondition("a", range=DatetimeRange(gte=DAY_MICROS, lt=2 * DAY_MICROS)),
    ),
    (
        {"key": "a", "geo_radius": {"center": HERE, "radius": 5}},
        FieldCondition("a", geo_radius=GeoRadius(Geo(1.5, -2.0), 5.0)),
    ),
    (
        {"key": "a", "geo_bounding_box": {"top_left": HERE, "bottom_right": HERE}},
        FieldCondition("a", geo_bounding_box=GeoBoundingBox(Geo(1.5, -2.0), Geo(1.5, -2.0))),
    ),
    (
        {"key": "a", "geo_polygon": {"exterior": RING, "interiors": [RING]}},
        FieldCondition("a", geo_polygon=GeoPolygon(RING_POINTS, (RING_POINTS,))),
    ),
    (
        {"key": "a", "values_count": {"gte": 1, "lt": 2**64 - 1}},
        FieldCondition("a", values_count=ValuesCount(gte=1, lt=2**64 - 1)),
    ),
    ({"key": "a", "is_empty": False}, FieldCondition("a", is_empty=False)),
    ({"key": "a", "is_null": True}, FieldCondition("a", is_null=True)),
    ({"is_empty": {"key": "a"}}, IsEmpty("a")),
    ({"is_null": {"key": "a"}}, IsNull("a")),
    ({"has_id": [1, str(UUID(int=2))]}, HasId((1, UUID(int=2)))),
    ({"has_id": []}, HasId(())),
    ({"has_vector": ""}, HasVector("")),
    ({"slice": {"total": 4, "index": 3}}, Slice(4, 3)),
    (
        {"nested": {"key": "a", "filter": {"must": [{"is_null": {"key": "b"}}]}}},
        Nested("a", Filter(must=(IsNull("b"),))),
    ),
    ({"must_not": [{"is_null": {"key": "b"}}]}, Filter(must_not=(IsNull("b"),))),
]


@pytest.mark.parametrize(("body", "condition"), CONDITIONS)
def test_every_form_of_condition_is_read(body: Any, condition: Condition) -> None:
    assert parse({"must": [body]}) == Filter(must=(condition,))


def test_a_clause_may_be_one_condition_without_a_list() -> None:
    condition = {"is_null": {"key": "a"}}
    assert parse({"should": condition}) == parse({"should": [condition]})


@pytest.mark.parametrize("body", [{}, {"must": None, "min_should": None}, {"should": []}])
def test_missing_null_and_empty_clauses_are_no_constraint(body: Any) -> None:
    assert parse(body).is_unconstrained()


def test_min_should_counts_its_conditions() -> None:
    body = {"min_should": {"conditions": [{"is_null": {"key": "a"}}], "min_count": 1}}
    assert parse(body) == Filter(min_should=MinShould((IsNull("a"),), 1))


def test_filters_of_the_official_client_are_read() -> None:
    sent = models.Filter(
        must=[
            models.FieldCondition(key="a", match=models.MatchAny(any=["x"])),
            models.HasIdCondition(has_id=[1]),
            models.NestedCondition(
                nested=models.Nested(
                    key="n",
                    filter=models.Filter(must=models.HasVectorCondition(has_vector="v")),
                )
            ),
        ],
        should=models.FieldCondition(key="d", range=models.Range(gt=1)),
    )
    assert parse(sent.model_dump(mode="json")) == Filter(
        must=(
            FieldCondition("a", match=MatchAny(("x",))),
            HasId((1,)),
            Nested("n", Filter(must=(HasVector("v"),))),
        ),
        should=(FieldCondition("d", range=Range(gt=1.0)),),
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"musst": []}, "unknown field `musst`"),
        ({"must": [{"foo": 1}]}, "must[0]: unknown field `foo`"),
        ({"must": 1}, "must: invalid type: integer `1`, expected a map"),
        ({"must": [{"key": "a..b", "is_null": True}]}, "must[0].key: Invalid json path: 'a..b'"),
        ({"must": [{"key": 1}]}, "must[0].key: invalid type: integer `1`, expected a string"),
        ({"must": [{"key": "a", "match": {}}]}, "must[0].match: data did not match"),
        ({"must": [{"key": "a", "match": {"value": 1.5}}]}, "must[0].match.value: invalid type"),
        ({"must": [{"key": "a", "match": {"value": 2**63}}]}, "must[0].match.value: invalid type"),
        ({"must": [{"key": "a", "match": {"any": ["a", 1]}}]}, "must[0].match.any: "),
        ({"must": [{"key": "a", "match": {"any": [True]}}]}, "must[0].match.any: "),
        ({"must": [{"key": "a", "range": {"gt": "x"}}]}, "'x' does not match accepted datetime"),
        (
            {"must": [{"key": "a", "range": {"gt": "2020-01-01", "lt": 1}}]},
            "must[0].range.lt: invalid type: integer `1`, expected a string",
        ),
        ({"must": [{"key": "a", "range": {"gt": True}}]}, "must[0].range.gt: invalid type"),
        (
            {"must": [{"key": "a", "geo_radius": {"center": {"lon": 181, "lat": 0}, "radius": 1}}]},
            "longitude 181.0 is not between",
        ),
        (
            {"must": [{"key": "a", "geo_polygon": {"exterior": {"points": [HERE] * 3}}}]},
            "the size must be at least 4, got 3",
        ),
        (
            {
                "must": [
                    {
                        "key": "a",
                        "geo_polygon": {
                            "exterior": {"points": [HERE] * 3 + [{"lon": 0, "lat": 0}]}
                        },
                    }
                ]
            },
            "closed line",
        ),
        ({"must": [{"slice": {"total": 0, "index": 0}}]}, "expected a nonzero u32"),
        ({"min_should": {"conditions": []}}, "min_should: missing field `min_count`"),
        ({"must": [{"has_id": ["x"]}]}, "must[0].has_id[0]: value x is not a valid point ID"),
        ({"must": [{"key": "a", "values_count": {"gt": -1}}]}, "invalid value: integer `-1`"),
    ],
)
def test_what_is_no_filter_is_a_format_error(body: Any, reason: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse(body)
    assert caught.value.message.startswith("Format error in JSON body: ")
    assert caught.value.message.count("Format error") == 1
    assert reason in caught.value.message


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"must": [{"key": "a"}]}, "must[0]: Validation error: At least one field condition must"),
        ({"min_should": {"conditions": [], "min_count": 0}}, "min_should.min_count: value 0"),
        ({"must": [{"slice": {"total": 2, "index": 2}}]}, "must[0].slice: "),
    ],
)
def test_a_filter_that_breaks_a_rule_is_invalid(body: Any, reason: str) -> None:
    with pytest.raises(InvalidBody) as caught:
        parse(body)
    assert reason in caught.value.message


def test_filters_nest_only_so_deep() -> None:
    body: Any = {}
    for _ in range(FILTER_DEPTH_MAX):
        body = {"must": body}
    with pytest.raises(BadRequest, match="nested too deeply"):
        parse(body)
    assert parse(body["must"]) is not None


def test_too_many_conditions_are_refused() -> None:
    condition = {"is_null": {"key": "a"}}
    assert parse({"must": [condition] * FILTER_CONDITIONS_MAX})
    with pytest.raises(BadRequest, match="too many conditions"):
        parse({"must": [condition] * FILTER_CONDITIONS_MAX, "should": [condition]})


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"must":' * 100_000, b'{"must":[' * 500])
def test_deep_nesting_is_an_error_like_any_other(body: bytes) -> None:
    with pytest.raises(HeadraceError):
        read_body(body, read_filter)
