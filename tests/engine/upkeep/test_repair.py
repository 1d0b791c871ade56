"""What a repair keeps: every kept point is what it was, and what is missing is told."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from headrace.engine.engine import Engine
from headrace.engine.storage import data_file
from headrace.engine.storage.wal import Wal
from headrace.engine.upkeep.check import check_directory
from headrace.engine.upkeep.repair import RepairReport, repair_directory
from headrace.model.aliases import CreateAlias
from headrace.model.errors import AlreadyExists, CorruptFile, DirectoryInUse, NotFound
from headrace.model.operations import (
    DeletePoints,
    OverwritePayload,
    PointSelector,
    SourceOffset,
    UpdateMode,
    UpdateVectors,
    WriteBatch,
)
from headrace.model.queries import ALL_VECTORS, Scroll
from headrace.model.upserts import build_upsert
from headrace.model.vectors import SparseVector
from tests.crash.test_engine_crash import CONFIG, PARTITION, random_point
from tests.engine.snapshot.collections import filled_engine
from tests.engine.storage.faulty_file_ops import FaultyFileOps

POINTS = 900

State = dict[str, Any]


class Stored(NamedTuple):
    directory: Path
    states: dict[int, State]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """A checkpoint of many small blocks, and a log behind it with every kind of write."""
    directory = tmp_path_factory.mktemp("stored")
    rng = random.Random(1)
    engine = Engine.open(directory, FaultyFileOps())
    engine.create_collection("c", CONFIG)
    collection = engine.collection("c")
    states: dict[int, State] = {}

    def write(*operations: Any) -> None:
        seq_no = collection.write(WriteBatch([*operations], [SourceOffset(PARTITION, len(states))]))
        states[seq_no] = state_of_all(engine)

    states[0] = state_of_all(engine)
    for begin in range(0, POINTS, 300):
        points = [random_point(n, rng) for n in range(begin, begin + 300)]
        write(build_upsert(points, CONFIG))
    write(DeletePoints(PointSelector(ids=tuple(range(0, POINTS, 7)))))
    collection.checkpoint()
    for step in range(12):
        ids = rng.sample([n for n in range(POINTS) if n % 7], 30)
        patched = tuple(ids[:10])
        upsert = build_upsert([random_point(n, rng) for n in ids[10:20]], CONFIG)
        inserts = build_upsert(
            [random_point(n, rng) for n in (*ids[20:], POINTS + step)],
            CONFIG,
            mode=UpdateMode.INSERT_ONLY,
        )
        moved = build_upsert([random_point(n, rng) for n in ids[20:25]], CONFIG)
        write(
            OverwritePayload(PointSelector(ids=patched), orjson.dumps({"step": step})),
            upsert,
            inserts,
            UpdateVectors(moved.ids, moved.vectors),
        )
    # As a kill leaves it: no closing checkpoint.
    killed = tmp_path_factory.mktemp("killed") / "data"
    shutil.copytree(directory, killed)
    engine.close()
    return Stored(killed, states)


@pytest.fixture(scope="module", autouse=True)
def _small_blocks() -> Any:
    patch = pytest.MonkeyPatch()
    patch.setattr(data_file, "_BLOCK_BYTES", 512)
    yield
    patch.undo()


def state_of_all(engine: Engine) -> State:
    collection = engine.collection("c")
    state: State = {}
    for record in collection.scroll(Scroll(limit=10_000, with_vectors=ALL_VECTORS)).records:
        vectors = {
            name: [vector.indices.tolist(), vector.values.tolist()]
            if isinstance(vector, SparseVector)
            else vector.tolist()
            for name, vector in (record.vectors or {}).items()
        }
        state[str(record.id)] = [record.version, record.payload, vectors]
    return state


def repaired(damaged: Path, target: Path) -> tuple[RepairReport, State]:
    shutil.rmtree(target, ignore_errors=True)
    report = repair_directory(damaged, target, ops=FaultyFileOps())
    assert check_directory(target).problems == []
    engine = Engine.open(target, FaultyFileOps())
    state = state_of_all(engine) if engine.has_collection("c") else {}
    engine.close()
    return report, state


def assert_all_good(stored: Stored, report: RepairReport, state: State) -> None:
    """Every point is what it was after the last write that was kept; others are told."""
    (collection,) = report.collections
    expected = stored.states[collection.seq_no]
    assert {name: expected.get(name) for name in state} == state
    missing = {int(name) for name in expected.keys() - state.keys()}
    told = set(collection.lost_ids)
    if not any("rows whose ids are damaged" in text for text in collection.left_out):
        # Beyond the old points there are only those of conditional writes.
        missing = {point_id for point_id in missing if point_id < POINTS}
        # Where live bits are lost, points are told that may have been deleted.
        is_live_lost = any("live.data" in problem.file for problem in report.problems)
        assert missing <= told if is_live_lost else missing == told
    if missing:
        assert collection.left_out


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def test_an_undamaged_directory_is_kept_whole(stored: Stored, tmp_path: Path) -> None:
    report, state = repaired(stored.directory, tmp_path / "new")
    assert state == stored.states[max(stored.states)]
    assert (report.problems, report.left_out) == ([], [])
    assert report.collections[0].left_out == []


def damage_and_repair(stored: Stored, tmp_path: Path, rng: random.Random, rounds: int) -> None:
    kept = 0
    names = ("*.data", "*.wal")
    for _ in range(rounds):
        damaged = tmp_path / "damaged"
        shutil.copytree(stored.directory, damaged)
        paths = [path for name in names for path in sorted(damaged.rglob(name))]
        for path in rng.sample(paths, rng.choice((1, 1, 2, 4))):
            bits = 8 * path.stat().st_size
            flip(
                path,
                rng.randrange(8 * 4096, bits) if path.suffix == ".data" else rng.randrange(bits),
            )
        before = {path: path.read_bytes() for path in paths}
        report, state = repaired(damaged, tmp_path / "new")
        assert_all_good(stored, report, state)
        # The last write of a log that was not closed may look as if a crash had torn it.
        assert report.problems or report.collections[0].seq_no == max(stored.states) - 1
        assert {path: path.read_bytes() for path in paths} == before
        kept += len(state)
        shutil.rmtree(damaged)
    # One block holds some rows: most points are kept most of the time.
    assert kept > rounds * POINTS // 4


def test_what_is_kept_after_20_random_damages_is_what_was_stored(
    stored: Stored, tmp_path: Path
) -> None:
    damage_and_repair(stored, tmp_path, random.Random(1), 20)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_what_is_kept_after_1000_random_damages_is_what_was_stored(
    stored: Stored, tmp_path: Path
) -> None:
    damage_and_repair(stored, tmp_path, random.Random(2), 1000)


def test_one_damaged_block_of_each_file_costs_its_rows_alone(
    stored: Stored, tmp_path: Path
) -> None:
    for path in sorted(stored.directory.rglob("*.data")):
        damaged = Path(shutil.copytree(stored.directory, tmp_path / "damaged"))
        # Behind the bounds of a payload group, each block is some rows' own.
        flip(damaged / path.relative_to(stored.directory), 8 * (path.stat().st_size - 600))
        report, state = repaired(damaged, tmp_path / "new")
        assert_all_good(stored, report, state)
        if not path.name.endswith("live.data"):
            assert 0 < len(stored.states[max(stored.states)]) - len(state) < POINTS, path
        shutil.rmtree(damaged)


def test_a_missing_data_file_costs_the_points_and_not_the_log(
    stored: Stored, tmp_path: Path
) -> None:
    damaged = Path(shutil.copytree(stored.directory, tmp_path / "damaged"))
    next(damaged.rglob("*-low.data")).unlink()
    report, state = repaired(damaged, tmp_path / "new")
    assert_all_good(stored, report, state)
    assert 0 < len(state) < 200


def test_a_damaged_checkpoint_whose_log_is_whole_costs_nothing(tmp_path: Path) -> None:
    engine = filled_engine(tmp_path / "data", "c")
    expected = state_of_all(engine)
    wal = tmp_path / "wal"
    shutil.copytree(tmp_path / "data/collections/c/wal", wal)
    engine.collection("c").checkpoint()
    engine.close()
    shutil.rmtree(tmp_path / "data/collections/c/wal")
    shutil.copytree(wal, tmp_path / "data/collections/c/wal")
    flip(next((tmp_path / "data").rglob("*values.data")), 8 * 4100)
    report, state = repaired(tmp_path / "data", tmp_path / "new")
    assert state == expected
    assert "holds everything" in report.collections[0].left_out[0]


def test_a_damaged_manifest_without_the_log_before_it_costs_the_points(
    stored: Stored, tmp_path: Path
) -> None:
    damaged = Path(shutil.copytree(stored.directory, tmp_path / "damaged"))
    flip(next(damaged.rglob("checkpoint.doc")), 2000)
    report, state = repaired(damaged, tmp_path / "new")
    assert state == {}
    assert [text.split(":")[0] for text in report.collections[0].left_out] == [
        "the checkpoint",
        "12 whole writes up to seq_no 16",
    ]


@pytest.mark.parametrize("has_catalogue", [True, False])
def test_a_missing_manifest_is_told_and_what_it_costs(
    stored: Stored, tmp_path: Path, has_catalogue: bool
) -> None:
    damaged = Path(shutil.copytree(stored.directory, tmp_path / "damaged"))
    next(damaged.rglob("checkpoint.doc")).unlink()
    if not has_catalogue:
        (damaged / "catalogue.doc").unlink()
        (damaged / "lock").unlink()
    report, state = repaired(damaged, tmp_path / "new")
    assert state == {}
    told = report.collections[0].left_out
    assert "checkpoint.doc is missing; the configuration is the one that" in told[0]
    assert "12 whole writes up to seq_no 16" in told[1]


def test_what_is_beside_the_collections_is_kept_where_it_is_whole(tmp_path: Path) -> None:
    data = tmp_path / "data"
    engine = filled_engine(data, "c", "d")
    engine.change_aliases([CreateAlias("c", "alias")])
    engine.set_source_positions([SourceOffset(PARTITION, 3)])
    good = engine.create_snapshot("c")
    bad = engine.create_full_snapshot()
    engine.close()
    flip(data / "snapshots" / bad.name, 80_000)
    flip(data / "catalogue.doc", 300)
    flip(data / "collections/d/collection.doc", 300)
    report = repair_directory(data, tmp_path / "new")
    assert [text.split(": ")[0] for text in report.left_out] == [
        str(data / "catalogue.doc"),
        str(data / "snapshots" / bad.name),
    ]
    assert [one.seq_no for one in report.collections] == [1, -1]
    assert "configuration" in report.collections[1].left_out[0]
    engine = Engine.open(tmp_path / "new")
    assert engine.collection_names() == ["c"]
    assert (engine.aliases(), engine.source_positions(PARTITION.source)) == ([], {})
    assert engine.snapshots.list("c") == [good]
    assert engine.snapshots.list(None) == []
    engine.close()
    with pytest.raises(CorruptFile):
        Engine.open(data)


def test_a_write_that_cannot_be_decoded_ends_what_is_kept(tmp_path: Path) -> None:
    engine = filled_engine(tmp_path / "data", "c")
    expected = state_of_all(engine)
    engine.close()
    wal = Wal.open(tmp_path / "data/collections/c/wal")
    wal.append(2, b"\xc1")
    wal.sync()
    wal.close()
    with pytest.raises(Exception, match="MessagePack"):
        Engine.open(tmp_path / "data")
    report, state = repaired(tmp_path / "data", tmp_path / "new")
    assert state == expected
    assert "the writes from seq_no 2 on" in report.collections[0].left_out[0]


def test_a_repair_is_refused_where_it_could_do_harm(tmp_path: Path) -> None:
    engine = filled_engine(tmp_path / "data", "c")
    with pytest.raises(DirectoryInUse):
        repair_directory(tmp_path / "data", tmp_path / "new")
    engine.close()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/file").write_text("mine")
    with pytest.raises(AlreadyExists):
        repair_directory(tmp_path / "data", tmp_path / "taken")
    with pytest.raises(NotFound):
        repair_directory(tmp_path, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "taken"]


def test_a_full_disk_leaves_no_half_repair(tmp_path: Path) -> None:
    engine = filled_engine(tmp_path / "data", "c")
    engine.close()
    ops = FaultyFileOps()
    ops.room_bytes = 100
    with pytest.raises(Exception, match="No space"):
        repair_directory(tmp_path / "data", tmp_path / "new", ops=ops)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
