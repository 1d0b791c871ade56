"""Does a consumer from which nothing comes still fetch?

librdkafka forgets the brokers that the cluster does not name, and of a cluster whose last
broker is about to go, or is not whole yet, that may be all of them. It begins again with
`bootstrap.servers`, unless the connection ends at the same moment; then it has nobody to
ask, for good, and says nothing (librdkafka 2.10 and later:
github.com/confluentinc/librdkafka/issues/5301). So Kafka is asked through a client of its own
now and then, and who is stuck is told so.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Final

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from headrace.model.operations import SourcePartition
from headrace.sink.client_settings import ClientSettings, admin_settings

logger = logging.getLogger(__name__)

# How long nothing comes before Kafka is asked; and for how long there is more, and still
# nothing comes, before that counts. Much longer than a client takes to connect again
# (`reconnect.backoff.max.ms`), and an idle topic costs a connection a minute.
SILENCE_S: Final = 60.0
GRACE_S: Final = 30.0
_REQUEST_TIMEOUT_S: Final = 10.0
# A turn of the task that takes longer was no silence: nobody listened.
_TURN_S_MAX: Final = 1.0

# What is watched: a partition, or, while it has none, the consumer itself (None).
_Watched = SourcePartition | None
# The ends of partitions, of those that Kafka tells; None if it does not answer.
Answer = Mapping[SourcePartition, int] | None


class ConsumerStuck(Exception):
    """Kafka has what the consumer does not get; another consumer would."""


class FetchWatch:
    """Watches one consumer and its partitions; for its task's thread.

    Time counts while the task reads. Partitions share one queue in the client, in which a
    silent one's records may stand behind minutes of another's; so none counts as stuck before
    the task has once come to the end of that queue.

    Args:
        ask: Kafka, through another client, for the ends of partitions; on a thread.
        position: the offset of the next record; None if nothing was heard of a partition yet.
        finds_brokers: whether the consumer itself gets an answer from Kafka.
        fetch_wait_s: how long a broker may keep few records back (`fetch.wait.max.ms`).
    """

    def __init__(
        self,
        ask: Callable[[Collection[SourcePartition]], Answer],
        position: Callable[[SourcePartition], int | None],
        finds_brokers: Callable[[], bool],
        fetch_wait_s: float = 0.0,
    ) -> None:
        self._ask = ask
        self._position = position
        self._finds_brokers = finds_brokers
        self._grace_s = GRACE_S + fetch_wait_s
        self._clock_s = 0.0
        self._turned_at = time.monotonic()
        self._heard_s: dict[_Watched, float] = {None: 0.0}
        # Since when something silent is known to be stuck.
        self._stuck_s: dict[_Watched, float] = {}
        # When nothing that was fetched was left to be read.
        self._drained_s = 0.0
        self._asked: Collection[_Watched] = ()
        self._answer: Answer = None
        self._question: threading.Thread | None = None

    def note(self, watched: _Watched) -> None:
        """The consumer has the partition anew, or records or its end came."""
        if watched is not None:
            self._heard_s.pop(None, None)
        self._heard_s[watched] = self._clock_s
        if self._stuck_s:
            self._stuck_s.pop(watched, None)

    def note_drained(self) -> None:
        """All that the consumer has fetched was read."""
        self._drained_s = self._clock_s

    def note_all(self) -> None:
        """All begins anew, after a pause."""
        for watched in list(self._heard_s):
            self.note(watched)

    def forget(self, partition: SourcePartition) -> None:
        """The consumer does not have the partition any more."""
        self._heard_s.pop(partition, None)
        self._stuck_s.pop(partition, None)
        if not self._heard_s:
            self.note(None)

    def check(self) -> None:
        """To be called before each read.

        Raises:
            ConsumerStuck: nothing comes though there is more, or Kafka answers everybody else.
        """
        now = time.monotonic()
        self._clock_s += min(now - self._turned_at, _TURN_S_MAX)
        self._turned_at = now
        if self._question is None:
            self._asked = [one for one in self._heard_s if self._is_due(one)]
            if self._asked:
                self._question = threading.Thread(target=self._run_question, daemon=True)
                self._question.start()
        elif not self._question.is_alive():
            self._question = None
            for watched in self._asked:
                if watched in self._heard_s and self._is_due(watched):
                    self._judge(watched)

    def _is_due(self, watched: _Watched) -> bool:
        stuck_s = self._stuck_s.get(watched)
        if stuck_s is not None:
            return self._clock_s - stuck_s >= self._grace_s
        return self._clock_s - self._heard_s[watched] >= SILENCE_S

    def _run_question(self) -> None:
        self._answer = None
        try:
            self._answer = self._ask([one for one in self._asked if one is not None])
        except Exception:
            logger.warning("unexpected: Kafka cannot be asked for ends", exc_info=True)

    def _judge(self, watched: _Watched) -> None:
        trouble = self._trouble(watched)
        if trouble is None:
            self.note(watched)
        elif self._drained_s <= self._stuck_s.get(watched, self._clock_s):
            self._stuck_s[watched] = self._clock_s
        else:
            raise ConsumerStuck(trouble)

    def _trouble(self, watched: _Watched) -> str | None:
        """What is wrong by Kafka's answer; None if nothing is, or it does not answer."""
        if self._answer is None:
            return None
        if watched is None:
            if self._finds_brokers():
                return None
            return "the consumer has no partition and finds no broker, and Kafka answers others"
        end, at = self._answer.get(watched, -1), self._position(watched)
        if end < 0 or (at is not None and end <= at):
            return None
        return (
            f"nothing comes from topic '{watched.stream}' partition {watched.partition}, "
            f"read up to {'no offset' if at is None else at}, which goes on to {end}"
        )


def ask_kafka(settings: ClientSettings, partitions: Collection[SourcePartition]) -> Answer:
    """The ends of partitions, as the records of a consumer end.

    Args:
        settings: the consumer's.
        partitions: if there are none, it is asked whether Kafka answers at all.
    """
    # A client that lives on might get stuck like the consumer.
    admin = AdminClient({**admin_settings(settings), "log_level": 0})
    if not partitions:
        try:
            return {} if admin.list_topics(timeout=_REQUEST_TIMEOUT_S).brokers else None
        except KafkaException:
            return None
    is_committed = settings.get("isolation.level") == "read_committed"
    futures = admin.list_offsets(
        {TopicPartition(one.stream, one.partition): OffsetSpec.latest() for one in partitions},  # type: ignore[no-untyped-call]
        isolation_level=IsolationLevel.READ_COMMITTED
        if is_committed
        else IsolationLevel.READ_UNCOMMITTED,
        request_timeout=_REQUEST_TIMEOUT_S,
    )
    found: dict[tuple[str, int], int] = {}
    for one, future in futures.items():
        try:
            found[one.topic, one.partition] = future.result().offset
        except KafkaException as error:
            logger.debug("the end of %s-%d is not told: %s", one.topic, one.partition, error)
    ends = {one: found.get((one.stream, one.partition), -1) for one in partitions}
    return {one: end for one, end in ends.items() if end >= 0}
