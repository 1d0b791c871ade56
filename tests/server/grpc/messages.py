"""Messages for any field of any request, from sensible to absurd."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message
from qdrant_client import grpc as qdrant

TEXTS = ["", "a", "a.b[].c", "a..b", "$score", "é" * 300, "\0", "../x", "con", "2024-01-01"]
INTEGERS = [0, 1, 2, 5, 127, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1, -1, -(2**63)]
FLOATS = [0.0, 1.0, -1.5, 1e30, float("nan"), float("inf"), float("-inf")]
UUIDS = ["6ba7b810-9dad-11d1-80b4-00c04fd430c8", "urn:uuid:x", "5", ""]


class Maker:
    """Makes messages whose types are right and whose values are anything.

    Args:
        seed: of all choices.
        collection_name: put where a collection is named.
    """

    def __init__(self, seed: int, collection_name: str) -> None:
        self._random = random.Random(seed)
        self._collection_name = collection_name

    def fill_into(self, message: Message, depth: int = 0) -> None:
        """Set some fields of a message, and some of theirs."""
        for field in message.DESCRIPTOR.fields:
            if field.name == "collection_name":
                setattr(message, field.name, self._collection_name)
                continue
            if self._random.random() < 0.25 + 0.12 * depth:
                continue
            count = self._random.choice((0, 1, 1, 2, 4)) if field.is_repeated else 1
            for _ in range(count):
                self._fill_field_into(message, field.name, depth)

    def mangled(self, encoded: bytes) -> bytes:
        """The bytes with some of them changed, cut off or doubled."""
        mangled = bytearray(encoded)
        for _ in range(self._random.randint(0, 3)):
            if mangled:
                mangled[self._random.randrange(len(mangled))] = self._random.randrange(256)
        match self._random.randrange(6):
            case 0:
                return bytes(mangled[: self._random.randint(0, len(mangled))])
            case 1:
                return bytes(mangled + mangled)
        return bytes(mangled)

    def _fill_field_into(self, message: Message, name: str, depth: int) -> None:
        field = message.DESCRIPTOR.fields_by_name[name]
        nested = field.message_type
        if nested is None:
            self._fill_scalar_into(message, name)
        elif depth > 6:
            return
        elif nested.GetOptions().map_entry:
            entries = getattr(message, name)
            if nested.fields_by_name["value"].message_type is not None:
                self.fill_into(entries[self._random.choice(TEXTS)], depth + 1)
        elif field.is_repeated:
            self.fill_into(getattr(message, name).add(), depth + 1)
        else:
            child = getattr(message, name)
            child.SetInParent()
            self.fill_into(child, depth + 1)

    def _fill_scalar_into(self, message: Message, name: str) -> None:
        field = message.DESCRIPTOR.fields_by_name[name]
        for _ in range(20):
            try:
                value = self._scalar(name)
                if field.is_repeated:
                    getattr(message, name).append(value)
                else:
                    setattr(message, name, value)
            except (TypeError, ValueError, OverflowError):
                continue
            return

    def _scalar(self, name: str) -> str | int | float:
        if name == "uuid":
            return self._random.choice(UUIDS)
        match self._random.randrange(3):
            case 0:
                return self._random.choice(TEXTS)
            case 1:
                return self._random.choice(INTEGERS)
        return self._random.choice(FLOATS)


def good_requests(collection: str) -> Iterator[tuple[str, Message]]:
    """Requests that succeed, to be damaged."""
    vector = qdrant.Vector(dense=qdrant.DenseVector(data=[1.0, 0.0, 0.0, 0.0]))
    vectors = qdrant.Vectors(vector=vector)
    condition = qdrant.Condition(
        field=qdrant.FieldCondition(key="a.b", match=qdrant.Match(integer=1))
    )
    nested = qdrant.NestedCondition(key="n", filter=qdrant.Filter(must_not=[condition]))
    filter = qdrant.Filter(must=[condition], should=[qdrant.Condition(nested=nested)])
    point_id = qdrant.PointId(num=1)
    payload = {"a": qdrant.Value(integer_value=1), "b": qdrant.Value(string_value="x")}
    selector = qdrant.PointsSelector(points=qdrant.PointsIdsList(ids=[point_id]))
    nearest = qdrant.Query(
        nearest=qdrant.VectorInput(dense=qdrant.DenseVector(data=[1.0, 0.0, 0.0, 0.0]))
    )
    named: dict[str, Any] = {"collection_name": collection}
    point = qdrant.PointStruct(id=point_id, vectors=vectors, payload=payload)
    yield "Upsert", qdrant.UpsertPoints(**named, points=[point], wait=True)
    yield "SetPayload", qdrant.SetPayloadPoints(**named, payload=payload, points_selector=selector)
    yield "Delete", qdrant.DeletePoints(**named, points=qdrant.PointsSelector(filter=filter))
    yield "Scroll", qdrant.ScrollPoints(**named, filter=filter, limit=3)
    yield "Count", qdrant.CountPoints(**named, filter=filter, exact=True)
    yield "Search", qdrant.SearchPoints(**named, vector=[1.0, 0.0, 0.0, 0.0], limit=3)
    prefetch = qdrant.PrefetchQuery(query=nearest, filter=filter, limit=5)
    yield "Query", qdrant.QueryPoints(**named, prefetch=[prefetch], query=nearest, limit=3)
