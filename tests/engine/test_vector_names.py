"""Vector names come and go like any write: in order, all or nothing, and for good."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.engine.collection.collection import Collection
from headrace.engine.engine import Engine
from headrace.engine.upkeep.repair import repair_directory
from headrace.model.collection_changes import CollectionChange, VectorChange
from headrace.model.collection_config import (
    CollectionConfig,
    Modifier,
    MultiVectorConfig,
    SparseVectorParams,
    VectorParams,
)
from headrace.model.errors import NoSpace, UnknownVectorName, WrongInput, WrongVectorDimension
from headrace.model.filters import Filter, HasVector
from headrace.model.operations import (
    ChangeConfig,
    CreateVectorName,
    DeletePoints,
    DropVectorName,
    Operation,
    PointSelector,
    WriteBatch,
)
from headrace.model.points import PointStruct
from headrace.model.queries import ALL_VECTORS, Nearest, Query, Scroll
from headrace.model.upserts import build_update_vectors, build_upsert
from headrace.model.vectors import Distance, SparseVector, Vector
from tests.engine.storage.faulty_file_ops import FaultyFileOps

Params = VectorParams | SparseVectorParams

DENSE = VectorParams(4, Distance.DOT)
MULTI = VectorParams(2, Distance.EUCLID, multivector_config=MultiVectorConfig())
SPARSE = SparseVectorParams(modifier=Modifier.IDF)
CONFIG = CollectionConfig(
    vectors={"": DENSE}, optimizers_config={"vacuum_min_vector_number": 10**9}
)


def create(name: str, params: Params) -> CreateVectorName:
    if isinstance(params, SparseVectorParams):
        return CreateVectorName(name, sparse=params)
    return CreateVectorName(name, dense=params)


def write(collection: Collection, *operations: Operation) -> None:
    collection.write(WriteBatch(list(operations)))


def vector_of(params: Params, rng: random.Random) -> Vector:
    if isinstance(params, SparseVectorParams):
        values = np.array([rng.randint(1, 5), rng.randint(1, 5)], dtype=np.float32)
        return SparseVector(np.array([2, 7], dtype=np.uint32), values)
    shape = (2, params.size) if params.is_multi else (params.size,)
    numbers = [rng.randint(-5, 5) for _ in range(int(np.prod(shape)))]
    return np.array(numbers, dtype=np.float32).reshape(shape)


def plain(vector: Vector) -> Any:
    if isinstance(vector, SparseVector):
        return vector.indices.tolist(), vector.values.tolist()
    return vector.tolist()


def stored(collection: Collection) -> dict[Any, dict[str, Any]]:
    records = collection.scroll(Scroll(limit=10_000, with_vectors=ALL_VECTORS)).records
    return {
        record.id: {name: plain(vector) for name, vector in (record.vectors or {}).items()}
        for record in records
    }


def nearest_ids(collection: Collection, using: str, target: Vector) -> list[Any]:
    def find_view(name: str) -> Any:
        raise AssertionError(name)

    query = Query(query=Nearest(target), using=using, limit=10_000)
    return sorted(point.record.id for point in collection.query(query, find_view))


class Run:
    """A collection and what it should hold, through any number of restarts."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.directory = directory
        self.rng = random.Random(seed)
        self.engine = Engine.open(directory)
        self.engine.create_collection("c", CONFIG)
        self.names: dict[str, Params] = {"": DENSE}
        self.points: dict[int, dict[str, Any]] = {}

    @property
    def collection(self) -> Collection:
        return self.engine.collection("c")

    def step(self) -> None:
        kinds = ["upsert", "update", "create", "drop", "checkpoint", "compact", "reopen"]
        getattr(self, self.rng.choices(kinds, [8, 5, 3, 2, 2, 1, 1])[0])()

    def vectors(self) -> dict[str, Vector]:
        return {
            name: vector_of(params, self.rng)
            for name, params in self.names.items()
            if self.rng.random() < 0.7
        }

    def upsert(self) -> None:
        ids = self.rng.sample(range(20), 3)
        vectors = {point_id: self.vectors() for point_id in ids}
        points = [PointStruct(point_id, vectors[point_id], b"{}") for point_id in ids]
        write(self.collection, build_upsert(points, self.collection.config))
        for point_id in ids:
            self.points[point_id] = {n: plain(v) for n, v in vectors[point_id].items()}

    def update(self) -> None:
        chosen = self.vectors()
        if not self.points or not chosen:
            return
        point_id = self.rng.choice(list(self.points))
        write(
            self.collection,
            build_update_vectors([(point_id, chosen)], self.collection.config),
        )
        self.points[point_id] |= {name: plain(vector) for name, vector in chosen.items()}

    def create(self) -> None:
        name = self.rng.choice(["a", "b", "c"])
        kinds: list[Params] = [DENSE, MULTI, SPARSE]
        params = self.rng.choice(kinds)
        known = self.names.get(name)
        if known is not None and known != params:
            with pytest.raises(WrongInput, match=f"Vector `{name}` already exists with a diff"):
                write(self.collection, create(name, params))
            return
        write(self.collection, create(name, params))
        self.names[name] = params

    def drop(self) -> None:
        name = self.rng.choice(["a", "b", "c"])
        write(self.collection, DropVectorName(name))
        self.names.pop(name, None)
        for vectors in self.points.values():
            vectors.pop(name, None)

    def checkpoint(self) -> None:
        self.collection.checkpoint()

    def compact(self) -> None:
        self.collection._compact()
        self.collection.checkpoint()

    def reopen(self) -> None:
        self.engine.close()
        self.engine = Engine.open(self.directory)

    def check(self) -> None:
        assert stored(self.collection) == self.points
        config = self.collection.config
        assert {**config.vectors, **config.sparse_vectors} == self.names
        for name, params in self.names.items():
            with_it = sorted(i for i, vectors in self.points.items() if name in vectors)
            assert nearest_ids(self.collection, name, vector_of(params, self.rng)) == with_it
        for name in {"a", "b", "c"} - self.names.keys():
            with pytest.raises(UnknownVectorName):
                nearest_ids(self.collection, name, np.zeros(4, dtype=np.float32))


@pytest.mark.parametrize("seed", range(4))
def test_names_and_vectors_are_those_of_a_plain_model_through_everything(
    tmp_path: Path, seed: int
) -> None:
    run = Run(tmp_path, seed)
    for _ in range(80):
        run.step()
        run.check()
    run.engine.close()


@pytest.fixture
def engine(tmp_path: Path) -> Any:
    opened = Engine.open(tmp_path)
    opened.create_collection("c", CONFIG)
    yield opened
    opened.close()


def some_points(config: CollectionConfig, ids: range) -> Operation:
    rng = random.Random(len(ids))
    names: dict[str, Params] = {**config.vectors, **config.sparse_vectors}
    return build_upsert(
        [PointStruct(i, {n: vector_of(p, rng) for n, p in names.items()}, b"{}") for i in ids],
        config,
    )


def test_a_name_that_came_late_takes_no_room_for_earlier_rows(
    engine: Engine, tmp_path: Path
) -> None:
    collection = engine.collection("c")
    write(collection, some_points(CONFIG, range(5000)))
    write(collection, create("late", VectorParams(4096, Distance.DOT)))
    write(collection, some_points(collection.config, range(5000, 5003)))
    collection.checkpoint()
    stored_bytes = sum(path.stat().st_size for path in tmp_path.rglob("*.data"))
    assert stored_bytes < 1_000_000
    engine.close()
    with_it = list(range(5000, 5003))
    again = Engine.open(tmp_path)
    target = np.ones(4096, dtype=np.float32)
    assert nearest_ids(again.collection("c"), "late", target) == with_it
    again.close()


def test_rows_that_got_no_vector_before_a_checkpoint_stay_where_they_are(
    engine: Engine, tmp_path: Path
) -> None:
    collection = engine.collection("c")
    write(collection, create("a", DENSE), create("b", DENSE))
    points = [PointStruct(i, {"a": np.full(4, i, np.float32)}, b"{}") for i in range(5)]
    write(collection, build_upsert(points, collection.config))
    collection.checkpoint()
    points = [PointStruct(i, {"b": np.full(4, i, np.float32)}, b"{}") for i in range(5, 9)]
    write(collection, build_upsert(points, collection.config))
    collection.checkpoint()
    before = stored(collection)
    engine.close()
    again = Engine.open(tmp_path)
    assert stored(again.collection("c")) == before
    assert before[7] == {"b": [7.0] * 4}
    again.close()


def test_a_view_keeps_the_vectors_of_a_name_that_was_dropped(engine: Engine) -> None:
    collection = engine.collection("c")
    write(collection, create("a", DENSE), some_points(CONFIG, range(3)))
    write(collection, some_points(collection.config, range(3)))
    view = collection.view
    write(collection, DropVectorName("a"))
    row = view.row_of(1)
    assert view.vectors("a").get(row if row >= 0 else 3) is not None
    assert "a" not in collection.view.vector_names()


def write_behind(
    collection: Collection, first: Sequence[Operation], late: Sequence[Operation]
) -> list[BaseException]:
    """Queue a write, then a change that goes before it; returns what failed."""
    failures: list[BaseException] = []

    def write_waiting(operations: Sequence[Operation]) -> None:
        try:
            write(collection, *operations)
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=write_waiting, args=(one,)) for one in (late, first)]
    with collection._write_lock:
        for waiting, writer in enumerate(writers, start=1):
            writer.start()
            for _ in range(1000):
                with collection._queue_lock:
                    if len(collection._queue) == waiting:
                        break
                threading.Event().wait(0.005)
        with collection._queue_lock:
            assert len(collection._queue) == 2
            collection._queue.reverse()
    for writer in writers:
        writer.join(10)
    return failures


def test_a_write_that_waited_while_its_name_became_another_is_refused(engine: Engine) -> None:
    collection = engine.collection("c")
    write(collection, create("a", DENSE))
    upsert = some_points(collection.config, range(3))
    other = create("a", VectorParams(3, Distance.DOT))
    failures = write_behind(collection, [DropVectorName("a"), other], [upsert])
    assert [type(error) for error in failures] == [WrongVectorDimension]
    assert collection.points_count() == 0


def test_a_write_that_waited_is_prepared_for_the_new_name_from_what_was_given(
    engine: Engine,
) -> None:
    collection = engine.collection("c")
    write(collection, create("a", VectorParams(2, Distance.COSINE)))
    given = [PointStruct(1, {"a": np.array([30, 40], np.float32)}, b"{}")]
    upsert = build_upsert(given, collection.config)
    other = create("a", VectorParams(2, Distance.DOT))
    assert write_behind(collection, [DropVectorName("a"), other], [upsert]) == []
    assert stored(collection) == {1: {"a": [30.0, 40.0]}}


def test_a_batch_sees_the_names_that_it_makes_and_is_taken_back_whole(engine: Engine) -> None:
    collection = engine.collection("c")
    config = CollectionConfig(vectors={"": DENSE, "a": MULTI})
    write(collection, create("a", MULTI), some_points(config, range(2)))
    before = stored(collection)
    missing = DeletePoints(PointSelector(ids=(1,)))
    unknown = some_points(CollectionConfig(vectors={"zzz": DENSE}), range(1))
    with pytest.raises(UnknownVectorName):
        write(collection, DropVectorName("a"), missing, unknown)
    assert stored(collection) == before
    assert set(collection.config.vectors) == {"", "a"}


def test_a_name_whose_write_could_not_be_stored_is_not_there(tmp_path: Path) -> None:
    ops = FaultyFileOps()
    engine = Engine.open(tmp_path, ops)
    engine.create_collection("c", CONFIG)
    collection = engine.collection("c")
    write(collection, some_points(CONFIG, range(3)))
    ops.room_bytes = 0
    with pytest.raises(NoSpace):
        write(collection, create("a", DENSE))
    assert set(collection.config.vectors) == {""}
    ops.room_bytes = None
    write(collection, create("a", SPARSE))
    assert set(collection.config.sparse_vectors) == {"a"}
    engine.close()


def test_filters_of_replayed_writes_see_the_names_of_their_time(
    engine: Engine, tmp_path: Path
) -> None:
    collection = engine.collection("c")
    write(collection, create("a", DENSE))
    write(collection, some_points(collection.config, range(3)))
    write(collection, some_points(CONFIG, range(3, 6)))
    with_a = PointSelector(filter=Filter(must=(HasVector("a"),)))
    write(collection, DeletePoints(with_a))
    write(collection, DropVectorName("a"))
    assert sorted(stored(collection)) == [3, 4, 5]
    engine.close()
    again = Engine.open(tmp_path)
    assert sorted(stored(again.collection("c"))) == [3, 4, 5]
    again.close()


def test_a_change_of_configuration_is_a_write_like_any_other(
    engine: Engine, tmp_path: Path
) -> None:
    collection = engine.collection("c")
    write(collection, some_points(CONFIG, range(3)))
    change = CollectionChange(
        vectors={"": VectorChange(hnsw_config={"m": 24})}, metadata={"owner": "me"}
    )
    engine.change_config("c", change)
    write(collection, ChangeConfig(CollectionChange(metadata={"owner": None, "since": 3})))
    config = collection.config
    assert config.metadata == {"since": 3}
    assert config.vectors[""].hnsw_config == {"m": 24}
    assert collection.view.indexed_stores()[""].settings.m == 24
    for _ in range(2):
        engine.close()
        engine = Engine.open(tmp_path)
        assert engine.collection("c").config == config
        engine.collection("c").checkpoint()
    engine.close()


def test_a_snapshot_holds_the_names_of_its_moment(engine: Engine, tmp_path: Path) -> None:
    collection = engine.collection("c")
    write(collection, create("a", MULTI))
    write(collection, some_points(collection.config, range(4)))
    before = stored(collection)
    archive = engine.create_snapshot("c")
    path = engine.snapshots.find("c", archive.name)
    engine.restore_collection("copy", path)
    write(collection, DropVectorName("a"))
    copy = engine.collection("copy")
    assert stored(copy) == before
    assert copy.config.vectors["a"] == MULTI
    write(copy, create("b", SPARSE), DropVectorName("a"))
    assert all("a" not in vectors for vectors in stored(copy).values())


def test_a_repair_keeps_the_names_of_the_checkpoint_and_of_the_writes_after_it(
    engine: Engine, tmp_path: Path
) -> None:
    collection = engine.collection("c")
    write(collection, some_points(CONFIG, range(400)))
    write(collection, create("late", DENSE), create("gone", MULTI))
    write(collection, some_points(collection.config, range(400, 900)))
    collection.checkpoint()
    write(collection, DropVectorName("gone"), create("words", SPARSE))
    write(collection, some_points(collection.config, range(900, 903)))
    before = stored(collection)
    config = collection.config
    killed = tmp_path / "killed"
    shutil.copytree(tmp_path, killed, ignore=shutil.ignore_patterns("killed"))
    (late, *_) = sorted(killed.glob("collections/c/data/*-values.data"))
    damaged = bytearray(late.read_bytes())
    damaged[5000] ^= 4
    late.write_bytes(damaged)
    report = repair_directory(killed, tmp_path / "repaired")
    again = Engine.open(tmp_path / "repaired")
    kept = stored(again.collection("c"))
    assert again.collection("c").config == config
    assert {900, 901, 902} <= kept.keys()
    assert {point_id: before[point_id] for point_id in kept} == kept
    lost = set(report.collections[0].lost_ids)
    assert lost | kept.keys() == before.keys()
    assert lost
    again.close()
