"""Section 2 of the sink's contract, sentence by sentence: order, batches, delivery."""

from __future__ import annotations

import json
import logging
import random
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from confluent_kafka import Message

from headrace.model.errors import WrongVectorDimension
from headrace.model.ids import PointId
from headrace.model.operations import SourceOffset, SourcePartition
from headrace.model.points import PointStruct
from headrace.server.options import ServeOptions
from headrace.server.run import Serving, serve_in_thread
from headrace.service.service import Service
from headrace.sink.config import ConnectorConfig
from headrace.sink.connector import Connector
from headrace.sink.kafka_record import KafkaHeaders, KafkaRecord
from headrace.sink.qdrant_target import QdrantTarget
from headrace.sink.target import EmbeddedTarget
from tests.sink import mock_kafka
from tests.sink.contract.sink import Sink, config_of, make_collection
from tests.sink.memory_target import MemoryTarget
from tests.sink.mock_kafka import MockKafka
from tests.sink.records import PARTITION, kafka_records, tombstone_key, value
from tests.sink.stub_qdrant import Answer, stub_qdrant
from tests.sink.test_batch import Rig
from tests.sink.test_connector import (
    PATIENCE_S,
    SOURCE,
    running,
    settings,
    wait_until,
    wait_until_read,
)

DEAD_LETTERS = {"errors__tolerance": "all", "errors__deadletterqueue__topic__name": "dead"}


@contextmanager
def running_into(kafka: MockKafka, protocol: str, url: str, **changed: str) -> Iterator[Connector]:
    """A connector into a server."""
    given = {f"qdrant__{protocol}__url": url, **changed}
    config = ConnectorConfig.from_mapping(settings(kafka, **given))
    target = QdrantTarget(config)
    connector = Connector(config, target)
    connector.start()
    try:
        yield connector
    finally:
        connector.stop(PATIENCE_S)
        target.close()


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server of the module's own."""
    data: Path = tmp_path_factory.mktemp("store") / "data"
    with serve_in_thread(ServeOptions(data, http_port=0, grpc_port=0)) as serving:
        yield serving


def headers_of(letter: Message) -> dict[str, str]:
    pairs: list[tuple[str, bytes]] = list(letter.headers() or [])  # type: ignore[arg-type]
    return {name: text.decode() for name, text in pairs}


# Order


def test_the_record_with_the_highest_offset_wins_also_inside_one_poll() -> None:
    """Java loses the newest of three updates in 100 of 200 runs."""
    chance = random.Random(1)
    for run in range(200):
        numbers = [chance.randrange(5) for _ in range(30)]
        records = [
            (tombstone_key(point_id), None) if chance.random() < 0.2 else value(point_id, n=number)
            for number, point_id in enumerate(numbers)
        ]
        rig = Rig()
        rig.write(kafka_records(*records))
        last = dict(zip(numbers, records, strict=True))
        expected = {
            point_id: json.loads(one)["payload"]
            for point_id, one in last.items()
            if isinstance(one, bytes)
        }
        stored = {point_id: json.loads(one) for point_id, one in rig.points.items()}
        assert stored == expected, run


def test_ids_are_ordered_by_collection() -> None:
    rig = Rig()
    vectors = rig.target.configs["c"]
    rig.target.create_collection("d", vectors)
    rig.write(
        kafka_records(
            value(1, n=1), value(1, n=2, collection_name="d"), value(1, n=3),
            (tombstone_key(1, "d"), None),
        )
    )  # fmt: skip
    assert rig.points == {1: b'{"n":3}'}
    assert rig.target.collections["d"] == {}


# Batches


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_a_thousand_alternating_upserts_and_tombstones_are_a_few_requests(
    kafka: MockKafka, protocol: str
) -> None:
    kafka.create_topic("topic")
    kafka.produce(
        "topic",
        *(value(n) if n % 2 else (tombstone_key(n), None) for n in range(1_000)),
    )
    with (
        stub_qdrant(protocol) as stub,
        running_into(kafka, protocol, stub.url, linger__ms="1000") as connector,
    ):
        wait_until_read(connector, 1_000)
        assert sum(points for points, _ in stub.writes) == 1_000
        # Not 2,000; some more than two since several lanes share them.
        assert len(stub.writes) <= 20


def test_a_batch_closes_by_count(kafka: MockKafka) -> None:
    kafka.create_topic("topic")
    kafka.produce("topic", *(value(n) for n in range(10)))
    target = MemoryTarget(c=2)
    with running(kafka, target, batch__size="3", linger__ms="2000") as connector:
        wait_until_read(connector, 10)
    assert target.events[0] == "write c +3 -0"
    assert len(target.events) >= 4


def test_a_batch_closes_by_bytes(kafka: MockKafka) -> None:
    kafka.create_topic("topic")
    kafka.produce("topic", *(value(n, pad="x" * 1_000) for n in range(10)))
    target = MemoryTarget(c=2)
    with running(kafka, target, batch__bytes="2500", linger__ms="2000") as connector:
        wait_until_read(connector, 10)
    assert target.events == ["write c +2 -0"] * 5


def test_a_batch_closes_by_time(kafka: MockKafka) -> None:
    kafka.create_topic("topic")
    target = MemoryTarget(c=2)
    with running(kafka, target, linger__ms="300") as connector:
        kafka.produce("topic", value(1))
        # Far from full in count and bytes.
        wait_until_read(connector, 1)
    assert target.events == ["write c +1 -0"]


def test_an_oversize_record_travels_alone(kafka: MockKafka) -> None:
    kafka.create_topic("topic")
    big = value(2, pad="x" * 5_000)
    kafka.produce("topic", value(1), big, value(3))
    target = MemoryTarget(c=2)
    with running(kafka, target, batch__bytes="1000", linger__ms="1000") as connector:
        wait_until_read(connector, 3)
        assert connector.progress().dead_letters == 0
    assert target.events == ["write c +1 -0"] * 3


@pytest.mark.parametrize(
    ("protocol", "answer"),
    [
        ("rest", Answer(413, grpc.StatusCode.OK, "Payload Too Large")),
        ("grpc", Answer(0, grpc.StatusCode.OUT_OF_RANGE, "decoded message length too large")),
        ("grpc", Answer(0, grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger")),
    ],
)
def test_a_record_that_the_server_finds_too_large_is_a_dead_letter_with_its_size(
    kafka: MockKafka, protocol: str, answer: Answer
) -> None:
    kafka.create_topic("topic")
    kafka.create_topic("dead")
    big = value(2, pad="x" * 5_000_000)
    kafka.produce("topic", value(1), big, value(3), message_bytes_max=10_000_000)
    context = {"errors__deadletterqueue__context__headers__enable": "true"}
    with stub_qdrant(protocol) as stub:
        stub.answer_of = lambda bytes_count: answer if bytes_count > 4_500_000 else None
        with running_into(kafka, protocol, stub.url, **DEAD_LETTERS, **context) as connector:
            wait_until_read(connector, 3)
            assert connector.progress().points_written == 2
    (letter,) = kafka.read("dead")
    assert letter.value() == big
    text = headers_of(letter)["__connect.errors.exception.message"]
    assert text.endswith(f"The record's key and value have {len(big)} bytes")


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_a_record_beyond_the_limit_of_headrace_serve_is_refused_with_its_size(
    serving: Serving, protocol: str
) -> None:
    limit_bytes = {"grpc": 64, "rest": 32}[protocol] * 2**20
    serving.service.delete_collection("c")
    make_collection(serving.service)
    url = {f"qdrant__{protocol}__url": url_of(serving, protocol)}
    target = QdrantTarget(config_of(**url))
    sink = Sink(serving.service, target, **url)
    sink.take(value(1), value(2, pad="x" * limit_bytes), value(3))
    (reason,) = sink.reasons
    assert re.search(rf"{limit_bytes // 1_000_000}\d{{6}} bytes", reason) is not None
    assert serving.service.points_count("c") == 2
    target.close()


def url_of(serving: Serving, protocol: str) -> str:
    return serving.rest_url if protocol == "rest" else f"http://{serving.grpc_address}"


# Delivery


def test_a_batch_and_its_offsets_are_one_atomic_write_in_the_engine(service: Service) -> None:
    make_collection(service)
    other = SourcePartition("connect-test", "topic", 1)
    mixed = [
        *kafka_records(value(1), value(2)),
        *kafka_records((tombstone_key(1), None), partition=other),
    ]
    writes: list[Sequence[SourceOffset]] = []

    class Counting(EmbeddedTarget):
        def write(
            self,
            collection_name: str,
            points: Sequence[PointStruct],
            deleted_ids: Sequence[PointId],
            source_offsets: Sequence[SourceOffset],
        ) -> None:
            super().write(collection_name, points, deleted_ids, source_offsets)
            writes.append(source_offsets)

    Sink(service, Counting(service)).take_records(mixed)
    assert [len(one) for one in writes] == [2]
    assert service.source_offsets("c") == {PARTITION: 2, other: 1}


def test_a_write_that_the_engine_refuses_moves_no_offset(service: Service) -> None:
    sink = Sink(service)
    sink.take(value(1))
    before = service.source_offsets("c")
    wide = PointStruct(2, {"": np.ones(7, np.float32)})
    with pytest.raises(WrongVectorDimension):
        EmbeddedTarget(service).write("c", [wide], [], [SourceOffset(PARTITION, 9)])
    assert service.source_offsets("c") == before == {PARTITION: 1}
    assert service.points_count("c") == 1


def test_on_start_the_consumer_resumes_from_the_engines_offsets(
    kafka: MockKafka, service: Service
) -> None:
    make_collection(service)
    kafka.create_topic("topic")
    kafka.produce("topic", *(value(n) for n in range(5)))
    # What Kafka was told does not count.
    kafka.commit(SOURCE, "topic", 3)
    config = ConnectorConfig.from_mapping(settings(kafka))
    for expected in (5, 2):
        connector = Connector(config, EmbeddedTarget(service))
        connector.start()
        wait_until_read(connector, expected)
        connector.stop(PATIENCE_S)
        assert connector.progress().records_read == expected
        kafka.produce("topic", value(5), value(6))
    assert service.points_count("c") == 7


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_a_write_into_a_server_waits_and_only_then_is_committed(
    kafka: MockKafka, protocol: str
) -> None:
    kafka.create_topic("topic")
    kafka.produce("topic", value(1), value(2))
    slow = Answer(503, grpc.StatusCode.UNAVAILABLE, delay_s=0.5)
    with stub_qdrant(protocol) as stub:
        stub.answers = [slow] * 2
        with running_into(kafka, protocol, stub.url) as connector:
            wait_until(lambda: len(stub.asked_s) > 0)
            assert kafka.committed(SOURCE, "topic") <= 0
            wait_until_read(connector, 2)
        assert all(waits for _, waits in stub.writes)
        assert sum(points for points, _ in stub.writes) == 2
    assert kafka.committed(SOURCE, "topic") == 2


def test_records_of_aborted_transactions_are_not_asked_for() -> None:
    assert config_of().consumer_settings(0)["isolation.level"] == "read_committed"


# Rebalances


def test_partitions_are_assigned_cooperatively_and_a_member_is_static_if_it_has_a_name() -> None:
    plain = config_of().consumer_settings(0)
    assert plain["partition.assignment.strategy"] == "cooperative-sticky"
    assert "group.instance.id" not in plain
    named = config_of(group__instance__id="one").consumer_settings(0)
    assert named["group.instance.id"] == "one"


def test_a_lost_partition_is_never_committed_for(
    kafka: MockKafka, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "headrace.sink.source")
    kafka.create_topic("topic")
    kafka.produce("topic", value(1))
    target = MemoryTarget(keeps_positions=False, c=2)
    # Nothing is committed but where partitions are handed over.
    with running(kafka, target, offset__flush__interval__ms="3600000") as connector:
        wait_until(lambda: set(target.collections["c"]) == {1})
        wait_until(lambda: connector.progress().lag == 0)
        kafka.fail_next(mock_kafka.HEARTBEAT_REQUEST, [mock_kafka.UNKNOWN_MEMBER_ID])
        wait_until(lambda: "lost topic-0" in caplog.text)
        assert kafka.committed(SOURCE, "topic") <= 0
        # It reads again what it could not commit.
        wait_until_read(connector, 2)
    assert kafka.committed(SOURCE, "topic") == 1


# Version guard


@pytest.mark.parametrize(
    ("settings_of_guard", "versions"),
    [
        ({"version__field": "v"}, "payload"),
        ({"version__field": "v", "version__from": "header.ver"}, "header"),
        ({"version__field": "v", "version__from": "offset"}, "offset"),
    ],
    ids=["version.field", "a record header", "the source offset"],
)
def test_a_stale_record_is_counted_and_skipped_and_no_dead_letter(
    service: Service, settings_of_guard: dict[str, str], versions: str
) -> None:
    sink = Sink(service, None, **settings_of_guard)

    def record(version: int, n: int) -> KafkaRecord:
        payload: dict[str, Any] = {"v": version} if versions == "payload" else {}
        headers: KafkaHeaders = [("ver", str(version).encode())] if versions == "header" else []
        text = value(1, n=n, **payload)
        return KafkaRecord(PARTITION, version, None, text, headers)

    # The second comes late, as from another partition or from a replay.
    for one in (record(20, n=1), record(10, n=2)):
        _forget_offsets(sink)
        sink.take_records([one])
    assert sink.payload(1)["n"] == 1
    assert sink.counters.records_stale == 1
    assert sink.dead.letters == []


def _forget_offsets(sink: Sink) -> None:
    """The engine would pass over a record that it has taken: let it read again."""
    sink.service.move_source({PARTITION: None})


def test_without_a_guard_no_record_is_stale(service: Service) -> None:
    sink = Sink(service)
    for n, offset in ((1, 20), (2, 10)):
        _forget_offsets(sink)
        sink.take_records([KafkaRecord(PARTITION, offset, None, value(1, n=n))])
    assert sink.payload(1) == {"n": 2}
    assert sink.counters.records_stale == 0
