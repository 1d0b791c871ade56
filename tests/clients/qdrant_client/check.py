"""qdrant-client, sync and async, fills, searches with a filter, updates and deletes."""

import asyncio
import json
import sys

from qdrant_client import AsyncQdrantClient, QdrantClient, models

OPTIONS = json.loads(sys.argv[1])
LONDON = models.Filter(
    must=[models.FieldCondition(key="city", match=models.MatchValue(value="London"))]
)
POINTS = [
    models.PointStruct(id=1, vector=[0.9, 0.1, 0.1, 0.1], payload={"city": "Berlin"}),
    models.PointStruct(id=2, vector=[0.1, 0.9, 0.1, 0.1], payload={"city": "London"}),
    models.PointStruct(id=3, vector=[0.8, 0.3, 0.1, 0.1], payload={"city": "London"}),
]
COSINE = models.VectorParams(size=4, distance=models.Distance.COSINE)
QUERY = [1.0, 0.0, 0.0, 0.0]


def sync_client() -> QdrantClient:
    if "path" not in OPTIONS:
        return QdrantClient(**OPTIONS)
    import headrace

    return headrace.connect(OPTIONS["path"])


def async_client() -> AsyncQdrantClient:
    if "path" not in OPTIONS:
        return AsyncQdrantClient(**OPTIONS)
    import headrace

    return headrace.connect_async(OPTIONS["path"])


def check_sync(client: QdrantClient) -> None:
    assert client.create_collection("sync", vectors_config=COSINE)
    client.create_payload_index("sync", "city", models.PayloadSchemaType.KEYWORD)
    client.upload_points("sync", POINTS, batch_size=2, wait=True)
    found = client.query_points("sync", query=QUERY, query_filter=LONDON).points
    assert [point.id for point in found] == [3, 2], found
    client.set_payload("sync", payload={"city": "Paris"}, points=[2])
    assert client.count("sync", count_filter=LONDON).count == 1
    client.delete("sync", points_selector=LONDON)
    records, _ = client.scroll("sync", with_vectors=True)
    assert [(one.id, one.payload["city"]) for one in records] == [(1, "Berlin"), (2, "Paris")]
    assert client.delete_collection("sync")


async def check_async(client: AsyncQdrantClient) -> None:
    assert await client.create_collection("async", vectors_config=COSINE)
    await client.upsert("async", points=POINTS)
    answers = await asyncio.gather(
        *(client.query_points("async", query=QUERY, query_filter=LONDON) for _ in range(8))
    )
    assert {tuple(point.id for point in one.points) for one in answers} == {(3, 2)}
    await client.overwrite_payload("async", payload={"city": "Rome"}, points=[2])
    await client.delete("async", points_selector=[1])
    records, _ = await client.scroll("async")
    assert [(one.id, one.payload["city"]) for one in records] == [(2, "Rome"), (3, "London")]
    assert await client.delete_collection("async")
    await client.close()


with_sync = sync_client()
check_sync(with_sync)
with_sync.close()
asyncio.run(check_async(async_client()))
print("ok")
