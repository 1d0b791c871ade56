"""Which change does a record ask for by its `op`?

`{"op": "set_payload", "collection_name": "c", "id": 1, "payload": {"a": 2}}`, with `ids`
in place of `id` for many points. The operations are Qdrant's, with its names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from headrace.model.errors import MalformedInput
from headrace.model.ids import PointId
from headrace.model.operations import (
    ClearPayload,
    DeletePayload,
    OverwritePayload,
    PayloadJson,
    SetPayload,
)
from headrace.model.payload_path import parse_payload_path
from headrace.sink.changes import Change, Delete, PayloadPatch, VectorPatch, selector_of
from headrace.sink.envelope import (
    read_collection_name,
    read_id_field,
    read_payload,
    read_point_id,
    read_upsert,
    read_vectors,
)
from headrace.sink.errors import Reason, RecordError
from headrace.sink.json_value import JsonValue

_Fields = dict[str, JsonValue]


def read_operation(fields: _Fields, collection_name: str | None) -> tuple[Change, ...]:
    """The changes that a value with an `op` asks for, one for each id.

    Args:
        fields: the value.
        collection_name: the connector's own; wins over the value's, if given.

    Raises:
        RecordError: the operation is unknown, or lacks something.
    """
    name = fields["op"]
    if name == "upsert":
        return (read_upsert(fields, collection_name),)
    reader = _READERS.get(name) if isinstance(name, str) else None
    if reader is None:
        known = ", ".join(["upsert", *_READERS])
        raise _error(f"Unknown operation {name!r}: 'op' must be one of {known}")
    collection = collection_name or read_collection_name(fields)
    return reader(fields, collection, _read_ids(fields))


def _update_vectors(fields: _Fields, collection: str, ids: list[PointId]) -> tuple[Change, ...]:
    vector = fields.get("vector")
    vectors = read_vectors(fields.get("vectors") if vector is None else vector)
    if not vectors:
        raise RecordError("'vector' value is required", Reason.INVALID_VECTOR)
    return tuple(VectorPatch(collection, one, vectors) for one in ids)


def _set_payload(fields: _Fields, collection: str, ids: list[PointId]) -> tuple[Change, ...]:
    payload = _required_payload(fields)
    path = fields.get("key")
    if path is not None:
        path = _checked_path(path)
    return tuple(
        PayloadPatch(collection, one, SetPayload(selector_of(one), payload, path)) for one in ids
    )


def _overwrite_payload(fields: _Fields, collection: str, ids: list[PointId]) -> tuple[Change, ...]:
    payload = _required_payload(fields)
    return tuple(
        PayloadPatch(collection, one, OverwritePayload(selector_of(one), payload)) for one in ids
    )


def _delete_payload(fields: _Fields, collection: str, ids: list[PointId]) -> tuple[Change, ...]:
    paths = fields.get("keys")
    if not isinstance(paths, list) or not paths:
        raise RecordError("'keys' must be a list of payload paths", Reason.INVALID_PAYLOAD)
    keys = tuple(_checked_path(path) for path in paths)
    return tuple(
        PayloadPatch(collection, one, DeletePayload(selector_of(one), keys)) for one in ids
    )


def _clear_payload(_fields: _Fields, collection: str, ids: list[PointId]) -> tuple[Change, ...]:
    return tuple(PayloadPatch(collection, one, ClearPayload(selector_of(one))) for one in ids)


def _delete(_fields: _Fields, collection: str, ids: list[PointId]) -> tuple[Change, ...]:
    return tuple(Delete(collection, one) for one in ids)


def _read_ids(fields: _Fields) -> list[PointId]:
    if "ids" not in fields:
        return [read_id_field(fields)]
    if "id" in fields:
        raise RecordError("'id' and 'ids' exclude each other", Reason.INVALID_ID)
    values = fields["ids"]
    if not isinstance(values, list) or not values:
        raise RecordError("'ids' must be a list of point IDs", Reason.INVALID_ID)
    return list(dict.fromkeys(read_point_id(value) for value in values))


def _required_payload(fields: _Fields) -> PayloadJson:
    if fields.get("payload") is None:
        raise RecordError("'payload' value is required", Reason.INVALID_PAYLOAD)
    return read_payload(fields["payload"])


def _checked_path(path: JsonValue) -> str:
    if not isinstance(path, str):
        raise RecordError("A payload path must be a string", Reason.INVALID_PAYLOAD)
    try:
        parse_payload_path(path)
    except MalformedInput as error:
        raise RecordError(error.message, Reason.INVALID_PAYLOAD) from None
    return path


def _error(detail: str) -> RecordError:
    return RecordError(detail, Reason.INVALID_OPERATION)


_READERS: Final[dict[str, Callable[[_Fields, str, list[PointId]], tuple[Change, ...]]]] = {
    "update_vectors": _update_vectors,
    "set_payload": _set_payload,
    "overwrite_payload": _overwrite_payload,
    "delete_payload": _delete_payload,
    "clear_payload": _clear_payload,
    "delete": _delete,
}
