"""What becomes of a bad record?

It is written to the dead-letter topic as it was, byte for byte, with Kafka Connect's
context headers if they are asked for. It counts as settled once all brokers have it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from headrace.sink.batch import KafkaHeaders, Refusal
from headrace.sink.client_log import ClientLog
from headrace.sink.client_settings import ClientSettings, admin_settings
from headrace.sink.config import ErrorPolicy
from headrace.sink.errors import DATA_EXCEPTION, TaskFailed
from headrace.sink.topics import TopicRefused, error_text, list_topics, make_topic

logger = logging.getLogger(__name__)

HEADER_PREFIX: Final = "__connect.errors."
_REPLICATION_KEY: Final = "errors.deadletterqueue.topic.replication.factor"
# What the client tells while a broker is away, other than one that refuses.
_LOST_BROKER: Final = frozenset(
    {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE}
)
_ANSWER_TIMEOUT_S: Final = 2.0
# How often a wait for acknowledgements looks whether the task is to stop.
_FLUSH_SLICE_S: Final = 0.2


class DeadLettersUnwritable(TaskFailed):
    """The dead-letter topic does not take records, so none may be passed over."""


class Interrupted(Exception):
    """The task is to stop; what was under way is given up."""


class DeadLetterQueue:
    """Writes bad records to the dead-letter topic of a connector, for the lanes of one task.

    Args:
        topic: the dead-letter topic.
        policy: the connector's.
        producer_settings: for librdkafka; secrets filled in.
        connector_name: for the context headers.
        task: the task's number, for the context headers.
    """

    def __init__(
        self,
        topic: str,
        policy: ErrorPolicy,
        producer_settings: ClientSettings,
        connector_name: str,
        task: int,
    ) -> None:
        self._topic = topic
        self._policy = policy
        self._admin_settings = admin_settings(producer_settings)
        self._connector_name = connector_name
        self._task = task
        # Whether a broker was lost since one was last heard of.
        self._is_away = False
        try:
            self._producer = Producer(
                {**producer_settings, "error_cb": self._on_client_error}, logger=ClientLog(logger)
            )
        except KafkaException as error:
            raise TaskFailed(f"The producer's settings are refused: {error_text(error)}") from None

    def ensure_topic(self) -> None:
        """Make the topic if it is not there.

        Raises:
            Unavailable: no broker answered; try again.
            TaskFailed: the cluster will not make it; says why.
        """
        admin = AdminClient(dict(self._admin_settings), logger=ClientLog(logger))
        metadata = list_topics(admin)
        if self._topic in metadata.topics:
            return
        replicas, brokers = self._policy.replication_factor, len(metadata.brokers)
        if brokers < replicas:
            raise self._too_few_brokers(brokers)
        try:
            is_new = make_topic(admin, NewTopic(self._topic, 1, replicas))
        except TopicRefused as refused:
            if refused.error.code() == KafkaError.INVALID_REPLICATION_FACTOR:
                raise self._too_few_brokers(brokers) from None
            raise TaskFailed(
                f"The dead-letter topic '{self._topic}' cannot be made: {refused}. Make it by "
                "hand, or let this client make topics"
            ) from None
        if is_new:
            logger.info("made the dead-letter topic %s", self._topic)

    def write(self, refusals: Sequence[Refusal], is_interrupted: Callable[[], bool]) -> None:
        """Write bad records; all are acknowledged when it returns.

        Args:
            refusals: the records, and why each was refused.
            is_interrupted: looked at while waiting for acknowledgements.

        Raises:
            DeadLettersUnwritable: one was not acknowledged, and not for an outage of Kafka, which
                is waited for.
            Interrupted: the task is to stop.
        """
        unsettled = list(refusals)
        while unsettled:
            unsettled = self._write_once(unsettled, is_interrupted)
            if unsettled:
                # If Kafka is back, the next time that it takes nothing is no outage.
                self._is_away = not self._answers()
                logger.warning(
                    "the dead-letter topic '%s' takes nothing: Kafka went away; trying again",
                    self._topic,
                )

    def _answers(self) -> bool:
        try:
            admin = AdminClient({**self._admin_settings, "log_level": 0})
            return bool(admin.list_topics(timeout=_ANSWER_TIMEOUT_S).brokers)
        except KafkaException:
            return False

    def _write_once(
        self, refusals: Sequence[Refusal], is_interrupted: Callable[[], bool]
    ) -> list[Refusal]:
        """Write bad records; those that an outage has kept from being acknowledged are left.

        Raises: as `write`.
        """
        left: list[Refusal] = []
        failures: list[KafkaError] = []
        # A list, since the flush of another lane may call back for this one's records.
        acknowledged: list[None] = []

        def on_delivery(refusal: Refusal, error: KafkaError | None, _message: Message) -> None:
            if error is None:
                acknowledged.append(None)
                self._is_away = False
            elif error.code() == KafkaError._MSG_TIMED_OUT and self._is_away:
                left.append(refusal)
            else:
                failures.append(error)

        try:
            for refusal in refusals:
                self._produce(refusal, partial(on_delivery, refusal))
        except KafkaException as error:
            raise self._unwritable(error_text(error)) from None
        while len(acknowledged) + len(failures) + len(left) < len(refusals) and not failures:
            if is_interrupted():
                self._producer.purge()
                raise Interrupted
            self._producer.flush(_FLUSH_SLICE_S)
        if failures and is_interrupted():
            # Another lane that gave up has purged the producer of this one's records, too.
            raise Interrupted
        if failures:
            raise self._unwritable(failures[0].str())
        return left

    def close(self) -> None:
        """Drop what is not acknowledged, which nobody counts on."""
        self._producer.purge()
        self._producer.flush(0)

    def _on_client_error(self, error: KafkaError) -> None:
        if error.code() in _LOST_BROKER:
            self._is_away = True

    def _produce(
        self, refusal: Refusal, on_delivery: Callable[[KafkaError | None, Message], None]
    ) -> None:
        kafka_record = refusal.kafka_record
        headers = kafka_record.headers
        if self._policy.context_headers:
            headers = [one for one in headers if not one[0].startswith(HEADER_PREFIX)]
            headers += context_headers(refusal, self._connector_name, self._task)
        timestamp_ms = kafka_record.timestamp_ms
        while True:
            try:
                self._producer.produce(
                    self._topic,
                    key=kafka_record.kafka_key,
                    value=kafka_record.kafka_value,
                    headers=headers,
                    on_delivery=on_delivery,
                    # 0 means now.
                    timestamp=0 if timestamp_ms is None else timestamp_ms,
                )
                return
            except BufferError:
                self._producer.poll(_FLUSH_SLICE_S)

    def _too_few_brokers(self, brokers: int) -> TaskFailed:
        return TaskFailed(
            f"The dead-letter topic '{self._topic}' cannot be made with "
            f"{self._policy.replication_factor} replicas: the cluster has {brokers} "
            f"broker(s). Set {_REPLICATION_KEY}={brokers} or less, or make the topic by hand"
        )

    def _unwritable(self, reason: str) -> DeadLettersUnwritable:
        return DeadLettersUnwritable(
            f"The dead-letter topic '{self._topic}' cannot be written: {reason}. Nothing was "
            "passed over: make the topic writable and restart the connector"
        )


def context_headers(refusal: Refusal, connector_name: str, task: int) -> KafkaHeaders:
    """The headers in which Kafka Connect says what was wrong with a dead letter."""
    kafka_record, error = refusal.kafka_record, refusal.error
    values = {
        "topic": kafka_record.partition.stream,
        "partition": str(kafka_record.partition.partition),
        "offset": str(kafka_record.kafka_offset),
        "connector.name": connector_name,
        "task.id": str(task),
        "stage": error.stage.value,
        "class.name": error.class_name,
        "exception.class.name": DATA_EXCEPTION,
        "exception.message": error.message,
        "exception.stacktrace": f"{DATA_EXCEPTION}: {error.message}\n\tat {error.class_name}",
    }
    return [
        # A lone surrogate in a message, from a broken record, is written as "?".
        (HEADER_PREFIX + name, value.encode("utf-8", "replace"))
        for name, value in values.items()
    ]
