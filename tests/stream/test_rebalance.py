"""Partitions that move while batches are under way lose and double nothing."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from headrace.model.operations import SourceOffset
from headrace.model.points import PointStruct
from headrace.server.run import Serving
from headrace.sink.config import ConnectorConfig
from headrace.sink.connector import Connector
from headrace.sink.qdrant_target import QdrantTarget
from headrace.sink.source import Source
from headrace.sink.target import EmbeddedTarget, Target
from tests.stream.harness import (
    CALL_TIMEOUT_S,
    connector_settings,
    new_topic,
    rest_client,
    wait_until,
)
from tests.stream.load import SEED, Stream, make_collection, wait_until_folded

COLLECTION = "rebalanced"
PARTITIONS = 4
# A member that comes and one that goes are one rebalance each. The second is the gate of the
# fault table.
REBALANCES = [4, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(3_600)])]

pytestmark = pytest.mark.kafka


class Slow:
    """A target that takes its time: now and then so long that its task polls meanwhile."""

    _moments = random.Random(SEED)
    writes_under_way = 0

    def write(
        self,
        collection_name: str,
        points: Sequence[PointStruct],
        deleted_ids: Sequence[Any],
        source_offsets: Sequence[SourceOffset],
    ) -> None:
        Slow.writes_under_way += 1
        time.sleep(1.5 if self._moments.random() < 0.05 else self._moments.uniform(0.0, 0.1))
        super().write(collection_name, points, deleted_ids, source_offsets)  # type: ignore[misc]
        Slow.writes_under_way -= 1


class SlowEmbedded(Slow, EmbeddedTarget):
    pass


class SlowQdrant(Slow, QdrantTarget):
    pass


@pytest.fixture
def handovers(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each time that partitions were handed over, whether that was in mid-batch."""
    found: list[bool] = []
    on_revoke = Source._on_revoke

    def note(source: Source, consumer: Consumer, revoked: list[TopicPartition]) -> None:
        found.append(bool(source._ready) or Slow.writes_under_way > 0)
        on_revoke(source, consumer, revoked)

    monkeypatch.setattr(Source, "_on_revoke", note)
    return found


@pytest.fixture
def rebalances(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """A line for each time that a task was given partitions, or handed some over."""
    lines: list[str] = []
    lock = threading.Lock()

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            with lock:
                lines.append(record.getMessage())

    handler = Lines()
    source_logger = logging.getLogger("headrace.sink.source")
    source_logger.addHandler(handler)
    caplog.set_level(logging.INFO, "headrace.sink.source")
    yield lines
    source_logger.removeHandler(handler)


def partitions_of(connector: Connector) -> int:
    """How many partitions the one task of a connector has, as far as it knows their ends."""
    return len(connector.counters()[0].partition_lags)


@pytest.mark.parametrize("count", REBALANCES)
@pytest.mark.parametrize("target", ["embedded", "gRPC"])
def test_rebalances_in_the_middle_of_batches_leave_the_fold_of_the_topic(
    kafka_bootstrap_servers: str,
    serving: Serving,
    target: str,
    count: int,
    handovers: list[bool],
    rebalances: list[str],
) -> None:
    topic = new_topic(kafka_bootstrap_servers, "rebalanced", PARTITIONS)
    settings = connector_settings(
        kafka_bootstrap_servers,
        topic,
        # So that a task spends most of its time in the middle of a batch.
        batch__size="100000",
        linger__ms="300",
    )
    if target == "gRPC":
        settings["qdrant.grpc.url"] = f"http://{serving.grpc_address}"
    config = ConnectorConfig.from_mapping(settings)
    slow: Target = SlowQdrant(config) if target == "gRPC" else SlowEmbedded(serving.service)
    with rest_client(serving.rest_url) as client:
        make_collection(client, COLLECTION)
        stream = Stream(kafka_bootstrap_servers, topic, COLLECTION)
        staying = Connector(config, slow)
        staying.start()
        try:
            for _ in range(count // 2):
                wait_until(lambda: partitions_of(staying) == PARTITIONS, "it has all partitions")
                passing = Connector(config, slow)
                passing.start()
                wait_until(lambda one=passing: partitions_of(one) > 0, "it has joined")  # type: ignore[misc]
                passing.stop(CALL_TIMEOUT_S)
                assert passing.status().trace is None, passing.status().trace
            stream.end()
            wait_until_folded(client, kafka_bootstrap_servers, topic, COLLECTION)
            assert staying.status().trace is None, staying.status().trace
        finally:
            stream.end()
            staying.stop(CALL_TIMEOUT_S)
            slow.close()
    handed_over = [line for line in rebalances if "handed over" in line]
    print(f"{len(handed_over)} handovers, {sum(handovers)} in mid-batch")
    assert len(handed_over) >= count
    assert any(handovers)
    assert not [line for line in rebalances if " lost " in line]
