from __future__ import annotations

import json
import uuid

import pytest
from confluent_kafka import Producer
from qdrant_client import models

from headrace.server.run import Serving
from tests.stream.harness import (
    CALL_TIMEOUT_S,
    all_points,
    connector_settings,
    new_topic,
    rest_client,
    running_sink,
    wait_until,
)

COLLECTION = "transactions"
# Every second one is aborted. The second is the full size of the fault table's row.
TRANSACTIONS = [6, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(1_800)])]
RECORDS_OF_EACH = 50


@pytest.mark.kafka
@pytest.mark.parametrize("transactions", TRANSACTIONS)
@pytest.mark.parametrize("target", ["embedded", "gRPC", "REST"])
def test_records_of_aborted_transactions_are_never_written(
    kafka_bootstrap_servers: str, serving: Serving, target: str, transactions: int
) -> None:
    topic = new_topic(kafka_bootstrap_servers, "transactions")
    with rest_client(serving.rest_url) as client:
        client.delete_collection(COLLECTION)
        client.create_collection(
            COLLECTION,
            vectors_config=models.VectorParams(size=1, distance=models.Distance.DOT),
        )
        with running_sink(connector_settings(kafka_bootstrap_servers, topic), target, serving):
            _produce_transactions(kafka_bootstrap_servers, topic, transactions)
            last_id = transactions * RECORDS_OF_EACH - 1
            wait_until(lambda: bool(client.retrieve(COLLECTION, [last_id])), "the last record")
        # Each transaction writes over the one before it as well, so an aborted record
        # would show by its id or by its payload.
        committed = [number for number in range(transactions) if _is_committed(number)]
        points = all_points(client, COLLECTION)
        own_ids = {
            number * RECORDS_OF_EACH + one for number in committed for one in range(RECORDS_OF_EACH)
        }
        assert set(points) == own_ids
        assert {payload["written_by"] for payload, _ in points.values()} <= set(committed)


def _is_committed(number: int) -> bool:
    return number % 2 == 1


def _produce_transactions(bootstrap_servers: str, topic: str, transactions: int) -> None:
    producer = Producer(
        {"bootstrap.servers": bootstrap_servers, "transactional.id": f"test-{uuid.uuid4().hex}"}
    )
    producer.init_transactions(CALL_TIMEOUT_S)
    for number in range(transactions):
        producer.begin_transaction()
        earlier = [one * RECORDS_OF_EACH for one in range(number) if _is_committed(one)]
        own = [number * RECORDS_OF_EACH + one for one in range(RECORDS_OF_EACH)]
        for point_id in (*earlier, *own):
            value = {
                "collection_name": COLLECTION,
                "id": point_id,
                "vector": [float(number)],
                "payload": {"written_by": number},
            }
            producer.produce(topic, json.dumps(value))
        # An abort drops what has not been sent yet: send it, so that there is something to hide.
        producer.flush(CALL_TIMEOUT_S)
        if _is_committed(number):
            producer.commit_transaction(CALL_TIMEOUT_S)
        else:
            producer.abort_transaction(CALL_TIMEOUT_S)
