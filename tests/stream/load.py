"""A stream that goes on while a test does its worst, and what must be stored at its end."""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from typing import Any

from confluent_kafka import Producer
from qdrant_client import QdrantClient, models

from tests.stream.harness import PATIENCE_S, all_points, fold, wait_until

DIM = 8
IDS = 300
TOMBSTONE_SHARE = 0.2
RECORDS_PER_PAUSE = 20
PAUSE_S = 0.02
FLUSH_TIMEOUT_S = 120.0
SEED = 20_240_229

Points = dict[int | str, tuple[Any, Any]]


class Stream:
    """Upserts, updates and tombstones over few ids, produced until it is told to end.

    The producer is idempotent: a broker that goes away and comes back has each record once.

    Attributes:
        bad: the values of the bad records among them, which have no key.

    Args:
        bootstrap_servers: the node's.
        topic: where to.
        collection_name: what the records name.
        pause_s: before each `RECORDS_PER_PAUSE` records.
        bad_share: of the records.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        collection_name: str,
        pause_s: float = PAUSE_S,
        bad_share: float = 0.0,
    ) -> None:
        self.bad: set[bytes | None] = set()
        self._pause_s = pause_s
        self._bad_share = bad_share
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "linger.ms": 5,
                "enable.idempotence": True,
                "reconnect.backoff.max.ms": 1_000,
                "log_level": 0,
            }
        )
        self._topic = topic
        self._collection_name = collection_name
        self._random = random.Random(SEED)
        self._must_end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def end(self) -> None:
        """Produce no more; all is acknowledged when it returns."""
        self._must_end.set()
        self._thread.join()
        assert self._producer.flush(FLUSH_TIMEOUT_S) == 0

    def _run(self) -> None:
        number = 0
        while not self._must_end.wait(self._pause_s):
            for _ in range(RECORDS_PER_PAUSE):
                number += 1
                self._produce_one(number)
            self._producer.poll(0)

    def _produce_one(self, number: int) -> None:
        if self._random.random() < self._bad_share:
            bad = b"no JSON %d" % number
            self.bad.add(bad)
            self._producer.produce(self._topic, bad)
            return
        point_id = self._random.randrange(IDS)
        is_tombstone = self._random.random() < TOMBSTONE_SHARE
        self._producer.produce(
            self._topic,
            None if is_tombstone else value_of(self._collection_name, point_id, number),
            kafka_key_of(self._collection_name, point_id),
        )


def kafka_key_of(collection_name: str, point_id: int | str) -> bytes:
    """The key of each record of a point, so that all are in one partition."""
    return json.dumps({"id": point_id, "collection_name": collection_name}).encode()


def value_of(collection_name: str, point_id: int | str, number: int) -> bytes:
    """An upsert whose vector and payload follow from its number."""
    return json.dumps(
        {
            "collection_name": collection_name,
            "id": point_id,
            "vector": [float(number % (one + 2)) for one in range(DIM)],
            "payload": {"number": number},
        }
    ).encode()


def make_collection(client: QdrantClient, collection_name: str) -> None:
    """The empty collection that a stream goes into."""
    client.delete_collection(collection_name)
    client.create_collection(
        collection_name,
        vectors_config=models.VectorParams(size=DIM, distance=models.Distance.DOT),
    )


def last_number(client: QdrantClient, collection_name: str) -> int:
    """The highest number in the store."""
    points = all_points(client, collection_name)
    return max((int(payload["number"]) for payload, _ in points.values()), default=0)


def wait_until_more_is_written(client: QdrantClient, collection_name: str, written: int) -> int:
    """Returns the highest number in the store, once that is above `written`."""
    wait_until(lambda: last_number(client, collection_name) > written, "more is written")
    return last_number(client, collection_name)


def wait_until_folded(
    client: QdrantClient,
    bootstrap_servers: str,
    topic: str,
    collection_name: str,
    patience_s: float = PATIENCE_S,
) -> None:
    """Return once the collection is the fold of the topic, which nobody writes to any more."""
    expected = fold(bootstrap_servers, topic)
    deadline = time.monotonic() + patience_s
    while (found := all_points(client, collection_name)) != expected:
        assert time.monotonic() < deadline, _difference(found, expected)
        time.sleep(0.1)
    assert client.count(collection_name, exact=True).count == len(expected)


def _difference(found: Points, expected: Points) -> str:
    """The points that differ, in few enough words to be read."""
    differ = [one for one in {**found, **expected} if found.get(one) != expected.get(one)]
    shown = {one: (found.get(one), expected.get(one)) for one in differ[:3]}
    return f"{len(differ)} points are not the fold of the topic, as stored and as expected: {shown}"


def content_hash(client: QdrantClient, collection_name: str) -> str:
    """A hash of all points, with payloads and vectors, whatever order they are kept in."""
    points = all_points(client, collection_name)
    listed = sorted((str(point_id), *content) for point_id, content in points.items())
    return hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()
