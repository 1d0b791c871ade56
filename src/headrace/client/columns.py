"""How do a caller's arrays become the arrays of an operation?

Everything is checked here, before anything is written. What is made per point is its id
and the bytes of its payload, which the engine keeps; vectors stay arrays throughout.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol, runtime_checkable
from uuid import UUID

import msgspec
import numpy as np
import orjson
from numpy.typing import ArrayLike, NDArray

from headrace.client.arrow import is_arrow, vectors_from_arrow
from headrace.client.errors import ArraysDisagree
from headrace.model.collection_config import CollectionConfig, SparseVectorParams, VectorParams
from headrace.model.errors import InvalidVector, WrongVectorDimension
from headrace.model.ids import POINT_ID_NUMBER_MAX, PointId, parse_uuid
from headrace.model.operations import EMPTY_PAYLOAD, PayloadJson
from headrace.model.upserts import MULTI_VECTOR_FLOATS_MAX
from headrace.model.vectors import (
    DEFAULT_VECTOR_NAME,
    DenseBatch,
    FloatMatrix,
    FloatVector,
    MultiBatch,
    Rows,
    SparseBatch,
    VectorBatch,
)

_PAYLOADS_PER_PIECE = 8192

_raw_list = msgspec.json.Decoder(list[msgspec.Raw])

_JSON_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z


@runtime_checkable
class CsrMatrix(Protocol):
    """Sparse rows as SciPy's `csr_array` and `csr_matrix` have them.

    Attributes:
        indptr: shape (n + 1,): row i owns `indptr[i]` to `indptr[i + 1]` of the others.
        indices: shape (total,): dimensions.
        data: shape (total,): their values.
    """

    indptr: NDArray[Any]
    indices: NDArray[Any]
    data: NDArray[Any]


# 2-D: one dense vector a point; 3-D: a multi-vector a point, all of one length; the
# batches where points lack a vector or differ in length; or an Arrow array.
VectorsLike = ArrayLike | CsrMatrix | VectorBatch


def as_ids(ids: Any) -> list[PointId]:
    """Point ids from an integer array, an Arrow array, or a sequence of numbers and UUIDs.

    Raises:
        ArraysDisagree: not one-dimensional, or an element is no point id.
    """
    if is_arrow(ids):
        ids = ids.to_numpy(zero_copy_only=False) if hasattr(ids, "buffers") else ids.to_numpy()
    if isinstance(ids, np.ndarray):
        if ids.ndim != 1:
            raise ArraysDisagree(f"ids must have one dimension, not {ids.ndim}")
        if ids.dtype.kind in "ui":
            if ids.dtype.kind == "i" and len(ids) and int(ids.min()) < 0:
                raise ArraysDisagree(f"{int(ids.min())} is no point id: it is negative")
            numbers: list[PointId] = ids.tolist()
            return numbers
        ids = ids.tolist()
    return [_as_id(one) for one in ids]


def id_array(ids: Sequence[PointId]) -> NDArray[Any]:
    """Ids as an array: uint64 if all are numbers, else objects (`int` and `uuid.UUID`)."""
    if any(isinstance(one, UUID) for one in ids):
        return np.array(ids, dtype=object)
    return np.array(ids, dtype=np.uint64)


def as_vectors(vectors: Any, points_count: int, config: CollectionConfig) -> dict[str, VectorBatch]:
    """The vectors of some points, checked against the collection.

    Args:
        vectors: by name, or those of the default vector; each a `VectorsLike`.
        points_count: how many points there are.
        config: the collection's.

    Raises:
        UnknownVectorName, WrongVectorDimension, InvalidVector: they do not fit.
        ArraysDisagree: they are not those of `points_count` points.
    """
    named = vectors if isinstance(vectors, Mapping) else {DEFAULT_VECTOR_NAME: vectors}
    batches: dict[str, VectorBatch] = {}
    for name, value in named.items():
        batch = _as_batch(name, value, config.vector_params(name))
        given = _rows_given(value)
        if given not in (None, points_count):
            raise ArraysDisagree(f"{points_count} ids, but {given} vectors{_in(name)}")
        _check_batch(name, batch, points_count)
        batches[name] = batch
    return batches


def as_payloads(payloads: Any, points_count: int) -> list[PayloadJson]:
    """One JSON object per point.

    Args:
        payloads: None; a sequence of dictionaries or of JSON objects as bytes; or columns
            by field name (sequences, arrays, an Arrow table), whose None leaves the field
            out of the point's payload.
        points_count: how many points there are.

    Raises:
        ArraysDisagree: not one for each point, or one is not a JSON object.
    """
    if payloads is None:
        return [EMPTY_PAYLOAD] * points_count
    if is_arrow(payloads):
        payloads = dict(zip(payloads.schema.names, payloads.columns, strict=True))
    try:
        if isinstance(payloads, Mapping):
            encoded = _encoded(_rows_of_columns(payloads, points_count))
        else:
            encoded = _encoded(_payload(one) for one in payloads)
    except TypeError as error:
        raise ArraysDisagree(f"a payload has no JSON form: {error}") from None
    if len(encoded) != points_count:
        raise ArraysDisagree(f"{points_count} ids, but {len(encoded)} payloads")
    return encoded


def _as_id(value: Any) -> PointId:
    if isinstance(value, UUID):
        return value
    if isinstance(value, str):
        uuid = parse_uuid(value)
        if uuid is not None:
            return uuid
    elif isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        number = int(value)
        if 0 <= number <= POINT_ID_NUMBER_MAX:
            return number
    raise ArraysDisagree(f"{value!r} is no point id: neither an unsigned integer nor a UUID")


# Vectors


def _as_batch(name: str, value: Any, params: VectorParams | SparseVectorParams) -> VectorBatch:
    if isinstance(value, (DenseBatch, MultiBatch, SparseBatch)):
        return _checked_kind(name, value, params)
    if is_arrow(value):
        return _checked_kind(name, vectors_from_arrow(name, value, params), params)
    if isinstance(params, SparseVectorParams):
        if not isinstance(value, CsrMatrix):
            raise InvalidVector("Expected sparse vectors as compressed rows", name)
        return _sparse_batch(name, value)
    array = np.ascontiguousarray(value, dtype=np.float32)
    ndim = 3 if params.is_multi else 2
    if array.ndim != ndim:
        raise InvalidVector(f"Expected an array of {ndim} dimensions, got {array.ndim}", name)
    positions = np.arange(len(array), dtype=np.int64)
    if params.is_multi:
        bounds = np.arange(len(array) + 1, dtype=np.int64) * array.shape[1]
        batch = MultiBatch(positions, bounds, array.reshape(-1, array.shape[2]))
    else:
        return _checked_kind(name, DenseBatch(positions, array), params)
    return _checked_kind(name, batch, params)


def _rows_given(value: Any) -> int | None:
    """How many points the vectors are for; None of a batch, which names its points."""
    if isinstance(value, (DenseBatch, MultiBatch, SparseBatch)):
        return None
    if not is_arrow(value) and isinstance(value, CsrMatrix):
        return len(value.indptr) - 1
    return len(value)


def _checked_kind(
    name: str, batch: VectorBatch, params: VectorParams | SparseVectorParams
) -> VectorBatch:
    """The batch, if it is of the kind and width that the collection has."""
    if isinstance(params, SparseVectorParams):
        if not isinstance(batch, SparseBatch):
            raise InvalidVector("Expected sparse vectors, got another kind", name)
        return batch
    if not isinstance(batch, MultiBatch if params.is_multi else DenseBatch):
        kind = "multi-vectors" if params.is_multi else "dense vectors"
        raise InvalidVector(f"Expected {kind}, got another kind", name)
    assert not isinstance(batch, SparseBatch)
    if batch.values.ndim != 2 or batch.values.shape[1] != params.size:
        raise WrongVectorDimension(params.size, int(batch.values.shape[-1]), name)
    return batch


def _sparse_batch(name: str, matrix: CsrMatrix) -> SparseBatch:
    """Compressed rows, with the dimensions of each row in ascending order."""
    bounds = np.asarray(matrix.indptr, dtype=np.int64)
    indices = np.asarray(matrix.indices)
    if len(indices) and (int(indices.min()) < 0 or int(indices.max()) > np.iinfo(np.uint32).max):
        raise InvalidVector("A sparse index is not a u32", name)
    row_of_element = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    order = np.lexsort((indices, row_of_element))
    return SparseBatch(
        np.arange(len(bounds) - 1, dtype=np.int64),
        bounds,
        indices[order].astype(np.uint32),
        np.asarray(matrix.data, dtype=np.float32)[order],
    )


def _check_batch(name: str, batch: VectorBatch, points_count: int) -> None:
    """What the engine takes for granted of a batch."""
    positions = batch.positions
    if len(positions) and (
        bool((positions[1:] <= positions[:-1]).any())
        or int(positions[0]) < 0
        or int(positions[-1]) >= points_count
    ):
        raise ArraysDisagree(f"{points_count} ids, but vectors of other points{_in(name)}")
    if isinstance(batch, DenseBatch):
        if len(batch.values) != len(positions):
            raise ArraysDisagree(f"{len(positions)} points, {len(batch.values)} vectors{_in(name)}")
    else:
        _check_bounds(name, batch)
    if isinstance(batch, MultiBatch):
        _check_lengths(name, batch)
    if isinstance(batch, SparseBatch):
        _check_indices(name, batch)
    _check_finite(name, batch.values)


def _check_bounds(name: str, batch: MultiBatch | SparseBatch) -> None:
    bounds = batch.bounds
    if (
        len(bounds) != len(batch.positions) + 1
        or int(bounds[0]) != 0
        or int(bounds[-1]) != len(batch.values)
        or bool((np.diff(bounds) < 0).any())
    ):
        raise ArraysDisagree(f"bounds do not divide the values among the points{_in(name)}")


def _check_lengths(name: str, batch: MultiBatch) -> None:
    counts = np.diff(batch.bounds)
    if len(counts) and int(counts.min()) == 0:
        raise InvalidVector("Multi-vector must not be empty", name)
    floats = int(counts.max(initial=0)) * batch.values.shape[1]
    if floats >= MULTI_VECTOR_FLOATS_MAX:
        raise InvalidVector(
            f"Multi-vector has {floats} floats, must have fewer than {MULTI_VECTOR_FLOATS_MAX}",
            name,
        )


def _check_indices(name: str, batch: SparseBatch) -> None:
    if len(batch.indices) != len(batch.values):
        raise ArraysDisagree(f"sparse indices and values differ in length{_in(name)}")
    begins = np.zeros(len(batch.indices) + 1, dtype=np.bool_)
    begins[batch.bounds] = True
    rises = batch.indices[1:] > batch.indices[:-1]
    if not bool((rises | begins[1:-1]).all()):
        raise InvalidVector("Sparse vector indices must be ascending and unique", name)


def _check_finite(name: str, values: FloatMatrix | FloatVector) -> None:
    # A sum is finite only if all are; it may also overflow, so only then all are looked at.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(values.sum(dtype=np.float64)):
            return
    if not bool(np.isfinite(values).all()):
        raise InvalidVector("A vector element is not finite in float32", name)


def _in(name: str) -> str:
    return f" in vector '{name}'" if name else ""


# Payloads


def _encoded(payloads: Iterable[Any]) -> list[PayloadJson]:
    """JSON objects as bytes, encoded many at once.

    The bytes are copied out of the whole: what orjson returns for one small object holds
    kilobytes for as long as it is kept.
    """
    encoded: list[PayloadJson] = []
    rest = iter(payloads)
    while piece := list(islice(rest, _PAYLOADS_PER_PIECE)):
        text = orjson.dumps(piece, default=_plain_mapping, option=_JSON_OPTIONS)
        encoded.extend(map(bytes, _raw_list.decode(text)))
    return encoded


def _payload(value: Any) -> Any:
    """A payload in a form that orjson takes."""
    if value is None:
        return {}
    if isinstance(value, bytes):
        if not isinstance(_decoded(value), dict):
            raise ArraysDisagree("a payload is not a JSON object")
        return orjson.Fragment(value)
    if not isinstance(value, Mapping):
        raise ArraysDisagree(f"a payload is a {type(value).__name__}, not a mapping")
    return value


def _plain_mapping(value: object) -> dict[Any, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not serializable")


def _decoded(value: bytes) -> Any:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise ArraysDisagree(f"a payload is not JSON: {error}") from None


def _rows_of_columns(columns: Mapping[str, Any], points_count: int) -> Iterable[dict[str, Any]]:
    """One dictionary after the other, made as they are taken."""
    names = list(columns)
    values = [_column_values(name, column) for name, column in columns.items()]
    for name, column in zip(names, values, strict=True):
        if len(column) != points_count:
            raise ArraysDisagree(f"{points_count} ids, but {len(column)} values of {name!r}")
    if not names:
        return ({} for _ in range(points_count))
    return (
        {name: value for name, value in zip(names, row, strict=True) if value is not None}
        for row in zip(*values, strict=True)
    )


def _column_values(name: str, column: Any) -> Sequence[Any]:
    """A column as Python values, made in one call."""
    if is_arrow(column):
        return list(column.to_pylist())
    if isinstance(column, np.ndarray):
        if column.dtype.kind == "M":
            column = column.astype("datetime64[us]")
        return list(column.tolist())
    if isinstance(column, (str, bytes, Mapping)) or not isinstance(column, Iterable):
        kind = type(column).__name__
        raise ArraysDisagree(f"{name!r} is a {kind}, not the values of a payload field")
    return column if isinstance(column, Sequence) else list(column)


def last_of_each(ids: Sequence[PointId]) -> Rows | None:
    """Which points to keep so that of one id the last stays; None if all ids are unique."""
    if len(set(ids)) == len(ids):
        return None
    last = {point_id: position for position, point_id in enumerate(ids)}
    return np.array(sorted(last.values()), dtype=np.int64)
