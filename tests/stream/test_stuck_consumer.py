"""A client of Kafka that has lost its brokers for good costs nothing: another takes its place."""

from __future__ import annotations

import time

import pytest

from headrace.server.run import Serving
from headrace.sink import fetch_watch
from tests.kafka.node import KafkaNode
from tests.stream.harness import (
    connector_settings,
    new_topic,
    produce,
    rest_client,
    running_sink,
    wait_until,
)
from tests.stream.load import kafka_key_of, make_collection, value_of, wait_until_folded

COLLECTION = "stuck"
PATIENCE_S = 180.0
METADATA_INTERVAL_MS = 500

pytestmark = pytest.mark.kafka


@pytest.mark.parametrize("target", ["embedded", "REST"])
def test_a_client_that_was_told_of_no_broker_is_replaced(
    kafka_node: KafkaNode,
    serving: Serving,
    monkeypatch: pytest.MonkeyPatch,
    target: str,
) -> None:
    """The cluster forgets its only broker, which then comes back.

    The client forgets the broker, too, and without `rebootstrap` asks nobody any more. With
    it, the default, the same happens if the connection ends at the same moment.
    """
    monkeypatch.setattr(fetch_watch, "SILENCE_S", 5.0)
    monkeypatch.setattr(fetch_watch, "GRACE_S", 3.0)
    bootstrap_servers = kafka_node.bootstrap_servers
    topic = new_topic(bootstrap_servers, "stuck")
    settings = connector_settings(
        bootstrap_servers,
        topic,
        consumer__override__metadata__recovery__strategy="none",
        consumer__override__topic__metadata__refresh__interval__ms=str(METADATA_INTERVAL_MS),
        consumer__override__reconnect__backoff__max__ms="1000",
    )
    with rest_client(serving.rest_url) as client:
        make_collection(client, COLLECTION)

        def produce_some(first: int) -> None:
            produce(
                bootstrap_servers,
                topic,
                [
                    (kafka_key_of(COLLECTION, n), value_of(COLLECTION, n, n))
                    for n in range(first, first + 20)
                ],
            )

        with running_sink(settings, target, serving) as sink:
            produce_some(0)
            wait_until(lambda: client.count(COLLECTION).count == 20, "the first are there")
            kafka_node.unregister()
            time.sleep(3 * METADATA_INTERVAL_MS / 1000)
            kafka_node.stop()
            kafka_node.start_again()
            produce_some(20)
            wait_until_folded(client, bootstrap_servers, topic, COLLECTION, PATIENCE_S)
            assert sink.status().trace is None
            (counters,) = sink.counters()
            assert counters.consumers_abandoned == 1
