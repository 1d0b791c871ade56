"""What do the calls about snapshots do?"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from qdrant_client import grpc as qdrant

from headrace.model.snapshots import SnapshotDescription
from headrace.server.auth import Need
from headrace.server.grpc.calls import Method, same_for_all
from headrace.server.grpc.rules import check_collection_name
from headrace.service.service import Service


def snapshot_methods(service: Service) -> Mapping[str, Method]:
    """The methods of `qdrant.Snapshots`, by name."""
    calls = _SnapshotCalls(service)
    return {
        "Create": same_for_all(calls.create, Need.WRITE_EXTRAS),
        "List": same_for_all(calls.list, Need.READ_EXTRAS),
        "Delete": same_for_all(calls.delete, Need.WRITE_EXTRAS),
        "CreateFull": same_for_all(calls.create_full, Need.MANAGE),
        "ListFull": same_for_all(calls.list_full, Need.GLOBAL_READ),
        "DeleteFull": same_for_all(calls.delete_full, Need.MANAGE),
    }


class _SnapshotCalls:
    def __init__(self, service: Service) -> None:
        self._snapshots = service.snapshots

    def create(self, request: qdrant.CreateSnapshotRequest) -> qdrant.CreateSnapshotResponse:
        name = check_collection_name(request.collection_name)
        return _created(self._snapshots.create(name))

    def list(self, request: qdrant.ListSnapshotsRequest) -> qdrant.ListSnapshotsResponse:
        name = check_collection_name(request.collection_name)
        found = map(_message, self._snapshots.descriptions(name))
        return qdrant.ListSnapshotsResponse(snapshot_descriptions=found)

    def delete(self, request: qdrant.DeleteSnapshotRequest) -> qdrant.DeleteSnapshotResponse:
        name = check_collection_name(request.collection_name)
        self._snapshots.delete(name, request.snapshot_name)
        return qdrant.DeleteSnapshotResponse()

    def create_full(
        self, request: qdrant.CreateFullSnapshotRequest
    ) -> qdrant.CreateSnapshotResponse:
        return _created(self._snapshots.create_full())

    def list_full(self, request: qdrant.ListFullSnapshotsRequest) -> qdrant.ListSnapshotsResponse:
        found = map(_message, self._snapshots.full_descriptions())
        return qdrant.ListSnapshotsResponse(snapshot_descriptions=found)

    def delete_full(
        self, request: qdrant.DeleteFullSnapshotRequest
    ) -> qdrant.DeleteSnapshotResponse:
        self._snapshots.delete_full(request.snapshot_name)
        return qdrant.DeleteSnapshotResponse()


def _created(description: SnapshotDescription) -> qdrant.CreateSnapshotResponse:
    return qdrant.CreateSnapshotResponse(snapshot_description=_message(description))


def _message(description: SnapshotDescription) -> qdrant.SnapshotDescription:
    created = Timestamp()
    created.FromDatetime(datetime.fromisoformat(description.creation_time).replace(tzinfo=UTC))
    return qdrant.SnapshotDescription(
        name=description.name,
        creation_time=created,
        size=description.size,
        checksum=description.checksum,
    )
