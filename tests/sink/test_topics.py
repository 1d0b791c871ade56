"""Topics that the sink makes for itself."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.cimpl import NewTopic

from headrace.model.errors import Unavailable
from headrace.sink.topics import TopicRefused, make_topic

TOPIC = NewTopic("dead", 1, 1)
LED = SimpleNamespace(error=None, partitions={0: None})


class Admin:
    """A cluster that answers as it is told.

    Args:
        made: what becomes of the topic; None if it is made.
        listed: what is known of it, one time after the other; an error if nobody answers.
    """

    def __init__(self, made: int | None, *listed: Any) -> None:
        self.listed = list(listed)
        self._future: Future[None] = Future()
        if made is None:
            self._future.set_result(None)
        else:
            self._future.set_exception(KafkaException(KafkaError(made)))

    def create_topics(self, topics: list[NewTopic], **_: object) -> dict[str, Future[None]]:
        return {topics[0].topic: self._future}

    def list_topics(self, **_: object) -> object:
        found = self.listed.pop(0)
        if isinstance(found, int):
            raise KafkaException(KafkaError(found))
        return SimpleNamespace(topics={} if found is None else {"dead": found})


def test_a_topic_that_was_just_made_is_waited_for_until_it_can_be_used() -> None:
    leaderless = SimpleNamespace(error=KafkaError(KafkaError.LEADER_NOT_AVAILABLE), partitions={})
    admin = Admin(None, None, leaderless, LED)
    assert make_topic(admin, TOPIC)  # type: ignore[arg-type]
    assert admin.listed == []


def test_a_topic_that_somebody_else_made_meanwhile_is_as_good() -> None:
    assert not make_topic(Admin(KafkaError.TOPIC_ALREADY_EXISTS), TOPIC)  # type: ignore[arg-type]


@pytest.mark.parametrize("code", [KafkaError._TIMED_OUT, KafkaError._TRANSPORT])
def test_a_broker_that_does_not_answer_is_asked_again(code: int) -> None:
    with pytest.raises(Unavailable, match="'dead' cannot be made yet"):
        make_topic(Admin(code), TOPIC)  # type: ignore[arg-type]
    with pytest.raises(Unavailable, match="No Kafka broker answers"):
        make_topic(Admin(None, code), TOPIC)  # type: ignore[arg-type]


def test_a_topic_that_the_cluster_will_not_make_is_told_with_its_reason() -> None:
    with pytest.raises(TopicRefused) as caught:
        make_topic(Admin(KafkaError.POLICY_VIOLATION), TOPIC)  # type: ignore[arg-type]
    assert caught.value.error.code() == KafkaError.POLICY_VIOLATION
