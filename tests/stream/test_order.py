"""Of many records of one point, also in one batch, the last one wins."""

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
    kafka_key_of,
    make_collection,
    value_of,
    wait_until_folded,
)

COLLECTION = "ordered"
IDS_OF_A_GROUP = 50
RECORDS_OF_A_POINT = 20
TOMBSTONE_SHARE = 0.2
# The second is the gate of the fault table.
POINTS = [500, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(1_800)])]

pytestmark = pytest.mark.kafka


def stream(points: int) -> Iterator[KafkaPair]:
    """Groups of points whose records are shuffled among one another: a batch holds each whole."""
    numbers = random.Random(SEED)
    number = 0
    for first in range(0, points, IDS_OF_A_GROUP):
        ids = [*range(first, first + IDS_OF_A_GROUP)] * RECORDS_OF_A_POINT
        numbers.shuffle(ids)
        for point_id in ids:
            number += 1
            is_tombstone = numbers.random() < TOMBSTONE_SHARE
            value = None if is_tombstone else value_of(COLLECTION, point_id, number)
            yield kafka_key_of(COLLECTION, point_id), value


@pytest.mark.parametrize("points", POINTS)
@pytest.mark.parametrize("target", ["embedded", "gRPC", "REST"])
def test_the_last_of_many_records_of_a_point_in_one_batch_wins(
    kafka_bootstrap_servers: str, serving: Serving, target: str, points: int
) -> None:
    topic = new_topic(kafka_bootstrap_servers, "ordered")
    produce(kafka_bootstrap_servers, topic, stream(points))
    settings = connector_settings(
        kafka_bootstrap_servers,
        topic,
        # One group, with all records of its points, is one batch.
        batch__size=str(IDS_OF_A_GROUP * RECORDS_OF_A_POINT),
        linger__ms="1000",
    )
    with rest_client(serving.rest_url) as client:
        make_collection(client, COLLECTION)
        with running_sink(settings, target, serving) as connector:
            wait_until_folded(client, kafka_bootstrap_servers, topic, COLLECTION)
            batches = connector.counters()[0].batches_written
    # So the records of a point did share batches.
    assert batches <= 2 * points // IDS_OF_A_GROUP
