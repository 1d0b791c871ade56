from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from headrace.model.collection_config import CollectionConfig, SparseVectorParams, VectorParams
from headrace.model.errors import (
    ErrorCode,
    HeadraceError,
    NotFound,
    UnknownVectorName,
    WrongVectorDimension,
)
from headrace.model.operations import (
    ClearPayload,
    DeletePayload,
    OverwritePayload,
    SetPayload,
    SourceOffset,
    SourcePartition,
)
from headrace.model.points import PointStruct
from headrace.model.queries import ALL_VECTORS, WHOLE_PAYLOAD
from headrace.model.vectors import Distance, SparseVector, Vector
from headrace.server.options import ServeOptions
from headrace.server.run import Serving, serve_in_thread
from headrace.service.service import Service
from headrace.sink.auto_create import infer_collection_config
from headrace.sink.changes import (
    Delete,
    PayloadPatch,
    Upsert,
    VectorPatch,
    WritableChange,
    selector_of,
)
from headrace.sink.config import AutoCreate, ConnectorConfig
from headrace.sink.errors import ConfigError, FailureClass, failure_class
from headrace.sink.target import EmbeddedTarget, QdrantTarget, Target

PARTITION = SourcePartition("connect-test", "topic", 0)
UUID_ID = UUID("a10435b5-2a58-427a-a3a0-a5d845b147b7")


def point(point_id: int | UUID, *vector: float, payload: bytes = b"{}") -> PointStruct:
    return PointStruct(point_id, {"": np.asarray(vector, dtype=np.float32)}, payload)


def plain_config(dim: int = 2) -> CollectionConfig:
    return CollectionConfig(vectors={"": VectorParams(size=dim, distance=Distance.DOT)})


def remote(url_key: str, url: str, **changed: str) -> QdrantTarget:
    settings = {"name": "test", "topics": "t", "bootstrap.servers": "b", url_key: url}
    return QdrantTarget(ConnectorConfig.from_mapping(settings | changed))


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service.open(tmp_path / "data")
    yield service
    service.close()


class TestEmbedded:
    def test_a_write_and_its_offsets_are_one(self, service: Service) -> None:
        target = EmbeddedTarget(service)
        target.create_collection("c", plain_config())
        target.create_collection("c", plain_config())
        target.write("c", [point(1, 1, 2), point(2, 3, 4)], [], [SourceOffset(PARTITION, 7)])
        target.write("c", [point(3, 5, 6)], [1], [SourceOffset(PARTITION, 9)])
        assert target.taken("c") == {PARTITION: 9}
        assert service.count("c") == 2
        with pytest.raises(WrongVectorDimension):
            target.write("c", [point(4, 1)], [2], [SourceOffset(PARTITION, 10)])
        assert target.taken("c") == {PARTITION: 9}
        assert service.count("c") == 2

    def test_positions_are_kept_by_source(self, service: Service) -> None:
        target = EmbeddedTarget(service)
        other = SourcePartition("connect-other", "topic", 0)
        target.save_positions([SourceOffset(PARTITION, 5), SourceOffset(other, 6)])
        assert target.positions("connect-test") == {PARTITION: 5}

    def test_refusals_name_each_point_that_does_not_fit(self, service: Service) -> None:
        target = EmbeddedTarget(service)
        target.create_collection("c", plain_config())
        named = PointStruct(3, {"nope": np.ones(2, dtype=np.float32)})
        found = target.refusals("c", [point(1, 1, 2), point(2, 1), named, point(4, 1, 2)])
        assert [type(one) for one in found] == [
            type(None),
            WrongVectorDimension,
            UnknownVectorName,
            type(None),
        ]

    def test_a_missing_collection_is_not_found(self, service: Service) -> None:
        target = EmbeddedTarget(service)
        for call in (
            lambda: target.taken("x"),
            lambda: target.refusals("x", [point(1, 1)]),
            lambda: target.write("x", [point(1, 1)], [], []),
        ):
            with pytest.raises(NotFound):
                call()

    def test_a_held_partition_is_held_against_other_tasks(self, service: Service) -> None:
        target = EmbeddedTarget(service)
        held_by_other = threading.Event()

        def hold() -> None:
            with target.hold([SourcePartition("connect-test", "topic", 1), PARTITION]):
                held_by_other.set()

        with target.hold([PARTITION]):
            thread = threading.Thread(target=hold)
            thread.start()
            with target.hold([SourcePartition("connect-test", "topic", 2)]):
                assert not held_by_other.is_set()
        thread.join(10)
        assert held_by_other.is_set()


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    data = tmp_path_factory.mktemp("store") / "data"
    with serve_in_thread(ServeOptions(data, http_port=0, grpc_port=0)) as serving:
        yield serving


@pytest.fixture(params=["gRPC", "REST"])
def target(request: pytest.FixtureRequest, serving: Serving) -> Iterator[Target]:
    if request.param == "gRPC":
        target = remote("qdrant.grpc.url", f"http://{serving.grpc_address}")
    else:
        target = remote("qdrant.rest.url", serving.rest_url)
    serving.service.delete_collection("c")
    yield target
    target.close()


class TestRemote:
    def test_points_arrive_as_they_are(self, target: Target, serving: Serving) -> None:
        vectors: dict[str, Vector] = {
            "dense": np.asarray([0.1, -0.0], dtype=np.float32),
            "multi": np.asarray([[1, 2, 3], [4, 5, 6]], dtype=np.float32),
            "sparse": SparseVector(
                np.asarray([0, 2**32 - 1], dtype=np.uint32), np.asarray([0.5, 1.5], np.float32)
            ),
        }
        payload = {
            "i": 2**63 - 1,
            "f": 5.0,
            "n": None,
            "s": "é",
            "l": [[1], {"a": -0.0}],
            "b": True,
        }
        full = PointStruct(UUID_ID, vectors, json.dumps(payload).encode())
        auto_create = AutoCreate(Distance.EUCLID, on_disk=False)
        target.create_collection("c", infer_collection_config([full], auto_create))
        target.create_collection("c", infer_collection_config([full], auto_create))
        bare = PointStruct(2**64 - 1, {})
        target.write("c", [full, bare], [], [])
        stored, empty = serving.service.retrieve(
            "c", [UUID_ID, 2**64 - 1], WHOLE_PAYLOAD, ALL_VECTORS
        )
        assert stored.payload is not None
        assert json.loads(stored.payload) == payload
        assert repr(json.loads(stored.payload)["f"]) == "5.0"
        assert stored.vectors is not None
        for name in ("dense", "multi"):
            assert np.array_equal(stored.vectors[name], vectors[name])  # type: ignore[arg-type]
        sparse = stored.vectors["sparse"]
        assert isinstance(sparse, SparseVector)
        assert sparse.indices.tolist() == [0, 2**32 - 1]
        assert (empty.payload, empty.vectors) == (b"{}", {})
        config = serving.service.collection_config("c")
        assert config.vectors["multi"].is_multi
        assert config.vectors["dense"].distance is Distance.EUCLID

    def test_the_default_vector_and_deletes(self, target: Target, serving: Serving) -> None:
        target.create_collection("c", plain_config())
        target.write("c", [point(1, 1, 2), point(2, 3, 4), point(UUID_ID, 5, 6)], [], [])
        target.write("c", [], [1, UUID_ID, 99], [])
        assert serving.service.count("c") == 1

    def test_a_refused_request_is_a_record_error(self, target: Target) -> None:
        target.create_collection("c", plain_config())
        with pytest.raises(HeadraceError) as caught:
            target.write("c", [point(1, 1, 2, 3)], [], [])
        assert failure_class(caught.value) is FailureClass.RECORD
        assert "expected dim: 2, got 3" in caught.value.message

    def test_refusals_are_found_by_the_servers_configuration(self, target: Target) -> None:
        config = CollectionConfig(
            vectors={"d": VectorParams(size=2, distance=Distance.DOT)},
            sparse_vectors={"s": SparseVectorParams()},
        )
        target.create_collection("c", config)
        good = PointStruct(1, {"d": np.ones(2, dtype=np.float32)})
        wide = PointStruct(2, {"d": np.ones(3, dtype=np.float32)})
        wrong_kind = PointStruct(3, {"s": np.ones(3, dtype=np.float32)})
        found = target.refusals("c", [good, wide, wrong_kind])
        assert [one is None for one in found] == [True, False, False]

    def test_a_missing_collection_is_not_found(self, target: Target) -> None:
        for call in (
            lambda: target.write("c", [point(1, 1)], [], []),
            lambda: target.write("c", [], [1], []),
            lambda: target.refusals("c", [point(1, 1)]),
        ):
            with pytest.raises(NotFound, match="Not found: Collection `c` doesn't exist!"):
                call()

    def test_it_keeps_no_positions(self, target: Target) -> None:
        assert not target.keeps_positions
        assert target.positions("connect-test") == {}
        assert target.taken("anything") == {}


class TestRemoteLimits:
    def test_what_grpc_would_change_is_refused_with_advice(self, serving: Serving) -> None:
        target = remote("qdrant.grpc.url", f"http://{serving.grpc_address}")
        serving.service.delete_collection("c")
        target.create_collection("c", plain_config())
        too_large = point(1, 1, 2, payload=b'{"a":[{"n":%d}]}' % (2**63))
        too_deep = point(2, 1, 2, payload=b'{"a":' + b"[" * 60 + b"]" * 60 + b"}")
        deep = point(3, 1, 2, payload=b'{"a":' + b"[" * 40 + b"]" * 40 + b"}")
        found = target.refusals("c", [too_large, too_deep, deep])
        assert found[2] is None
        for one in found[:2]:
            assert one is not None
            assert "qdrant.rest.url" in one.message
        with pytest.raises(HeadraceError) as caught:
            target.write("c", [deep, too_large], [], [])
        assert failure_class(caught.value) is FailureClass.RECORD
        target.write("c", [deep], [], [])
        target.close()

    def test_rest_takes_any_payload(self, serving: Serving) -> None:
        target = remote("qdrant.rest.url", serving.rest_url)
        serving.service.delete_collection("c")
        target.create_collection("c", plain_config())
        payload = b'{"n":%d,"f":1e300,"d":' % (2**64 - 1) + b"[" * 100 + b"]" * 100 + b"}"
        target.write("c", [point(1, 1, 2, payload=payload)], [], [])
        (stored,) = serving.service.retrieve("c", [1], WHOLE_PAYLOAD, ALL_VECTORS)
        assert json.loads(stored.payload or b"") == json.loads(payload)
        target.close()

    @pytest.mark.parametrize("key", ["qdrant.grpc.url", "qdrant.rest.url"])
    def test_a_server_that_is_not_there_is_a_target_error(self, key: str) -> None:
        changed = {"qdrant.request.timeout.ms": "2000"}
        target = remote(key, "http://127.0.0.1:9", **changed)
        for call in (
            lambda: target.write("c", [point(1, 1)], [], []),
            lambda: target.refusals("c", [point(1, 1)]),
        ):
            with pytest.raises(HeadraceError) as caught:
                call()
            assert failure_class(caught.value) is FailureClass.TARGET
        target.close()

    def test_no_url_is_refused(self) -> None:
        settings = {"name": "test", "topics": "t", "bootstrap.servers": "b"}
        with pytest.raises(ConfigError, match=r"qdrant\.rest\.url"):
            QdrantTarget(ConnectorConfig.from_mapping(settings))


def test_the_official_client_reads_what_was_written(serving: Serving) -> None:
    target = remote("qdrant.grpc.url", f"http://{serving.grpc_address}")
    serving.service.delete_collection("c")
    target.create_collection("c", plain_config())
    target.write("c", [point(1, 1, 2, payload=b'{"a":1}')], [], [])
    client = QdrantClient(url=serving.rest_url, check_compatibility=False)
    found = client.query_points("c", query=[1.0, 1.0]).points
    assert [(one.id, one.payload, one.score) for one in found] == [(1, {"a": 1}, 3.0)]
    assert client.get_collection("c").config.params.vectors == models.VectorParams(
        size=2, distance=models.Distance.DOT
    )
    client.close()
    target.close()


def test_every_code_has_its_class() -> None:
    target_codes = {
        ErrorCode.RATE_LIMITED,
        ErrorCode.NO_SPACE,
        ErrorCode.TIMEOUT,
        ErrorCode.UNAVAILABLE,
    }
    for code in ErrorCode:
        error = type("Some", (HeadraceError,), {"code": code})("text")
        expected = FailureClass.TARGET if code in target_codes else FailureClass.SETUP
        if code in (ErrorCode.BAD_INPUT, ErrorCode.INVALID_BODY):
            expected = FailureClass.RECORD
        assert failure_class(error) is expected


def changes(vector: float) -> list[WritableChange]:
    values: dict[str, Vector] = {"": np.asarray([vector, 0], dtype=np.float32)}
    return [
        Upsert("c", point(1, 1, 2, payload=b'{"a":1,"b":{"c":1}}')),
        Upsert("c", point(UUID_ID, 1, 2, payload=b'{"a":1}')),
        PayloadPatch("c", 1, SetPayload(selector_of(1), b'{"d":5.0}', "b")),
        PayloadPatch("c", UUID_ID, SetPayload(selector_of(UUID_ID), b'{"x":1}')),
        VectorPatch("c", 1, values),
        PayloadPatch("c", 1, DeletePayload(selector_of(1), ("b.c",))),
        PayloadPatch("c", UUID_ID, ClearPayload(selector_of(UUID_ID))),
        PayloadPatch("c", 2, OverwritePayload(selector_of(2), b'{"o":1}')),
        Delete("c", 3),
    ]


def check_changes(target: Target, service: Service, collection_name: str) -> None:
    target.write(collection_name, [point(2, 1, 2, payload=b'{"old":1}'), point(3, 1, 2)], [], [])
    target.apply(collection_name, changes(9.0), [SourceOffset(PARTITION, 5)])
    found = service.retrieve(collection_name, [1, UUID_ID, 2, 3], WHOLE_PAYLOAD, ALL_VECTORS)
    payloads = {one.id: json.loads(one.payload or b"") for one in found}
    assert payloads == {1: {"a": 1, "b": {"d": 5.0}}, UUID_ID: {}, 2: {"o": 1}}
    vectors = found[0].vectors
    assert vectors is not None
    assert np.asarray(vectors[""]).tolist() == [9.0, 0.0]
    assert target.stored_values(collection_name, [1, 3, UUID_ID], "a") == {1: 1, UUID_ID: None}
    assert target.stored_values(collection_name, [3, 2], None) == {2: None}
    assert target.stored_values(collection_name, [], None) == {}


def test_changes_are_made_in_their_order_in_the_engine(service: Service) -> None:
    target = EmbeddedTarget(service)
    target.create_collection("c", plain_config())
    check_changes(target, service, "c")
    assert target.taken("c") == {PARTITION: 5}


def test_changes_are_made_in_their_order_in_a_server(target: Target, serving: Serving) -> None:
    target.create_collection("c", plain_config())
    check_changes(target, serving.service, "c")
