from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
from confluent_kafka import Consumer

from headrace.model.errors import NoSpace, RateLimited, Unavailable
from headrace.model.operations import SourcePartition
from headrace.model.points import PointStruct
from headrace.sink import source
from headrace.sink.config import ConnectorConfig
from headrace.sink.connector import Connector
from headrace.sink.task import TaskState
from tests.sink import mock_kafka
from tests.sink.memory_target import MemoryTarget
from tests.sink.mock_kafka import MockKafka
from tests.sink.records import tombstone_key, value

PATIENCE_S = 60.0
SOURCE = "connect-test"
PARTITION = SourcePartition(SOURCE, "topic", 0)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


def settings(kafka: MockKafka, **changed: str) -> dict[str, str]:
    return {
        "name": "test",
        "topics": "topic",
        "bootstrap.servers": kafka.bootstrap_servers,
        "offset.flush.interval.ms": "50",
        "retry.backoff.max.ms": "50",
        # The mock cluster lets each new member of a group wait for most of this.
        "consumer.override.session.timeout.ms": "2500",
        "consumer.override.heartbeat.interval.ms": "200",
        "consumer.override.fetch.wait.max.ms": "50",
        "consumer.override.reconnect.backoff.max.ms": "200",
    } | {name.replace("__", "."): text for name, text in changed.items()}


@contextmanager
def running(kafka: MockKafka, target: MemoryTarget, **changed: str) -> Iterator[Connector]:
    config = ConnectorConfig.from_mapping(settings(kafka, **changed))
    connector = Connector(config, target)
    connector.start()
    try:
        yield connector
    finally:
        connector.stop(PATIENCE_S)
    assert {task.state for task in connector.status().tasks} <= {
        TaskState.STOPPED,
        TaskState.FAILED,
    }


def wait_until_read(connector: Connector, records: int) -> None:
    def is_read() -> bool:
        assert connector.status().trace is None, connector.status().trace
        progress = connector.progress()
        return progress.records_read >= records and progress.lag == 0

    wait_until(is_read)


def wait_for(event: threading.Event) -> None:
    assert event.wait(PATIENCE_S)


def wait_until_failed(connector: Connector) -> str:
    assert connector.wait(PATIENCE_S)
    status = connector.status()
    assert status.state is TaskState.FAILED
    assert status.trace is not None
    return status.trace


class TestRunning:
    @pytest.mark.parametrize("keeps_positions", [True, False])
    def test_records_become_points(self, kafka: MockKafka, keeps_positions: bool) -> None:
        kafka.create_topic("topic")
        kafka.produce("topic", value(1, n=1), value(2, n=2), value(1, n=3))
        target = MemoryTarget(keeps_positions, c=2)
        with running(kafka, target) as connector:
            wait_until_read(connector, 3)
            kafka.produce("topic", (tombstone_key(2), None))
            wait_until_read(connector, 4)
            assert target.collections["c"] == {1: b'{"n":3}'}
            progress = connector.progress()
            assert progress.points_written >= 2
            assert progress.points_deleted == 1
            assert connector.status().state is TaskState.RUNNING
        assert connector.status().state is TaskState.STOPPED
        assert kafka.committed(SOURCE, "topic") == 4
        assert target.saved == ({PARTITION: 4} if keeps_positions else {})

    @pytest.mark.parametrize("keeps_positions", [True, False])
    def test_a_second_run_goes_on_where_the_first_ended(
        self, kafka: MockKafka, keeps_positions: bool
    ) -> None:
        kafka.create_topic("topic")
        kafka.produce("topic", value(1), value(2))
        target = MemoryTarget(keeps_positions, c=2)
        with running(kafka, target) as connector:
            wait_until_read(connector, 2)
        kafka.produce("topic", value(3))
        with running(kafka, target) as connector:
            wait_until_read(connector, 1)
        assert connector.progress().records_read == 1
        assert set(target.collections["c"]) == {1, 2, 3}

    def test_a_lost_position_costs_a_second_reading_and_no_second_write(
        self, kafka: MockKafka
    ) -> None:
        kafka.create_topic("topic")
        kafka.produce("topic", value(1), value(2), b"{")
        target = MemoryTarget(c=2)
        with running(kafka, target, errors__tolerance="all") as connector:
            wait_until_read(connector, 3)
        target.saved = {}
        target.events.clear()
        with running(kafka, target, errors__tolerance="all") as connector:
            wait_until_read(connector, 3)
        assert target.events == []
        assert connector.progress().records_repeated == 2

    def test_topics_can_be_given_by_pattern(self, kafka: MockKafka) -> None:
        for topic in ("in-1", "in-22", "not-in-1", "in-1-not"):
            kafka.create_topic(topic)
            kafka.produce(topic, value(topic.count("-") * 100 + len(topic)))
        target = MemoryTarget(c=2)
        changed = settings(kafka, topics__regex=r"in-\d+")
        del changed["topics"]
        connector = Connector(ConnectorConfig.from_mapping(changed), target)
        connector.start()
        wait_until_read(connector, 2)
        connector.stop(PATIENCE_S)
        assert set(target.collections["c"]) == {104, 105}

    def test_tasks_share_the_partitions(self, kafka: MockKafka) -> None:
        kafka.create_topic("topic", partitions=4)
        target = MemoryTarget(c=2)
        with running(kafka, target, tasks__max="3") as connector:
            for partition in range(4):
                kafka.produce("topic", value(partition), partition=partition)
            wait_until_read(connector, 4)
            assert len(connector.status().tasks) == 3
        assert set(target.collections["c"]) == {0, 1, 2, 3}
        assert set(target.saved.values()) == {1}

    def test_a_batch_closes_by_count_and_by_bytes(self, kafka: MockKafka) -> None:
        kafka.create_topic("topic")
        kafka.produce("topic", *(value(n, pad="x" * 100) for n in range(10)))
        target = MemoryTarget(c=2)
        with running(kafka, target, batch__size="3", linger__ms="500") as connector:
            wait_until_read(connector, 10)
        assert max(int(one.split("+")[1].split()[0]) for one in target.events) == 3
        target = MemoryTarget(c=2)
        with running(kafka, target, batch__bytes="400", linger__ms="500") as connector:
            wait_until_read(connector, 10)
        assert max(int(one.split("+")[1].split()[0]) for one in target.events) == 2
        target = MemoryTarget(c=2)
        with running(kafka, target, batch__bytes="1") as connector:
            wait_until_read(connector, 10)
        assert target.events == ["write c +1 -0"] * 10

    def test_a_paused_connector_reads_nothing_until_it_is_resumed(self, kafka: MockKafka) -> None:
        kafka.create_topic("topic")
        target = MemoryTarget(c=2)
        with running(kafka, target) as connector:
            wait_until_read(connector, 0)
            connector.pause()
            wait_until(lambda: connector.status().state is TaskState.PAUSED)
            kafka.produce("topic", value(1))
            assert not connector.wait(0.5)
            assert target.collections["c"] == {}
            connector.resume()
            wait_until_read(connector, 1)

    @pytest.mark.parametrize("keeps_positions", [True, False])
    def test_latest_skips_what_is_there_already(
        self, kafka: MockKafka, keeps_positions: bool
    ) -> None:
        kafka.create_topic("topic")
        kafka.produce("topic", value(1))
        target = MemoryTarget(keeps_positions, c=2)
        latest = {"consumer__override__auto__offset__reset": "latest"}
        with running(kafka, target, **latest) as connector:
            wait_until_read(connector, 0)
            kafka.produce("topic", value(2))
            wait_until_read(connector, 1)
        assert set(target.collections["c"]) == {2}


class TestTargetErrors:
    @pytest.mark.parametrize(
        "failure", [Unavailable("down"), NoSpace("full"), RateLimited("slow down", 0)]
    )
    def test_the_task_waits_until_the_target_is_back(
        self, kafka: MockKafka, failure: Exception
    ) -> None:
        kafka.create_topic("topic")
        target = MemoryTarget(c=2)
        target.failures = [failure] * 7  # type: ignore[list-item]
        changed = {"errors__tolerance": "all", "errors__deadletterqueue__topic__name": "dead"}
        kafka.create_topic("dead")
        kafka.produce("topic", value(1), b"{", value(2))
        with running(kafka, target, **changed) as connector:
            wait_until_read(connector, 3)
            assert connector.progress().retries == 7
            assert connector.progress().dead_letters == 1
        assert set(target.collections["c"]) == {1, 2}
        assert len(kafka.read("dead")) == 1

    def test_stop_does_not_wait_for_a_target_that_is_down(self, kafka: MockKafka) -> None:
        kafka.create_topic("topic")
        kafka.produce("topic", value(1))
        target = MemoryTarget(c=2)
        target.failures = [RateLimited("come back tomorrow", 86_400)] * 100
        with running(kafka, target) as connector:
            wait_until(lambda: connector.progress().retries > 0)
            assert connector.status().state is TaskState.RUNNING
        assert connector.status().state is TaskState.STOPPED
        assert target.saved.get(PARTITION, 0) == 0
        assert kafka.committed(SOURCE, "topic") <= 0

    def test_a_retry_timeout_fails_the_task(self, kafka: MockKafka) -> None:
        kafka.create_topic("topic")
        kafka.produce("topic", value(1))
        target = MemoryTarget(c=2)
        target.failures = [Unavailable("down")] * 1_000
        with running(kafka, target, retry__timeout__ms="200") as connector:
            assert "(retry.timeout.ms) the target takes nothing: " in wait_until_failed(connector)
        assert target.saved.get(PARTITION, 0) == 0

    def test_a_missing_collection_fails_the_task(self, kafka: MockKafka) -> None:
        kafka.create_topic("topic")
        kafka.produce("topic", value(1, collection_name="nowhere"))
        with running(kafka, MemoryTarget()) as connector:
            assert "collection.auto.create=true" in wait_until_failed(connector)


# Shorter than a slow write; the client does not take less than the session.
SHORT_POLL_INTERVAL = {
    "consumer__override__session__timeout__ms": "2000",
    "consumer__override__max__poll__interval__ms": "2000",
}


class TestSlowTargets:
    def test_a_write_slower_than_the_poll_interval_costs_no_membership(
        self, kafka: MockKafka, caplog: pytest.LogCaptureFixture
    ) -> None:
        kafka.create_topic("topic")
        kafka.produce("topic", value(1))
        target = MemoryTarget(c=2)
        is_slow = threading.Event()
        is_slow.set()
        target.before_write = lambda _points: time.sleep(4.5) if is_slow.is_set() else None
        with running(kafka, target, **SHORT_POLL_INTERVAL) as connector:
            wait_until_read(connector, 1)
            is_slow.clear()
            kafka.produce("topic", value(2))
            wait_until_read(connector, 2)
            assert connector.progress().records_repeated == 0
        assert target.events == ["write c +1 -0"] * 2
        assert "lost topic-0" not in caplog.text
        assert kafka.committed(SOURCE, "topic") == 2

    def test_nothing_is_read_while_a_write_is_slow(self, kafka: MockKafka) -> None:
        kafka.create_topic("topic")
        kafka.produce("topic", value(0))
        target = MemoryTarget(c=2)
        may_end = threading.Event()
        target.before_write = lambda _points: wait_for(may_end)
        with running(kafka, target) as connector:
            wait_until(lambda: connector.progress().records_read == 1)
            source = connector._tasks[0]._source
            kafka.produce("topic", value(1))
            wait_until(lambda: connector.progress().records_read == 2)
            wait_until(lambda: source._is_paused)
            kafka.produce("topic", *(value(n) for n in range(2, 100)))
            time.sleep(0.5)
            assert connector.status().state is TaskState.RUNNING
            # The batch that is written, and one that waits behind it.
            assert connector.progress().records_read == 2
            assert not source._ready
            may_end.set()
            wait_until_read(connector, 100)

    def test_partitions_that_leave_wait_for_a_slow_write(self, kafka: MockKafka) -> None:
        kafka.create_topic("topic", partitions=2)
        for n in range(20):
            kafka.produce("topic", value(n), partition=n % 2)
        target = MemoryTarget(c=2)
        may_end = threading.Event()
        target.before_write = lambda _points: wait_for(may_end)
        with running(kafka, target) as first:
            wait_until(lambda: first.progress().records_read == 20)
            with running(kafka, target) as second:
                # The group waits for the first member to hand over what it is writing.
                time.sleep(4)
                assert second.progress().records_read == 0
                may_end.set()
                wait_until(lambda: (first.progress().lag, second.progress().lag) == (0, 0))
                records_read = first.progress().records_read + second.progress().records_read
        assert records_read == 20
        assert set(target.collections["c"]) == set(range(20))
        assert target.saved == {SourcePartition(SOURCE, "topic", n): 10 for n in range(2)}

    def test_a_write_that_outlasts_the_handover_is_not_committed_for_what_left(
        self, kafka: MockKafka, caplog: pytest.LogCaptureFixture
    ) -> None:
        kafka.create_topic("topic", partitions=2)
        for n in range(20):
            kafka.produce("topic", value(n), partition=n % 2)
        target = MemoryTarget(keeps_positions=False, c=2)
        may_end = threading.Event()
        target.before_write = lambda _points: wait_for(may_end)
        with running(kafka, target, **SHORT_POLL_INTERVAL) as first:
            wait_until(lambda: first.progress().records_read == 20)
            with running(kafka, target, **SHORT_POLL_INTERVAL) as second:
                wait_until(lambda: "before all was written" in caplog.text)
                wait_until(lambda: second.progress().records_read > 0)
                assert all(kafka.committed(SOURCE, "topic", n) <= 0 for n in range(2))
                may_end.set()
                wait_until(lambda: (first.progress().lag, second.progress().lag) == (0, 0))
        assert set(target.collections["c"]) == set(range(20))
        assert [kafka.committed(SOURCE, "topic", n) for n in range(2)] == [10, 10]

    def test_stop_waits_for_a_slow_write(self, kafka: MockKafka) -> None:
        kafka.create_topic("topic")
        kafka.produce("topic", value(1))
        target = MemoryTarget(c=2)
        target.before_write = lambda _points: time.sleep(2.5)
        with running(kafka, target) as connector:
            wait_until(lambda: connector.progress().records_read == 1)
        assert set(target.collections["c"]) == {1}
        assert target.saved == {PARTITION: 1}
        assert kafka.committed(SOURCE, "topic") == 1


class TestDeadLetters:
    def test_a_dead_letter_is_the_record_as_it_was(self, kafka: MockKafka) -> None:
        kafka.create_topic("topic")
        kafka.create_topic("dead")
        old = ("__connect.errors.topic", b"elsewhere")
        bad = (b"\xffkey", b'{"collection_name":"c","id":-1}')
        kafka.produce(
            "topic", bad, headers=[("mine", b"1"), old, ("none", None)], timestamp_ms=1234
        )
        changed = {
            "errors__tolerance": "all",
            "errors__deadletterqueue__topic__name": "dead",
            "errors__deadletterqueue__context__headers__enable": "true",
        }
        with running(kafka, MemoryTarget(c=2), **changed) as connector:
            wait_until_read(connector, 1)
        (letter,) = kafka.read("dead")
        assert (letter.key(), letter.value(), letter.timestamp()[1]) == (*bad, 1234)
        headers = list(letter.headers() or [])
        assert headers[:2] == [("mine", b"1"), ("none", None)]
        text = "Point ID must be a positive integer"
        assert headers[2:] == [
            ("__connect.errors.topic", b"topic"),
            ("__connect.errors.partition", b"0"),
            ("__connect.errors.offset", b"0"),
            ("__connect.errors.connector.name", b"test"),
            ("__connect.errors.task.id", b"0"),
            ("__connect.errors.stage", b"TASK_PUT"),
            ("__connect.errors.class.name", b"org.apache.kafka.connect.sink.SinkTask"),
            (
                "__connect.errors.exception.class.name",
                b"org.apache.kafka.connect.errors.DataException",
            ),
            ("__connect.errors.exception.message", text.encode()),
            (
                "__connect.errors.exception.stacktrace",
                f"org.apache.kafka.connect.errors.DataException: {text}\n"
                "\tat org.apache.kafka.connect.sink.SinkTask".encode(),
            ),
        ]

    def test_two_equal_bad_records_are_two_dead_letters(self, kafka: MockKafka) -> None:
        kafka.create_topic("topic")
        kafka.create_topic("dead")
        kafka.produce("topic", b"{", b"{", (None, None))
        changed = {"errors__tolerance": "all", "errors__deadletterqueue__topic__name": "dead"}
        with running(kafka, MemoryTarget(c=2), **changed) as connector:
            wait_until_read(connector, 3)
        assert [one.value() for one in kafka.read("dead")] == [b"{", b"{", None]
        assert all(one.headers() is None for one in kafka.read("dead"))

    def test_without_tolerance_the_record_is_written_there_and_the_task_fails(
        self, kafka: MockKafka
    ) -> None:
        kafka.create_topic("topic")
        kafka.create_topic("dead")
        kafka.produce("topic", b"{")
        changed = {"errors__deadletterqueue__topic__name": "dead"}
        with running(kafka, MemoryTarget(c=2), **changed) as connector:
            assert "errors.tolerance=all" in wait_until_failed(connector)
        assert len(kafka.read("dead")) == 1
        assert kafka.committed(SOURCE, "topic") <= 0

    def test_a_topic_that_takes_no_dead_letter_fails_the_task_and_nothing_is_committed(
        self, kafka: MockKafka
    ) -> None:
        kafka.create_topic("topic")
        kafka.create_topic("dead")
        kafka.produce("topic", value(1), b"{")
        kafka.fail_next(mock_kafka.PRODUCE_REQUEST, [mock_kafka.TOPIC_AUTHORIZATION_FAILED] * 10)
        target = MemoryTarget(c=2)
        changed = {"errors__tolerance": "all", "errors__deadletterqueue__topic__name": "dead"}
        with running(kafka, target, **changed) as connector:
            assert "'dead' cannot be written" in wait_until_failed(connector)
        assert target.saved.get(PARTITION, 0) == 0
        assert target.offsets["c"] == {}
        assert kafka.committed(SOURCE, "topic") <= 0

    def test_too_few_brokers_for_the_dead_letter_topic_fail_the_task(
        self, kafka: MockKafka
    ) -> None:
        kafka.create_topic("topic")
        changed = {"errors__deadletterqueue__topic__name": "dead"}
        with running(kafka, MemoryTarget(c=2), **changed) as connector:
            trace = wait_until_failed(connector)
        assert "3 replicas: the cluster has 1 broker(s)" in trace
        assert "errors.deadletterqueue.topic.replication.factor=1" in trace


class TestKafkaErrors:
    def test_a_broker_that_goes_and_comes_back_loses_nothing(self, kafka: MockKafka) -> None:
        kafka.create_topic("topic")
        kafka.produce("topic", value(1))
        target = MemoryTarget(c=2)
        with running(kafka, target) as connector:
            wait_until_read(connector, 1)
            kafka.set_down()
            time.sleep(0.2)
            kafka.set_up()
            kafka.produce("topic", value(2))
            wait_until_read(connector, 2)
        assert set(target.collections["c"]) == {1, 2}

    def test_stop_ends_while_the_broker_is_away(self, kafka: MockKafka) -> None:
        kafka.create_topic("topic")
        kafka.produce("topic", value(1))
        with running(kafka, MemoryTarget(c=2)) as connector:
            wait_until_read(connector, 1)
            kafka.set_down()
            connector.stop(20)
            assert connector.status().state is TaskState.STOPPED
            kafka.set_up()

    def test_stop_ends_while_the_client_waits_for_the_broker(
        self, kafka: MockKafka, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        released, closed = threading.Event(), threading.Event()

        class WaitingConsumer(Consumer):
            """As librdkafka after it has queued a commit for a broker that goes away."""

            def close(self) -> None:
                released.wait(PATIENCE_S)
                super().close()
                closed.set()

        monkeypatch.setattr(source, "Consumer", WaitingConsumer)
        monkeypatch.setattr(source, "_CLOSE_TIMEOUT_S", 0.2)
        kafka.create_topic("topic")
        kafka.produce("topic", value(1))
        target = MemoryTarget(c=2)
        with running(kafka, target) as connector:
            wait_until_read(connector, 1)
            connector.stop(PATIENCE_S)
            assert not released.is_set()
            assert connector.status().state is TaskState.STOPPED
        assert "Kafka does not answer" in caplog.text
        saved = dict(target.saved)
        released.set()
        wait_for(closed)
        assert target.saved == saved

    def test_offsets_that_were_not_committed_are_committed_later(self, kafka: MockKafka) -> None:
        kafka.create_topic("topic")
        target = MemoryTarget(c=2)
        with running(kafka, target) as connector:
            wait_until_read(connector, 0)
            errors = [mock_kafka.INVALID_COMMIT_OFFSET_SIZE]
            kafka.fail_next(mock_kafka.OFFSET_COMMIT_REQUEST, errors)
            kafka.produce("topic", value(1))
            wait_until_read(connector, 1)
            # Nothing else is read that would move them.
            wait_until(lambda: kafka.committed(SOURCE, "topic") == 1)

    def test_a_forbidden_topic_fails_the_task(self, kafka: MockKafka) -> None:
        kafka.create_topic("topic")
        kafka.fail_next(mock_kafka.FETCH_REQUEST, [mock_kafka.TOPIC_AUTHORIZATION_FAILED] * 100)
        with running(kafka, MemoryTarget(c=2)) as connector:
            assert "Kafka refuses this client" in wait_until_failed(connector)

    def test_a_topic_made_anew_fails_the_task(self, kafka: MockKafka) -> None:
        kafka.create_topic("topic")
        kafka.produce("topic", value(1))
        target = MemoryTarget(c=2)
        target.saved = {PARTITION: 1_000}
        with running(kafka, target) as connector:
            trace = wait_until_failed(connector)
        assert "ends at offset 1, but records up to offset 1000 were taken" in trace
        assert target.collections["c"] == {}

    def test_a_committed_offset_beyond_the_end_fails_the_task(self, kafka: MockKafka) -> None:
        kafka.create_topic("topic")
        kafka.produce("topic", value(1))
        kafka.commit(SOURCE, "topic", 1_000)
        target = MemoryTarget(keeps_positions=False, c=2)
        with running(kafka, target) as connector:
            assert "ends at offset 1" in wait_until_failed(connector)
        assert target.collections["c"] == {}

    def test_a_topic_made_anew_while_positions_are_lost_fails_the_task(
        self, kafka: MockKafka
    ) -> None:
        kafka.create_topic("topic")
        kafka.produce("topic", value(1))
        target = MemoryTarget(c=2)
        target.offsets["c"] = {PARTITION: 1_000}
        with running(kafka, target) as connector:
            assert "give the connector another name" in wait_until_failed(connector)

    @pytest.mark.parametrize("keeps_positions", [True, False])
    def test_expired_records_are_passed_over(
        self, kafka: MockKafka, caplog: pytest.LogCaptureFixture, keeps_positions: bool
    ) -> None:
        kafka.create_topic("topic")
        kafka.produce("topic", *(value(n) for n in range(10)))
        kafka.delete_records("topic", 0, 6)
        target = MemoryTarget(keeps_positions, c=2)
        if keeps_positions:
            target.saved = {PARTITION: 2}
        else:
            kafka.commit(SOURCE, "topic", 2)
        with running(kafka, target) as connector:
            wait_until_read(connector, 4)
        assert set(target.collections["c"]) == {6, 7, 8, 9}
        assert "4 records of topic 'topic' partition 0 expired" in caplog.text


class TestRebalance:
    def test_partitions_that_leave_are_flushed_and_go_on_elsewhere(self, kafka: MockKafka) -> None:
        kafka.create_topic("topic", partitions=2)
        target = MemoryTarget(c=2)
        with running(kafka, target) as first:
            for n in range(50):
                kafka.produce("topic", value(n), partition=n % 2)
            with running(kafka, target) as second:
                wait_until(lambda: second.progress().lag is not None)
                for n in range(50, 100):
                    kafka.produce("topic", value(n), partition=n % 2)
                wait_until(lambda: len(target.collections["c"]) == 100)
                wait_until(lambda: (first.progress().lag, second.progress().lag) == (0, 0))
        records_read = first.progress().records_read + second.progress().records_read
        assert records_read == 100
        assert len(target.collections["c"]) == 100
        assert target.saved == {SourcePartition(SOURCE, "topic", n): 50 for n in range(2)}

    def test_a_batch_that_waits_for_the_target_survives_a_rebalance(self, kafka: MockKafka) -> None:
        kafka.create_topic("topic", partitions=2)
        target = MemoryTarget(c=2)
        is_down = threading.Event()
        is_down.set()

        def refuse(_points: Sequence[PointStruct]) -> None:
            if is_down.is_set():
                raise Unavailable("down")

        target.before_write = refuse
        for n in range(20):
            kafka.produce("topic", value(n), partition=n % 2)
        with running(kafka, target) as first:
            wait_until(lambda: first.progress().retries > 0)
            with running(kafka, target) as second:
                wait_until(lambda: second.progress().retries > 0)
                is_down.clear()
                wait_until(lambda: len(target.collections["c"]) == 20)
                wait_until(lambda: (first.progress().lag, second.progress().lag) == (0, 0))
        assert target.saved == {SourcePartition(SOURCE, "topic", n): 10 for n in range(2)}

    def test_a_member_that_was_thrown_out_comes_back(self, kafka: MockKafka) -> None:
        kafka.create_topic("topic")
        kafka.produce("topic", value(1))
        target = MemoryTarget(c=2)
        with running(kafka, target) as connector:
            wait_until_read(connector, 1)
            kafka.fail_next(mock_kafka.HEARTBEAT_REQUEST, [mock_kafka.UNKNOWN_MEMBER_ID])
            kafka.produce("topic", *(value(n) for n in range(2, 20)))
            wait_until(lambda: len(target.collections["c"]) == 19)
            wait_until(lambda: connector.progress().lag == 0)
        assert target.saved == {PARTITION: 19}

    @pytest.mark.slow
    def test_twenty_rebalances_under_load_leave_the_fold_of_the_topic(
        self, kafka: MockKafka
    ) -> None:
        kafka.create_topic("topic", partitions=3)
        target = MemoryTarget(c=2)
        chance = random.Random(20_240_229)

        def fail_now_and_then(_points: Sequence[PointStruct]) -> None:
            if chance.random() < 0.2:
                raise Unavailable("flaky")

        target.before_write = fail_now_and_then
        expected: dict[int, bytes] = {}
        numbers = itertools.count()
        end = threading.Event()

        def produce() -> None:
            while not end.wait(0.02):
                number = next(numbers)
                # A point's records are all in one partition, which gives them their order.
                point_id = chance.randrange(60)
                if chance.random() < 0.2:
                    expected.pop(point_id, None)
                    record: tuple[bytes | None, bytes | None] = (tombstone_key(point_id), None)
                else:
                    expected[point_id] = b'{"n":%d}' % number
                    record = (None, value(point_id, n=number))
                kafka.produce("topic", record, partition=point_id % 3)

        producing = threading.Thread(target=produce)
        producing.start()
        with running(kafka, target, batch__size="7") as lasting:
            try:
                for _ in range(20):
                    with running(kafka, target, batch__size="7") as passing:
                        wait_until(lambda one=passing: one.progress().lag is not None)  # type: ignore[misc]
            finally:
                end.set()
                producing.join()
            wait_until(lambda: target.collections["c"] == expected)
            wait_until(lambda: lasting.progress().lag == 0)
        assert target.collections["c"] == expected
