"""What lies in a connector's dead-letter topic, and how does it go back where it came from?"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

from headrace.model.errors import Unavailable
from headrace.sink.config import ConnectorConfig
from headrace.sink.dead_letters import HEADER_PREFIX
from headrace.sink.errors import ConfigError
from headrace.sink.topics import error_text

logger = logging.getLogger(__name__)

_REQUEST_TIMEOUT_S: Final = 10.0
# How long no record may come, with the end not reached, before the broker is given up.
_SILENCE_S: Final = 20.0
_CHUNK_RECORDS: Final = 500


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record of the dead-letter topic.

    Attributes:
        context: what Kafka Connect's context headers say, without their prefix.
        headers: the record's own.
    """

    partition: int
    kafka_offset: int
    kafka_key: bytes | None
    kafka_value: bytes | None
    timestamp_ms: int | None
    context: dict[str, str]
    headers: list[tuple[str, str | bytes | None]]


class DeadLetterTopic:
    """The dead letters of one connector, read on a consumer group of its own.

    What was replayed is remembered there, in Kafka, so that it is not replayed twice.

    Args:
        config: the connector's.

    Raises:
        ConfigError: the connector has no dead-letter topic, or a placeholder cannot be
            filled in.
    """

    def __init__(self, config: ConnectorConfig) -> None:
        topic = config.errors.dead_letter_topic
        if topic is None:
            raise ConfigError("errors.deadletterqueue.topic.name", "is not set: nothing is kept")
        self._topic = topic
        self._config = config
        settings = {
            **config.consumer_settings(0),
            "group.id": f"headrace-replay-{config.name}",
            "auto.offset.reset": "earliest",
        }
        # This reader is no member of the connector's group.
        settings.pop("group.instance.id", None)
        settings.pop("partition.assignment.strategy", None)
        self._consumer = Consumer(settings, logger=logger)

    def close(self) -> None:
        """Let go of the broker."""
        self._consumer.close()

    def read(self, only_new: bool, ends: Mapping[int, int] | None = None) -> Iterator[DeadLetter]:
        """The dead letters that are there now, by partition, oldest first.

        Args:
            only_new: leave out those that were replayed before.
            ends: by partition, the offset before which to stop; its end if not given.

        Raises:
            Unavailable: Kafka does not answer, or has no such topic.
        """
        try:
            for start in self._starts(only_new):
                if ends is None or start.partition in ends:
                    yield from self._read(start, None if ends is None else ends[start.partition])
        except KafkaException as error:
            raise Unavailable(f"Kafka does not answer: {error_text(error)}") from error

    def replay(self) -> tuple[int, list[DeadLetter]]:
        """Produce all that was not replayed yet to the topics that it came from.

        Acknowledged before it is remembered: after a crash between the two some records
        are produced again, which the sink takes for what they are.

        Returns:
            How many records were produced, and those that stay since nothing says where
            they came from: they lack context headers, and the connector has many topics.

        Raises:
            Unavailable: Kafka does not answer, or did not take a record.
        """
        producer = Producer(self._config.producer_settings(0), logger=logger)
        failures: list[KafkaError] = []

        def on_delivery(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                failures.append(error)

        produced, homeless = 0, []
        # While this goes on, what is still wrong comes back: without an end set beforehand it
        # would be replayed again and again.
        next_offsets = {one.partition: one.kafka_offset + 1 for one in self.read(only_new=True)}
        for letter in self.read(only_new=True, ends=next_offsets):
            topic = self._origin(letter)
            if topic is None:
                homeless.append(letter)
            else:
                _produce(producer, topic, letter, on_delivery)
                produced += 1
        if producer.flush(_SILENCE_S) or failures:
            reason = failures[0].str() if failures else "no answer"
            raise Unavailable(f"Kafka did not take all records back: {reason}. Replay again")
        self._remember(next_offsets)
        return produced, homeless

    def _origin(self, letter: DeadLetter) -> str | None:
        topics = self._config.topics
        return letter.context.get("topic") or (topics[0] if len(topics) == 1 else None)

    def _starts(self, only_new: bool) -> Iterator[TopicPartition]:
        """Where to read each partition from; each is read to the end that a fetch tells."""
        metadata = self._consumer.list_topics(self._topic, _REQUEST_TIMEOUT_S)
        found = metadata.topics[self._topic]
        if found.error is not None:
            raise KafkaException(found.error)
        asked = [TopicPartition(self._topic, number) for number in found.partitions]
        committed = self._consumer.committed(asked, _REQUEST_TIMEOUT_S) if only_new else asked
        for one in committed:
            start = one.offset if only_new and one.offset >= 0 else OFFSET_BEGINNING
            yield TopicPartition(self._topic, one.partition, start)

    def _read(self, start: TopicPartition, end: int | None) -> Iterator[DeadLetter]:
        self._consumer.assign([start])
        deadline = time.monotonic() + _SILENCE_S
        while time.monotonic() < deadline:
            for message in self._consumer.consume(_CHUNK_RECORDS, 0.2):
                error = message.error()
                if error is not None:
                    if error.code() == KafkaError._PARTITION_EOF:
                        return
                    continue
                deadline = time.monotonic() + _SILENCE_S
                letter = _letter(message)
                if end is not None and letter.kafka_offset >= end:
                    return
                yield letter
                if end is not None and letter.kafka_offset + 1 >= end:
                    return
        raise Unavailable(f"Kafka gave no more of topic {self._topic} for {_SILENCE_S:g} s")

    def _remember(self, next_offsets: dict[int, int]) -> None:
        if next_offsets:
            kafka_offsets = [TopicPartition(self._topic, *one) for one in next_offsets.items()]
            try:
                self._consumer.commit(offsets=kafka_offsets, asynchronous=False)
            except KafkaException as error:
                raise Unavailable(
                    f"What was replayed is not remembered: {error_text(error)}"
                ) from error


def _produce(
    producer: Producer,
    topic: str,
    letter: DeadLetter,
    on_delivery: Callable[[KafkaError | None, Message], None],
) -> None:
    while True:
        try:
            producer.produce(
                topic,
                letter.kafka_value,
                letter.kafka_key,
                headers=letter.headers,
                timestamp=letter.timestamp_ms or 0,
                on_delivery=on_delivery,
            )
            producer.poll(0)
            return
        except BufferError:
            # The client's queue is full until Kafka has taken some.
            producer.poll(0.2)


def _letter(message: Message) -> DeadLetter:
    headers: list[tuple[str, Any]] = list(message.headers() or [])  # type: ignore[arg-type]
    context = {
        name.removeprefix(HEADER_PREFIX): bytes(value or b"").decode("utf-8", "replace")
        for name, value in headers
        if name.startswith(HEADER_PREFIX)
    }
    _, timestamp_ms = message.timestamp()
    return DeadLetter(
        int(message.partition() or 0),
        int(message.offset() or 0),
        message.key(),
        message.value(),
        timestamp_ms if timestamp_ms > 0 else None,
        context,
        [one for one in headers if not one[0].startswith(HEADER_PREFIX)],
    )
