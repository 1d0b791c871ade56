"""Qdrant's own engine behind the methods of Qdrant's client that it has a feature for.

A shard of the engine has points, payload indexes and queries by vector. What Qdrant does
before it asks a shard is done here as well: an id as an example stands for its vector and
is left out of the answer, the average of examples is their nearest, wholes are made of
batches. Everything else that Qdrant does around its shards is not here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import qdrant_edge as edge
from qdrant_client import models
from qdrant_client.http.models import QueryResponse

from tests.client import edge_terms as terms

_EDGE: Any = edge
_UPDATE: Any = edge.UpdateOperation

# What asks one server for nothing that a shard in this process could do.
_OF_SERVERS = {"wait", "timeout", "ordering", "consistency", "batch_size", "parallel"}

# What the engine raises, and what is raised here in its place.
EDGE_REFUSALS = (Exception, LookupError)


class EdgeClient:
    """Collections of one shard each, in a temporary directory."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self._shards: dict[str, Any] = {}
        self._created = 0

    def close(self) -> None:
        for shard in self._shards.values():
            shard.close()
        self._directory.cleanup()

    # Collections

    def create_collection(
        self,
        collection_name: str,
        vectors_config: models.VectorParams | dict[str, models.VectorParams],
        sparse_vectors_config: dict[str, models.SparseVectorParams] | None = None,
        **rest: Any,
    ) -> bool:
        _assert_of_servers(rest)
        vectors: Any = (
            {name: terms.vector_params(one) for name, one in vectors_config.items()}
            if isinstance(vectors_config, dict)
            else terms.vector_params(vectors_config)
        )
        sparse = {
            name: terms.sparse_params(one) for name, one in (sparse_vectors_config or {}).items()
        }
        config = edge.EdgeConfig(vectors=vectors, sparse_vectors=sparse, wal_enabled=False)
        self._created += 1
        path = f"{self._directory.name}/{self._created}"
        self._shards[collection_name] = edge.EdgeShard.create(path, config)
        return True

    def recreate_collection(self, collection_name: str, **rest: Any) -> bool:
        self.delete_collection(collection_name)
        return self.create_collection(collection_name, **rest)

    def delete_collection(self, collection_name: str) -> bool:
        shard = self._shards.pop(collection_name, None)
        if shard is not None:
            shard.close()
        return shard is not None

    def get_collection(self, collection_name: str) -> Any:
        return self._shards[collection_name].info()

    def create_payload_index(
        self, collection_name: str, field_name: str, field_schema: Any
    ) -> None:
        index = terms.payload_index(field_schema)
        self._update(collection_name, _UPDATE.create_field_index(field_name, index))

    def delete_payload_index(self, collection_name: str, field_name: str) -> None:
        self._update(collection_name, _UPDATE.delete_field_index(field_name))

    def create_vector_name(
        self,
        collection_name: str,
        vector_name: str,
        vector_name_config: models.DenseVectorNameConfig,
    ) -> None:
        dense = vector_name_config.dense
        made = _UPDATE.create_dense_vector(vector_name, dense.size, terms.distance(dense.distance))
        self._update(collection_name, made)

    def delete_vector_name(self, collection_name: str, vector_name: str) -> None:
        self._update(collection_name, _UPDATE.delete_vector_name(vector_name))

    # Writes

    def upsert(
        self,
        collection_name: str,
        points: Sequence[models.PointStruct] | models.Batch,
        update_filter: models.Filter | None = None,
        update_mode: models.UpdateMode | None = None,
        **rest: Any,
    ) -> None:
        _assert_of_servers(rest)
        if isinstance(points, models.Batch):
            columns = zip(points.ids, points.vectors, points.payloads or [], strict=True)
            rows = [edge.Point(id, terms.vector(v), payload) for id, v, payload in columns]
        else:
            rows = [edge.Point(p.id, terms.vector(p.vector), p.payload) for p in points]
        mode = None
        if update_mode is not None:
            mode = getattr(
                edge.UpdateMode, "".join(w.capitalize() for w in update_mode.value.split("_"))
            )
        condition = terms.filter(update_filter)
        self._update(collection_name, _UPDATE.upsert_points(rows, condition, mode))

    def upload_points(
        self, collection_name: str, points: Iterable[models.PointStruct], **rest: Any
    ) -> None:
        self.upsert(collection_name, list(points), **rest)

    def upload_collection(
        self,
        collection_name: str,
        vectors: np.ndarray[Any, Any],
        ids: Iterable[int],
        payload: Iterable[dict[str, Any]],
        **rest: Any,
    ) -> None:
        _assert_of_servers(rest)
        rows = zip(ids, vectors.tolist(), payload, strict=True)
        self._update(collection_name, _UPDATE.upsert_points([edge.Point(*row) for row in rows]))

    def update_vectors(
        self, collection_name: str, points: Sequence[models.PointVectors], **rest: Any
    ) -> None:
        _assert_of_servers(rest)
        rows = [edge.PointVectors(p.id, terms.vector(p.vector)) for p in points]
        self._update(collection_name, _UPDATE.update_vectors(rows))

    def delete_vectors(
        self, collection_name: str, vectors: Sequence[str], points: Any, **rest: Any
    ) -> None:
        _assert_of_servers(rest)
        self._of_points(collection_name, "delete_vectors", points, vectors)

    def delete(self, collection_name: str, points_selector: Any, **rest: Any) -> None:
        _assert_of_servers(rest)
        self._of_points(collection_name, "delete_points", points_selector)

    def set_payload(
        self,
        collection_name: str,
        payload: dict[str, Any],
        points: Any,
        key: str | None = None,
        **rest: Any,
    ) -> None:
        _assert_of_servers(rest)
        self._of_points(collection_name, "set_payload", points, payload, key)

    def overwrite_payload(
        self, collection_name: str, payload: dict[str, Any], points: Any, **rest: Any
    ) -> None:
        _assert_of_servers(rest)
        self._of_points(collection_name, "overwrite_payload", points, payload)

    def delete_payload(
        self, collection_name: str, keys: Sequence[str], points: Any, **rest: Any
    ) -> None:
        _assert_of_servers(rest)
        self._of_points(collection_name, "delete_payload", points, keys)

    def clear_payload(self, collection_name: str, points_selector: Any, **rest: Any) -> None:
        _assert_of_servers(rest)
        self._of_points(collection_name, "clear_payload", points_selector)

    def batch_update_points(
        self, collection_name: str, update_operations: Sequence[Any], **rest: Any
    ) -> None:
        _assert_of_servers(rest)
        for one in update_operations:
            match one:
                case models.UpsertOperation(upsert=models.PointsList() as of):
                    self.upsert(collection_name, of.points)
                case models.SetPayloadOperation(set_payload=of):
                    self.set_payload(collection_name, of.payload, of.points, of.key)
                case models.OverwritePayloadOperation(overwrite_payload=of):
                    self.overwrite_payload(collection_name, of.payload, of.points)
                case models.DeletePayloadOperation(delete_payload=of):
                    self.delete_payload(collection_name, of.keys, of.points)
                case models.ClearPayloadOperation(clear_payload=models.PointIdsList() as of):
                    self.clear_payload(collection_name, of.points)
                case models.UpdateVectorsOperation(update_vectors=of):
                    self.update_vectors(collection_name, of.points)
                case models.DeleteVectorsOperation(delete_vectors=of):
                    self.delete_vectors(collection_name, of.vector, of.points)
                case models.DeleteOperation(delete=models.FilterSelector() as of):
                    self.delete(collection_name, of.filter)
                case models.DeleteOperation(delete=models.PointIdsList() as of):
                    self.delete(collection_name, of.points)
                case _:
                    raise AssertionError(f"no operation of the engine for {one!r}")

    def _of_points(self, collection_name: str, name: str, points: Any, *arguments: Any) -> None:
        """An operation on points by id or filter, which the engine names differently."""
        if isinstance(points, models.Filter):
            operation = getattr(_UPDATE, f"{name}_by_filter")
            points = terms.filter(points)
        else:
            operation = getattr(_UPDATE, name)
        self._update(collection_name, operation(points, *arguments))

    def _update(self, collection_name: str, operation: Any) -> None:
        self._shards[collection_name].update(operation)

    # Reads

    def count(
        self,
        collection_name: str,
        count_filter: models.Filter | None = None,
        exact: bool = True,
        **rest: Any,
    ) -> models.CountResult:
        _assert_of_servers(rest)
        request = edge.CountRequest(exact=exact, filter=terms.filter(count_filter))
        return models.CountResult(count=self._shards[collection_name].count(request))

    def facet(
        self,
        collection_name: str,
        key: str,
        facet_filter: models.Filter | None = None,
        limit: int = 10,
        exact: bool = False,
    ) -> models.FacetResponse:
        request = edge.FacetRequest(key, limit, exact, terms.filter(facet_filter))
        hits = self._shards[collection_name].facet(request).hits
        return models.FacetResponse(
            hits=[models.FacetValueHit(value=hit.value, count=hit.count) for hit in hits]
        )

    def retrieve(
        self,
        collection_name: str,
        ids: Sequence[int | str],
        with_payload: Any = True,
        with_vectors: Any = False,
    ) -> list[models.Record]:
        shard = self._shards[collection_name]
        return [_record(one) for one in shard.retrieve(ids, with_payload, with_vectors)]

    def scroll(
        self,
        collection_name: str,
        scroll_filter: models.Filter | None = None,
        limit: int = 10,
        order_by: str | models.OrderBy | None = None,
        offset: int | str | None = None,
        with_payload: Any = True,
        with_vectors: Any = False,
    ) -> tuple[list[models.Record], Any]:
        request = edge.ScrollRequest(
            offset=offset,
            limit=limit,
            filter=terms.filter(scroll_filter),
            with_payload=with_payload,
            with_vector=with_vectors,
            order_by=None if order_by is None else terms.order_by(order_by),
        )
        records, next_page = self._shards[collection_name].scroll(request)
        return [_record(one) for one in records], None if next_page is None else _id(next_page)

    def query_points(self, collection_name: str, **request: Any) -> QueryResponse:
        rest = {name: request.pop(name) for name in _OF_SERVERS & request.keys()}
        _assert_of_servers(rest)
        points = self._shards[collection_name].query(self._request(collection_name, **request))
        return QueryResponse(points=[_scored(one) for one in points])

    def query_batch_points(
        self, collection_name: str, requests: Sequence[models.QueryRequest]
    ) -> list[QueryResponse]:
        # A request of a batch has no payload unless it asks for one.
        batch = [
            self._request(collection_name, **{"with_payload": False, **_given(one)})
            for one in requests
        ]
        answers = self._shards[collection_name].query_batch(_EDGE.QueryBatchRequest(batch))
        return [QueryResponse(points=[_scored(p) for p in points]) for points in answers]

    def _request(
        self,
        collection_name: str,
        query: Any = None,
        prefetch: Any = None,
        query_filter: models.Filter | None = None,
        search_params: models.SearchParams | None = None,
        limit: int = 10,
        offset: int | None = None,
        with_payload: Any = True,
        with_vectors: Any = False,
        **terms_of_query: Any,
    ) -> Any:
        threshold = terms_of_query.pop("score_threshold", None)
        examples = _Examples(self, collection_name, **terms_of_query)
        asked = _query(query, examples, limit)
        prefetches = self._prefetches(collection_name, prefetch)
        return _EDGE.QueryRequest(
            limit=limit,
            offset=offset,
            query=asked,
            prefetches=[one for one, _ in prefetches],
            with_vector=with_vectors,
            with_payload=terms.payload_selection(with_payload),
            filter=_without_ids(query_filter, examples.ids.union(*(ids for _, ids in prefetches))),
            score_threshold=threshold,
            params=terms.search_params(search_params),
        )

    def _prefetches(self, collection_name: str, value: Any) -> list[tuple[Any, set[Any]]]:
        """The engine's prefetches, each with the ids that are examples in it."""
        many = value if isinstance(value, list) else [] if value is None else [value]
        return [self._prefetch(collection_name, **_given(one)) for one in many]

    def _prefetch(
        self,
        collection_name: str,
        prefetch: Any = None,
        query: Any = None,
        filter: models.Filter | None = None,
        params: models.SearchParams | None = None,
        score_threshold: float | None = None,
        limit: int = 10,
        **terms_of_query: Any,
    ) -> tuple[Any, set[Any]]:
        examples = _Examples(self, collection_name, **terms_of_query)
        asked = _query(query, examples, limit)
        inner = self._prefetches(collection_name, prefetch)
        ids = examples.ids.union(*(ids for _, ids in inner))
        made = edge.Prefetch(
            limit=limit,
            query=asked,
            prefetches=[one for one, _ in inner],
            params=terms.search_params(params),
            filter=_without_ids(filter, ids),
            score_threshold=score_threshold,
        )
        return made, ids


class _Examples:
    """Vectors of a query, and what ids among them stand for.

    Attributes:
        ids: the ids that stood for a vector of this collection, which are no answer.
    """

    def __init__(
        self,
        client: EdgeClient,
        collection_name: str,
        using: str | None = None,
        lookup_from: models.LookupLocation | None = None,
    ) -> None:
        self.using = using
        self.ids: set[Any] = set()
        self._client = client
        self._collection_name = collection_name
        self._lookup = lookup_from

    def vector(self, value: Any) -> Any:
        if not isinstance(value, (int, str)):
            return terms.vector(value)
        name, collection_name = self.using or "", self._collection_name
        if self._lookup is not None:
            name, collection_name = self._lookup.vector or name, self._lookup.collection
        if collection_name == self._collection_name:
            self.ids.add(value)
        records = self._client.retrieve(collection_name, [value], with_vectors=[name])
        if not records:
            raise LookupError(f"No point with id {value} found")
        vectors: Any = records[0].vector
        if name not in vectors:
            raise LookupError(f'Vector with name "{name}" for point not found')
        return terms.vector(vectors[name])


def _query(value: Any, examples: _Examples, limit: int) -> Any:
    using, vector = examples.using, examples.vector
    match value:
        case None:
            return None
        case models.OrderByQuery():
            return terms.order_by(value.order_by)
        case models.SampleQuery():
            return edge.Sample.Random
        case models.FusionQuery() | models.RrfQuery():
            return terms.fusion(value)
        case models.FormulaQuery():
            return terms.formula(value)
        case models.NearestQuery(nearest=nearest, mmr=mmr) if mmr is not None:
            diversity = 0.5 if mmr.diversity is None else mmr.diversity
            candidates = limit if mmr.candidates_limit is None else mmr.candidates_limit
            return edge.Mmr(vector(nearest), 1 - diversity, candidates, using)
        case models.NearestQuery():
            return _EDGE.Query.Nearest(vector(value.nearest), using)
        case models.RecommendQuery():
            return _recommend(value.recommend, examples)
        case models.DiscoverQuery():
            target = vector(value.discover.target)
            discover = edge.DiscoverQuery(target, _pairs(value.discover.context, examples))
            return _EDGE.Query.Discover(discover, using)
        case models.ContextQuery():
            return _EDGE.Query.Context(edge.ContextQuery(_pairs(value.context, examples)), using)
        case models.RelevanceFeedbackQuery():
            return _EDGE.Query.FeedbackNaive(_feedback(value.relevance_feedback, examples), using)
    return _EDGE.Query.Nearest(vector(value), using)


def _pairs(value: Any, examples: _Examples) -> list[Any]:
    pairs = value if isinstance(value, list) else [value]
    return [
        edge.ContextPair(examples.vector(one.positive), examples.vector(one.negative))
        for one in pairs
    ]


def _feedback(value: models.RelevanceFeedbackInput, examples: _Examples) -> Any:
    naive = value.strategy.naive
    return edge.FeedbackNaiveQuery(
        examples.vector(value.target),
        [edge.FeedbackItem(examples.vector(one.example), one.score) for one in value.feedback],
        edge.NaiveFeedbackStrategy(naive.a, naive.b, naive.c),
    )


def _recommend(value: models.RecommendInput, examples: _Examples) -> Any:
    positives = [examples.vector(one) for one in value.positive or []]
    negatives = [examples.vector(one) for one in value.negative or []]
    both = edge.RecommendQuery(positives, negatives)
    match value.strategy:
        case models.RecommendStrategy.BEST_SCORE:
            return _EDGE.Query.RecommendBestScore(both, examples.using)
        case models.RecommendStrategy.SUM_SCORES:
            return _EDGE.Query.RecommendSumScores(both, examples.using)
    return _EDGE.Query.Nearest(_average(positives, negatives), examples.using)


def _average(positives: list[Any], negatives: list[Any]) -> Any:
    """Away from the negatives, as far as they are from the positives.

    Vectors of vectors are put behind each other, the negatives' turned round.
    """
    first = positives[0]
    if isinstance(first, edge.SparseVector):
        indices = sorted({index for one in positives + negatives for index in one.indices})
        dense = [[_at(one, index) for index in indices] for one in positives + negatives]
        count = len(positives)
        return edge.SparseVector(indices, _average(dense[:count], dense[count:]))
    if isinstance(first[0], list):
        turned = [[-value for value in row] for one in negatives for row in one]
        return [row for one in positives for row in one] + turned
    average = np.mean(positives, axis=0)
    if negatives:
        average = 2 * average - np.mean(negatives, axis=0)
    return average.tolist()


def _at(vector: Any, index: int) -> float:
    """A component of a sparse vector."""
    components: dict[int, float] = dict(zip(vector.indices, vector.values, strict=True))
    return components.get(index, 0.0)


def _without_ids(value: models.Filter | None, ids: set[Any]) -> Any:
    if not ids:
        return terms.filter(value)
    without = models.Filter(must_not=[models.HasIdCondition(has_id=sorted(ids, key=str))])
    return terms.filter(without if value is None else models.Filter(must=[value, without]))


def _given(model: Any) -> dict[str, Any]:
    """What a model was given, by the names of the methods that take it."""
    names = {"filter": "query_filter", "params": "search_params", "with_vector": "with_vectors"}
    is_prefetch = isinstance(model, models.Prefetch)
    given = {name: value for name, value in model if value is not None}
    return given if is_prefetch else {names.get(name, name): v for name, v in given.items()}


def _record(record: Any) -> models.Record:
    return models.Record(
        id=_id(record.id),
        payload=record.payload,
        vector=terms.client_vector(record.vector),
        order_value=record.order_value,
    )


def _scored(point: Any) -> models.ScoredPoint:
    return models.ScoredPoint(
        id=_id(point.id),
        version=point.version,
        score=point.score,
        payload=point.payload,
        vector=terms.client_vector(point.vector),
        order_value=point.order_value,
    )


def _id(value: Any) -> Any:
    return value if isinstance(value, int) else str(value)


def _assert_of_servers(given: dict[str, Any]) -> None:
    assert given.keys() <= _OF_SERVERS, f"the engine is not asked for {given.keys() - _OF_SERVERS}"
