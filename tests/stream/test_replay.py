"""A topic that is replayed into a fresh collection gives the same content again."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from headrace.server.run import Serving
from tests.stream.harness import (
    KafkaPair,
    connector_settings,
    new_topic,
    produce,
    rest_client,
    running_sink,
)
from tests.stream.load import (
    SEED,
    content_hash,
    kafka_key_of,
    make_collection,
    value_of,
    wait_until_folded,
)

PARTITIONS = 4
TOMBSTONE_SHARE = 0.2
PATIENCE_S = 600.0
# The second is the full size of the fault table's row.
RECORDS = [3_000, pytest.param(100_000, marks=[pytest.mark.slow, pytest.mark.timeout(1_800)])]

pytestmark = pytest.mark.kafka


def stream(records: int) -> Iterator[KafkaPair]:
    """Upserts, updates and tombstones: ten records for each point."""
    numbers = random.Random(SEED)
    for number in range(records):
        point_id = numbers.randrange(records // 10)
        is_tombstone = numbers.random() < TOMBSTONE_SHARE
        value = None if is_tombstone else value_of("any", point_id, number)
        yield kafka_key_of("any", point_id), value


@pytest.mark.parametrize("records", RECORDS)
def test_a_replay_into_a_fresh_collection_has_the_same_content_by_every_path(
    kafka_bootstrap_servers: str, serving: Serving, records: int
) -> None:
    topic = new_topic(kafka_bootstrap_servers, "replayed", PARTITIONS)
    produce(kafka_bootstrap_servers, topic, stream(records))
    hashes: dict[str, str] = {}
    with rest_client(serving.rest_url) as client:
        # Batches and tasks differ, so that the records are cut and mixed in other ways.
        for target, batch_size, tasks in (
            ("embedded", "1000", "1"),
            ("embedded", "77", "3"),
            ("gRPC", "500", "2"),
            ("REST", "100", "4"),
        ):
            name = f"replayed-{target}-{tasks}"
            make_collection(client, name)
            settings = connector_settings(
                kafka_bootstrap_servers,
                topic,
                qdrant__collection__name=name,
                batch__size=batch_size,
                tasks__max=tasks,
            )
            settings["name"] = name + topic
            with running_sink(settings, target, serving):
                wait_until_folded(client, kafka_bootstrap_servers, topic, name, PATIENCE_S)
            hashes[name] = content_hash(client, name)
            client.delete_collection(name)
    print(hashes)
    assert len(set(hashes.values())) == 1, hashes
