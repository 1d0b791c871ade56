"""How is a topic made that the sink needs, if it is not there?"""

from __future__ import annotations

import time
from typing import Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ClusterMetadata,
)
from confluent_kafka.cimpl import NewTopic

from headrace.model.errors import Unavailable

_REQUEST_TIMEOUT_S: Final = 10.0
_LEADER_POLL_S: Final = 0.05


class TopicRefused(Exception):
    """The cluster will not make a topic.

    Attributes:
        error: what it says.
    """

    def __init__(self, error: KafkaError) -> None:
        super().__init__(error.str())
        self.error = error


def list_topics(admin: AdminClient) -> ClusterMetadata:
    """The topics and brokers of a cluster.

    Raises:
        Unavailable: no broker answers; try again.
    """
    try:
        return admin.list_topics(timeout=_REQUEST_TIMEOUT_S)
    except KafkaException as error:
        raise Unavailable(f"No Kafka broker answers: {error_text(error)}") from None


def make_topic(admin: AdminClient, topic: NewTopic) -> bool:
    """Make a topic, and wait until it can be used.

    Returns:
        False if somebody else has just made it.

    Raises:
        Unavailable: Kafka does not answer; try again.
        TopicRefused: it will not be made.
    """
    future = admin.create_topics([topic], request_timeout=_REQUEST_TIMEOUT_S)[topic.topic]
    try:
        future.result()
    except KafkaException as error:
        cause: KafkaError = error.args[0]
        if cause.code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return False
        if cause.retriable() or cause.code() in (KafkaError._TIMED_OUT, KafkaError._TRANSPORT):
            raise Unavailable(f"Topic '{topic.topic}' cannot be made yet: {cause.str()}") from None
        raise TopicRefused(cause) from None
    _wait_for_leader(admin, topic.topic)
    return True


def error_text(error: KafkaException) -> str:
    """What Kafka, or its client, says is wrong."""
    cause = error.args[0]
    return str(cause.str()) if isinstance(cause, KafkaError) else str(error)


def _wait_for_leader(admin: AdminClient, name: str) -> None:
    """A topic that was just made is not known everywhere at once.

    Raises:
        Unavailable: Kafka does not answer; try again.
    """
    deadline = time.monotonic() + _REQUEST_TIMEOUT_S
    while time.monotonic() < deadline:
        found = list_topics(admin).topics.get(name)
        if found is not None and found.error is None and found.partitions:
            return
        time.sleep(_LEADER_POLL_S)
