"""Writers, readers and everything that runs beside them, against plain dictionaries.

Each writer has points of its own and knows exactly what they are; with every batch it also
gives its marked points one stamp. Beside them checkpoints, compactions, graphs, snapshots and
restores, vector names and aliases come and go, and readers look. What a writer reads back, what
a restored copy holds and what is there after a restart or a kill must be a state that the
writer went through, and the newest one where nothing may be missing.
"""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from headrace.engine.collection.collection import Collection
from headrace.engine.engine import Engine
from headrace.engine.upkeep.check import check_directory
from headrace.model.aliases import AliasAction, CreateAlias, DeleteAlias
from headrace.model.collection_config import (
    CollectionConfig,
    PayloadFieldSchema,
    PayloadFieldType,
    SparseVectorParams,
    VectorParams,
)
from headrace.model.errors import NotFound, UnknownVectorName, WrongInput
from headrace.model.filters import FieldCondition, Filter, MatchValue
from headrace.model.operations import (
    CreatePayloadIndex,
    CreateVectorName,
    DeletePayload,
    DeletePoints,
    DropPayloadIndex,
    DropVectorName,
    Operation,
    OverwritePayload,
    PointSelector,
    SetPayload,
    WriteBatch,
)
from headrace.model.points import PointStruct
from headrace.model.queries import ALL_VECTORS, WHOLE_PAYLOAD, Nearest, Query, Scroll, SearchParams
from headrace.model.upserts import build_update_vectors, build_upsert
from headrace.model.vectors import Distance, SparseVector
from tests.engine.storage.faulty_file_ops import FaultyFileOps

DIM = 4
# Graphs from 64 rows on, and compactions from 50 dead ones on.
CONFIG = CollectionConfig(
    vectors={"": VectorParams(DIM, Distance.DOT)},
    sparse_vectors={"sparse": SparseVectorParams()},
    optimizers_config={"indexing_threshold": 1, "vacuum_min_vector_number": 50},
)
COLLECTION = "headrace.engine.collection.collection"
WRITERS = 3
MARKS = 4
IDS_PER_WRITER = 60

# By id: the payload, and the vectors by name, as plain values.
Points = dict[int, tuple[dict[str, Any], dict[str, Any]]]


class Writer:
    """One writer, and what its points are.

    Attributes:
        points: as they must be now.
        stamps: how often it has written.
    """

    def __init__(self, number: int, seed: int) -> None:
        self.number = number
        self.rng = random.Random(f"{seed}/{number}")
        self.points: Points = {}
        self.stamps = 0

    @property
    def marks(self) -> list[int]:
        return [self._id(rank) for rank in range(MARKS)]

    def _id(self, rank: int) -> int:
        return rank * WRITERS + self.number

    def step(self, collection: Collection) -> None:
        """Write a batch, and see that it is there."""
        expected: Points = {i: (dict(p), dict(v)) for i, (p, v) in self.points.items()}
        operations = [self._operation_into(expected) for _ in range(self.rng.randint(1, 3))]
        stamp = {"owner": self.number, "stamp": self.stamps + 1}
        marks = [
            PointStruct(i, {"": np.full(DIM, self.stamps + 1, np.float32)}, orjson.dumps(stamp))
            for i in self.marks
        ]
        for i in self.marks:
            expected[i] = (stamp, {"": [float(self.stamps + 1)] * DIM})
        batch = WriteBatch([*operations, build_upsert(marks, CONFIG)])
        try:
            collection.write(batch)
        except (UnknownVectorName, WrongInput):
            return  # The name `late` went, or came with another size, in the meantime.
        self.points = expected
        self.stamps += 1

    def _operation_into(self, expected: Points) -> Operation:
        chosen = self.rng.sample(range(MARKS, IDS_PER_WRITER), 5)
        ids = [self._id(rank) for rank in chosen]
        there = tuple(i for i in ids if i in expected)
        selector = PointSelector(ids=there)
        match self.rng.choice(["upsert"] * 4 + ["set", "overwrite", "unset", "delete", "vectors"]):
            case "set" if there:
                patch = {"n": self.rng.randint(0, 5)}
                for i in there:
                    expected[i] = (expected[i][0] | patch, expected[i][1])
                return SetPayload(selector, orjson.dumps(patch))
            case "overwrite" if there:
                payload = {"owner": self.number, "n": self.rng.randint(0, 5)}
                for i in there:
                    expected[i] = (payload, expected[i][1])
                return OverwritePayload(selector, orjson.dumps(payload))
            case "unset" if there:
                for i in there:
                    kept = {k: v for k, v in expected[i][0].items() if k != "n"}
                    expected[i] = (kept, expected[i][1])
                return DeletePayload(selector, ("n",))
            case "delete":
                for i in ids:
                    expected.pop(i, None)
                return DeletePoints(PointSelector(ids=tuple(ids)))
            case "vectors" if there:
                vectors = [self._vector() for _ in there]
                for i, vector in zip(there, vectors, strict=True):
                    expected[i] = (expected[i][0], expected[i][1] | {"": vector.tolist()})
                updates = [(i, {"": v}) for i, v in zip(there, vectors, strict=True)]
                return build_update_vectors(updates, CONFIG)
        points = []
        for i in ids:
            vector, weight = self._vector(), float(self.rng.randint(1, 9))
            sparse = SparseVector(np.array([3], np.uint32), np.array([weight], np.float32))
            payload = {"owner": self.number, "n": self.rng.randint(0, 5)}
            points.append(PointStruct(i, {"": vector, "sparse": sparse}, orjson.dumps(payload)))
            expected[i] = (payload, {"": vector.tolist(), "sparse": [[3], [weight]]})
        return build_upsert(points, CONFIG)

    def _vector(self) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        return np.array([self.rng.randint(-9, 9) for _ in range(DIM)], dtype=np.float32)

    def check(self, collection: Collection) -> None:
        """What is stored of its points is what they are; by ids, filters and searches."""
        assert stored_points(collection, self.number) == self.points
        mine = owned_by(self.number)
        assert collection.count(mine) == len(self.points)
        n = self.rng.randint(0, 5)
        both = Filter(must=(*mine.must, FieldCondition("n", match=MatchValue(n))))
        assert collection.count(both) == sum(p.get("n") == n for p, _ in self.points.values())
        target = self._vector()
        scores = sorted(
            (float(np.dot(target, np.array(v[""], np.float32))) for _, v in self.points.values()),
            reverse=True,
        )
        for is_exact in (True, False):
            query = Query(
                query=Nearest(target), filter=mine, limit=5, params=SearchParams(exact=is_exact)
            )
            hits = collection.query(query, lambda name: collection.view)
            # A graph may miss one; what it finds is scored exactly.
            for hit in hits:
                assert isinstance(hit.record.id, int)
                vector = np.array(self.points[hit.record.id][1][""], np.float32)
                assert hit.score == pytest.approx(float(np.dot(target, vector)))
            if is_exact:
                assert [hit.score for hit in hits] == pytest.approx(scores[:5])


def owned_by(number: int) -> Filter:
    return Filter(must=(FieldCondition("owner", match=MatchValue(number)),))


def stored_points(collection: Collection, number: int) -> Points:
    scroll = Scroll(
        limit=10_000,
        filter=owned_by(number),
        with_payload=WHOLE_PAYLOAD,
        with_vectors=ALL_VECTORS,
    )
    found: Points = {}
    for record in collection.scroll(scroll).records:
        assert isinstance(record.id, int)
        vectors = {
            name: [v.indices.tolist(), v.values.tolist()]
            if isinstance(v, SparseVector)
            else v.tolist()
            for name, v in (record.vectors or {}).items()
            if name in ("", "sparse")
        }
        found[record.id] = (orjson.loads(record.payload or b"{}"), vectors)
    return found


def stamps_of(collection: Collection) -> list[int]:
    """Of each writer, the stamp that all its marked points have."""
    found = []
    for number in range(WRITERS):
        marks = [number + rank * WRITERS for rank in range(MARKS)]
        points = stored_points(collection, number)
        stamps = {points[mark][0]["stamp"] for mark in marks if mark in points}
        there = sum(mark in points for mark in marks)
        assert (len(stamps), there) in ((0, 0), (1, MARKS)), (stamps, there)
        found.append(stamps.pop() if stamps else 0)
    return found


class Hunt:
    """An engine under all that at once."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.directory = directory
        self.rng = random.Random(seed)
        self.engine = Engine.open(directory, FaultyFileOps())
        self.engine.create_collection("c", CONFIG)
        self.writers = [Writer(number, seed) for number in range(WRITERS)]
        self.failures: list[BaseException] = []
        self._is_over = threading.Event()

    def round(self, steps: int, seconds_max: float) -> None:
        """Let all writers take so many steps, beside everything else."""
        deadline = time.monotonic() + seconds_max
        self._is_over.clear()

        def write(writer: Writer) -> None:
            for step in range(steps):
                if time.monotonic() > deadline or self.failures:
                    return
                collection = self.engine.collection("c")
                writer.step(collection)
                if step % 5 == 0:
                    writer.check(collection)

        writing = [self._started(partial(write, writer)) for writer in self.writers]
        beside = [
            self._started(partial(self._repeat, work))
            for work in (self._names, self._aliases, self._upkeep, self._copies, self._read)
        ]
        for thread in writing:
            thread.join(seconds_max + 60)
        self._is_over.set()
        for thread in beside:
            thread.join(60)
        assert not any(thread.is_alive() for thread in (*writing, *beside))
        if self.failures:
            raise self.failures[0]

    def _started(self, run: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                run()
            except BaseException as error:
                self.failures.append(error)

        thread = threading.Thread(target=guarded)
        thread.start()
        return thread

    def _repeat(self, work: Callable[[random.Random], None]) -> None:
        rng = random.Random(self.rng.random())
        while not self._is_over.is_set() and not self.failures:
            work(rng)
            time.sleep(rng.random() * 0.02)

    def _names(self, rng: random.Random) -> None:
        collection = self.engine.collection("c")
        late = VectorParams(rng.randint(1, 3), Distance.COSINE, on_disk=rng.random() < 0.5)
        index = PayloadFieldSchema(PayloadFieldType.INTEGER)
        operations: list[Operation] = [
            DropVectorName("late"),
            CreateVectorName("late", dense=late),
            CreatePayloadIndex(rng.choice(["owner", "n"]), index),
            DropPayloadIndex(rng.choice(["owner", "n"])),
        ]
        updates = [(i, {"late": np.ones(late.size, np.float32)}) for i in range(MARKS)]
        config = CollectionConfig(vectors={"late": late})
        operations.append(build_update_vectors(updates, config))
        for operation in rng.sample(operations, len(operations)):
            try:
                collection.write(WriteBatch([operation]))
            except (NotFound, UnknownVectorName, WrongInput):
                continue  # There is no such name now, or another one, or not these points yet.

    def _aliases(self, rng: random.Random) -> None:
        name = f"alias-{rng.randint(0, 2)}"
        actions: list[AliasAction] = [CreateAlias("c", name), DeleteAlias(name)]
        action = rng.choice(actions)
        self.engine.change_aliases([action])
        assert self.engine.has_collection(name) == isinstance(action, CreateAlias)
        self.engine.write_settings("quotas", {"alias": name})
        assert self.engine.read_settings("quotas", dict) == {"alias": name}

    def _upkeep(self, rng: random.Random) -> None:
        collection = self.engine.collection("c")
        if rng.random() < 0.3:
            with collection._checkpoint_lock:
                collection._compact()
        collection.checkpoint()

    def _copies(self, rng: random.Random) -> None:
        written = [writer.stamps for writer in self.writers]
        description = self.engine.create_snapshot("c")
        archive = self.engine.snapshots.find("c", description.name)
        try:
            self.engine.restore_collection("copy", archive)
        except WrongInput:
            # The copy there is from before `late` came, or went.
            assert self.engine.delete_collection("copy")
            self.engine.restore_collection("copy", archive)
        copied = stamps_of(self.engine.collection("copy"))
        now = [writer.stamps + 1 for writer in self.writers]
        assert all(a <= b <= c for a, b, c in zip(written, copied, now, strict=True))
        self.engine.snapshots.delete("c", description.name)
        if rng.random() < 0.5:
            assert self.engine.delete_collection("copy")

    def _read(self, rng: random.Random) -> None:
        written = [writer.stamps for writer in self.writers]
        reader = Engine.open(self.directory, FaultyFileOps(), read_only=True)
        try:
            seen = stamps_of(reader.collection("c"))
        finally:
            reader.close()
        now = [writer.stamps + 1 for writer in self.writers]
        assert all(a <= b <= c for a, b, c in zip(written, seen, now, strict=True))
        assert check_directory(self.directory).problems == []

    def check_all(self, engine: Engine) -> None:
        for writer in self.writers:
            writer.check(engine.collection("c"))

    def restart(self, work: Path) -> None:
        """Open what a kill would have left, and then what closing leaves."""
        self.check_all(self.engine)
        settings = self.engine.aliases(), self.engine.read_settings("quotas", dict)
        # Between two checkpoints: what is copied here is copied file by file.
        with ExitStack() as between:
            for name in self.engine.collection_names():
                between.enter_context(self.engine.collection(name)._checkpoint_lock)
            killed_directory = Path(shutil.copytree(self.directory, work / "killed"))
        killed = Engine.open(killed_directory, FaultyFileOps())
        self.check_all(killed)
        killed.close()
        shutil.rmtree(killed_directory)
        self.engine.close()
        assert check_directory(self.directory).problems == []
        self.engine = Engine.open(self.directory, FaultyFileOps())
        self.check_all(self.engine)
        assert (self.engine.aliases(), self.engine.read_settings("quotas", dict)) == settings


def hunt(work: Path, seed: int, rounds: int, steps: int, seconds_max: float) -> None:
    hunted = Hunt(work / "data", seed)
    try:
        for _ in range(rounds):
            hunted.round(steps, seconds_max)
            hunted.restart(work)
    finally:
        hunted.engine.close()
    assert all(writer.stamps > 0 for writer in hunted.writers)


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Background work comes by itself too, all the time."""
    monkeypatch.setattr(f"{COLLECTION}._CHECKPOINT_WAL_BYTES", 100_000)
    monkeypatch.setattr(f"{COLLECTION}._COMPACTION_PAUSE", 1.0)


@pytest.mark.timeout(300)
def test_what_writers_wrote_is_there_whatever_runs_beside_them(tmp_path: Path) -> None:
    hunt(tmp_path, seed=1, rounds=2, steps=40, seconds_max=20)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(10))
def test_what_writers_wrote_is_there_after_many_rounds(tmp_path: Path, seed: int) -> None:
    hunt(tmp_path, seed=seed, rounds=10, steps=200, seconds_max=60)
