"""How do points, parsed one by one, become the flat arrays of one operation?

The edges parse points without knowing the collection; here its configuration decides
what each vector must be. Everything that could make a write inapplicable is refused
here, before anything is logged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from headrace.model.collection_config import CollectionConfig, SparseVectorParams, VectorParams
from headrace.model.errors import InvalidVector, UnknownVectorName, WrongVectorDimension
from headrace.model.filters import Filter
from headrace.model.ids import PointId
from headrace.model.operations import PayloadJson, UpdateMode, UpdateVectors, UpsertPoints
from headrace.model.points import PointStruct
from headrace.model.vectors import (
    DEFAULT_VECTOR_NAME,
    DenseBatch,
    FloatMatrix,
    FloatVector,
    MultiBatch,
    Rows,
    SparseBatch,
    SparseVector,
    Vector,
    VectorBatch,
)

# Qdrant's bound on the floats of one multi-vector.
MULTI_VECTOR_FLOATS_MAX = 1_048_576


def build_upsert(
    points: Sequence[PointStruct],
    config: CollectionConfig,
    mode: UpdateMode = UpdateMode.UPSERT,
    update_filter: Filter | None = None,
) -> UpsertPoints:
    """One upsert of many points; of points with one id the last one wins.

    Raises:
        WrongVectorDimension: a vector's length is not the collection's; names the point.
        UnknownVectorName: the collection has no vector of that name; names the point.
        InvalidVector: a vector is empty, of the wrong kind or not finite; names the point.
    """
    latest = {point.id: point for point in points}
    ids = list(latest)
    return UpsertPoints(
        ids=ids,
        vectors=build_vector_batches(ids, [point.vectors for point in latest.values()], config),
        payloads=[point.payload for point in latest.values()],
        mode=mode,
        update_filter=update_filter,
    )


def build_dense_upsert(
    ids: list[PointId],
    vectors: FloatMatrix,
    payloads: list[PayloadJson],
    config: CollectionConfig,
) -> UpsertPoints:
    """One upsert of points that all have the default dense vector.

    Args:
        ids: unique.
        vectors: shape (len(ids), dim), float32, all finite.
        payloads: one JSON object per point.
        config: the collection's.

    Raises: as `build_upsert`; names the first point.
    """
    name = DEFAULT_VECTOR_NAME
    params = config.find_vector(name)
    if params is None:
        raise UnknownVectorName(name, ids[0])
    if isinstance(params, SparseVectorParams) or params.is_multi:
        raise InvalidVector("Expected another kind, got dense vectors", name, ids[0])
    if vectors.shape[1] != params.size:
        raise WrongVectorDimension(params.size, vectors.shape[1], name, ids[0])
    return UpsertPoints(ids, {name: DenseBatch(np.arange(len(ids)), vectors)}, payloads)


def build_update_vectors(
    points: Iterable[tuple[PointId, Mapping[str, Vector]]],
    config: CollectionConfig,
    update_filter: Filter | None = None,
) -> UpdateVectors:
    """One vector update of many points; entries of one id are merged in order.

    Raises: as `build_upsert`.
    """
    merged: dict[PointId, dict[str, Vector]] = {}
    for point_id, vectors in points:
        merged.setdefault(point_id, {}).update(vectors)
    ids = list(merged)
    return UpdateVectors(
        ids=ids,
        vectors=build_vector_batches(ids, list(merged.values()), config),
        update_filter=update_filter,
    )


def build_vector_batches(
    ids: Sequence[PointId],
    vectors_by_point: Sequence[Mapping[str, Vector]],
    config: CollectionConfig,
) -> dict[str, VectorBatch]:
    """Gather the vectors of a batch by name, checked against the collection.

    Args:
        ids: one per point, for error texts.
        vectors_by_point: one mapping per point.
        config: the collection's.

    Raises: as `build_upsert`.
    """
    positions: dict[str, list[int]] = {}
    columns: dict[str, list[Vector]] = {}
    for position, vectors in enumerate(vectors_by_point):
        for name, vector in vectors.items():
            columns.setdefault(name, []).append(vector)
            positions.setdefault(name, []).append(position)
    return {
        name: _build_batch(name, config, ids, positions[name], column)
        for name, column in columns.items()
    }


def _build_batch(
    name: str,
    config: CollectionConfig,
    ids: Sequence[PointId],
    positions: list[int],
    column: list[Vector],
) -> VectorBatch:
    owners = [ids[position] for position in positions]
    params = config.find_vector(name)
    if params is None:
        raise UnknownVectorName(name, owners[0])
    rows = np.asarray(positions, dtype=np.int64)
    if isinstance(params, SparseVectorParams):
        return _sparse_batch(name, rows, owners, column)
    if params.is_multi:
        return _multi_batch(name, params, rows, owners, column)
    return _dense_batch(name, params, rows, owners, column)


def _dense_batch(
    name: str,
    params: VectorParams,
    positions: Rows,
    owners: list[PointId],
    column: list[Vector],
) -> DenseBatch:
    for owner, vector in zip(owners, column, strict=True):
        if isinstance(vector, SparseVector) or vector.ndim != 1:
            raise InvalidVector("Expected a dense vector, got another kind", name, owner)
        if len(vector) != params.size:
            raise WrongVectorDimension(params.size, len(vector), name, owner)
    values = np.stack([np.asarray(vector, dtype=np.float32) for vector in column])
    bounds = np.arange(len(column) + 1)
    _check_finite(values, bounds, name, owners)
    return DenseBatch(positions, values)


def _multi_batch(
    name: str,
    params: VectorParams,
    positions: Rows,
    owners: list[PointId],
    column: list[Vector],
) -> MultiBatch:
    matrices: list[FloatMatrix] = []
    for owner, vector in zip(owners, column, strict=True):
        if isinstance(vector, SparseVector):
            raise InvalidVector("Expected a multi-vector, got a sparse vector", name, owner)
        matrix = np.atleast_2d(np.asarray(vector, dtype=np.float32))
        if matrix.shape[0] == 0:
            raise InvalidVector("Multi-vector must not be empty", name, owner)
        if matrix.shape[1] != params.size:
            raise WrongVectorDimension(params.size, matrix.shape[1], name, owner)
        if matrix.size >= MULTI_VECTOR_FLOATS_MAX:
            raise InvalidVector(
                f"Multi-vector has {matrix.size} floats, must have fewer than "
                f"{MULTI_VECTOR_FLOATS_MAX}",
                name,
                owner,
            )
        matrices.append(matrix)
    values = np.concatenate(matrices)
    bounds = np.cumsum([0, *(len(matrix) for matrix in matrices)], dtype=np.int64)
    _check_finite(values, bounds, name, owners)
    return MultiBatch(positions, bounds, values)


def _sparse_batch(
    name: str,
    positions: Rows,
    owners: list[PointId],
    column: list[Vector],
) -> SparseBatch:
    indices: list[NDArray[np.uint32]] = []
    values: list[FloatVector] = []
    for owner, vector in zip(owners, column, strict=True):
        if not isinstance(vector, SparseVector):
            raise InvalidVector("Expected a sparse vector, got another kind", name, owner)
        order = np.argsort(vector.indices, kind="stable")
        ascending = np.asarray(vector.indices, dtype=np.uint32)[order]
        if len(ascending) != len(vector.values):
            raise InvalidVector(
                "Sparse vector 'indices' and 'values' must have the same length "
                f"(indices: {len(ascending)}, values: {len(vector.values)})",
                name,
                owner,
            )
        if len(ascending) and bool((ascending[1:] == ascending[:-1]).any()):
            raise InvalidVector("Sparse vector indices must be unique", name, owner)
        indices.append(ascending)
        values.append(np.asarray(vector.values, dtype=np.float32)[order])
    bounds = np.cumsum([0, *(len(one) for one in indices)], dtype=np.int64)
    flat_values = np.concatenate(values)
    _check_finite(flat_values, bounds, name, owners)
    return SparseBatch(positions, bounds, np.concatenate(indices), flat_values)


def _check_finite(
    values: FloatMatrix,
    bounds: Rows,
    name: str,
    owners: list[PointId],
) -> None:
    """Refuse NaN and infinity, naming the point and the element."""
    if np.isfinite(values).all():
        return
    flat = int(np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))[0])
    point = int(np.searchsorted(bounds, flat, side="right")) - 1
    within = values[int(bounds[point]) : int(bounds[point + 1])].reshape(-1)
    element = int(np.flatnonzero(~np.isfinite(within))[0])
    raise InvalidVector(
        f"Vector element {element} is not finite in float32: {within[element]}",
        name,
        owners[point],
    )
