"""The official client, against a real server."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from tests.server.rest.rest_server import Rest


@pytest.fixture
def client(rest: Rest) -> QdrantClient:
    return rest.client


@pytest.fixture
def name(client: QdrantClient) -> Iterator[str]:
    name = f"client-{uuid4().hex}"
    client.create_collection(
        name,
        vectors_config={"text": models.VectorParams(size=3, distance=models.Distance.COSINE)},
        sparse_vectors_config={"words": models.SparseVectorParams()},
    )
    client.upsert(
        name,
        [
            models.PointStruct(
                id=i,
                vector={
                    "text": [1.0, i / 10, 0.0],
                    "words": models.SparseVector(indices=[i], values=[1.0]),
                },
                payload={"city": ["Berlin", "Paris"][i % 2], "n": i},
            )
            for i in range(10)
        ],
    )
    yield name
    client.delete_collection(name)


def test_the_client_finds_the_server_compatible(client: QdrantClient) -> None:
    assert client.info().version == "1.19.0"


def test_the_client_reads_the_collection(client: QdrantClient, name: str) -> None:
    info = client.get_collection(name)
    assert info.points_count == 10
    assert info.status == models.CollectionStatus.GREEN
    assert client.collection_exists(name)
    assert name in [one.name for one in client.get_collections().collections]


def test_the_client_searches_with_a_filter(client: QdrantClient, name: str) -> None:
    found = client.query_points(
        name,
        query=[1.0, 0.0, 0.0],
        using="text",
        query_filter=models.Filter(
            must=[models.FieldCondition(key="city", match=models.MatchValue(value="Paris"))]
        ),
        limit=2,
        with_vectors=["words"],
    )
    assert [point.id for point in found.points] == [1, 3]
    assert found.points[0].payload == {"city": "Paris", "n": 1}
    assert found.points[0].vector == {"words": models.SparseVector(indices=[1], values=[1.0])}


def test_the_client_searches_by_keyword_and_fuses(client: QdrantClient, name: str) -> None:
    words = models.SparseVector(indices=[7], values=[1.0])
    found = client.query_points(
        name,
        prefetch=[
            models.Prefetch(query=[1.0, 0.0, 0.0], using="text", limit=3),
            models.Prefetch(query=words, using="words", limit=3),
        ],
        query=models.FusionQuery(fusion=models.Fusion.RRF),
    )
    assert {point.id for point in found.points} == {0, 1, 2, 7}


def test_the_client_scrolls_counts_and_retrieves(client: QdrantClient, name: str) -> None:
    records, following = client.scroll(name, limit=4)
    assert ([record.id for record in records], following) == ([0, 1, 2, 3], 4)
    assert client.count(name).count == 10
    [record] = client.retrieve(name, [3], with_payload=["n"])
    assert record.payload == {"n": 3}


def test_the_client_writes_payload_vectors_and_indexes(client: QdrantClient, name: str) -> None:
    client.create_payload_index(name, "n", models.PayloadSchemaType.INTEGER)
    assert client.get_collection(name).payload_schema["n"].points == 10
    client.set_payload(name, {"m": 1}, points=[1])
    client.delete_payload(name, ["city"], points=models.Filter())
    client.update_vectors(name, [models.PointVectors(id=1, vector={"text": [0.0, 0.0, 1.0]})])
    client.delete_vectors(name, ["words"], points=[1])
    [record] = client.retrieve(name, [1], with_vectors=True)
    assert record.payload == {"n": 1, "m": 1}
    assert record.vector == {"text": [0.0, 0.0, 1.0]}
    client.overwrite_payload(name, {}, points=[1])
    client.clear_payload(name, points_selector=[2])
    client.delete(name, points_selector=[0])
    client.delete_payload_index(name, "n")
    assert client.count(name).count == 9


def test_the_client_sends_batches(client: QdrantClient, name: str) -> None:
    results = client.batch_update_points(
        name,
        [
            models.DeleteOperation(delete=models.PointIdsList(points=[0])),
            models.SetPayloadOperation(
                set_payload=models.SetPayload(payload={"x": 1}, filter=models.Filter())
            ),
        ],
    )
    assert [result.status for result in results] == [models.UpdateStatus.COMPLETED] * 2
    client.upsert(
        name, models.Batch(ids=[50, 51], vectors={"text": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]})
    )
    answers = client.query_batch_points(
        name,
        [models.QueryRequest(query=[0.0, 1.0, 0.0], using="text", limit=1)] * 2,
    )
    assert [answer.points[0].id for answer in answers] == [51, 51]


def test_errors_reach_the_client_as_unexpected_responses(client: QdrantClient, name: str) -> None:
    with pytest.raises(UnexpectedResponse) as caught:
        client.query_points(name, query=[1.0], using="text")
    assert caught.value.status_code == 400
    with pytest.raises(UnexpectedResponse) as caught:
        client.get_collection("missing")
    assert caught.value.status_code == 404
