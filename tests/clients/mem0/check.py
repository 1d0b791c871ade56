"""mem0's Qdrant store fills, searches with a filter, updates and deletes."""

import json
import sys

from mem0.vector_stores.qdrant import Qdrant
from qdrant_client import QdrantClient

OPTIONS = json.loads(sys.argv[1])
IDS = [f"00000000-0000-4000-8000-00000000000{n}" for n in range(3)]


def make_client() -> QdrantClient:
    if "path" not in OPTIONS:
        return QdrantClient(**OPTIONS)
    import headrace

    return headrace.connect(OPTIONS["path"])


client = make_client()
store = Qdrant(collection_name="mem0", embedding_model_dims=3, client=client)
vectors = [[float(n == one) for one in range(3)] for n in range(3)]
payloads = [{"data": name, "user_id": f"u{n % 2}"} for n, name in enumerate(("tea", "milk", "rum"))]
store.insert(vectors=vectors, payloads=payloads, ids=IDS)

found = store.search(query="", vectors=[0.1, 1.0, 0.2], top_k=2)
assert [one.payload["data"] for one in found] == ["milk", "rum"], found
found = store.search(query="", vectors=[0.1, 1.0, 0.2], top_k=2, filters={"user_id": "u0"})
assert [one.payload["data"] for one in found] == ["rum", "tea"], found

store.update(vector_id=IDS[0], vector=vectors[0], payload={"data": "water", "user_id": "u0"})
assert store.get(vector_id=IDS[0]).payload["data"] == "water"
store.delete(vector_id=IDS[1])
assert client.count("mem0").count == 2
store.delete_col()
print("ok")
