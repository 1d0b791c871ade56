"""langchain-qdrant fills, searches with a filter, updates and deletes."""

import sys

from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_qdrant import QdrantVectorStore
from qdrant_client import models

CITIES = ["Berlin", "London", "Moscow"]
IDS = [f"00000000-0000-4000-8000-00000000000{n}" for n in range(3)]

store = QdrantVectorStore.from_documents(
    [
        Document(f"a text about {city}", metadata={"city": city, "n": n})
        for n, city in enumerate(CITIES)
    ],
    DeterministicFakeEmbedding(size=32),
    url=sys.argv[1],
    collection_name="langchain",
    ids=IDS,
)
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
