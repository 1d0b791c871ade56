"""Each route of a worker answers as Kafka Connect does."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.routing import Route
from starlette.testclient import TestClient

import headrace
from headrace.service.service import Service
from headrace.sink.progress import FRESHNESS_BOUNDS_S, Freshness
from headrace.sink.worker.rest import create_worker_app
from headrace.sink.worker.store import ConnectorStore
from headrace.sink.worker.worker import Worker
from tests.sink.mock_kafka import INVALID_RECORD, MockKafka
from tests.sink.records import value
from tests.sink.worker.harness import (
    PATIENCE_S,
    config_of,
    state_of,
    task_states,
    tasks_of,
    wait_until,
)

CLASS = "io.qdrant.kafka.QdrantSinkConnector"
PLUGIN = "/connector-plugins/QdrantSinkConnector"


def error_of(answer: object) -> tuple[int, str]:
    body = answer.json()  # type: ignore[attr-defined]
    assert body["error_code"] == answer.status_code  # type: ignore[attr-defined]
    return body["error_code"], body["message"]


# The worker


def test_the_root_tells_version_and_cluster(client: TestClient) -> None:
    answer = client.get("/").json()
    assert answer["version"] == headrace.__version__
    assert set(answer) == {"version", "commit", "kafka_cluster_id"}
    assert answer["kafka_cluster_id"]


def test_what_is_not_served_answers_in_connects_shape(client: TestClient) -> None:
    assert error_of(client.get("/nothing")) == (404, "HTTP 404 Not Found")
    assert error_of(client.delete("/connectors")) == (405, "HTTP 405 Method Not Allowed")


# Connectors


def test_a_new_connector_answers_201_with_its_location(client: TestClient) -> None:
    config = config_of("a b", **{"tasks.max": "2"})
    answer = client.post("/connectors", json={"name": "a b", "config": config})
    assert answer.status_code == 201
    assert answer.headers["location"] == "/connectors/a%20b"
    assert answer.json() == {
        "name": "a b",
        "config": config,
        "tasks": [{"connector": "a b", "task": 0}, {"connector": "a b", "task": 1}],
        "type": "sink",
    }
    wait_until(lambda: task_states(client, "a b") == ["RUNNING"] * 2)
    assert client.get("/connectors/a b").json() == answer.json()


@pytest.mark.parametrize(
    ("wanted", "tasks"), [("RUNNING", ["RUNNING"]), ("PAUSED", ["PAUSED"]), ("STOPPED", [])]
)
def test_a_new_connector_begins_in_its_initial_state(
    client: TestClient, wanted: str, tasks: list[str]
) -> None:
    body = {"name": "a", "config": config_of("a"), "initial_state": wanted}
    assert client.post("/connectors", json=body).status_code == 201
    wait_until(lambda: task_states(client, "a") == tasks)
    assert state_of(client, "a") == wanted


def test_a_new_connector_that_is_wrong_answers_400_with_every_error(client: TestClient) -> None:
    config = config_of("a", **{"batch.size": "many", "errors.tolerance": "some"})
    code, text = error_of(client.post("/connectors", json={"name": "a", "config": config}))
    assert code == 400
    assert "invalid and contains the following 2 error(s):\n" in text
    assert "batch.size: 'many' is not a number" in text
    assert "errors.tolerance: 'some' must be one of none, all" in text
    assert "`/connector-plugins/QdrantSinkConnector/config/validate`" in text
    assert client.get("/connectors").json() == []


def test_a_body_that_is_none_answers_400(client: TestClient) -> None:
    json_type = {"content-type": "application/json"}
    assert error_of(client.post("/connectors", content=b"{", headers=json_type))[0] == 400
    assert error_of(client.post("/connectors", json={"name": "a"}))[0] == 400
    body = {"name": "b", "config": config_of("a")}
    assert "doesn't match connector name" in error_of(client.post("/connectors", json=body))[1]


def test_a_name_that_is_taken_answers_409(client: TestClient, running: dict[str, str]) -> None:
    answer = client.post("/connectors", json={"name": "a", "config": running})
    assert error_of(answer) == (409, "Connector a already exists")


def test_connectors_are_listed_by_name_and_expanded_on_demand(
    client: TestClient, running: dict[str, str]
) -> None:
    assert client.get("/connectors").json() == ["a"]
    expanded = client.get("/connectors?expand=status&expand=info").json()
    assert set(expanded["a"]) == {"status", "info"}
    assert expanded["a"]["status"]["connector"]["state"] == "RUNNING"
    assert expanded["a"]["info"] == client.get("/connectors/a").json()
    assert error_of(client.get("/connectors?expand=all"))[0] == 400


def test_a_deleted_connector_answers_204_and_is_gone(
    client: TestClient, running: dict[str, str]
) -> None:
    assert client.delete("/connectors/a").status_code == 204
    assert error_of(client.delete("/connectors/a")) == (404, "Connector a not found")
    assert client.get("/connectors").json() == []


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/resume"), ("POST", "/tasks/0/restart"), ("PATCH", "/config"), ("DELETE", "")],
)
def test_a_call_that_waited_while_its_connector_was_deleted_answers_404(
    client: TestClient, worker: Worker, running: dict[str, str], method: str, path: str
) -> None:
    managed = worker._connectors["a"]
    body = {"batch.size": "7"} if method == "PATCH" else None
    answers: list[int] = []

    def call() -> None:
        answers.append(client.request(method, f"/connectors/a{path}", json=body).status_code)

    calling = threading.Thread(target=call)
    with managed.lock:
        calling.start()
        # By then it has found the connector, and waits for what goes on with it.
        time.sleep(0.5)
        worker.delete("a")
        assert client.post("/connectors", json={"name": "a", "config": running}).status_code == 201
    calling.join(PATIENCE_S)
    assert answers == [404]
    assert managed.connector is None
    assert client.get("/connectors").json() == ["a"]


@pytest.mark.parametrize(
    "route",
    [
        *("GET /", "DELETE /", "GET /config", "GET /status", "PUT /pause", "PUT /resume"),
        *("PUT /stop", "POST /restart", "GET /tasks", "GET /tasks/0/status", "GET /topics"),
        *("POST /tasks/0/restart", "PUT /topics/reset", "GET /offsets", "DELETE /offsets"),
    ],
)
def test_a_connector_that_is_not_there_answers_404(client: TestClient, route: str) -> None:
    method, path = route.split()
    answer = client.request(method, f"/connectors/x{path.rstrip('/')}")
    assert error_of(answer) == (404, "Connector x not found")


# Configurations


def test_a_configuration_is_put_with_201_if_new_else_200(client: TestClient) -> None:
    config = config_of("a")
    del config["name"]
    assert client.put("/connectors/a/config", json=config).status_code == 201
    answer = client.put("/connectors/a/config", json={**config, "tasks.max": "2"})
    assert answer.status_code == 200
    assert len(answer.json()["tasks"]) == 2
    assert client.get("/connectors/a/config").json() == {**config, "tasks.max": "2", "name": "a"}


def test_a_null_in_a_patch_removes_a_key(client: TestClient, running: dict[str, str]) -> None:
    patch = {"batch.size": "7", "errors.tolerance": None}
    answer = client.patch("/connectors/a/config", json=patch)
    assert answer.status_code == 200
    changed = {**running, "batch.size": "7"}
    del changed["errors.tolerance"]
    assert client.get("/connectors/a/config").json() == changed
    assert error_of(client.patch("/connectors/x/config", json={}))[0] == 404
    assert error_of(client.patch("/connectors/a/config", json={"batch.size": "0"}))[0] == 400
    assert client.get("/connectors/a/config").json() == changed


def test_a_bare_secret_is_hidden_and_stays_when_it_is_put_back(
    client: TestClient, tmp_path: Path
) -> None:
    secret = {"consumer.override.sasl.password": "opensesame"}
    body = {"name": "a", "config": config_of("a", **secret), "initial_state": "STOPPED"}
    answer = client.post("/connectors", json=body)
    assert "opensesame" not in answer.text
    shown = client.get("/connectors/a/config").json()
    assert shown["consumer.override.sasl.password"] == "[hidden]"
    assert client.put("/connectors/a/config", json=shown).status_code == 200
    (kept,) = ConnectorStore(tmp_path).read()
    assert kept.config is not None
    assert kept.config["consumer.override.sasl.password"] == "opensesame"
    new = {"name": "b", "config": {**shown, "name": "b"}}
    assert "was hidden when it was read" in error_of(client.post("/connectors", json=new))[1]


def test_a_placeholder_is_shown_and_kept_as_it_is(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESAME", "opensesame")
    secret = {"consumer.override.sasl.password": "${env:SESAME}"}
    body = {"name": "a", "config": config_of("a", **secret), "initial_state": "STOPPED"}
    client.post("/connectors", json=body)
    assert client.get("/connectors/a/config").json() == body["config"]
    assert b"opensesame" not in (tmp_path / "connectors.doc").read_bytes()


# States


def test_a_status_names_the_worker_and_the_state_of_each_task(
    client: TestClient, running: dict[str, str]
) -> None:
    worker_id = "127.0.0.1:8083"
    assert client.get("/connectors/a/status").json() == {
        "name": "a",
        "connector": {"state": "RUNNING", "worker_id": worker_id},
        "tasks": [{"id": 0, "state": "RUNNING", "worker_id": worker_id}],
        "type": "sink",
    }


def test_a_paused_connector_reads_on_once_it_is_resumed(
    client: TestClient, running: dict[str, str], kafka: MockKafka, service: Service
) -> None:
    assert client.put("/connectors/a/pause").status_code == 202
    wait_until(lambda: task_states(client, "a") == ["PAUSED"])
    assert state_of(client, "a") == "PAUSED"
    kafka.produce("topic", value(3))
    assert service.points_count("c") == 2
    assert client.put("/connectors/a/resume").status_code == 202
    wait_until(lambda: service.points_count("c") == 3)
    assert state_of(client, "a") == "RUNNING"


def test_a_stopped_connector_has_no_tasks_until_it_is_resumed(
    client: TestClient, running: dict[str, str], kafka: MockKafka, service: Service
) -> None:
    assert client.put("/connectors/a/stop").status_code == 204
    assert state_of(client, "a") == "STOPPED"
    assert tasks_of(client, "a") == []
    assert client.get("/connectors/a/tasks").json() == []
    kafka.produce("topic", value(3))
    assert client.put("/connectors/a/resume").status_code == 202
    wait_until(lambda: service.points_count("c") == 3)


def test_a_restart_of_the_connector_alone_answers_204(
    client: TestClient, running: dict[str, str]
) -> None:
    assert client.post("/connectors/a/restart").status_code == 204


def test_a_restart_with_tasks_answers_202_with_the_states(
    client: TestClient, running: dict[str, str], kafka: MockKafka, service: Service
) -> None:
    answer = client.post("/connectors/a/restart?includeTasks=true")
    assert answer.status_code == 202
    assert answer.json()["connector"]["state"] == "RESTARTING"
    assert [one["state"] for one in answer.json()["tasks"]] == ["RESTARTING"]
    kafka.produce("topic", value(3))
    wait_until(lambda: service.points_count("c") == 3)
    answer = client.post("/connectors/a/restart?includeTasks=true&onlyFailed=true")
    assert answer.status_code == 202
    assert [one["state"] for one in answer.json()["tasks"]] == ["RUNNING"]
    assert error_of(client.post("/connectors/a/restart?includeTasks=maybe"))[0] == 400


def test_a_failed_task_has_a_trace_and_runs_again_when_it_is_restarted(
    client: TestClient, kafka: MockKafka, service: Service
) -> None:
    kafka.produce("topic", value(1, collection_name="later"))
    client.post("/connectors", json={"name": "a", "config": config_of("a")})
    wait_until(lambda: task_states(client, "a") == ["FAILED"])
    task = client.get("/connectors/a/tasks/0/status").json()
    assert (task["id"], task["state"], task["worker_id"]) == (0, "FAILED", "127.0.0.1:8083")
    assert "Collection `later` doesn't exist!" in task["trace"]
    assert state_of(client, "a") == "RUNNING"
    service.create_collection("later", service.collection_config("c"))
    assert client.post("/connectors/a/tasks/0/restart").status_code == 204
    wait_until(lambda: service.points_count("later") == 1)
    assert error_of(client.post("/connectors/a/tasks/1/restart"))[0] == 404
    assert error_of(client.get("/connectors/a/tasks/1/status"))[0] == 404


def test_a_connector_that_cannot_start_is_failed_until_it_can_and_is_restarted(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHERE", "http://127.0.0.1:1")
    config = config_of("a", **{"qdrant.grpc.url": "${env:WHERE}"})
    body = {"name": "a", "config": config, "initial_state": "STOPPED"}
    assert client.post("/connectors", json=body).status_code == 201
    monkeypatch.delenv("WHERE")
    client.put("/connectors/a/resume")
    assert state_of(client, "a") == "FAILED"
    trace = client.get("/connectors/a/status").json()["connector"]["trace"]
    assert "the environment variable 'WHERE' is not set" in trace
    monkeypatch.setenv("WHERE", "http://127.0.0.1:1")
    assert client.post("/connectors/a/restart").status_code == 204
    assert state_of(client, "a") == "RUNNING"


def test_tasks_are_listed_with_their_configuration(
    client: TestClient, running: dict[str, str]
) -> None:
    (task,) = client.get("/connectors/a/tasks").json()
    assert task["id"] == {"connector": "a", "task": 0}
    assert task["config"] == {**running, "task.class": "io.qdrant.kafka.QdrantSinkTask"}


def test_topics_are_those_that_were_read_until_they_are_reset(
    client: TestClient, running: dict[str, str]
) -> None:
    assert client.get("/connectors/a/topics").json() == {"a": {"topics": ["topic"]}}
    assert client.put("/connectors/a/topics/reset").status_code == 202
    assert client.get("/connectors/a/topics").json() == {"a": {"topics": []}}


def test_numbers_and_booleans_of_a_configuration_are_taken_for_their_texts(
    client: TestClient,
) -> None:
    config = {
        **config_of("a"),
        "tasks.max": 2,
        "collection.auto.create": True,
        "topics.regex": None,
    }
    made = client.post("/connectors", json={"name": "a", "config": config})
    assert made.status_code == 201
    expected = {**config_of("a"), "tasks.max": "2", "collection.auto.create": "true"}
    assert made.json()["config"] == expected
    assert client.put("/connectors/a/config", json=config).json()["config"] == expected
    changed = client.patch("/connectors/a/config", json={"tasks.max": 1, "linger.ms": 7})
    assert changed.json()["config"] == {**expected, "tasks.max": "1", "linger.ms": "7"}
    assert set(validate(client, {**config, "batch.size": 0})) == {"batch.size"}


def test_a_name_with_a_slash_is_reached_where_the_location_says(client: TestClient) -> None:
    config = config_of("a/b c")
    made = client.post("/connectors", json={"name": "a/b c", "config": config})
    assert made.headers["location"] == "/connectors/a%2Fb%20c"
    for part in ("", "/config", "/status", "/topics", "/offsets"):
        assert client.get(made.headers["location"] + part).status_code == 200
    assert client.delete(made.headers["location"]).status_code == 204
    assert client.get("/connectors").json() == []


# Offsets


def offset(partition: int, at: int | None) -> dict[str, object]:
    return {
        "partition": {"kafka_topic": "topic", "kafka_partition": partition},
        "offset": None if at is None else {"kafka_offset": at},
    }


def test_offsets_are_those_of_the_next_records(client: TestClient, running: dict[str, str]) -> None:
    expected = {"offsets": [offset(0, 3), offset(1, 0)]}
    wait_until(lambda: client.get("/connectors/a/offsets").json() == expected)


def test_offsets_change_only_while_the_connector_is_stopped(
    client: TestClient, running: dict[str, str]
) -> None:
    for answer in (
        client.patch("/connectors/a/offsets", json={"offsets": [offset(0, 1)]}),
        client.delete("/connectors/a/offsets"),
    ):
        code, text = error_of(answer)
        assert code == 400
        assert "must be in the STOPPED state" in text
        assert "'/connectors/a/stop'" in text


@pytest.mark.parametrize(
    "body",
    [
        {"offsets": []},
        {"offsets": [offset(0, -1)]},
        {"offsets": [offset(-1, 0)]},
        {"offsets": [offset(2, 0)]},
        {"offsets": [offset(0, None), offset(2, 0)]},
        {"offsets": [offset(2**31, 0)]},
        {"offsets": [offset(0, 2**63)]},
        {
            "offsets": [
                {
                    "partition": {"kafka_topic": "none", "kafka_partition": 0},
                    "offset": {"kafka_offset": 1},
                }
            ]
        },
        {"offsets": [{"partition": {"kafka_topic": "topic"}, "offset": {"kafka_offset": 1}}]},
        {},
    ],
)
def test_offsets_that_are_none_answer_400(
    client: TestClient, running: dict[str, str], body: object
) -> None:
    client.put("/connectors/a/stop")
    before = client.get("/connectors/a/offsets").json()
    assert error_of(client.patch("/connectors/a/offsets", json=body))[0] == 400
    assert client.get("/connectors/a/offsets").json() == before


# Plugins


def test_the_plugin_is_listed_under_its_java_name(client: TestClient) -> None:
    (plugin,) = client.get("/connector-plugins").json()
    assert plugin == {"class": CLASS, "type": "sink", "version": headrace.__version__}
    found = client.get("/connector-plugins?connectorsOnly=false").json()
    by_type = Counter(one["type"] for one in found)
    assert by_type == {
        "sink": 1,
        "converter": 6,
        "header_converter": 4,
        "transformation": 24,
        "predicate": 3,
    }
    assert "org.apache.kafka.connect.transforms.ReplaceField$Key" in {one["class"] for one in found}


def test_a_plugins_configuration_lists_every_key(client: TestClient) -> None:
    from headrace.sink.config_keys import SUPPORTED_KEYS

    definitions: list[dict[str, str]] = []
    for name in ("QdrantSinkConnector", CLASS):
        definitions = client.get(f"/connector-plugins/{name}/config").json()
        assert {one["name"] for one in definitions} == SUPPORTED_KEYS
    by_name = {one["name"]: one["type"] for one in definitions}
    assert by_name["qdrant.api.key"] == "PASSWORD"
    assert by_name["tasks.max"] == "LONG"
    assert error_of(client.get("/connector-plugins/Other/config"))[0] == 404


def validate(client: TestClient, config: Mapping[str, object]) -> dict[str, list[str]]:
    answer = client.put(f"{PLUGIN}/config/validate", json=config)
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {"name", "error_count", "groups", "configs"}
    errors = {
        one["value"]["name"]: one["value"]["errors"]
        for one in body["configs"]
        if one["value"]["errors"]
    }
    assert len(errors) == body["error_count"]
    assert {one["definition"]["group"] for one in body["configs"]} == set(body["groups"])
    return errors


def test_a_good_configuration_is_valid(client: TestClient) -> None:
    assert validate(client, config_of("a", **{"qdrant.collection.name": "c"})) == {}


@pytest.mark.parametrize(
    ("settings", "key", "told"),
    [
        ({"topics.regex": "t.*"}, "topics", "either topics or topics.regex"),
        ({"topics": "other"}, "topics", "no topic 'other'"),
        (
            {"consumer.override.session.timeout.ms": "soon"},
            "consumer.override.session.timeout.ms",
            "Invalid value",
        ),
        (
            {"consumer.override.security.protocol": "FOO"},
            "consumer.override.security.protocol",
            'Invalid value "FOO"',
        ),
        ({"bootstrap.servers": "127.0.0.1:1"}, "bootstrap.servers", "no broker answers"),
        ({"qdrant.collection.name": "d"}, "qdrant.collection.name", "`d` doesn't exist"),
        ({"qdrant.grpc.url": "http://127.0.0.1:1"}, "qdrant.grpc.url", "cannot be used"),
        ({"qdrant.rest.url": "http://127.0.0.1:1"}, "qdrant.rest.url", "cannot be used"),
        ({"qdrant.grpc.url": "nowhere"}, "qdrant.grpc.url", "must be a URL"),
        (
            {"errors.deadletterqueue.topic.name": "topic"},
            "errors.deadletterqueue.topic.name",
            "one of the inputs",
        ),
    ],
)
def test_a_validation_names_the_key_that_is_wrong_now(
    client: TestClient, settings: dict[str, str], key: str, told: str
) -> None:
    errors = validate(client, config_of("a", **settings))
    assert set(errors) == {key}
    assert told in errors[key][0]


def test_a_validation_names_every_key_that_is_wrong(client: TestClient) -> None:
    errors = validate(client, {"batch.size": "many", "tasks.max": "0"})
    assert set(errors) == {"name", "topics", "batch.size", "tasks.max"}


def test_a_validation_of_another_plugin_is_refused(client: TestClient) -> None:
    path = "/connector-plugins/Other/config/validate"
    assert error_of(client.put(path, json={}))[0] == 404
    body = {"connector.class": "Other"}
    assert error_of(client.put(f"{PLUGIN}/config/validate", json=body))[0] == 400


# Loggers


def test_levels_of_loggers_are_read_and_set(client: TestClient) -> None:
    name = "headrace.tests.worker"
    child = logging.getLogger(f"{name}.child")
    answer = client.put(f"/admin/loggers/{name}", json={"level": "debug"})
    assert (answer.status_code, answer.json()) == (200, [name, f"{name}.child"])
    assert child.getEffectiveLevel() == logging.DEBUG
    found = client.get(f"/admin/loggers/{name}").json()
    assert found["level"] == "DEBUG"
    assert found["last_modified"] > 0
    every = client.get("/admin/loggers").json()
    assert every[name] == found
    assert every["root"]["level"] in ("WARN", "INFO", "DEBUG", "ERROR")
    assert error_of(client.get("/admin/loggers/nobody")) == (404, "Logger nobody not found.")
    answer = client.put(f"/admin/loggers/{name}", json={"level": "loud"})
    assert error_of(answer) == (404, "Invalid log level 'loud'.")
    answer = client.put(f"/admin/loggers/{name}?scope=cluster", json={"level": "INFO"})
    assert answer.status_code == 204


# Metrics


def metric(client: TestClient, name: str, **labels: str) -> float | None:
    every = {"connector": "a", "task": "0", **labels}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            if sample.name == name and sample.labels == every:
                return sample.value
    return None


def test_metrics_tell_counts_lag_and_freshness(client: TestClient, running: dict[str, str]) -> None:
    def is_zero(partition: str) -> bool:
        lag = metric(client, "headrace_sink_partition_lag", topic="topic", partition=partition)
        return lag == 0

    for partition in ("0", "1"):
        wait_until(partial(is_zero, partition))
    for name, expected in {
        "sink_task_sink_record_read_total": 3,
        "sink_task_sink_record_send_total": 2,
        "sink_task_partition_count": 2,
        "sink_task_sink_record_lag_max": 0,
        "task_error_total_record_failures": 1,
        "task_error_total_records_skipped": 1,
        "task_error_total_retries": 0,
        "task_error_deadletterqueue_produce_requests": 0,
        "task_error_deadletterqueue_produce_failures": 0,
    }.items():
        assert metric(client, f"kafka_connect_{name}") == expected, name
    average = metric(client, "kafka_connect_sink_task_put_batch_avg_time_ms")
    longest = metric(client, "kafka_connect_sink_task_put_batch_max_time_ms")
    assert average is not None
    assert longest is not None
    assert 0 < average <= longest
    commits = "kafka_connect_sink_task_offset_commit_completion_total"
    wait_until(lambda: (metric(client, commits) or 0) > 0)
    assert metric(client, "headrace_sink_bad_records_total", reason="invalid_id") == 1
    freshness = "headrace_sink_freshness_seconds"
    assert metric(client, f"{freshness}_count") == 2
    assert metric(client, f"{freshness}_bucket", le="+Inf") == 2


def test_the_freshness_of_a_record_is_counted_in_the_bucket_of_its_age() -> None:
    freshness = Freshness()
    freshness.observe(np.array([100_000, 99_000, 101_000], np.int64), now_s=100.0)
    assert freshness.counts[0] == 2
    assert freshness.counts[FRESHNESS_BOUNDS_S.index(1.0)] == 1
    assert freshness.total_s == 1.0


# What stays


def test_a_worker_that_starts_again_has_its_connectors_in_the_states_that_were_wanted(
    worker: Worker, client: TestClient, running: dict[str, str], tmp_path: Path, service: Service
) -> None:
    client.put("/connectors/a/pause")
    client.post("/connectors", json={"name": "b", "config": config_of("b")})
    client.put("/connectors/b/stop")
    client.get("/connectors/a/topics")
    assert worker.stop(20)
    again = Worker(ConnectorStore(tmp_path), service, worker.defaults)
    again.start()
    try:
        assert again.names() == ["a", "b"]
        wait_until(lambda: [one.state for one in again.standing("a").tasks] == ["PAUSED"])
        assert again.standing("b").state == "STOPPED"
        assert again.config("a") == running
        assert again.topics("a") == ["topic"]
    finally:
        assert again.stop(20)


def test_a_dead_letter_topic_that_takes_nothing_is_counted(
    client: TestClient, kafka: MockKafka
) -> None:
    kafka.create_topic("dead")
    kafka.produce("topic", value(-1))
    kafka.fail_next(0, [INVALID_RECORD] * 20)
    config = config_of(
        "a",
        **{"errors.tolerance": "all", "errors.deadletterqueue.topic.name": "dead"},
    )
    client.post("/connectors", json={"name": "a", "config": config})
    wait_until(lambda: task_states(client, "a") == ["FAILED"])
    assert metric(client, "kafka_connect_task_error_deadletterqueue_produce_failures") == 1


def test_every_route_is_documented(worker: Worker) -> None:
    served = {
        f"{method} {route.path}".replace(":int", "")
        for route in create_worker_app(worker).routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD"
    }
    text = (Path(headrace.__file__).parents[2] / "docs/configuration.md").read_text()
    documented = re.findall(r"^\| `((?:GET|PUT|POST|PATCH|DELETE) \S+)` \|", text, re.MULTILINE)
    assert set(documented) == served
