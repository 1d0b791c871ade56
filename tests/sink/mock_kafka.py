"""librdkafka's mock cluster: a broker in this process, which fails when it is told to.

It speaks enough of Kafka's protocol for producers and consumer groups. It makes no topics
by request, and knows no aborted transactions: `tests/stream` has brokers for that.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import confluent_kafka
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from headrace.sink.batch import KafkaHeaders

_PRODUCER: Final = 0
_BROKER: Final = 1
_FLUSH_TIMEOUT_S: Final = 20.0

# Kafka's numbers of requests and of errors.
PRODUCE_REQUEST: Final = 0
FETCH_REQUEST: Final = 1
OFFSET_COMMIT_REQUEST: Final = 8
HEARTBEAT_REQUEST: Final = 12
NOT_ENOUGH_REPLICAS: Final = 19
TOPIC_AUTHORIZATION_FAILED: Final = 29
INVALID_RECORD: Final = 87
UNKNOWN_MEMBER_ID: Final = 25
INVALID_COMMIT_OFFSET_SIZE: Final = 28


class MockKafkaUnavailable(Exception):
    """There is no mock cluster in the librdkafka that confluent-kafka brought along."""


class MockKafka:
    """A cluster of one broker."""

    def __init__(self) -> None:
        self._library = _load_library()
        error = ctypes.create_string_buffer(512)
        configuration = self._call("conf_new", restype=ctypes.c_void_p)
        _set(self._library, configuration, b"bootstrap.servers", b"127.0.0.1:1")
        _set(self._library, configuration, b"log_level", b"0")
        self._handle = self._call(
            "new", _PRODUCER, ctypes.c_void_p(configuration), error, len(error),
            restype=ctypes.c_void_p,
        )  # fmt: skip
        self._cluster = ctypes.c_void_p(
            self._call(
                "mock_cluster_new", ctypes.c_void_p(self._handle), 1, restype=ctypes.c_void_p
            )
        )
        bootstraps: bytes = self._call(
            "mock_cluster_bootstraps", self._cluster, restype=ctypes.c_char_p
        )
        self.bootstrap_servers = bootstraps.decode()
        self._call("mock_group_initial_rebalance_delay_ms", self._cluster, ctypes.c_int32(0))

    def close(self) -> None:
        """Stop the broker."""
        self._call("mock_cluster_destroy", self._cluster)
        self._call("destroy", ctypes.c_void_p(self._handle))

    def create_topic(self, topic: str, partitions: int = 1) -> None:
        """Make a topic."""
        error = self._call("mock_topic_create", self._cluster, topic.encode(), partitions, 1)
        assert error == 0, f"cannot make {topic}: {error}"

    def delete_topic(self, topic: str) -> None:
        """Delete a topic."""
        error = self._call("mock_topic_delete", self._cluster, topic.encode())
        assert error == 0, f"cannot delete {topic}: {error}"

    def delete_records(self, topic: str, partition: int, before_offset: int) -> None:
        """Drop the records of a partition before an offset, as retention does."""
        error = self._call(
            "mock_partition_delete_records",
            self._cluster,
            topic.encode(),
            ctypes.c_int32(partition),
            ctypes.c_int64(before_offset),
        )
        assert error == 0, f"cannot delete records of {topic}: {error}"

    def fail_next(self, request: int, errors: Sequence[int]) -> None:
        """Answer the next requests of a kind with errors."""
        array = (ctypes.c_int * len(errors))(*errors)
        self._call(
            "mock_push_request_errors_array",
            self._cluster,
            ctypes.c_int16(request),
            ctypes.c_size_t(len(errors)),
            array,
        )

    def set_down(self) -> None:
        """Close all connections and accept none."""
        self._call("mock_broker_set_down", self._cluster, ctypes.c_int32(_BROKER))

    def set_up(self) -> None:
        """Accept connections again."""
        self._call("mock_broker_set_up", self._cluster, ctypes.c_int32(_BROKER))

    def produce(
        self,
        topic: str,
        *pairs: bytes | tuple[bytes | None, bytes | None],
        partition: int = 0,
        headers: KafkaHeaders | None = None,
        timestamp_ms: int = 0,
        message_bytes_max: int = 1_000_000,
    ) -> None:
        """Produce values, or pairs of key and value, to one partition; all are acknowledged."""
        producer = Producer(
            {
                "bootstrap.servers": self.bootstrap_servers,
                "linger.ms": 0,
                "message.max.bytes": message_bytes_max,
            }
        )
        for one in pairs:
            key, value = one if isinstance(one, tuple) else (None, one)
            producer.produce(
                topic,
                value,
                key,
                partition=partition,
                headers=headers or [],
                timestamp=timestamp_ms,
            )
        assert producer.flush(_FLUSH_TIMEOUT_S) == 0

    def read(self, topic: str, partitions: int = 1) -> list[Message]:
        """All records of a topic that are there now."""
        consumer = self._reader()
        consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
        found: list[Message] = []
        ends = 0
        for _ in range(200):
            for message in consumer.consume(1_000, 0.1):
                if message.error() is None:
                    found.append(message)
                else:
                    ends += 1
            if ends >= partitions:
                break
        consumer.close()
        assert ends >= partitions, f"{topic} was not read to its end"
        return found

    def committed(self, group: str, topic: str, partition: int = 0) -> int:
        """The offset that a group has committed; negative if none."""
        consumer = self._reader(group)
        (found,) = consumer.committed([TopicPartition(topic, partition)], timeout=10)
        consumer.close()
        return int(found.offset)

    def commit(self, group: str, topic: str, kafka_offset: int, partition: int = 0) -> None:
        """Commit an offset for a group."""
        consumer = self._reader(group)
        consumer.commit(
            offsets=[TopicPartition(topic, partition, kafka_offset)], asynchronous=False
        )
        consumer.close()

    def _reader(self, group: str = "reader") -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self.bootstrap_servers,
                "group.id": group,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 50,
            }
        )

    def _call(self, name: str, *arguments: Any, restype: Any = ctypes.c_int) -> Any:
        function: Callable[..., Any] = getattr(self._library, f"rd_kafka_{name}")
        function.restype = restype  # type: ignore[attr-defined]
        return function(*arguments)


def _load_library() -> ctypes.CDLL:
    """The very library that confluent-kafka has loaded."""
    package = Path(confluent_kafka.__file__).parent
    for path in sorted(package.parent.glob("confluent_kafka.libs/librdkafka*")):
        library = ctypes.CDLL(str(path))
        if hasattr(library, "rd_kafka_mock_cluster_new"):
            return library
    raise MockKafkaUnavailable("confluent-kafka brought no librdkafka with a mock cluster")


def _set(library: ctypes.CDLL, configuration: int, name: bytes, value: bytes) -> None:
    error = ctypes.create_string_buffer(512)
    result = library.rd_kafka_conf_set(
        ctypes.c_void_p(configuration), name, value, error, ctypes.c_size_t(len(error))
    )
    assert result == 0, error.value
