"""A target that is away costs nothing: no dead letter, no commit, no member of the group."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from headrace.sink.config import ConnectorConfig
from headrace.sink.connector import Connector
from headrace.sink.qdrant_target import QdrantTarget
from headrace.sink.task import TaskState
from tests.kafka.node import unused_port
from tests.stream.harness import (
    CALL_TIMEOUT_S,
    HeadraceProcess,
    connector_settings,
    new_topic,
    read_topic,
    rest_client,
    wait_until,
)
from tests.stream.load import (
    Stream,
    last_number,
    make_collection,
    wait_until_folded,
    wait_until_more_is_written,
)

COLLECTION = "away"
PARTITIONS = 4
# The second is the gate of the fault table.
OUTAGE_S = [3, pytest.param(60, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]

pytestmark = pytest.mark.kafka


class Server:
    """`headrace serve` as a process of its own, on ports that it has again when it is back."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._ports = ("--http-port", str(unused_port()), "--grpc-port", str(unused_port()))
        self.process = self._start()

    def kill(self) -> None:
        self.process.kill()

    def start_again(self) -> None:
        self.process = self._start()

    def _start(self) -> HeadraceProcess:
        process = HeadraceProcess.over("serve", self._data, *self._ports)
        process.wait_until_serving()
        return process


@pytest.fixture
def server(data: Path) -> Iterator[Server]:
    server = Server(data)
    yield server
    server.kill()


def committed(bootstrap_servers: str, group: str, topic: str) -> dict[int, int]:
    """What a group has committed, by partition."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    answer = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])
    found = answer[group].result(CALL_TIMEOUT_S).topic_partitions or []
    return {one.partition: one.offset for one in found if one.topic == topic}


def members(bootstrap_servers: str, group: str) -> set[str]:
    """The ids of a group's members: one that was thrown out comes back with another."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    description = admin.describe_consumer_groups([group])[group].result(CALL_TIMEOUT_S)
    return {one.member_id for one in description.members}


def log_ends(bootstrap_servers: str, topic: str) -> dict[int, int]:
    """Where each partition ends."""
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "ends"})
    ends = {
        one: consumer.get_watermark_offsets(TopicPartition(topic, one), CALL_TIMEOUT_S)[1]
        for one in range(PARTITIONS)
    }
    consumer.close()
    return ends


@pytest.mark.parametrize("outage_s", OUTAGE_S)
def test_an_outage_of_the_server_costs_nothing_and_ends_by_itself(
    kafka_bootstrap_servers: str, server: Server, outage_s: int
) -> None:
    """One worker writes over gRPC, the other over REST."""
    topic = new_topic(kafka_bootstrap_servers, "away", PARTITIONS)
    dead_letter_topic = f"{topic}-dead-letters"
    settings = connector_settings(
        kafka_bootstrap_servers,
        topic,
        errors__tolerance="all",
        errors__deadletterqueue__topic__name=dead_letter_topic,
        errors__deadletterqueue__topic__replication__factor="1",
        offset__flush__interval__ms="100",
        qdrant__request__timeout__ms="5000",
        # Far less than the long outage: waiting must not cost the membership.
        consumer__override__session__timeout__ms="10000",
        consumer__override__max__poll__interval__ms="10000",
    )
    configs = [
        ConnectorConfig.from_mapping({**settings, key: url})
        for key, url in (
            ("qdrant.grpc.url", server.process.grpc_url),
            ("qdrant.rest.url", server.process.rest_url),
        )
    ]
    workers = [Connector(config, QdrantTarget(config)) for config in configs]
    group = configs[0].source
    with rest_client(server.process.rest_url) as client:
        make_collection(client, COLLECTION)
        stream = Stream(kafka_bootstrap_servers, topic, COLLECTION)
        try:
            for worker in workers:
                worker.start()
            wait_until(lambda: all(one.progress().points_written for one in workers), "both write")
            before = members(kafka_bootstrap_servers, group)
            server.kill()
            # What had been written by then may still be committed.
            wait_until(lambda: all(one.progress().retries for one in workers), "both wait")
            time.sleep(1.0)
            at_first = committed(kafka_bootstrap_servers, group, topic)
            time.sleep(outage_s)
            assert committed(kafka_bootstrap_servers, group, topic) == at_first
            assert members(kafka_bootstrap_servers, group) == before
            assert {one.status().state for one in workers} == {TaskState.RUNNING}
            assert read_topic(kafka_bootstrap_servers, dead_letter_topic) == []
            server.start_again()
            wait_until_more_is_written(client, COLLECTION, last_number(client, COLLECTION))
            stream.end()
            wait_until_folded(client, kafka_bootstrap_servers, topic, COLLECTION)
            ends = log_ends(kafka_bootstrap_servers, topic)
            wait_until(
                lambda: committed(kafka_bootstrap_servers, group, topic) == ends,
                "all is committed",
            )
            assert members(kafka_bootstrap_servers, group) == before
        finally:
            stream.end()
            for worker in workers:
                worker.stop(CALL_TIMEOUT_S)
    assert read_topic(kafka_bootstrap_servers, dead_letter_topic) == []
    assert [one.status().trace for one in workers] == [None, None]
