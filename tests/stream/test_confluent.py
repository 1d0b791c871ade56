"""The steps of docs/confluent.md, against a node that asks as a cluster in the cloud does.

SASL_SSL with PLAIN, and a schema registry that asks for a key of its own. The documented
files are taken as they are; what the test adds is a certificate that no system trusts, and
one replica, since there is one node.
"""

from __future__ import annotations

import io
import json
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import httpx
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tests.headrace_process import HeadraceProcess, clean_environment
from tests.kafka.node import KafkaNode, KafkaNotRunnable, Secured
from tests.sink.test_registry import Registry
from tests.stream.harness import new_topic, produce, read_topic, wait_until

DOCUMENT = Path(__file__).parents[2] / "docs" / "confluent.md"
KEY, SECRET = "KEY4711", "cluster-secret-4711"
REGISTRY_KEY, REGISTRY_SECRET = "REG4711", "registry-secret-4711"
GOOD = (
    b'{"collection_name": "airports", "id": 1, "vector": [0.1, 0.9], "payload": {"city": "Oslo"}}'
)
SCHEMA = {
    "type": "record",
    "name": "Airport",
    "fields": [
        {"name": "collection_name", "type": "string"},
        {"name": "id", "type": "long"},
        {"name": "vector", "type": {"type": "array", "items": "float"}},
        {"name": "payload", "type": {"type": "map", "values": "string"}},
    ],
}

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Iterator[KafkaNode]:
    folder = tmp_path_factory.mktemp("secured")
    certificate = authority.issue_cert("127.0.0.1")
    key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
    # The one form that Kafka reads.
    pem = [key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())]
    pem += [one.bytes() for one in certificate.cert_chain_pems]
    (folder / "node.pem").write_bytes(b"".join(pem))
    try:
        node = KafkaNode.start(folder, Secured(folder / "node.pem", KEY, SECRET))
    except KafkaNotRunnable as error:
        pytest.skip(str(error))
    yield node
    node.stop()


class Airports:
    """A topic, and the documented connector file for it.

    Attributes:
        topic: the topic.
        path: the file.
        environment: what the documents have exported.
    """

    def __init__(self, folder: Path, node: KafkaNode, authority: trustme.CA) -> None:
        self.topic = new_topic(node.bootstrap_servers, "airports")
        self.path = folder / "airports.properties"
        self.data = folder / "data"
        self._folder = folder
        authority.cert_pem.write_to_path(folder / "ca.pem")
        self.environment = clean_environment() | {
            "BOOTSTRAP_SERVERS": node.cloud_bootstrap_servers,
            "CLUSTER_KEY": KEY,
            "CLUSTER_SECRET": SECRET,
        }

    @property
    def dead(self) -> str:
        return f"{self.topic}-dead"

    def write(self, text: str, *more: str) -> None:
        """Write a documented file, for this topic, this node and its certificate."""
        text = re.sub(r"^name=.*", f"name={self.topic}", text, flags=re.MULTILINE)
        text = re.sub(r"^topics=.*", f"topics={self.topic}", text, flags=re.MULTILINE)
        text = text.replace("topic.name=airports-dead", f"topic.name={self.dead}")
        text = text.replace("replication.factor=3", "replication.factor=1")
        trust = [
            f"{one}.override.ssl.ca.location={self._folder / 'ca.pem'}"
            for one in ("consumer", "producer")
        ]
        self.path.write_text("\n".join([text, *trust, *more, ""]))

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """A `headrace` command to its end."""
        headrace = Path(sys.executable).parent / "headrace"
        return subprocess.run(
            [headrace, *arguments],
            env=self.environment,
            timeout=120,
            capture_output=True,
            text=True,
            check=False,
        )

    def taken_in(self) -> tuple[Any, str]:
        """What `headrace up`, as documented, makes of point 1, and what it logs."""
        arguments = ("up", "--data", str(self.data), "--connector", str(self.path))
        ports = ("--http-port", "0", "--grpc-port", "0", "--connect-port", "0")
        found: list[Any] = []
        with HeadraceProcess(*arguments, *ports, environment=self.environment) as process:
            url = f"{process.wait_until_serving()['rest']}/collections/airports/points/1"

            def is_there() -> bool:
                answer = httpx.get(url)
                found[:] = [answer.json()["result"]] if answer.status_code == 200 else []
                return bool(found)

            wait_until(is_there, "the point is there")
            assert process.stop() == 0
            return found[0]["payload"], process.stderr_text


@pytest.fixture
def airports(tmp_path: Path, node: KafkaNode, authority: trustme.CA) -> Airports:
    return Airports(tmp_path, node, authority)


def documented(first_key: str) -> str:
    """The block of the document that begins with a key."""
    blocks = re.findall(r"^ *```properties\n(.*?)^ *```$", DOCUMENT.read_text(), re.M | re.S)
    (block,) = [one for one in blocks if one.strip().startswith(f"{first_key}=")]
    return "".join(line.strip() + "\n" for line in block.splitlines())


def test_everything_that_the_document_has_filled_in_is_exported_before() -> None:
    exported = set(re.findall(r"\b([A-Z_]+)=\.\.\.", DOCUMENT.read_text()))
    filled_in = re.findall(r"\{env:([A-Z_]+)\}", documented("name") + documented("value.converter"))
    assert set(filled_in) == exported


def test_the_documented_steps_lead_to_a_point_and_a_dead_letter(
    node: KafkaNode, airports: Airports
) -> None:
    airports.write(documented("name"))
    produce(node.bootstrap_servers, airports.topic, [(None, b"no JSON"), (None, GOOD)])
    seen = airports.run("sink", "dry-run", airports.path)
    assert seen.returncode == 0, seen.stderr
    assert "airports" in seen.stdout
    payload, log = airports.taken_in()
    assert payload == {"city": "Oslo"}
    (letter,) = read_topic(node.bootstrap_servers, airports.dead)
    assert letter.value() == b"no JSON"
    assert SECRET not in log


def test_jaas_as_java_has_it_does_as_well(node: KafkaNode, airports: Airports) -> None:
    login = (
        "org.apache.kafka.common.security.plain.PlainLoginModule required "
        'username="${env:CLUSTER_KEY}" password="${env:CLUSTER_SECRET}";'
    )
    kept = [one for one in documented("name").splitlines() if "sasl.username" not in one]
    kept = [one for one in kept if "sasl.password" not in one]
    jaas = [f"{one}.override.sasl.jaas.config={login}" for one in ("consumer", "producer")]
    airports.write("\n".join(kept), *jaas)
    produce(node.bootstrap_servers, airports.topic, [(None, GOOD)])
    payload, _ = airports.taken_in()
    assert payload == {"city": "Oslo"}


@pytest.mark.parametrize("wrong", ["secret", "certificate"])
def test_a_wrong_secret_or_certificate_is_told_and_nothing_of_it_shown(
    node: KafkaNode, airports: Airports, wrong: str
) -> None:
    airports.write(documented("name"))
    if wrong == "secret":
        airports.environment["CLUSTER_SECRET"] = "wrong-secret-4711"
    else:
        trustme.CA().cert_pem.write_to_path(airports.path.parent / "ca.pem")
    failed = airports.run("sink", "dry-run", airports.path)
    assert failed.returncode == 3
    assert "wrong-secret-4711" not in failed.stdout + failed.stderr
    assert {"secret": "uthentication", "certificate": "certificate"}[wrong] in failed.stderr


def test_records_with_a_schema_are_read_with_the_registrys_own_key(
    node: KafkaNode, airports: Airports
) -> None:
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(SCHEMA), json.loads(GOOD))
    framed = b"\0" + struct.pack(">I", 7) + body.getvalue()
    produce(node.bootstrap_servers, airports.topic, [(None, framed)])
    registry = Registry(f"{REGISTRY_KEY}:{REGISTRY_SECRET}")
    registry.schemas[7] = {"schema": json.dumps(SCHEMA)}
    airports.environment |= {
        "REGISTRY_URL": registry.url,
        "REGISTRY_KEY": REGISTRY_KEY,
        "REGISTRY_SECRET": "wrong-secret-4711",
    }
    airports.write(documented("name"), documented("value.converter"))
    try:
        failed = airports.run("sink", "dry-run", airports.path)
        assert failed.returncode != 0
        assert "schema registry" in failed.stderr
        assert "wrong-secret-4711" not in failed.stdout + failed.stderr
        airports.environment["REGISTRY_SECRET"] = REGISTRY_SECRET
        payload, log = airports.taken_in()
    finally:
        registry.close()
    assert payload == {"city": "Oslo"}
    assert REGISTRY_SECRET not in log
