"""What do the stream tests share? Topics, producers, sinks and whole `headrace` processes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from qdrant_client import QdrantClient

from headrace.demo.child_process import kill, start_bound
from headrace.server.run import Serving
from headrace.sink.config import ConnectorConfig
from headrace.sink.connector import Connector
from headrace.sink.qdrant_target import QdrantTarget
from headrace.sink.target import EmbeddedTarget

CALL_TIMEOUT_S = 30.0
# What a slow machine with two busy cores may need; nothing waits this long when it works.
PATIENCE_S = 90.0
# Half of what the client's queue holds.
PRODUCED_AT_ONCE = 50_000

KafkaPair = tuple[bytes | None, bytes | None]


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Ask again and again; fails with `what` if it does not come true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.05)


def new_topic(bootstrap_servers: str, stem: str, partitions: int = 1) -> str:
    """Make a topic with a name of its own."""
    topic = f"{stem}-{uuid4().hex[:12]}"
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    for future in admin.create_topics([NewTopic(topic, partitions, 1)]).values():
        future.result(CALL_TIMEOUT_S)
    return topic


def produce(bootstrap_servers: str, topic: str, pairs: Iterable[KafkaPair]) -> None:
    """Produce key and value pairs, in order, and wait until all are acknowledged."""
    producer = Producer({"bootstrap.servers": bootstrap_servers, "linger.ms": 20})
    for number, (kafka_key, value) in enumerate(pairs):
        producer.produce(topic, value, kafka_key)
        if number % PRODUCED_AT_ONCE == PRODUCED_AT_ONCE - 1:
            assert producer.flush(CALL_TIMEOUT_S) == 0
    assert producer.flush(CALL_TIMEOUT_S) == 0


def read_topic(bootstrap_servers: str, topic: str) -> list[Message]:
    """All records of a topic that are there now: by partition, each in order."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": f"read-{topic}",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 100,
        }
    )
    partitions = consumer.list_topics(topic, CALL_TIMEOUT_S).topics[topic].partitions
    consumer.assign([TopicPartition(topic, one, 0) for one in partitions])
    found: list[Message] = []
    at_end = 0
    deadline = time.monotonic() + PATIENCE_S
    while at_end < len(partitions):
        assert time.monotonic() < deadline, f"cannot read {topic}"
        for message in consumer.consume(1_000, 0.2):
            if message.error() is None:
                found.append(message)
            else:
                at_end += 1
    consumer.close()
    return sorted(found, key=lambda one: (one.partition() or 0, one.offset() or 0))


def headers_of(message: Message) -> dict[str, str]:
    """A record's headers as text."""
    pairs: list[tuple[str, bytes]] = list(message.headers() or [])  # type: ignore[arg-type]
    assert len(pairs) == len(dict(pairs)), "a header is there twice"
    return {name: value.decode() for name, value in pairs}


def connector_settings(bootstrap_servers: str, topic: str, **settings: str) -> dict[str, str]:
    """A connector that takes one topic of JSON; dots in names are written as `__`.

    The session is short, so that the group forgets a killed member soon.
    """
    return {
        "name": f"sink-{topic}",
        "connector.class": "io.qdrant.kafka.QdrantSinkConnector",
        "bootstrap.servers": bootstrap_servers,
        "topics": topic,
        "key.converter": "org.apache.kafka.connect.json.JsonConverter",
        "key.converter.schemas.enable": "false",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "false",
        "consumer.override.session.timeout.ms": "6000",
        "consumer.override.heartbeat.interval.ms": "500",
        "consumer.override.fetch.wait.max.ms": "100",
        **{name.replace("__", "."): value for name, value in settings.items()},
    }


def write_properties(path: Path, settings: Mapping[str, str]) -> Path:
    """A connector file."""
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    return path


@contextmanager
def running_sink(settings: Mapping[str, str], target: str, serving: Serving) -> Iterator[Connector]:
    """A connector that runs while the block does, into a store by one path.

    Args:
        settings: the connector's, without its target.
        target: "embedded", "gRPC" or "REST".
        serving: the store.
    """
    urls = {
        "embedded": {},
        "gRPC": {"qdrant.grpc.url": f"http://{serving.grpc_address}"},
        "REST": {"qdrant.rest.url": serving.rest_url},
    }
    config = ConnectorConfig.from_mapping({**settings, **urls[target]})
    connector = Connector(
        config, EmbeddedTarget(serving.service) if config.is_embedded else QdrantTarget(config)
    )
    connector.start()
    try:
        yield connector
    finally:
        connector.stop(CALL_TIMEOUT_S)


class HeadraceProcess:
    """A `headrace` command in a process of its own.

    Args:
        log: where its log is added to.
        arguments: the command and its arguments.

    Attributes:
        rest_url: where REST answers, of `sink worker` Connect's, once `wait_until_serving`
            has returned.
        grpc_url: where gRPC answers.
    """

    def __init__(self, log: Path, *arguments: str | Path) -> None:
        headrace = Path(sys.executable).parent / "headrace"
        self._log = log
        with log.open("ab") as stderr:
            self._process = start_bound(
                [headrace, *arguments], stdout=subprocess.PIPE, stderr=stderr
            )
        self._is_serving = threading.Event()
        self.rest_url = self.grpc_url = ""
        self._reader = threading.Thread(target=self._read_stdout)
        self._reader.start()

    @classmethod
    def over(cls, command: str, data: Path, *arguments: str | Path) -> HeadraceProcess:
        """A command that serves a data directory on free ports."""
        ports = ["--http-port", "0", "--grpc-port", "0"]
        if command == "up":
            ports += ["--connect-port", "0"]
        return cls(data.with_suffix(".log"), command, "--data", data, *ports, *arguments)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait_until_serving(self) -> None:
        """Return once the process has said that it serves."""
        self._is_serving.wait(PATIENCE_S)
        assert self.rest_url, f"headrace does not serve:\n{self._log.read_text()[-4000:]}"

    def kill(self) -> None:
        """SIGKILL; a second call does nothing."""
        kill(self._process)
        self._reader.join()

    def terminate(self) -> int:
        """SIGTERM; returns the exit code."""
        self._process.terminate()
        exit_code = self._process.wait(PATIENCE_S)
        self._reader.join()
        return exit_code

    def _read_stdout(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stdout:
            for line in stdout:
                words = line.decode().split()
                if words[:1] in (["serving:"], ["worker:"]):
                    self.rest_url = words[words.index("REST") + 1]
                    if "gRPC" in words:
                        self.grpc_url = f"http://{words[words.index('gRPC') + 1]}"
                    self._is_serving.set()
        self._is_serving.set()


@contextmanager
def rest_client(rest_url: str) -> Iterator[QdrantClient]:
    """The official client, over REST."""
    client = QdrantClient(url=rest_url, timeout=int(CALL_TIMEOUT_S), check_compatibility=False)
    try:
        yield client
    finally:
        client.close()


def all_points(client: QdrantClient, collection_name: str) -> dict[int | str, tuple[Any, Any]]:
    """Payload and vectors of every point, by id."""
    points: dict[int | str, tuple[Any, Any]] = {}
    page_start: Any = None
    for _ in range(1_000):
        page, page_start = client.scroll(
            collection_name, limit=1_000, offset=page_start, with_payload=True, with_vectors=True
        )
        for point in page:
            assert not isinstance(point.id, UUID)
            assert point.id not in points, f"point {point.id} is there twice"
            points[point.id] = (point.payload, point.vector)
        if page_start is None:
            return points
    raise AssertionError(f"{collection_name} has no end")


def fold(bootstrap_servers: str, topic: str) -> dict[int | str, tuple[Any, Any]]:
    """What a topic says must be stored: of each id the last record, if it has a value.

    For topics whose keys name the id; records without a key are taken for bad ones.
    """
    points: dict[int | str, tuple[Any, Any]] = {}
    for message in read_topic(bootstrap_servers, topic):
        kafka_key, text = message.key(), message.value()
        if kafka_key is None:
            continue
        point_id = json.loads(kafka_key)["id"]
        if text is None:
            points.pop(point_id, None)
        else:
            value = json.loads(text)
            points[point_id] = (value["payload"], value["vector"])
    return points
