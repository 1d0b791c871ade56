"""langchain-qdrant fills, searches with a filter, updates and deletes."""

import json
import sys

from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_qdrant import QdrantVectorStore
from qdrant_client import QdrantClient, models

OPTIONS = json.loads(sys.argv[1])
CITIES = ["Berlin", "London", "Moscow"]
IDS = [f"00000000-0000-4000-8000-00000000000{n}" for n in range(3)]

EMBEDDING = DeterministicFakeEmbedding(size=32)
DOCUMENTS = [
    Document(f"a text about {city}", metadata={"city": city, "n": n})
    for n, city in enumerate(CITIES)
]


def make_store() -> QdrantVectorStore:
    """From options over the network, from a client of its own in process."""
    if "path" not in OPTIONS:
        return QdrantVectorStore.from_documents(
            DOCUMENTS, EMBEDDING, collection_name="langchain", ids=IDS, **OPTIONS
        )
    import headrace

    client: QdrantClient = headrace.connect(OPTIONS["path"])
    cosine = models.VectorParams(size=32, distance=models.Distance.COSINE)
    client.create_collection("langchain", vectors_config=cosine)
    store = QdrantVectorStore(client, "langchain", EMBEDDING)
    store.add_documents(DOCUMENTS, ids=IDS)
    return store


store = make_store()
found = store.similarity_search("a text about London", k=2)
assert found[0].page_content == "a text about London", found
later = models.Filter(must=[models.FieldCondition(key="metadata.n", range=models.Range(gte=2))])
found = store.similarity_search("a text about London", k=2, filter=later)
assert [document.metadata["city"] for document in found] == ["Moscow"], found
varied = store.max_marginal_relevance_search("a text about London", k=2, fetch_k=3)
assert varied[0].metadata["city"] == "London"

store.add_documents(
    [Document("a text about Paris", metadata={"city": "Paris", "n": 7})], ids=IDS[:1]
)
assert store.get_by_ids(IDS[:1])[0].metadata["city"] == "Paris"
assert store.client.count("langchain").count == 3
assert store.delete(IDS[:2])
assert store.client.count("langchain").count == 1
print("ok")
