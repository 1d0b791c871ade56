"""How is each engine driven? By the same calls, from the same Python objects, in process."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import orjson
import qdrant_edge as edge

from benchmarks.data import Payload
from headrace.model.collection_config import CollectionConfig, VectorParams
from headrace.model.points import PointStruct
from headrace.model.queries import Nearest, Query, SearchParams
from headrace.model.upserts import build_upsert
from headrace.model.vectors import DEFAULT_VECTOR_NAME, Distance, FloatMatrix, FloatVector
from headrace.service.service import Service

COLLECTION_NAME = "bench"


class Store(Protocol):
    """An opened, empty store of one dense cosine vector a point."""

    def upsert(self, ids: Sequence[int], vectors: FloatMatrix, payloads: Sequence[Payload]) -> None:
        """Store one batch; in Headrace it is durable when this returns."""

    def search(self, query: FloatVector, limit: int) -> list[int]:
        """The ids of the nearest points, compared with every point."""

    def points_count(self) -> int:
        """How many points are stored."""

    def __enter__(self) -> Self:
        """The store itself."""

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""


class HeadraceStore:
    """Headrace's engine, called as its fronts call it."""

    def __init__(self, folder: Path, dim: int) -> None:
        self.service = Service.open(folder)
        self._config = CollectionConfig({DEFAULT_VECTOR_NAME: VectorParams(dim, Distance.COSINE)})
        self.service.create_collection(COLLECTION_NAME, self._config)

    def upsert(self, ids: Sequence[int], vectors: FloatMatrix, payloads: Sequence[Payload]) -> None:
        points = [
            PointStruct(point_id, {DEFAULT_VECTOR_NAME: vector}, orjson.dumps(payload))
            for point_id, vector, payload in zip(ids, vectors, payloads, strict=True)
        ]
        self.service.write(COLLECTION_NAME, [build_upsert(points, self._config)])

    def search(self, query: FloatVector, limit: int) -> list[int]:
        found = self.service.query(
            COLLECTION_NAME, Query(Nearest(query), params=SearchParams(exact=True), limit=limit)
        )
        return [int(point.record.id) for point in found]

    def points_count(self) -> int:
        return self.service.count(COLLECTION_NAME)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.service.close()


class EdgeStore:
    """Qdrant's own engine in process. It does not sync its writes."""

    name = f"qdrant-edge-py {version('qdrant-edge-py')}"

    def __init__(self, folder: Path, dim: int) -> None:
        folder.mkdir(parents=True)
        vectors = edge.EdgeVectorParams(size=dim, distance=edge.Distance.Cosine)
        # One search thread on both sides: see `benchmarks/__main__.py`.
        config = edge.EdgeConfig(vectors=vectors, max_search_threads=1)
        self._shard = edge.EdgeShard.create(str(folder), config)

    def upsert(self, ids: Sequence[int], vectors: FloatMatrix, payloads: Sequence[Payload]) -> None:
        self.upsert_points(
            [
                edge.Point(point_id, vector, payload)
                for point_id, vector, payload in zip(ids, vectors.tolist(), payloads, strict=True)
            ]
        )

    def upsert_points(self, points: list[edge.Point]) -> None:
        """Store points that are made already."""
        self._shard.update(edge.UpdateOperation.upsert_points(points))

    def search(self, query: FloatVector, limit: int) -> list[int]:
        request = edge.QueryRequest(
            query=edge.Query.Nearest(query.tolist()),
            limit=limit,
            params=edge.SearchParams(exact=True),
        )
        return [int(point.id) for point in self._shard.query(request)]

    def points_count(self) -> int:
        return int(self._shard.count(edge.CountRequest(exact=True)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._shard.close()
