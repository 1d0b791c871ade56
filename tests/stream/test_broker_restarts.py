"""A broker that is killed and comes back costs nothing, by every path at once."""

from __future__ import annotations

import random
import time
from contextlib import ExitStack

import pytest

from headrace.server.run import Serving
from tests.kafka.node import KafkaNode
from tests.stream.harness import (
    connector_settings,
    new_topic,
    read_topic,
    rest_client,
    running_sink,
)
from tests.stream.load import SEED, Stream, make_collection, wait_until_folded

TARGETS = ("embedded", "gRPC", "REST")
PARTITIONS = 4
PATIENCE_S = 300.0
# The second is the gate of the fault table.
RESTARTS = [1, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(3_600)])]

pytestmark = pytest.mark.kafka


@pytest.mark.parametrize("restarts", RESTARTS)
def test_a_broker_killed_and_restarted_leaves_the_fold_of_the_topic(
    kafka_node: KafkaNode, serving: Serving, restarts: int
) -> None:
    """Two workers by each path read one topic, each path into a collection of its own."""
    bootstrap_servers = kafka_node.bootstrap_servers
    topic = new_topic(bootstrap_servers, "restarted", PARTITIONS)
    moments = random.Random(SEED)
    with rest_client(serving.rest_url) as client, ExitStack() as stack:
        sinks = []
        for target in TARGETS:
            collection_name = f"restarted-{target}"
            make_collection(client, collection_name)
            settings = connector_settings(
                bootstrap_servers,
                topic,
                qdrant__collection__name=collection_name,
                consumer__override__reconnect__backoff__max__ms="1000",
                producer__override__reconnect__backoff__max__ms="1000",
                errors__tolerance="all",
                errors__deadletterqueue__topic__name=f"{topic}-dead-{target}",
                errors__deadletterqueue__topic__replication__factor="1",
            )
            settings["name"] += f"-{target}"
            sinks += [
                stack.enter_context(running_sink(settings, target, serving)) for _ in range(2)
            ]
        # Six sinks read it, and in the long run it goes on for many minutes.
        stream = Stream(bootstrap_servers, topic, "by-connector", pause_s=0.1, bad_share=0.01)
        try:
            for _ in range(restarts):
                time.sleep(moments.uniform(0.2, 2.0))
                kafka_node.stop()
                time.sleep(moments.uniform(0.0, 1.0))
                kafka_node.start_again()
        finally:
            stream.end()
        for target in TARGETS:
            wait_until_folded(client, bootstrap_servers, topic, f"restarted-{target}", PATIENCE_S)
            dead_letters = read_topic(bootstrap_servers, f"{topic}-dead-{target}")
            assert stream.bad
            assert {one.value() for one in dead_letters} == stream.bad
        traces = [sink.status().trace for sink in sinks]
        assert traces == [None] * len(sinks)
        repeated = [sink.progress().records_repeated for sink in sinks[:2]]
        print(f"embedded: {repeated} records read again and not written again")
