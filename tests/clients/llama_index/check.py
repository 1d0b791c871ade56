"""llama-index-vector-stores-qdrant fills, searches with a filter, updates and deletes."""

import json
import sys

from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import (
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import QdrantClient

OPTIONS = json.loads(sys.argv[1])
IDS = [f"00000000-0000-4000-8000-00000000000{n}" for n in range(3)]
CITIES = ["Berlin", "London", "Moscow"]


def make_client() -> QdrantClient:
    if "path" not in OPTIONS:
        return QdrantClient(**OPTIONS)
    import headrace

    return headrace.connect(OPTIONS["path"])


client = make_client()
store = QdrantVectorStore(collection_name="llama", client=client)


def node(n: int, city: str) -> TextNode:
    vector = [float(n == one) for one in range(3)]
    return TextNode(id_=IDS[n], text=city, metadata={"city": city, "n": n}, embedding=vector)


store.add([node(n, city) for n, city in enumerate(CITIES)])
found = store.query(VectorStoreQuery(query_embedding=[0.1, 1.0, 0.2], similarity_top_k=2))
assert found.ids == [IDS[1], IDS[2]], found
later = MetadataFilters(filters=[MetadataFilter(key="n", value=2, operator=FilterOperator.GTE)])
query = VectorStoreQuery(query_embedding=[0.1, 1.0, 0.2], similarity_top_k=2, filters=later)
assert store.query(query).ids == [IDS[2]]

store.add([node(0, "Paris")])
assert store.get_nodes([IDS[0]])[0].metadata["city"] == "Paris"
store.delete_nodes([IDS[0], IDS[1]])
assert client.count("llama").count == 1
print("ok")
