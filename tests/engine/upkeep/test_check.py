"""What a check finds, and that it changes nothing."""

from __future__ import annotations

import random
import shutil
import threading
from pathlib import Path
from unittest.mock import patch

import pytest

from headrace.engine.collection.collection import Collection
from headrace.engine.engine import Engine
from headrace.engine.upkeep.check import FileChecked, check_directory
from headrace.model.aliases import CreateAlias
from headrace.model.errors import NotFound, StorageFailed
from headrace.model.operations import SourceOffset, WriteBatch
from headrace.model.upserts import build_upsert
from tests.crash.test_engine_crash import CONFIG, PARTITION, random_point
from tests.engine.snapshot.collections import fill, filled_engine
from tests.engine.storage.faulty_file_ops import FaultyFileOps


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cleanly closed directory with checkpoints, logs, documents and snapshots."""
    directory = tmp_path_factory.mktemp("stored")
    engine = filled_engine(directory, "c", "d")
    collection = engine.collection("c")
    upserts = [random_point(n, random.Random(n)) for n in range(3000)]
    collection.write(WriteBatch([build_upsert(upserts, CONFIG)]))
    collection.checkpoint()
    fill(collection, 20)
    engine.create_snapshot("d")
    engine.create_full_snapshot()
    engine.change_aliases([CreateAlias("c", "alias")])
    engine.set_source_positions([SourceOffset(PARTITION, 3)])
    engine.close()
    return directory


def files_of(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file() and path.name != "lock")


def damaged_copy(stored: Path, tmp_path: Path) -> Path:
    directory = tmp_path / "damaged"
    shutil.rmtree(directory, ignore_errors=True)
    return Path(shutil.copytree(stored, directory))


def test_an_undamaged_directory_has_no_problems(stored: Path) -> None:
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files_of(stored)}
    seen: list[FileChecked] = []
    report = check_directory(stored, seen.append)
    assert (report.problems, report.notes) == ([], [])
    verified = [path for path in before if not path.name.endswith(".sha256")]
    assert sorted(checked.path for checked in seen) == verified
    assert report.files == len(verified)
    assert report.bytes == sum(len(before[path][0]) for path in verified)
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files_of(stored)}
    assert after == before


def flip_bits(stored: Path, tmp_path: Path, rng: random.Random, flips: int) -> None:
    paths = files_of(stored)
    sizes = [path.stat().st_size for path in paths]
    directory = damaged_copy(stored, tmp_path)
    for _ in range(flips):
        path = rng.choice(paths) if rng.random() < 0.5 else rng.choices(paths, sizes)[0]
        content = path.read_bytes()
        bit = rng.randrange(8 * len(content))
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        damaged = directory / path.relative_to(stored)
        damaged.write_bytes(flipped)
        problems = check_directory(directory).problems
        if path.name.endswith(".sha256"):
            # What it says is then no checksum at all, or not the file's.
            assert len(problems) <= 1
        else:
            assert [problem.file for problem in problems] == [str(damaged)]
            assert problems[0].byte_offset <= bit // 8 + 1
        damaged.write_bytes(content)


def test_100_flipped_bits_are_named_with_their_file(stored: Path, tmp_path: Path) -> None:
    flip_bits(stored, tmp_path, random.Random(1), 100)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_5000_flipped_bits_are_named_with_their_file(stored: Path, tmp_path: Path) -> None:
    flip_bits(stored, tmp_path, random.Random(2), 5000)


def test_each_damaged_block_is_named(stored: Path, tmp_path: Path) -> None:
    directory = damaged_copy(stored, tmp_path)
    payloads = max(directory.glob("snapshots/*.snapshot"))
    log = next(directory.glob("collections/c/wal/*.wal"))
    values = sorted(directory.glob("collections/c/data/*values.data"))
    for path in (payloads, log, *values):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    problems = check_directory(directory).problems
    assert {problem.file for problem in problems} == {str(p) for p in (payloads, log, *values)}


@pytest.mark.parametrize("damage", ["missing", "cut", "longer", "zero tail", "stale"])
def test_a_file_that_is_not_what_it_was_is_named(stored: Path, tmp_path: Path, damage: str) -> None:
    directory = damaged_copy(stored, tmp_path)
    for path in (p for p in files_of(stored) if p.suffix == ".data"):
        damaged = directory / path.relative_to(stored)
        content = path.read_bytes()
        if damage == "missing":
            damaged.unlink()
        else:
            other = next(p for p in files_of(stored) if p.suffix == ".data" and p != path)
            damaged.write_bytes(
                {
                    "cut": content[:-3],
                    "longer": content + b"\0",
                    "zero tail": content[:-20] + bytes(20),
                    "stale": other.read_bytes(),
                }[damage]
            )
        assert {one.file for one in check_directory(directory).problems} == {str(damaged)}
        damaged.write_bytes(content)


@pytest.mark.parametrize("name", ["collection.doc", "wal"])
def test_a_missing_part_of_a_collection_is_named(stored: Path, tmp_path: Path, name: str) -> None:
    directory = damaged_copy(stored, tmp_path)
    path = directory / "collections/c" / name
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    assert [one.file for one in check_directory(directory).problems] == [str(path)]


@pytest.mark.parametrize(
    "name", ["c/collection.doc", "c/checkpoint.doc", "c/data/*values.data", "d/wal/*.wal"]
)
def test_a_file_that_cannot_be_read_is_a_problem(stored: Path, tmp_path: Path, name: str) -> None:
    directory = damaged_copy(stored, tmp_path)
    path = next(iter(directory.glob(f"collections/{name}")))
    path.unlink()
    path.mkdir()
    (problem,) = check_directory(directory).problems
    assert problem.file == str(directory / "collections" / name[0])
    assert str(path) in problem.found


def test_a_snapshot_that_cannot_be_read_is_a_problem(stored: Path, tmp_path: Path) -> None:
    directory = damaged_copy(stored, tmp_path)
    path = next(iter(directory.glob("snapshots/*.snapshot")))
    path.unlink()
    path.mkdir()
    (problem,) = check_directory(directory).problems
    assert (problem.file, problem.found) == (str(path), "something else")
    path.rmdir()
    failed = StorageFailed("reading a snapshot: Input/output error")
    with patch("headrace.engine.upkeep.check.ArchiveReader", side_effect=failed):
        problems = check_directory(directory).problems
    assert [one.found for one in problems] == [failed.detail]


def test_a_lost_checkpoint_is_found(stored: Path, tmp_path: Path) -> None:
    directory = damaged_copy(stored, tmp_path)
    (directory / "collections/c/checkpoint.doc").unlink()
    assert len(check_directory(directory).problems) == 1


def test_a_torn_tail_is_a_note(tmp_path: Path) -> None:
    engine = filled_engine(tmp_path / "running", "c")
    directory = Path(shutil.copytree(tmp_path / "running", tmp_path / "killed"))
    engine.close()
    log = max(directory.glob("collections/c/wal/*.wal"))
    log.write_bytes(log.read_bytes()[:-70])
    report = check_directory(directory)
    assert report.problems == []
    assert "never acknowledged" in report.notes[0]


def test_what_is_no_data_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        check_directory(tmp_path)


def test_checks_beside_a_busy_writer_find_nothing(tmp_path: Path) -> None:
    engine = Engine.open(tmp_path, FaultyFileOps())
    engine.create_collection("c", CONFIG)
    collection = engine.collection("c")
    is_over = threading.Event()

    def write() -> None:
        seed = 0
        while not is_over.is_set():
            seed += 1
            fill(collection, seed)
            if seed % 5 == 0:
                rewrite(collection)
            if seed % 20 == 0:
                engine.create_snapshot("c")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(20):
            assert check_directory(tmp_path).problems == []
    finally:
        is_over.set()
        writer.join()
    engine.close()


def rewrite(collection: Collection) -> None:
    with collection._checkpoint_lock:
        collection._compact()
        collection.checkpoint()
