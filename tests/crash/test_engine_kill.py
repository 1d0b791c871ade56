"""A process under write load is killed again and again, and every acknowledged write is there.

Four threads write batches that are told by a number. While they do, logs are cut by
checkpoints, graphs are made and merged, and dead rows are compacted. After each kill the
directory is opened: of each thread it must show one batch, whole, and none older than the
last that was acknowledged.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pytest

from headrace.engine.collection.collection import Collection
from headrace.engine.engine import Engine
from headrace.model.collection_config import CollectionConfig, VectorParams
from headrace.model.operations import (
    DeletePoints,
    PointSelector,
    SetPayload,
    SourceOffset,
    SourcePartition,
    WriteBatch,
)
from headrace.model.points import PointStruct
from headrace.model.queries import ALL_VECTORS, Scroll
from headrace.model.upserts import build_upsert
from headrace.model.vectors import Distance

DIM = 16
POINTS_PER_BATCH = 6
WRITERS = 4

# Graphs from 16 rows on, compaction from 50 dead rows on.
CONFIG = CollectionConfig(
    vectors={"": VectorParams(DIM, Distance.EUCLID)},
    optimizers_config={
        "indexing_threshold": 1,
        "vacuum_min_vector_number": 50,
        "deleted_threshold": 0.2,
    },
)

# Waits for a line with the number of a cycle, and forks a child that writes until it is killed:
# that is much faster than starting an interpreter each time.
PARENT = """
import os, sys, threading
from pathlib import Path
from headrace.engine.collection import collection as collection_module
from headrace.engine.engine import Engine
from tests.crash.test_engine_kill import WRITERS, numbered_batch, stored_number

collection_module._CHECKPOINT_WAL_BYTES = 30_000
collection_module._COMPACTION_PAUSE = 0.0

def run(directory, acknowledged):
    engine = Engine.open(directory)
    collection = engine.collection("c")
    def write(writer):
        number = stored_number(collection, writer)
        while True:
            number += 1
            collection.write(numbered_batch(writer, number))
            os.write(acknowledged, b"%d %d\\n" % (writer, number))
    threads = [threading.Thread(target=write, args=(w,)) for w in range(WRITERS)]
    for thread in threads:
        thread.start()
    os.write(acknowledged, b"open\\n")
    for thread in threads:
        thread.join()

for line in sys.stdin:
    acknowledged = os.open(line.strip(), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    pid = os.fork()
    if pid == 0:
        try:
            run(Path(sys.argv[1]), acknowledged)
        finally:
            os._exit(1)
    os.close(acknowledged)
    print(pid, flush=True)
    _, status = os.waitpid(pid, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


def partition_of(writer: int) -> SourcePartition:
    return SourcePartition("kill", "writer", writer)


def stored_number(collection: Collection, writer: int) -> int:
    return collection.source_offsets().get(partition_of(writer), 0)


def ids_of(writer: int) -> range:
    return range(writer * 100, writer * 100 + POINTS_PER_BATCH)


def vector_of(writer: int, number: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.full(DIM, writer + number % 1000 / 1000, dtype=np.float32)


def numbered_batch(writer: int, number: int) -> WriteBatch:
    """A batch whose three operations all name its number; one without the others is seen."""
    ids = ids_of(writer)
    points = [
        PointStruct(i, {"": vector_of(writer, number)}, orjson.dumps({"upserted": number}))
        for i in ids
    ]
    gone = ids[number % POINTS_PER_BATCH]
    return WriteBatch(
        [
            build_upsert(points, CONFIG),
            SetPayload(PointSelector(ids=tuple(ids)), orjson.dumps({"patched": number})),
            DeletePoints(PointSelector(ids=(gone,))),
        ],
        [SourceOffset(partition_of(writer), number)],
    )


def assert_whole(directory: Path, acknowledged: dict[int, int]) -> None:
    engine = Engine.open(directory)
    try:
        assert_shows_whole(engine.collection("c"), acknowledged)
    finally:
        engine.close()


def assert_shows_whole(collection: Collection, acknowledged: dict[int, int]) -> None:
    records = collection.scroll(Scroll(limit=1000, with_vectors=ALL_VECTORS)).records
    by_id = {record.id: record for record in records}
    expected_ids: set[int] = set()
    for writer in range(WRITERS):
        number = stored_number(collection, writer)
        assert acknowledged.get(writer, 0) <= number, "an acknowledged write is lost"
        if not number:
            continue
        ids = set(ids_of(writer)) - {ids_of(writer)[number % POINTS_PER_BATCH]}
        expected_ids |= ids
        for point_id in ids:
            record = by_id[point_id]
            payload = orjson.loads(record.payload or b"{}")
            assert payload == {"upserted": number, "patched": number}
            assert record.vectors is not None
            assert np.array_equal(np.asarray(record.vectors[""]), vector_of(writer, number))
    assert set(by_id) == expected_ids


@pytest.fixture
def zygote(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    root = str(Path(__file__).parent.parent.parent)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(p for p in [root, *sys.path] if p),
        "PYTHONWARNINGS": "ignore",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "data")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        yield process
        process.stdin.close()
        process.wait(30)


def kill_under_load(tmp_path: Path, zygote: subprocess.Popen[str], cycles: int) -> int:
    """Returns how many writes were acknowledged in all."""
    assert zygote.stdin is not None
    assert zygote.stdout is not None
    directory = tmp_path / "data"
    engine = Engine.open(directory)
    engine.create_collection("c", CONFIG)
    engine.close()
    rng = random.Random(10)
    acknowledged: dict[int, int] = {}
    writes = 0
    for cycle in range(cycles):
        acknowledgements = tmp_path / f"acknowledged-{cycle}"
        print(acknowledgements, file=zygote.stdin, flush=True)
        pid = int(zygote.stdout.readline())
        # Half of them while the directory is opened, or soon after.
        deadline = time.monotonic() + 60
        while rng.random() > 0.1 and not acknowledgements.read_bytes():
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(rng.random() * rng.choice((0.01, 0.3)))
        os.kill(pid, signal.SIGKILL)
        assert int(zygote.stdout.readline()) == -signal.SIGKILL
        for line in acknowledgements.read_text().splitlines():
            if line != "open":
                writer, number = map(int, line.split())
                acknowledged[writer] = number
                writes += 1
        acknowledgements.unlink()
        assert_whole(directory, acknowledged)
    return writes


@pytest.mark.timeout(250)
def test_10_kills_under_write_load_lose_no_acknowledged_write(
    tmp_path: Path, zygote: subprocess.Popen[str]
) -> None:
    assert kill_under_load(tmp_path, zygote, 10) > 10


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_500_kills_under_write_load_lose_no_acknowledged_write(
    tmp_path: Path, zygote: subprocess.Popen[str]
) -> None:
    assert kill_under_load(tmp_path, zygote, 500) > 500
