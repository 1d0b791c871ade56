"""How do points become Arrow columns, and Arrow columns vectors?

pyarrow is imported when it is first needed: it is large, and only this part of the package
takes it.

| column | Arrow type |
|---|---|
| `id` | uint64; string if the collection has UUIDs |
| dense vector | fixed_size_list of float |
| multi-vector | list of fixed_size_list of float |
| sparse vector | struct of `indices` (list of uint32) and `values` (list of float) |
| `payload` | string of JSON, or a struct of the fields that were asked for |

A vector column has its vector's name; that of the default vector is `vector`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.client.errors import ArraysDisagree, MissingExtra
from headrace.model.collection_config import CollectionConfig, SparseVectorParams, VectorParams
from headrace.model.errors import InvalidVector
from headrace.model.ids import PointId
from headrace.model.operations import PayloadJson
from headrace.model.points import PointColumns
from headrace.model.vectors import (
    DEFAULT_VECTOR_NAME,
    DenseBatch,
    MultiBatch,
    Rows,
    SparseBatch,
    VectorBatch,
)

ID_COLUMN = "id"
PAYLOAD_COLUMN = "payload"
DEFAULT_VECTOR_COLUMN = "vector"


def load_pyarrow() -> ModuleType:
    """The package.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import pyarrow
    except ImportError:
        raise MissingExtra("pyarrow", "arrow") from None
    module: ModuleType = pyarrow
    return module


def is_arrow(value: object) -> bool:
    """Whether a value is one of pyarrow's, which need not be installed to ask."""
    return type(value).__module__.partition(".")[0] == "pyarrow"


def vector_column(vector_name: str) -> str:
    """The name of a vector's column.

    Raises:
        ArraysDisagree: another column has the vector's name.
    """
    if vector_name == DEFAULT_VECTOR_NAME:
        return DEFAULT_VECTOR_COLUMN
    if vector_name in (ID_COLUMN, PAYLOAD_COLUMN, DEFAULT_VECTOR_COLUMN):
        raise ArraysDisagree(f"a vector named {vector_name!r} cannot be a column of that name")
    return vector_name


# In


def vectors_from_arrow(
    name: str, column: Any, params: VectorParams | SparseVectorParams
) -> VectorBatch:
    """The vectors of a column; nulls are points that lack the vector.

    Args:
        name: of the vector, for error texts.
        column: an Array or ChunkedArray; without nulls and of float32, dense vectors are
            not copied.
        params: what the collection has under the name.

    Raises:
        InvalidVector: the column is of another type.
    """
    if hasattr(column, "combine_chunks"):
        column = column.combine_chunks()
    positions: Rows = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
    given = column.drop_null() if column.null_count else column
    try:
        if isinstance(params, SparseVectorParams):
            return _sparse_from_arrow(positions, given)
        if params.is_multi:
            bounds = _bounds_of_lists(given)
            return MultiBatch(positions, bounds, _matrix(given.flatten(), params.size))
        return DenseBatch(positions, _matrix(given, params.size))
    except (TypeError, ValueError, KeyError, NotImplementedError) as error:
        raise InvalidVector(f"No vectors are in an Arrow column of {column.type}", name) from error


def _matrix(lists: Any, size: int) -> NDArray[np.float32]:
    """Lists of floats of one length as rows; kept as wide as they are if of another."""
    lengths = np.unique(_lengths(lists))
    width = int(lengths[0]) if len(lengths) == 1 else size
    flat = lists.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, dtype=np.float32).reshape(len(lists), width)


def _sparse_from_arrow(positions: Rows, structs: Any) -> SparseBatch:
    # Unlike `field`, `flatten` heeds that the array may be a slice.
    children = dict(zip((field.name for field in structs.type), structs.flatten(), strict=True))
    indices, values = children["indices"], children["values"]
    bounds = _bounds_of_lists(indices)
    if not np.array_equal(bounds, _bounds_of_lists(values)):
        raise ValueError("indices and values differ in length")
    flat_indices = indices.flatten().to_numpy(zero_copy_only=False)
    flat_values = values.flatten().to_numpy(zero_copy_only=False)
    order = np.lexsort((flat_indices, np.repeat(np.arange(len(positions)), np.diff(bounds))))
    return SparseBatch(
        positions,
        bounds,
        flat_indices[order].astype(np.uint32),
        np.asarray(flat_values, dtype=np.float32)[order],
    )


def _lengths(lists: Any) -> NDArray[np.int64]:
    from pyarrow import compute

    lengths = compute.list_value_length(lists).to_numpy(zero_copy_only=False)
    return np.asarray(lengths, dtype=np.int64)


def _bounds_of_lists(lists: Any) -> Rows:
    return np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(_lengths(lists))))


# Out


def points_schema(
    config: CollectionConfig, vector_names: Sequence[str], has_uuids: bool, payload_type: Any
) -> Any:
    """The `pyarrow.Schema` of points.

    Args:
        config: the collection's.
        vector_names: the vectors that become columns.
        has_uuids: whether ids are text rather than numbers.
        payload_type: of the payload column; None leaves it out.
    """
    pa = load_pyarrow()
    fields = [pa.field(ID_COLUMN, _id_type(has_uuids), nullable=False)]
    fields.extend(
        pa.field(vector_column(name), _vector_type(config.vector_params(name)))
        for name in vector_names
    )
    if payload_type is not None:
        fields.append(pa.field(PAYLOAD_COLUMN, payload_type))
    return pa.schema(fields)


def points_batch(points: PointColumns, schema: Any) -> Any:
    """Points as a `pyarrow.RecordBatch` of a schema that `points_schema` made.

    Raises:
        ArraysDisagree: a payload's field does not have its column's type.
    """
    pa = load_pyarrow()
    by_column = {vector_column(name): batch for name, batch in points.vectors.items()}
    columns = []
    for field in schema:
        if field.name == ID_COLUMN:
            columns.append(ids_column(points.ids, field.type))
        elif field.name in by_column:
            columns.append(_vectors_column(by_column[field.name], len(points.ids), field.type))
        else:
            columns.append(payload_column(points.payloads or [], field.type))
    return pa.record_batch(columns, schema=schema)


def payload_type(fields: Mapping[str, Any] | None) -> Any:
    """The type of the payload column: a struct of these fields' types, or JSON text."""
    pa = load_pyarrow()
    if fields is None:
        return pa.string()
    return pa.struct([pa.field(name, field_type) for name, field_type in fields.items()])


def ids_column(ids: Sequence[PointId], id_type: Any) -> Any:
    """Ids as numbers or, if the type is string, as text."""
    pa = load_pyarrow()
    if id_type == pa.uint64():
        return pa.array(np.array(ids, dtype=np.uint64))
    return pa.array([str(one) for one in ids], id_type)


def payload_column(payloads: Sequence[PayloadJson], column_type: Any) -> Any:
    """Payloads as JSON text or, if the type is a struct, as its fields, decoded by Arrow.

    Raises:
        ArraysDisagree: a field of a payload has another type.
    """
    pa = load_pyarrow()
    if not pa.types.is_struct(column_type):
        return pa.array(payloads, pa.binary()).cast(column_type)
    if not payloads or not column_type.num_fields:
        return pa.array([{}] * len(payloads), column_type)
    from pyarrow import json

    lines = b"\n".join(payloads)
    try:
        table = json.read_json(
            io.BytesIO(lines),
            read_options=json.ReadOptions(block_size=len(lines) + 1),
            parse_options=json.ParseOptions(
                explicit_schema=pa.schema(list(column_type)),
                newlines_in_values=True,
                unexpected_field_behavior="ignore",
            ),
        )
    except pa.ArrowInvalid as error:
        raise ArraysDisagree(f"a payload does not fit its columns: {error}") from error
    return table.select([field.name for field in column_type]).to_struct_array().combine_chunks()


def _id_type(has_uuids: bool) -> Any:
    pa = load_pyarrow()
    return pa.string() if has_uuids else pa.uint64()


def _vector_type(params: VectorParams | SparseVectorParams) -> Any:
    pa = load_pyarrow()
    if isinstance(params, SparseVectorParams):
        return pa.struct(
            [
                pa.field("indices", pa.list_(pa.uint32())),
                pa.field("values", pa.list_(pa.float32())),
            ]
        )
    one = pa.list_(pa.float32(), params.size)
    return pa.list_(one) if params.is_multi else one


def _vectors_column(batch: VectorBatch, points_count: int, column_type: Any) -> Any:
    """A column of one vector name; null where a point has none."""
    pa = load_pyarrow()
    lacks = np.ones(points_count, dtype=np.bool_)
    lacks[batch.positions] = False
    mask = pa.array(lacks) if lacks.any() else None
    if isinstance(batch, DenseBatch):
        return _dense_column(batch, points_count, column_type, mask)
    counts = np.zeros(points_count, dtype=np.int32)
    counts[batch.positions] = np.diff(batch.bounds)
    offsets = pa.array(np.concatenate((np.zeros(1, np.int32), np.cumsum(counts, dtype=np.int32))))
    if isinstance(batch, MultiBatch):
        inner = pa.FixedSizeListArray.from_arrays(
            pa.array(batch.values.reshape(-1)), column_type.value_type.list_size
        )
        return pa.ListArray.from_arrays(offsets, inner, type=column_type, mask=mask)
    lists = [
        pa.ListArray.from_arrays(offsets, pa.array(flat)) for flat in (batch.indices, batch.values)
    ]
    return pa.StructArray.from_arrays(lists, fields=list(column_type), mask=mask)


def _dense_column(batch: DenseBatch, points_count: int, column_type: Any, mask: Any) -> Any:
    pa = load_pyarrow()
    values = batch.values
    if mask is not None:
        values = np.zeros((points_count, column_type.list_size), dtype=np.float32)
        values[batch.positions] = batch.values
    flat = pa.array(values.reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, type=column_type, mask=mask)
