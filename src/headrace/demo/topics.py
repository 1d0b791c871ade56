"""What does the demo do on the broker itself, beside the sink? Topics, records, dead letters."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from headrace.demo.stream import StreamRecord
from headrace.model.errors import Unavailable

logger = logging.getLogger(__name__)

PARTITIONS = 4
ERROR_HEADER_PREFIX = "__connect.errors."

_CALL_TIMEOUT_S = 30.0
_CHECK_STOP_EVERY = 256


class KafkaUnavailable(Unavailable):
    """The Kafka given to the demo does not answer, or refuses what the demo needs."""


@dataclass(frozen=True)
class DeadLetter:
    """One record of the dead letter topic.

    Attributes:
        value: its original bytes.
        reason: the message of its error.
        stage: where in the sink it failed.
        source: its partition and offset, as `partition/offset`.
    """

    value: bytes
    reason: str
    stage: str
    source: str


class DemoTopics:
    """The two topics of one run.

    Args:
        bootstrap_servers: the broker.
        run_name: makes the topics' names unlike those of any other run.
    """

    def __init__(self, bootstrap_servers: str, run_name: str) -> None:
        self.airports = f"{run_name}-airports"
        self.dead_letters = f"{run_name}-dead-letters"
        self._settings: dict[str, Any] = {"bootstrap.servers": bootstrap_servers}

    def create(self) -> None:
        """Make both topics.

        Raises:
            KafkaUnavailable: the broker does not answer, or does not let us.
        """
        server_default = -1
        new_topics = [
            NewTopic(self.airports, PARTITIONS, server_default),
            NewTopic(self.dead_letters, 1, server_default),
        ]
        admin = AdminClient(self._settings, logger=logger)
        try:
            for future in admin.create_topics(new_topics, request_timeout=_CALL_TIMEOUT_S).values():
                future.result(_CALL_TIMEOUT_S)
        except (KafkaException, TimeoutError) as error:
            servers = self._settings["bootstrap.servers"]
            raise KafkaUnavailable(f"Cannot make topics on {servers}: {error}") from error

    def delete(self, consumer_group: str) -> None:
        """Delete both topics and the sink's consumer group.

        Raises:
            KafkaUnavailable: the broker does not answer, or does not let us.
        """
        admin = AdminClient(self._settings, logger=logger)
        try:
            for future in (
                *admin.delete_consumer_groups([consumer_group]).values(),
                *admin.delete_topics([self.airports, self.dead_letters]).values(),
            ):
                future.result(_CALL_TIMEOUT_S)
        except (KafkaException, TimeoutError) as error:
            raise KafkaUnavailable(
                f"Cannot delete topics {self.airports} and {self.dead_letters}: {error}"
            ) from error

    def produce(
        self,
        stream: Iterable[StreamRecord],
        producer_settings: Mapping[str, str],
        should_stop: Callable[[], bool],
    ) -> int:
        """Produce all records, in order; returns how many the broker has acknowledged.

        Args:
            stream: the records.
            producer_settings: settings of the producer.
            should_stop: asked now and then; True ends it early.

        Raises:
            KafkaUnavailable: a record could not be delivered.
        """
        failures: list[str] = []
        delivered = 0

        def on_delivery(error: Any, message: Message) -> None:
            nonlocal delivered
            if error is None:
                delivered += 1
            else:
                failures.append(str(error))

        producer = Producer(
            {**self._settings, "enable.idempotence": "true", **producer_settings}, logger=logger
        )
        for number, one in enumerate(stream):
            if number % _CHECK_STOP_EVERY == 0 and (failures or should_stop()):
                break
            while True:
                try:
                    producer.produce(
                        self.airports, one.value, one.kafka_key, on_delivery=on_delivery
                    )
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
        undelivered = producer.flush(_CALL_TIMEOUT_S)
        if failures or undelivered:
            reason = failures[0] if failures else f"no answer in {_CALL_TIMEOUT_S:g} s"
            raise KafkaUnavailable(f"A record was not delivered: {reason}")
        return delivered

    def read_dead_letters(self, at_least: int, timeout_s: float) -> list[DeadLetter]:
        """All dead letters there are, in order, once there are as many as expected.

        Args:
            at_least: how many to wait for.
            timeout_s: how long to wait for them; then those that are there are returned.
        """
        consumer = Consumer(
            {
                **self._settings,
                "group.id": self.dead_letters,
                "enable.auto.commit": "false",
                # Tansu does not say where a partition ends, but shows it when it is reached.
                "enable.partition.eof": "true",
                "fetch.wait.max.ms": "100",
            },
            logger=logger,
        )
        letters: list[DeadLetter] = []
        is_at_end = False
        deadline = time.monotonic() + timeout_s
        try:
            consumer.assign([TopicPartition(self.dead_letters, 0, 0)])
            while time.monotonic() < deadline and not (is_at_end and len(letters) >= at_least):
                for message in consumer.consume(100, 0.1):
                    is_at_end = _is_partition_end(message)
                    if not is_at_end:
                        letters.append(_dead_letter(message))
        finally:
            consumer.close()
        return letters


def _is_partition_end(message: Message) -> bool:
    error = message.error()
    return error is not None and error.code() == KafkaError._PARTITION_EOF


def _dead_letter(message: Message) -> DeadLetter:
    if message.error() is not None:
        raise KafkaUnavailable(f"Cannot read the dead letters: {message.error()}")
    # Read from the wire, headers are a list of pairs and their values bytes.
    pairs: list[tuple[str, bytes | None]] = list(message.headers() or [])  # type: ignore[arg-type]
    headers = {
        name.removeprefix(ERROR_HEADER_PREFIX): (value or b"").decode(errors="replace")
        for name, value in pairs
        if name.startswith(ERROR_HEADER_PREFIX)
    }
    source = "/".join(headers.get(name, "?") for name in ("partition", "offset"))
    return DeadLetter(
        message.value() or b"",
        headers.get("exception.message", ""),
        headers.get("stage", ""),
        source,
    )
