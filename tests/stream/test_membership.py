"""Members that come and go: what stays with whom, and who notices."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

from headrace.server.run import Serving
from headrace.sink.config import ConnectorConfig
from headrace.sink.connector import Connector
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
