"""What is told of a collection when it is asked for itself?"""

from __future__ import annotations

import msgspec
import numpy as np

from headrace.engine.collection.collection import Collection
from headrace.engine.segment.segment import View
from headrace.model.collection_config import CollectionConfig, PayloadFieldSchema


class PayloadIndexInfo(msgspec.Struct, frozen=True):
    """One entry of `payload_schema`: the index and how many points have a value in it."""

    schema: PayloadFieldSchema
    points: int


class VectorCounts(msgspec.Struct, frozen=True):
    """How many vectors of one name the points have.

    Attributes:
        total: of live points.
        indexed: of these, in graphs.
        indexed_only_excluded: of these, left out by a search with `indexed_only`.
    """

    total: int
    indexed: int
    indexed_only_excluded: int


class CollectionInfo(msgspec.Struct, frozen=True):
    """A collection as its info call shows it.

    Attributes:
        is_optimizing: whether graphs are made or dead rows taken out, or wait for it.
        index_error: why the last graph could not be made, if so.
        load_seconds: how long it took to open it.
    """

    config: CollectionConfig
    points_count: int
    indexed_vectors_count: int
    is_optimizing: bool
    index_error: str | None
    segments_count: int
    payload_schema: dict[str, PayloadIndexInfo]
    load_seconds: float = 0.0


def vector_counts(view: View) -> dict[str, VectorCounts]:
    """The vectors of a view, by name; takes as long as counting the rows."""
    indexed = view.indexed_stores()
    return {
        name: VectorCounts(
            int(np.count_nonzero(view.live & view.vectors(name).present(view.row_count))),
            indexed[name].indexed_vectors_count(view.live) if name in indexed else 0,
            indexed[name].indexed_only_excluded_count(view.live) if name in indexed else 0,
        )
        for name in view.vector_names()
    }


def collection_info(collection: Collection) -> CollectionInfo:
    """A collection's configuration and counts."""
    return CollectionInfo(
        config=collection.config,
        points_count=collection.points_count(),
        indexed_vectors_count=collection.indexed_vectors_count(),
        is_optimizing=collection.is_optimizing(),
        index_error=collection.index_error(),
        segments_count=1,
        payload_schema={
            key: PayloadIndexInfo(schema, collection.indexed_points_count(key))
            for key, schema in collection.payload_schema().items()
        },
        load_seconds=collection.load_seconds,
    )
