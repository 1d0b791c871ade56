"""Partitions that no member of the group has are found out; what is on its way is waited for."""

from __future__ import annotations

import logging
import time

import pytest
from confluent_kafka import KafkaError, KafkaException

from headrace.sink.group_watch import (
    GRACE_S,
    INTERVAL_S,
    SETTLE_S,
    TURN_S,
    GroupState,
    GroupWatch,
)

NOBODYS = frozenset({("topic", 0), ("topic", 1)})


class Watched:
    """A watch over a group, on a clock that the test moves.

    Attributes:
        state: what Kafka says, or how it fails.
        asked_s: when it was asked.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state: GroupState | Exception | None = GroupState(frozenset(), 0)
        self.asked_s: list[float] = []
        self._now_s = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self._now_s)
        self.watch = GroupWatch(self._ask)

    def _ask(self) -> GroupState | None:
        self.asked_s.append(self._now_s - 1000.0)
        if isinstance(self.state, Exception):
            raise self.state
        return self.state

    def seconds_until_told(self, most_s: float) -> float | None:
        """Turns of the task, whose questions are answered at once; None if it is told nothing."""
        begin_s = self._now_s
        while self._now_s < begin_s + most_s:
            self._now_s += 0.5
            if self.watch.check():
                return self._now_s - begin_s
            if self.watch._question is not None:
                self.watch._question.join()
        return None


def test_kafka_is_asked_once_nothing_moves_and_then_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched = Watched(monkeypatch)
    assert watched.seconds_until_told(3 * INTERVAL_S) is None
    assert watched.asked_s[0] == SETTLE_S
    assert len(watched.asked_s) == 3
    watched.watch.note_moved()
    assert watched.seconds_until_told(SETTLE_S) is None
    assert len(watched.asked_s) == 4


def test_partitions_that_stay_with_nobody_are_told_after_a_grace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched = Watched(monkeypatch)
    watched.state = GroupState(NOBODYS, 0)
    told_s = watched.seconds_until_told(INTERVAL_S)
    assert told_s is not None
    assert SETTLE_S + GRACE_S <= told_s <= SETTLE_S + GRACE_S + 5


def test_members_that_have_more_to_lose_let_others_go_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched = Watched(monkeypatch)
    watched.state = GroupState(NOBODYS, 2)
    told_s = watched.seconds_until_told(INTERVAL_S)
    assert told_s is not None
    assert told_s >= SETTLE_S + GRACE_S + 2 * TURN_S


def test_partitions_that_are_soon_given_out_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    for _ in range(5):
        for nobodys in (NOBODYS, frozenset[tuple[str, int]]()):
            watched.state = GroupState(nobodys, 0)
            watched.watch.note_moved()
            assert watched.seconds_until_told(SETTLE_S + GRACE_S - 1) is None


def test_what_does_not_help_is_tried_more_and_more_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    watched.state = GroupState(NOBODYS, 0)
    waits_s = []
    for _ in range(10):
        told_s = watched.seconds_until_told(3_600)
        assert told_s is not None
        waits_s.append(told_s)
        watched.watch.note_moved()
    assert waits_s[:8] == sorted(waits_s[:8])
    assert waits_s[-1] > 1_200
    # Once it has helped, the next time is like the first.
    watched.state = GroupState(frozenset(), 0)
    assert watched.seconds_until_told(2 * INTERVAL_S) is None
    watched.state = GroupState(NOBODYS, 0)
    assert watched.seconds_until_told(2 * INTERVAL_S) is not None


def test_a_group_on_the_move_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    watched.state = None
    assert watched.seconds_until_told(10 * INTERVAL_S) is None


def test_a_refusal_is_logged_once_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    watched = Watched(monkeypatch)
    watched.state = KafkaException(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED))
    with caplog.at_level(logging.WARNING):
        assert watched.seconds_until_told(5 * INTERVAL_S) is None
    assert len(watched.asked_s) > 2
    assert caplog.text.count("Allow this client to DESCRIBE its group") == 1


def test_a_broker_that_does_not_answer_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    watched.state = KafkaException(KafkaError(KafkaError._TIMED_OUT))
    assert watched.seconds_until_told(3 * INTERVAL_S) is None
    watched.state = GroupState(NOBODYS, 0)
    assert watched.seconds_until_told(2 * INTERVAL_S) is not None
