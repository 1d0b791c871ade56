"""Opening a directory takes at most half as much memory again as having it open."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.engine.process_memory import run_measured

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads memory from /proc")

PEAK_RATIO_MAX = 1.5

# What is there: a checkpoint with a graph and payload indexes, a log alone, or a log in which
# the same points are written again and again.
MAKE = """
import json
import numpy as np
import headrace
from headrace.engine.collection import collection as collection_module
from headrace.model.collection_config import PayloadFieldSchema, PayloadFieldType
from headrace.model.operations import CreatePayloadIndex

directory, kind, count, dim = sys.argv[1], sys.argv[2], int(sys.argv[3]), 64
if kind != "checkpoint":
    # Whatever the log takes, it stays one.
    collection_module._CHECKPOINT_WAL_BYTES = 2**60
store = headrace.open(directory)
vectors = {"size": dim, "distance": "Cosine"}
config = {"vectors": vectors}
if kind != "checkpoint":
    config["optimizers_config"] = {"indexing_threshold": 0, "vacuum_min_vector_number": 10**9}
points = store.create_collection("c", config)
service = store._lease.store.service
rng = np.random.default_rng(1)
for begin in range(0, count, 5000):
    first = 0 if kind == "overwritten" else begin
    ids = np.arange(first, first + 5000)
    payloads = [{"n": i, "text": "x" * 100} for i in ids.tolist()]
    points.upsert(ids, rng.normal(size=(5000, dim)).astype(np.float32), payloads)
collection = service._engine.collection("c")
if kind == "checkpoint":
    index = CreatePayloadIndex("n", PayloadFieldSchema(PayloadFieldType.INTEGER))
    service.write("c", [index])
    assert service._engine._builder.wait_until_idle(500)
    collection.checkpoint()
store.close()
print(json.dumps({}))
"""

OPEN = """
import json, threading
import numpy as np
import headrace

store = headrace.open(sys.argv[1])
points = store.collection("c")
assert points.count() == int(sys.argv[2])
assert len(points.search(np.ones(64, dtype=np.float32), limit=10)[0].ids) == 10
peak = memory_bytes("VmHWM")
service = store._lease.store.service
done = threading.Event()
service._engine._maintenance.request(done.set)
assert done.wait(300)
print(json.dumps({"peak": peak, "steady": memory_bytes("VmRSS")}))
store.close()
"""


def peak_ratio(directory: Path, kind: str, count: int) -> float:
    run_measured(MAKE, directory, kind, count)
    stored = 5000 if kind == "overwritten" else count
    measured = run_measured(OPEN, directory, stored)
    return measured["peak"] / measured["steady"]


KINDS = ["checkpoint", "log", "overwritten"]


@pytest.mark.parametrize("kind", KINDS)
def test_opening_takes_at_most_half_as_much_memory_again(tmp_path: Path, kind: str) -> None:
    assert peak_ratio(tmp_path, kind, 25_000) <= PEAK_RATIO_MAX


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_opening_a_large_directory_takes_at_most_half_as_much_memory_again(
    tmp_path: Path, kind: str
) -> None:
    assert peak_ratio(tmp_path, kind, 400_000) <= PEAK_RATIO_MAX
