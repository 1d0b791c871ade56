"""A filter means the same in a message as in JSON; what is malformed is refused."""

from __future__ import annotations

import math
from typing import Any

import orjson
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from qdrant_client import grpc as qdrant
from qdrant_client import models
from qdrant_client.conversions.conversion import RestToGrpc

from headrace.model.errors import BadRequest, HeadraceError, InvalidBody, MalformedInput
from headrace.model.filter_bounds import FILTER_CONDITIONS_MAX
from headrace.model.filters import DatetimeRange, FieldCondition, Range
from headrace.server.grpc.filters import read_filter
from headrace.server.rest import filters as rest_filters
from headrace.server.rest.body import read_body

BONN = {"lon": 7.1, "lat": 50.7}
RING = {"points": [BONN, {"lon": 8, "lat": 51}, {"lon": 8, "lat": 50}, BONN]}
UUID_ID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"


@pytest.mark.parametrize(
    "condition",
    [
        {"key": "a.b[].c", "match": {"value": "x"}},
        {"key": '"a b".c', "match": {"value": 2**53 + 1}},
        {"key": "a", "match": {"value": False}},
        {"key": "a", "match": {"text": "x y"}},
        {"key": "a", "match": {"text_any": "x y"}},
        {"key": "a", "match": {"phrase": "x y"}},
        {"key": "a", "match": {"prefix": ""}},
        {"key": "a", "match": {"any": ["x", "y", "x"]}},
        {"key": "a", "match": {"any": [3, 1, 3]}},
        {"key": "a", "match": {"except": ["x"]}},
        {"key": "a", "match": {"except": [1]}},
        {"key": "a", "range": {"gt": -1.5, "lte": 0}},
        {"key": "a", "range": {}},
        {"key": "a", "range": {"gte": "2024-01-01T00:00:00.000001Z", "lt": "2025-01-01"}},
        {"key": "a", "geo_bounding_box": {"top_left": BONN, "bottom_right": {"lon": 8, "lat": 5}}},
        {"key": "a", "geo_radius": {"center": BONN, "radius": 1000.0}},
        {"key": "a", "geo_polygon": {"exterior": RING, "interiors": [RING]}},
        {"key": "a", "geo_polygon": {"exterior": RING}},
        {"key": "a", "values_count": {"gte": 0, "lt": 3}},
        {"key": "a", "is_empty": False},
        {"key": "a", "is_null": True},
        {"is_empty": {"key": "a"}},
        {"is_null": {"key": "a"}},
        {"has_id": [1, 2**64 - 1, UUID_ID]},
        {"has_id": []},
        {"has_vector": ""},
        {"has_vector": "text"},
        {"slice": {"total": 3, "index": 2}},
        {"nested": {"key": "a", "filter": {"must": [{"key": "b", "match": {"value": 1}}]}}},
        {"nested": {"key": "a[]", "filter": {}}},
        {"must": [{"has_id": [1]}], "should": [{"has_vector": "x"}]},
        {},
    ],
)
def test_a_condition_is_the_same_in_a_message_as_in_json(condition: dict[str, Any]) -> None:
    for filter_json in (
        {"must": [condition]},
        {"should": [condition, condition]},
        {"must_not": [condition]},
        {"min_should": {"conditions": [condition], "min_count": 1}},
    ):
        message = RestToGrpc.convert_filter(models.Filter.model_validate(filter_json))
        expected = read_body(orjson.dumps(filter_json), rest_filters.read_filter)
        assert read_filter(message) == expected


def test_an_empty_filter_is_no_constraint() -> None:
    assert read_filter(qdrant.Filter()).is_unconstrained()


def field(**operators: Any) -> qdrant.Condition:
    return qdrant.Condition(field=qdrant.FieldCondition(key="a", **operators))


def refusal(condition: qdrant.Condition) -> HeadraceError:
    with pytest.raises(HeadraceError) as raised:
        read_filter(qdrant.Filter(must=[condition]))
    return raised.value


@pytest.mark.parametrize(
    ("condition", "kind", "text"),
    [
        (qdrant.Condition(), MalformedInput, "Malformed Condition type"),
        (field(), InvalidBody, "At least one field condition must be specified"),
        (field(match=qdrant.Match()), MalformedInput, "Malformed Match condition"),
        (field(match=qdrant.Match(substring="x")), BadRequest, "`substring` in a match"),
        (
            field(range=qdrant.Range(lt=1), datetime_range=qdrant.DatetimeRange()),
            InvalidBody,
            "cannot be both specified",
        ),
        (field(range=qdrant.Range(lt=math.nan)), InvalidBody, "range.lt: value NaN"),
        (field(geo_radius=qdrant.GeoRadius(radius=1)), MalformedInput, "Malformed GeoRadius"),
        (
            field(geo_bounding_box=qdrant.GeoBoundingBox(top_left=qdrant.GeoPoint())),
            MalformedInput,
            "Malformed GeoBoundingBox",
        ),
        (field(geo_polygon=qdrant.GeoPolygon()), MalformedInput, "`exterior` is required"),
        (
            field(geo_polygon=qdrant.GeoPolygon(exterior=qdrant.GeoLineString())),
            InvalidBody,
            "the size must be at least 4, got 0",
        ),
        (
            field(geo_radius=qdrant.GeoRadius(center=qdrant.GeoPoint(lon=181), radius=1)),
            InvalidBody,
            "longitude 181.0 is not between",
        ),
        (
            field(geo_radius=qdrant.GeoRadius(center=qdrant.GeoPoint(lat=math.nan), radius=1)),
            InvalidBody,
            "latitude nan is not between",
        ),
        (
            field(datetime_range=qdrant.DatetimeRange(lt=Timestamp(seconds=2**62))),
            InvalidBody,
            "datetime_range.lt: value",
        ),
        (
            field(datetime_range=qdrant.DatetimeRange(lt=Timestamp(nanos=-1))),
            InvalidBody,
            "datetime_range.lt: value -1 invalid",
        ),
        (
            qdrant.Condition(nested=qdrant.NestedCondition(key="a")),
            MalformedInput,
            "Nested condition must have a filter",
        ),
        (
            qdrant.Condition(is_null=qdrant.IsNullCondition(key="a..b")),
            MalformedInput,
            "Invalid json path: 'a..b'",
        ),
        (
            qdrant.Condition(has_id=qdrant.HasIdCondition(has_id=[qdrant.PointId(uuid="5")])),
            MalformedInput,
            "Unable to parse UUID: 5",
        ),
        (
            qdrant.Condition(has_id=qdrant.HasIdCondition(has_id=[qdrant.PointId()])),
            MalformedInput,
            "No ID options provided",
        ),
        (
            qdrant.Condition(slice=qdrant.SliceCondition(total=0)),
            InvalidBody,
            "slice.total: value 0 invalid, must be 1 or larger",
        ),
        (
            qdrant.Condition(slice=qdrant.SliceCondition(total=2, index=2)),
            InvalidBody,
            "index must be in 0..2, got 2",
        ),
    ],
)
def test_a_malformed_condition_is_refused(
    condition: qdrant.Condition, kind: type[HeadraceError], text: str
) -> None:
    error = refusal(condition)
    assert isinstance(error, kind)
    assert text in error.message


def test_a_min_should_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidBody, match="min_count: value 0 invalid"):
        read_filter(qdrant.Filter(min_should=qdrant.MinShould()))


def test_infinite_bounds_of_a_range_are_kept() -> None:
    (condition,) = read_filter(
        qdrant.Filter(must=[field(range=qdrant.Range(lt=math.inf, gt=-math.inf))])
    ).must
    assert condition == FieldCondition("a", range=Range(lt=math.inf, gt=-math.inf))


def test_nanoseconds_are_cut_off() -> None:
    bound = Timestamp(seconds=-1, nanos=999_999_999)
    (condition,) = read_filter(
        qdrant.Filter(must=[field(datetime_range=qdrant.DatetimeRange(gt=bound))])
    ).must
    assert condition == FieldCondition("a", range=DatetimeRange(gt=-1))


def test_too_many_conditions_are_refused() -> None:
    condition = field(is_null=True)
    assert len(read_filter(qdrant.Filter(must=[condition] * FILTER_CONDITIONS_MAX)).must)
    half = [condition] * (FILTER_CONDITIONS_MAX // 2 + 1)
    with pytest.raises(BadRequest, match="too many conditions: at most 65536"):
        read_filter(qdrant.Filter(must=half, must_not=half))


def test_several_operators_in_one_condition_are_all_kept() -> None:
    message = qdrant.Filter(
        must=[field(match=qdrant.Match(integer=1), range=qdrant.Range(lt=2), is_null=False)]
    )
    condition = {"key": "a", "match": {"value": 1}, "range": {"lt": 2}, "is_null": False}
    expected = read_body(orjson.dumps({"must": [condition]}), rest_filters.read_filter)
    assert read_filter(message) == expected
