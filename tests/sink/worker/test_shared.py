"""Workers that share their connectors through a topic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from headrace.service.service import Service
from headrace.sink.client_settings import ClientSettings
from headrace.sink.worker.compacted_topic import CompactedTopic, UnusableTopic
from headrace.sink.worker.rest import create_worker_app
from headrace.sink.worker.shared import SharedConnectors
from headrace.sink.worker.shared_records import STATUS, Change, ConfigChange, RemoteTask, records_of
from headrace.sink.worker.store import ConnectorStore
from headrace.sink.worker.worker import Worker
from tests.sink.mock_kafka import MockKafka
from tests.sink.records import value
from tests.sink.worker.harness import config_of, state_of, task_states, tasks_of, wait_until

STOP_TIMEOUT_S = 20.0
TOPIC = "configs"

MakeClient = Callable[[str], TestClient]


def topic_of(kafka: MockKafka, name: str = TOPIC) -> CompactedTopic:
    return CompactedTopic(name, {"bootstrap.servers": kafka.bootstrap_servers}, 1, 1)


@pytest.fixture
def make(
    tmp_path: Path, service: Service, kafka: MockKafka, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeClient]:
    """Makes started workers by their ids, behind their REST APIs."""
    # The mock cluster never says how a topic is configured.
    monkeypatch.setattr("headrace.sink.worker.compacted_topic._DESCRIBE_TIMEOUT_S", 0.1)
    kafka.create_topic(TOPIC)
    workers: list[Worker] = []

    def make(worker_id: str) -> TestClient:
        folder = tmp_path / worker_id.replace(":", "-")
        folder.mkdir()
        defaults = {"bootstrap.servers": kafka.bootstrap_servers}
        shared = SharedConnectors(topic_of(kafka))
        worker = Worker(ConnectorStore(folder), service, defaults, worker_id, shared=shared)
        worker.start()
        workers.append(worker)
        client = TestClient(create_worker_app(worker), raise_server_exceptions=False)
        wait_until(lambda: client.get("/connectors").status_code == 200)
        return client

    yield make
    for worker in workers:
        worker.stop(STOP_TIMEOUT_S)


def post(client: TestClient, **settings: str) -> None:
    config = config_of("a", **{name.replace("__", "."): text for name, text in settings.items()})
    answer = client.post("/connectors", json={"name": "a", "config": config})
    assert answer.status_code == 201, answer.text


def test_a_connector_posted_to_one_worker_runs_on_both_and_each_answers_for_all(
    make: MakeClient, kafka: MockKafka, service: Service
) -> None:
    one, two = make("one:1"), make("two:2")
    post(one)
    wait_until(lambda: task_states(two, "a")[:1] == ["RUNNING"])
    for client, order in ((one, ["one:1", "two:2"]), (two, ["two:2", "one:1"])):
        wait_until(lambda c=client: task_states(c, "a") == ["RUNNING"] * 2)  # type: ignore[misc]
        assert [task["worker_id"] for task in tasks_of(client, "a")] == order
        assert [task["id"] for task in tasks_of(client, "a")] == [0, 1]
        assert len(client.get("/connectors/a").json()["tasks"]) == 2
    for number in range(20):
        kafka.produce("topic", value(number), partition=number % 2)
    wait_until(lambda: service.points_count("c") == 20)


def test_a_change_through_one_worker_is_acted_on_by_the_other(make: MakeClient) -> None:
    one, two = make("one:1"), make("two:2")
    post(one)
    wait_until(lambda: two.get("/connectors").json() == ["a"])
    assert two.put("/connectors/a/pause").status_code == 202
    wait_until(lambda: task_states(one, "a")[:1] == ["PAUSED"])
    assert state_of(two, "a") == "PAUSED"
    assert one.put("/connectors/a/stop").status_code == 204
    wait_until(lambda: tasks_of(two, "a") == [] == tasks_of(one, "a"))
    assert two.put("/connectors/a/resume").status_code == 202
    wait_until(lambda: task_states(one, "a")[:1] == ["RUNNING"])
    assert two.patch("/connectors/a/config", json={"batch.size": "7"}).status_code == 200
    wait_until(lambda: one.get("/connectors/a/config").json().get("batch.size") == "7")
    assert two.delete("/connectors/a").status_code == 204
    wait_until(lambda: one.get("/connectors").json() == [])
    assert two.get("/connectors").json() == []


def test_a_worker_that_starts_later_does_what_was_wanted_last(make: MakeClient) -> None:
    one = make("one:1")
    post(one)
    assert one.put("/connectors/a/stop").status_code == 204
    config = config_of("b", topics="topic")
    assert one.put("/connectors/b/config", json=config).status_code == 201
    assert one.delete("/connectors/b").status_code == 204
    late = make("late:3")
    assert late.get("/connectors").json() == ["a"]
    assert state_of(late, "a") == "STOPPED"
    assert late.put("/connectors/a/resume").status_code == 202
    wait_until(lambda: task_states(one, "a")[:1] == ["RUNNING"])


def test_of_two_changes_the_later_one_in_the_topic_wins_everywhere(
    make: MakeClient, kafka: MockKafka
) -> None:
    one, two = make("one:1"), make("two:2")
    post(one)
    topic = topic_of(kafka)
    for size in ("11", "12"):
        topic.append(records_of(ConfigChange("a", config_of("a", **{"batch.size": size}))))
    for client in (one, two):
        wait_until(
            lambda c=client: c.get("/connectors/a/config").json().get("batch.size") == "12"  # type: ignore[misc]
        )


def test_a_restart_reaches_the_tasks_of_every_worker(make: MakeClient, kafka: MockKafka) -> None:
    one, two = make("one:1"), make("two:2")
    for partition in (0, 1):
        kafka.produce("topic", b"{", partition=partition)
    post(one)
    wait_until(lambda: task_states(one, "a") == ["FAILED"] * 2 == task_states(two, "a"))
    assert one.patch("/connectors/a/config", json={"errors.tolerance": "all"}).status_code == 200
    wait_until(lambda: task_states(one, "a") == ["RUNNING"] * 2 == task_states(two, "a"))
    answer = two.post("/connectors/a/restart?includeTasks=true")
    assert answer.status_code == 202
    assert [task["state"] for task in answer.json()["tasks"]] == ["RESTARTING"] * 2
    wait_until(lambda: task_states(one, "a") == ["RUNNING"] * 2 == task_states(two, "a"))
    answer = one.post("/connectors/a/tasks/1/restart")
    assert answer.status_code == 409
    assert "runs on the worker two:2" in answer.json()["message"]


def test_a_worker_that_ends_is_no_longer_answered_for(
    make: MakeClient, tmp_path: Path, service: Service, kafka: MockKafka
) -> None:
    one = make("one:1")
    folder = tmp_path / "gone"
    folder.mkdir()
    defaults = {"bootstrap.servers": kafka.bootstrap_servers}
    shared = SharedConnectors(topic_of(kafka))
    gone = Worker(ConnectorStore(folder), service, defaults, "gone:4", shared=shared)
    gone.start()
    post(one)
    wait_until(lambda: len(tasks_of(one, "a")) == 2)
    assert gone.stop(STOP_TIMEOUT_S)
    wait_until(lambda: [task["worker_id"] for task in tasks_of(one, "a")] == ["one:1"])


def test_what_a_worker_told_that_was_killed_is_taken_out_of_the_topic(
    make: MakeClient, kafka: MockKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.sink.worker.shared._GONE_S", 2.0)
    one = make("one:1")
    post(one)
    for worker_id in ("killed:4", "alive:5"):
        kafka.produce(TOPIC, (f"{STATUS}{worker_id}".encode(), b'{"connectors":{}}'))

    def told() -> dict[str, bytes | None]:
        # The one that lives tells it again and again.
        kafka.produce(TOPIC, (f"{STATUS}alive:5".encode(), b'{"connectors":{}}'))
        pairs = [(one.key(), one.value()) for one in kafka.read(TOPIC)]
        return {key.decode(): text for key, text in pairs if key is not None}

    wait_until(lambda: told()[f"{STATUS}killed:4"] is None)
    assert told()[f"{STATUS}alive:5"] is not None
    assert told()[f"{STATUS}one:1"] is not None


def test_connectors_of_other_classes_are_passed_over_and_not_overwritten(
    make: MakeClient, kafka: MockKafka, caplog: pytest.LogCaptureFixture
) -> None:
    kafka.produce(
        TOPIC,
        (b"connector-a", b'{"properties":{"connector.class":"FileStreamSink","name":"a"}}'),
        (b"connector-bad", b"{"),
        (b"session-key", b"{}"),
        (None, b"no key"),
    )
    one = make("one:1")
    assert one.get("/connectors").json() == []
    assert "'connector-bad' is no JSON" in caplog.text
    config = config_of("a")
    assert one.post("/connectors", json={"name": "a", "config": config}).status_code == 409


def test_a_wrong_configuration_is_kept_from_the_topic(make: MakeClient, kafka: MockKafka) -> None:
    one = make("one:1")
    body = {"name": "a", "config": config_of("a", **{"batch.size": "many"})}
    assert one.post("/connectors", json=body).status_code == 400
    assert [one for one in kafka.read(TOPIC) if (one.key() or b"").startswith(b"connector")] == []


def test_without_kafka_nothing_is_known_and_nothing_is_changed(
    tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.sink.worker.compacted_topic._REQUEST_TIMEOUT_S", 0.2)
    topic = CompactedTopic(TOPIC, {"bootstrap.servers": "127.0.0.1:1", "log_level": 0}, 1, 1)
    worker = Worker(ConnectorStore(tmp_path), service, shared=SharedConnectors(topic))
    worker.start()
    client = TestClient(create_worker_app(worker), raise_server_exceptions=False)
    for method, path in (("GET", "/connectors"), ("GET", "/connectors/a/status")):
        answer = client.request(method, path)
        assert answer.status_code == 503
        assert "The connectors in topic 'configs' are not known" in answer.json()["message"]
    body = {"name": "a", "config": config_of("a", **{"bootstrap.servers": "h:1"})}
    assert client.post("/connectors", json=body).status_code == 503
    assert worker.stop(STOP_TIMEOUT_S)
    assert ConnectorStore(tmp_path).read() == []


def test_static_members_of_two_workers_have_different_names(
    make: MakeClient, kafka: MockKafka
) -> None:
    one, two = make("one:1"), make("two:2")
    post(one, group__instance__id="me", tasks__max="2")
    wait_until(lambda: task_states(one, "a") == ["RUNNING"] * 4 == task_states(two, "a"))


def test_settings_that_librdkafka_refuses_are_told_as_what_is_wrong_with_the_topic() -> None:
    wrong: ClientSettings = {"bootstrap.servers": "127.0.0.1:1", "security.protocol": "nonsense"}
    topic = CompactedTopic(TOPIC, wrong, 1, 1)
    with pytest.raises(UnusableTopic, match=r"security\.protocol.*Mend the worker's file"):
        topic.ensure()
    with pytest.raises(UnusableTopic, match=r"security\.protocol.*Mend the worker's file"):
        topic.follow(lambda *_: None, lambda: None, lambda: False)


class FaultyHost:
    """A host in which each call fails unexpectedly, the first time."""

    worker_id = "faulty:1"

    def __init__(self) -> None:
        self.calls: list[str] = []

    def load(self, wanted: object) -> None:
        self._fail_once("load")

    def apply(self, change: Change, wanted_state: object) -> None:
        self._fail_once("apply")

    def own_tasks(self) -> dict[str, list[RemoteTask]]:
        self._fail_once("own_tasks")
        return {}

    def _fail_once(self, call: str) -> None:
        self.calls.append(call)
        if self.calls.count(call) == 1:
            raise RuntimeError(f"no {call} this time")


def test_the_threads_outlive_whatever_goes_wrong_and_go_on(
    kafka: MockKafka, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("headrace.sink.worker.compacted_topic._DESCRIBE_TIMEOUT_S", 0.1)
    monkeypatch.setattr("headrace.sink.worker.shared._RETRY_S", 0.05)
    monkeypatch.setattr("headrace.sink.worker.shared._LOOK_INTERVAL_S", 0.05)
    kafka.create_topic(TOPIC)
    host = FaultyHost()
    shared = SharedConnectors(topic_of(kafka))
    shared.start(host)
    try:
        wait_until(lambda: shared.is_read)
        for size in ("11", "12"):
            shared.keep(ConfigChange("a", config_of("a", **{"batch.size": size})))
        assert host.calls.count("load") == 2 == host.calls.count("apply")
        wait_until(lambda: host.calls.count("own_tasks") > 1)
        told = (STATUS + host.worker_id).encode()
        wait_until(lambda: told in [one.key() for one in kafka.read(TOPIC)])
    finally:
        shared.stop(STOP_TIMEOUT_S)
    for call in ("load", "apply", "own_tasks"):
        assert f"no {call} this time" in caplog.text
