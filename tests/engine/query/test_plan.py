from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from headrace.engine.query.describe import describe
from headrace.engine.query.execute import QueryContext, query_pieces, run_query
from headrace.engine.query.explain import explain_query
from headrace.engine.query.mask import passing_set
from headrace.engine.query.plan import Access, Strategy, plan_filter
from headrace.model.collection_config import PayloadFieldSchema, PayloadFieldType
from headrace.model.errors import NotFound, UnknownVectorName
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
from headrace.model.queries import (
    Discover,
    Nearest,
    OrderBy,
    Prefetch,
    Query,
    RrfFusion,
    Sample,
)
from tests.engine.query.stored_points import CONFIG, StoredPoints

COUNT = 1000


def payload(number: int) -> dict[str, Any]:
    return {"number": number, "parity": ("even", "odd")[number % 2], "rare": number == 500}


@pytest.fixture(scope="module")
def points() -> StoredPoints:
    stored = StoredPoints({"number": PayloadFieldSchema(PayloadFieldType.INTEGER)})
    stored.upsert([(number, payload(number)) for number in range(COUNT)])
    return stored


def context_of(points: StoredPoints) -> QueryContext:
    def find_view(name: str) -> Any:
        raise NotFound(name)

    return QueryContext("c", CONFIG, points.view, find_view)


ODD = FieldCondition("parity", match=MatchValue("odd"))
BELOW_TEN = FieldCondition("number", range=Range(lt=10.0))


def test_conditions_are_taken_from_the_most_selective_on(points: StoredPoints) -> None:
    filter = Filter(must=(ODD, BELOW_TEN, HasId((1, 2, 3))), must_not=(IsEmpty("number"),))
    plan = plan_filter(filter, points.view)
    shown = [(one.clause, one.condition, one.cardinality) for one in plan.conditions]
    assert shown == [
        ("must", "id in [1, 2, 3]", 3),
        ("must", "number < 10", 10),
        ("must", "parity = 'odd'", 500),
        ("must_not", "number is empty", 1000),
    ]
    assert plan.cardinality == 2
    assert plan.points_count == COUNT
    assert [one.at_most for one in plan.conditions] == [3, 10, 500, 1000]


def test_a_plan_tells_an_index_from_a_transient_column(points: StoredPoints) -> None:
    beyond = FieldCondition("parity", match=MatchValue(2**63))
    filter = Filter(must=(BELOW_TEN, ODD, HasVector("other"), beyond))
    accesses = {one.condition: one.access for one in plan_filter(filter, points.view).conditions}
    assert accesses == {
        "number < 10": (Access.PAYLOAD_INDEX,),
        "parity = 'odd'": (Access.COLUMN,),
        "has vector 'other'": (Access.POINTS,),
        "parity = 9223372036854775808": (Access.PAYLOADS,),
    }


def test_should_and_min_should_are_taken_as_one(points: StoredPoints) -> None:
    filter = Filter(should=(BELOW_TEN, ODD), min_should=MinShould((BELOW_TEN, ODD), 2))
    plan = plan_filter(filter, points.view)
    assert [(one.clause, one.cardinality) for one in plan.conditions] == [
        ("min_should", 5),
        ("should", 505),
    ]
    assert plan.cardinality == 5


def test_a_plan_tells_whether_the_answer_was_at_hand() -> None:
    points = StoredPoints()
    points.upsert([(number, payload(number)) for number in range(200)])
    view = points.view
    assert not plan_filter(Filter(must=(ODD,)), view).is_cached
    assert plan_filter(Filter(must=(ODD,)), view).is_cached
    assert not plan_filter(Filter(must=(ODD,)), points.view).is_cached


def test_one_and_true_are_different_answers(points: StoredPoints) -> None:
    as_bool = Filter(must=(FieldCondition("rare", match=MatchValue(True)),))
    as_int = Filter(must=(FieldCondition("rare", match=MatchValue(1)),))
    assert as_bool == as_int, "which is why answers are not kept by filter"
    view = points.view
    assert passing_set(as_int, view).count == 0
    assert passing_set(as_bool, view).count == 1
    assert passing_set(as_int, view).count == 0


def test_rows_newer_than_the_index_are_evaluated_by_their_payloads() -> None:
    points = StoredPoints()
    points.upsert([(number, payload(number)) for number in range(200)])
    assert plan_filter(Filter(must=(ODD,)), points.view).evaluated_rows == 0
    points.upsert([(number, payload(number)) for number in range(200, 210)])
    plan = plan_filter(Filter(must=(ODD,)), points.view)
    assert (plan.evaluated_rows, plan.cardinality) == (10, 105)


def test_few_allowed_rows_are_scored_alone(points: StoredPoints) -> None:
    query = Query(Nearest(np.ones(2, np.float32)), filter=Filter(must=(BELOW_TEN,)), limit=3)
    plan = explain_query(context_of(points), query)
    (step,) = plan.steps
    assert (step.strategy, step.cardinality, step.cost) == (Strategy.EXACT_ROWS, 10, 10)
    assert plan.filter is not None
    assert plan.filter.cardinality == plan.cardinality == 10
    assert (plan.query, plan.using, plan.limit, plan.cost) == ("nearest", "", 3, 10)


def test_many_allowed_rows_are_a_scan_with_a_mask(points: StoredPoints) -> None:
    query = Query(Nearest(np.ones(2, np.float32)), filter=Filter(must=(ODD,)))
    (step,) = explain_query(context_of(points), query).steps
    assert (step.strategy, step.cardinality, step.cost) == (Strategy.MASKED_SCAN, 500, 1000)
    (step,) = explain_query(context_of(points), Query(Nearest(np.ones(2, np.float32)))).steps
    assert (step.strategy, step.cardinality, step.cost) == (Strategy.FULL_SCAN, 1000, 1000)


def test_an_example_is_not_among_the_allowed_rows(points: StoredPoints) -> None:
    assert explain_query(context_of(points), Query(Nearest(7))).cardinality == COUNT - 1


def test_rows_without_the_vector_are_not_scored(points: StoredPoints) -> None:
    query = Query(Discover(np.ones(2, np.float32), ()), using="other")
    (step,) = explain_query(context_of(points), query).steps
    assert (step.strategy, step.cardinality) == (Strategy.EXACT_ROWS, 500)


def test_queries_without_vectors_say_so(points: StoredPoints) -> None:
    context = context_of(points)
    strategies = [
        explain_query(context, Query(kind)).steps[0].strategy
        for kind in (None, OrderBy("number"), Sample())
    ]
    assert strategies == [Strategy.ID_ORDER, Strategy.VALUE_ORDER, Strategy.SAMPLE]


def test_a_sample_is_not_passed_over(points: StoredPoints) -> None:
    """Qdrant's server takes no notice of an offset here."""
    context = context_of(points)
    query = Query(Sample(), limit=COUNT, offset=COUNT // 2)
    ids = [int(point.record.id) for point in run_query(context, query)]
    assert sorted(ids) == list(range(COUNT))
    pieces = query_pieces(context, query, points_max=300)
    assert pieces.at_most == COUNT
    assert sorted(int(one.record.id) for piece in pieces.pieces for one in piece) == sorted(ids)


def test_a_stage_above_prefetches_looks_at_what_they_found(points: StoredPoints) -> None:
    below = (
        Prefetch(Nearest(np.ones(2, np.float32)), filter=Filter(must=(BELOW_TEN,)), limit=20),
        Prefetch(Nearest(np.ones(2, np.float32)), limit=30),
    )
    query = Query(RrfFusion(), below, filter=Filter(must=(ODD,)))
    plan = explain_query(context_of(points), query)
    assert [stage.cardinality for stage in plan.prefetch] == [5, 500]
    assert plan.steps[0].strategy is Strategy.PREFETCHED
    assert plan.cardinality == 5 + 30
    assert plan.cost == 35 + 5 + 1000


def test_a_query_that_does_not_fit_is_refused(points: StoredPoints) -> None:
    query = Query(Nearest(np.ones(2, np.float32)), using="unknown")
    with pytest.raises(UnknownVectorName):
        explain_query(context_of(points), query)


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (FieldCondition("a", match=MatchAny(tuple(range(8)))), "a in [0, 1, 2, 3, 4, and 3 more]"),
        (FieldCondition("a", match=MatchExcept(("x",))), "a has a value not in ['x']"),
        (FieldCondition("a", match=MatchText("x y")), "a has all of the text 'x y'"),
        (FieldCondition("a", match=MatchTextAny("x y")), "a has any of the text 'x y'"),
        (FieldCondition("a", match=MatchPhrase("x y")), "a has the phrase 'x y'"),
        (FieldCondition("a", match=MatchPrefix("x")), "a begins with 'x'"),
        (FieldCondition("a", range=Range()), "a of any size"),
        (FieldCondition("a", range=Range(gte=1.0, lt=2.5)), "a >= 1 and < 2.5"),
        (FieldCondition("a", range=DatetimeRange(gt=5)), "a > 5 us since 1970"),
        (FieldCondition("a", geo_radius=GeoRadius(Geo(1, 2), 50.0)), "a within 50 m of (1, 2)"),
        (
            FieldCondition("a", geo_bounding_box=GeoBoundingBox(Geo(1, 2), Geo(3, 0))),
            "a in the box from (1, 2) to (3, 0)",
        ),
        (
            FieldCondition("a", geo_polygon=GeoPolygon((Geo(0, 0),) * 4, ((Geo(0, 0),) * 4,))),
            "a in a polygon of 3 corners with 1 holes",
        ),
        (
            FieldCondition("a", values_count=ValuesCount(lte=3)),
            "a has a number of values <= 3",
        ),
        (FieldCondition("a", is_empty=False, is_null=True), "a is not empty or is null"),
        (IsNull("a"), "a is null"),
        (Slice(3, 1), "slice 1 of 3"),
        (Nested("a", Filter(must=(IsEmpty("x"),))), "an element of a with (x is empty)"),
        (Filter(), "anything"),
        (Filter(should=(IsNull("a"), IsEmpty("b"))), "(a is null or b is empty)"),
        (
            Filter(min_should=MinShould((IsNull("a"), IsEmpty("b")), 1)),
            "at least 1 of (a is null; b is empty)",
        ),
    ],
)
def test_conditions_read_as_words(condition: Condition, words: str) -> None:
    assert describe(condition) == words
