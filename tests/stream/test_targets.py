"""One stream by every path: the same points, whichever way they went."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import QdrantClient, models

from headrace.server.run import Serving
from tests.stream.harness import (
    HeadraceProcess,
    KafkaPair,
    all_points,
    connector_settings,
    fold,
    new_topic,
    produce,
    read_topic,
    rest_client,
    running_sink,
    wait_until,
    write_properties,
)

COLLECTION = "streamed"
PARTITIONS = 2
IDS = 200
RECORDS = 3_000
VECTORS = models.VectorParams(size=4, distance=models.Distance.DOT)


def stream(seed: int) -> Iterator[KafkaPair]:
    """Upserts, updates and tombstones over few ids, of both kinds of id."""
    numbers = random.Random(seed)
    for number in range(RECORDS):
        row = numbers.randrange(IDS)
        point_id: int | str = row if row % 2 else f"00000000-0000-0000-0000-{row:012d}"
        kafka_key = json.dumps({"id": point_id, "collection_name": COLLECTION}).encode()
        value: dict[str, Any] = {
            "collection_name": COLLECTION,
            "id": point_id,
            "vector": [float(numbers.randrange(-8, 8)) for _ in range(4)],
            "payload": {
                "number": number,
                "large": 2**63 - 1 - number,
                "share": number / 7,
                "nested": {"list": [number, None, True, "ä"]},
            },
        }
        yield kafka_key, None if numbers.random() < 0.2 else json.dumps(value).encode()


@pytest.fixture(scope="module")
def topic(kafka_bootstrap_servers: str) -> str:
    """A topic with the stream."""
    topic = new_topic(kafka_bootstrap_servers, "targets", PARTITIONS)
    produce(kafka_bootstrap_servers, topic, stream(seed=1))
    return topic


@pytest.mark.kafka
@pytest.mark.parametrize("target", ["embedded", "gRPC", "REST"])
def test_store_is_the_fold_of_the_topic_by_every_path(
    kafka_bootstrap_servers: str, topic: str, serving: Serving, target: str
) -> None:
    expected = fold(kafka_bootstrap_servers, topic)
    settings = connector_settings(kafka_bootstrap_servers, topic, tasks__max="2")
    settings["name"] += f"-{target}"
    with rest_client(serving.rest_url) as client:
        make_collection(client)
        with running_sink(settings, target, serving):
            wait_until_equal(client, expected)


@pytest.mark.parametrize("broker", ["tansu", pytest.param("kafka", marks=pytest.mark.kafka)])
def test_restarted_sink_reads_each_record_once(
    request: pytest.FixtureRequest, serving: Serving, broker: str
) -> None:
    bootstrap_servers = request.getfixturevalue(f"{broker}_bootstrap_servers")
    topic = new_topic(bootstrap_servers, "restarted", PARTITIONS)
    settings = connector_settings(bootstrap_servers, topic)
    with rest_client(serving.rest_url) as client:
        make_collection(client)
        for seed in (1, 2):
            produce(bootstrap_servers, topic, stream(seed))
            expected = fold(bootstrap_servers, topic)
            with running_sink(settings, "embedded", serving) as connector:
                wait_until_equal(client, expected)
            assert connector.progress().records_read == RECORDS
            assert connector.progress().records_repeated == 0


@pytest.mark.kafka
@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_stopped_sink_goes_on_where_it_was_in_a_server_elsewhere(
    kafka_bootstrap_servers: str, data: Path, tmp_path: Path, protocol: str
) -> None:
    topic = new_topic(kafka_bootstrap_servers, "elsewhere")
    server = HeadraceProcess.over("serve", data)
    try:
        server.wait_until_serving()
        url = server.grpc_url if protocol == "grpc" else server.rest_url
        settings = connector_settings(
            kafka_bootstrap_servers,
            topic,
            errors__tolerance="all",
            errors__deadletterqueue__topic__name=f"{topic}-dead-letters",
            errors__deadletterqueue__topic__replication__factor="1",
        )
        settings[f"qdrant.{protocol}.url"] = url
        connector_file = write_properties(tmp_path / "connector.properties", settings)
        with rest_client(server.rest_url) as client:
            make_collection(client)
            for seed in (1, 2):
                produce(kafka_bootstrap_servers, topic, [(None, b"no JSON"), *stream(seed)])
                expected = fold(kafka_bootstrap_servers, topic)
                run_until_equal(connector_file, tmp_path / "sink.log", client, expected)
    finally:
        server.kill()
    dead_letters = read_topic(kafka_bootstrap_servers, f"{topic}-dead-letters")
    assert [one.value() for one in dead_letters] == [b"no JSON", b"no JSON"]


def run_until_equal(
    connector_file: Path, log: Path, client: QdrantClient, expected: dict[int | str, Any]
) -> None:
    sink = HeadraceProcess(log, "sink", "run", connector_file)
    try:
        wait_until_equal(client, expected)
        assert sink.terminate() == 0
    finally:
        sink.kill()


def wait_until_equal(client: QdrantClient, expected: dict[int | str, Any]) -> None:
    wait_until(lambda: all_points(client, COLLECTION) == expected, "the fold of the topic")


def make_collection(client: QdrantClient) -> None:
    client.delete_collection(COLLECTION)
    client.create_collection(COLLECTION, vectors_config=VECTORS)
