"""Which point does a record's value or key stand for, and if none, why not?

The rules of qdrant-kafka, with its error texts, since people match on them. This is the
reference: slow and plain; `decode` has a faster way for records that are in order.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from headrace.model.ids import POINT_ID_NUMBER_MAX, PointId, parse_uuid
from headrace.model.names import NO_TEXT, is_text
from headrace.model.operations import EMPTY_PAYLOAD, PayloadJson
from headrace.model.points import PointStruct
from headrace.model.vectors import DEFAULT_VECTOR_NAME, FloatVector, SparseVector, Vector
from headrace.sink.changes import Change, Delete, Upsert
from headrace.sink.errors import Reason, RecordError
from headrace.sink.json_value import InvalidJson, JsonValue, encode_object

__all__ = [
    "SPARSE_INDEX_MAX",
    "Change",
    "Delete",
    "Upsert",
    "read_collection_name",
    "read_delete",
    "read_id_field",
    "read_payload",
    "read_point_id",
    "read_upsert",
    "read_vectors",
]

SPARSE_INDEX_MAX: Final = 2**32 - 1


def read_upsert(value: JsonValue, collection_name: str | None) -> Upsert:
    """The point that a record's value describes.

    Args:
        value: the record's value, an object with `id` and what else it has.
        collection_name: the connector's own; wins over the record's, if given.

    Raises:
        RecordError: with the text that qdrant-kafka has for it.
    """
    if not isinstance(value, dict):
        raise RecordError("Record value must be an object", Reason.NOT_AN_OBJECT)
    collection = collection_name or read_collection_name(value)
    point_id = read_id_field(value)
    payload = read_payload(value.get("payload"))
    vector = value.get("vector")
    vectors = read_vectors(value.get("vectors") if vector is None else vector)
    return Upsert(collection, PointStruct(point_id, vectors, payload))


def read_delete(kafka_key: JsonValue, collection_name: str | None) -> Delete:
    """The point that a tombstone's key names: an object, or a bare id.

    Raises:
        RecordError: the key names no point, or no collection is known.
    """
    if isinstance(kafka_key, dict):
        collection = collection_name or read_collection_name(kafka_key)
        return Delete(collection, read_id_field(kafka_key))
    if kafka_key is None:
        raise RecordError("'id' value is required", Reason.INVALID_ID)
    if collection_name is None:
        raise RecordError("'collection_name' value is required", Reason.INVALID_COLLECTION_NAME)
    return Delete(collection_name, read_point_id(kafka_key))


def read_point_id(value: JsonValue) -> PointId:
    """An id: an integer (also written `5.0`), or a UUID in a form that Qdrant takes.

    Raises:
        RecordError: it is neither.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise _id_error("Point ID must be a UUID string or an integer")
    if isinstance(value, int):
        if not 0 <= value <= POINT_ID_NUMBER_MAX:
            raise _id_error("Point ID must be a positive integer")
        return value
    uuid = parse_uuid(value)
    if uuid is None:
        raise _id_error(f"Point ID must be a valid UUID string. Invalid UUID: '{value}'")
    return uuid


def read_vectors(value: JsonValue) -> dict[str, Vector]:
    """The vectors of a point by name: none, the default one, or named ones.

    Raises:
        RecordError: with the text that qdrant-kafka has for it.
    """
    if value is None:
        return {}
    if isinstance(value, list):
        return {DEFAULT_VECTOR_NAME: _read_dense_or_multi(value)}
    if isinstance(value, dict):
        return {_read_vector_name(name): _read_named_vector(one) for name, one in value.items()}
    raise _vector_error("Invalid vector format")


def read_collection_name(fields: dict[str, JsonValue]) -> str:
    """The collection that a record names.

    Raises:
        RecordError: it names none.
    """
    if "collection_name" not in fields:
        raise _collection_error("'collection_name' value is required")
    name = fields["collection_name"]
    if name is None:
        raise _collection_error("'collection_name' value cannot be null")
    if not isinstance(name, str):
        raise _collection_error("Collection name must be a string")
    if not name:
        raise _collection_error("Collection name cannot be empty")
    return name


def read_id_field(fields: dict[str, JsonValue], name: str = "id") -> PointId:
    """The id that stands in a field.

    Raises:
        RecordError: there is none.
    """
    if name not in fields:
        raise _id_error(f"'{name}' value is required")
    if fields[name] is None:
        raise _id_error(f"'{name}' value cannot be null")
    return read_point_id(fields[name])


def read_payload(value: JsonValue) -> PayloadJson:
    """A payload as it is stored; null is an empty one.

    Raises:
        RecordError: it is no object, or cannot be stored as it is.
    """
    if value is None:
        return EMPTY_PAYLOAD
    if not isinstance(value, dict):
        raise RecordError("Payload must be an object.", Reason.INVALID_PAYLOAD)
    try:
        return encode_object(value)
    except InvalidJson as error:
        detail = f"Payload cannot be stored exactly: {error}"
        raise RecordError(detail, Reason.INVALID_PAYLOAD) from None


def _read_vector_name(name: str) -> str:
    # No request to a server can hold another.
    if not is_text(name):
        raise _vector_error(f"Vector name {NO_TEXT}")
    return name


def _read_named_vector(value: JsonValue) -> Vector:
    if isinstance(value, list):
        return _read_dense_or_multi(value)
    if isinstance(value, dict):
        return _read_sparse(value)
    raise _vector_error("Named vector values must be either dense or sparse vectors")


def _read_dense_or_multi(value: list[JsonValue]) -> Vector:
    if not value:
        raise _vector_error("Dense vector cannot be empty")
    if any(isinstance(element, list) for element in value):
        return _read_multi(value)
    return _read_floats(value, "Dense vector data must be a list of numbers")


def _read_multi(rows: list[JsonValue]) -> Vector:
    wrong_shape = "Multi vector data must be a list of lists of numbers"
    matrix: list[FloatVector] = []
    for row in rows:
        if not isinstance(row, list):
            raise _vector_error(wrong_shape)
        if not row and not matrix:
            raise _vector_error("Multi vector rows cannot be empty")
        if matrix and len(row) != len(matrix[0]):
            raise _vector_error(
                "Multi vector rows must have consistent dimensions "
                f"(expected: {len(matrix[0])}, found: {len(row)})"
            )
        matrix.append(_read_floats(row, wrong_shape, f"in row {len(matrix)} "))
    return np.stack(matrix)


def _read_sparse(fields: dict[str, JsonValue]) -> SparseVector:
    if "indices" not in fields or "values" not in fields:
        raise _vector_error("Sparse vector must contain 'indices' and 'values' fields")
    indices = _read_sparse_indices(fields["indices"])
    not_numbers = "Sparse vector 'values' must be a list of numbers"
    if not isinstance(fields["values"], list):
        raise _vector_error(not_numbers)
    values = _read_floats(fields["values"], not_numbers)
    if len(indices) != len(values):
        raise _vector_error(
            "Sparse vector 'indices' and 'values' must have the same length "
            f"(indices: {len(indices)}, values: {len(values)})"
        )
    return SparseVector(np.asarray(indices, dtype=np.uint32), values)


def _read_sparse_indices(value: JsonValue) -> list[int]:
    if not isinstance(value, list):
        raise _vector_error("Indices must be a list of integers")
    indices: list[int] = []
    for element in value:
        if isinstance(element, float) and element.is_integer():
            element = int(element)
        if isinstance(element, bool) or not isinstance(element, int):
            raise _vector_error("Indices must be a list of integers")
        if not 0 <= element <= SPARSE_INDEX_MAX:
            raise _vector_error(
                f"Indices must be a list of integers from 0 to {SPARSE_INDEX_MAX} "
                f"(found: {element})"
            )
        indices.append(element)
    if len(set(indices)) != len(indices):
        twice = next(index for rank, index in enumerate(indices) if index in indices[:rank])
        raise _vector_error(f"Sparse vector indices must be unique (found twice: {twice})")
    return indices


def _read_floats(elements: list[JsonValue], not_numbers: str, where: str = "") -> FloatVector:
    """Numbers as float32; what float32 cannot hold is refused, naming the element."""
    doubles = np.empty(len(elements), dtype=np.float64)
    for rank, element in enumerate(elements):
        if isinstance(element, bool) or not isinstance(element, int | float):
            raise _vector_error(not_numbers)
        try:
            doubles[rank] = element
        except OverflowError:
            doubles[rank] = math.inf
    with np.errstate(over="ignore"):
        floats = doubles.astype(np.float32)
    not_finite = np.flatnonzero(~np.isfinite(floats))
    if len(not_finite):
        rank = int(not_finite[0])
        raise _vector_error(
            f"Vector element {rank} {where}is not finite in float32: {elements[rank]}"
        )
    return floats


def _id_error(detail: str) -> RecordError:
    return RecordError(detail, Reason.INVALID_ID)


def _collection_error(detail: str) -> RecordError:
    return RecordError(detail, Reason.INVALID_COLLECTION_NAME)


def _vector_error(detail: str) -> RecordError:
    return RecordError(detail, Reason.INVALID_VECTOR)
