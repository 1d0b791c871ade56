"""A consumer that fetches nothing, though there is something, is found out; no other is."""

from __future__ import annotations

import time
from collections.abc import Collection

import pytest
from confluent_kafka import TopicPartition

from headrace.model.operations import SourcePartition
from headrace.sink import fetch_watch
from headrace.sink.fetch_watch import Answer, ConsumerStuck, FetchWatch, ask_kafka
from tests.sink.memory_target import MemoryTarget
from tests.sink.mock_kafka import MockKafka
from tests.sink.records import PARTITION, value
from tests.sink.test_connector import running, wait_until, wait_until_read

OTHER = SourcePartition("connect-test", "topic", 1)


class Watched:
    """A watch over partitions, on a clock that the test moves.

    Attributes:
        ends: what Kafka says; a partition that is not there is not told.
        positions: of the consumer.
        asked: what Kafka was asked for.
        answers: whether it does.
        finds_brokers: whether the consumer gets an answer.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *partitions: SourcePartition,
        fetch_wait_s: float = 0.0,
    ) -> None:
        self.ends: dict[SourcePartition, int] = {}
        self.positions: dict[SourcePartition, int | None] = dict.fromkeys(partitions, 5)
        self.asked: list[set[SourcePartition]] = []
        self.answers = self.finds_brokers = True
        self._now_s = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self._now_s)
        self.watch = FetchWatch(
            self._ask,
            lambda one: self.positions.get(one),
            lambda: self.finds_brokers,
            fetch_wait_s,
        )
        for one in partitions:
            self.watch.note(one)

    def _ask(self, partitions: Collection[SourcePartition]) -> Answer:
        self.asked.append(set(partitions))
        if not self.answers:
            return None
        return {one: self.ends[one] for one in partitions if one in self.ends}

    def turn_for(self, seconds: float, turn_s: float = 0.5, is_drained: bool = True) -> None:
        """Turns of the task, whose questions are answered at once."""
        for _ in range(int(seconds / turn_s)):
            self._now_s += turn_s
            self.watch.check()
            if is_drained:
                self.watch.note_drained()
            if self.watch._question is not None:
                self.watch._question.join()


def test_a_silent_partition_with_more_in_it_is_told_after_a_grace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched = Watched(monkeypatch, PARTITION)
    watched.ends = {PARTITION: 7}
    watched.turn_for(fetch_watch.SILENCE_S + fetch_watch.GRACE_S - 1)
    assert watched.asked == [{PARTITION}]
    with pytest.raises(ConsumerStuck, match=r"'topic' partition 0, read up to 5, .* to 7"):
        watched.turn_for(5)


def test_a_partition_of_which_nothing_was_ever_heard_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched = Watched(monkeypatch, PARTITION)
    watched.ends, watched.positions = {PARTITION: 0}, {PARTITION: None}
    with pytest.raises(ConsumerStuck):
        watched.turn_for(fetch_watch.SILENCE_S + fetch_watch.GRACE_S + 5)


def test_what_comes_within_the_grace_ends_the_suspicion(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, PARTITION, OTHER)
    watched.ends = {PARTITION: 7, OTHER: 7}
    for _ in range(5):
        watched.turn_for(fetch_watch.SILENCE_S + fetch_watch.GRACE_S - 2)
        watched.watch.note(PARTITION)
        watched.watch.note(OTHER)


def test_a_partition_whose_records_wait_behind_those_of_another_is_no_stuck_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched = Watched(monkeypatch, PARTITION, OTHER)
    watched.ends = {PARTITION: 7, OTHER: 10_000}
    for _ in range(10):
        watched.turn_for(fetch_watch.SILENCE_S / 2, is_drained=False)
        watched.watch.note(OTHER)
    # Once the other's are all read, it counts again.
    with pytest.raises(ConsumerStuck, match=r"read up to 5, .* to 7"):
        watched.turn_for(2 * fetch_watch.GRACE_S + 1)


def test_records_that_a_broker_may_keep_back_make_no_stuck_partition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched = Watched(monkeypatch, PARTITION, fetch_wait_s=45)
    watched.ends = {PARTITION: 7}
    watched.turn_for(fetch_watch.SILENCE_S + fetch_watch.GRACE_S + 44)
    with pytest.raises(ConsumerStuck):
        watched.turn_for(5)


def test_an_idle_partition_is_no_stuck_one(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, PARTITION)
    watched.ends = {PARTITION: 5}
    watched.turn_for(10 * fetch_watch.SILENCE_S)
    # Asked once each time that it was silent for so long.
    assert 8 <= len(watched.asked) <= 10


@pytest.mark.parametrize("partitions", [[], [PARTITION]])
def test_a_kafka_that_does_not_answer_makes_no_stuck_consumer(
    monkeypatch: pytest.MonkeyPatch, partitions: list[SourcePartition]
) -> None:
    watched = Watched(monkeypatch, *partitions)
    watched.ends = {PARTITION: 7}
    watched.finds_brokers = watched.answers = False
    watched.turn_for(10 * fetch_watch.SILENCE_S)
    asked = len(watched.asked)
    # Once it answers, and then it is gone again.
    watched.answers = True
    while len(watched.asked) == asked:
        watched.turn_for(1)
    watched.answers = False
    watched.turn_for(10 * fetch_watch.SILENCE_S)


def test_neither_a_long_turn_nor_a_pause_is_a_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, PARTITION)
    watched.ends = {PARTITION: 7}
    watched.turn_for(50 * 600, turn_s=600)
    assert watched.asked == []
    watched.watch.note_all()
    watched.turn_for(fetch_watch.SILENCE_S - 1)
    assert watched.asked == []


def test_a_partition_that_is_gone_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, PARTITION, OTHER)
    watched.ends = {PARTITION: 7, OTHER: 5}
    watched.turn_for(fetch_watch.SILENCE_S + 1)
    watched.watch.forget(PARTITION)
    watched.turn_for(3 * fetch_watch.SILENCE_S)
    assert watched.asked[0] == {PARTITION, OTHER}
    assert {OTHER} in watched.asked[1:]
    assert not any(PARTITION in one for one in watched.asked[1:])


def test_a_consumer_without_partitions_that_finds_no_broker_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched = Watched(monkeypatch, PARTITION)
    watched.watch.forget(PARTITION)
    # Others of the group may have all of them.
    watched.turn_for(10 * fetch_watch.SILENCE_S)
    watched.finds_brokers = False
    with pytest.raises(ConsumerStuck, match="finds no broker"):
        watched.turn_for(2 * fetch_watch.SILENCE_S + fetch_watch.GRACE_S)


def test_ends_are_asked_of_kafka_and_what_is_not_told_is_left_out(
    kafka: MockKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka.create_topic("topic")
    kafka.produce("topic", value(1), value(2))
    settings: dict[str, str | int | bool] = {
        "bootstrap.servers": kafka.bootstrap_servers,
        "group.id": "g",
        "isolation.level": "read_committed",
    }
    assert ask_kafka(settings, [PARTITION, OTHER]) == {PARTITION: 2}
    assert ask_kafka(settings, []) == {}
    kafka.set_down()
    monkeypatch.setattr(fetch_watch, "_REQUEST_TIMEOUT_S", 0.5)
    assert ask_kafka(settings, []) is None
    assert ask_kafka(settings, [PARTITION]) == {}


@pytest.mark.parametrize("keeps_positions", [True, False])
def test_a_consumer_that_is_stuck_is_replaced_and_each_record_counts_once(
    kafka: MockKafka,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    keeps_positions: bool,
) -> None:
    monkeypatch.setattr(fetch_watch, "SILENCE_S", 0.5)
    monkeypatch.setattr(fetch_watch, "GRACE_S", 0.3)
    kafka.create_topic("topic")
    kafka.produce("topic", value(1), value(2))
    target = MemoryTarget(keeps_positions, c=2)
    with running(kafka, target) as connector:
        wait_until_read(connector, 2)
        # An idle while: nobody is taken for stuck.
        asked = time.monotonic() + 2
        wait_until(lambda: time.monotonic() > asked)
        (counters,) = connector.counters()
        assert counters.consumers_abandoned == 0
        # Like a client that has lost its brokers: it owns the partition, and fetches nothing.
        connector._tasks[0]._source._consumer.pause([TopicPartition("topic", 0)])
        kafka.produce("topic", value(3))
        wait_until(lambda: 3 in target.collections["c"])
        assert counters.consumers_abandoned == 1
        wait_until(lambda: connector.progress().lag == 0)
    assert "nothing comes from topic 'topic' partition 0, read up to 2" in caplog.text
    assert counters.records_read == 3
    assert kafka.committed("connect-test", "topic") == 3
