from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from starlette.testclient import TestClient

from headrace.model.collection_config import CollectionConfig, VectorParams
from headrace.model.vectors import Distance
from headrace.server.auth import Authenticator, Need
from headrace.server.node import Node
from headrace.server.options import AuthOptions
from headrace.server.rest.app import JSON_ROUTES, create_app
from headrace.service.service import Service

KEY, ALT_KEY, READ_KEY = "k" * 32, "a" * 32, "r" * 32
OPEN = ("/", "/healthz", "/livez", "/readyz", "/healthz/")
NAMES = ("one", "two")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    service = Service.open(tmp_path_factory.mktemp("data"))
    for name in NAMES:
        params = VectorParams(size=2, distance=Distance.DOT)
        service.create_collection(name, CollectionConfig(vectors={"": params}))
    options = AuthOptions(KEY, ALT_KEY, READ_KEY, jwt_rbac=True)
    with TestClient(create_app(service, Node(Authenticator(options)))) as client:
        points = [{"id": n, "vector": [n, 1], "payload": {"role": "admin"}} for n in (1, 2)]
        for name in NAMES:
            made = client.put(
                f"/collections/{name}/points", json={"points": points}, headers=key(KEY)
            )
            assert made.status_code == 200
        yield client
    service.close()


def key(value: str) -> dict[str, str]:
    return {"api-key": value}


def token(signed_with: str = KEY, **claims: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {jwt.encode(claims, signed_with, algorithm='HS256')}"}


def where(name: str, value: str) -> dict[str, str]:
    """A token that holds while a point has this role."""
    matches = [{"key": "role", "value": value}]
    return token(value_exists={"collection": name, "matches": matches})


def on_one(access: str) -> dict[str, str]:
    return token(access=[{"collection": "one", "access": access}])


@pytest.mark.parametrize("path", OPEN)
def test_health_is_told_to_anyone(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 200


@pytest.mark.parametrize("route", JSON_ROUTES, ids=lambda route: route.name)
def test_every_other_route_asks_who_is_there(client: TestClient, route: Any) -> None:
    response = client.request(route.method, route.path.replace("{collection_name}", "one"))
    assert response.status_code == 401
    assert response.headers["content-type"].startswith("text/plain")
    assert response.text == "Must provide an API key or an Authorization bearer token"


def test_no_route_of_the_application_is_left_open(client: TestClient) -> None:
    app: Any = client.app
    for route in app.routes:
        for method in route.methods:
            response = client.request(method, route.path.replace("{collection_name}", "one"))
            assert (response.status_code == 200) == (route.path in OPEN), route.path


@pytest.mark.parametrize("path", ["/collections/%2e%2e/x", "/Collections", "/x"])
def test_a_path_that_is_no_route_tells_a_stranger_nothing(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 401
    assert client.get(path, headers=key(KEY)).status_code == 404


@pytest.mark.parametrize(
    "headers",
    [key("x"), key(""), key(KEY[:-1]), {"authorization": "Bearer x"}, {"authorization": KEY}],
)
def test_an_unknown_key_is_refused(client: TestClient, headers: dict[str, str]) -> None:
    assert client.get("/collections", headers=headers).status_code == 401


def test_a_key_may_come_as_a_bearer_token_and_the_api_key_header_wins(client: TestClient) -> None:
    bearer = {"authorization": f"bearer {ALT_KEY}"}
    assert client.get("/collections", headers=bearer).status_code == 200
    assert client.get("/collections", headers=bearer | key("x")).status_code == 401


@pytest.mark.parametrize("route", JSON_ROUTES, ids=lambda route: route.name)
def test_a_read_only_key_reads_everything_and_changes_nothing(
    client: TestClient, route: Any
) -> None:
    path = route.path.replace("{collection_name}", "one")
    response = client.request(route.method, path, headers=key(READ_KEY), json={})
    changes = route.need in (Need.MANAGE, Need.WRITE, Need.WRITE_EXTRAS)
    assert (response.status_code == 403) == changes
    if changes:
        error = response.json()["status"]["error"]
        assert error == "Forbidden: Global manage access is required"


@pytest.mark.parametrize(
    ("access", "method", "path", "body", "error"),
    [
        ("r", "POST", "/collections/one/points/scroll", {}, None),
        ("r", "GET", "/collections/one", None, None),
        (
            "r",
            "POST",
            "/collections/one/points/payload",
            {"points": [1], "payload": {}},
            "Write access to collection one is required",
        ),
        ("rw", "POST", "/collections/one/points/payload", {"points": [1], "payload": {}}, None),
        ("prw", "POST", "/collections/one/points/payload", {"points": [1], "payload": {}}, None),
        (
            "prw",
            "GET",
            "/collections/one",
            None,
            "Only points access is allowed for collection one",
        ),
        (
            "prw",
            "PUT",
            "/collections/one/index",
            {"field_name": "a", "field_schema": "keyword"},
            "Only points access is allowed for collection one",
        ),
        (
            "rw",
            "POST",
            "/collections/two/points/scroll",
            {},
            "Access to collection two is required",
        ),
        (
            "rw",
            "POST",
            "/collections/t%77o/points/scroll",
            {},
            "Access to collection two is required",
        ),
        ("rw", "DELETE", "/collections/one", None, "Global manage access is required"),
        ("rw", "GET", "/metrics", None, "Global access is required"),
        (
            "rw",
            "POST",
            "/collections/one/points/query",
            {"prefetch": {"query": 1, "lookup_from": {"collection": "two"}}, "query": 1},
            "Access to collection two is required",
        ),
        (
            "rw",
            "POST",
            "/collections/one/points/query/groups",
            {"group_by": "a", "with_lookup": "two"},
            "Access to collection two is required",
        ),
    ],
)
def test_a_token_allows_what_it_says(
    client: TestClient, access: str, method: str, path: str, body: Any, error: str | None
) -> None:
    response = client.request(method, path, json=body, headers=on_one(access))
    if error is None:
        assert response.status_code == 200, response.text
    else:
        assert response.status_code == 403
        assert response.json()["status"]["error"] == f"Forbidden: {error}"


def test_lists_show_a_token_what_it_may_see(client: TestClient) -> None:
    def names(headers: dict[str, str]) -> list[str]:
        shown = client.get("/collections", headers=headers).json()["result"]["collections"]
        return [collection["name"] for collection in shown]

    assert names(on_one("r")) == ["one"]
    assert names(token(access="r")) == ["one", "two"]
    assert names(token(access=[])) == []
    telemetry = client.get("/telemetry?details_level=2", headers=on_one("r")).json()["result"]
    assert [one["id"] for one in telemetry["collections"]["collections"]] == ["one"]


def test_a_global_token_manages_or_reads(client: TestClient) -> None:
    for claims, status in (({}, 200), ({"access": "m"}, 200), ({"access": "r"}, 403)):
        response = client.delete("/collections/gone", headers=token(**claims))
        assert response.status_code == status
    assert client.get("/collections", headers=token(ALT_KEY)).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (token("other" * 8), 403),
        (token(READ_KEY), 403),
        (token(access="everything"), 401),
        (token(access=[{"collection": "one", "access": "r", "payload": {"a": 1}}]), 401),
        ({"authorization": "Bearer " + jwt.encode({}, "", algorithm="none")}, 401),
        ({"authorization": "Bearer " + jwt.encode({}, KEY * 2, algorithm="HS512")}, 401),
        (
            token(value_exists={"collection": "one", "matches": [{"key": "role", "value": "x"}]}),
            403,
        ),
        (where("gone", "admin"), 403),
        (
            token(
                value_exists={"collection": "one", "matches": [{"key": "role", "value": "admin"}]}
            ),
            200,
        ),
    ],
)
def test_a_token_that_does_not_hold_is_refused(
    client: TestClient, headers: dict[str, str], status: int
) -> None:
    assert client.get("/collections", headers=headers).status_code == status


def test_a_token_holds_half_a_minute_longer_than_it_says(client: TestClient) -> None:
    now_s = int(time.time())
    for age_s, status in ((-60, 200), (10, 200), (60, 403)):
        response = client.get("/collections", headers=token(exp=now_s - age_s))
        assert response.status_code == status


def test_what_a_token_wants_stored_is_looked_up_whatever_strict_mode_says(
    client: TestClient,
) -> None:
    limits = {"enabled": True, "unindexed_filtering_retrieve": False, "read_rate_limit": 1}
    path = "/collections/two"
    client.patch(path, json={"strict_mode_config": limits}, headers=key(KEY))
    for _ in range(3):
        response = client.get("/collections", headers=where("two", "admin"))
        assert response.status_code == 200
    client.patch(path, json={"strict_mode_config": {"enabled": False}}, headers=key(KEY))


def test_without_keys_everyone_may_do_everything(tmp_path: Path) -> None:
    service = Service.open(tmp_path)
    empty = Authenticator(AuthOptions(api_key="", read_only_api_key=""))
    with TestClient(create_app(service, Node(empty))) as client:
        assert client.put("/collections/c", json={}).status_code == 200
    service.close()


def test_tokens_are_taken_only_where_they_are_asked_for(tmp_path: Path) -> None:
    service = Service.open(tmp_path)
    with TestClient(create_app(service, Node(Authenticator(AuthOptions(KEY))))) as client:
        assert client.get("/collections", headers=token()).status_code == 401
    service.close()


def test_keys_are_in_no_repr() -> None:
    assert KEY not in repr(AuthOptions(KEY, KEY, KEY))
