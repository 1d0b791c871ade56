"""May pages of other origins call the REST API? Only those that the operator names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from headrace.server.auth import Authenticator
from headrace.server.node import Node
from headrace.server.options import AuthOptions
from headrace.server.rest.app import create_app
from headrace.service.service import Service

ORIGIN = "https://app.example"
PREFLIGHT = {
    "origin": ORIGIN,
    "access-control-request-method": "PUT",
    "access-control-request-headers": "api-key,content-type",
}


@pytest.fixture
def client_for(tmp_path: Path) -> Iterator[Callable[[Sequence[str]], TestClient]]:
    service = Service.open(tmp_path / "data")
    node = Node(Authenticator(AuthOptions(api_key="key")))
    yield lambda origins: TestClient(create_app(service, node, origins))
    service.close()


def test_by_default_no_page_of_another_origin_may(
    client_for: Callable[[Sequence[str]], TestClient],
) -> None:
    client = client_for(())
    for answer in (
        client.get("/collections", headers={"origin": ORIGIN, "api-key": "key"}),
        client.options("/collections/c", headers=PREFLIGHT),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(("origins", "shown"), [([ORIGIN], ORIGIN), (["*"], "*")])
def test_an_origin_that_is_named_may(
    client_for: Callable[[Sequence[str]], TestClient], origins: list[str], shown: str
) -> None:
    client = client_for(origins)
    preflight = client.options("/collections/c", headers=PREFLIGHT)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == shown
    assert "PUT" in preflight.headers["access-control-allow-methods"]
    assert "api-key" in preflight.headers["access-control-allow-headers"]
    answer = client.get("/collections", headers={"origin": ORIGIN, "api-key": "key"})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == shown
    assert client.get("/collections", headers={"origin": ORIGIN}).status_code == 401


def test_another_origin_than_those_named_may_not(
    client_for: Callable[[Sequence[str]], TestClient],
) -> None:
    client = client_for(["https://other.example"])
    assert client.options("/collections/c", headers=PREFLIGHT).status_code == 400
    answer = client.get("/collections", headers={"origin": ORIGIN, "api-key": "key"})
    assert "access-control-allow-origin" not in answer.headers
