"""How do the tests get an Apache Kafka node of their own?

Its jars come from Maven Central by the pom beside this file, once; they are kept in
`target/`. One KRaft node, broker and controller in one JVM, is formatted and started on
loopback, and killed at the end. Kafka's own command-line tools come in the same jars.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import shutil
import socket
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from headrace.demo.broker import LOOPBACK
from headrace.demo.child_process import kill, start_bound

FOLDER = Path(__file__).parent
CLUSTER_ID = "aGVhZHJhY2UtdGVzdHMtMQ"
DOWNLOAD_TIMEOUT_S = 240
FORMAT_TIMEOUT_S = 60
# It takes 5 s on an idle machine, and a broker that was killed waits for its session to end;
# beside other work it takes as long as that lets it.
START_TIMEOUT_S = 240
TOOL_TIMEOUT_S = 120
START_ATTEMPTS_MAX = 3
# Below what Linux gives to outgoing connections, so that nobody, and not even a client that
# tries to reach the node, takes the port of a node that is being restarted.
PORTS = range(15_000, 30_000)

CONSOLE_PRODUCER = "org.apache.kafka.tools.ConsoleProducer"
CONSOLE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
CLUSTER = "org.apache.kafka.tools.ClusterTool"
CONSUMER_GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"

# A small heap, the collector and compiler that start fastest: the node lives for minutes.
JVM_FLAGS = (
    *("-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)

# One node, so one replica of everything; few partitions of the internal topics, and no
# wait for more members before a group's first assignment, since both cost seconds.
PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
num.network.threads=2
num.io.threads=2
log.cleaner.dedupe.buffer.size=4194304
"""

# Beside these, for clients that are asked who they are: as a cluster in the cloud does.
SECURED_PROPERTIES = """\
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port},CLOUD://{host}:{cloud_port}
advertised.listeners=PLAINTEXT://{host}:{port},CLOUD://{host}:{cloud_port}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,CLOUD:SASL_SSL
inter.broker.listener.name=PLAINTEXT
listener.name.cloud.sasl.enabled.mechanisms=PLAIN
listener.name.cloud.plain.sasl.jaas.config={login} required user_{user}="{password}";
listener.name.cloud.ssl.keystore.type=PEM
listener.name.cloud.ssl.keystore.location={certificate}
"""
PLAIN_LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule"


class KafkaNotRunnable(Exception):
    """This machine cannot run a Kafka node; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Secured:
    """What a node shows to clients over TLS, and whom it lets in.

    Attributes:
        certificate: a PEM file with the private key and the certificates after it.
    """

    certificate: Path
    user: str
    password: str


class KafkaNode:
    """A running node.

    Attributes:
        bootstrap_servers: where clients connect, as `host:port`.
        cloud_bootstrap_servers: where they do with SASL_SSL and PLAIN; empty if they cannot.
    """

    def __init__(self, jars: Path, folder: Path, secured: Secured | None = None) -> None:
        port, controller_port, cloud_port = unused_port(), unused_port(), unused_port()
        self.bootstrap_servers = f"{LOOPBACK}:{port}"
        self.cloud_bootstrap_servers = "" if secured is None else f"{LOOPBACK}:{cloud_port}"
        self._jars = jars
        self._log = folder / "node.log"
        self._properties = folder / "node.properties"
        ports = {"host": LOOPBACK, "port": port, "controller_port": controller_port}
        properties = PROPERTIES.format(**ports, data=folder / "data")
        if secured is not None:
            # Of a key that is there twice, the later one counts.
            properties += SECURED_PROPERTIES.format(
                **ports, cloud_port=cloud_port, login=PLAIN_LOGIN, **asdict(secured)
            )
        self._properties.write_text(properties)
        with self._log.open("wb") as log:
            _format(jars, self._properties, log)
        self._process = self._launch()

    @classmethod
    def start(cls, folder: Path, secured: Secured | None = None) -> KafkaNode:
        """Format and start a node with its data in `folder`; it answers when this returns.

        Raises:
            KafkaNotRunnable: Java, Maven or the jars are missing, or the node did not start.
        """
        jars = kafka_jars()
        log = ""
        # Another process may take a free port before the node does.
        for attempt in range(START_ATTEMPTS_MAX):
            attempt_folder = folder / f"attempt-{attempt}"
            attempt_folder.mkdir()
            node = cls(jars, attempt_folder, secured)
            if node._answers_within(START_TIMEOUT_S):
                return node
            node.stop()
            log = node._log.read_text(errors="replace")
        raise KafkaNotRunnable(f"The Kafka node did not start:\n{log[-4000:]}")

    def stop(self) -> None:
        """SIGKILL the node; its data stays."""
        kill(self._process)

    def start_again(self) -> None:
        """Start the stopped node where it was, over its data; it answers when this returns."""
        for _ in range(START_ATTEMPTS_MAX):
            self._process = self._launch()
            if self._answers_within(START_TIMEOUT_S):
                return
            self.stop()
        log = self._log.read_text(errors="replace")
        raise KafkaNotRunnable(f"The Kafka node did not start again:\n{log[-4000:]}")

    def unregister(self) -> None:
        """Have the cluster forget the node, so that it names no broker until a restart."""
        done = run_command(CLUSTER, "unregister", *_at(self.bootstrap_servers), "--id", "1")
        assert done.returncode == 0, done.stderr

    def _launch(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            java = _java(self._jars, "kafka.Kafka", str(self._properties))
            return start_bound(java, stdout=log, stderr=log)

    def _answers_within(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if admin.list_topics(timeout=1.0).brokers:
                    return True
            except KafkaException:
                time.sleep(0.05)
        return False


def unused_port() -> int:
    """A TCP port on loopback that nothing listens on, and that no connection will come from."""
    for port in random.sample(PORTS, 1_000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port
    raise KafkaNotRunnable(f"no free port in {PORTS}")


def run_tool(
    main_class: str, bootstrap_servers: str, *arguments: str, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run one of Kafka's command-line tools to its end.

    Args:
        main_class: the tool's.
        bootstrap_servers: the node's.
        arguments: of the command line.
        stdin: what is typed in.
    """
    return run_command(main_class, *_at(bootstrap_servers), *arguments, stdin=stdin)


def run_command(
    main_class: str, *arguments: str, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """As `run_tool`, with the whole command line."""
    return subprocess.run(
        _java(kafka_jars(), main_class, *arguments),
        timeout=TOOL_TIMEOUT_S,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


def consumer_groups(bootstrap_servers: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Kafka's `kafka-consumer-groups` to its end."""
    return run_tool(CONSUMER_GROUPS, bootstrap_servers, *arguments)


def kafka_jars() -> Path:
    """The folder of the node's jars, downloaded by Maven on first use.

    The folder is named by the pom's content and appears whole, so that neither a changed
    pom nor a download that was cut short leaves a mixture.

    Raises:
        KafkaNotRunnable: no Java, no Maven, or Maven cannot get the jars.
    """
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise KafkaNotRunnable(f"needs `{program}` (Java 17 and Maven) for a Kafka node")
    pom = FOLDER / "pom.xml"
    digest = hashlib.sha256(pom.read_bytes()).hexdigest()[:12]
    jars = FOLDER / "target" / f"jars-{digest}"
    if not jars.is_dir():
        unfinished = FOLDER / "target" / f"unfinished-{digest}-{unused_port()}"
        _download(pom, unfinished)
        unfinished.rename(jars)
    return jars


def _download(pom: Path, folder: Path) -> None:
    command = [
        *("mvn", "--quiet", "--batch-mode", "--file", str(pom)),
        *("dependency:copy-dependencies", f"-DoutputDirectory={folder}"),
    ]
    try:
        subprocess.run(
            command,
            check=True,
            timeout=DOWNLOAD_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except subprocess.TimeoutExpired as error:
        raise KafkaNotRunnable(f"Maven took more than {DOWNLOAD_TIMEOUT_S} s") from error
    except subprocess.CalledProcessError as error:
        output = error.stdout.decode(errors="replace")[-2000:]
        raise KafkaNotRunnable(f"Maven could not get Kafka's jars:\n{output}") from error


def _format(jars: Path, properties: Path, log: IO[bytes]) -> None:
    arguments = ("format", "--cluster-id", CLUSTER_ID, "--config", str(properties))
    subprocess.run(
        _java(jars, "kafka.tools.StorageTool", *arguments),
        timeout=FORMAT_TIMEOUT_S,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        check=False,
    )


def _java(jars: Path, main_class: str, *arguments: str) -> list[str]:
    return ["java", *JVM_FLAGS, "-cp", f"{jars}/*", main_class, *arguments]


def _at(bootstrap_servers: str) -> tuple[str, str]:
    return "--bootstrap-server", bootstrap_servers
