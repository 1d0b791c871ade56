"""How is each engine driven? In process, by the calls its own users would make."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import orjson
import qdrant_edge as edge

from benchmarks.data import Dataset
from headrace.model.collection_config import (
    CollectionConfig,
    PayloadFieldSchema,
    PayloadFieldType,
    VectorParams,
)
from headrace.model.filters import FieldCondition, Filter, Range
from headrace.model.operations import CreatePayloadIndex, PointSelector, SetPayload
from headrace.model.points import PointStruct
from headrace.model.queries import (
    WHOLE_PAYLOAD,
    Facet,
    Nearest,
    Query,
    Scroll,
    SearchParams,
)
from headrace.model.upserts import build_upsert
from headrace.model.vectors import Distance, FloatVector
from headrace.service.service import Service

SEARCH_LIMIT = 10
PAGE_LIMIT = 100
BATCH_POINTS = 1000
COLLECTION = "bench"
INDEXES = {"number": "integer", "kind": "keyword"}

_INDEXING_SECONDS_MAX = 3600.0
# With Qdrant's default `indexing_threshold`: fewer kilobytes of vectors get no graph.
_GRAPH_KB_MIN = 10_000
# Behind a graph an eighth of it may stay without one.
_TAIL_KB_MIN = _GRAPH_KB_MIN // 8


@dataclass(frozen=True)
class Bounds:
    """A field whose whole numbers are from `low` on, below `high`."""

    low: float
    high: float
    key: str = "number"


class Searcher(Protocol):
    """An engine that was filled."""

    @property
    def name(self) -> str:
        """The package and its version."""

    def search(
        self, vector: FloatVector, bounds: Bounds | None = None, width: int | None = None
    ) -> Sequence[int]:
        """The ids of the ten nearest points; `width` None walks as the engine does by default."""


class Side(Searcher, Protocol):
    """Headrace or Qdrant's engine, from empty to filled."""

    def upsert_all(self, dataset: Dataset) -> None:
        """Store all points, in batches."""

    def wait_until_indexed(self) -> None:
        """Until graphs and payload indexes cover all points."""

    def count(self, bounds: Bounds) -> int:
        """How many points pass, exactly."""

    def page(self, bounds: Bounds) -> list[Any]:
        """The first points that pass, with payloads as Python objects."""

    def facet(self, bounds: Bounds | None) -> dict[Any, int]:
        """The most frequent kinds, exactly."""

    def set_payload(self, bounds: Bounds) -> None:
        """Add a member to the payloads of all points that pass."""

    def close(self) -> None:
        """Close it."""


class HeadraceSide:
    """Headrace, called as its fronts call it. Its writes are synced."""

    name = "headrace"

    def __init__(
        self,
        folder: Path,
        dim: int,
        config: CollectionConfig | None = None,
        batch_points: int = BATCH_POINTS,
        indexes: Mapping[str, str] = INDEXES,
        is_new: bool = True,
    ) -> None:
        self.service = Service.open(folder)
        self._config = config or CollectionConfig({"": VectorParams(dim, Distance.COSINE)})
        self._batch_points = batch_points
        if not is_new:
            return
        self.service.create_collection(COLLECTION, self._config)
        for key, data_type in indexes.items():
            schema = PayloadFieldSchema(PayloadFieldType(data_type))
            self.service.write(COLLECTION, [CreatePayloadIndex(key, schema)])

    def upsert_all(self, dataset: Dataset) -> None:
        for begin in range(0, len(dataset.vectors), self._batch_points):
            points = [
                PointStruct(i, {"": dataset.vectors[i]}, orjson.dumps(dataset.payloads[i]))
                for i in dataset.ids[begin : begin + self._batch_points]
            ]
            self.service.write(COLLECTION, [build_upsert(points, self._config)])

    def wait_until_indexed(self) -> None:
        deadline = time.monotonic() + _INDEXING_SECONDS_MAX
        dim = self._config.vectors[""].size
        while time.monotonic() < deadline:
            is_done = not self.service.is_indexing(COLLECTION)
            info = self.service.collection_info(COLLECTION)
            kb_max = _TAIL_KB_MIN if info.indexed_vectors_count else _GRAPH_KB_MIN
            missing = info.points_count - info.indexed_vectors_count
            if is_done and missing * dim * 4 < kb_max * 1024:
                return
            time.sleep(0.05)
        raise TimeoutError("not indexed in time")

    def search(
        self, vector: FloatVector, bounds: Bounds | None = None, width: int | None = None
    ) -> Sequence[int]:
        query = Query(
            Nearest(vector),
            filter=None if bounds is None else _our_filter(bounds),
            params=SearchParams(hnsw_ef=width),
            limit=SEARCH_LIMIT,
        )
        return [int(point.record.id) for point in self.service.query(COLLECTION, query)]

    def search_with_payloads(self, vector: FloatVector) -> dict[int, bytes]:
        """The payloads of the ten nearest points, by their ids."""
        query = Query(Nearest(vector), limit=SEARCH_LIMIT, with_payload=WHOLE_PAYLOAD)
        found = self.service.query(COLLECTION, query)
        return {int(point.record.id): point.record.payload or b"{}" for point in found}

    def search_exactly(self, vector: FloatVector) -> Sequence[int]:
        query = Query(Nearest(vector), params=SearchParams(exact=True), limit=SEARCH_LIMIT)
        return [int(point.record.id) for point in self.service.query(COLLECTION, query)]

    def count(self, bounds: Bounds) -> int:
        return self.service.count(COLLECTION, _our_filter(bounds))

    def page(self, bounds: Bounds) -> list[Any]:
        scroll = Scroll(limit=PAGE_LIMIT, filter=_our_filter(bounds))
        records = self.service.scroll(COLLECTION, scroll).records
        return [(record.id, orjson.loads(record.payload or b"{}")) for record in records]

    def facet(self, bounds: Bounds | None) -> dict[Any, int]:
        filter = None if bounds is None else _our_filter(bounds)
        hits = self.service.facet(COLLECTION, Facet("kind", filter))
        return {hit.value: hit.count for hit in hits}

    def set_payload(self, bounds: Bounds) -> None:
        selector = PointSelector(filter=_our_filter(bounds))
        self.service.write(COLLECTION, [SetPayload(selector, b'{"note":"new"}')])

    def points_count(self) -> int:
        return self.service.points_count(COLLECTION)

    def close(self) -> None:
        self.service.close()


class EdgeSide:
    """Qdrant's own engine. It does not sync its writes."""

    name = f"qdrant-edge-py {version('qdrant-edge-py')}"

    def __init__(
        self,
        folder: Path,
        dim: int,
        indexes: Mapping[str, str] = INDEXES,
        is_new: bool = True,
    ) -> None:
        if not is_new:
            self._shard = edge.EdgeShard.load(str(folder))
            return
        folder.mkdir(parents=True)
        vectors = edge.EdgeVectorParams(size=dim, distance=edge.Distance.Cosine)
        config = edge.EdgeConfig(vectors=vectors, max_search_threads=1)
        self._shard = edge.EdgeShard.create(str(folder), config)
        for key, data_type in indexes.items():
            schema = getattr(edge.PayloadSchemaType, data_type.capitalize())
            self._shard.update(edge.UpdateOperation.create_field_index(key, schema))

    def upsert_all(self, dataset: Dataset) -> None:
        for begin in range(0, len(dataset.vectors), BATCH_POINTS):
            batch = dataset.ids[begin : begin + BATCH_POINTS]
            points = [
                edge.Point(i, dataset.vectors[i].tolist(), dataset.payloads[i]) for i in batch
            ]
            self.upsert_points(points)

    def upsert_points(self, points: list[edge.Point]) -> None:
        """Store points that are made already."""
        self._shard.update(edge.UpdateOperation.upsert_points(points))

    def wait_until_indexed(self) -> None:
        self._shard.optimize()

    def search(
        self, vector: FloatVector, bounds: Bounds | None = None, width: int | None = None
    ) -> Sequence[int]:
        request = edge.QueryRequest(
            query=edge.Query.Nearest(vector.tolist()),
            filter=None if bounds is None else _their_filter(bounds),
            limit=SEARCH_LIMIT,
            params=None if width is None else edge.SearchParams(hnsw_ef=width),
        )
        return [int(point.id) for point in self._shard.query(request)]

    def search_exactly(self, vector: FloatVector) -> Sequence[int]:
        request = edge.QueryRequest(
            query=edge.Query.Nearest(vector.tolist()),
            limit=SEARCH_LIMIT,
            params=edge.SearchParams(exact=True),
        )
        return [int(point.id) for point in self._shard.query(request)]

    def count(self, bounds: Bounds) -> int:
        return int(self._shard.count(edge.CountRequest(exact=True, filter=_their_filter(bounds))))

    def page(self, bounds: Bounds) -> list[Any]:
        request = edge.ScrollRequest(
            limit=PAGE_LIMIT, filter=_their_filter(bounds), with_payload=True, with_vector=False
        )
        return [(record.id, record.payload) for record in self._shard.scroll(request)[0]]

    def facet(self, bounds: Bounds | None) -> dict[Any, int]:
        filter = None if bounds is None else _their_filter(bounds)
        answer = self._shard.facet(edge.FacetRequest("kind", limit=10, exact=True, filter=filter))
        return {hit.value: hit.count for hit in answer.hits}

    def set_payload(self, bounds: Bounds) -> None:
        self._shard.update(
            edge.UpdateOperation.set_payload_by_filter(_their_filter(bounds), {"note": "new"})
        )

    def points_count(self) -> int:
        return int(self._shard.count(edge.CountRequest(exact=True)))

    def close(self) -> None:
        self._shard.close()


def _our_filter(bounds: Bounds) -> Filter:
    between = Range(gte=bounds.low, lt=bounds.high)
    return Filter(must=(FieldCondition(bounds.key, range=between),))


def _their_filter(bounds: Bounds) -> Any:
    between = edge.RangeFloat(gte=bounds.low, lt=bounds.high)
    return edge.Filter(must=[edge.FieldCondition(key=bounds.key, range=between)])
