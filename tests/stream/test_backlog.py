"""A backlog that nobody takes costs a bounded amount of memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kafka.node import unused_port
from tests.stream.harness import (
    HeadraceProcess,
    KafkaPair,
    connector_settings,
    new_topic,
    produce,
    wait_until,
    write_properties,
)

RECORD_BYTES = 10_000
BACKLOG_RECORDS = 40_000
# What the client fetches ahead (64 MiB), two batches in hand for each of four lanes (16 MiB
# each, as bytes and as decoded), and what the allocator keeps.
MEMORY_BYTES_MAX = 450 * 2**20

pytestmark = pytest.mark.kafka


def records(count: int) -> Iterator[KafkaPair]:
    text = "x" * RECORD_BYTES
    for number in range(count):
        yield (
            None,
            b'{"collection_name":"c","id":%d,"payload":{"t":"%s"}}' % (number, text.encode()),
        )


def peak_bytes(process: HeadraceProcess) -> int:
    """The most memory that a process has had."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (line,) = [one for one in status.splitlines() if one.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def peak_with_backlog(bootstrap_servers: str, folder: Path, count: int) -> int:
    """The peak of a sink in front of a server that is away, and a topic of so many records."""
    topic = new_topic(bootstrap_servers, "backlog")
    produce(bootstrap_servers, topic, records(count))
    settings = connector_settings(bootstrap_servers, topic)
    settings["qdrant.grpc.url"] = f"http://127.0.0.1:{unused_port()}"
    log = folder / f"{count}.log"
    process = HeadraceProcess(
        log, "sink", "run", write_properties(folder / f"{count}.properties", settings)
    )
    try:
        wait_until(lambda: log.read_text().count("the target takes nothing") > 5, "it waits")
        time.sleep(5)
        return peak_bytes(process)
    finally:
        process.kill()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_backlog_in_front_of_a_target_that_is_away_costs_bounded_memory(
    kafka_bootstrap_servers: str, tmp_path: Path
) -> None:
    alone = peak_with_backlog(kafka_bootstrap_servers, tmp_path, 1)
    backlog = peak_with_backlog(kafka_bootstrap_servers, tmp_path, BACKLOG_RECORDS)
    print(f"{alone / 2**20:.0f} MiB alone, {backlog / 2**20:.0f} MiB with 400 MB waiting")
    assert backlog - alone < MEMORY_BYTES_MAX
