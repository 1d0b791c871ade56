"""One stream of everything a record may ask for, through restarts, by every path: one content."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import QdrantClient, models

from tests.stream.harness import (
    PATIENCE_S,
    HeadraceProcess,
    KafkaPair,
    all_points,
    connector_settings,
    new_topic,
    produce,
    read_topic,
    rest_client,
    wait_until,
    write_properties,
)
from tests.stream.test_outage import Server

COLLECTION = "paths"
PARTITIONS = 3
IDS = 60
SEED = 20_240_229
SLOW = [pytest.mark.slow, pytest.mark.timeout(1_800)]
BAD = (b"no JSON", b'{"collection_name":"paths","id":-1}', b'{"collection_name":"paths"}')

pytestmark = pytest.mark.kafka

Points = dict[int | str, tuple[dict[str, Any], dict[str, list[float]]]]


class Model:
    """What must be stored, by the obvious way: one record after the other.

    Attributes:
        points: payload and vectors, by id.
        bad: the values that must be dead letters.
    """

    def __init__(self) -> None:
        self.points: Points = {}
        self.bad: Counter[bytes | None] = Counter()

    def take(self, point_id: int | str, value: bytes | None) -> None:
        """Take a record that is well-formed."""
        if value is None:
            self.points.pop(point_id, None)
            return
        fields = json.loads(value)
        op = fields.get("op", "upsert")
        if op == "upsert":
            self.points[point_id] = (fields["payload"], fields["vector"])
        elif op == "delete":
            self.points.pop(point_id, None)
        elif point_id not in self.points:
            self.bad[value] += 1
        else:
            self._patch(point_id, op, fields)

    def _patch(self, point_id: int | str, op: str, fields: dict[str, Any]) -> None:
        payload, vectors = self.points[point_id]
        if op == "set_payload":
            payload = {**payload, **fields["payload"]}
        elif op == "overwrite_payload":
            payload = fields["payload"]
        elif op == "delete_payload":
            payload = {key: one for key, one in payload.items() if key not in fields["keys"]}
        elif op == "clear_payload":
            payload = {}
        else:
            vectors = {**vectors, **fields["vector"]}
        self.points[point_id] = (payload, vectors)


def stream(records: int, numbers: random.Random, model: Model) -> Iterator[KafkaPair]:
    """Records over few ids, most of them upserts; the model takes each as it is made."""
    for number in range(records):
        if numbers.random() < 0.01:
            bad = numbers.choice(BAD)
            model.bad[bad] += 1
            yield None, bad
            continue
        row = numbers.randrange(IDS)
        point_id: int | str = row if row % 2 else f"00000000-0000-0000-0000-{row:012d}"
        value = value_of(point_id, number, numbers)
        model.take(point_id, value)
        yield json.dumps({"id": point_id, "collection_name": COLLECTION}).encode(), value


def value_of(point_id: int | str, number: int, numbers: random.Random) -> bytes | None:
    """An upsert, a tombstone or one of the operations."""
    vector = [float(numbers.randrange(-8, 8)) for _ in range(4)]
    kinds: list[tuple[int, dict[str, Any] | None]] = [
        (40, {"payload": {"n": number, "big": 2**53 + number}, "vector": {"a": vector}}),
        (10, {"payload": {}, "vector": {"a": vector, "b": vector[:2]}, "op": "upsert"}),
        (10, None),
        (5, {"op": "delete"}),
        (10, {"op": "set_payload", "payload": {"set": number, "n": -number}}),
        (5, {"op": "overwrite_payload", "payload": {"over": number}}),
        (5, {"op": "delete_payload", "keys": ["n", "set"]}),
        (5, {"op": "clear_payload"}),
        (10, {"op": "update_vectors", "vector": {"b": vector[:2]}}),
    ]
    (fields,) = numbers.choices([one for _, one in kinds], [weight for weight, _ in kinds])
    if fields is None:
        return None
    return json.dumps({"collection_name": COLLECTION, "id": point_id, **fields}).encode()


def make_collection(client: QdrantClient) -> None:
    dot = models.Distance.DOT
    client.delete_collection(COLLECTION)
    client.create_collection(
        COLLECTION,
        vectors_config={
            "a": models.VectorParams(size=4, distance=dot),
            "b": models.VectorParams(size=2, distance=dot),
        },
    )


def settings_of(bootstrap_servers: str, topic: str, target: str) -> dict[str, str]:
    settings = connector_settings(
        bootstrap_servers,
        topic,
        tasks__max="2",
        batch__size="100",
        errors__tolerance="all",
        errors__deadletterqueue__topic__name=f"{topic}-dead-{target}",
        errors__deadletterqueue__topic__replication__factor="1",
        group__instance__id="the-one",
    )
    settings["name"] += f"-{target}"
    return settings


def wait_until_taken(client: QdrantClient, expected: Points) -> None:
    wait_until(lambda: all_points(client, COLLECTION) == expected, "the model", PATIENCE_S * 3)


def letters(bootstrap_servers: str, topic: str, target: str) -> Counter[bytes | None]:
    return Counter(one.value() for one in read_topic(bootstrap_servers, f"{topic}-dead-{target}"))


# How many records each half of the stream has, between which everything is restarted.
@pytest.mark.parametrize(
    ("target", "records"),
    [
        ("grpc", 1_500),
        pytest.param("embedded", 25_000, marks=SLOW),
        pytest.param("grpc", 25_000, marks=SLOW),
        pytest.param("rest", 25_000, marks=SLOW),
    ],
)
def test_deletes_operations_and_bad_records_come_to_the_model_through_restarts_and_outages(
    kafka_bootstrap_servers: str, tmp_path: Path, data: Path, target: str, records: int
) -> None:
    topic = new_topic(kafka_bootstrap_servers, "paths", PARTITIONS)
    settings = settings_of(kafka_bootstrap_servers, topic, target)
    run = through_engine if target == "embedded" else through_server
    model, numbers = Model(), random.Random(SEED)
    # Ordered by partition: the records of an id are all in one.
    halves = [list(stream(records, numbers, model)) for _ in range(2)]
    run(kafka_bootstrap_servers, tmp_path, data, topic, settings, halves, model)
    found = letters(kafka_bootstrap_servers, topic, target)
    # A kill, or a stop while the server is away, may write a dead letter again.
    assert all(found[one] >= model.bad[one] > 0 for one in BAD)
    if target == "embedded":
        # An operation on a point that is not there, unless a later record of its batch said
        # all about the point; never one on a point that was there.
        assert found.keys() <= model.bad.keys()


def through_engine(
    bootstrap_servers: str,
    folder: Path,
    data: Path,
    topic: str,
    settings: dict[str, str],
    halves: list[list[KafkaPair]],
    model: Model,
) -> None:
    """`headrace up`, killed in the middle of the second half."""
    connector_file = write_properties(folder / "connector.properties", settings)
    process = HeadraceProcess.over("serve", data)
    try:
        process.wait_until_serving()
        with rest_client(process.rest_url) as client:
            make_collection(client)
        assert process.terminate() == 0
        for half in halves:
            produce(bootstrap_servers, topic, half)
            process = HeadraceProcess.over("up", data, "--connector", connector_file)
            process.wait_until_serving()
            with rest_client(process.rest_url) as client:
                wait_until(lambda client=client: client.count(COLLECTION).count > 0, "some")  # type: ignore[misc]
            process.kill()
        process = HeadraceProcess.over("up", data, "--connector", connector_file)
        process.wait_until_serving()
        with rest_client(process.rest_url) as client:
            wait_until_taken(client, model.points)
        assert process.terminate() == 0
    finally:
        process.kill()


def through_server(
    bootstrap_servers: str,
    folder: Path,
    data: Path,
    topic: str,
    settings: dict[str, str],
    halves: list[list[KafkaPair]],
    model: Model,
) -> None:
    """`headrace sink run`, stopped between the halves; the server is killed within each."""
    server = Server(data)
    if settings["name"].endswith("grpc"):
        settings["qdrant.grpc.url"] = server.process.grpc_url
    else:
        settings["qdrant.rest.url"] = server.process.rest_url
    connector_file = write_properties(folder / "connector.properties", settings)
    try:
        with rest_client(server.process.rest_url) as client:
            make_collection(client)
            for number, half in enumerate(halves):
                produce(bootstrap_servers, topic, half)
                sink = HeadraceProcess(folder / "sink.log", "sink", "run", connector_file)
                try:
                    if number == 0:
                        wait_until(lambda: client.count(COLLECTION).count > 0, "some")
                    server.kill()
                    server.start_again()
                    if number == 1:
                        wait_until_taken(client, model.points)
                    assert sink.terminate() == 0
                finally:
                    sink.kill()
    finally:
        server.kill()
