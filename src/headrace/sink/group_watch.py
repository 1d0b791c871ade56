"""Is there a partition that no member of the group has?

A static member that comes back within its session takes over what its predecessor had, and
Kafka assigns nothing anew. So whatever should have led to a new assignment while it was away
is forgotten: partitions that the predecessor gave up and nobody was given yet, partitions and
topics that were added, another list of topics in its configuration. Members without a name
join as new ones, and that is a new assignment.

So each static member asks Kafka now and then what all members have. If a partition stays with
nobody, it leaves the group and joins it again, which is a new assignment too.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from confluent_kafka import ConsumerGroupState, KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from headrace.sink.client_settings import ClientSettings, admin_settings

logger = logging.getLogger(__name__)

# How long after partitions have come or gone Kafka is asked, and how often when they do not: a
# connection a minute.
SETTLE_S: Final = 5.0
INTERVAL_S: Final = 60.0
# How long partitions are nobody's before that is put right. In the middle of a rebalance they
# are for as long as the member that gives them up takes.
GRACE_S: Final = 10.0
# How long each member lets the one before it go first, and how many may be before it.
TURN_S: Final = 5.0
_TURNS_MAX: Final = 6
# While partitions are nobody's.
_AGAIN_S: Final = 2.0
# What does not help is tried again after twice the time each time: half an hour at most.
_DOUBLINGS_MAX: Final = 7
_REQUEST_TIMEOUT_S: Final = 10.0
_REFUSED: Final = frozenset(
    {KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED}
)

# A topic and the number of a partition.
Partition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class GroupState:
    """What Kafka says of a group in which nothing moves.

    Attributes:
        unassigned: the partitions of this member's topics that no member has.
        turn: how many members go first: those that have less to lose.
    """

    unassigned: frozenset[Partition]
    turn: int


class GroupWatch:
    """Watches the group of one static member; for its task's thread.

    Args:
        ask: Kafka, on a thread; None if it cannot tell.
    """

    def __init__(self, ask: Callable[[], GroupState | None]) -> None:
        self._ask = ask
        self._next_s = time.monotonic() + SETTLE_S
        self._unassigned: frozenset[Partition] = frozenset()
        self._since_s = 0.0
        self._doublings = 0
        self._answer: GroupState | None = None
        self._question: threading.Thread | None = None
        self._has_warned = False

    def note_moved(self) -> None:
        """Partitions have come or gone."""
        self._unassigned = frozenset()
        self._next_s = time.monotonic() + SETTLE_S

    def check(self) -> frozenset[Partition]:
        """To be called before each read; does not wait.

        Returns:
            The partitions because of which this member should leave and join again; mostly none.
        """
        if self._question is None:
            if time.monotonic() >= self._next_s:
                self._question = threading.Thread(target=self._run_question, daemon=True)
                self._question.start()
        elif not self._question.is_alive():
            self._question = None
            return self._judge(self._answer)
        return frozenset()

    def _judge(self, answer: GroupState | None) -> frozenset[Partition]:
        now_s = time.monotonic()
        self._next_s = max(self._next_s, now_s + INTERVAL_S)
        if answer is None or not answer.unassigned:
            self._unassigned = frozenset()
            if answer is not None:
                self._doublings = 0
            return frozenset()
        if not self._unassigned & answer.unassigned:
            self._since_s = now_s
        self._unassigned = answer.unassigned
        patience_s = GRACE_S * 2**self._doublings + TURN_S * min(answer.turn, _TURNS_MAX)
        if now_s - self._since_s < patience_s:
            self._next_s = now_s + _AGAIN_S
            return frozenset()
        self._unassigned = frozenset()
        self._doublings = min(self._doublings + 1, _DOUBLINGS_MAX)
        return answer.unassigned

    def _run_question(self) -> None:
        self._answer = None
        try:
            self._answer = self._ask()
        except KafkaException as error:
            self._note_failure(error.args[0])
        except Exception:
            logger.warning("unexpected: Kafka cannot be asked for the group", exc_info=True)

    def _note_failure(self, error: KafkaError) -> None:
        if error.code() in _REFUSED and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "Kafka does not tell who has which partitions: %s. Allow this client to DESCRIBE "
                "its group; else, if partitions stay with no member, stop all members for longer "
                "than session.timeout.ms",
                error.str(),
            )
        else:
            logger.debug("Kafka cannot be asked for the group: %s", error.str())


def ask_group(
    settings: ClientSettings, topics: Sequence[str], pattern: str | None
) -> GroupState | None:
    """Who has which partitions; None if they are on the move, or Kafka does not tell.

    Args:
        settings: those of the consumer, which has a `group.instance.id`.
        topics: what it subscribes to, if that is not a pattern.
        pattern: what whole names of topics match.

    Raises:
        KafkaException: Kafka does not answer, or refuses.
    """
    # A client that lives on might get stuck like the consumer.
    admin = AdminClient({**admin_settings(settings), "log_level": 0})
    group_id = str(settings["group.id"])
    groups = admin.describe_consumer_groups([group_id], request_timeout=_REQUEST_TIMEOUT_S)
    group = groups[group_id].result()
    if group.state != ConsumerGroupState.STABLE:
        return None
    members = sorted(
        group.members, key=lambda one: (len(one.assignment.topic_partitions), one.member_id)
    )
    names = [one.group_instance_id for one in members]
    if settings["group.instance.id"] not in names:
        return None
    assigned = {
        (one.topic, one.partition)
        for member in members
        for one in member.assignment.topic_partitions
    }
    there = _partitions_of(admin, topics) if pattern is None else _matching(admin, pattern)
    return GroupState(frozenset(there - assigned), names.index(settings["group.instance.id"]))


def _partitions_of(admin: AdminClient, topics: Sequence[str]) -> set[Partition]:
    """The partitions of topics, of those that are there."""
    futures = admin.describe_topics(
        TopicCollection(list(topics)), request_timeout=_REQUEST_TIMEOUT_S
    )
    partitions: set[Partition] = set()
    for topic, future in futures.items():
        try:
            partitions |= {(topic, one.id) for one in future.result().partitions}
        except KafkaException as error:
            logger.debug("the partitions of %s are not told: %s", topic, error)
    return partitions


def _matching(admin: AdminClient, pattern: str) -> set[Partition]:
    """The partitions of all topics whose names match a pattern."""
    topics = admin.list_topics(timeout=_REQUEST_TIMEOUT_S).topics
    return {
        (name, number)
        for name, topic in topics.items()
        if topic.error is None and re.fullmatch(pattern, name)
        for number in topic.partitions
    }
