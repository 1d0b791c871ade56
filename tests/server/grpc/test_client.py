"""The official client, told to prefer gRPC, against a real server."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from qdrant_client import models

from tests.server.grpc.conftest import NewCollection
from tests.server.grpc.grpc_server import Grpc

UUID_ID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"


@pytest.fixture
def cities(front: Grpc, collection: str) -> str:
    front.client.upsert(
        collection,
        points=[
            models.PointStruct(
                id=1, vector=[1.0, 0.0, 0.0, 0.0], payload={"city": "Bonn", "size": 3}
            ),
            models.PointStruct(
                id=2, vector=[0.9, 0.1, 0.0, 0.0], payload={"city": "Köln", "size": 9}
            ),
            models.PointStruct(
                id=3, vector=[0.0, 0.0, 1.0, 0.0], payload={"city": "Wien", "tags": ["a"]}
            ),
            models.PointStruct(id=UUID_ID, vector=[0.0, 0.0, 0.0, 1.0]),
        ],
        wait=True,
    )
    return collection


def test_a_collection_is_created_listed_shown_and_deleted(front: Grpc) -> None:
    name = f"c-{uuid4().hex}"
    assert front.client.create_collection(
        name,
        vectors_config={
            "text": models.VectorParams(size=8, distance=models.Distance.COSINE),
            "tokens": models.VectorParams(
                size=2,
                distance=models.Distance.DOT,
                multivector_config=models.MultiVectorConfig(
                    comparator=models.MultiVectorComparator.MAX_SIM
                ),
            ),
        },
        sparse_vectors_config={"words": models.SparseVectorParams(modifier=models.Modifier.IDF)},
        metadata={"owner": "me", "sizes": [1, 2.0]},
    )
    assert name in [one.name for one in front.client.get_collections().collections]
    assert front.client.collection_exists(name)
    info = front.client.get_collection(name)
    vectors = info.config.params.vectors
    assert isinstance(vectors, dict)
    assert vectors["text"].size == 8
    assert vectors["text"].distance == models.Distance.COSINE
    assert vectors["tokens"].multivector_config is not None
    assert info.config.params.sparse_vectors is not None
    assert info.config.params.sparse_vectors["words"].modifier == models.Modifier.IDF
    assert info.config.hnsw_config.m == 16
    assert info.config.optimizer_config.flush_interval_sec == 5
    assert info.config.metadata == {"owner": "me", "sizes": [1, 2.0]}
    assert info.status == models.CollectionStatus.GREEN
    assert front.client.delete_collection(name)
    assert not front.client.delete_collection(name)
    assert not front.client.collection_exists(name)


def test_writes_are_completed_with_wait_and_acknowledged_without(
    front: Grpc, collection: str
) -> None:
    points = [models.PointStruct(id=1, vector=[1.0, 2.0, 3.0, 4.0])]
    waited = front.client.upsert(collection, points=points, wait=True)
    sent = front.client.upsert(collection, points=points, wait=False)
    assert waited.status == models.UpdateStatus.COMPLETED
    assert sent.status == models.UpdateStatus.ACKNOWLEDGED
    assert waited.operation_id is not None
    assert sent.operation_id is not None
    assert sent.operation_id > waited.operation_id
    assert front.client.count(collection).count == 1


def test_the_nearest_come_best_first(front: Grpc, cities: str) -> None:
    found = front.client.query_points(
        cities, query=[1.0, 0.0, 0.0, 0.0], limit=2, with_payload=["city"], with_vectors=True
    ).points
    assert [(point.id, point.payload, point.vector) for point in found] == [
        (1, {"city": "Bonn"}, [1, 0, 0, 0]),
        (2, {"city": "Köln"}, pytest.approx([0.9, 0.1, 0, 0])),
    ]
    assert [point.score for point in found] == [1.0, pytest.approx(0.9)]
    assert found[0].version > 0


def test_a_stored_point_as_the_target_is_left_out(front: Grpc, cities: str) -> None:
    assert [p.id for p in front.client.query_points(cities, query=1, limit=1).points] == [2]


def test_a_batch_of_queries_answers_each(front: Grpc, cities: str) -> None:
    answers = front.client.query_batch_points(
        cities,
        requests=[
            models.QueryRequest(query=[1.0, 0.0, 0.0, 0.0], limit=1),
            models.QueryRequest(query=[0.0, 0.0, 1.0, 0.0], limit=1, with_payload=True),
        ],
    )
    assert [[point.id for point in answer.points] for answer in answers] == [[1], [3]]
    assert answers[1].points[0].payload == {"city": "Wien", "tags": ["a"]}


def test_a_filter_narrows_queries_counts_and_lists(front: Grpc, cities: str) -> None:
    large = models.Filter(must=[models.FieldCondition(key="size", range=models.Range(gt=3))])
    found = front.client.query_points(cities, query=[1.0, 0, 0, 0], query_filter=large).points
    assert [point.id for point in found] == [2]
    assert front.client.count(cities, count_filter=large).count == 1
    records, next_id = front.client.scroll(cities, scroll_filter=large)
    assert ([record.id for record in records], next_id) == ([2], None)


def test_scrolling_pages_through_all_ids_in_order(front: Grpc, cities: str) -> None:
    first, next_id = front.client.scroll(cities, limit=3)
    assert [record.id for record in first] == [1, 2, 3]
    assert next_id == UUID_ID
    assert first[0].payload == {"city": "Bonn", "size": 3}
    last, end = front.client.scroll(cities, limit=3, offset=next_id, with_vectors=True)
    assert [(record.id, record.vector) for record in last] == [(UUID_ID, [0, 0, 0, 1])]
    assert end is None


def test_points_are_retrieved_in_the_order_asked_for(front: Grpc, cities: str) -> None:
    records = front.client.retrieve(cities, ids=[UUID_ID, 99, 1], with_payload=False)
    assert [(record.id, record.payload, record.vector) for record in records] == [
        (UUID_ID, {}, None),
        (1, {}, None),
    ]


def test_payload_operations_do_as_they_say(front: Grpc, cities: str) -> None:
    def payload(point_id: int) -> object:
        return front.client.retrieve(cities, ids=[point_id])[0].payload

    front.client.set_payload(cities, payload={"size": 4, "a": {"b": 1}}, points=[1])
    assert payload(1) == {"city": "Bonn", "size": 4, "a": {"b": 1}}
    front.client.set_payload(cities, payload={"c": None, "d": 2.5}, points=[1], key="a")
    assert payload(1) == {"city": "Bonn", "size": 4, "a": {"b": 1, "d": 2.5}}
    front.client.delete_payload(cities, keys=["a.b", "city"], points=[1])
    assert payload(1) == {"size": 4, "a": {"d": 2.5}}
    front.client.overwrite_payload(cities, payload={"only": [None, True]}, points=[1])
    assert payload(1) == {"only": [None, True]}
    front.client.clear_payload(cities, points_selector=models.PointIdsList(points=[1]))
    assert payload(1) == {}


def test_points_are_deleted_by_id_and_by_filter(front: Grpc, cities: str) -> None:
    front.client.delete(cities, points_selector=[1, 77])
    assert front.client.count(cities).count == 3
    wien = models.FieldCondition(key="city", match=models.MatchValue(value="Wien"))
    front.client.delete(cities, points_selector=models.Filter(must=[wien]))
    assert [record.id for record in front.client.scroll(cities)[0]] == [2, UUID_ID]


def test_named_vectors_of_all_kinds_come_back(front: Grpc) -> None:
    name = f"c-{uuid4().hex}"
    front.client.create_collection(
        name,
        vectors_config={
            "dense": models.VectorParams(size=2, distance=models.Distance.EUCLID),
            "multi": models.VectorParams(
                size=2,
                distance=models.Distance.DOT,
                multivector_config=models.MultiVectorConfig(
                    comparator=models.MultiVectorComparator.MAX_SIM
                ),
            ),
        },
        sparse_vectors_config={"sparse": models.SparseVectorParams()},
    )
    vectors: dict[str, Any] = {
        "dense": [0.5, 1.5],
        "multi": [[1.0, 0.0], [0.0, 1.0]],
        "sparse": models.SparseVector(indices=[3, 9], values=[0.25, 4.0]),
    }
    front.client.upsert(name, points=[models.PointStruct(id=1, vector=vectors)])
    front.client.upsert(name, points=[models.PointStruct(id=2, vector={})])
    records, _ = front.client.scroll(name, with_vectors=True)
    assert [record.vector for record in records] == [vectors, {}]
    by_sparse = front.client.query_points(
        name, query=models.SparseVector(indices=[9, 3], values=[1.0, 2.0]), using="sparse"
    ).points
    assert [(point.id, point.score) for point in by_sparse] == [(1, 4.5)]
    by_multi = front.client.query_points(name, query=[[1.0, 1.0]], using="multi").points
    assert [(point.id, point.score) for point in by_multi] == [(1, 1.0)]
    front.client.update_vectors(
        name, points=[models.PointVectors(id=2, vector={"dense": [1.0, 1.0]})]
    )
    front.client.delete_vectors(name, vectors=["multi", "sparse"], points=[1])
    records, _ = front.client.scroll(name, with_vectors=["dense", "multi"])
    assert [record.vector for record in records] == [{"dense": [0.5, 1.5]}, {"dense": [1.0, 1.0]}]
    front.client.delete_collection(name)


def test_a_batch_of_updates_is_applied_in_order(front: Grpc, cities: str) -> None:
    results = front.client.batch_update_points(
        cities,
        update_operations=[
            models.UpsertOperation(
                upsert=models.PointsList(
                    points=[models.PointStruct(id=5, vector=[1.0, 1.0, 1.0, 1.0])]
                )
            ),
            models.SetPayloadOperation(
                set_payload=models.SetPayload(payload={"new": True}, points=[5])
            ),
            models.DeleteOperation(delete=models.PointIdsList(points=[1, 2])),
        ],
    )
    assert [result.status for result in results] == [models.UpdateStatus.COMPLETED] * 3
    records, _ = front.client.scroll(cities)
    assert [(record.id, record.payload) for record in records] == [
        (3, {"city": "Wien", "tags": ["a"]}),
        (5, {"new": True}),
        (UUID_ID, {}),
    ]


def test_upsert_modes_and_filters_spare_points(front: Grpc, cities: str) -> None:
    def write(point_id: int, **options: Any) -> None:
        point = models.PointStruct(
            id=point_id, vector=[1.0, 1.0, 1.0, 1.0], payload={"written": True}
        )
        front.client.upsert(cities, points=[point], **options)

    write(1, update_mode=models.UpdateMode.INSERT_ONLY)
    write(60, update_mode=models.UpdateMode.UPDATE_ONLY)
    write(2, update_filter=models.Filter(must=[models.HasIdCondition(has_id=[99])]))
    assert [record.id for record in front.client.scroll(cities)[0]] == [1, 2, 3, UUID_ID]
    written = models.FieldCondition(key="written", match=models.MatchValue(value=True))
    assert front.client.count(cities, count_filter=models.Filter(must=[written])).count == 0


def test_payload_indexes_are_made_shown_and_dropped(front: Grpc, cities: str) -> None:
    front.client.create_payload_index(cities, "size", models.PayloadSchemaType.INTEGER)
    front.client.create_payload_index(
        cities, "city", models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD)
    )
    text = models.TextIndexParams(
        type=models.TextIndexType.TEXT,
        tokenizer=models.TokenizerType.WHITESPACE,
        min_token_len=2,
        lowercase=True,
        phrase_matching=True,
        stopwords=models.StopwordsSet(languages=[models.Language.ENGLISH], custom=["ja"]),
        stemmer=models.SnowballParams(
            type=models.Snowball.SNOWBALL, language=models.SnowballLanguage.GERMAN
        ),
    )
    front.client.create_payload_index(cities, "about", text)
    schema = front.client.get_collection(cities).payload_schema
    assert schema["size"] == models.PayloadIndexInfo(
        data_type=models.PayloadSchemaType.INTEGER, points=2
    )
    assert schema["city"].points == 3
    assert isinstance(schema["city"].params, models.KeywordIndexParams)
    assert schema["about"].params == text
    front.client.delete_payload_index(cities, "about")
    assert set(front.client.get_collection(cities).payload_schema) == {"size", "city"}


def test_a_datetime_range_is_kept_to_the_microsecond(front: Grpc, cities: str) -> None:
    front.client.set_payload(cities, payload={"at": "2024-05-01T12:00:00.000001Z"}, points=[1])

    def count(**bounds: datetime) -> int:
        at = models.FieldCondition(key="at", range=models.DatetimeRange(**bounds))
        return front.client.count(cities, count_filter=models.Filter(must=[at])).count

    moment = datetime(2024, 5, 1, 12, 0, 0, 1, tzinfo=UTC)
    assert count(gte=moment, lte=moment) == 1
    assert count(gt=moment) == 0
    assert count(lt=moment.replace(microsecond=2)) == 1


def test_integers_and_floats_are_told_apart(front: Grpc, collection: str) -> None:
    payload = {
        "integer": 1,
        "float": 1.0,
        "large": 2**63 - 1,
        "small": -(2**63),
        "nested": {"a": [1, 1.5, None, {}, []], "ü": "ß"},
    }
    point = models.PointStruct(id=1, vector=[0.0, 0.0, 0.0, 1.0], payload=payload)
    front.client.upsert(collection, points=[point])
    stored = front.client.retrieve(collection, ids=[1])[0].payload
    assert json.dumps(stored, sort_keys=True) == json.dumps(payload, sort_keys=True)


def test_a_threshold_cuts_off_and_an_offset_skips(front: Grpc, cities: str) -> None:
    query = [1.0, 0.0, 0.0, 0.0]
    strict = front.client.query_points(cities, query=query, score_threshold=0.95).points
    assert [point.id for point in strict] == [1]
    second = front.client.query_points(cities, query=query, offset=1, limit=1).points
    assert [point.id for point in second] == [2]


def test_hints_for_the_search_are_taken(front: Grpc, cities: str) -> None:
    params = models.SearchParams(
        hnsw_ef=64,
        exact=True,
        quantization=models.QuantizationSearchParams(ignore=True, oversampling=2.0),
    )
    found = front.client.query_points(cities, query=1, search_params=params, limit=1).points
    assert [point.id for point in found] == [2]


def test_all_kinds_of_query_are_answered(front: Grpc, cities: str) -> None:
    front.client.create_payload_index(cities, "size", models.PayloadSchemaType.INTEGER)
    near_bonn = models.Prefetch(query=[1.0, 0.0, 0.0, 0.0], limit=2)
    pair = models.ContextPair(positive=1, negative=3)
    formula = models.SumExpression(sum=["$score", models.MultExpression(mult=[2.0, "size"])])
    queries: list[tuple[Any, list[models.Prefetch] | None, list[int]]] = [
        (models.RecommendQuery(recommend=models.RecommendInput(positive=[1])), None, [2]),
        (models.DiscoverQuery(discover=models.DiscoverInput(target=1, context=[pair])), None, [2]),
        (models.ContextQuery(context=[pair]), None, [2]),
        (models.NearestQuery(nearest=1, mmr=models.Mmr(diversity=0.0)), None, [2]),
        (
            models.OrderByQuery(
                order_by=models.OrderBy(key="size", direction=models.Direction.DESC)
            ),
            None,
            [2, 1],
        ),
        (models.FusionQuery(fusion=models.Fusion.RRF), [near_bonn], [1, 2]),
        (models.FusionQuery(fusion=models.Fusion.DBSF), [near_bonn], [1, 2]),
        (models.RrfQuery(rrf=models.Rrf(k=60)), [near_bonn], [1, 2]),
        (models.FormulaQuery(formula=formula), [near_bonn], [2, 1]),
    ]
    for query, prefetch, expected in queries:
        found = front.client.query_points(cities, query=query, prefetch=prefetch).points
        assert [point.id for point in found][: len(expected)] == expected, query
    sample = models.SampleQuery(sample=models.Sample.RANDOM)
    assert len(front.client.query_points(cities, query=sample).points) == 4


def test_results_are_grouped_by_a_payload_value(front: Grpc, cities: str) -> None:
    front.client.set_payload(cities, payload={"kind": ["a", 3]}, points=[1])
    front.client.set_payload(cities, payload={"kind": "a"}, points=[2])
    front.client.set_payload(cities, payload={"kind": -4}, points=[3])
    groups = front.client.query_points_groups(
        cities,
        query=[1.0, 0.5, 0.25, 0.0],
        group_by="kind",
        group_size=2,
        with_lookup=models.WithLookup(collection=cities, with_payload=["city"]),
    ).groups
    found = {group.id: [point.id for point in group.hits] for group in groups}
    assert found == {"a": [1, 2], 3: [1], -4: [3]}
    lookups = {group.id: group.lookup for group in groups}
    assert lookups["a"] is None
    assert lookups[3] is not None
    assert lookups[3].payload == {"city": "Wien"}


def test_points_are_counted_by_value(front: Grpc, cities: str) -> None:
    front.client.create_payload_index(cities, "city", models.PayloadSchemaType.KEYWORD)
    front.client.create_payload_index(cities, "size", models.PayloadSchemaType.INTEGER)
    front.client.set_payload(cities, payload={"city": "Wien"}, points=[2])
    hits = front.client.facet(cities, key="city").hits
    assert [(hit.value, hit.count) for hit in hits] == [("Wien", 2), ("Bonn", 1)]
    has_one = models.Filter(must=[models.HasIdCondition(has_id=[1])])
    hits = front.client.facet(cities, key="size", facet_filter=has_one, limit=1, exact=True).hits
    assert [(hit.value, hit.count) for hit in hits] == [(3, 1)]


def test_a_sample_is_compared_with_itself(front: Grpc, cities: str) -> None:
    pairs = front.client.search_matrix_pairs(cities, sample=4, limit=1).pairs
    assert {(pair.a, pair.b) for pair in pairs} >= {(1, 2), (2, 1)}
    matrix = front.client.search_matrix_offsets(cities, sample=4, limit=1)
    assert matrix.ids == [1, 2, 3, UUID_ID]
    assert list(zip(matrix.offsets_row, matrix.offsets_col, strict=True))[:2] == [(0, 1), (1, 0)]
    assert matrix.scores[:2] == pytest.approx([0.9, 0.9])


def test_scrolling_by_a_payload_value_shows_it(front: Grpc, cities: str) -> None:
    front.client.create_payload_index(cities, "size", models.PayloadSchemaType.INTEGER)
    records, next_id = front.client.scroll(
        cities, order_by=models.OrderBy(key="size", direction=models.Direction.DESC)
    )
    assert [(record.id, record.order_value) for record in records] == [(2, 9), (1, 3)]
    assert next_id is None


def test_without_a_query_points_are_listed_by_id(
    front: Grpc, cities: str, new_collection: NewCollection
) -> None:
    found = front.client.query_points(cities, limit=2).points
    assert [(point.id, point.score, point.version) for point in found] == [(1, 1, 0), (2, 1, 0)]


def test_ids_of_both_kinds_are_told_apart(front: Grpc, collection: str) -> None:
    ids: list[int | str | UUID] = [2**64 - 1, 0, str(UUID(int=0))]
    front.client.upsert(
        collection, points=[models.PointStruct(id=one, vector=[1.0, 0.0, 0.0, 0.0]) for one in ids]
    )
    has_id = models.Filter(must=[models.HasIdCondition(has_id=ids)])
    records, _ = front.client.scroll(collection, scroll_filter=has_id)
    assert [record.id for record in records] == [0, 2**64 - 1, str(UUID(int=0))]
