"""What configuration does a collection get that is made because a record names it?

The vector names, widths and kinds are those of the first point that has any; what a point
cannot tell is configured (`collection.auto.create.distance`, `.on.disk`).
"""

from __future__ import annotations

from collections.abc import Iterable

from headrace.model.collection_config import (
    CollectionConfig,
    Modifier,
    MultiVectorConfig,
    SparseVectorParams,
    VectorParams,
)
from headrace.model.points import PointStruct
from headrace.model.vectors import SparseVector
from headrace.sink.config import AutoCreate


def infer_collection_config(
    points: Iterable[PointStruct], auto_create: AutoCreate
) -> CollectionConfig:
    """The configuration into which the first point with vectors fits."""
    first = next((point for point in points if point.vectors), None)
    vectors: dict[str, VectorParams] = {}
    sparse_vectors: dict[str, SparseVectorParams] = {}
    for name, vector in first.vectors.items() if first else ():
        if isinstance(vector, SparseVector):
            index = {"on_disk": True} if auto_create.on_disk else None
            modifier = Modifier.IDF if name == auto_create.bm25_vector else None
            sparse_vectors[name] = SparseVectorParams(index=index, modifier=modifier)
        else:
            vectors[name] = VectorParams(
                size=vector.shape[-1],
                distance=auto_create.distance,
                on_disk=True if auto_create.on_disk else None,
                multivector_config=MultiVectorConfig() if vector.ndim == 2 else None,
            )
    return CollectionConfig(vectors=vectors, sparse_vectors=sparse_vectors)
