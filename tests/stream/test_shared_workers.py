"""Workers that share their connectors through a topic of Apache Kafka."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]
from confluent_kafka.cimpl import NewTopic
from qdrant_client import QdrantClient, models

from headrace.server.run import Serving
from headrace.sink.client_settings import ClientSettings
from headrace.sink.worker.compacted_topic import CompactedTopic, UnusableTopic
from tests.stream.harness import (
    CALL_TIMEOUT_S,
    HeadraceProcess,
    all_points,
    connector_settings,
    fold,
    new_topic,
    produce,
    rest_client,
    wait_until,
    write_properties,
)
from tests.stream.test_targets import make_collection, stream, wait_until_equal

pytestmark = pytest.mark.kafka


@pytest.fixture
def config_topic(kafka_bootstrap_servers: str, tmp_path: Path) -> str:
    """The name of a topic that is not there yet."""
    return f"configs-{tmp_path.name}".replace("_", "-")


def worker_file(folder: Path, bootstrap_servers: str, config_topic: str) -> Path:
    settings = {
        "bootstrap.servers": bootstrap_servers,
        "group.id": "connect-cluster",
        "config.storage.topic": config_topic,
        "config.storage.replication.factor": "1",
        "status.storage.topic": f"{config_topic}-status",
        "status.storage.replication.factor": "1",
        "offset.storage.topic": "connect-offsets",
    }
    return write_properties(folder / "connect-distributed.properties", settings)


class SharedWorker:
    """A `headrace sink worker` process, and its REST API."""

    def __init__(self, folder: Path, name: str, properties: Path) -> None:
        self._process = HeadraceProcess(
            folder / f"{name}.log",
            *("sink", "worker", "--data", folder / name, "--connect-port", "0"),
            *("--worker-config", properties),
        )

    def wait_until_known(self) -> None:
        self._process.wait_until_serving()
        wait_until(lambda: self.call("GET", "/connectors").status_code == 200, "known connectors")

    @property
    def port(self) -> str:
        return self._process.rest_url.rpartition(":")[2]

    def call(self, method: str, path: str, body: object = None) -> httpx.Response:
        url = self._process.rest_url + path
        return httpx.request(method, url, json=body, timeout=CALL_TIMEOUT_S)

    def tasks(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (
            self.call("GET", f"/connectors/{name}/status").json().get("tasks", [])
        )
        return found

    def kill(self) -> None:
        self._process.kill()

    def terminate(self) -> int:
        return self._process.terminate()


@pytest.fixture
def workers(
    tmp_path: Path, kafka_bootstrap_servers: str, config_topic: str
) -> Iterator[list[SharedWorker]]:
    """Two workers of one topic."""
    properties = worker_file(tmp_path, kafka_bootstrap_servers, config_topic)
    workers = [SharedWorker(tmp_path, name, properties) for name in ("one", "two")]
    try:
        for worker in workers:
            worker.wait_until_known()
        yield workers
    finally:
        for worker in workers:
            worker.kill()


def ports(tasks: list[dict[str, Any]]) -> set[str]:
    assert {task["state"] for task in tasks} <= {"RUNNING"}
    return {task["worker_id"].rpartition(":")[2] for task in tasks}


def test_two_workers_run_one_connector_and_the_stream_survives_either_of_them(
    workers: list[SharedWorker], kafka_bootstrap_servers: str, serving: Serving
) -> None:
    one, two = workers
    topic = new_topic(kafka_bootstrap_servers, "shared", 2)
    settings = connector_settings(kafka_bootstrap_servers, topic)
    settings["qdrant.grpc.url"] = f"http://{serving.grpc_address}"
    del settings["bootstrap.servers"]
    name = settings["name"]
    with rest_client(serving.rest_url) as client:
        make_collection(client)
        answer = one.call("POST", "/connectors", {"name": name, "config": settings})
        assert answer.status_code == 201, answer.text
        for worker in workers:
            wait_until(
                lambda w=worker: ports(w.tasks(name)) == {one.port, two.port},  # type: ignore[misc]
                "tasks of both workers in the status of each",
            )
        produce(kafka_bootstrap_servers, topic, stream(seed=1))
        one.kill()
        produce(kafka_bootstrap_servers, topic, stream(seed=2))
        wait_until_equal(client, fold(kafka_bootstrap_servers, topic))
        assert two.call("DELETE", f"/connectors/{name}").status_code == 204
        assert two.terminate() == 0


def test_the_topic_is_made_compacted_with_one_partition(
    workers: list[SharedWorker], kafka_bootstrap_servers: str, config_topic: str
) -> None:
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap_servers})
    topics = admin.list_topics(timeout=CALL_TIMEOUT_S).topics
    assert len(topics[config_topic].partitions) == 1
    assert len(topics[f"{config_topic}-status"].partitions) == 5
    for name in (config_topic, f"{config_topic}-status"):
        resource = ConfigResource(ConfigResource.Type.TOPIC, name)
        found = admin.describe_configs([resource])[resource].result(CALL_TIMEOUT_S)
        assert found["cleanup.policy"].value == "compact"


@pytest.mark.parametrize(
    ("partitions", "policy", "text"),
    [(1, "delete", "cleanup.policy=delete"), (2, "compact", "has 2 partitions, and must have one")],
)
def test_a_topic_that_would_lose_connectors_is_refused(
    kafka_bootstrap_servers: str, config_topic: str, partitions: int, policy: str, text: str
) -> None:
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap_servers})
    topic = NewTopic(config_topic, partitions, 1, config={"cleanup.policy": policy})
    admin.create_topics([topic])[config_topic].result(CALL_TIMEOUT_S)
    settings: ClientSettings = {"bootstrap.servers": kafka_bootstrap_servers}
    with pytest.raises(UnusableTopic, match=text):
        CompactedTopic(config_topic, settings, 1, 1).ensure()


def test_plain_texts_of_a_topic_can_be_searched_by_their_words(
    kafka_bootstrap_servers: str, tmp_path: Path, serving: Serving
) -> None:
    topic = new_topic(kafka_bootstrap_servers, "texts")
    texts = {1: "the harbour at night", 2: "mountains in the morning", 3: "night trains"}
    produce(kafka_bootstrap_servers, topic, [(b"%d" % n, one.encode()) for n, one in texts.items()])
    settings = connector_settings(kafka_bootstrap_servers, topic) | {
        "value.converter": "string",
        "vector.from.text": "text",
        "id.from": "key",
        "qdrant.collection.name": topic,
        "collection.auto.create": "true",
        "qdrant.rest.url": serving.rest_url,
    }
    del settings["value.converter.schemas.enable"]
    sink = HeadraceProcess(
        tmp_path / "sink.log", "sink", "run", write_properties(tmp_path / "c.properties", settings)
    )
    try:
        with rest_client(serving.rest_url) as client:
            wait_until(lambda: client.collection_exists(topic), "the collection")
            wait_until(lambda: len(all_points(client, topic)) == 3, "three points")
            assert found(client, topic, "nights") == {1, 3}
            assert found(client, topic, "mountain") == {2}
    finally:
        sink.kill()


def found(client: QdrantClient, collection_name: str, words: str) -> set[object]:
    query = models.Document(text=words, model="qdrant/bm25")
    body = {"query": json.loads(query.model_dump_json(exclude_none=True)), "using": "bm25"}
    url = f"{client._client.rest_uri}/collections/{collection_name}/points/query"  # type: ignore[attr-defined]
    points = httpx.post(url, json=body, timeout=CALL_TIMEOUT_S).json()["result"]["points"]
    return {one["id"] for one in points}
