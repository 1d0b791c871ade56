"""Snapshots over gRPC."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from qdrant_client import grpc as qdrant

from headrace.model.points import PointStruct
from headrace.model.upserts import build_upsert
from tests.server.grpc.grpc_server import Grpc, refused


@pytest.fixture
def snapshots(front: Grpc) -> Any:
    return front._stub("SnapshotsStub")


def test_a_snapshot_is_made_listed_and_deleted(
    front: Grpc, snapshots: Any, collection: str
) -> None:
    config = front.service.collection_config(collection)
    front.service.write(collection, [build_upsert([PointStruct(1, {}, b"{}")], config)])
    made = snapshots.Create(qdrant.CreateSnapshotRequest(collection_name=collection))
    description = made.snapshot_description
    stored = front.service.snapshots.descriptions(collection)[0]
    assert (description.name, description.size) == (stored.name, stored.size)
    assert description.checksum == stored.checksum
    assert description.creation_time.ToJsonString() == f"{stored.creation_time}Z"
    listed = snapshots.List(qdrant.ListSnapshotsRequest(collection_name=collection))
    assert list(listed.snapshot_descriptions) == [description]
    request = qdrant.DeleteSnapshotRequest(
        collection_name=collection, snapshot_name=description.name
    )
    snapshots.Delete(request)
    assert front.service.snapshots.descriptions(collection) == []
    with refused(grpc.StatusCode.NOT_FOUND, f"Snapshot {description.name} not found"):
        snapshots.Delete(request)


def test_a_full_snapshot_is_made_listed_and_deleted(
    front: Grpc, snapshots: Any, collection: str
) -> None:
    made = snapshots.CreateFull(qdrant.CreateFullSnapshotRequest())
    listed = snapshots.ListFull(qdrant.ListFullSnapshotsRequest())
    assert made.snapshot_description in listed.snapshot_descriptions
    name = made.snapshot_description.name
    snapshots.DeleteFull(qdrant.DeleteFullSnapshotRequest(snapshot_name=name))
    listed = snapshots.ListFull(qdrant.ListFullSnapshotsRequest())
    assert made.snapshot_description not in listed.snapshot_descriptions


def test_a_missing_collection_has_no_snapshots(snapshots: Any) -> None:
    with refused(grpc.StatusCode.NOT_FOUND, "Collection `missing` doesn't exist!"):
        snapshots.List(qdrant.ListSnapshotsRequest(collection_name="missing"))
    with refused(grpc.StatusCode.NOT_FOUND, "Collection `missing` doesn't exist!"):
        snapshots.Create(qdrant.CreateSnapshotRequest(collection_name="missing"))


@pytest.mark.parametrize("name", ["../lock", "..", "\0", "CON", "x" * 256])
def test_a_snapshot_name_never_leads_elsewhere(snapshots: Any, name: str) -> None:
    with refused(grpc.StatusCode.NOT_FOUND, "not found"):
        snapshots.DeleteFull(qdrant.DeleteFullSnapshotRequest(snapshot_name=name))
