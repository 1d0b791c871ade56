"""`headrace up`, killed again and again while records stream in, loses and doubles nothing."""

from __future__ import annotations

import json
import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from qdrant_client import QdrantClient, models

from tests.stream.harness import (
    CALL_TIMEOUT_S,
    HeadraceProcess,
    all_points,
    connector_settings,
    fold,
    new_topic,
    rest_client,
    wait_until,
    write_properties,
)

COLLECTION = "killed"
KILLS = 10
PARTITIONS = 3
IDS = 300
DIM = 8
TOMBSTONE_SHARE = 0.2
RECORDS_PER_PAUSE = 20
PAUSE_S = 0.02
SEED = 20_240_229


class Stream:
    """Upserts, updates and tombstones over few ids, produced until it is told to end."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap_servers, "linger.ms": 5})
        self._topic = topic
        self._random = random.Random(SEED)
        self._must_end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def end(self) -> None:
        """Produce no more; all is acknowledged when it returns."""
        self._must_end.set()
        self._thread.join()
        assert self._producer.flush(CALL_TIMEOUT_S) == 0

    def _run(self) -> None:
        number = 0
        while not self._must_end.wait(PAUSE_S):
            for _ in range(RECORDS_PER_PAUSE):
                number += 1
                self._produce_one(number)
            self._producer.poll(0)

    def _produce_one(self, number: int) -> None:
        point_id = self._random.randrange(IDS)
        is_tombstone = self._random.random() < TOMBSTONE_SHARE
        self._producer.produce(
            self._topic,
            None if is_tombstone else value_of(point_id, number),
            kafka_key_of(point_id),
        )


def kafka_key_of(point_id: int) -> bytes:
    return json.dumps({"id": point_id, "collection_name": COLLECTION}).encode()


def value_of(point_id: int, number: int) -> bytes:
    return json.dumps(
        {
            "collection_name": COLLECTION,
            "id": point_id,
            "vector": [float(number % (one + 2)) for one in range(DIM)],
            "payload": {"number": number},
        }
    ).encode()


@pytest.fixture
def connector(tmp_path: Path, kafka_bootstrap_servers: str) -> tuple[Path, str]:
    """A connector file, and its topic."""
    topic = new_topic(kafka_bootstrap_servers, "killed", PARTITIONS)
    settings = connector_settings(
        kafka_bootstrap_servers,
        topic,
        # A killed member stays in its group until its session ends, if it has no name.
        group__instance__id="the-one",
    )
    return write_properties(tmp_path / "connector.properties", settings), topic


@pytest.mark.kafka
def test_ten_kills_while_records_stream_in_leave_the_fold_of_the_topic(
    kafka_bootstrap_servers: str, connector: tuple[Path, str], data: Path
) -> None:
    connector_file, topic = connector
    make_collection(data)
    stream = Stream(kafka_bootstrap_servers, topic)
    try:
        kill_at_random_moments(data, connector_file)
    finally:
        stream.end()
    expected = fold(kafka_bootstrap_servers, topic)
    process = HeadraceProcess.over("up", data, "--connector", connector_file)
    try:
        process.wait_until_serving()
        with rest_client(process.rest_url) as client:
            wait_until(lambda: last_number(client) == max_number(expected), "the last record")
            wait_until(lambda: all_points(client, COLLECTION) == expected, "the fold of the topic")
            assert client.count(COLLECTION, exact=True).count == len(expected)
    finally:
        process.kill()


def make_collection(data: Path) -> None:
    process = HeadraceProcess.over("serve", data)
    try:
        process.wait_until_serving()
        with rest_client(process.rest_url) as client:
            client.create_collection(
                COLLECTION,
                vectors_config=models.VectorParams(size=DIM, distance=models.Distance.DOT),
            )
    finally:
        process.kill()


def kill_at_random_moments(data: Path, connector_file: Path) -> None:
    """Every kill but each third comes while records are being written; those come earlier."""
    moments = random.Random(SEED)
    written = 0
    for number in range(KILLS):
        process = HeadraceProcess.over("up", data, "--connector", connector_file)
        try:
            if number % 3 == 2:
                time.sleep(moments.uniform(0.1, 2.0))
            else:
                process.wait_until_serving()
                written = wait_until_more_is_written(process.rest_url, written)
                time.sleep(moments.uniform(0.0, 0.5))
        finally:
            process.kill()


def wait_until_more_is_written(rest_url: str, written: int) -> int:
    """Returns the highest number in the store, once that is above `written`."""
    with rest_client(rest_url) as client:
        wait_until(lambda: last_number(client) > written, "more is written")
        return last_number(client)


def last_number(client: QdrantClient) -> int:
    """The highest number in the store."""
    return max_number(all_points(client, COLLECTION))


def max_number(points: dict[int | str, tuple[Any, Any]]) -> int:
    return max((int(payload["number"]) for payload, _ in points.values()), default=0)
