"""Every kind of query gives the points and scores of Qdrant's own engine.

Each case is a pair: the query as the model has it and the same for `qdrant_edge`. The
data is small, so ranks are compared exactly (but for ties) and scores closely.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import pytest
import qdrant_edge as edge
from msgspec.structs import replace

from headrace.model import formula as f
from headrace.model.collection_config import CollectionConfig, VectorParams
from headrace.model.filters import FieldCondition, Filter, Geo, MatchValue, Range
from headrace.model.points import PointStruct
from headrace.model.queries import (
    Context,
    ContextPair,
    DbsfFusion,
    Discover,
    FeedbackItem,
    Formula,
    Mmr,
    Nearest,
    Prefetch,
    Query,
    Recommend,
    RecommendStrategy,
    RelevanceFeedback,
    RrfFusion,
)
from headrace.model.upserts import build_upsert
from headrace.model.vectors import Distance
from headrace.service.service import Service

POINTS = 200
DIM = 6
LIMIT = 12
RNG = np.random.default_rng(11)
VECTORS = RNG.standard_normal((POINTS, DIM)).astype(np.float32)
PAYLOADS: list[dict[str, Any]] = [
    {
        "color": "red" if n % 3 else "blue",
        "price": n * 1.25,
        "place": {"lon": float(RNG.uniform(-180, 180)), "lat": float(RNG.uniform(-90, 90))},
        "made": f"2024-01-{n % 28 + 1:02d}T10:00:00Z",
    }
    for n in range(POINTS)
]
EXAMPLES = RNG.standard_normal((6, DIM)).astype(np.float32)
RED = Filter(must=(FieldCondition("color", match=MatchValue("red")),))
EDGE_RED = edge.Filter(must=[edge.FieldCondition(key="color", match=edge.MatchValue("red"))])


# The stubs do not say that a fusion is a query.
RRF: Any = edge.Fusion.Rrf
DBSF: Any = edge.Fusion.Dbsf


class Engines(NamedTuple):
    """The same points in both engines."""

    service: Service
    shard: Any


@pytest.fixture(params=list(Distance))
def engines(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engines]:
    distance = Distance(request.param)
    service = Service.open(tmp_path / "headrace")
    config = CollectionConfig(vectors={"": VectorParams(DIM, distance)})
    service.create_collection("c", config)
    points = [PointStruct(n, {"": VECTORS[n]}, orjson.dumps(PAYLOADS[n])) for n in range(POINTS)]
    service.write("c", [build_upsert(points, config)])
    (tmp_path / "edge").mkdir()
    params = edge.EdgeVectorParams(size=DIM, distance=getattr(edge.Distance, distance.capitalize()))
    shard = edge.EdgeShard.create(str(tmp_path / "edge"), edge.EdgeConfig(vectors=params))
    shard.update(
        edge.UpdateOperation.upsert_points(
            [edge.Point(n, VECTORS[n].tolist(), PAYLOADS[n]) for n in range(POINTS)]
        )
    )
    yield Engines(service, shard)
    shard.close()
    service.close()


def vec(number: int) -> list[float]:
    return [float(x) for x in EXAMPLES[number]]


def edge_pairs() -> list[Any]:
    return [edge.ContextPair(vec(1), vec(2)), edge.ContextPair(vec(3), vec(4))]


PAIRS = (ContextPair(EXAMPLES[1], EXAMPLES[2]), ContextPair(EXAMPLES[3], EXAMPLES[4]))
PREFETCHES = (
    Prefetch(query=Nearest(EXAMPLES[0]), limit=20),
    Prefetch(query=Nearest(EXAMPLES[1]), limit=15, filter=RED),
)


def edge_prefetches() -> list[Any]:
    return [
        edge.Prefetch(limit=20, query=edge.Query.Nearest(vec(0))),
        edge.Prefetch(limit=15, query=edge.Query.Nearest(vec(1)), filter=EDGE_RED),
    ]


def recommend(strategy: RecommendStrategy) -> Recommend:
    return Recommend((EXAMPLES[0], EXAMPLES[1]), (EXAMPLES[2],), strategy)


def edge_recommend() -> Any:
    return edge.RecommendQuery([vec(0), vec(1)], [vec(2)])


Case = tuple[Query, Callable[[], Any]]
VECTOR_CASES: dict[str, Case] = {
    "nearest": (
        Query(query=Nearest(EXAMPLES[0]), limit=LIMIT),
        lambda: edge.QueryRequest(limit=LIMIT, query=edge.Query.Nearest(vec(0))),
    ),
    "nearest filtered with offset": (
        Query(query=Nearest(EXAMPLES[0]), filter=RED, limit=LIMIT, offset=3),
        lambda: edge.QueryRequest(
            limit=LIMIT, offset=3, query=edge.Query.Nearest(vec(0)), filter=EDGE_RED
        ),
    ),
    "recommend best score": (
        Query(query=recommend(RecommendStrategy.BEST_SCORE), limit=LIMIT),
        lambda: edge.QueryRequest(
            limit=LIMIT, query=edge.Query.RecommendBestScore(edge_recommend())
        ),
    ),
    "recommend negatives only": (
        Query(query=Recommend((), (EXAMPLES[2],), RecommendStrategy.BEST_SCORE), limit=LIMIT),
        lambda: edge.QueryRequest(
            limit=LIMIT, query=edge.Query.RecommendBestScore(edge.RecommendQuery([], [vec(2)]))
        ),
    ),
    "recommend sum scores": (
        Query(query=recommend(RecommendStrategy.SUM_SCORES), limit=LIMIT),
        lambda: edge.QueryRequest(
            limit=LIMIT, query=edge.Query.RecommendSumScores(edge_recommend())
        ),
    ),
    "discover": (
        Query(query=Discover(EXAMPLES[0], PAIRS), limit=LIMIT),
        lambda: edge.QueryRequest(
            limit=LIMIT, query=edge.Query.Discover(edge.DiscoverQuery(vec(0), edge_pairs()))
        ),
    ),
    "feedback": (
        Query(
            query=RelevanceFeedback(
                EXAMPLES[0],
                tuple(
                    FeedbackItem(EXAMPLES[n], score) for n, score in ((1, 0.9), (2, 0.1), (3, 0.5))
                ),
                a=0.7,
                b=0.6,
                c=0.4,
            ),
            limit=LIMIT,
        ),
        lambda: edge.QueryRequest(
            limit=LIMIT,
            query=edge.Query.FeedbackNaive(
                edge.FeedbackNaiveQuery(
                    vec(0),
                    [edge.FeedbackItem(vec(n), s) for n, s in ((1, 0.9), (2, 0.1), (3, 0.5))],
                    edge.NaiveFeedbackStrategy(0.7, 0.6, 0.4),
                )
            ),
        ),
    ),
    "rrf": (
        Query(query=RrfFusion(), prefetch=PREFETCHES, limit=LIMIT),
        lambda: edge.QueryRequest(limit=LIMIT, query=RRF(k=2), prefetches=edge_prefetches()),
    ),
    "rrf weighted": (
        Query(query=RrfFusion(k=5, weights=(3.0, 0.5)), prefetch=PREFETCHES, limit=LIMIT),
        lambda: edge.QueryRequest(
            limit=LIMIT,
            query=RRF(k=5, weights=[3.0, 0.5]),
            prefetches=edge_prefetches(),
        ),
    ),
    "dbsf": (
        Query(query=DbsfFusion(), prefetch=PREFETCHES, limit=LIMIT),
        lambda: edge.QueryRequest(limit=LIMIT, query=DBSF(), prefetches=edge_prefetches()),
    ),
    "rescored prefetch": (
        Query(query=Nearest(EXAMPLES[3]), prefetch=PREFETCHES, limit=LIMIT),
        lambda: edge.QueryRequest(
            limit=LIMIT, query=edge.Query.Nearest(vec(3)), prefetches=edge_prefetches()
        ),
    ),
    "mmr": (
        Query(query=Nearest(EXAMPLES[0], Mmr(0.4, 40)), limit=LIMIT),
        lambda: edge.QueryRequest(limit=LIMIT, query=edge.Mmr(vec(0), 0.6, 40)),
    ),
}


@pytest.mark.parametrize("name", VECTOR_CASES)
def test_query_gives_the_points_and_scores_of_qdrants_engine(name: str, engines: Engines) -> None:
    ours, theirs = VECTOR_CASES[name]
    _assert_equal(engines.service.query("c", ours), engines.shard.query(theirs()))


def test_context_gives_the_scores_of_qdrants_engine(engines: Engines) -> None:
    # Many points lose nothing and tie at 0: only the scores can be compared. They are small
    # differences of large similarities, so the engines' rounding shows.
    found = engines.service.query("c", Query(query=Context(PAIRS), limit=POINTS))
    context = edge.Query.Context(edge.ContextQuery(edge_pairs()))
    wanted = engines.shard.query(edge.QueryRequest(limit=POINTS, query=context))
    np.testing.assert_allclose(
        [p.score for p in found], [p.score for p in wanted], rtol=1e-4, atol=2e-5
    )


@pytest.mark.parametrize("margin", [-0.2, 0.3])
def test_score_threshold_is_that_of_qdrants_engine(margin: float, engines: Engines) -> None:
    middle = engines.service.query("c", Query(query=Nearest(EXAMPLES[0]), limit=POINTS))[100].score
    ours = Query(query=Nearest(EXAMPLES[0]), limit=POINTS, score_threshold=middle + margin)
    theirs = edge.QueryRequest(
        limit=POINTS, query=edge.Query.Nearest(vec(0)), score_threshold=middle + margin
    )
    _assert_equal(engines.service.query("c", ours), engines.shard.query(theirs))


@pytest.mark.parametrize("place", [0, 3, LIMIT - 1])
@pytest.mark.parametrize("margin", [-1e-3, 1e-3])
@pytest.mark.parametrize(
    "name",
    ["recommend best score", "recommend sum scores", "discover", "feedback", "mmr"],
)
def test_score_threshold_of_other_queries_is_that_of_qdrants_engine(
    name: str, margin: float, place: int, engines: Engines
) -> None:
    ours, theirs = VECTOR_CASES[name]
    threshold = engines.service.query("c", ours)[place].score + margin
    query = theirs().query
    request = edge.QueryRequest(limit=LIMIT, query=query, score_threshold=threshold)
    found = engines.service.query("c", replace(ours, score_threshold=threshold))
    _assert_equal(found, engines.shard.query(request), may_be_empty=True)


def test_mmr_chooses_in_a_prefetch_as_well(engines: Engines) -> None:
    mmr, candidates = Nearest(EXAMPLES[0], Mmr(0.4, 40)), 40
    chosen = engines.service.query("c", Query(query=mmr, limit=LIMIT))
    prefetch = (Prefetch(query=mmr, limit=LIMIT),)
    fused = engines.service.query("c", Query(query=RrfFusion(), prefetch=prefetch, limit=POINTS))
    assert [p.record.id for p in fused] == [p.record.id for p in chosen]
    # Qdrant's engine goes on with all candidates.
    request = edge.QueryRequest(
        limit=POINTS,
        query=RRF(k=2),
        prefetches=[edge.Prefetch(limit=LIMIT, query=edge.Mmr(vec(0), 0.6, candidates))],
    )
    assert len(engines.shard.query(request)) == candidates


def test_the_filters_of_a_query_and_of_its_prefetch_must_both_pass(engines: Engines) -> None:
    cheap, blue = Range(lt=20), MatchValue("blue")
    ours = Query(
        query=RrfFusion(),
        filter=Filter(should=(FieldCondition("price", range=cheap),)),
        prefetch=(
            Prefetch(
                query=Nearest(EXAMPLES[0]),
                filter=Filter(should=(FieldCondition("color", match=blue),)),
                limit=POINTS,
            ),
        ),
        limit=POINTS,
    )
    found = {point.record.id for point in engines.service.query("c", ours)}
    is_cheap = {n for n in range(POINTS) if PAYLOADS[n]["price"] < 20}
    is_blue = {n for n in range(POINTS) if PAYLOADS[n]["color"] == "blue"}
    assert found == is_cheap & is_blue
    # Qdrant's engine makes one list of both.
    price = edge.FieldCondition(key="price", range=edge.RangeFloat(lt=20.0))
    color = edge.FieldCondition(key="color", match=edge.MatchValue("blue"))
    prefetch = edge.Prefetch(
        limit=POINTS, query=edge.Query.Nearest(vec(0)), filter=edge.Filter(should=[color])
    )
    request = edge.QueryRequest(
        limit=POINTS, query=RRF(k=2), prefetches=[prefetch], filter=edge.Filter(should=[price])
    )
    assert {point.id for point in engines.shard.query(request)} == is_cheap | is_blue


E = edge.Expression
FORMULAS: dict[str, tuple[f.Expression, Callable[[], Any], dict[str, Any]]] = {
    "score plus price": (
        f.Sum((f.ScoreVariable(0), f.Mult((f.Constant(0.01), f.PayloadVariable("price"))))),
        lambda: E.Sum([E.Variable("$score"), E.Mult([E.Constant(0.01), E.Variable("price")])]),
        {},
    ),
    "second score with default": (
        f.Sum((f.ScoreVariable(1), f.PayloadVariable("price"))),
        lambda: E.Sum([E.Variable("$score[1]"), E.Variable("price")]),
        {"$score[1]": 0.5},
    ),
    "condition": (
        f.Sum(
            (
                f.PayloadVariable("price"),
                f.Mult(
                    (
                        f.Constant(1000),
                        f.ConditionValue(FieldCondition("price", range=Range(gte=100))),
                    )
                ),
            )
        ),
        lambda: E.Sum(
            [
                E.Variable("price"),
                E.Mult(
                    [
                        E.Constant(1000),
                        E.Condition(
                            edge.FieldCondition(key="price", range=edge.RangeFloat(gte=100.0))
                        ),
                    ]
                ),
            ]
        ),
        {},
    ),
    "geo decay": (
        f.Decay(
            f.DecayKind.GAUSS, f.GeoDistance(Geo(13.4, 52.5), "place"), scale=5e6, midpoint=0.3
        ),
        lambda: E.Decay(
            edge.DecayKind.Gauss,
            E.GeoDistance(edge.GeoPoint(13.4, 52.5), "place"),
            target=None,
            midpoint=0.3,
            scale=5e6,
        ),
        {},
    ),
    "datetime exp decay, by price": (
        f.Sum(
            (
                f.Decay(
                    f.DecayKind.EXP,
                    f.DatetimeKey("made"),
                    target=f.Datetime(1_704_500_000_000_000),
                    scale=86400.0,
                ),
                f.Mult((f.Constant(1e-3), f.PayloadVariable("price"))),
            )
        ),
        lambda: E.Sum(
            [
                E.Decay(
                    edge.DecayKind.Exp,
                    E.DatetimeKey("made"),
                    target=E.Datetime("2024-01-06T00:13:20Z"),
                    midpoint=0.5,
                    scale=86400.0,
                ),
                E.Mult([E.Constant(1e-3), E.Variable("price")]),
            ]
        ),
        {},
    ),
    "linear decay, powers and roots": (
        f.Sum(
            (
                f.Decay(f.DecayKind.LIN, f.PayloadVariable("price"), f.Constant(125), 200.0, 0.25),
                f.Unary(f.UnaryFunction.SQRT, f.PayloadVariable("price")),
                f.Unary(f.UnaryFunction.NEG, f.Unary(f.UnaryFunction.ABS, f.Constant(-3))),
                f.Pow(f.PayloadVariable("price"), f.Constant(0.3)),
            )
        ),
        lambda: E.Sum(
            [
                E.Decay(
                    edge.DecayKind.Lin,
                    E.Variable("price"),
                    E.Constant(125),
                    midpoint=0.25,
                    scale=200.0,
                ),
                E.Sqrt(E.Variable("price")),
                E.Neg(E.Abs(E.Constant(-3))),
                E.Pow(E.Variable("price"), E.Constant(0.3)),
            ]
        ),
        {},
    ),
    "logarithms and quotients": (
        f.Sum(
            (
                f.Unary(f.UnaryFunction.LN, f.Sum((f.PayloadVariable("price"), f.Constant(2)))),
                f.Unary(f.UnaryFunction.LOG10, f.Constant(50)),
                f.Unary(f.UnaryFunction.EXP, f.Constant(0.5)),
                f.Div(f.Constant(3), f.PayloadVariable("price"), 7.0),
            )
        ),
        lambda: E.Sum(
            [
                E.Ln(E.Sum([E.Variable("price"), E.Constant(2)])),
                E.Log10(E.Constant(50)),
                E.Exp(E.Constant(0.5)),
                E.Div(E.Constant(3), E.Variable("price"), 7.0),
            ]
        ),
        {},
    ),
}


@pytest.mark.parametrize("engines", [Distance.COSINE], indirect=True)
@pytest.mark.parametrize("name", FORMULAS)
def test_formula_gives_the_scores_of_qdrants_engine(name: str, engines: Engines) -> None:
    expression, edge_expression, defaults = FORMULAS[name]
    found = engines.service.query(
        "c", Query(query=Formula(expression, defaults), prefetch=PREFETCHES, limit=LIMIT)
    )
    wanted = engines.shard.query(
        edge.QueryRequest(
            limit=LIMIT,
            query=edge.Formula(edge_expression(), defaults),
            prefetches=edge_prefetches(),
        )
    )
    _assert_equal(found, wanted)


def _assert_equal(found: list[Any], wanted: list[Any], may_be_empty: bool = False) -> None:
    """Equal scores in order, and the same point at each; ties may stand in any order."""
    if may_be_empty and not wanted:
        assert not found
        return
    assert wanted
    ours = [(point.record.id, point.score) for point in found]
    theirs = [(point.id, point.score) for point in wanted]
    scores, wanted_scores = [score for _, score in ours], [score for _, score in theirs]
    np.testing.assert_allclose(scores, wanted_scores, rtol=2e-4, atol=1e-5)
    last = wanted_scores[-1]
    for (own_id, score), (wanted_id, _) in zip(ours, theirs, strict=True):
        is_tied = scores.count(score) > 1 or abs(score - last) < 1e-5
        assert own_id == wanted_id or is_tied
