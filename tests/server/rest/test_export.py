"""Can a million points be read in one answer, and what does that take of the server's memory?"""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import numpy as np
import pytest

import headrace
from tests.headrace_process import HeadraceProcess

POINTS = 1_000_000
DIM = 8
BATCH = 50_000

# Without graphs, whose making would take memory meanwhile.
CONFIG = {
    "vectors": {"size": DIM, "distance": "Dot"},
    "optimizers_config": {"indexing_threshold": 10**9},
}

# What the answer may take: its rows (8 bytes each), some pieces, and what the allocator keeps.
MEMORY_MIB_MAX = 128


def memory_mib(pid: int, field: str) -> float:
    """One of the `Vm` fields of the system's account of a process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    found = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    assert found
    return int(found[1]) / 1024


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("scroll", {"with_vector": True}),
        ("query", {"with_vector": True, "with_payload": True}),
    ],
)
def test_a_million_points_are_sent_in_bounded_memory(
    tmp_path: Path, path: str, body: dict[str, object]
) -> None:
    with headrace.open(tmp_path / "data") as store:
        points = store.create_collection("export", CONFIG)
        for first in range(0, POINTS, BATCH):
            ids = np.arange(first, first + BATCH, dtype=np.uint64)
            vectors = np.tile(ids.astype(np.float32)[:, None], (1, DIM))
            points.upsert(ids, vectors, [{"n": int(n), "text": "x" * 40} for n in ids])
    process = HeadraceProcess("serve", "--data", str(tmp_path / "data"), "--http-port", "0")
    with process:
        url = process.wait_until_serving()["rest"] + "/collections/export/points"
        httpx.post(f"{url}/scroll", json={"limit": 2000}, timeout=60).raise_for_status()
        before = memory_mib(process.pid, "VmRSS")
        Path(f"/proc/{process.pid}/clear_refs").write_text("5", encoding="utf-8")
        ids_seen = bytes_seen = 0
        plain = {"accept-encoding": "identity"}
        with httpx.stream(
            "POST", f"{url}/{path}", json={**body, "limit": POINTS}, headers=plain, timeout=120
        ) as answer:
            tail = b""
            for chunk in answer.iter_raw(2**20):
                bytes_seen += len(chunk)
                ids_seen += (tail + chunk).count(b'{"id":')
                tail = chunk[-5:]
        took = memory_mib(process.pid, "VmHWM") - before
    print(f"{path}: {bytes_seen / 2**20:.0f} MiB sent, {took:.0f} MiB more in memory")
    assert ids_seen == POINTS
    assert took <= MEMORY_MIB_MAX
