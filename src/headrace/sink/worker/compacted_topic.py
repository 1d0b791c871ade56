"""How do several workers keep the same small documents in one compacted topic of Kafka?

Whoever changes a document writes it whole under its key, acknowledged by all replicas, and
acts on it when it reads it back. So all workers see all changes in one order, and of two at
the same time the later one in the topic wins, for everybody.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Final
from uuid import uuid4

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    ResourceType,
)
from confluent_kafka.cimpl import NewTopic

from headrace.model.errors import ErrorCode, HeadraceError, Unavailable
from headrace.sink.client_log import ClientLog
from headrace.sink.client_settings import ClientSettings
from headrace.sink.topics import TopicRefused, error_text, list_topics, make_topic

logger = logging.getLogger(__name__)

_REQUEST_TIMEOUT_S: Final = 10.0
_DESCRIBE_TIMEOUT_S: Final = 5.0
DELIVERY_TIMEOUT_S: Final = 30.0
# How often following looks whether it is to end.
_POLL_WAIT_S: Final = 0.1

# Key, value (None deletes the document), and the record's timestamp, -1 if it has none.
OnRecord = Callable[[str, bytes | None, int], None]


class UnusableTopic(HeadraceError):
    """The topic cannot hold documents; the text says what to do."""

    code = ErrorCode.INTERNAL


class CompactedTopic:
    """Documents by key, shared by workers; thread-safe, but `follow` is for one thread.

    Args:
        name: of the topic.
        settings: librdkafka's, of the connection alone.
        replication_factor: if the topic has to be made; -1 is the cluster's default.
        partitions: likewise; changes are in one order only if there is one.
    """

    def __init__(
        self, name: str, settings: ClientSettings, replication_factor: int, partitions: int
    ) -> None:
        self.name = name
        self._settings = settings
        self._replication_factor = replication_factor
        self._partitions = partitions
        self._progress = threading.Condition()
        # By partition, the offset after the last record that was read and acted on.
        self._next_offsets: dict[int, int] = {}
        self._producer: Producer | None = None
        self._producer_lock = threading.Lock()

    def ensure(self) -> None:
        """Make the topic if it is not there, else make sure that it can be used.

        Raises:
            Unavailable: Kafka does not answer; try again.
            UnusableTopic: it is not compacted, has other partitions, or cannot be made; or the
                settings of the connection are wrong.
        """
        try:
            admin = AdminClient(dict(self._settings), logger=ClientLog(logger))
        except KafkaException as error:
            raise self._unusable_settings(error) from None
        found = list_topics(admin).topics.get(self.name)
        if found is None:
            self._make(admin)
            return
        if self._partitions == 1 and len(found.partitions) != 1:
            raise UnusableTopic(
                f"The topic '{self.name}' has {len(found.partitions)} partitions, and must have "
                "one, so that all workers see changes in one order: name another one"
            )
        self._check_policy(admin)

    def append(
        self, records: Sequence[tuple[str, bytes | None]], timeout_s: float = DELIVERY_TIMEOUT_S
    ) -> dict[int, int]:
        """Write documents, in order; all replicas have them when it returns.

        Returns:
            By partition, the offset of the last record written.

        Raises:
            Unavailable: one was not acknowledged; some may have been written.
        """
        written: dict[int, int] = {}
        failures: list[KafkaError] = []

        def on_delivery(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                failures.append(error)
            else:
                written[int(message.partition() or 0)] = int(message.offset() or 0)

        with self._producer_lock:
            try:
                if self._producer is None:
                    self._producer = Producer(self._producer_settings(), logger=ClientLog(logger))
                for key, value in records:
                    self._producer.produce(self.name, value, key, on_delivery=on_delivery)
                left = self._producer.flush(timeout_s)
            except KafkaException as error:
                raise Unavailable(f"Kafka takes nothing: {error_text(error)}") from None
        if left or failures:
            reason = failures[0].str() if failures else "no answer in time"
            raise Unavailable(f"Kafka did not take a change into '{self.name}': {reason}")
        return written

    def wait_until_read(self, offsets: dict[int, int], timeout_s: float) -> bool:
        """Wait until this worker has acted on records; False if it has not in time."""
        with self._progress:
            return self._progress.wait_for(
                lambda: all(self._next_offsets.get(one, 0) > at for one, at in offsets.items()),
                timeout_s,
            )

    def follow(
        self, on_record: OnRecord, on_end: Callable[[], None], is_stopping: Callable[[], bool]
    ) -> None:
        """Read all documents, oldest change first, then every change, until told to stop.

        Args:
            on_record: called for each record.
            on_end: called once, when all is read that was there.
            is_stopping: looked at often.

        Raises:
            Unavailable: Kafka does not answer; begin again.
            UnusableTopic: the settings of the connection are wrong.
        """
        try:
            consumer = Consumer(self._consumer_settings(), logger=ClientLog(logger))
        except KafkaException as error:
            raise self._unusable_settings(error) from None
        try:
            self._read(consumer, on_record, on_end, is_stopping)
        except KafkaException as error:
            raise Unavailable(f"Topic '{self.name}' cannot be read: {error_text(error)}") from None
        finally:
            consumer.close()

    def _read(
        self,
        consumer: Consumer,
        on_record: OnRecord,
        on_end: Callable[[], None],
        is_stopping: Callable[[], bool],
    ) -> None:
        found = consumer.list_topics(self.name, _REQUEST_TIMEOUT_S).topics[self.name]
        if found.error is not None:
            raise KafkaException(found.error)
        unread = set(found.partitions)
        consumer.assign([TopicPartition(self.name, one, OFFSET_BEGINNING) for one in unread])
        while not is_stopping():
            for message in consumer.consume(100, _POLL_WAIT_S):
                error = message.error()
                if error is None:
                    self._take(message, on_record)
                elif error.code() != KafkaError._PARTITION_EOF:
                    if error.fatal() or not (error.retriable() or error.code() < 0):
                        raise KafkaException(error)
                    logger.warning("topic %s: %s", self.name, error.str())
                elif unread:
                    unread.discard(int(message.partition() or 0))
                    if not unread:
                        on_end()

    def _take(self, message: Message, on_record: OnRecord) -> None:
        key = message.key()
        if key is not None:
            _, timestamp_ms = message.timestamp()
            on_record(key.decode("utf-8", "replace"), message.value(), timestamp_ms)
        with self._progress:
            self._next_offsets[int(message.partition() or 0)] = int(message.offset() or 0) + 1
            self._progress.notify_all()

    def _make(self, admin: AdminClient) -> None:
        topic = NewTopic(
            self.name,
            num_partitions=self._partitions,
            replication_factor=self._replication_factor,
            config={"cleanup.policy": "compact"},
        )
        try:
            is_new = make_topic(admin, topic)
        except TopicRefused as refused:
            raise UnusableTopic(
                f"The topic '{self.name}' cannot be made: {refused}. Make it by hand, with "
                "cleanup.policy=compact, or change its replication factor in the worker's file"
            ) from None
        if is_new:
            logger.info("made the compacted topic %s", self.name)

    def _check_policy(self, admin: AdminClient) -> None:
        resource = ConfigResource(ResourceType.TOPIC, self.name)
        try:
            answer = admin.describe_configs([resource], request_timeout=_DESCRIBE_TIMEOUT_S)
            policy = answer[resource].result()["cleanup.policy"].value
        except (KafkaException, KeyError) as error:
            # Not everyone may ask; as Kafka Connect, take it for what it should be.
            logger.warning("whether topic %s is compacted is not known: %s", self.name, error)
            return
        if policy != "compact":
            raise UnusableTopic(
                f"The topic '{self.name}' has cleanup.policy={policy}, which would lose "
                "documents: it must be compact"
            )

    def _unusable_settings(self, error: KafkaException) -> UnusableTopic:
        return UnusableTopic(
            f"The topic '{self.name}' cannot be reached with these settings: {error_text(error)}. "
            "Mend the worker's file, or what it names"
        )

    def _producer_settings(self) -> ClientSettings:
        return {
            **self._settings,
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 0,
            "message.timeout.ms": int(DELIVERY_TIMEOUT_S * 1000),
        }

    def _consumer_settings(self) -> ClientSettings:
        return {
            **self._settings,
            # Every worker reads everything: nobody else is in its group, and it commits nothing.
            "group.id": f"headrace-worker-{uuid4()}",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 100,
        }
