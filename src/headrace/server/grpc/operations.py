"""How does a write become operations?

A write has two forms with the same fields: a request of its own, and an entry of a batch.
Reading needs no collection; what is built from vectors does. So each reader returns a
`Build`, to be called once the collection is known to exist.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qdrant_client import grpc as qdrant

from headrace.model.collection_config import CollectionConfig
from headrace.model.errors import MalformedInput, WrongInput
from headrace.model.filters import Filter
from headrace.model.ids import PointId
from headrace.model.operations import (
    EMPTY_PAYLOAD,
    ClearPayload,
    DeletePayload,
    DeletePoints,
    DeleteVectors,
    Operation,
    OverwritePayload,
    PayloadJson,
    PointSelector,
    SetPayload,
    UpdateMode,
)
from headrace.model.points import PointStruct
from headrace.model.upserts import build_update_vectors, build_upsert
from headrace.model.vectors import Vector
from headrace.server.grpc.filters import read_filter
from headrace.server.grpc.ids import read_point_id
from headrace.server.grpc.payload import read_payload
from headrace.server.grpc.rules import (
    broken_rule,
    canonical_path,
    refuse_other_fields,
    refuse_shard_keys,
)
from headrace.server.grpc.selections import read_point_selector
from headrace.server.grpc.vectors import read_named_vectors
from headrace.service.inference import Text, embed_points

_Batch = qdrant.PointsUpdateOperation

# Makes an operation for a collection of this configuration. Raises `WrongInput` if it
# does not fit the collection.
Build = Callable[[CollectionConfig], Operation]

_UPDATE_MODES = {
    qdrant.UpdateMode.Upsert: UpdateMode.UPSERT,
    qdrant.UpdateMode.InsertOnly: UpdateMode.INSERT_ONLY,
    qdrant.UpdateMode.UpdateOnly: UpdateMode.UPDATE_ONLY,
}


def read_upsert(message: qdrant.UpsertPoints | _Batch.PointStructList) -> Build:
    """Insert or replace points.

    Raises:
        MalformedInput: a part of it is missing or no such thing.
        InvalidBody: a value in it breaks a rule.
        BadRequest: it asks for what is not supported.
        WrongInput: it names a shard.
    """
    refuse_other_fields(message, "points", "update_filter", "update_mode", "shard_key_selector")
    refuse_shard_keys(message.shard_key_selector, WrongInput)
    if message.update_mode not in _UPDATE_MODES:
        raise MalformedInput(f"Unknown update mode: {message.update_mode}")
    mode = _UPDATE_MODES[message.update_mode]
    read = [_read_point(point) for point in message.points]
    points = [
        PointStruct(id, vectors, payload)
        for (id, _, payload), vectors in zip(
            read, embed_points([vectors for _, vectors, _ in read]), strict=True
        )
    ]
    update_filter = _read_update_filter(message)
    return lambda config: build_upsert(points, config, mode, update_filter)


def read_update_vectors(message: qdrant.UpdatePointVectors | _Batch.UpdateVectors) -> Build:
    """Set vectors of existing points.

    Raises: as `read_upsert`.
    """
    refuse_other_fields(message, "points", "update_filter", "shard_key_selector")
    refuse_shard_keys(message.shard_key_selector, WrongInput)
    read = [_read_point_vectors(point) for point in message.points]
    vectors = embed_points([vectors for _, vectors in read])
    points = [(id, one) for (id, _), one in zip(read, vectors, strict=True)]
    update_filter = _read_update_filter(message)
    return lambda config: build_update_vectors(points, config, update_filter)


def read_delete_points(message: qdrant.DeletePoints | _Batch.DeletePoints) -> Build:
    """Delete points.

    Raises: as `read_upsert`.
    """
    refuse_other_fields(message, "points", "shard_key_selector")
    refuse_shard_keys(message.shard_key_selector, WrongInput)
    return _ready(DeletePoints(read_point_selector(message.points)))


def read_clear_payload(message: qdrant.ClearPayloadPoints | _Batch.ClearPayload) -> Build:
    """Empty the payloads of points.

    Raises: as `read_upsert`.
    """
    refuse_other_fields(message, "points", "shard_key_selector")
    refuse_shard_keys(message.shard_key_selector, WrongInput)
    return _ready(ClearPayload(read_point_selector(message.points)))


def read_delete_vectors(message: qdrant.DeletePointVectors | _Batch.DeleteVectors) -> Build:
    """Remove named vectors from points.

    Raises: as `read_upsert`.
    """
    refuse_other_fields(message, "points_selector", "vectors", "shard_key_selector")
    names = tuple(dict.fromkeys(message.vectors.names))
    if not names:
        raise broken_rule("vectors.names", "must specify vector names to delete")
    return _ready(DeleteVectors(_read_selector(message), names))


def read_set_payload(message: qdrant.SetPayloadPoints | _Batch.SetPayload) -> Build:
    """Merge keys into payloads.

    Raises: as `read_upsert`.
    """
    refuse_other_fields(message, "payload", "points_selector", "key", "shard_key_selector")
    return _ready(
        SetPayload(
            _read_selector(message),
            read_payload(message.payload),
            canonical_path(message.key) if message.HasField("key") else None,
        )
    )


def read_overwrite_payload(message: qdrant.SetPayloadPoints | _Batch.OverwritePayload) -> Build:
    """Replace payloads whole, whatever path `key` is: as in Qdrant.

    Raises: as `read_upsert`.
    """
    refuse_other_fields(message, "payload", "points_selector", "key", "shard_key_selector")
    if message.HasField("key"):
        canonical_path(message.key)
    return _ready(OverwritePayload(_read_selector(message), read_payload(message.payload)))


def read_delete_payload(message: qdrant.DeletePayloadPoints | _Batch.DeletePayload) -> Build:
    """Remove keys from payloads.

    Raises: as `read_upsert`.
    """
    refuse_other_fields(message, "keys", "points_selector", "shard_key_selector")
    keys = tuple(canonical_path(key) for key in message.keys)
    return _ready(DeletePayload(_read_selector(message), keys))


def read_batch(message: qdrant.UpdateBatchPoints) -> list[Build]:
    """Many writes, applied in order as one.

    Raises: as `read_upsert`.
    """
    refuse_other_fields(message, "operations")
    if not message.operations:
        raise broken_rule("operations", "value [] invalid, must be at least 1 characters")
    return [_read_entry(entry) for entry in message.operations]


def _read_entry(entry: qdrant.PointsUpdateOperation) -> Build:
    name = entry.WhichOneof("operation")
    if name is None:
        raise MalformedInput("Operation is missing")
    return _ENTRIES[name](getattr(entry, name))


# The two deprecated entries are a selector by itself.
_ENTRIES: dict[str, Callable[[Any], Build]] = {
    "upsert": read_upsert,
    "delete_deprecated": lambda selector: _ready(DeletePoints(read_point_selector(selector))),
    "set_payload": read_set_payload,
    "overwrite_payload": read_overwrite_payload,
    "delete_payload": read_delete_payload,
    "clear_payload_deprecated": lambda selector: _ready(
        ClearPayload(read_point_selector(selector))
    ),
    "update_vectors": read_update_vectors,
    "delete_vectors": read_delete_vectors,
    "delete_points": read_delete_points,
    "clear_payload": read_clear_payload,
}


def _ready(operation: Operation) -> Build:
    return lambda config: operation


def _read_point(
    message: qdrant.PointStruct,
) -> tuple[PointId, Mapping[str, Vector | Text], PayloadJson]:
    if not message.HasField("id"):
        raise MalformedInput("Empty ID is not allowed")
    if not message.HasField("vectors"):
        raise MalformedInput("Expected some vectors")
    return (
        read_point_id(message.id),
        read_named_vectors(message.vectors),
        read_payload(message.payload) if message.payload else EMPTY_PAYLOAD,
    )


def _read_point_vectors(
    message: qdrant.PointVectors,
) -> tuple[PointId, Mapping[str, Vector | Text]]:
    if not message.HasField("id"):
        raise MalformedInput("id is expected")
    if not message.HasField("vectors"):
        raise MalformedInput("vectors is expected")
    vectors = read_named_vectors(message.vectors)
    if not vectors:
        raise broken_rule("points.vectors", "must specify vectors to update for point")
    return read_point_id(message.id), vectors


def _read_update_filter(
    message: qdrant.UpsertPoints
    | _Batch.PointStructList
    | qdrant.UpdatePointVectors
    | _Batch.UpdateVectors,
) -> Filter | None:
    return read_filter(message.update_filter) if message.HasField("update_filter") else None


def _read_selector(
    message: qdrant.SetPayloadPoints
    | qdrant.DeletePayloadPoints
    | qdrant.DeletePointVectors
    | _Batch.SetPayload
    | _Batch.OverwritePayload
    | _Batch.DeletePayload
    | _Batch.DeleteVectors,
) -> PointSelector:
    refuse_shard_keys(message.shard_key_selector, WrongInput)
    return read_point_selector(message.points_selector)
