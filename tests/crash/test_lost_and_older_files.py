"""A file, or a collection, that is gone, or an older one put back: found, named, or harmless."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from headrace.engine.engine import Engine
from headrace.engine.upkeep.check import check_directory
from headrace.engine.upkeep.repair import repair_directory
from headrace.model.aliases import CreateAlias, DeleteAlias
from headrace.model.collection_config import CollectionConfig, VectorParams
from headrace.model.errors import CorruptFile
from headrace.model.operations import SourceOffset
from headrace.model.vectors import Distance
from tests.crash.test_engine_crash import CONFIG, PARTITION, state_of
from tests.engine.snapshot.collections import fill
from tests.engine.storage.faulty_file_ops import FaultyFileOps

# Of the same vectors, so that a log of one can be replayed into the other.
OTHER_CONFIG = msgspec.structs.replace(CONFIG, optimizers_config={"indexing_threshold": 7})
# Holds who has the directory, and a note of the newest catalogue, which may say less.
LOCK = "lock"


class History(NamedTuple):
    """A directory that was closed several times.

    Attributes:
        closed: the directory as it was after each closing, the newest last.
        state: what the newest shows.
    """

    closed: list[Path]
    state: dict[str, Any]

    @property
    def newest(self) -> Path:
        return self.closed[-1]


def state_of_all(engine: Engine) -> dict[str, Any]:
    return {
        "collections": {
            name: (engine.collection(name).config, state_of(engine.collection(name)))
            for name in engine.collection_names()
        },
        "aliases": engine.aliases(),
        "positions": engine.source_positions(PARTITION.source),
        "settings": engine.read_settings("quotas", dict),
    }


def change(engine: Engine, step: int) -> None:
    """Change something of everything, in another way at each step."""
    names = engine.collection_names()
    if step == 0:
        engine.create_collection("c", CONFIG)
        engine.create_collection("dropped", CONFIG)
        engine.create_collection("again", CONFIG)
        fill(engine.collection("dropped"), 1)
    if step == 2:
        assert engine.delete_collection("dropped")
        assert engine.delete_collection("again")
        engine.create_collection("again", OTHER_CONFIG)
    if step == 3:
        archive = engine.snapshots.find("c", engine.create_snapshot("c").name)
        fill(engine.collection("c"), 90)
        engine.restore_collection("c", archive)
        engine.restore_collection("restored", archive)
    if step == 4:
        engine.change_aliases([DeleteAlias("alias-1")])
    fill(engine.collection("c"), 10 + step)
    fill(engine.collection("again"), 20 + step)
    if step in (1, 4):
        engine.collection("c").checkpoint()
        fill(engine.collection("c"), 30 + step)
    engine.change_aliases([CreateAlias("c", f"alias-{step}")])
    engine.set_source_positions([SourceOffset(PARTITION, step + 1)])
    engine.write_settings("quotas", {"step": step})
    assert step == 0 or names


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    directory = tmp_path_factory.mktemp("history")
    closed: list[Path] = []
    state: dict[str, Any] = {}
    for step in range(6):
        engine = Engine.open(directory / "data", FaultyFileOps())
        change(engine, step)
        state = state_of_all(engine)
        engine.close()
        closed.append(Path(shutil.copytree(directory / "data", directory / f"closed-{step}")))
    return History(closed, state)


def files_of(directory: Path) -> list[Path]:
    return sorted(p for p in directory.rglob("*") if p.is_file() and p.parent.name != "snapshots")


def copied(history: History, tmp_path: Path) -> Path:
    shutil.rmtree(tmp_path / "data", ignore_errors=True)
    return Path(shutil.copytree(history.newest, tmp_path / "data"))


def assert_found_or_harmless(history: History, directory: Path, damaged: Path) -> bool:
    """Whether it was found, by an opening, a reader and a check alike."""
    problems = check_directory(directory).problems
    told: list[CorruptFile] = []
    for read_only in (True, False):
        try:
            engine = Engine.open(directory, FaultyFileOps(), read_only=read_only)
        except CorruptFile as error:
            told.append(error)
        else:
            assert state_of_all(engine) == history.state, damaged
            engine.close()
    if not told:
        assert problems == [], damaged
        return False
    assert len(told) == 2, damaged
    for found in told:
        assert found.expected, damaged
        # What is beside the collections is named itself, of the others their collection's file.
        near = damaged if damaged.parent == directory else damaged.parent
        is_near = found.path.startswith(str(near)) or Path(found.path) in near.parents
        assert is_near, (damaged, found)
    assert told[1].path in [problem.file for problem in problems], damaged
    return True


def test_every_file_that_is_gone_is_found_or_harmless(history: History, tmp_path: Path) -> None:
    harmless = []
    for path in files_of(history.newest):
        directory = copied(history, tmp_path)
        damaged = directory / path.relative_to(history.newest)
        damaged.unlink()
        if not assert_found_or_harmless(history, directory, damaged):
            harmless.append(path)
    # A lock that is gone asks for nothing; a manifest, while the log begins with the first
    # write, says what the log says; snapshots are nobody's but their owner's.
    for path in harmless:
        is_snapshot = path.is_relative_to(history.newest / "snapshots")
        assert is_snapshot or path.name in (LOCK, "checkpoint.doc"), path
    assert [path.name for path in harmless].count("checkpoint.doc") == 0


def older_copies(history: History) -> Iterator[tuple[Path, bytes]]:
    """By its path, what each file of any time was before, where it was something else."""
    paths = {path.relative_to(closed) for closed in history.closed for path in files_of(closed)}
    for path in sorted(paths):
        now = history.newest / path
        newest = now.read_bytes() if now.exists() else None
        older = {
            (closed / path).read_bytes() for closed in history.closed if (closed / path).exists()
        }
        for content in sorted(older - {newest}):
            yield path, content


def test_every_older_copy_of_a_file_is_found_or_harmless(history: History, tmp_path: Path) -> None:
    found: dict[str, int] = {}
    for path, content in older_copies(history):
        directory = copied(history, tmp_path)
        damaged = directory / path
        if not damaged.parent.is_dir():
            continue  # Of a collection that was deleted: see below.
        was_there = damaged.exists()
        damaged.write_bytes(content)
        is_found = assert_found_or_harmless(history, directory, damaged)
        if was_there and path.name != LOCK:
            assert is_found, path
            found[path.suffix] = found.get(path.suffix, 0) + 1
    assert found[".doc"] > 7
    assert found[".wal"] > 3


def test_an_older_copy_of_the_catalogue_is_named(history: History, tmp_path: Path) -> None:
    directory = copied(history, tmp_path)
    shutil.copyfile(history.closed[-2] / "catalogue.doc", directory / "catalogue.doc")
    with pytest.raises(CorruptFile, match=r"catalogue\.doc.*expected a catalogue of generation"):
        Engine.open(directory)


@pytest.mark.parametrize("name", ["c", "again", "restored"])
def test_a_collection_that_is_gone_is_found(history: History, tmp_path: Path, name: str) -> None:
    directory = copied(history, tmp_path)
    damaged = directory / "collections" / name
    shutil.rmtree(damaged)
    assert assert_found_or_harmless(history, directory, damaged)


@pytest.mark.parametrize("name", ["c", "again", "dropped"])
def test_an_older_copy_of_a_collection_is_found(
    history: History, tmp_path: Path, name: str
) -> None:
    for closed in history.closed[:-1]:
        older = closed / "collections" / name
        if not older.exists():
            continue
        directory = copied(history, tmp_path)
        damaged = directory / "collections" / name
        shutil.rmtree(damaged, ignore_errors=True)
        shutil.copytree(older, damaged)
        problems = check_directory(directory).problems
        assert Path(problems[0].file).is_relative_to(damaged)
        for read_only in (True, False):
            with pytest.raises(CorruptFile) as caught:
                Engine.open(directory, FaultyFileOps(), read_only=read_only)
            assert Path(caught.value.path).is_relative_to(damaged)


def test_swapped_collections_are_found(history: History, tmp_path: Path) -> None:
    directory = copied(history, tmp_path)
    parent = directory / "collections"
    (parent / "c").rename(parent / "x")
    (parent / "again").rename(parent / "c")
    (parent / "x").rename(parent / "again")
    with pytest.raises(CorruptFile):
        Engine.open(directory)


def test_a_damaged_note_of_the_catalogue_asks_for_nothing(history: History, tmp_path: Path) -> None:
    directory = copied(history, tmp_path)
    content = bytearray((directory / LOCK).read_bytes())
    for bit in range(8 * len(content)):
        content[bit // 8] ^= 1 << bit % 8
        (directory / LOCK).write_bytes(content)
        engine = Engine.open(directory, FaultyFileOps())
        assert engine.aliases() == history.state["aliases"]
        engine.close()


@pytest.mark.parametrize("lock", ["older", "gone"])
def test_an_older_copy_of_a_whole_directory_opens(
    history: History, tmp_path: Path, lock: str
) -> None:
    directory = Path(shutil.copytree(history.closed[2], tmp_path / "data"))
    if lock == "gone":
        (directory / LOCK).unlink()
    assert check_directory(directory).problems == []
    engine = Engine.open(directory, FaultyFileOps())
    assert engine.source_positions(PARTITION.source) == {PARTITION: 3}
    engine.close()
    shutil.copyfile(history.newest / LOCK, directory / LOCK)
    with pytest.raises(CorruptFile, match="catalogue"):
        Engine.open(directory)


def test_nothing_is_written_where_nothing_has_changed(history: History, tmp_path: Path) -> None:
    directory = copied(history, tmp_path)
    before = {path: path.read_bytes() for path in files_of(directory)}
    for read_only in (True, False):
        Engine.open(directory, FaultyFileOps(), read_only=read_only).close()
    assert {path: path.read_bytes() for path in files_of(directory)} == before
    engine = Engine.open(directory, FaultyFileOps())
    fill(engine.collection("c"), 99)
    assert (directory / "catalogue.doc").read_bytes() == before[directory / "catalogue.doc"]
    engine.close()
    assert (directory / "catalogue.doc").read_bytes() != before[directory / "catalogue.doc"]


def test_a_directory_without_a_catalogue_or_a_note_of_one_is_an_older_one(
    history: History, tmp_path: Path
) -> None:
    directory = copied(history, tmp_path)
    (directory / "catalogue.doc").unlink()
    (directory / LOCK).unlink()
    engine = Engine.open(directory)
    assert state_of_all(engine)["collections"] == history.state["collections"]
    engine.close()
    assert check_directory(directory).problems == []
    shutil.rmtree(directory / "collections/c")
    with pytest.raises(CorruptFile):
        Engine.open(directory)


def test_a_repair_keeps_what_is_left_and_says_what_is_missing(
    history: History, tmp_path: Path
) -> None:
    directory = copied(history, tmp_path)
    shutil.rmtree(directory / "collections/again")
    report = repair_directory(directory, tmp_path / "new", ops=FaultyFileOps())
    told = {one.name: one.left_out for one in report.collections}
    assert told["c"] == told["restored"] == []
    assert "missing" in told["again"][0]
    assert "sources come again" in report.left_out[0]
    engine = Engine.open(tmp_path / "new", FaultyFileOps())
    assert engine.collection_names() == ["c", "restored"]
    assert engine.aliases() == history.state["aliases"]
    assert engine.read_settings("quotas", dict) == history.state["settings"]
    # What only the lost one had taken must come again.
    assert engine.source_positions(PARTITION.source) == {PARTITION: 0}
    engine.close()


def test_a_repair_does_not_take_an_older_catalogue_for_the_newest(
    history: History, tmp_path: Path
) -> None:
    directory = copied(history, tmp_path)
    shutil.copyfile(history.closed[-2] / "catalogue.doc", directory / "catalogue.doc")
    report = repair_directory(directory, tmp_path / "new", ops=FaultyFileOps())
    assert "aliases, source positions and settings" in report.left_out[0]
    engine = Engine.open(tmp_path / "new", FaultyFileOps())
    assert state_of_all(engine)["collections"] == history.state["collections"]
    assert engine.aliases() == []
    engine.close()


def test_a_collection_is_deleted_on_a_full_disk(tmp_path: Path) -> None:
    ops = FaultyFileOps()
    engine = Engine.open(tmp_path / "data", ops)
    config = CollectionConfig(vectors={"": VectorParams(2, Distance.DOT)})
    for name in ("c", "d"):
        engine.create_collection(name, config)
    engine.change_aliases([CreateAlias("c", "alias")])
    ops.room_bytes = 0
    assert engine.delete_collection("c")
    assert (engine.collection_names(), engine.aliases()) == (["d"], [])
    copy = Path(shutil.copytree(tmp_path / "data", tmp_path / "copy"))
    assert check_directory(copy).problems == []
    reader = Engine.open(copy, read_only=True)
    assert reader.collection_names() == ["d"]
    reader.close()
    killed = Engine.open(copy, FaultyFileOps())
    assert (killed.collection_names(), killed.aliases()) == (["d"], [])
    killed.close()
    ops.room_bytes = None
    engine.create_collection("c", config)
    engine.close()
    engine = Engine.open(tmp_path / "data", FaultyFileOps())
    assert (engine.collection_names(), engine.aliases()) == (["c", "d"], [])
    engine.close()
