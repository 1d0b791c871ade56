"""mcp-server-qdrant's connector stores and finds, by an embedding of this file's own.

It has no call that updates or deletes.

Its own embeddings download a model, which a test must not.
"""

import asyncio
import json
import sys

from mcp_server_qdrant.embeddings.base import EmbeddingProvider
from mcp_server_qdrant.qdrant import Entry, QdrantConnector
from qdrant_client import models

WORDS = ["berlin", "london", "moscow"]


class WordCounts(EmbeddingProvider):
    async def embed_documents(self, documents: list[str]) -> list[list[float]]:
        return [[float(one.lower().count(word)) + 0.1 for word in WORDS] for one in documents]

    async def embed_query(self, query: str) -> list[float]:
        return (await self.embed_documents([query]))[0]

    def get_vector_name(self) -> str:
        return "counts"

    def get_vector_size(self) -> int:
        return len(WORDS)


async def main() -> None:
    connector = QdrantConnector(json.loads(sys.argv[1])["url"], None, "mcp", WordCounts())
    for n, word in enumerate(WORDS):
        await connector.store(Entry(content=f"about {word}", metadata={"n": n}))
    found = await connector.search("London", limit=1)
    assert [(one.content, one.metadata) for one in found] == [("about london", {"n": 1})], found
    third = models.Filter(
        must=[models.FieldCondition(key="metadata.n", match=models.MatchValue(value=2))]
    )
    found = await connector.search("London", limit=2, query_filter=third)
    assert [one.content for one in found] == ["about moscow"], found
    assert await connector.get_collection_names() == ["mcp"]


asyncio.run(main())
print("ok")
