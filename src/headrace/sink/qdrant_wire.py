"""How does a point, or a change of one, look on its way to a Qdrant server?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias
from uuid import UUID

import orjson
from qdrant_client import grpc
from qdrant_client.conversions.conversion import json_to_value

from headrace.model.ids import PointId
from headrace.model.operations import (
    ClearPayload,
    DeletePayload,
    OverwritePayload,
    PayloadJson,
    SetPayload,
)
from headrace.model.points import PointStruct
from headrace.model.vectors import DEFAULT_VECTOR_NAME, SparseVector, Vector
from headrace.sink.changes import Delete, PayloadPatch, Upsert, VectorPatch, WritableChange
from headrace.sink.errors import Reason, RecordError

# What a gRPC payload can hold: integers are signed, and servers decode messages nested to
# 100: a request, a point and a map entry, then three for an object and two for a list.
_GRPC_INTEGER_MAX = 2**63 - 1
_GRPC_DEPTH_MAX = 100
_GRPC_DEPTH_OF_PAYLOAD = 4

_Json: TypeAlias = "bool | int | float | str | list[_Json] | dict[str, _Json] | None"


def grpc_point(point: PointStruct) -> grpc.PointStruct:
    """A point as protobuf.

    Raises:
        RecordError: its payload would not arrive as it is.
    """
    return grpc.PointStruct(
        id=grpc_id(point.id), vectors=_grpc_vectors(point.vectors), payload=grpc_payload(point)
    )


def grpc_id(point_id: PointId) -> grpc.PointId:
    """An id as protobuf."""
    if isinstance(point_id, UUID):
        return grpc.PointId(uuid=str(point_id))
    return grpc.PointId(num=point_id)


def grpc_operation(run: Sequence[WritableChange]) -> grpc.PointsUpdateOperation:
    """The operation that does a run of like changes.

    Raises:
        RecordError: a payload would not arrive as it is.
    """
    kind = grpc.PointsUpdateOperation
    ids = grpc.PointsIdsList(ids=[grpc_id(change.point_id) for change in run])
    selector = grpc.PointsSelector(points=ids)
    first = run[0]
    if isinstance(first, Upsert):
        points = [grpc_point(one.point) for one in run if isinstance(one, Upsert)]
        return kind(upsert=kind.PointStructList(points=points))
    if isinstance(first, Delete):
        return kind(delete_points=kind.DeletePoints(points=selector))
    if isinstance(first, VectorPatch):
        patches = [
            grpc.PointVectors(id=grpc_id(one.point_id), vectors=_grpc_vectors(one.vectors))
            for one in run
            if isinstance(one, VectorPatch)
        ]
        return kind(update_vectors=kind.UpdateVectors(points=patches))
    match first.operation:
        case SetPayload(payload=payload, key=key):
            values = _grpc_values(first.point_id, payload)
            patch = kind.SetPayload(payload=values, points_selector=selector, key=key)
            return kind(set_payload=patch)
        case OverwritePayload(payload=payload):
            values = _grpc_values(first.point_id, payload)
            new = kind.OverwritePayload(payload=values, points_selector=selector)
            return kind(overwrite_payload=new)
        case DeletePayload(keys=keys):
            return kind(delete_payload=kind.DeletePayload(keys=keys, points_selector=selector))
        case ClearPayload():
            return kind(clear_payload=kind.ClearPayload(points=selector))


def rest_point(point: PointStruct) -> dict[str, object]:
    """A point for orjson to write."""
    return {
        "id": point.id,
        "vector": _rest_vectors(point.vectors),
        "payload": orjson.Fragment(point.payload),
    }


def rest_operation(run: Sequence[WritableChange]) -> dict[str, object]:
    """The operation that does a run of like changes, for orjson to write."""
    ids = [change.point_id for change in run]
    first = run[0]
    if isinstance(first, Upsert):
        points = [rest_point(one.point) for one in run if isinstance(one, Upsert)]
        return {"upsert": {"points": points}}
    if isinstance(first, Delete):
        return {"delete": {"points": ids}}
    if isinstance(first, VectorPatch):
        patches = [
            {"id": one.point_id, "vector": _rest_vectors(one.vectors)}
            for one in run
            if isinstance(one, VectorPatch)
        ]
        return {"update_vectors": {"points": patches}}
    return _rest_payload_operation(first, ids)


def grpc_payload(point: PointStruct) -> dict[str, grpc.Value]:
    """A payload as protobuf values.

    Raises:
        RecordError: it would not arrive as it is.
    """
    return _grpc_values(point.id, point.payload)


def _rest_payload_operation(change: PayloadPatch, ids: list[PointId]) -> dict[str, object]:
    match change.operation:
        case SetPayload(payload=payload, key=key):
            body: dict[str, object] = {"payload": orjson.Fragment(payload), "points": ids}
            return {"set_payload": body if key is None else body | {"key": key}}
        case OverwritePayload(payload=payload):
            return {"overwrite_payload": {"payload": orjson.Fragment(payload), "points": ids}}
        case DeletePayload(keys=keys):
            return {"delete_payload": {"keys": keys, "points": ids}}
        case ClearPayload():
            return {"clear_payload": {"points": ids}}


def _grpc_vectors(vectors: Mapping[str, Vector]) -> grpc.Vectors:
    if list(vectors) == [DEFAULT_VECTOR_NAME]:
        return grpc.Vectors(vector=_grpc_vector(vectors[DEFAULT_VECTOR_NAME]))
    named = {name: _grpc_vector(vector) for name, vector in vectors.items()}
    return grpc.Vectors(vectors=grpc.NamedVectors(vectors=named))


def _grpc_vector(vector: Vector) -> grpc.Vector:
    if isinstance(vector, SparseVector):
        sparse = grpc.SparseVector(indices=vector.indices.tolist(), values=vector.values.tolist())
        return grpc.Vector(sparse=sparse)
    if vector.ndim == 2:
        rows = [grpc.DenseVector(data=row.tolist()) for row in vector]
        return grpc.Vector(multi_dense=grpc.MultiDenseVector(vectors=rows))
    return grpc.Vector(dense=grpc.DenseVector(data=vector.tolist()))


def _grpc_values(point_id: PointId, payload_json: PayloadJson) -> dict[str, grpc.Value]:
    payload: dict[str, _Json] = orjson.loads(payload_json)
    waiting: list[tuple[int, _Json]] = [(_GRPC_DEPTH_OF_PAYLOAD, v) for v in payload.values()]
    while waiting:
        depth, value = waiting.pop()
        if isinstance(value, dict):
            waiting.extend((depth + 3, item) for item in value.values())
        elif isinstance(value, list):
            waiting.extend((depth + 2, item) for item in value)
        elif isinstance(value, int) and value > _GRPC_INTEGER_MAX:
            raise _not_over_grpc(point_id, f"the integer {value} does not fit into 64 signed bits")
        if depth > _GRPC_DEPTH_MAX:
            raise _not_over_grpc(point_id, "it is nested deeper than servers decode")
    return {name: json_to_value(value) for name, value in payload.items()}


def _not_over_grpc(point_id: PointId, reason: str) -> RecordError:
    return RecordError(
        f"The payload of point {point_id} cannot go over gRPC: {reason}. Give qdrant.rest.url "
        "instead of qdrant.grpc.url",
        Reason.INVALID_PAYLOAD,
    )


def _rest_vectors(vectors: Mapping[str, Vector]) -> object:
    if list(vectors) == [DEFAULT_VECTOR_NAME]:
        return _rest_vector(vectors[DEFAULT_VECTOR_NAME])
    return {name: _rest_vector(vector) for name, vector in vectors.items()}


def _rest_vector(vector: Vector) -> object:
    if isinstance(vector, SparseVector):
        return {"indices": vector.indices, "values": vector.values}
    return vector
