"""What a data directory holds after a kill or a power loss at any of its file operations.

A run of writes, checkpoints, seals and merges of graphs, compactions and restarts is recorded;
then the directory is
rebuilt as the crash would have left it, opened, and compared with the states that the run
went through: it must show one of them, no older than the last that was acknowledged.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson
import pytest

from headrace.engine.collection.collection import Collection
from headrace.engine.engine import Engine
from headrace.model.collection_config import (
    CollectionConfig,
    MultiVectorConfig,
    SparseVectorParams,
    VectorParams,
)
from headrace.model.operations import (
    CreateVectorName,
    DeletePoints,
    DropVectorName,
    Operation,
    PointSelector,
    SetPayload,
    SourceOffset,
    SourcePartition,
    WriteBatch,
)
from headrace.model.points import PointStruct
from headrace.model.queries import ALL_VECTORS, Scroll
from headrace.model.upserts import build_update_vectors, build_upsert
from headrace.model.vectors import Distance, SparseVector, Vector
from tests.engine.storage.faulty_file_ops import FaultyFileOps
from tests.engine.storage.simulated_disk import (
    RecordingFileOps,
    disk_after_kill,
    disk_after_power_loss,
)

CONFIG = CollectionConfig(
    vectors={
        "": VectorParams(3, Distance.DOT),
        "multi": VectorParams(2, Distance.DOT, multivector_config=MultiVectorConfig()),
    },
    sparse_vectors={"sparse": SparseVectorParams()},
    # Compaction is asked for by the run itself, so that runs are alike.
    optimizers_config={"vacuum_min_vector_number": 10**9},
)
PARTITION = SourcePartition("crash", "topic", 0)
IDS = 12

State = dict[str, Any]


def random_point(point_id: int, rng: random.Random) -> PointStruct:
    numbers = [rng.randint(-3, 3) for _ in range(9)]
    vectors: dict[str, Vector] = {
        "": np.array(numbers[:3], dtype=np.float32),
        "multi": np.array(numbers[3:7], dtype=np.float32).reshape(2, 2),
        "sparse": SparseVector(
            np.array([1, 5], dtype=np.uint32), np.array(numbers[7:], dtype=np.float32)
        ),
    }
    chosen = {name: v for name, v in vectors.items() if rng.random() < 0.8}
    return PointStruct(point_id, chosen, orjson.dumps({"n": rng.randint(0, 9)}))


def state_of(collection: Collection) -> State:
    """Everything a reader can see, as plain values."""
    points: State = {}
    for record in collection.scroll(Scroll(limit=1000, with_vectors=ALL_VECTORS)).records:
        vectors = {
            name: [vector.indices.tolist(), vector.values.tolist()]
            if isinstance(vector, SparseVector)
            else vector.tolist()
            for name, vector in (record.vectors or {}).items()
        }
        points[str(record.id)] = [record.version, record.payload, vectors]
    taken = collection.source_offsets().get(PARTITION, 0)
    return {"points": points, "taken": taken}


def seal(engine: Engine, collection: Collection) -> None:
    """Give all rows a graph: the first time a new one, later those there are, merged."""
    for store in collection.view.indexed_stores().values():
        kept = store.settings
        store.settings = msgspec.structs.replace(kept, rows_min=2)
        store.published(collection.view.live)
        assert engine._builder.wait_until_idle(60)
        assert store.build_error is None
        store.settings = kept


def compact(collection: Collection) -> None:
    """Take the dead rows out, as the background thread does it."""
    collection._compact()
    collection.checkpoint()


class RecordedRun:
    """A run against recorded operations.

    Attributes:
        ops: all operations, in order.
        created_after: after how many of them the collection was acknowledged.
        states: (how many operations were done when it was acknowledged, the state).
        graph_files: the names under which graphs were written.
    """

    def __init__(self, directory: Path, rng: random.Random, steps: int) -> None:
        self.directory = directory
        (directory / "collections").mkdir(parents=True)
        recorder = RecordingFileOps()
        recorder.adopt(directory)
        engine = Engine.open(directory, recorder)
        engine.create_collection("c", CONFIG)
        self.created_after = len(recorder.log)
        self.states: list[tuple[int, State]] = [(self.created_after, {"points": {}, "taken": 0})]
        for step in range(1, steps + 1):
            collection = engine.collection("c")
            steps_of_run = ["write", "checkpoint", "seal", "compact", "reopen"]
            match rng.choices(steps_of_run, [12, 3, 2, 1, 1])[0]:
                case "write":
                    offsets = [SourceOffset(PARTITION, step)]
                    collection.write(WriteBatch(self._operations(collection, rng), offsets))
                    self.states.append((len(recorder.log), state_of(collection)))
                case "checkpoint":
                    collection.checkpoint()
                case "seal":
                    seal(engine, collection)
                    collection.checkpoint()
                case "compact":
                    compact(collection)
                case "reopen":
                    engine.close()
                    engine = Engine.open(directory, recorder)
        engine.close()
        self.ops = recorder.log
        self.graph_files = {op.path for op in self.ops if op.path.name.endswith("-graph.data")}

    def _operations(self, collection: Collection, rng: random.Random) -> list[Operation]:
        ids = rng.sample(range(IDS), 4)
        upsert = build_upsert([random_point(point_id, rng) for point_id in ids], CONFIG)
        patch = orjson.dumps({"patched": rng.randint(0, 9)})
        return [
            upsert,
            *self._name_operations(ids),
            SetPayload(PointSelector(ids=tuple(ids[:2])), patch),
            DeletePoints(PointSelector(ids=(rng.randrange(IDS),))),
        ]

    def _name_operations(self, ids: list[int]) -> list[Operation]:
        """Now and then a vector name goes, or comes with another size, and is filled."""
        written = len(self.states)
        if written % 3:
            return []
        gone: list[Operation] = [DropVectorName("late")]
        if written % 2:
            return gone
        params = VectorParams(1 + written % 4, Distance.EUCLID, on_disk=bool(written % 4))
        vector = np.full(params.size, written, dtype=np.float32)
        updates = [(point_id, {"late": vector}) for point_id in ids[:3]]
        config = CollectionConfig(vectors={"late": params})
        return [
            *gone,
            CreateVectorName("late", dense=params),
            build_update_vectors(updates, config),
        ]

    def assert_recovers(self, ops_count: int, directory: Path) -> None:
        """The directory opens and shows a state that is whole and not too old."""
        engine = Engine.open(directory, FaultyFileOps())
        if ops_count < self.created_after:
            assert engine.collection_names() in ([], ["c"])
        else:
            found = state_of(engine.collection("c"))
            acknowledged = max(n for n, (after, _) in enumerate(self.states) if after <= ops_count)
            assert found in [state for _, state in self.states[acknowledged:]]
            upsert = build_upsert([random_point(99, random.Random(0))], CONFIG)
            engine.collection("c").write(WriteBatch([upsert]))
        engine.close()


def test_a_kill_at_any_operation_leaves_a_whole_state(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path / "run", random.Random(5), steps=30)
    assert len(run.graph_files) > 2
    for ops_count in range(len(run.ops) + 1):
        directory = tmp_path / "killed"
        disk_after_kill(run.ops[:ops_count], run.directory, directory)
        run.assert_recovers(ops_count, directory)
        shutil.rmtree(directory)


def lose_power(run: RecordedRun, ops_count: int, directory: Path, rng: random.Random) -> None:
    disk_after_power_loss(run.ops[:ops_count], run.directory, directory, rng)
    run.assert_recovers(ops_count, directory)
    shutil.rmtree(directory)


def test_a_power_loss_at_any_operation_leaves_a_whole_state(tmp_path: Path) -> None:
    rng = random.Random(6)
    run = RecordedRun(tmp_path / "run", rng, steps=30)
    assert len(run.graph_files) > 2
    for ops_count in range(len(run.ops) + 1):
        lose_power(run, ops_count, tmp_path / "lost", rng)


@pytest.mark.slow
def test_1000_power_losses_lose_no_acknowledged_write(tmp_path: Path) -> None:
    for seed in range(100):
        rng = random.Random(seed)
        run = RecordedRun(tmp_path / "run", rng, steps=40)
        for _ in range(10):
            lose_power(run, rng.randint(0, len(run.ops)), tmp_path / "lost", rng)
        shutil.rmtree(run.directory)


@pytest.mark.parametrize("fault", ["no space", "failing write", "failing sync"])
def test_a_checkpoint_that_fails_leaves_the_last_one(tmp_path: Path, fault: str) -> None:
    rng = random.Random(7)
    ops = FaultyFileOps()
    engine = Engine.open(tmp_path, ops)
    engine.create_collection("c", CONFIG)
    collection = engine.collection("c")
    points = [random_point(n, rng) for n in range(50)]
    collection.write(WriteBatch([build_upsert(points[:30], CONFIG)]))
    collection.checkpoint()
    collection.write(WriteBatch([build_upsert(points[30:], CONFIG)]))
    before = state_of(collection)
    if fault == "no space":
        ops.room_bytes = 5000
    else:
        ops.failing = {"write" if fault == "failing write" else "fdatasync": 5}
    with pytest.raises(Exception, match=r"No space left|Input/output"):
        collection.checkpoint()
    ops.room_bytes, ops.failing = None, {}
    assert state_of(collection) == before
    collection.checkpoint()
    engine.close()
    engine = Engine.open(tmp_path)
    assert state_of(engine.collection("c")) == before
    engine.close()
