"""Members that come and go: what stays with whom, and who notices."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic

from headrace.server.run import Serving
from headrace.sink.config import ConnectorConfig
from headrace.sink.connector import Connector
from headrace.sink.source import Source
from headrace.sink.target import EmbeddedTarget
from headrace.sink.task import TaskState
from tests.stream.harness import (
    CALL_TIMEOUT_S,
    connector_settings,
    new_topic,
    rest_client,
    wait_until,
)
from tests.stream.load import Stream, make_collection, wait_until_folded
from tests.stream.test_rebalance import partitions_of

COLLECTION = "members"
PARTITIONS = 4

pytestmark = pytest.mark.kafka


@pytest.fixture
def moves() -> Iterator[list[str]]:
    """A line for each time that a task was given partitions, or handed some over."""
    lines: list[str] = []
    lock = threading.Lock()

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            is_move = "was given" in text or "handed over" in text
            if is_move and not text.endswith("no partition"):
                with lock:
                    lines.append(text)

    handler = Lines(logging.INFO)
    source_logger = logging.getLogger("headrace.sink.source")
    before = source_logger.level
    source_logger.setLevel(logging.INFO)
    source_logger.addHandler(handler)
    yield lines
    source_logger.removeHandler(handler)
    source_logger.setLevel(before)


def partitions_in(line: str) -> set[str]:
    """The partitions that a line names."""
    return {
        word.strip(",").rpartition("-")[2] for word in line.split()[-PARTITIONS:] if "-" in word
    }


def assigned(admin: AdminClient, connector_name: str) -> set[tuple[str, int]]:
    """The partitions that the members of a connector's group have, as Kafka knows it."""
    group_id = f"connect-{connector_name}"
    group = admin.describe_consumer_groups([group_id])[group_id].result(CALL_TIMEOUT_S)
    return {
        (one.topic, one.partition)
        for member in group.members
        for one in member.assignment.topic_partitions
    }


def test_a_static_member_that_comes_back_costs_no_rebalance(
    kafka_bootstrap_servers: str, serving: Serving, moves: list[str]
) -> None:
    topic = new_topic(kafka_bootstrap_servers, "static", PARTITIONS)
    settings = connector_settings(
        kafka_bootstrap_servers, topic, consumer__override__session__timeout__ms="45000"
    )

    def start(name: str) -> Connector:
        config = ConnectorConfig.from_mapping({**settings, "group.instance.id": name})
        connector = Connector(config, EmbeddedTarget(serving.service))
        connector.start()
        return connector

    with rest_client(serving.rest_url) as client:
        make_collection(client, COLLECTION)
        stream = Stream(kafka_bootstrap_servers, topic, COLLECTION)
        staying, leaving = start("a"), start("b")
        try:
            wait_until(
                lambda: partitions_of(leaving) == partitions_of(staying) == 2, "a share each"
            )
            moves.clear()
            leaving.stop(CALL_TIMEOUT_S)
            (gone,) = moves
            leaving = start("b")
            wait_until(lambda: partitions_of(leaving) == 2, "it has its share again")
            stream.end()
            wait_until_folded(client, kafka_bootstrap_servers, topic, COLLECTION)
            assert len(moves) == 2, moves
            assert partitions_in(moves[1]) == partitions_in(gone)
        finally:
            stream.end()
            for one in (staying, leaving):
                one.stop(CALL_TIMEOUT_S)


def test_a_static_member_whose_name_another_takes_fails_and_says_what_to_do(
    kafka_bootstrap_servers: str, serving: Serving
) -> None:
    topic = new_topic(kafka_bootstrap_servers, "fenced")
    settings = connector_settings(kafka_bootstrap_servers, topic)
    config = ConnectorConfig.from_mapping({**settings, "group.instance.id": "a"})
    target = EmbeddedTarget(serving.service)
    first, second = Connector(config, target), Connector(config, target)
    first.start()
    try:
        wait_until(lambda: partitions_of(first) == 1, "it has the partition")
        second.start()
        wait_until(lambda: first.status().state is TaskState.FAILED, "it has failed")
        assert "A group.instance.id is for one member alone" in str(first.status().trace)
        wait_until(lambda: partitions_of(second) == 1, "the other has it")
        assert second.status().state is TaskState.RUNNING
    finally:
        for one in (first, second):
            one.stop(CALL_TIMEOUT_S)


def test_partitions_that_a_killed_static_member_was_giving_up_are_given_to_another(
    kafka_bootstrap_servers: str, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes between the two assignments of a cooperative rebalance; the second never comes."""
    topic = new_topic(kafka_bootstrap_servers, "between", PARTITIONS)
    settings = connector_settings(
        kafka_bootstrap_servers, topic, consumer__override__session__timeout__ms="45000"
    )
    revokes, is_over = threading.Event(), threading.Event()
    on_revoke = Source._on_revoke

    def block_the_first(source: Source, consumer: Consumer, given: list[TopicPartition]) -> None:
        if not revokes.is_set():
            revokes.set()
            is_over.wait()
        on_revoke(source, consumer, given)

    monkeypatch.setattr(Source, "_on_revoke", block_the_first)
    target = EmbeddedTarget(serving.service)
    with rest_client(serving.rest_url) as client:
        make_collection(client, COLLECTION)
        stream = Stream(kafka_bootstrap_servers, topic, COLLECTION)
        going, other, successor = (
            Connector(ConnectorConfig.from_mapping({**settings, "group.instance.id": name}), target)
            for name in ("a", "b", "a")
        )
        going.start()
        try:
            wait_until(lambda: partitions_of(going) == PARTITIONS, "it has all")
            other.start()
            assert revokes.wait(CALL_TIMEOUT_S)
            # Who takes over its name stands where one that was killed and started again would.
            successor.start()
            wait_until(lambda: partitions_of(successor) == 2, "it has what is left of its share")
            assert partitions_of(other) == 0
            wait_until(
                lambda: partitions_of(other) == partitions_of(successor) == 2, "a share each"
            )
            stream.end()
            wait_until_folded(client, kafka_bootstrap_servers, topic, COLLECTION)
        finally:
            is_over.set()
            stream.end()
            for one in (going, other, successor):
                one.stop(CALL_TIMEOUT_S)


@pytest.mark.parametrize("change", ["partitions", "topic of the pattern", "topics", "fewer topics"])
def test_what_was_changed_while_a_static_member_was_away_is_read(
    kafka_bootstrap_servers: str, serving: Serving, change: str
) -> None:
    first, second = (new_topic(kafka_bootstrap_servers, f"changed-{n}", 2) for n in (1, 2))
    settings = connector_settings(
        kafka_bootstrap_servers,
        f"{first},{second}",
        name=f"sink-{first}",
        group__instance__id="a",
        consumer__override__session__timeout__ms="45000",
    )
    if change == "topic of the pattern":
        del settings["topics"]
        settings["topics.regex"] = f"{first}.*"
    changed = dict(settings)
    if change == "partitions":
        expected = {(first, number) for number in range(4)} | {(second, 0), (second, 1)}
    elif change == "topic of the pattern":
        expected = {(name, number) for name in (first, f"{first}-more") for number in (0, 1)}
    elif change == "topics":
        third = new_topic(kafka_bootstrap_servers, "changed-3", 2)
        changed["topics"] = f"{second},{third}"
        expected = {(name, number) for name in (second, third) for number in (0, 1)}
    else:
        changed["topics"] = second
        expected = {(second, 0), (second, 1)}

    def start(settings: Mapping[str, str]) -> Connector:
        connector = Connector(
            ConnectorConfig.from_mapping(settings), EmbeddedTarget(serving.service)
        )
        connector.start()
        return connector

    connector = start(settings)
    try:
        expected_before = 2 if change == "topic of the pattern" else 4
        wait_until(lambda: partitions_of(connector) == expected_before, "it has all")
        connector.stop(CALL_TIMEOUT_S)
        admin = AdminClient({"bootstrap.servers": kafka_bootstrap_servers})
        if change == "partitions":
            admin.create_partitions([NewPartitions(first, 4)])[first].result(CALL_TIMEOUT_S)
        elif change == "topic of the pattern":
            more = NewTopic(f"{first}-more", 2, 1)
            admin.create_topics([more])[more.topic].result(CALL_TIMEOUT_S)
        connector = start(changed)

        def partitions() -> set[tuple[str, int]]:
            lags = connector.counters()[0].partition_lags
            return {(one.stream, one.partition) for one in lags}

        wait_until(lambda: partitions() == expected, "it has all of the new ones")
        wait_until(lambda: assigned(admin, settings["name"]) == expected, "and Kafka knows")
    finally:
        connector.stop(CALL_TIMEOUT_S)


def test_partitions_that_stay_are_read_on_while_others_move(
    kafka_bootstrap_servers: str, serving: Serving, moves: list[str]
) -> None:
    topic = new_topic(kafka_bootstrap_servers, "cooperative", PARTITIONS)
    config = ConnectorConfig.from_mapping(connector_settings(kafka_bootstrap_servers, topic))
    target = EmbeddedTarget(serving.service)
    with rest_client(serving.rest_url) as client:
        make_collection(client, COLLECTION)
        stream = Stream(kafka_bootstrap_servers, topic, COLLECTION)
        first, second = Connector(config, target), Connector(config, target)
        first.start()
        try:
            wait_until(lambda: partitions_of(first) == PARTITIONS, "it has all")
            moves.clear()
            second.start()
            wait_until(lambda: partitions_of(second) == 2, "a share each")
            # Eager members would have handed over all four.
            handed_over, given = moves
            assert len(partitions_in(handed_over)) == 2
            assert partitions_in(given) == partitions_in(handed_over)
            stream.end()
            wait_until_folded(client, kafka_bootstrap_servers, topic, COLLECTION)
        finally:
            stream.end()
            for one in (first, second):
                one.stop(CALL_TIMEOUT_S)
