"""What is told of a collection when it is asked for itself?"""

from __future__ import annotations

import msgspec

from headrace.engine.collection.collection import Collection
from headrace.model.collection_config import CollectionConfig, PayloadFieldSchema


class PayloadIndexInfo(msgspec.Struct, frozen=True):
    """One entry of `payload_schema`: the index and how many points have a value in it."""

    schema: PayloadFieldSchema
    points: int


class CollectionInfo(msgspec.Struct, frozen=True):
    """A collection as its info call shows it.

    Attributes:
        is_indexing: whether graphs are made for vectors that are searched exactly so far.
        index_error: why the last graph could not be made, if so.
    """

    config: CollectionConfig
    points_count: int
    indexed_vectors_count: int
    is_indexing: bool
    index_error: str | None
    segments_count: int
    payload_schema: dict[str, PayloadIndexInfo]


def collection_info(collection: Collection) -> CollectionInfo:
    """A collection's configuration and counts."""
    return CollectionInfo(
        config=collection.config,
        points_count=collection.points_count(),
        indexed_vectors_count=collection.indexed_vectors_count(),
        is_indexing=collection.is_indexing(),
        index_error=collection.index_error(),
        segments_count=1,
        payload_schema={
            key: PayloadIndexInfo(schema, collection.indexed_points_count(key))
            for key, schema in collection.payload_schema().items()
        },
    )
