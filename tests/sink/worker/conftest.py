"""A worker over a store and a mock cluster, behind its REST API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from headrace.model.collection_config import CollectionConfig, VectorParams
from headrace.model.vectors import Distance
from headrace.service.service import Service
from headrace.sink.worker.rest import create_worker_app
from headrace.sink.worker.store import ConnectorStore
from headrace.sink.worker.worker import Worker
from tests.sink.mock_kafka import MockKafka, MockKafkaUnavailable

STOP_TIMEOUT_S = 20.0


@pytest.fixture
def kafka() -> Iterator[MockKafka]:
    """A cluster of one broker with a topic."""
    try:
        cluster = MockKafka()
    except MockKafkaUnavailable as error:
        pytest.skip(str(error))
    cluster.create_topic("topic", 2)
    yield cluster
    cluster.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A store with a collection `c` of two dimensions."""
    service = Service.open(tmp_path)
    vectors = {"": VectorParams(size=2, distance=Distance.DOT)}
    service.create_collection("c", CollectionConfig(vectors=vectors))
    yield service
    service.close()


@pytest.fixture
def worker(tmp_path: Path, service: Service, kafka: MockKafka) -> Iterator[Worker]:
    """A started worker without connectors."""
    defaults = {"bootstrap.servers": kafka.bootstrap_servers}
    worker = Worker(ConnectorStore(tmp_path), service, defaults)
    worker.start()
    yield worker
    assert worker.stop(STOP_TIMEOUT_S)


@pytest.fixture
def client(worker: Worker) -> Iterator[TestClient]:
    """A client of the worker's REST API; errors that no one expects are answered with 500."""
    with TestClient(create_worker_app(worker), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def running(client: TestClient, kafka: MockKafka) -> dict[str, str]:
    """The configuration of a connector `a` that has taken its topic's three records."""
    from tests.sink.records import value
    from tests.sink.worker.harness import config_of, wait_until

    kafka.produce("topic", value(1), value(2), value(-1))
    config = config_of("a", **{"errors.tolerance": "all"})
    assert client.post("/connectors", json={"name": "a", "config": config}).status_code == 201
    wait_until(lambda: 'sink_record_read_total{connector="a",task="0"} 3.0' in _metrics(client))
    wait_until(lambda: client.get("/connectors/a/topics").json()["a"]["topics"] == ["topic"])
    return config


def _metrics(client: TestClient) -> str:
    return client.get("/metrics").text
