"""Inverse document frequencies count the points that the query says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import qdrant_edge as edge

from headrace.engine.engine import Engine
from headrace.model.collection_config import (
    CollectionConfig,
    Modifier,
    SparseVectorParams,
    VectorParams,
)
from headrace.model.errors import WrongInput
from headrace.model.filters import FieldCondition, Filter, MatchValue
from headrace.model.operations import WriteBatch
from headrace.model.points import PointStruct
from headrace.model.queries import Idf, Nearest, Prefetch, Query, RrfFusion, SearchParams
from headrace.model.upserts import build_upsert
from headrace.model.vectors import Distance, SparseVector, Vector

CONFIG = CollectionConfig(
    vectors={"dense": VectorParams(2, Distance.DOT)},
    sparse_vectors={
        "words": SparseVectorParams(modifier=Modifier.IDF),
        "plain": SparseVectorParams(),
    },
)
TARGET = SparseVector(
    np.array([1, 2, 3, 99], dtype=np.uint32), np.array([1.0, 2.0, 0.5, 1.0], dtype=np.float32)
)


def documents() -> list[tuple[int, list[int], list[float], int]]:
    rng = np.random.default_rng(4)
    return [
        (
            n,
            sorted(rng.choice(8, size=1 + n % 4, replace=False).tolist()),
            (rng.random(1 + n % 4) + 0.1).astype(np.float32).tolist(),
            n % 3,
        )
        for n in range(60)
    ]


@pytest.fixture
def engine(tmp_path: Path) -> Any:
    opened = Engine.open(tmp_path)
    opened.create_collection("c", CONFIG)
    points = []
    for n, indices, values, kind in documents():
        words = SparseVector(np.array(indices, dtype=np.uint32), np.array(values, dtype=np.float32))
        vectors: dict[str, Vector] = {"plain": words}
        if n % 5:
            vectors["words"] = words
        points.append(PointStruct(n, vectors, orjson.dumps({"kind": kind})))
    opened.collection("c").write(WriteBatch([build_upsert(points, CONFIG)]))
    yield opened
    opened.close()


def of_kind(kind: int) -> Filter:
    return Filter(must=(FieldCondition("kind", match=MatchValue(kind)),))


def scores(engine: Engine, query: Query) -> dict[Any, float]:
    found = engine.collection("c").query(query, lambda name: engine.collection(name).view)
    return {point.record.id: point.score for point in found}


def query_of(idf: Idf | None, using: str = "words", filter: Filter | None = None) -> Query:
    return Query(
        query=Nearest(TARGET), using=using, limit=60, filter=filter, params=SearchParams(idf=idf)
    )


@pytest.mark.parametrize("kind", [None, 0, 1, 7])
@pytest.mark.parametrize("filtered", [None, 2])
def test_scores_are_those_of_qdrants_engine(
    engine: Engine, tmp_path: Path, kind: int | None, filtered: int | None
) -> None:
    (tmp_path / "edge").mkdir()
    shard = edge.EdgeShard.create(
        str(tmp_path / "edge"),
        edge.EdgeConfig(
            sparse_vectors={"words": edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)}
        ),
    )
    points = [
        edge.Point(
            n,
            {"words": edge.SparseVector(indices=indices, values=values)} if n % 5 else {},
            {"kind": kind_of},
        )
        for n, indices, values, kind_of in documents()
    ]
    shard.update(edge.UpdateOperation.upsert_points(points))

    def theirs(wanted: int | None) -> Any:
        if wanted is None:
            return None
        condition = edge.FieldCondition("kind", match=edge.MatchValue(value=wanted))
        return edge.Filter(must=[condition])

    params = None if kind is None else edge.SearchParams(idf=edge.IdfParams(theirs(kind)))
    target = edge.SparseVector(indices=TARGET.indices.tolist(), values=TARGET.values.tolist())
    request = edge.QueryRequest(
        query=edge.Query.Nearest(target, using="words"),
        limit=60,
        filter=theirs(filtered),
        params=params,
    )
    wanted = {point.id: point.score for point in shard.query(request)}
    idf = None if kind is None else Idf(of_kind(kind))
    narrowed = None if filtered is None else of_kind(filtered)
    assert scores(engine, query_of(idf, filter=narrowed)) == pytest.approx(wanted, rel=1e-5)


def test_global_is_what_counts_when_nothing_is_said(engine: Engine) -> None:
    assert scores(engine, query_of(Idf())) == scores(engine, query_of(None))
    assert scores(engine, query_of(Idf(of_kind(1)))) != scores(engine, query_of(None))


def test_each_prefetch_has_a_corpus_of_its_own(engine: Engine) -> None:
    parts = [query_of(Idf(of_kind(1))), query_of(None)]
    prefetch = tuple(
        Prefetch(query=part.query, using="words", params=part.params, limit=60) for part in parts
    )
    fused = Query(query=RrfFusion(), prefetch=prefetch, limit=60)
    assert set(scores(engine, fused)) == set(scores(engine, parts[0]))


@pytest.mark.parametrize("using", ["plain", "dense"])
@pytest.mark.parametrize("idf", [Idf(), Idf(Filter())])
def test_a_vector_without_the_modifier_is_refused(engine: Engine, using: str, idf: Idf) -> None:
    target: Vector = TARGET if using == "plain" else np.ones(2, dtype=np.float32)
    query = Query(query=Nearest(target), using=using, params=SearchParams(idf=idf))
    with pytest.raises(WrongInput) as caught:
        scores(engine, query)
    assert caught.value.message == (
        "Wrong input: Validation failed: search param `idf` requires a sparse vector with the "
        f'`idf` modifier, which vector "{using}" is not'
    )
