"""Section 5 of the sink's contract: each route of the worker, with each status that it answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from starlette.routing import Route
from starlette.testclient import TestClient

from headrace.model.collection_config import CollectionConfig, VectorParams
from headrace.model.vectors import Distance
from headrace.service.service import Service
from headrace.sink.config import ConnectorConfig
from headrace.sink.worker.rest import create_worker_app
from headrace.sink.worker.store import ConnectorStore
from headrace.sink.worker.worker import Worker
from tests.sink.mock_kafka import MockKafka, MockKafkaUnavailable
from tests.sink.worker.harness import config_of, task_states, wait_until

STOP_TIMEOUT_S = 20.0
PLUGIN = "/connector-plugins/QdrantSinkConnector"
OFFSET = {
    "partition": {"kafka_topic": "topic", "kafka_partition": 0},
    "offset": {"kafka_offset": 1},
}
INVALID = {"batch.size": "many"}
NOT_JSON = b"{"

# A route with what is asked of it, and the status. In a path, `{new}` is a name that nobody
# has, `{running}`, `{stopped}` and `{file}` are connectors in that state or from a file, and
# `{none}` is not there. A body may name them too.
Case = tuple[str, str, Any, int]
CASES: list[Case] = [
    ("GET /", "/", None, 200),
    ("GET /metrics", "/metrics", None, 200),
    ("GET /connectors", "/connectors", None, 200),
    ("GET /connectors", "/connectors?expand=status&expand=info", None, 200),
    ("GET /connectors", "/connectors?expand=all", None, 400),
    ("POST /connectors", "/connectors", {"name": "{new}", "config": {}}, 201),
    ("POST /connectors", "/connectors", {"name": "{new}", "config": INVALID}, 400),
    ("POST /connectors", "/connectors", {"name": "{new}", "config": {"name": "other"}}, 400),
    ("POST /connectors", "/connectors", {"name": "{new}"}, 400),
    ("POST /connectors", "/connectors", {"name": " ", "config": {}}, 400),
    ("POST /connectors", "/connectors", NOT_JSON, 400),
    ("POST /connectors", "/connectors", {"name": "{stopped}", "config": {}}, 409),
    ("GET /connectors/{name}", "/connectors/{stopped}", None, 200),
    ("GET /connectors/{name}", "/connectors/{none}", None, 404),
    ("DELETE /connectors/{name}", "/connectors/{running}", None, 204),
    ("DELETE /connectors/{name}", "/connectors/{none}", None, 404),
    ("DELETE /connectors/{name}", "/connectors/{file}", None, 409),
    ("GET /connectors/{name}/config", "/connectors/{stopped}/config", None, 200),
    ("GET /connectors/{name}/config", "/connectors/{none}/config", None, 404),
    ("PUT /connectors/{name}/config", "/connectors/{new}/config", {"topics": "topic"}, 201),
    ("PUT /connectors/{name}/config", "/connectors/{stopped}/config", {"topics": "topic"}, 200),
    ("PUT /connectors/{name}/config", "/connectors/{stopped}/config", INVALID, 400),
    ("PUT /connectors/{name}/config", "/connectors/{stopped}/config", NOT_JSON, 400),
    ("PUT /connectors/{name}/config", "/connectors/{file}/config", {"topics": "topic"}, 409),
    ("PATCH /connectors/{name}/config", "/connectors/{stopped}/config", {"batch.size": "7"}, 200),
    ("PATCH /connectors/{name}/config", "/connectors/{stopped}/config", {"batch.size": None}, 200),
    ("PATCH /connectors/{name}/config", "/connectors/{stopped}/config", INVALID, 400),
    ("PATCH /connectors/{name}/config", "/connectors/{none}/config", {}, 404),
    ("PATCH /connectors/{name}/config", "/connectors/{file}/config", {"batch.size": "7"}, 409),
    ("GET /connectors/{name}/status", "/connectors/{running}/status", None, 200),
    ("GET /connectors/{name}/status", "/connectors/{none}/status", None, 404),
    ("PUT /connectors/{name}/pause", "/connectors/{running}/pause", None, 202),
    ("PUT /connectors/{name}/pause", "/connectors/{none}/pause", None, 404),
    ("PUT /connectors/{name}/resume", "/connectors/{stopped}/resume", None, 202),
    ("PUT /connectors/{name}/resume", "/connectors/{none}/resume", None, 404),
    ("PUT /connectors/{name}/stop", "/connectors/{running}/stop", None, 204),
    ("PUT /connectors/{name}/stop", "/connectors/{none}/stop", None, 404),
    ("POST /connectors/{name}/restart", "/connectors/{running}/restart", None, 204),
    (
        "POST /connectors/{name}/restart",
        "/connectors/{running}/restart?includeTasks=true",
        None,
        202,
    ),
    ("POST /connectors/{name}/restart", "/connectors/{running}/restart?onlyFailed=true", None, 202),
    ("POST /connectors/{name}/restart", "/connectors/{running}/restart?onlyFailed=so", None, 400),
    ("POST /connectors/{name}/restart", "/connectors/{none}/restart", None, 404),
    ("GET /connectors/{name}/tasks", "/connectors/{running}/tasks", None, 200),
    ("GET /connectors/{name}/tasks", "/connectors/{none}/tasks", None, 404),
    (
        "GET /connectors/{name}/tasks/{task}/status",
        "/connectors/{running}/tasks/0/status",
        None,
        200,
    ),
    (
        "GET /connectors/{name}/tasks/{task}/status",
        "/connectors/{running}/tasks/7/status",
        None,
        404,
    ),
    ("GET /connectors/{name}/tasks/{task}/status", "/connectors/{none}/tasks/0/status", None, 404),
    (
        "POST /connectors/{name}/tasks/{task}/restart",
        "/connectors/{running}/tasks/0/restart",
        None,
        204,
    ),
    (
        "POST /connectors/{name}/tasks/{task}/restart",
        "/connectors/{running}/tasks/7/restart",
        None,
        404,
    ),
    (
        "POST /connectors/{name}/tasks/{task}/restart",
        "/connectors/{none}/tasks/0/restart",
        None,
        404,
    ),
    ("GET /connectors/{name}/topics", "/connectors/{running}/topics", None, 200),
    ("GET /connectors/{name}/topics", "/connectors/{none}/topics", None, 404),
    ("PUT /connectors/{name}/topics/reset", "/connectors/{running}/topics/reset", None, 202),
    ("PUT /connectors/{name}/topics/reset", "/connectors/{none}/topics/reset", None, 404),
    ("GET /connectors/{name}/offsets", "/connectors/{running}/offsets", None, 200),
    ("GET /connectors/{name}/offsets", "/connectors/{none}/offsets", None, 404),
    (
        "PATCH /connectors/{name}/offsets",
        "/connectors/{stopped}/offsets",
        {"offsets": [OFFSET]},
        200,
    ),
    (
        "PATCH /connectors/{name}/offsets",
        "/connectors/{running}/offsets",
        {"offsets": [OFFSET]},
        400,
    ),
    ("PATCH /connectors/{name}/offsets", "/connectors/{stopped}/offsets", {"offsets": []}, 400),
    ("PATCH /connectors/{name}/offsets", "/connectors/{none}/offsets", {"offsets": [OFFSET]}, 404),
    # That it resets, with 200, takes a broker that deletes groups: see `test_kafka`.
    ("DELETE /connectors/{name}/offsets", "/connectors/{running}/offsets", None, 400),
    ("DELETE /connectors/{name}/offsets", "/connectors/{none}/offsets", None, 404),
    ("GET /connector-plugins", "/connector-plugins", None, 200),
    ("GET /connector-plugins", "/connector-plugins?connectorsOnly=false", None, 200),
    ("GET /connector-plugins/{plugin}/config", f"{PLUGIN}/config", None, 200),
    (
        "GET /connector-plugins/{plugin}/config",
        "/connector-plugins/Other/config",
        None,
        404,
    ),
    (
        "PUT /connector-plugins/{plugin}/config/validate",
        f"{PLUGIN}/config/validate",
        {"name": "{new}", "topics": "topic"},
        200,
    ),
    (
        "PUT /connector-plugins/{plugin}/config/validate",
        f"{PLUGIN}/config/validate",
        {"connector.class": "Other"},
        400,
    ),
    ("PUT /connector-plugins/{plugin}/config/validate", f"{PLUGIN}/config/validate", NOT_JSON, 400),
    (
        "PUT /connector-plugins/{plugin}/config/validate",
        "/connector-plugins/Other/config/validate",
        {},
        404,
    ),
    ("GET /admin/loggers", "/admin/loggers", None, 200),
    ("GET /admin/loggers/{name}", "/admin/loggers/root", None, 200),
    ("GET /admin/loggers/{name}", "/admin/loggers/nobody", None, 404),
    ("PUT /admin/loggers/{name}", "/admin/loggers/headrace.tests", {"level": "INFO"}, 200),
    (
        "PUT /admin/loggers/{name}",
        "/admin/loggers/headrace.tests?scope=cluster",
        {"level": "INFO"},
        204,
    ),
    (
        "PUT /admin/loggers/{name}",
        "/admin/loggers/headrace.tests?scope=all",
        {"level": "INFO"},
        400,
    ),
    ("PUT /admin/loggers/{name}", "/admin/loggers/headrace.tests", {}, 400),
    ("PUT /admin/loggers/{name}", "/admin/loggers/headrace.tests", {"level": "loud"}, 404),
]


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A worker for all cases, with a connector from a file."""
    try:
        kafka = MockKafka()
    except MockKafkaUnavailable as error:
        pytest.skip(str(error))
    kafka.create_topic("topic", 2)
    folder = tmp_path_factory.mktemp("worker")
    service = Service.open(folder)
    vectors = {"": VectorParams(size=2, distance=Distance.DOT)}
    service.create_collection("c", CollectionConfig(vectors=vectors))
    defaults = {"bootstrap.servers": kafka.bootstrap_servers}
    filed = ConnectorConfig.from_mapping({**defaults, **config_of("from-a-file")})
    worker = Worker(ConnectorStore(folder), service, defaults, from_files=[filed])
    worker.start()
    yield worker
    assert worker.stop(STOP_TIMEOUT_S)
    service.close()
    kafka.close()


@pytest.fixture(scope="module")
def client(worker: Worker) -> Iterator[TestClient]:
    with TestClient(create_worker_app(worker), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def names(client: TestClient) -> Iterator[dict[str, str]]:
    """Names in cases, and the connectors of those that are made when they are first asked for."""

    class Names(dict[str, str]):
        def __missing__(self, kind: str) -> str:
            name = f"{kind}-{uuid4().hex[:8]}"
            state = {"running": "RUNNING", "stopped": "STOPPED"}[kind]
            body = {"name": name, "config": config_of(name), "initial_state": state}
            assert client.post("/connectors", json=body).status_code == 201
            if kind == "running":
                wait_until(lambda: task_states(client, name) == ["RUNNING"])
            self[kind] = name
            return name

    names = Names(new=f"new-{uuid4().hex[:8]}", none="nobody", file="from-a-file")
    yield names
    for kind in ("new", "running", "stopped"):
        if kind in names:
            client.delete(f"/connectors/{names[kind]}")


def filled_in(text: str, names: dict[str, str]) -> str:
    for kind in ("new", "none", "file", "running", "stopped"):
        if f"{{{kind}}}" in text:
            text = text.replace(f"{{{kind}}}", names[kind])
    return text


@pytest.mark.parametrize(
    ("route", "path", "body", "status"), CASES, ids=[f"{one[0]} {one[3]}" for one in CASES]
)
def test_a_route_answers_as_kafka_connect_does(
    client: TestClient, names: dict[str, str], route: str, path: str, body: Any, status: int
) -> None:
    method = route.split()[0]
    content = body
    if isinstance(body, dict):
        body = {
            key: filled_in(value, names) if isinstance(value, str) else value
            for key, value in body.items()
        }
        if "config" in body and body["config"] == {}:
            body["config"] = {"topics": "topic"}
        content = None
    answer = client.request(
        method,
        filled_in(path, names),
        json=body if content is None and body is not None else None,
        content=content,
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == status, answer.text
    if status >= 400:
        assert set(answer.json()) == {"error_code", "message"}
        assert answer.json()["error_code"] == status
        assert answer.json()["message"]
    elif status == 204 or (status == 202 and not answer.content):
        assert answer.content == b""
    if status == 201:
        assert answer.headers["location"] == f"/connectors/{names['new']}"
    if status == 404 and "{none}" in path:
        assert answer.json()["message"] == "Connector nobody not found"


def test_every_route_has_its_cases(worker: Worker) -> None:
    served = {
        f"{method} {route.path}".replace(":int", "")
        for route in create_worker_app(worker).routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD"
    }
    assert {one[0] for one in CASES} == served
    by_route: dict[str, set[int]] = {}
    for route, _, _, status in CASES:
        by_route.setdefault(route, set()).add(status)
    # A connector that may be missing, and a body that may be wrong.
    for route, statuses in by_route.items():
        if route.startswith("PUT /connectors/{name}/config"):
            assert {200, 201, 400, 409} <= statuses
        elif "/connectors/{name}" in route:
            assert 404 in statuses, route
    assert {201, 400, 409} == by_route["POST /connectors"]


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nothing", 404), ("DELETE", "/connectors", 405)]
)
def test_what_is_no_route_answers_in_connects_shape(
    client: TestClient, method: str, path: str, status: int
) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["error_code"]) == (status, status)
