"""Where do points go, and how far does the target know that it has them?

The engine of this process keeps, in the log record of each write, how far each partition
was taken: exactly once. A remote server cannot, so Kafka's committed offsets count: at
least once, with writes that may be repeated.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

import orjson

from headrace.model.collection_config import CollectionConfig
from headrace.model.errors import HeadraceError
from headrace.model.ids import PointId
from headrace.model.operations import (
    DeletePoints,
    Operation,
    PointSelector,
    SourceOffset,
    SourcePartition,
)
from headrace.model.points import PointStruct
from headrace.model.queries import NO_PAYLOAD, NO_VECTORS, WHOLE_PAYLOAD
from headrace.model.upserts import build_dense_upsert, build_upsert
from headrace.service.service import Service
from headrace.sink.changes import WritableChange, operation_of, runs
from headrace.sink.entries import UpsertColumns
from headrace.sink.json_value import JsonValue
from headrace.sink.partition_locks import PartitionLocks
from headrace.sink.qdrant_target import QdrantTarget
from headrace.sink.refusals import find_refusals

__all__ = ["EmbeddedTarget", "QdrantTarget", "Target"]


class Target(Protocol):
    """What a sink task writes into; used by several tasks at the same time.

    Every call may raise a `HeadraceError`, whose code tells who must act (`errors`).
    """

    @property
    def keeps_positions(self) -> bool:
        """Whether the target itself knows where each partition is to be read from."""
        ...

    def hold(self, partitions: Collection[SourcePartition]) -> AbstractContextManager[object]:
        """Keep other tasks of this process from writing records of these partitions."""
        ...

    def positions(self, source: str) -> Mapping[SourcePartition, int]:
        """From which offset on each partition of a source must be read again."""
        ...

    def save_positions(self, positions: Sequence[SourceOffset]) -> None:
        """Keep such offsets: all records before them are durable."""
        ...

    def taken(self, collection_name: str) -> Mapping[SourcePartition, int]:
        """The first offset of each partition that a collection has not taken yet.

        Raises:
            NotFound: there is no such collection.
        """
        ...

    def refusals(
        self, collection_name: str, points: Sequence[PointStruct]
    ) -> list[HeadraceError | None]:
        """Which points the collection's configuration does not admit; nothing is written.

        Returns:
            For each point the error, or None.

        Raises:
            NotFound: there is no such collection.
        """
        ...

    def write(
        self,
        collection_name: str,
        points: Sequence[PointStruct],
        deleted_ids: Sequence[PointId],
        source_offsets: Sequence[SourceOffset],
    ) -> None:
        """Put and delete points; durable when it returns. The ids are all different.

        Args:
            collection_name: the collection.
            points: replace the points of their ids.
            deleted_ids: no error if one is not stored.
            source_offsets: how far this write takes each partition into the collection;
                kept by a target that keeps positions, in the same atomic write.

        Raises:
            NotFound: there is no such collection.
        """
        ...

    def apply(
        self,
        collection_name: str,
        changes: Sequence[WritableChange],
        source_offsets: Sequence[SourceOffset],
    ) -> None:
        """Make changes, those of one point in order; durable when it returns.

        As `write`, for changes that are not all of whole points.

        Raises:
            NotFound: there is no such collection, or a point to be patched is not there.
        """
        ...

    def stored_values(
        self, collection_name: str, ids: Sequence[PointId], payload_key: str | None
    ) -> dict[PointId, JsonValue]:
        """Those of the points that are there, with the payload value of a top-level key.

        Args:
            collection_name: the collection.
            ids: the points to look for.
            payload_key: the key; None if it is enough to know that they are there.

        Raises:
            NotFound: there is no such collection.
        """
        ...

    def create_collection(self, name: str, config: CollectionConfig) -> None:
        """Make a collection; no error if somebody else just did."""
        ...

    def close(self) -> None:
        """Release connections; the target is not used after that."""
        ...


@runtime_checkable
class ColumnsTarget(Target, Protocol):
    """A target that takes columns as they are."""

    def write_columns(
        self,
        collection_name: str,
        columns: UpsertColumns,
        source_offsets: Sequence[SourceOffset],
    ) -> None:
        """As `write`, for points that all have the default dense vector."""
        ...


class EmbeddedTarget:
    """The engine of this process: exactly once.

    Args:
        service: an open service; its owner closes it.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._locks = PartitionLocks()

    @property
    def keeps_positions(self) -> bool:
        """The engine does."""
        return True

    def hold(self, partitions: Collection[SourcePartition]) -> AbstractContextManager[object]:
        """See `Target`.

        A task that lost a partition without knowing yet must not write an old record over
        a newer one: with the partition held, what `taken` says stays true until the write.
        """
        return self._locks.hold(partitions)

    def positions(self, source: str) -> Mapping[SourcePartition, int]:
        """See `Target`."""
        return self._service.source_positions(source)

    def save_positions(self, positions: Sequence[SourceOffset]) -> None:
        """See `Target`."""
        self._service.set_source_positions(positions)

    def taken(self, collection_name: str) -> Mapping[SourcePartition, int]:
        """See `Target`."""
        return self._service.source_offsets(collection_name)

    def refusals(
        self, collection_name: str, points: Sequence[PointStruct]
    ) -> list[HeadraceError | None]:
        """See `Target`."""
        return find_refusals(points, self._service.collection_config(collection_name))

    def write(
        self,
        collection_name: str,
        points: Sequence[PointStruct],
        deleted_ids: Sequence[PointId],
        source_offsets: Sequence[SourceOffset],
    ) -> None:
        """See `Target`."""
        operations: list[Operation] = []
        if points:
            config = self._service.collection_config(collection_name)
            operations.append(build_upsert(points, config))
        if deleted_ids:
            operations.append(DeletePoints(PointSelector(ids=tuple(deleted_ids))))
        self._service.write(collection_name, operations, source_offsets)

    def write_columns(
        self,
        collection_name: str,
        columns: UpsertColumns,
        source_offsets: Sequence[SourceOffset],
    ) -> None:
        """See `ColumnsTarget`."""
        config = self._service.collection_config(collection_name)
        upsert = build_dense_upsert(columns.ids, columns.vectors, columns.payloads, config)
        self._service.write(collection_name, [upsert], source_offsets)

    def apply(
        self,
        collection_name: str,
        changes: Sequence[WritableChange],
        source_offsets: Sequence[SourceOffset],
    ) -> None:
        """See `Target`."""
        config = self._service.collection_config(collection_name)
        operations = [operation_of(run, config) for run in runs(changes)]
        self._service.write(collection_name, operations, source_offsets)

    def stored_values(
        self, collection_name: str, ids: Sequence[PointId], payload_key: str | None
    ) -> dict[PointId, JsonValue]:
        """See `Target`."""
        if not ids:
            return {}
        selection = NO_PAYLOAD if payload_key is None else WHOLE_PAYLOAD
        found = self._service.retrieve(collection_name, ids, selection, NO_VECTORS)
        if payload_key is None:
            return dict.fromkeys((point.id for point in found), None)
        return {point.id: orjson.loads(point.payload or b"{}").get(payload_key) for point in found}

    def create_collection(self, name: str, config: CollectionConfig) -> None:
        """See `Target`."""
        if not self._service.collection_exists(name):
            self._service.create_collection(name, config)

    def close(self) -> None:
        """The service's owner closes it."""
