"""Each route, called in each role: who may, and who may not, after the path is decoded.

What a route takes is written down here by hand, from Qdrant's rules; the gRPC methods take the
same as their routes (`tests/server/grpc/test_auth.py`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import jwt
import pytest
from starlette.testclient import TestClient

from headrace.server.auth import Authenticator
from headrace.server.node import Node
from headrace.server.options import AuthOptions
from headrace.server.rest.app import create_app
from headrace.service.service import Service

KEY, ALT_KEY, READ_KEY = "k" * 64, "a" * 64, "r" * 64

# By what they take: open to anyone, to anyone who is known, to who may read everything, to who
# may manage; and to who may read or write the points, or more, of one collection.
ROUTES = """
open            GET /
open            GET /healthz
open            GET /livez
open            GET /readyz
known           GET /collections
known           GET /aliases
known           GET /telemetry
known           GET /cluster/telemetry
read all        GET /cluster
read all        GET /metrics
read all        GET /logger
read all        GET /quotas
read all        GET /snapshots
read all        GET /snapshots/{snapshot_name}
manage          GET /issues
manage          DELETE /issues
manage          GET /stacktrace
manage          POST /logger
manage          GET /profiler/slow_requests
manage          GET /debugger
manage          PATCH /debugger
manage          POST /audit/logs
manage          PUT /quotas
manage          POST /snapshots
manage          DELETE /snapshots/{snapshot_name}
manage          POST /cluster/recover
manage          DELETE /cluster/peer/{peer_id}
manage          GET /cluster/metadata/keys
manage          GET /cluster/metadata/keys/{key}
manage          PUT /cluster/metadata/keys/{key}
manage          DELETE /cluster/metadata/keys/{key}
manage          POST /collections/aliases
manage          PUT /collections/{collection_name}
manage          PATCH /collections/{collection_name}
manage          DELETE /collections/{collection_name}
manage          POST /collections/{collection_name}/cluster
manage          PUT /collections/{collection_name}/shards
manage          POST /collections/{collection_name}/shards/delete
manage          POST /collections/{collection_name}/truncate_unapplied_wal
manage          PUT /collections/{collection_name}/snapshots/recover
manage          POST /collections/{collection_name}/snapshots/upload
manage          PUT /collections/{collection_name}/shards/{shard_id}/snapshots/recover
manage          POST /collections/{collection_name}/shards/{shard_id}/snapshots/upload
read            GET /collections/{collection_name}/exists
read            POST /collections/{collection_name}/points
read            GET /collections/{collection_name}/points/{id}
read            POST /collections/{collection_name}/points/scroll
read            POST /collections/{collection_name}/points/count
read            POST /collections/{collection_name}/points/query
read            POST /collections/{collection_name}/points/query/batch
read            POST /collections/{collection_name}/points/query/groups
read            POST /collections/{collection_name}/points/search
read            POST /collections/{collection_name}/points/search/batch
read            POST /collections/{collection_name}/points/search/groups
read            POST /collections/{collection_name}/points/search/matrix/pairs
read            POST /collections/{collection_name}/points/search/matrix/offsets
read            POST /collections/{collection_name}/points/recommend
read            POST /collections/{collection_name}/points/recommend/batch
read            POST /collections/{collection_name}/points/recommend/groups
read            POST /collections/{collection_name}/points/discover
read            POST /collections/{collection_name}/points/discover/batch
read            POST /collections/{collection_name}/facet
read            POST /collections/{collection_name}/shards/{shard_id}/points
read            POST /collections/{collection_name}/shards/{shard_id}/points/scroll
read            POST /collections/{collection_name}/shards/{shard_id}/points/count
read more       GET /collections/{collection_name}
read more       GET /collections/{collection_name}/aliases
read more       GET /collections/{collection_name}/cluster
read more       GET /collections/{collection_name}/shards
read more       GET /collections/{collection_name}/optimizations
read more       GET /collections/{collection_name}/snapshots
read more       GET /collections/{collection_name}/snapshots/{snapshot_name}
read more       GET /collections/{collection_name}/shards/{shard_id}/snapshots
read more       GET /collections/{collection_name}/shards/{shard_id}/snapshots/{snapshot_name}
write           PUT /collections/{collection_name}/points
write           POST /collections/{collection_name}/points/delete
write           PUT /collections/{collection_name}/points/vectors
write           POST /collections/{collection_name}/points/vectors/delete
write           POST /collections/{collection_name}/points/payload
write           PUT /collections/{collection_name}/points/payload
write           POST /collections/{collection_name}/points/payload/delete
write           POST /collections/{collection_name}/points/payload/clear
write           POST /collections/{collection_name}/points/batch
write more      PUT /collections/{collection_name}/index
write more      DELETE /collections/{collection_name}/index/{field_name}
write more      PUT /collections/{collection_name}/vectors/{vector_name}
write more      DELETE /collections/{collection_name}/vectors/{vector_name}
write more      POST /collections/{collection_name}/snapshots
write more      DELETE /collections/{collection_name}/snapshots/{snapshot_name}
write more      POST /collections/{collection_name}/shards/{shard_id}/cleanup
write more      GET /collections/{collection_name}/shards/{shard_id}/snapshot
write more      POST /collections/{collection_name}/shards/{shard_id}/snapshots
write more      DELETE /collections/{collection_name}/shards/{shard_id}/snapshots/{snapshot_name}
"""
NEEDS = {line[16:]: line[:16].strip() for line in ROUTES.strip().splitlines()}

EVERYTHING = {"known", "read all", "manage", "read", "read more", "write", "write more"}
READING = {"known", "read all", "read", "read more"}


def token(signed_with: str = KEY, algorithm: str = "HS256", **claims: Any) -> str:
    return "Bearer " + jwt.encode(claims, signed_with, algorithm=algorithm)


def on(name: str, access: str) -> str:
    return token(access=[{"collection": name, "access": access}])


def roles() -> Mapping[str, tuple[dict[str, str], set[str] | None]]:
    """By name: what is shown, and what it opens beside the open routes; None if nobody is known."""
    expired = time.time() - 60
    return {
        "nobody": ({}, None),
        "a wrong key": ({"api-key": "x" * 64}, None),
        "an empty key": ({"api-key": ""}, None),
        "the key, cut": ({"api-key": KEY[:-1]}, None),
        "an unsigned token": ({"authorization": token("", "none", access="m")}, None),
        "a token signed otherwise": ({"authorization": token("y" * 64, access="m")}, None),
        "a token with another hash": ({"authorization": token(KEY, "HS384", access="m")}, None),
        "an expired token": ({"authorization": token(exp=expired)}, None),
        "the key": ({"api-key": KEY}, EVERYTHING),
        "the alternative key": ({"authorization": f"Bearer {ALT_KEY}"}, EVERYTHING),
        "the read-only key": ({"api-key": READ_KEY}, READING),
        "a token for all": ({"authorization": token(access="m")}, EVERYTHING),
        "a reading token": ({"authorization": token(access="r")}, READING),
        "r on it": ({"authorization": on("it", "r")}, {"known", "read", "read more"}),
        "prw on it": ({"authorization": on("it", "prw")}, {"known", "read", "write"}),
        "rw on it": (
            {"authorization": on("it", "rw")},
            {"known", "read", "read more", "write", "write more"},
        ),
        "rw on another": ({"authorization": on("other", "rw")}, {"known"}),
    }


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    service = Service.open(tmp_path_factory.mktemp("data"))
    options = AuthOptions(KEY, ALT_KEY, READ_KEY, jwt_rbac=True)
    with TestClient(
        create_app(service, Node(Authenticator(options))), raise_server_exceptions=False
    ) as client:
        yield client
    service.close()


def test_every_route_is_in_the_table(client: TestClient) -> None:
    app: Any = client.app
    served = {
        f"{method} {route.path}"
        for route in app.routes
        for method in route.methods
        if method != "HEAD"
    }
    assert served == set(NEEDS)


@pytest.mark.parametrize(
    ("role", "name"),
    [*((role, "it") for role in roles()), ("prw on it", "%69t"), ("rw on another", "i%74")],
)
def test_a_role_opens_what_it_is_for_and_nothing_else(
    client: TestClient, role: str, name: str
) -> None:
    shown, opens = roles()[role]
    for route, need in NEEDS.items():
        method, _, path = route.partition(" ")
        path = path.replace("{collection_name}", name)
        # A body of another type gets as far as any caller who may, and changes nothing.
        answer = client.request(method, path, headers=shown, content=b"-")
        if need == "open":
            assert answer.status_code == 200, route
        elif opens is None:
            assert answer.status_code in (401, 403), route
        else:
            assert (answer.status_code == 403) == (need not in opens), (route, answer.text)
            assert answer.status_code != 401, route


def test_collections_that_lists_show_are_those_that_a_token_names(client: TestClient) -> None:
    for name in ("it", "other"):
        body = {"vectors": {"size": 2, "distance": "Dot"}}
        client.put(f"/collections/{name}", json=body, headers={"api-key": KEY})
    shown = {"authorization": on("it", "r")}
    listed = client.get("/collections", headers=shown).json()["result"]["collections"]
    assert listed == [{"name": "it"}]
    for name in ("it", "other"):
        client.delete(f"/collections/{name}", headers={"api-key": KEY})
