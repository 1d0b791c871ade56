"""What does a record change, and which operations do many changes come to?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import orjson

from headrace.model.collection_config import CollectionConfig
from headrace.model.ids import PointId
from headrace.model.operations import (
    ClearPayload,
    DeletePayload,
    DeletePoints,
    Operation,
    OverwritePayload,
    PayloadJson,
    PointSelector,
    SetPayload,
)
from headrace.model.points import PointStruct
from headrace.model.upserts import build_update_vectors, build_upsert
from headrace.model.vectors import Vector

# By which a late record is told from a newer one; compared with another of its kind.
Version = int | float | str


class Upsert(msgspec.Struct, frozen=True, eq=False):
    """A record that puts a point into a collection, in place of what is there.

    Attributes:
        text: becomes one of its vectors; None once it has.
    """

    collection_name: str
    point: PointStruct
    version: Version | None = None
    text: str | None = None

    @property
    def point_id(self) -> PointId:
        """The point's id."""
        return self.point.id


class Merge(msgspec.Struct, frozen=True, eq=False):
    """A record that puts a point, and keeps the vectors and payload keys it does not name.

    Attributes:
        text: see `Upsert`.
    """

    collection_name: str
    point: PointStruct
    version: Version | None = None
    text: str | None = None

    @property
    def point_id(self) -> PointId:
        """The point's id."""
        return self.point.id


class Delete(msgspec.Struct, frozen=True):
    """A record that removes a point from a collection."""

    collection_name: str
    point_id: PointId
    version: Version | None = None


class VectorPatch(msgspec.Struct, frozen=True, eq=False):
    """A record that sets some vectors of a point that is there."""

    collection_name: str
    point_id: PointId
    vectors: dict[str, Vector]
    version: Version | None = None


class PayloadPatch(msgspec.Struct, frozen=True, eq=False):
    """A record that changes the payload of a point that is there.

    Attributes:
        operation: its selector names this point alone.
    """

    collection_name: str
    point_id: PointId
    operation: SetPayload | OverwritePayload | DeletePayload | ClearPayload
    version: Version | None = None


Patch = VectorPatch | PayloadPatch
WholeChange = Upsert | Delete
Change = Upsert | Delete | Merge | VectorPatch | PayloadPatch
# What a target writes: a merge is resolved by then.
WritableChange = Upsert | Delete | VectorPatch | PayloadPatch


def selector_of(*point_ids: PointId) -> PointSelector:
    """These points."""
    return PointSelector(ids=point_ids)


def resolve_merge(merge: Merge, exists: bool) -> list[WritableChange]:
    """What a merge comes to, for a point that is there or is not; null removes a key."""
    point = merge.point
    if not exists:
        whole = msgspec.structs.replace(point, payload=_without_nulls(point.payload))
        return [Upsert(merge.collection_name, whole, merge.version)]
    changes: list[WritableChange] = []
    if point.vectors:
        changes.append(VectorPatch(merge.collection_name, point.id, point.vectors))
    if point.payload != b"{}":
        patch = SetPayload(selector_of(point.id), point.payload)
        changes.append(PayloadPatch(merge.collection_name, point.id, patch))
    return changes


def content_of(change: Change) -> PointStruct | None:
    """What a change would store, as a point, so that it can be checked like one."""
    match change:
        case Upsert(point=point) | Merge(point=point):
            return point
        case VectorPatch(point_id=point_id, vectors=vectors):
            return PointStruct(point_id, vectors)
        case PayloadPatch(point_id=point_id, operation=SetPayload() | OverwritePayload() as patch):
            return PointStruct(point_id, {}, patch.payload)
    return None


def runs(changes: Sequence[WritableChange]) -> Iterator[list[WritableChange]]:
    """Neighbours that one operation can do: of one kind, and each of another point."""
    run: list[WritableChange] = []
    kind: object = None
    seen: set[PointId] = set()
    for change in changes:
        change_kind = _kind(change)
        if run and (change_kind != kind or change.point_id in seen):
            yield run
            run = []
            seen = set()
        kind = change_kind
        seen.add(change.point_id)
        run.append(change)
    if run:
        yield run


def operation_of(run: Sequence[WritableChange], config: CollectionConfig) -> Operation:
    """The operation that does a run.

    Raises: as `build_upsert`.
    """
    first = run[0]
    ids = tuple(change.point_id for change in run)
    if isinstance(first, PayloadPatch):
        return msgspec.structs.replace(first.operation, selector=PointSelector(ids=ids))
    if isinstance(first, Delete):
        return DeletePoints(PointSelector(ids=ids))
    if isinstance(first, Upsert):
        return build_upsert([one.point for one in run if isinstance(one, Upsert)], config)
    patches = [(one.point_id, one.vectors) for one in run if isinstance(one, VectorPatch)]
    return build_update_vectors(patches, config)


def _without_nulls(payload: PayloadJson) -> PayloadJson:
    if b"null" not in payload:
        return payload
    fields = orjson.loads(payload)
    return orjson.dumps({name: value for name, value in fields.items() if value is not None})


def _kind(change: WritableChange) -> object:
    if isinstance(change, PayloadPatch):
        return msgspec.structs.replace(change.operation, selector=PointSelector())
    return type(change)
