"""A target that keeps everything in dictionaries, and fails when it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

from headrace.model.collection_config import CollectionConfig, VectorParams
from headrace.model.errors import HeadraceError, collection_not_found, point_not_found
from headrace.model.ids import PointId
from headrace.model.operations import (
    ClearPayload,
    DeletePayload,
    OverwritePayload,
    PayloadJson,
    SetPayload,
    SourceOffset,
    SourcePartition,
)
from headrace.model.points import PointStruct
from headrace.model.upserts import build_upsert
from headrace.model.vectors import Distance
from headrace.sink.changes import (
    Delete,
    Upsert,
    VectorPatch,
    WritableChange,
    operation_of,
    runs,
)
from headrace.sink.json_value import JsonValue
from headrace.sink.refusals import find_refusals

Points = dict[PointId, PayloadJson]


class MemoryTarget:
    """Stores the payload of each point; vectors are checked and forgotten.

    Attributes:
        events: what was done, in order: one text per write.
        failures: raised, one after the other, by the next writes.
        before_write: called at the start of each write.
    """

    def __init__(self, keeps_positions: bool = True, **dims: int) -> None:
        self.collections: dict[str, Points] = {}
        self.configs: dict[str, CollectionConfig] = {}
        self.offsets: dict[str, dict[SourcePartition, int]] = {}
        self.saved: dict[SourcePartition, int] = {}
        self.events: list[str] = []
        self.failures: list[HeadraceError] = []
        self.before_write: Callable[[Sequence[PointStruct]], None] | None = None
        self._keeps_positions = keeps_positions
        self._lock = threading.Lock()
        for name, dim in dims.items():
            params = VectorParams(size=dim, distance=Distance.DOT)
            self.create_collection(name, CollectionConfig(vectors={"": params}))

    @property
    def keeps_positions(self) -> bool:
        return self._keeps_positions

    def hold(self, partitions: Collection[SourcePartition]) -> AbstractContextManager[object]:
        return nullcontext()

    def positions(self, source: str) -> Mapping[SourcePartition, int]:
        return {one: offset for one, offset in self.saved.items() if one.source == source}

    def save_positions(self, positions: Sequence[SourceOffset]) -> None:
        self.saved |= {one.partition: one.next_offset for one in positions}

    def taken(self, collection_name: str) -> Mapping[SourcePartition, int]:
        self._check(collection_name)
        return dict(self.offsets[collection_name]) if self._keeps_positions else {}

    def refusals(
        self, collection_name: str, points: Sequence[PointStruct]
    ) -> list[HeadraceError | None]:
        self._check(collection_name)
        return find_refusals(points, self.configs[collection_name])

    def write(
        self,
        collection_name: str,
        points: Sequence[PointStruct],
        deleted_ids: Sequence[PointId],
        source_offsets: Sequence[SourceOffset],
    ) -> None:
        if self.before_write is not None:
            self.before_write(points)
        self._check(collection_name)
        with self._lock:
            if self.failures:
                raise self.failures.pop(0)
            ids = [point.id for point in points]
            assert len({*ids, *deleted_ids}) == len(ids) + len(deleted_ids)
            if points:
                build_upsert(points, self.configs[collection_name])
            self.events.append(f"write {collection_name} +{len(points)} -{len(deleted_ids)}")
            stored = self.collections[collection_name]
            stored |= {point.id: point.payload for point in points}
            for point_id in deleted_ids:
                stored.pop(point_id, None)
            if self._keeps_positions:
                offsets = self.offsets[collection_name]
                offsets |= {one.partition: one.next_offset for one in source_offsets}

    def apply(
        self,
        collection_name: str,
        changes: Sequence[WritableChange],
        source_offsets: Sequence[SourceOffset],
    ) -> None:
        self._check(collection_name)
        with self._lock:
            if self.failures:
                raise self.failures.pop(0)
            stored = dict(self.collections[collection_name])
            for run in runs(changes):
                assert len({one.point_id for one in run}) == len(run)
                operation_of(run, self.configs[collection_name])
            for change in changes:
                apply_to(stored, change)
            self.events.append(f"apply {collection_name} {len(list(runs(changes)))} operations")
            self.collections[collection_name] = stored
            if self._keeps_positions:
                offsets = self.offsets[collection_name]
                offsets |= {one.partition: one.next_offset for one in source_offsets}

    def stored_values(
        self, collection_name: str, ids: Sequence[PointId], payload_key: str | None
    ) -> dict[PointId, JsonValue]:
        self._check(collection_name)
        stored = self.collections[collection_name]
        return {one: json.loads(stored[one]).get(payload_key) for one in ids if one in stored}

    def create_collection(self, name: str, config: CollectionConfig) -> None:
        self.configs[name] = config
        self.collections[name] = {}
        self.offsets[name] = {}

    def close(self) -> None:
        pass

    def _check(self, collection_name: str) -> None:
        if collection_name not in self.collections:
            raise collection_not_found(collection_name)


def apply_to(stored: Points, change: WritableChange) -> None:
    """Make one change, on top-level keys alone; the point to be patched must be there."""
    if isinstance(change, Upsert):
        stored[change.point_id] = change.point.payload
        return
    if isinstance(change, Delete):
        stored.pop(change.point_id, None)
        return
    if change.point_id not in stored:
        raise point_not_found(change.point_id)
    if isinstance(change, VectorPatch):
        return
    payload = json.loads(stored[change.point_id])
    match change.operation:
        case SetPayload(payload=patch):
            payload |= json.loads(patch)
            payload = {name: value for name, value in payload.items() if value is not None}
        case OverwritePayload(payload=new):
            payload = json.loads(new)
        case DeletePayload(keys=keys):
            payload = {name: value for name, value in payload.items() if name not in keys}
        case ClearPayload():
            payload = {}
    stored[change.point_id] = json.dumps(payload, separators=(",", ":")).encode()
