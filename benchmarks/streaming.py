"""How fast do records get from Kafka into searches, beside only consuming and parsing them?

A broker in memory (Tansu) holds the same records for both sides. The floor is the least that
any sink must do: confluent-kafka's consumer and simdjson, and nothing is stored. Both are
measured in turns, from the first record to the last.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median

import simdjson
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from benchmarks.data import Dataset
from benchmarks.ingest import make_record_values
from benchmarks.results import Figure
from benchmarks.sides import COLLECTION, HeadraceSide
from headrace.demo.broker import CONSUMER_SETTINGS, PRODUCER_SETTINGS, TansuBroker
from headrace.sink.config import ConnectorConfig
from headrace.sink.connector import Connector
from headrace.sink.target import EmbeddedTarget

TOPIC = "bench"
_ROUNDS = 3
_TIMEOUT_S = 300.0
_CONSUMED_AT_ONCE = 1_000
_POLL_S = 0.002


def compare_streaming(
    dataset: Dataset, data: str, folder: Path, target: float, tell: Callable[[str], None]
) -> Figure:
    """Records a second from Kafka to durable, searchable points, and of the floor.

    Args:
        dataset: its points become the records.
        data: what the figure calls it.
        folder: an empty folder on the disk that is to be measured.
        target: the ratio that is aimed at.
        tell: called with a line when a round is done.
    """
    values = make_record_values(dataset)
    ours_s: list[float] = []
    floor_s: list[float] = []
    with TansuBroker.start() as broker:
        produce(broker, values)
        for round_number in range(_ROUNDS):
            floor_s.append(consume_and_parse(broker, len(values)))
            side = HeadraceSide(folder / str(round_number), dataset.dim, indexes={})
            with closing(side) as store:
                ours_s.append(stream_into(store, broker, f"bench-{round_number}", len(values)))
            tell(f"streaming: {ours_s[-1]:.2f} s, floor {floor_s[-1]:.2f} s")
    ratios = [floor / ours for floor, ours in zip(floor_s, ours_s, strict=True)]
    return Figure(
        what=f"Kafka to searchable, {dataset.dim} floats, JSON, in process, synced",
        ratio=median(ratios),
        target=target,
        better="higher",
        unit="records/s",
        headrace=len(values) / median(ours_s),
        rival=len(values) / median(floor_s),
        rival_name="confluent-kafka and simdjson, nothing stored",
        data=data,
    )


def make_topic(broker: TansuBroker) -> None:
    """The topic, with one partition."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    admin.create_topics([NewTopic(TOPIC, num_partitions=1, replication_factor=1)])[TOPIC].result()


def produce(broker: TansuBroker, values: list[bytes]) -> None:
    """Put the records on the topic."""
    make_topic(broker)
    producer = Producer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "queue.buffering.max.kbytes": 2**20,
            **PRODUCER_SETTINGS,
        }
    )
    for value in values:
        while True:
            try:
                producer.produce(TOPIC, value, partition=0)
                break
            except BufferError:
                producer.poll(0.1)
    if producer.flush(_TIMEOUT_S):
        raise RuntimeError("the broker did not take all records")


def consume_and_parse(broker: TansuBroker, count: int) -> float:
    """Seconds to read and parse all records, from the first on."""
    parser = simdjson.Parser()
    consumer = bare_consumer(broker)
    try:
        started = 0.0
        taken = 0
        for _ in range(count + int(_TIMEOUT_S)):
            messages = consumer.consume(_CONSUMED_AT_ONCE, timeout=1.0)
            if messages and not taken:
                started = time.perf_counter()
            for message in messages:
                document = parser.parse(message.value() or b"")
                document["vector"].as_buffer(of_type="d")  # type: ignore[index, union-attr]
                document["payload"].mini  # type: ignore[index, union-attr]  # noqa: B018
                document["id"]  # type: ignore[index]
                del document
            taken += len(messages)
            if taken >= count:
                return time.perf_counter() - started
        raise RuntimeError(f"only {taken} of {count} records came")
    finally:
        consumer.close()


def bare_consumer(broker: TansuBroker) -> Consumer:
    """A consumer of the topic from its beginning on, in no group; its owner closes it."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "group.id": "floor",
            "enable.auto.commit": False,
            **CONSUMER_SETTINGS,
        }
    )
    consumer.assign([TopicPartition(TOPIC, 0, 0)])
    return consumer


def stream_into(store: HeadraceSide, broker: TansuBroker, name: str, count: int) -> float:
    """Seconds until all records are durable and searchable, from the first on."""
    with running_connector(store, broker, name) as connector:
        deadline = time.perf_counter() + _TIMEOUT_S
        started = 0.0
        while time.perf_counter() < deadline:
            if not started and connector.progress().records_read:
                started = time.perf_counter()
            if store.service.points_count(COLLECTION) >= count:
                return time.perf_counter() - started
            time.sleep(_POLL_S)
        raise RuntimeError(f"not all records came: {connector.status()}")


@contextmanager
def running_connector(store: HeadraceSide, broker: TansuBroker, name: str) -> Iterator[Connector]:
    """A connector from the topic into a store, with its defaults."""
    config = ConnectorConfig.from_mapping(
        {
            "name": name,
            "topics": TOPIC,
            "bootstrap.servers": broker.bootstrap_servers,
            "value.converter.schemas.enable": "false",
            **{f"consumer.override.{key}": value for key, value in CONSUMER_SETTINGS.items()},
        }
    )
    connector = Connector(config, EmbeddedTarget(store.service))
    connector.start()
    try:
        yield connector
    finally:
        connector.stop(timeout_s=30)
