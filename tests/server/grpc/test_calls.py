"""What every call has in common: status codes, timeouts, sizes, what is not there."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from logging.handlers import QueueHandler
from queue import SimpleQueue
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from qdrant_client import grpc as qdrant

from headrace.model.errors import (
    CorruptFile,
    HeadraceError,
    NoSpace,
    RateLimited,
    Unavailable,
)
from headrace.server.grpc.server import MESSAGE_BYTES_MAX, THREADS_MAX
from headrace.server.rest.endpoint import WAITING_MAX
from tests.server.grpc.grpc_server import Grpc, refused, serving

INVALID = grpc.StatusCode.INVALID_ARGUMENT


class FakeService:
    """A store that lists its collections as a test tells it to."""

    def __init__(self, collection_names: Callable[[], list[str]]) -> None:
        self.collection_names = collection_names
        self.write: Callable[..., int] = lambda name, operations: 1
        self.snapshots = None

    def collection_config(self, name: str) -> None:
        return None

    def collection_exists(self, name: str) -> bool:
        return True

    def check_timeout(self, name: str, timeout_s: int | None) -> None:
        return None


@pytest.fixture
def fake() -> Iterator[tuple[FakeService, Grpc]]:
    service: Any = FakeService(list)
    with serving(service) as front:
        yield service, front


def test_a_missing_collection_is_not_found(front: Grpc) -> None:
    with refused(grpc.StatusCode.NOT_FOUND, "Not found: Collection `none` doesn't exist!"):
        front.collections.Get(qdrant.GetCollectionInfoRequest(collection_name="none"))
    with refused(grpc.StatusCode.NOT_FOUND, "Collection `none` doesn't exist!"):
        front.points.Upsert(qdrant.UpsertPoints(collection_name="none"))
    with refused(grpc.StatusCode.NOT_FOUND, "Collection `none` doesn't exist!"):
        front.points.QueryBatch(qdrant.QueryBatchPoints(collection_name="none"))


def test_an_existing_collection_already_exists(front: Grpc, collection: str) -> None:
    with refused(grpc.StatusCode.ALREADY_EXISTS, f"Collection `{collection}` already exists!"):
        front.collections.Create(qdrant.CreateCollection(collection_name=collection))


def test_a_wrong_dimension_is_an_invalid_argument(front: Grpc, collection: str) -> None:
    query = qdrant.Query(nearest=qdrant.VectorInput(dense=qdrant.DenseVector(data=[1.0])))
    with refused(INVALID, "Vector dimension error: expected dim: 4, got 1"):
        front.points.Query(qdrant.QueryPoints(collection_name=collection, query=query))


@pytest.mark.parametrize("name", ["", "a" * 256, "a/b", "a\0b", "..", "a:b", "con|"])
def test_a_collection_is_not_made_under_a_forbidden_name(front: Grpc, name: str) -> None:
    before = front.service.collection_names()
    with refused(INVALID, "Validation error in body: [collection_name: "):
        front.collections.Create(qdrant.CreateCollection(collection_name=name))
    assert front.service.collection_names() == before


def test_bytes_that_are_no_message_are_an_invalid_argument(front: Grpc) -> None:
    call = front.channel.unary_unary(
        "/qdrant.Points/Upsert", request_serializer=bytes, response_deserializer=bytes
    )
    deep = b""
    for tag in (0x22, 0x12) * 500 + (0x32,):  # a condition's filter, its must, update_filter
        deep = bytes([tag]) + encoded_varint(len(deep)) + deep
    for junk in (deep, b"\xff", b"\x0a\x05ab", b"junk" * 100, b"\x1a\xff\xff\xff\xff\x0f"):
        with refused(INVALID, "Format error in protobuf body"):
            call(junk)


def encoded_varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + encoded_varint(rest) if rest else bytes([low])


def test_an_unexpected_failure_is_logged_and_tells_nothing(
    fake: tuple[FakeService, Grpc], caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> list[str]:
        raise RuntimeError("secret")

    service, front = fake
    service.collection_names = fail
    with refused(grpc.StatusCode.INTERNAL, "see the server's log"):
        front.collections.List(qdrant.ListCollectionsRequest())
    (record,) = [one for one in caplog.records if one.name.startswith("headrace")]
    assert record.levelno == logging.ERROR
    assert record.getMessage() == "qdrant.Collections.List failed"
    assert "secret" in str(record.exc_info)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NoSpace("disk full"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (Unavailable("closing"), grpc.StatusCode.UNAVAILABLE),
        (CorruptFile("f", 3, "a", "b"), grpc.StatusCode.INTERNAL),
    ],
)
def test_an_error_has_the_code_of_the_one_table(
    fake: tuple[FakeService, Grpc], error: HeadraceError, code: grpc.StatusCode
) -> None:
    def fail() -> list[str]:
        raise error

    service, front = fake
    service.collection_names = fail
    with refused(code, error.message):
        front.collections.List(qdrant.ListCollectionsRequest())


def test_a_rate_limit_says_when_to_come_back(fake: tuple[FakeService, Grpc]) -> None:
    def fail() -> list[str]:
        raise RateLimited("too many", retry_after_s=7)

    service, front = fake
    service.collection_names = fail
    with pytest.raises(grpc.RpcError) as raised:
        front.collections.List(qdrant.ListCollectionsRequest())
    error: Any = raised.value
    assert dict(error.trailing_metadata())["retry-after"] == "7"


def first_done(calls: list[Any]) -> Any:
    done: SimpleQueue[Any] = SimpleQueue()
    for call in calls:
        call.add_done_callback(done.put)
    return done.get(timeout=20)


def test_too_many_waiting_calls_are_told_to_come_again(
    fake: tuple[FakeService, Grpc],
) -> None:
    released = threading.Event()

    def wait() -> list[str]:
        released.wait(20)
        return []

    service, front = fake
    service.collection_names = wait
    lists = [
        front.collections.List.future(qdrant.ListCollectionsRequest())
        for _ in range(THREADS_MAX + WAITING_MAX + 1)
    ]
    refusal: Any = first_done(lists)
    assert refusal.code() == grpc.StatusCode.UNAVAILABLE
    assert dict(refusal.trailing_metadata())["retry-after"] == "1"
    released.set()
    assert sum(one.code() is grpc.StatusCode.OK for one in lists) == len(lists) - 1


def test_a_read_that_outlasts_its_timeout_is_a_deadline_exceeded(
    front: Grpc, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()

    def wait(*arguments: object) -> int:
        released.wait(20)
        return 0

    monkeypatch.setattr(front.service, "count", wait)
    with refused(grpc.StatusCode.DEADLINE_EXCEEDED, "Timeout: "):
        front.points.Count(qdrant.CountPoints(collection_name=collection, timeout=1))
    released.set()


def test_a_write_that_outlasts_its_timeout_goes_on(fake: tuple[FakeService, Grpc]) -> None:
    service, front = fake
    released, written = threading.Event(), threading.Event()

    def write(name: str, operations: object) -> int:
        released.wait(20)
        written.set()
        return 1

    service.write = write
    delete = qdrant.DeletePoints(
        collection_name="c", points=qdrant.PointsSelector(filter=qdrant.Filter()), timeout=1
    )
    response = front.points.Delete(delete)
    assert response.result.status == qdrant.UpdateStatus.WaitTimeout
    assert not response.result.HasField("operation_id")
    assert not written.is_set()
    released.set()
    assert written.wait(20)


def test_a_failure_is_logged_when_its_caller_has_gone(fake: tuple[FakeService, Grpc]) -> None:
    service, front = fake
    gone = threading.Event()
    logged: SimpleQueue[logging.LogRecord] = SimpleQueue()

    def fail(name: str, operations: object) -> int:
        gone.wait(20)
        raise RuntimeError("too late")

    service.write = fail
    delete = qdrant.DeletePoints(
        collection_name="c", points=qdrant.PointsSelector(filter=qdrant.Filter()), timeout=1
    )
    handler = QueueHandler(logged)
    logging.getLogger("headrace.server.grpc").addHandler(handler)
    try:
        front.points.Delete(delete)
        gone.set()
        record = logged.get(timeout=20)
    finally:
        logging.getLogger("headrace.server.grpc").removeHandler(handler)
    assert "a call failed after its caller had gone" in record.getMessage()


def test_a_timeout_of_zero_is_refused(front: Grpc, collection: str) -> None:
    with refused(INVALID, "[timeout: value 0 invalid, must be 1 or larger]"):
        front.points.Count(qdrant.CountPoints(collection_name=collection, timeout=0))


def test_the_largest_timeout_is_none(front: Grpc, collection: str) -> None:
    request = qdrant.CountPoints(collection_name=collection, timeout=2**64 - 1)
    assert front.points.Count(request).result.count == 0


def test_answers_say_how_long_they_took(front: Grpc, collection: str) -> None:
    assert front.points.Count(qdrant.CountPoints(collection_name=collection)).time > 0
    assert front.collections.List(qdrant.ListCollectionsRequest()).time > 0


def test_a_long_text_is_cut_to_what_headers_hold(front: Grpc, collection: str) -> None:
    path = "é" * 100_000 + " "
    condition = qdrant.Condition(is_empty=qdrant.IsEmptyCondition(key=path))
    request = qdrant.CountPoints(collection_name=collection, filter=qdrant.Filter(must=[condition]))
    with refused(INVALID, "Invalid json path: 'ééé"):
        front.points.Count(request)


def test_a_message_over_the_bound_is_refused(front: Grpc, collection: str) -> None:
    request = qdrant.CountPoints(collection_name="a" * (MESSAGE_BYTES_MAX + 1))
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than max"):
        front.points.Count(request)


def test_a_small_message_that_unpacks_over_the_bound_is_refused(front: Grpc) -> None:
    request = qdrant.CountPoints(collection_name="a" * (2 * MESSAGE_BYTES_MAX))
    with pytest.raises(grpc.RpcError) as raised:
        front.points.Count(request, compression=grpc.Compression.Gzip)
    error: Any = raised.value
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_compressed_requests_are_taken(front: Grpc, collection: str) -> None:
    count = front.points.Count(
        qdrant.CountPoints(collection_name=collection), compression=grpc.Compression.Gzip
    )
    assert count.result.count == 0


def test_large_batches_of_many_points_are_taken(front: Grpc, collection: str) -> None:
    points = [
        qdrant.PointStruct(
            id=qdrant.PointId(num=number),
            vectors=qdrant.Vectors(vector=qdrant.Vector(dense=qdrant.DenseVector(data=[0.5] * 4))),
            payload={"number": qdrant.Value(integer_value=number)},
        )
        for number in range(3_000)
    ]
    front.points.Upsert(qdrant.UpsertPoints(collection_name=collection, points=points, wait=True))
    scroll = qdrant.ScrollPoints(
        collection_name=collection,
        limit=5_000,
        with_vectors=qdrant.WithVectorsSelector(enable=True),
    )
    found = front.points.Scroll(scroll).result
    assert [point.payload["number"].integer_value for point in found] == [*range(3_000)]
    assert {tuple(point.vectors.vector.dense.data) for point in found} == {(0.5,) * 4}


def test_the_server_is_recognised_as_qdrant(front: Grpc) -> None:
    reply = front.qdrant.HealthCheck(qdrant.HealthCheckRequest())
    assert reply.title == "qdrant - vector search engine"
    assert reply.version.count(".") == 2


def test_health_probes_find_it_serving(front: Grpc) -> None:
    response = health_pb2_grpc.HealthStub(front.channel).Check(health_pb2.HealthCheckRequest())
    assert response.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_tells_the_services_and_their_messages(front: Grpc) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(front.channel)
    listed, described = stub.ServerReflectionInfo(
        iter(
            [
                reflection_pb2.ServerReflectionRequest(list_services=""),
                reflection_pb2.ServerReflectionRequest(file_containing_symbol="qdrant.Points"),
            ]
        )
    )
    names = {service.name for service in listed.list_services_response.service}
    assert {"qdrant.Points", "qdrant.Collections", "qdrant.Qdrant", "grpc.health.v1.Health"} < names
    assert described.file_descriptor_response.file_descriptor_proto


def test_a_client_without_stubs_learns_all_that_it_calls(front: Grpc, collection: str) -> None:
    """As grpcurl does: services, methods and messages come from reflection alone."""
    pool = DescriptorPool(ProtoReflectionDescriptorDatabase(front.channel))

    def call(name: str, request: dict[str, Any]) -> dict[str, Any]:
        service, _, method = name.rpartition("/")
        described = pool.FindServiceByName(service).FindMethodByName(method)
        sent = ParseDict(request, GetMessageClass(described.input_type)())
        unary: Any = front.channel.unary_unary(
            f"/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(described.output_type).FromString,
        )
        return MessageToDict(unary(sent), preserving_proto_field_name=True)

    of_collection = {"collection_name": collection}
    vector = {"vector": {"dense": {"data": [1.0, 2.0, 3.0, 4.0]}}}
    point = {"id": {"num": 7}, "vectors": vector, "payload": {"city": {"string_value": "Bonn"}}}
    written = call("qdrant.Points/Upsert", {**of_collection, "points": [point], "wait": True})
    assert written["result"]["status"] == "Completed"
    query = {"nearest": {"dense": {"data": [1.0, 0.0, 0.0, 0.0]}}}
    asked = {**of_collection, "query": query, "with_payload": {"enable": True}}
    [found] = call("qdrant.Points/Query", asked)["result"]
    assert found["id"] == {"num": "7"}
    assert found["score"] == 1.0
    assert found["payload"] == {"city": {"string_value": "Bonn"}}
    assert call("qdrant.Collections/CollectionExists", of_collection)["result"] == {"exists": True}


def test_an_entry_of_a_batch_is_about_the_collection_of_the_batch(
    front: Grpc, collection: str
) -> None:
    def batch(**fields: Any) -> qdrant.QueryBatchPoints:
        return qdrant.QueryBatchPoints(
            collection_name=collection, query_points=[qdrant.QueryPoints(**fields)]
        )

    assert len(front.points.QueryBatch(batch()).result) == 1
    assert len(front.points.QueryBatch(batch(collection_name=collection)).result) == 1
    with refused(INVALID, "an entry of it about `other`"):
        front.points.QueryBatch(batch(collection_name="other"))
    with refused(INVALID, "`timeout` in an entry of a batch is not supported"):
        front.points.QueryBatch(batch(timeout=3))


def test_the_older_searches_are_answered(front: Grpc, collection: str) -> None:
    vectors = qdrant.Vectors(vector=qdrant.Vector(data=[1.0, 0.0, 0.0, 0.0]))
    point = qdrant.PointStruct(id=qdrant.PointId(num=3), vectors=vectors)
    front.points.Upsert(qdrant.UpsertPoints(collection_name=collection, points=[point]))
    search = qdrant.SearchPoints(collection_name=collection, vector=[2.0, 0, 0, 0], limit=1)
    (found,) = front.points.Search(search).result
    assert (found.id.num, found.score) == (3, 2.0)
    batch = qdrant.SearchBatchPoints(collection_name=collection, search_points=[search, search])
    answers = front.points.SearchBatch(batch).result
    assert [[one.id.num for one in answer.result] for answer in answers] == [[3], [3]]
    by_kind = qdrant.SearchPointGroups(
        collection_name=collection, vector=[2.0, 0, 0, 0], group_by="k", limit=1, group_size=1
    )
    assert not front.points.SearchGroups(by_kind).result.groups


@pytest.mark.parametrize(
    ("method", "request_", "text"),
    [
        ("QueryGroups", qdrant.QueryPointGroups(), "group_by: value"),
        ("QueryGroups", qdrant.QueryPointGroups(group_by="a", limit=0), "limit: value 0 invalid"),
        (
            "QueryGroups",
            qdrant.QueryPointGroups(group_by="a", group_size=2**40),
            "`group_size` is 1099511627776, the maximum is",
        ),
        (
            "SearchGroups",
            qdrant.SearchPointGroups(group_by="a", limit=1, vector=[1, 2, 3, 4]),
            "group_size: value 0 invalid",
        ),
        ("Facet", qdrant.FacetCounts(key=""), "Invalid json path: ''"),
        ("Facet", qdrant.FacetCounts(key="a", limit=0), "limit: value 0 invalid"),
        ("Facet", qdrant.FacetCounts(key="a"), "No appropriate index for faceting: `a`"),
        ("SearchMatrixPairs", qdrant.SearchMatrixPoints(sample=1), "sample: value 1 invalid"),
        ("SearchMatrixOffsets", qdrant.SearchMatrixPoints(limit=0), "limit: value 0 invalid"),
    ],
)
def test_groups_facets_and_matrices_check_their_sizes(
    front: Grpc, collection: str, method: str, request_: Any, text: str
) -> None:
    request_.collection_name = collection
    with refused(INVALID, text):
        getattr(front.points, method)(request_)


def test_a_batch_that_fails_in_one_operation_is_not_applied(front: Grpc, collection: str) -> None:
    def upsert(*data: float) -> qdrant.PointsUpdateOperation:
        vectors = qdrant.Vectors(vector=qdrant.Vector(data=data))
        point = qdrant.PointStruct(id=qdrant.PointId(num=1), vectors=vectors)
        points = qdrant.PointsUpdateOperation.PointStructList(points=[point])
        return qdrant.PointsUpdateOperation(upsert=points)

    batch = qdrant.UpdateBatchPoints(
        collection_name=collection, operations=[upsert(1, 2, 3, 4), upsert(1)]
    )
    with refused(INVALID, "Vector dimension error: expected dim: 4, got 1"):
        front.points.UpdateBatch(batch)
    assert front.service.count(collection) == 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("wait", [True, False])
def test_vectors_that_are_not_finite_are_refused(
    front: Grpc, collection: str, bad: float, wait: bool
) -> None:
    vectors = qdrant.Vectors(vector=qdrant.Vector(data=[1.0, bad, 0.0, 0.0]))
    point = qdrant.PointStruct(id=qdrant.PointId(num=3), vectors=vectors)
    request = qdrant.UpsertPoints(collection_name=collection, points=[point], wait=wait)
    with refused(INVALID, "Vector element 1 is not finite"):
        front.points.Upsert(request)


def test_many_callers_at_once_are_all_answered(front: Grpc, collection: str) -> None:
    points = front.points
    futures = [
        points.Count.future(qdrant.CountPoints(collection_name=collection)) for _ in range(200)
    ]
    assert [future.result().result.count for future in futures] == [0] * 200


def test_a_delete_of_no_collection_says_so(front: Grpc) -> None:
    request = qdrant.DeleteCollection(collection_name=f"c-{uuid4().hex}")
    assert front.collections.Delete(request).result is False
