"""Writes become the operations they stand for; what is not possible is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from qdrant_client import grpc as qdrant

from headrace.model.collection_config import CollectionConfig, VectorParams
from headrace.model.errors import HeadraceError, InvalidBody, MalformedInput, WrongInput
from headrace.model.filters import Filter, HasId
from headrace.model.operations import (
    ClearPayload,
    DeletePayload,
    DeletePoints,
    DeleteVectors,
    OverwritePayload,
    PointSelector,
    SetPayload,
    UpdateMode,
    UpdateVectors,
    UpsertPoints,
)
from headrace.model.vectors import DenseBatch, Distance
from headrace.server.grpc import operations

CONFIG = CollectionConfig(vectors={"": VectorParams(size=2, distance=Distance.DOT)})
UUID_ID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
VECTORS = qdrant.Vectors(vector=qdrant.Vector(dense=qdrant.DenseVector(data=[1.0, 2.0])))
ONE_AND_UUID = qdrant.PointsSelector(
    points=qdrant.PointsIdsList(ids=[qdrant.PointId(num=1), qdrant.PointId(uuid=UUID_ID)])
)
SELECTED = PointSelector(ids=(1, UUID(UUID_ID)))
ALL = qdrant.PointsSelector(filter=qdrant.Filter())
PAYLOAD = {"a": qdrant.Value(integer_value=1)}
Batch = qdrant.PointsUpdateOperation


def point(**fields: Any) -> qdrant.PointStruct:
    return qdrant.PointStruct(**{"id": qdrant.PointId(num=1), "vectors": VECTORS} | fields)


def test_an_upsert_carries_points_mode_and_filter() -> None:
    message = qdrant.UpsertPoints(
        points=[point(payload=PAYLOAD), point(id=qdrant.PointId(uuid=UUID_ID.upper()))],
        update_mode=qdrant.UpdateMode.UpdateOnly,
        update_filter=qdrant.Filter(
            must=[qdrant.Condition(has_id=qdrant.HasIdCondition(has_id=[qdrant.PointId(num=3)]))]
        ),
    )
    operation = operations.read_upsert(message)(CONFIG)
    assert isinstance(operation, UpsertPoints)
    assert operation.ids == [1, UUID(UUID_ID)]
    assert operation.payloads == [b'{"a":1}', b"{}"]
    assert operation.mode is UpdateMode.UPDATE_ONLY
    assert operation.update_filter == Filter(must=(HasId((3,)),))
    batch = operation.vectors[""]
    assert isinstance(batch, DenseBatch)
    assert batch.values.tolist() == [[1.0, 2.0], [1.0, 2.0]]


def test_an_update_of_vectors_carries_points() -> None:
    message = qdrant.UpdatePointVectors(
        points=[qdrant.PointVectors(id=qdrant.PointId(num=4), vectors=VECTORS)]
    )
    operation = operations.read_update_vectors(message)(CONFIG)
    assert isinstance(operation, UpdateVectors)
    assert operation.ids == [4]


@pytest.mark.parametrize(
    ("read", "message", "expected"),
    [
        (
            operations.read_delete_points,
            qdrant.DeletePoints(points=ONE_AND_UUID),
            DeletePoints(SELECTED),
        ),
        (
            operations.read_delete_points,
            qdrant.DeletePoints(points=ALL),
            DeletePoints(PointSelector(filter=Filter())),
        ),
        (
            operations.read_clear_payload,
            qdrant.ClearPayloadPoints(points=ONE_AND_UUID),
            ClearPayload(SELECTED),
        ),
        (
            operations.read_delete_vectors,
            qdrant.DeletePointVectors(
                points_selector=ONE_AND_UUID, vectors=qdrant.VectorsSelector(names=["b", "", "b"])
            ),
            DeleteVectors(SELECTED, ("b", "")),
        ),
        (
            operations.read_set_payload,
            qdrant.SetPayloadPoints(points_selector=ONE_AND_UUID, payload=PAYLOAD, key='"a".b'),
            SetPayload(SELECTED, b'{"a":1}', "a.b"),
        ),
        (
            operations.read_set_payload,
            qdrant.SetPayloadPoints(points_selector=ONE_AND_UUID),
            SetPayload(SELECTED, b"{}"),
        ),
        (
            operations.read_overwrite_payload,
            qdrant.SetPayloadPoints(points_selector=ONE_AND_UUID, payload=PAYLOAD),
            OverwritePayload(SELECTED, b'{"a":1}'),
        ),
        (
            operations.read_overwrite_payload,
            qdrant.SetPayloadPoints(points_selector=ONE_AND_UUID, payload=PAYLOAD, key="b.c"),
            OverwritePayload(SELECTED, b'{"a":1}'),
        ),
        (
            operations.read_delete_payload,
            qdrant.DeletePayloadPoints(points_selector=ONE_AND_UUID, keys=["a", "b[].c"]),
            DeletePayload(SELECTED, ("a", "b[].c")),
        ),
    ],
)
def test_a_write_becomes_its_operation(
    read: Callable[[Any], operations.Build], message: Any, expected: object
) -> None:
    assert read(message)(CONFIG) == expected


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (Batch(delete_deprecated=ONE_AND_UUID), DeletePoints(SELECTED)),
        (Batch(delete_points=Batch.DeletePoints(points=ONE_AND_UUID)), DeletePoints(SELECTED)),
        (Batch(clear_payload_deprecated=ONE_AND_UUID), ClearPayload(SELECTED)),
        (Batch(clear_payload=Batch.ClearPayload(points=ONE_AND_UUID)), ClearPayload(SELECTED)),
        (
            Batch(set_payload=Batch.SetPayload(points_selector=ONE_AND_UUID, key="k")),
            SetPayload(SELECTED, b"{}", "k"),
        ),
        (
            Batch(overwrite_payload=Batch.OverwritePayload(points_selector=ONE_AND_UUID)),
            OverwritePayload(SELECTED, b"{}"),
        ),
        (
            Batch(delete_payload=Batch.DeletePayload(points_selector=ONE_AND_UUID, keys=["a"])),
            DeletePayload(SELECTED, ("a",)),
        ),
        (
            Batch(
                delete_vectors=Batch.DeleteVectors(
                    points_selector=ONE_AND_UUID, vectors=qdrant.VectorsSelector(names=["v"])
                )
            ),
            DeleteVectors(SELECTED, ("v",)),
        ),
    ],
)
def test_an_entry_of_a_batch_becomes_its_operation(
    entry: qdrant.PointsUpdateOperation, expected: object
) -> None:
    (build,) = operations.read_batch(qdrant.UpdateBatchPoints(operations=[entry]))
    assert build(CONFIG) == expected


def test_points_and_vectors_in_a_batch_are_built_for_the_collection() -> None:
    entries = [
        Batch(upsert=Batch.PointStructList(points=[point()])),
        Batch(
            update_vectors=Batch.UpdateVectors(
                points=[qdrant.PointVectors(id=qdrant.PointId(num=4), vectors=VECTORS)]
            )
        ),
    ]
    builds = operations.read_batch(qdrant.UpdateBatchPoints(operations=entries))
    upsert, update = [build(CONFIG) for build in builds]
    assert isinstance(upsert, UpsertPoints)
    assert isinstance(update, UpdateVectors)


SHARD = qdrant.ShardKeySelector(shard_keys=[qdrant.ShardKey(keyword="k")])


@pytest.mark.parametrize(
    ("read", "message", "kind", "text"),
    [
        (
            operations.read_upsert,
            qdrant.UpsertPoints(points=[qdrant.PointStruct(vectors=VECTORS)]),
            MalformedInput,
            "Empty ID is not allowed",
        ),
        (
            operations.read_upsert,
            qdrant.UpsertPoints(points=[qdrant.PointStruct(id=qdrant.PointId(num=1))]),
            MalformedInput,
            "Expected some vectors",
        ),
        (
            operations.read_upsert,
            qdrant.UpsertPoints(points=[point(id=qdrant.PointId(uuid="x"))]),
            MalformedInput,
            "Unable to parse UUID: x",
        ),
        (
            operations.read_upsert,
            qdrant.UpsertPoints(update_mode=77),  # type: ignore[arg-type]
            MalformedInput,
            "Unknown update mode: 77",
        ),
        (
            operations.read_upsert,
            qdrant.UpsertPoints(shard_key_selector=SHARD),
            WrongInput,
            "Shard key k not found",
        ),
        (
            operations.read_set_payload,
            qdrant.SetPayloadPoints(points_selector=ONE_AND_UUID, shard_key_selector=SHARD),
            WrongInput,
            "Shard key k not found",
        ),
        (
            operations.read_set_payload,
            qdrant.SetPayloadPoints(payload=PAYLOAD),
            MalformedInput,
            "PointSelector is missing",
        ),
        (
            operations.read_set_payload,
            qdrant.SetPayloadPoints(points_selector=ONE_AND_UUID, key=""),
            MalformedInput,
            "Invalid json path: ''",
        ),
        (
            operations.read_overwrite_payload,
            qdrant.SetPayloadPoints(points_selector=ONE_AND_UUID, key="a..b"),
            MalformedInput,
            "Invalid json path: 'a..b'",
        ),
        (
            operations.read_delete_points,
            qdrant.DeletePoints(points=qdrant.PointsSelector()),
            MalformedInput,
            "PointSelector is missing",
        ),
        (
            operations.read_delete_vectors,
            qdrant.DeletePointVectors(points_selector=ONE_AND_UUID),
            InvalidBody,
            "must specify vector names to delete",
        ),
        (
            operations.read_update_vectors,
            qdrant.UpdatePointVectors(
                points=[
                    qdrant.PointVectors(
                        id=qdrant.PointId(num=1),
                        vectors=qdrant.Vectors(vectors=qdrant.NamedVectors()),
                    )
                ]
            ),
            InvalidBody,
            "must specify vectors to update for point",
        ),
        (
            operations.read_update_vectors,
            qdrant.UpdatePointVectors(points=[qdrant.PointVectors(vectors=VECTORS)]),
            MalformedInput,
            "id is expected",
        ),
        (
            operations.read_update_vectors,
            qdrant.UpdatePointVectors(points=[qdrant.PointVectors(id=qdrant.PointId(num=1))]),
            MalformedInput,
            "vectors is expected",
        ),
        (operations.read_batch, qdrant.UpdateBatchPoints(), InvalidBody, "operations: value []"),
        (
            operations.read_batch,
            qdrant.UpdateBatchPoints(operations=[qdrant.PointsUpdateOperation()]),
            MalformedInput,
            "Operation is missing",
        ),
    ],
)
def test_a_write_that_is_not_possible_is_refused(
    read: Callable[[Any], object], message: Any, kind: type[HeadraceError], text: str
) -> None:
    with pytest.raises(kind) as raised:
        read(message)
    assert text in raised.value.message
