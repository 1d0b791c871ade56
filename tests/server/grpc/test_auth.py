"""Who may call what over gRPC: the same callers, rights and texts as over REST."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import MagicMock

import grpc
import jwt
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from qdrant_client import grpc as qdrant

from headrace.model.collection_config import CollectionConfig, VectorParams
from headrace.model.points import PointStruct
from headrace.model.upserts import build_upsert
from headrace.model.vectors import Distance
from headrace.server.auth import Authenticator, Need
from headrace.server.grpc.reflection import REFLECTION_SERVICES
from headrace.server.grpc.server import _services
from headrace.server.node import Node
from headrace.server.options import AuthOptions
from headrace.server.rest.app import JSON_ROUTES
from headrace.service.service import Service
from tests.server.grpc.grpc_server import Grpc, refused, serving

KEY, ALT_KEY, READ_KEY = "k" * 32, "a" * 32, "r" * 32
NAMES = ("one", "two")
DENIED = grpc.StatusCode.PERMISSION_DENIED
UNKNOWN = grpc.StatusCode.UNAUTHENTICATED
METHODS = {
    f"/{service.full_name}/{name}": method
    for service, methods in _services(MagicMock()).items()
    for name, method in methods.items()
}

Metadata = tuple[tuple[str, str], ...]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grpc]:
    service = Service.open(tmp_path_factory.mktemp("data"))
    for name in NAMES:
        params = VectorParams(size=2, distance=Distance.DOT)
        config = CollectionConfig(vectors={"": params})
        service.create_collection(name, config)
        points = [PointStruct(1, {}, b'{"role": "admin", "group": 1}')]
        service.write(name, [build_upsert(points, config)])
    options = AuthOptions(KEY, ALT_KEY, READ_KEY, jwt_rbac=True)
    with serving(service, Node(Authenticator(options))) as front:
        yield front
    service.close()


def key(value: str) -> Metadata:
    return (("api-key", value),)


def token(**claims: Any) -> Metadata:
    return (("authorization", f"Bearer {jwt.encode(claims, KEY, algorithm='HS256')}"),)


def on_one(access: str) -> Metadata:
    return token(access=[{"collection": "one", "access": access}])


def raw(front: Grpc, path: str) -> Callable[..., bytes]:
    call: Callable[..., bytes] = front.channel.unary_unary(
        path, request_serializer=bytes, response_deserializer=bytes
    )
    return call


@pytest.mark.parametrize("path", [path for path in METHODS if "HealthCheck" not in path])
def test_every_method_asks_who_is_there(guarded: Grpc, path: str) -> None:
    with refused(UNKNOWN, "Must provide an API key or an Authorization bearer token"):
        raw(guarded, path)(b"")
    with refused(UNKNOWN, "Invalid API key or JWT"):
        raw(guarded, path)(b"\xff", metadata=key("wrong"))


def test_health_is_told_to_anyone(guarded: Grpc) -> None:
    assert guarded.qdrant.HealthCheck(qdrant.HealthCheckRequest()).title
    probes = health_pb2_grpc.HealthStub(guarded.channel)
    for name in ("", "qdrant.Points", "qdrant.Snapshots"):
        response = probes.Check(health_pb2.HealthCheckRequest(service=name))
        assert response.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("service", REFLECTION_SERVICES)
def test_reflection_is_for_callers_that_are_known(guarded: Grpc, service: str) -> None:
    ask = guarded.channel.stream_stream(
        f"/{service}/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    with refused(UNKNOWN, "Must provide an API key"):
        list(ask(iter([request])))
    (answer,) = ask(iter([request]), metadata=key(READ_KEY))
    names = {one.name for one in answer.list_services_response.service}
    assert {"qdrant.Points", "grpc.health.v1.Health", *REFLECTION_SERVICES} <= names


@pytest.mark.parametrize("shown", [key(KEY), key(ALT_KEY), token(), token(access="m")])
def test_a_managing_caller_may_do_everything(guarded: Grpc, shown: Metadata) -> None:
    create = qdrant.CreateCollection(collection_name="three")
    assert guarded.collections.Create(create, metadata=shown).result
    delete = qdrant.DeleteCollection(collection_name="three")
    assert guarded.collections.Delete(delete, metadata=shown).result


@pytest.mark.parametrize("shown", [key(READ_KEY), token(access="r")])
def test_a_reading_caller_may_read_everything_and_no_more(guarded: Grpc, shown: Metadata) -> None:
    for name in NAMES:
        assert guarded.points.Count(qdrant.CountPoints(collection_name=name), metadata=shown)
    assert guarded.snapshots.ListFull(qdrant.ListFullSnapshotsRequest(), metadata=shown)
    text = "Forbidden: Global manage access is required"
    with refused(DENIED, text):
        guarded.points.Upsert(qdrant.UpsertPoints(collection_name="one"), metadata=shown)
    with refused(DENIED, text):
        guarded.collections.Create(qdrant.CreateCollection(collection_name="x"), metadata=shown)
    with refused(DENIED, text):
        guarded.snapshots.CreateFull(qdrant.CreateFullSnapshotRequest(), metadata=shown)


def call(front: Grpc, need: Need, name: str, shown: Metadata) -> Any:
    """A call of some need on a collection, which changes nothing."""
    match need:
        case Need.READ:
            return front.points.Count(qdrant.CountPoints(collection_name=name), metadata=shown)
        case Need.WRITE:
            return front.points.Upsert(qdrant.UpsertPoints(collection_name=name), metadata=shown)
        case Need.READ_EXTRAS:
            request = qdrant.GetCollectionInfoRequest(collection_name=name)
            return front.collections.Get(request, metadata=shown)
        case _:
            drop = qdrant.DeleteFieldIndexCollection(collection_name=name, field_name="none")
            return front.points.DeleteFieldIndex(drop, metadata=shown)


@pytest.mark.parametrize(
    ("access", "need", "text"),
    [
        ("r", Need.READ, ""),
        ("r", Need.READ_EXTRAS, ""),
        ("r", Need.WRITE, "Write access to collection one is required"),
        ("r", Need.WRITE_EXTRAS, "Write access to collection one is required"),
        ("rw", Need.READ, ""),
        ("rw", Need.READ_EXTRAS, ""),
        ("rw", Need.WRITE, ""),
        ("rw", Need.WRITE_EXTRAS, ""),
        ("prw", Need.READ, ""),
        ("prw", Need.WRITE, ""),
        ("prw", Need.READ_EXTRAS, "Only points access is allowed for collection one"),
        ("prw", Need.WRITE_EXTRAS, "Only points access is allowed for collection one"),
    ],
)
def test_a_token_for_one_collection_holds_there_alone(
    guarded: Grpc, access: str, need: Need, text: str
) -> None:
    if text:
        with refused(DENIED, f"Forbidden: {text}"):
            call(guarded, need, "one", on_one(access))
    else:
        assert call(guarded, need, "one", on_one(access))
    with refused(DENIED, "Forbidden: Access to collection two is required"):
        call(guarded, need, "two", on_one(access))


def test_lists_show_what_the_caller_may_see(guarded: Grpc) -> None:
    actions = [
        qdrant.AliasOperations(
            create_alias=qdrant.CreateAlias(collection_name=name, alias_name=f"alias-{name}")
        )
        for name in NAMES
    ]
    guarded.collections.UpdateAliases(qdrant.ChangeAliases(actions=actions), metadata=key(KEY))
    for shown, seen in ((on_one("r"), ["one"]), (key(READ_KEY), [*NAMES])):
        listed = guarded.collections.List(qdrant.ListCollectionsRequest(), metadata=shown)
        assert [one.name for one in listed.collections] == seen
        aliases = guarded.collections.ListAliases(qdrant.ListAliasesRequest(), metadata=shown)
        assert [one.collection_name for one in aliases.aliases] == seen


def lookups() -> Iterator[Any]:
    """Requests about collection one that read collection two."""
    there = qdrant.LookupLocation(collection_name="two")
    target = qdrant.Query(nearest=qdrant.VectorInput(id=qdrant.PointId(num=1)))
    nested = qdrant.PrefetchQuery(query=target, lookup_from=there)
    query = qdrant.QueryPoints(query=target, lookup_from=there)
    yield "Query", query
    yield "Query", qdrant.QueryPoints(prefetch=[qdrant.PrefetchQuery(prefetch=[nested])])
    yield "QueryBatch", qdrant.QueryBatchPoints(query_points=[query])
    yield "QueryGroups", qdrant.QueryPointGroups(query=target, group_by="g", lookup_from=there)
    yield (
        "QueryGroups",
        qdrant.QueryPointGroups(
            query=target, group_by="group", with_lookup=qdrant.WithLookup(collection="two")
        ),
    )
    yield (
        "Recommend",
        qdrant.RecommendPoints(positive=[qdrant.PointId(num=1)], limit=1, lookup_from=there),
    )


@pytest.mark.parametrize(("method", "request_"), list(lookups()))
def test_collections_that_a_query_looks_into_need_rights_too(
    guarded: Grpc, method: str, request_: Any
) -> None:
    request_.collection_name = "one"
    with refused(DENIED, "Forbidden: Access to collection two is required"):
        getattr(guarded.points, method)(request_, metadata=on_one("rw"))


def test_a_token_may_hold_only_while_something_is_stored(guarded: Grpc) -> None:
    def where(value: str) -> Metadata:
        matches = [{"key": "role", "value": value}]
        return token(value_exists={"collection": "two", "matches": matches})

    count = qdrant.CountPoints(collection_name="one")
    assert guarded.points.Count(count, metadata=where("admin")).result.count == 1
    with refused(DENIED, "Invalid JWT, stateful validation failed"):
        guarded.points.Count(count, metadata=where("guest"))


def test_a_refused_call_is_not_run(guarded: Grpc) -> None:
    with refused(DENIED, "Forbidden: "):
        delete = qdrant.DeleteCollection(collection_name="one")
        guarded.collections.Delete(delete, metadata=on_one("rw"))
    assert guarded.service.collection_exists("one")


COLLECTION = "/collections/{collection_name}"
SAME_IN_REST = {
    "Collections/Get": f"GET {COLLECTION}",
    "Collections/List": "GET /collections",
    "Collections/Create": f"PUT {COLLECTION}",
    "Collections/Update": f"PATCH {COLLECTION}",
    "Collections/Delete": f"DELETE {COLLECTION}",
    "Collections/UpdateAliases": "POST /collections/aliases",
    "Collections/ListCollectionAliases": f"GET {COLLECTION}/aliases",
    "Collections/ListAliases": "GET /aliases",
    "Collections/CollectionClusterInfo": f"GET {COLLECTION}/cluster",
    "Collections/CollectionExists": f"GET {COLLECTION}/exists",
    "Collections/UpdateCollectionClusterSetup": f"POST {COLLECTION}/cluster",
    "Collections/CreateShardKey": f"PUT {COLLECTION}/shards",
    "Collections/DeleteShardKey": f"POST {COLLECTION}/shards/delete",
    "Collections/ListShardKeys": f"GET {COLLECTION}/shards",
    "Points/Upsert": f"PUT {COLLECTION}/points",
    "Points/Delete": f"POST {COLLECTION}/points/delete",
    "Points/Get": f"POST {COLLECTION}/points",
    "Points/UpdateVectors": f"PUT {COLLECTION}/points/vectors",
    "Points/DeleteVectors": f"POST {COLLECTION}/points/vectors/delete",
    "Points/SetPayload": f"POST {COLLECTION}/points/payload",
    "Points/OverwritePayload": f"PUT {COLLECTION}/points/payload",
    "Points/DeletePayload": f"POST {COLLECTION}/points/payload/delete",
    "Points/ClearPayload": f"POST {COLLECTION}/points/payload/clear",
    "Points/CreateFieldIndex": f"PUT {COLLECTION}/index",
    "Points/DeleteFieldIndex": f"DELETE {COLLECTION}/index/{{field_name}}",
    "Points/CreateVectorName": f"PUT {COLLECTION}/vectors/{{vector_name}}",
    "Points/DeleteVectorName": f"DELETE {COLLECTION}/vectors/{{vector_name}}",
    "Points/Search": f"POST {COLLECTION}/points/search",
    "Points/SearchBatch": f"POST {COLLECTION}/points/search/batch",
    "Points/SearchGroups": f"POST {COLLECTION}/points/search/groups",
    "Points/Scroll": f"POST {COLLECTION}/points/scroll",
    "Points/Recommend": f"POST {COLLECTION}/points/recommend",
    "Points/RecommendBatch": f"POST {COLLECTION}/points/recommend/batch",
    "Points/RecommendGroups": f"POST {COLLECTION}/points/recommend/groups",
    "Points/Discover": f"POST {COLLECTION}/points/discover",
    "Points/DiscoverBatch": f"POST {COLLECTION}/points/discover/batch",
    "Points/Count": f"POST {COLLECTION}/points/count",
    "Points/UpdateBatch": f"POST {COLLECTION}/points/batch",
    "Points/Query": f"POST {COLLECTION}/points/query",
    "Points/QueryBatch": f"POST {COLLECTION}/points/query/batch",
    "Points/QueryGroups": f"POST {COLLECTION}/points/query/groups",
    "Points/Facet": f"POST {COLLECTION}/facet",
    "Points/SearchMatrixPairs": f"POST {COLLECTION}/points/search/matrix/pairs",
    "Points/SearchMatrixOffsets": f"POST {COLLECTION}/points/search/matrix/offsets",
    "Snapshots/Create": f"POST {COLLECTION}/snapshots",
    "Snapshots/List": f"GET {COLLECTION}/snapshots",
    "Snapshots/Delete": f"DELETE {COLLECTION}/snapshots/{{snapshot_name}}",
    "Snapshots/CreateFull": "POST /snapshots",
    "Snapshots/ListFull": "GET /snapshots",
    "Snapshots/DeleteFull": "DELETE /snapshots/{snapshot_name}",
}


def test_each_method_takes_the_same_right_as_its_route() -> None:
    needs = {route.name: route.need for route in JSON_ROUTES}
    expected = {f"/qdrant.{name}": needs[route] for name, route in SAME_IN_REST.items()}
    served = {path: method.need for path, method in METHODS.items()}
    assert served == {**expected, "/qdrant.Qdrant/HealthCheck": Need.NOTHING}


def test_all_methods_of_the_protocol_are_there() -> None:
    for service, methods in _services(MagicMock()).items():
        assert set(methods) == {method.name for method in service.methods}
