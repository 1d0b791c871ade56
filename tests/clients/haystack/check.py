"""qdrant-haystack fills, searches with a filter, updates and deletes."""

import json
import sys

from haystack import Document
from haystack.document_stores.types import DuplicatePolicy
from haystack_integrations.components.retrievers.qdrant import QdrantEmbeddingRetriever
from haystack_integrations.document_stores.qdrant import QdrantDocumentStore

OPTIONS = json.loads(sys.argv[1])
store = QdrantDocumentStore(index="haystack", embedding_dim=3, **OPTIONS)


def document(n: int, city: str) -> Document:
    vector = [float(n == one) for one in range(3)]
    return Document(id=f"d{n}", content=city, meta={"city": city, "n": n}, embedding=vector)


cities = ["Berlin", "London", "Moscow"]
assert store.write_documents([document(n, city) for n, city in enumerate(cities)]) == 3
retriever = QdrantEmbeddingRetriever(document_store=store, top_k=2)
found = retriever.run(query_embedding=[0.1, 1.0, 0.2])["documents"]
assert [one.content for one in found] == ["London", "Moscow"], found
later = {"field": "meta.n", "operator": ">=", "value": 2}
found = retriever.run(query_embedding=[0.1, 1.0, 0.2], filters=later)["documents"]
assert [one.content for one in found] == ["Moscow"], found

store.write_documents([document(0, "Paris")], policy=DuplicatePolicy.OVERWRITE)
paris = store.filter_documents({"field": "meta.city", "operator": "==", "value": "Paris"})
assert [one.id for one in paris] == ["d0"], paris
store.delete_documents(["d0", "d1"])
assert store.count_documents() == 1
print("ok")
