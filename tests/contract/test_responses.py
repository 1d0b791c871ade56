"""Every route answers as the OpenAPI document says, in success and in failure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple
from unittest.mock import MagicMock
from uuid import uuid4

import httpx
import pytest

from headrace.server.rest.app import create_app
from tests.contract.contract import operations, violations
from tests.server.rest.rest_server import Rest

COLLECTION = "/collections/{collection_name}"
POINTS = f"{COLLECTION}/points"


class Request(NamedTuple):
    """One request, as the document names its route."""

    method: str
    path: str
    body: Any = None
    query: str = ""
    status: int = 200
    values: Mapping[str, str] = MappingProxyType({})


QUERY = {"query": [1, 0, 0, 0], "using": "d", "with_payload": True, "with_vector": True}
SPARSE = {"query": {"indices": [1], "values": [1.0]}, "using": "s"}
FILTER = {"must": [{"key": "color", "match": {"value": "red"}}]}
MATRIX = {"sample": 10, "limit": 2, "using": "d"}

SUCCESSES = [
    Request("GET", "/"),
    Request("GET", "/healthz"),
    Request("GET", "/livez"),
    Request("GET", "/readyz"),
    Request("GET", "/metrics"),
    Request("GET", "/metrics", query="?per_collection=true&anonymize=true"),
    *(Request("GET", "/telemetry", query=f"?details_level={level}") for level in range(5)),
    Request("GET", "/telemetry", query="?details_level=10&per_collection=true&anonymize=true"),
    Request("GET", "/issues"),
    Request("DELETE", "/issues"),
    Request("GET", "/quotas"),
    Request("PUT", "/quotas", {"enabled": True, "max_disk_usage_percent": 100}),
    Request("GET", "/quotas"),
    Request("PUT", "/quotas", {}),
    Request("GET", "/cluster"),
    Request("GET", "/cluster/telemetry"),
    Request("GET", "/collections"),
    Request("GET", "/aliases"),
    Request("GET", COLLECTION),
    Request("GET", f"{COLLECTION}/exists"),
    Request("GET", f"{COLLECTION}/aliases"),
    Request("GET", f"{COLLECTION}/cluster"),
    Request("GET", f"{COLLECTION}/shards"),
    Request("GET", f"{COLLECTION}/optimizations"),
    Request("GET", f"{COLLECTION}/optimizations", query="?with=queued,completed,idle_segments"),
    Request(
        "PATCH",
        COLLECTION,
        {"metadata": {"owner": "me"}, "strict_mode_config": {"enabled": True}},
    ),
    Request("PUT", f"{COLLECTION}/index", {"field_name": "n", "field_schema": "integer"}),
    Request("DELETE", f"{COLLECTION}/index/{{field_name}}", values={"field_name": "gone"}),
    Request(
        "PUT",
        f"{COLLECTION}/vectors/{{vector_name}}",
        {"dense": {"size": 4, "distance": "Dot"}},
        values={"vector_name": "d"},
    ),
    Request("DELETE", f"{COLLECTION}/vectors/{{vector_name}}", values={"vector_name": "gone"}),
    Request("PUT", POINTS, {"points": [{"id": 9, "vector": {"d": [1, 1, 1, 1]}}]}, "?wait=true"),
    Request("PUT", POINTS, {"points": []}),
    Request("POST", POINTS, {"ids": [1, 2], "with_vector": True, "with_payload": True}),
    Request("GET", f"{POINTS}/{{id}}", values={"id": "1"}),
    Request("PUT", f"{POINTS}/vectors", {"points": [{"id": 9, "vector": {"d": [1, 0, 1, 1]}}]}),
    Request("POST", f"{POINTS}/vectors/delete", {"points": [9], "vector": ["s"]}),
    Request("POST", f"{POINTS}/payload", {"points": [9], "payload": {"a": 1}}),
    Request("PUT", f"{POINTS}/payload", {"points": [9], "payload": {"a": 1}}),
    Request("POST", f"{POINTS}/payload/delete", {"points": [9], "keys": ["a"]}),
    Request("POST", f"{POINTS}/payload/clear", {"points": [9]}),
    Request("POST", f"{POINTS}/batch", {"operations": [{"delete": {"points": [9]}}]}),
    Request("POST", f"{POINTS}/delete", {"points": [9]}, "?wait=true"),
    Request("POST", f"{POINTS}/scroll", {"limit": 2, "with_vector": True}),
    Request("POST", f"{POINTS}/scroll", {"order_by": {"key": "n", "direction": "desc"}}),
    Request("POST", f"{POINTS}/count", {"filter": FILTER}),
    Request("POST", f"{COLLECTION}/facet", {"key": "color"}),
    Request("POST", f"{POINTS}/query", QUERY),
    Request("POST", f"{POINTS}/query", SPARSE),
    Request("POST", f"{POINTS}/query", {}),
    Request("POST", f"{POINTS}/query", {"query": {"recommend": {"positive": [1]}}, "using": "d"}),
    Request("POST", f"{POINTS}/query", {"prefetch": [QUERY, SPARSE], "query": {"fusion": "rrf"}}),
    Request("POST", f"{POINTS}/query/batch", {"searches": [QUERY, SPARSE]}),
    Request("POST", f"{POINTS}/query/groups", {**QUERY, "group_by": "color"}),
    Request("POST", f"{POINTS}/search/matrix/pairs", MATRIX),
    Request("POST", f"{POINTS}/search/matrix/offsets", MATRIX),
]

MISSING = {"collection_name": "missing"}

FAILURES = [
    Request("GET", COLLECTION, status=404, values=MISSING),
    Request("PATCH", COLLECTION, {}, status=404, values=MISSING),
    Request("PATCH", COLLECTION, {"vectors": {"x": {}}}, status=400),
    Request("PUT", COLLECTION, {"vectors": {"size": 0, "distance": "Dot"}}, status=422),
    Request("PUT", COLLECTION, {}, status=409),
    Request("DELETE", COLLECTION, query="?timeout=0", status=422),
    Request("GET", f"{COLLECTION}/cluster", status=404, values=MISSING),
    Request("POST", f"{COLLECTION}/cluster", {"drop_replica": {}}, status=400),
    Request("GET", f"{COLLECTION}/shards", status=404, values=MISSING),
    Request("PUT", f"{COLLECTION}/shards", {"shard_key": "a"}, status=400),
    Request("POST", f"{COLLECTION}/shards/delete", {"shard_key": "a"}, status=400),
    Request("GET", f"{COLLECTION}/optimizations", query="?with=everything", status=400),
    Request("POST", "/collections/aliases", {"actions": [{}]}, status=400),
    Request(
        "POST",
        "/collections/aliases",
        {"actions": [{"rename_alias": {"old_alias_name": "no", "new_alias_name": "b"}}]},
        status=404,
    ),
    Request("POST", "/cluster/recover", status=405),
    Request("DELETE", "/cluster/peer/{peer_id}", status=405, values={"peer_id": "1"}),
    Request("GET", "/telemetry", query="?details_level=-1", status=400),
    Request("PUT", "/quotas", {"max_disk_usage_percent": 101}, status=422),
    Request("PUT", f"{COLLECTION}/index", {"field_name": "a"}, status=400),
    Request(
        "PUT",
        f"{COLLECTION}/vectors/{{vector_name}}",
        {"dense": {"size": 5, "distance": "Dot"}},
        status=400,
        values={"vector_name": "d"},
    ),
    Request("GET", f"{POINTS}/{{id}}", status=404, values={"id": "77"}),
    Request("GET", f"{POINTS}/{{id}}", status=400, values={"id": "x"}),
    *(
        Request(method, path, body, status=404, values=MISSING)
        for method, path, body in (
            ("PUT", POINTS, {"points": []}),
            ("POST", POINTS, {"ids": [1]}),
            ("POST", f"{POINTS}/delete", {"points": [1]}),
            ("POST", f"{POINTS}/scroll", {}),
            ("POST", f"{POINTS}/count", {}),
            ("POST", f"{COLLECTION}/facet", {"key": "a"}),
            ("POST", f"{POINTS}/query", QUERY),
            ("POST", f"{POINTS}/query/batch", {"searches": []}),
            ("POST", f"{POINTS}/query/groups", {**QUERY, "group_by": "a"}),
            ("POST", f"{POINTS}/search/matrix/pairs", MATRIX),
            ("POST", f"{POINTS}/search/matrix/offsets", MATRIX),
        )
    ),
    *(
        Request(method, path, {"points": 1, "ids": 1, "filter": 1}, status=400)
        for method, path in (
            ("PUT", POINTS),
            ("POST", POINTS),
            ("POST", f"{POINTS}/delete"),
            ("PUT", f"{POINTS}/vectors"),
            ("POST", f"{POINTS}/vectors/delete"),
            ("POST", f"{POINTS}/payload"),
            ("PUT", f"{POINTS}/payload"),
            ("POST", f"{POINTS}/payload/delete"),
            ("POST", f"{POINTS}/payload/clear"),
            ("POST", f"{POINTS}/batch"),
            ("POST", f"{POINTS}/scroll"),
            ("POST", f"{POINTS}/count"),
            ("POST", f"{POINTS}/query"),
            ("POST", f"{POINTS}/query/batch"),
            ("POST", f"{POINTS}/query/groups"),
            ("POST", f"{COLLECTION}/facet"),
            ("POST", f"{POINTS}/search/matrix/pairs"),
        )
    ),
]


@pytest.fixture(scope="module")
def name(rest: Rest) -> Iterator[str]:
    """A collection with a dense and a sparse vector, indexes, and points."""
    name = f"contract-{uuid4().hex}"
    body: dict[str, Any] = {
        "vectors": {"d": {"size": 4, "distance": "Dot"}},
        "sparse_vectors": {"s": {}},
    }
    rest.result("PUT", f"/collections/{name}", body)
    for field, schema in (("color", "keyword"), ("n", "integer")):
        index = {"field_name": field, "field_schema": {"type": schema}}
        rest.result("PUT", f"/collections/{name}/index", index)
    points = [
        {
            "id": number,
            "vector": {
                "d": [number, 1, 0, 0],
                "s": {"indices": [1, number + 1], "values": [1.0, 0.5]},
            },
            "payload": {"color": ["red", "green"][number % 2], "n": number},
        }
        for number in range(1, 7)
    ]
    rest.result("PUT", f"/collections/{name}/points?wait=true", {"points": points})
    yield name
    rest.result("DELETE", f"/collections/{name}")


def check(rest: Rest, name: str, request: Request) -> Any:
    path = request.path.format(**{"collection_name": name, **request.values})
    response = rest.call(request.method, path + request.query, request.body)
    assert response.status_code == request.status, response.text
    assert violations(request.method, request.path, response) == []
    return response


@pytest.mark.parametrize("request_", SUCCESSES, ids=lambda one: f"{one.method} {one.path}")
def test_a_success_is_as_the_document_says(rest: Rest, name: str, request_: Request) -> None:
    check(rest, name, request_)


@pytest.mark.parametrize("request_", FAILURES, ids=lambda one: f"{one.method} {one.path}")
def test_a_failure_is_as_the_document_says(rest: Rest, name: str, request_: Request) -> None:
    check(rest, name, request_)


def test_the_life_of_a_collection_and_an_alias_is_as_the_document_says(rest: Rest) -> None:
    name = f"contract-{uuid4().hex}"
    vectors = {"vectors": {"size": 4, "distance": "Cosine"}}
    check(rest, name, Request("PUT", COLLECTION, vectors))
    create = {"create_alias": {"collection_name": name, "alias_name": f"{name}-a"}}
    check(rest, name, Request("POST", "/collections/aliases", {"actions": [create]}))
    check(rest, name, Request("GET", f"{COLLECTION}/aliases"))
    check(rest, f"{name}-a", Request("GET", COLLECTION))
    check(rest, name, Request("DELETE", COLLECTION))
    check(rest, name, Request("DELETE", COLLECTION))


@pytest.mark.parametrize("parent", ["", COLLECTION, f"{COLLECTION}/shards/{{shard_id}}"])
def test_the_life_of_a_snapshot_is_as_the_document_says(rest: Rest, name: str, parent: str) -> None:
    values = {"shard_id": "0"}
    path = f"{parent}/snapshots"
    for wait, status in (("true", 200), ("false", 202)):
        created = check(
            rest,
            name,
            Request("POST", path, query=f"?wait={wait}", status=status, values=values),
        )
        if status == 200:
            values["snapshot_name"] = created.json()["result"]["name"]
    check(rest, name, Request("GET", path, values=values))
    one = f"{path}/{{snapshot_name}}"
    content = check(rest, name, Request("GET", one, values=values)).content
    if parent:
        upload = f"{path}/upload"
        url = upload.format(collection_name=name, **values)
        response = rest.http.post(url, files={"snapshot": ("s.snapshot", content)})
        assert response.status_code == 200, response.text
        assert violations("POST", upload, response) == []
        recover = {"location": "file:///nowhere/s.snapshot"}
        check(rest, name, Request("PUT", f"{path}/recover", recover, status=403, values=values))
    check(rest, name, Request("DELETE", one, values=values))
    check(rest, name, Request("GET", one, status=404, values=values))


def test_a_shard_is_downloaded_as_a_snapshot(rest: Rest, name: str) -> None:
    path = f"{COLLECTION}/shards/{{shard_id}}/snapshot"
    check(rest, name, Request("GET", path, values={"shard_id": "0"}))
    check(rest, name, Request("GET", path, status=404, values={"shard_id": "1"}))


def test_every_route_of_the_document_is_served_and_checked_here() -> None:
    served = {
        (method, route.path)  # type: ignore[attr-defined]
        for route in create_app(MagicMock()).routes
        for method in route.methods  # type: ignore[attr-defined]
    }
    wanted = operations()
    assert wanted <= served
    checked = {(one.method, one.path) for one in [*SUCCESSES, *FAILURES]}
    checked |= {("DELETE", COLLECTION), ("PUT", COLLECTION), ("POST", "/collections/aliases")}
    assert {(method, path) for method, path in wanted - checked if "snapshot" not in path} == set()


def test_a_response_that_is_not_as_the_document_says_is_found() -> None:
    bodies: tuple[Any, ...] = ({"result": {"exists": 1}}, {"result": {}}, [])
    for body in bodies:
        response = httpx.Response(200, json=body)
        assert violations("GET", f"{COLLECTION}/exists", response)
    text = httpx.Response(200, text="green", headers={"content-type": "text/plain"})
    assert violations("GET", f"{COLLECTION}/exists", text)
