"""How fast is a search by sparse vectors?"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import qdrant_edge as edge

from benchmarks.data import SEED
from benchmarks.results import Figure
from benchmarks.sides import BATCH_POINTS, COLLECTION, SEARCH_LIMIT, EdgeSide
from benchmarks.timing import alternate
from headrace.model.collection_config import CollectionConfig, SparseVectorParams
from headrace.model.points import PointStruct
from headrace.model.queries import Nearest, Query
from headrace.model.upserts import build_upsert
from headrace.model.vectors import SparseVector
from headrace.service.service import Service

_NAME = "terms"
_POINT_TERMS = 60
_QUERY_TERMS = 20
_VOCABULARY = 30_000
_TARGET = 1.0
_SCORE_TOLERANCE = 1e-4


class SparseData(NamedTuple):
    """Points and queries, as sparse vectors whose terms are as unevenly frequent as words."""

    points: list[SparseVector]
    queries: list[SparseVector]


def make_sparse_data(point_count: int, query_count: int) -> SparseData:
    """The same for the same numbers: term t stands in proportion to 1 / (t + 10)."""
    rng = np.random.default_rng(SEED + 2)
    shares = 1 / (np.arange(_VOCABULARY) + 10)
    bounds = np.cumsum(shares) / shares.sum()

    def draw(count: int, terms: int) -> list[SparseVector]:
        drawn = np.searchsorted(bounds, rng.random((count, 2 * terms)))
        vectors = []
        for row in drawn:
            # Drawn twice as often as wanted, since frequent terms come up again.
            indices = np.sort(list(dict.fromkeys(row.tolist()))[:terms])
            weights = rng.random(len(indices)).astype(np.float32) + np.float32(0.1)
            vectors.append(SparseVector(indices.astype(np.uint32), weights))
        return vectors

    return SparseData(draw(point_count, _POINT_TERMS), draw(query_count, _QUERY_TERMS))


def compare_sparse(data: SparseData, folder: Path) -> Figure:
    """Fill both engines, and ask both the same.

    Args:
        data: what is stored and asked.
        folder: an empty folder.
    """
    service = Service.open(folder / "headrace")
    try:
        config = CollectionConfig(sparse_vectors={_NAME: SparseVectorParams()})
        service.create_collection(COLLECTION, config)
        shard = _filled_shard(data, folder / "edge")
        for begin in range(0, len(data.points), BATCH_POINTS):
            batch = enumerate(data.points[begin : begin + BATCH_POINTS], start=begin)
            points = [PointStruct(i, {_NAME: vector}) for i, vector in batch]
            service.write(COLLECTION, [build_upsert(points, config)])

        def ours(query: SparseVector) -> list[float]:
            found = service.query(
                COLLECTION, Query(Nearest(query), using=_NAME, limit=SEARCH_LIMIT)
            )
            return [point.score for point in found]

        def theirs(query: SparseVector) -> list[float]:
            vector = edge.SparseVector(query.indices.tolist(), query.values.tolist())
            request = edge.QueryRequest(
                query=edge.Query.Nearest(vector, using=_NAME), limit=SEARCH_LIMIT
            )
            return [point.score for point in shard.query(request)]

        asked = [(query,) for query in data.queries]
        our, their = alternate([ours, theirs], [asked, asked])
        np.testing.assert_allclose(our.answers, their.answers, atol=_SCORE_TOLERANCE)
        shard.close()
    finally:
        service.close()
    return Figure(
        what=f"sparse search, {_POINT_TERMS} terms a point, {_QUERY_TERMS} a query",
        ratio=their.seconds / our.seconds,
        target=_TARGET,
        better="higher",
        unit="queries/s",
        headrace=1 / our.seconds,
        rival=1 / their.seconds,
        rival_name=EdgeSide.name,
        data=f"synthetic {len(data.points):,} sparse",
        recall=1.0,
        rival_recall=1.0,
    )


def _filled_shard(data: SparseData, folder: Path) -> edge.EdgeShard:
    folder.mkdir(parents=True)
    params = {_NAME: edge.EdgeSparseVectorParams()}
    config = edge.EdgeConfig(sparse_vectors=params, max_search_threads=1)
    shard = edge.EdgeShard.create(str(folder), config)
    for begin in range(0, len(data.points), BATCH_POINTS):
        points = [
            edge.Point(
                i, {_NAME: edge.SparseVector(vector.indices.tolist(), vector.values.tolist())}, {}
            )
            for i, vector in enumerate(data.points[begin : begin + BATCH_POINTS], start=begin)
        ]
        shard.update(edge.UpdateOperation.upsert_points(points))
    shard.optimize()
    return shard
