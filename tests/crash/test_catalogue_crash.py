"""What the catalogue says after a kill or a power loss at any operation on it.

Collections are made, deleted and replaced, aliases, positions and settings changed; whatever
a crash leaves must open as the state before or after the operation that was under way. The
note in the lock file is taken to be the newest that can have been written by then.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.engine.catalogue import CATALOGUE_DOCUMENT, Catalogue
from headrace.engine.engine import Engine
from headrace.engine.storage.files import decode_document
from headrace.engine.storage.lock import DirectoryLock
from headrace.engine.upkeep.check import check_directory
from headrace.model.aliases import AliasAction, CreateAlias, DeleteAlias
from headrace.model.operations import SourceOffset
from tests.crash.test_engine_crash import CONFIG, PARTITION
from tests.engine.snapshot.collections import fill
from tests.engine.storage.faulty_file_ops import FaultyFileOps
from tests.engine.storage.simulated_disk import (
    FileOp,
    RecordingFileOps,
    disk_after_kill,
    disk_after_power_loss,
)

OTHER_CONFIG = msgspec.structs.replace(CONFIG, optimizers_config={"indexing_threshold": 7})


def state_of_all(engine: Engine) -> dict[str, Any]:
    collections = {name: engine.collection(name) for name in engine.collection_names()}
    return {
        "collections": {
            name: [c.points_count(), c.config.optimizers_config] for name, c in collections.items()
        },
        "aliases": engine.aliases(),
        "positions": engine.source_positions(PARTITION.source),
        "settings": engine.read_settings("quotas", dict),
    }


class RecordedChanges:
    """Changes of a directory against recorded operations.

    Attributes:
        ops: all operations, in order.
        states: (after how many operations it was reached, the state).
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "collections").mkdir(parents=True)
        self._recorder = RecordingFileOps()
        self._recorder.adopt(directory)
        self._engine = Engine.open(directory, self._recorder)
        self.states: list[tuple[int, dict[str, Any]]] = []
        self._reached()
        self._do(lambda e: e.create_collection("c", CONFIG))
        self._fill("c", 1)
        self._do(lambda e: e.change_aliases([CreateAlias("c", "alias")]))
        self._do(lambda e: e.create_collection("d", CONFIG))
        self._do(lambda e: e.set_source_positions([SourceOffset(PARTITION, 1)]))
        archive = self._engine.snapshots.find("c", self._engine.create_snapshot("c").name)
        self._reached()
        self._fill("c", 2, points=50)
        moved: list[AliasAction] = [DeleteAlias("alias"), CreateAlias("d", "alias")]
        self._do(lambda e: e.change_aliases(moved))
        self._do(lambda e: e.restore_collection("c", archive))
        self._do(lambda e: e.write_settings("quotas", {"points": 1}))
        self._do(lambda e: e.delete_collection("d"))
        self._do(lambda e: e.create_collection("d", OTHER_CONFIG))
        self._reopen()
        self._do(lambda e: e.restore_collection("new", archive))
        self._do(lambda e: e.write_settings("quotas", {"points": 2}))
        self._fill("c", 3, points=45)
        self._do(lambda e: e.delete_collection("c"))
        self._reopen()
        self._engine.close()
        self.ops = self._recorder.log

    def _do(self, change: Callable[[Engine], object]) -> None:
        change(self._engine)
        self._reached()

    def _fill(self, name: str, seed: int, points: int = 40) -> None:
        self._do(lambda e: fill(e.collection(name), seed, points))

    def _reopen(self) -> None:
        self._engine.close()
        self._engine = Engine.open(self.directory, self._recorder)
        self._reached()

    def _reached(self) -> None:
        self.states.append((len(self._recorder.log), state_of_all(self._engine)))

    def assert_recovers(self, ops_count: int, directory: Path) -> None:
        write_note(directory, newest_generation(self.ops[:ops_count], self.directory))
        assert check_directory(directory).problems == []
        reader = Engine.open(directory, FaultyFileOps(), read_only=True)
        seen = state_of_all(reader)
        reader.close()
        engine = Engine.open(directory, FaultyFileOps())
        found = state_of_all(engine)
        reached = [n for n, (after, _) in enumerate(self.states) if after <= ops_count]
        expected = [state for _, state in self.states[reached[-1] : reached[-1] + 2]]
        assert found in expected, ops_count
        assert seen["collections"] == found["collections"]
        # It goes on from there, and is whole once it is closed.
        engine.create_collection("later", CONFIG)
        found = state_of_all(engine)
        engine.close()
        assert check_directory(directory).problems == []
        engine = Engine.open(directory, FaultyFileOps())
        assert state_of_all(engine) == found
        engine.close()
        assert list(directory.rglob(".*")) == []


def newest_generation(ops: list[FileOp], start: Path) -> int:
    """Of the newest catalogue that is durable after some operations."""
    written: dict[Path, bytes] = {}
    pending, durable = 0, 0
    for op in ops:
        if op.kind == "write" and op.path.parent == start:
            written[op.path] = op.data
        elif op.kind == "rename" and op.target == start / CATALOGUE_DOCUMENT:
            pending = decode_document(written[op.path], str(op.path), Catalogue).generation
        elif op.kind == "sync_dir" and op.path == start:
            durable = pending
    return durable


def write_note(directory: Path, generation: int) -> None:
    lock = DirectoryLock.acquire(directory)
    lock.note(generation)
    lock.release()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RecordedChanges:
    return RecordedChanges(tmp_path_factory.mktemp("run"))


def crashes(run: RecordedChanges, everywhere: bool) -> list[int]:
    """After how many operations: each, or each on the names that the catalogue is about."""
    first = run.states[0][0]
    places = (run.directory, run.directory / "collections")
    return [
        ops_count
        for ops_count, op in enumerate(run.ops[first:], start=first + 1)
        if everywhere or op.path in places or op.path.parent in places
    ]


def kill(run: RecordedChanges, work: Path, everywhere: bool) -> None:
    for ops_count in crashes(run, everywhere):
        disk_after_kill(run.ops[:ops_count], run.directory, work / "killed")
        run.assert_recovers(ops_count, work / "killed")
        shutil.rmtree(work / "killed")


def lose_power(run: RecordedChanges, work: Path, seed: int, everywhere: bool) -> None:
    rng = random.Random(seed)
    for ops_count in crashes(run, everywhere):
        disk_after_power_loss(run.ops[:ops_count], run.directory, work / "lost", rng)
        run.assert_recovers(ops_count, work / "lost")
        shutil.rmtree(work / "lost")


@pytest.mark.timeout(300)
def test_a_kill_while_the_catalogue_changes_leaves_no_directory_that_looks_damaged(
    run: RecordedChanges, tmp_path: Path
) -> None:
    assert len(crashes(run, everywhere=False)) > 80
    kill(run, tmp_path, everywhere=False)


@pytest.mark.timeout(300)
def test_a_power_loss_while_the_catalogue_changes_leaves_no_directory_that_looks_damaged(
    run: RecordedChanges, tmp_path: Path
) -> None:
    lose_power(run, tmp_path, 4, everywhere=False)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_crashes_at_every_operation_of_a_directory_leave_none_that_looks_damaged(
    run: RecordedChanges, tmp_path: Path
) -> None:
    kill(run, tmp_path, everywhere=True)
    for seed in range(5):
        lose_power(run, tmp_path, seed, everywhere=True)
