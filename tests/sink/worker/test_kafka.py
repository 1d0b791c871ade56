"""A worker against Apache Kafka: its offsets, and what Kafka's own tools show of its groups."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from headrace.model.operations import DeletePoints, PointSelector
from headrace.service.service import Service
from headrace.sink.worker.rest import create_worker_app
from headrace.sink.worker.store import ConnectorStore
from headrace.sink.worker.worker import Worker
from tests.kafka.node import consumer_groups
from tests.sink.records import value
from tests.sink.worker.harness import config_of, wait_until
from tests.stream.harness import new_topic, produce

pytestmark = pytest.mark.kafka

STOP_TIMEOUT_S = 30.0


@pytest.fixture
def client(tmp_path: Path, service: Service, kafka_bootstrap_servers: str) -> Iterator[TestClient]:
    """A worker of the Kafka node, in the place of the mock cluster's."""
    defaults = {"bootstrap.servers": kafka_bootstrap_servers}
    worker = Worker(ConnectorStore(tmp_path), service, defaults)
    worker.start()
    with TestClient(create_worker_app(worker)) as client:
        yield client
    assert worker.stop(STOP_TIMEOUT_S)


@pytest.fixture
def topic(client: TestClient, kafka_bootstrap_servers: str, service: Service) -> str:
    """A topic whose three points a connector of the same name has taken."""
    topic = new_topic(kafka_bootstrap_servers, "worker")
    produce(kafka_bootstrap_servers, topic, [(None, value(one)) for one in (1, 2, 3)])
    settings = {"consumer.override.session.timeout.ms": "6000"}
    config = config_of(topic, topics=topic, **settings)
    assert client.post("/connectors", json={"name": topic, "config": config}).status_code == 201
    wait_until(lambda: service.points_count("c") == 3)
    wait_until(lambda: offsets(client, topic) == {0: 3})
    return topic


def offsets(client: TestClient, name: str) -> dict[int, int]:
    found = client.get(f"/connectors/{name}/offsets").json()["offsets"]
    return {one["partition"]["kafka_partition"]: one["offset"]["kafka_offset"] for one in found}


def row_of(bootstrap_servers: str, topic: str) -> dict[str, str]:
    """What `kafka-consumer-groups --describe` shows of the connector's one partition."""
    done: subprocess.CompletedProcess[str] = consumer_groups(
        bootstrap_servers, "--describe", "--group", f"connect-{topic}"
    )
    lines = [line.split() for line in done.stdout.splitlines() if line.strip()]
    headings = next((line for line in lines if line[0] == "GROUP"), [])
    rows = [dict(zip(headings, line, strict=False)) for line in lines if topic in line]
    return rows[0] if rows else {}


def test_kafkas_own_tool_shows_the_group_and_its_lag(
    client: TestClient, topic: str, kafka_bootstrap_servers: str
) -> None:
    client.put(f"/connectors/{topic}/stop")
    produce(kafka_bootstrap_servers, topic, [(None, value(4)), (None, value(5))])
    row = row_of(kafka_bootstrap_servers, topic)
    assert row["GROUP"] == f"connect-{topic}"
    assert (row["CURRENT-OFFSET"], row["LOG-END-OFFSET"], row["LAG"]) == ("3", "5", "2")


def test_a_connector_reads_on_from_changed_offsets_and_its_collections_take_again(
    client: TestClient, topic: str, service: Service
) -> None:
    partition = {"kafka_topic": topic, "kafka_partition": 0}
    client.put(f"/connectors/{topic}/stop")
    service.write("c", [DeletePoints(PointSelector(ids=(1, 2, 3)))])
    body = {"offsets": [{"partition": partition, "offset": {"kafka_offset": 1}}]}
    answer = client.patch(f"/connectors/{topic}/offsets", json=body)
    assert answer.json() == {
        "message": "The offsets for this connector have been altered successfully"
    }
    assert offsets(client, topic) == {0: 1}
    client.put(f"/connectors/{topic}/resume")
    wait_until(lambda: service.points_count("c") == 2)
    wait_until(lambda: offsets(client, topic) == {0: 3})


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_a_connector_whose_offsets_were_reset_reads_all_again(
    client: TestClient, topic: str, service: Service, method: str, kafka_bootstrap_servers: str
) -> None:
    client.put(f"/connectors/{topic}/stop")
    service.write("c", [DeletePoints(PointSelector(ids=(1, 2, 3)))])
    partition = {"kafka_topic": topic, "kafka_partition": 0}
    body = {"offsets": [{"partition": partition, "offset": None}]}
    answer = client.request(
        method, f"/connectors/{topic}/offsets", json=body if method == "PATCH" else None
    )
    assert answer.status_code == 200
    assert offsets(client, topic) == {}
    assert row_of(kafka_bootstrap_servers, topic) == {}
    client.put(f"/connectors/{topic}/resume")
    wait_until(lambda: service.points_count("c") == 3)


def test_offsets_of_a_stopped_static_connector_can_be_changed_once_its_session_is_over(
    client: TestClient, topic: str
) -> None:
    config = client.get(f"/connectors/{topic}/config").json()
    client.put(f"/connectors/{topic}/config", json={**config, "group.instance.id": "a"})
    # It is a member once it has a partition.
    wait_until(
        lambda: (
            f'partition_count{{connector="{topic}",task="0"}} 1.0' in client.get("/metrics").text
        )
    )
    client.put(f"/connectors/{topic}/stop")
    answer = client.delete(f"/connectors/{topic}/offsets")
    assert answer.status_code == 503
    assert "session.timeout.ms after they have stopped" in answer.json()["message"]
    wait_until(lambda: client.delete(f"/connectors/{topic}/offsets").status_code == 200)
