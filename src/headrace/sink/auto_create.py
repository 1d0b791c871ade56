"""What configuration does a collection get that is made because a record names it?

The vector names, widths and kinds are those of the first point that has any; what a point
cannot tell is configured (`collection.auto.create.distance`, `.on.disk`).
"""

from __future__ import annotations

from collections.abc import Iterable

from headrace.model.collection_config import (
    VECTOR_DIM_MAX,
    CollectionConfig,
    Modifier,
    MultiVectorConfig,
    SparseVectorParams,
    VectorParams,
)
from headrace.model.names import vector_name_problems
from headrace.model.points import PointStruct
from headrace.model.vectors import SparseVector
from headrace.sink.config import AutoCreate
from headrace.sink.errors import Reason, RecordError


def unfit(point: PointStruct) -> RecordError | None:
    """Why no collection can have the vectors of a point; None if one can."""
    for name, vector in point.vectors.items():
        for problem in vector_name_problems(name):
            return RecordError(problem, Reason.INVALID_VECTOR)
        if not isinstance(vector, SparseVector) and vector.shape[-1] > VECTOR_DIM_MAX:
            detail = (
                f"Vectors of {vector.shape[-1]} elements are too wide: {VECTOR_DIM_MAX} at most"
            )
            return RecordError(detail, Reason.INVALID_VECTOR)
    return None


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
