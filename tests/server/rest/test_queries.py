from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest

from headrace.model.errors import BadRequest, InvalidBody, InvalidVector
from headrace.model.filters import Filter, Geo, HasId, IsNull
from headrace.model.formula import (
    ConditionValue,
    Constant,
    Datetime,
    DatetimeKey,
    Decay,
    DecayKind,
    Div,
    GeoDistance,
    Mult,
    PayloadVariable,
    Pow,
    ScoreVariable,
    Sum,
    Unary,
    UnaryFunction,
)
from headrace.model.queries import (
    Context,
    DbsfFusion,
    Direction,
    Discover,
    Formula,
    Idf,
    LookupFrom,
    Mmr,
    Nearest,
    OrderBy,
    PayloadSelection,
    Query,
    Recommend,
    RecommendStrategy,
    RelevanceFeedback,
    RrfFusion,
    Sample,
    Scroll,
    SearchParams,
    VectorSelection,
)
from headrace.model.query_rules import check_query
from headrace.model.vectors import SparseVector
from headrace.server.rest.body import FormatError
from headrace.server.rest.queries import LIMIT_MAX, parse_query, parse_query_batch, parse_scroll


def query(**body: Any) -> Query:
    return parse_query(orjson.dumps(body)).query


def kind(value: Any) -> Any:
    return query(query=value, prefetch=[{"query": [1]}]).query


def test_without_a_body_a_query_has_qdrants_defaults() -> None:
    assert query() == Query() or query().limit == 10
    parsed = query()
    assert (parsed.query, parsed.limit, parsed.offset, parsed.using) == (None, 10, 0, "")
    assert not parsed.with_payload.enabled
    assert not parsed.with_vectors.enabled


@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: {"nearest": value}])
def test_vectors_and_ids_are_what_is_nearest(wrap: Any) -> None:
    dense = kind(wrap([1, 2.5]))
    assert dense.target.tolist() == [1.0, 2.5]
    assert dense.target.dtype == np.float32
    assert kind(wrap([[1, 2], [3, 4]])).target.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    sparse = kind(wrap({"indices": [3, 1], "values": [1, 2]})).target
    assert isinstance(sparse, SparseVector)
    assert (sparse.indices.tolist(), sparse.values.tolist()) == ([3, 1], [1.0, 2.0])
    assert kind(wrap(7)).target == 7


def test_every_form_of_query_is_read() -> None:
    assert (
        kind({"nearest": 1, "mmr": {"diversity": 0.25, "candidates_limit": 7}})
        == Nearest(1, Mmr(0.25, 7))
        or kind({"nearest": 1, "mmr": {}}).mmr == Mmr()
    )
    recommend = kind({"recommend": {"positive": [1], "negative": [2], "strategy": "best_score"}})
    assert isinstance(recommend, Recommend)
    assert (recommend.positive, recommend.negative) == ((1,), (2,))
    assert recommend.strategy is RecommendStrategy.BEST_SCORE
    pair = {"positive": 1, "negative": 2}
    discover = kind({"discover": {"target": 3, "context": pair}})
    assert isinstance(discover, Discover)
    assert (discover.target, len(discover.context)) == (3, 1)
    context = kind({"context": [pair, pair]})
    assert isinstance(context, Context)
    assert len(context.pairs) == 2
    assert kind({"fusion": "rrf"}) == RrfFusion()
    assert kind({"fusion": "dbsf"}) == DbsfFusion()
    assert kind({"rrf": {"k": 60, "weights": [1, 0.5]}}) == RrfFusion(60, (1.0, 0.5))
    assert kind({"sample": "random"}) == Sample()
    assert kind({"order_by": "a.b"}) == OrderBy("a.b")
    feedback = kind(
        {
            "relevance_feedback": {
                "target": 1,
                "feedback": [{"example": 2, "score": 0.5}],
                "strategy": {"naive": {"a": 1, "b": 2, "c": 3}},
            }
        }
    )
    assert isinstance(feedback, RelevanceFeedback)
    assert (feedback.target, feedback.a, feedback.b, feedback.c) == (1, 1.0, 2.0, 3.0)
    assert (feedback.feedback[0].example, feedback.feedback[0].score) == (2, 0.5)


@pytest.mark.parametrize(
    ("body", "order_by"),
    [
        ("a", OrderBy("a")),
        ({"key": "a", "direction": "desc"}, OrderBy("a", Direction.DESC)),
        ({"key": "a", "start_from": 5}, OrderBy("a", start_from=5)),
        ({"key": "a", "start_from": 5.5}, OrderBy("a", start_from=5.5)),
        (
            {"key": "a", "start_from": "1970-01-01T00:00:01Z"},
            OrderBy("a", start_from=1_000_000, start_is_datetime=True),
        ),
    ],
)
def test_orders_are_read(body: Any, order_by: OrderBy) -> None:
    assert parse_scroll(orjson.dumps({"order_by": body})).scroll.order_by == order_by


@pytest.mark.parametrize(
    ("body", "expression"),
    [
        (1, Constant(1.0)),
        ("a.b", PayloadVariable("a.b")),
        ("$score", ScoreVariable(0)),
        ("$score[2]", ScoreVariable(2)),
        ({"is_null": {"key": "a"}}, ConditionValue(IsNull("a"))),
        (
            {"geo_distance": {"origin": {"lon": 1, "lat": 2}, "to": "g"}},
            GeoDistance(Geo(1.0, 2.0), "g"),
        ),
        ({"datetime": "1970-01-01T00:00:01Z"}, Datetime(1_000_000)),
        ({"datetime_key": "t"}, DatetimeKey("t")),
        ({"mult": [1, "$score"]}, Mult((Constant(1.0), ScoreVariable(0)))),
        ({"sum": []}, Sum(())),
        ({"neg": 1}, Unary(UnaryFunction.NEG, Constant(1.0))),
        ({"log10": 1}, Unary(UnaryFunction.LOG10, Constant(1.0))),
        (
            {"div": {"left": 1, "right": 2, "by_zero_default": 3}},
            Div(Constant(1.0), Constant(2.0), 3.0),
        ),
        ({"pow": {"base": 1, "exponent": 2}}, Pow(Constant(1.0), Constant(2.0))),
        (
            {"gauss_decay": {"x": "a", "target": 1, "scale": 2, "midpoint": 0.25}},
            Decay(DecayKind.GAUSS, PayloadVariable("a"), Constant(1.0), 2.0, 0.25),
        ),
    ],
)
def test_formulas_are_read(body: Any, expression: Any) -> None:
    formula = kind({"formula": body, "defaults": {"a": 1, "$score[1]": 0.5}})
    assert formula == Formula(expression, {"a": 1, "$score[1]": 0.5})


def test_prefetches_nest_and_carry_their_own_terms() -> None:
    inner = {"query": [1], "using": "a", "limit": 3, "score_threshold": 0.5, "filter": {}}
    parsed = query(
        query={"fusion": "rrf"},
        prefetch={"query": [2], "prefetch": [inner], "lookup_from": {"collection": "o"}},
    )
    [outer] = parsed.prefetch
    [leaf] = outer.prefetch
    assert outer.lookup_from == LookupFrom("o")
    assert (leaf.using, leaf.limit, leaf.score_threshold) == ("a", 3, 0.5)


def test_selections_and_hints_are_read() -> None:
    parsed = query(
        query=1,
        with_payload=["a", "b[]"],
        with_vectors=["v"],
        params={
            "hnsw_ef": 64,
            "exact": True,
            "quantization": {"ignore": True, "rescore": None, "oversampling": 2},
            "acorn": {"enable": True, "max_selectivity": 0.5},
            "idf": {"corpus": {"must": {"has_id": [7]}}},
        },
        limit=3,
        offset=2,
        score_threshold=1,
    )
    assert parsed.with_payload == PayloadSelection(include=("a", "b[]"))
    assert parsed.with_vectors == VectorSelection(True, ("v",))
    assert parsed.params == SearchParams(
        hnsw_ef=64,
        exact=True,
        ignore_quantization=True,
        oversampling=2.0,
        idf=Idf(Filter(must=(HasId((7,)),))),
    )
    assert query(params={"idf": "global"}).params.idf == Idf()
    assert (parsed.limit, parsed.offset, parsed.score_threshold) == (3, 2, 1.0)
    excluded = query(with_payload={"exclude": ["a"]})
    assert excluded.with_payload == PayloadSelection(exclude=("a",))


def test_a_scroll_has_qdrants_defaults() -> None:
    assert parse_scroll(b"{}").scroll == Scroll()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"query": {"image": "a", "model": "m"}}, "inference"),
    ],
)
def test_what_this_version_lacks_is_refused_by_name(body: Any, reason: str) -> None:
    with pytest.raises(BadRequest, match="is not supported in this version") as caught:
        query(**body)
    assert reason in caught.value.message


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"limit": LIMIT_MAX + 1}, "Bad request: `limit` is"),
        ({"limit": 2**64 - 1}, "Bad request: `limit` is"),
        ({"lookup_from": {"collection": "c", "shard_key": "k"}}, "Bad request: Shard key k not fo"),
        ({"offset": 2**64 - 1}, "Bad request: `offset` is"),
        ({"score_threshold": 1}, "Bad request: A query is needed to use the score_threshold."),
        (
            {"score_threshold": 1, "query": {"order_by": "a"}},
            "Bad request: Can't use score_threshold with an order_by query.",
        ),
        (
            {"query": {"fusion": "rrf"}, "using": "a", "prefetch": [{"query": 1}]},
            "Bad request: Fusion queries cannot be combined with the 'using' field.",
        ),
        ({"query": {"formula": {"exp_decay": {"x": 1, "scale": 0}}}}, "Bad request: `exp_decay."),
        ({"query": {"formula": {"exp_decay": {"x": 1, "midpoint": 1}}}}, "Bad request: `exp_"),
    ],
)
def test_queries_that_contradict_themselves_are_bad_requests(body: Any, text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        check_query(query(**body))
    assert caught.value.message.startswith(text)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"limit": 0}, "internal.limit: value 0 invalid, must be 1 or larger"),
        ({"params": {"hnsw_ef": 0}}, "internal.params.hnsw_ef: value 0 invalid"),
        (
            {"params": {"quantization": {"oversampling": 0.5}}},
            "internal.params.quantization.oversampling: value 0.5 invalid, must be 1.0 or larger",
        ),
        (
            {"query": {"recommend": {}}},
            "internal.query.recommend.positives, negatives: Validation error: At least one",
        ),
        ({"query": []}, "internal.query: dense vector must not be empty"),
        ({"query": {"nearest": 1, "mmr": {"diversity": 2}}}, "must be from 0.0 to 1.0"),
        ({"query": {"rrf": {"k": 0}}}, "internal.query.rrf.k: value 0 invalid"),
        ({"query": {"formula": 1, "defaults": {"$score": "a"}}}, "Score default must be a number"),
    ],
)
def test_queries_that_break_a_rule_are_invalid(body: Any, reason: str) -> None:
    with pytest.raises(InvalidBody) as caught:
        query(**body)
    assert reason in caught.value.message


@pytest.mark.parametrize(
    "body",
    [
        {"limit": -1},
        {"limit": 1.0},
        {"limit": "1"},
        {"query": {"foo": 1}},
        {"query": "x"},
        {"query": [1, "a"]},
        {"query": {"fusion": "x"}},
        {"query": {"sample": "x"}},
        {"query": {"formula": {"mult": 1}}},
        {"query": {"formula": "$foo"}},
        {"query": {"context": {"positive": 1}}},
        {"with_payload": {"include": ["a"], "exclude": ["b"]}},
        {"with_payload": {"only": []}},
        {"with_payload": ["a."]},
        {"with_vector": 1},
        {"params": {"exact": None}},
        {"shard_key": 1.5},
        {"shard_key": {"target": "k"}},
        {"shard_key": {"target": "k", "fallback": 1.5}},
    ],
)
def test_what_is_no_query_is_a_format_error(body: Any) -> None:
    with pytest.raises(FormatError):
        query(**body)


def test_query_vectors_that_float32_cannot_hold_are_refused() -> None:
    with pytest.raises(InvalidVector, match="element 1 is not finite"):
        query(query=[1, 1e39])


def test_rules_broken_in_a_batch_name_the_search() -> None:
    with pytest.raises(InvalidBody, match=r"searches\[1\]\.limit: value 0 invalid"):
        parse_query_batch(orjson.dumps({"searches": [{}, {"limit": 0}]}))
