"""Sparse and multi-vector queries, orders and facets are those of Qdrant's own engine.

As in `test_queries_match_edge.py`, but with vectors of other kinds, under a name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import orjson
import pytest
import qdrant_edge as edge

from headrace.model.collection_config import (
    CollectionConfig,
    Modifier,
    MultiVectorConfig,
    PayloadFieldSchema,
    PayloadFieldType,
    SparseVectorParams,
    VectorParams,
)
from headrace.model.filters import FieldCondition, Filter, MatchValue, Range
from headrace.model.operations import CreatePayloadIndex
from headrace.model.points import PointStruct
from headrace.model.queries import (
    Context,
    ContextPair,
    DbsfFusion,
    Direction,
    Discover,
    Facet,
    FeedbackItem,
    Mmr,
    Nearest,
    OrderBy,
    Prefetch,
    Query,
    Recommend,
    RecommendStrategy,
    RelevanceFeedback,
    RrfFusion,
    Scroll,
)
from headrace.model.upserts import build_upsert
from headrace.model.vectors import Distance, SparseVector, Vector
from headrace.service.service import Service

POINTS = 120
DIM = 5
LIMIT = 15
NAME = "v"
RNG = np.random.default_rng(23)
PAYLOADS = [
    {"color": ["red", "blue"][n % 2] if n % 5 else ["red", "green"], "n": n % 17, "f": n / 7}
    for n in range(POINTS)
]
RED = Filter(must=(FieldCondition("color", match=MatchValue("red")),))
EDGE_RED = edge.Filter(must=[edge.FieldCondition(key="color", match=edge.MatchValue("red"))])
SMALL = Filter(must=(FieldCondition("n", range=Range(lt=9)),))
EDGE_SMALL = edge.Filter(must=[edge.FieldCondition(key="n", range=edge.RangeFloat(lt=9))])
MULTI_KINDS = [f"multi {distance}" for distance in Distance]
KINDS = ["sparse", "sparse idf", *MULTI_KINDS]


def sparse() -> SparseVector:
    indices = np.sort(RNG.choice(30, RNG.integers(2, 8), replace=False)).astype(np.uint32)
    return SparseVector(indices, RNG.uniform(0.1, 2, len(indices)).astype(np.float32))


def multi() -> Vector:
    return RNG.standard_normal((int(RNG.integers(1, 4)), DIM)).astype(np.float32)


SPARSE = [sparse() for _ in range(POINTS + 6)]
MULTI = [multi() for _ in range(POINTS + 6)]


class Engines(NamedTuple):
    """The same points in both engines; the vectors after the points' are examples."""

    service: Service
    shard: Any
    vectors: list[Any]

    def ours(self, number: int) -> Vector:
        vector: Vector = self.vectors[POINTS + number]
        return vector

    def theirs(self, number: int) -> Any:
        return edge_vector(self.vectors[POINTS + number])


def edge_vector(vector: Vector) -> Any:
    if isinstance(vector, SparseVector):
        return edge.SparseVector(vector.indices.tolist(), vector.values.tolist())
    return vector.tolist()


def configs(kind: str) -> tuple[CollectionConfig, Any]:
    """The configuration of a collection of one vector of a kind, for each engine."""
    if kind.startswith("sparse"):
        modifier = Modifier.IDF if kind.endswith("idf") else Modifier.NONE
        ours = CollectionConfig(sparse_vectors={NAME: SparseVectorParams(modifier=modifier)})
        chosen = getattr(edge.Modifier, modifier.value.capitalize())
        params = edge.EdgeSparseVectorParams(modifier=chosen)
        return ours, edge.EdgeConfig(sparse_vectors={NAME: params})
    distance = Distance(kind.removeprefix("multi "))
    comparator = MultiVectorConfig()
    ours = CollectionConfig(
        vectors={NAME: VectorParams(DIM, distance, multivector_config=comparator)}
    )
    dense = edge.EdgeVectorParams(
        size=DIM,
        distance=getattr(edge.Distance, distance.capitalize()),
        multivector_config=edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim),
    )
    return ours, edge.EdgeConfig(vectors={NAME: dense})


@pytest.fixture(params=KINDS, scope="module")
def engines(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engines]:
    tmp_path = tmp_path_factory.mktemp("engines")
    config, edge_config = configs(request.param)
    vectors: list[Any] = list(SPARSE if request.param.startswith("sparse") else MULTI)
    service = Service.open(tmp_path / "headrace")
    service.create_collection("c", config)
    points = [PointStruct(n, {NAME: vectors[n]}, orjson.dumps(PAYLOADS[n])) for n in range(POINTS)]
    service.write("c", [build_upsert(points, config)])
    (tmp_path / "edge").mkdir()
    shard = edge.EdgeShard.create(str(tmp_path / "edge"), edge_config)
    shard.update(
        edge.UpdateOperation.upsert_points(
            [edge.Point(n, {NAME: edge_vector(vectors[n])}, PAYLOADS[n]) for n in range(POINTS)]
        )
    )
    for key, data_type in (("n", "integer"), ("f", "float"), ("color", "keyword")):
        schema = PayloadFieldSchema(PayloadFieldType(data_type))
        service.write("c", [CreatePayloadIndex(key, schema)])
        kind = getattr(edge.PayloadSchemaType, data_type.capitalize())
        shard.update(edge.UpdateOperation.create_field_index(key, kind))
    yield Engines(service, shard, vectors)
    shard.close()
    service.close()


def pairs() -> tuple[tuple[int, int], ...]:
    return ((1, 2), (3, 4))


def our_pairs(e: Engines) -> tuple[ContextPair, ...]:
    return tuple(ContextPair(e.ours(a), e.ours(b)) for a, b in pairs())


def edge_pairs(e: Engines) -> list[Any]:
    return [edge.ContextPair(e.theirs(a), e.theirs(b)) for a, b in pairs()]


def recommend(e: Engines, strategy: RecommendStrategy) -> Query:
    kind = Recommend((e.ours(0), e.ours(1)), (e.ours(2),), strategy)
    return Query(query=kind, using=NAME, limit=LIMIT)


def edge_recommend(e: Engines) -> Any:
    return edge.RecommendQuery([e.theirs(0), e.theirs(1)], [e.theirs(2)])


def our_prefetches(e: Engines) -> tuple[Prefetch, ...]:
    inner = Prefetch(query=Nearest(e.ours(1)), using=NAME, limit=40, filter=SMALL)
    return (
        Prefetch(query=Nearest(e.ours(0)), using=NAME, limit=20),
        Prefetch(query=Nearest(e.ours(2)), using=NAME, limit=25, filter=RED, prefetch=(inner,)),
    )


def edge_prefetches(e: Engines) -> list[Any]:
    nearest = [edge.Query.Nearest(e.theirs(n), NAME) for n in range(3)]
    inner = edge.Prefetch(limit=40, query=nearest[1], filter=EDGE_SMALL)
    return [
        edge.Prefetch(limit=20, query=nearest[0]),
        edge.Prefetch(limit=25, query=nearest[2], filter=EDGE_RED, prefetches=[inner]),
    ]


def edge_query(query: Any, **terms: Any) -> Any:
    return edge.QueryRequest(limit=LIMIT, query=query, **terms)


FEEDBACK = ((1, 0.9), (2, 0.1), (3, 0.5))
CASES: dict[str, tuple[Callable[[Engines], Query], Callable[[Engines], Any]]] = {
    "nearest": (
        lambda e: Query(query=Nearest(e.ours(0)), using=NAME, limit=LIMIT, offset=2),
        lambda e: edge_query(edge.Query.Nearest(e.theirs(0), NAME), offset=2),
    ),
    "nearest filtered": (
        lambda e: Query(query=Nearest(e.ours(3)), using=NAME, limit=LIMIT, filter=RED),
        lambda e: edge_query(edge.Query.Nearest(e.theirs(3), NAME), filter=EDGE_RED),
    ),
    "best score": (
        lambda e: recommend(e, RecommendStrategy.BEST_SCORE),
        lambda e: edge_query(edge.Query.RecommendBestScore(edge_recommend(e), NAME)),
    ),
    "sum scores": (
        lambda e: recommend(e, RecommendStrategy.SUM_SCORES),
        lambda e: edge_query(edge.Query.RecommendSumScores(edge_recommend(e), NAME)),
    ),
    "discover": (
        lambda e: Query(query=Discover(e.ours(0), our_pairs(e)), using=NAME, limit=LIMIT),
        lambda e: edge_query(
            edge.Query.Discover(edge.DiscoverQuery(e.theirs(0), edge_pairs(e)), NAME)
        ),
    ),
    "discover without context": (
        lambda e: Query(query=Discover(e.ours(0), ()), using=NAME, limit=LIMIT),
        lambda e: edge_query(edge.Query.Discover(edge.DiscoverQuery(e.theirs(0), []), NAME)),
    ),
    "context": (
        lambda e: Query(query=Context(our_pairs(e)), using=NAME, limit=LIMIT),
        lambda e: edge_query(edge.Query.Context(edge.ContextQuery(edge_pairs(e)), NAME)),
    ),
    "feedback": (
        lambda e: Query(
            query=RelevanceFeedback(
                e.ours(0),
                tuple(FeedbackItem(e.ours(n), score) for n, score in FEEDBACK),
                a=0.7,
                b=0.6,
                c=0.4,
            ),
            using=NAME,
            limit=LIMIT,
        ),
        lambda e: edge_query(
            edge.Query.FeedbackNaive(
                edge.FeedbackNaiveQuery(
                    e.theirs(0),
                    [edge.FeedbackItem(e.theirs(n), score) for n, score in FEEDBACK],
                    edge.NaiveFeedbackStrategy(0.7, 0.6, 0.4),
                ),
                NAME,
            )
        ),
    ),
    "rrf of nested prefetches": (
        lambda e: Query(query=RrfFusion(), prefetch=our_prefetches(e), limit=LIMIT),
        lambda e: edge_query(RRF(k=2), prefetches=edge_prefetches(e)),
    ),
    "dbsf of nested prefetches": (
        lambda e: Query(query=DbsfFusion(), prefetch=our_prefetches(e), limit=LIMIT),
        lambda e: edge_query(DBSF(), prefetches=edge_prefetches(e)),
    ),
    "nested prefetches scored again": (
        lambda e: Query(
            query=Nearest(e.ours(5)), using=NAME, prefetch=our_prefetches(e), limit=LIMIT
        ),
        lambda e: edge_query(edge.Query.Nearest(e.theirs(5), NAME), prefetches=edge_prefetches(e)),
    ),
}

# The stubs do not say that a fusion is a query.
RRF: Any = edge.Fusion.Rrf
DBSF: Any = edge.Fusion.Dbsf


@pytest.mark.parametrize("name", CASES)
def test_queries_of_other_vectors_give_the_scores_of_qdrants_engine(
    name: str, engines: Engines
) -> None:
    ours, theirs = CASES[name]
    _assert_equal(engines, ours(engines), theirs(engines))


@pytest.mark.parametrize("engines", MULTI_KINDS, indirect=True)
@pytest.mark.parametrize("diversity", [0.3, 0.5, 0.7])
def test_mmr_of_multi_vectors_is_that_of_qdrants_engine(diversity: float, engines: Engines) -> None:
    # MaxSim is not symmetric: each candidate asks for the chosen ones.
    ours = Query(query=Nearest(engines.ours(0), Mmr(diversity, 40)), using=NAME, limit=LIMIT)
    theirs = edge_query(edge.Mmr(engines.theirs(0), 1 - diversity, 40, NAME))
    _assert_equal(engines, ours, theirs)


def _assert_equal(engines: Engines, ours: Query, theirs: Any) -> None:
    found = [(p.record.id, p.score) for p in engines.service.query("c", ours)]
    wanted = [(p.id, p.score) for p in engines.shard.query(theirs)]
    scores = [score for _, score in wanted]
    np.testing.assert_allclose([score for _, score in found], scores, rtol=5e-4, atol=3e-5)
    for (own_id, score), (wanted_id, _) in zip(found, wanted, strict=True):
        tied = sum(abs(score - other) <= 1e-4 * max(1.0, abs(score)) for other in scores)
        assert own_id == wanted_id or tied > 1 or abs(score - scores[-1]) < 1e-4


@pytest.mark.parametrize("engines", ["sparse"], indirect=True)
@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize(("key", "start"), [("n", None), ("n", 5), ("f", 4.5), ("f", None)])
def test_orders_are_those_of_qdrants_engine(
    engines: Engines, direction: Direction, key: str, start: float | None
) -> None:
    scroll = Scroll(limit=POINTS, order_by=OrderBy(key, direction, start), filter=RED)
    page = engines.service.scroll("c", scroll)
    chosen = getattr(edge.Direction, direction.value.capitalize())
    order = edge.OrderBy(key, direction=chosen, start_from=start)
    request = edge.ScrollRequest(limit=POINTS, order_by=order, filter=EDGE_RED, with_payload=True)
    wanted = engines.shard.scroll(request)
    records = wanted[0] if isinstance(wanted, tuple) else wanted
    values = [record.payload[key] for record in records]
    assert [record.order_value for record in page.records] == pytest.approx(values)
    assert {record.id for record in page.records} == {record.id for record in records}


@pytest.mark.parametrize("engines", ["sparse"], indirect=True)
@pytest.mark.parametrize("key", ["color", "n"])
@pytest.mark.parametrize(("filter", "edge_filter"), [(None, None), (SMALL, EDGE_SMALL)])
def test_facets_are_those_of_qdrants_engine(
    engines: Engines, key: str, filter: Filter | None, edge_filter: Any
) -> None:
    found = engines.service.facet("c", Facet(key, limit=5, filter=filter))
    request = edge.FacetRequest(key, limit=5, exact=True, filter=edge_filter)
    wanted = engines.shard.facet(request).hits
    assert [(hit.value, hit.count) for hit in found] == [(hit.value, hit.count) for hit in wanted]
