"""What is there after a kill or a power loss while a snapshot is made or restored?"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headrace.engine.engine import Engine
from headrace.engine.snapshot.archive import ArchiveReader
from tests.crash.test_engine_crash import CONFIG, State, seal, state_of
from tests.engine.snapshot.collections import fill
from tests.engine.storage.faulty_file_ops import FaultyFileOps
from tests.engine.storage.simulated_disk import (
    RecordingFileOps,
    disk_after_kill,
    disk_after_power_loss,
)


class RecordedSnapshots:
    """Snapshots made and restored against recorded operations.

    Attributes:
        ops: all operations, in order.
        states: (after how many operations it was reached, the state of the collection); between
            two of them, only these two may be seen.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "collections").mkdir(parents=True)
        recorder = RecordingFileOps()
        recorder.adopt(directory)
        engine = Engine.open(directory, recorder)
        engine.create_collection("c", CONFIG)
        collection = engine.collection("c")
        self.states: list[tuple[int, State]] = []
        fill(collection, 1, points=12)
        seal(engine, collection)
        self.states.append((len(recorder.log), state_of(collection)))
        first = engine.snapshots.find("c", engine.create_snapshot("c").name)
        fill(collection, 2, points=12)
        self.states.append((len(recorder.log), state_of(collection)))
        engine.create_full_snapshot()
        engine.restore_collection("c", first)
        self.states.append((len(recorder.log), state_of(engine.collection("c"))))
        engine.restore_collection("new", first)
        engine.delete_collection("new")
        engine.snapshots.delete("c", first.name)
        engine.close()
        self.ops = recorder.log
        assert self.states[0][1] == self.states[2][1] != self.states[1][1]

    def assert_recovers(self, ops_count: int, directory: Path) -> None:
        engine = Engine.open(directory, FaultyFileOps())
        reached = [n for n, (after, _) in enumerate(self.states) if after <= ops_count]
        found = state_of(engine.collection("c"))
        assert found in [state for _, state in self.states[reached[-1] : reached[-1] + 2]]
        if "new" in engine.collection_names():
            assert state_of(engine.collection("new")) == self.states[0][1]
        for name in (None, "c"):
            for description in engine.snapshots.list(name):
                path = engine.snapshots.find(name, description.name)
                assert hashlib.sha256(path.read_bytes()).hexdigest() == description.checksum
        fill(engine.collection("c"), 9, points=3)
        engine.close()
        assert list(directory.rglob(".*")) == []


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RecordedSnapshots:
    return RecordedSnapshots(tmp_path_factory.mktemp("run"))


def test_a_kill_at_any_operation_of_a_snapshot_or_restore_leaves_the_old_or_the_new(
    run: RecordedSnapshots, tmp_path: Path
) -> None:
    for ops_count in range(run.states[0][0], len(run.ops) + 1):
        disk_after_kill(run.ops[:ops_count], run.directory, tmp_path / "killed")
        run.assert_recovers(ops_count, tmp_path / "killed")
        shutil.rmtree(tmp_path / "killed")


def test_a_power_loss_at_any_operation_of_a_snapshot_or_restore_leaves_the_old_or_the_new(
    run: RecordedSnapshots, tmp_path: Path
) -> None:
    rng = random.Random(8)
    for ops_count in range(run.states[0][0], len(run.ops) + 1):
        disk_after_power_loss(run.ops[:ops_count], run.directory, tmp_path / "lost", rng)
        run.assert_recovers(ops_count, tmp_path / "lost")
        shutil.rmtree(tmp_path / "lost")


# A child that makes a snapshot and restores it, over and over, until it is killed.
CHILD = """
import sys
from pathlib import Path
from headrace.engine.engine import Engine
from tests.engine.snapshot.collections import fill
engine = Engine.open(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    description = engine.create_snapshot("c")
    engine.restore_collection("c", engine.snapshots.find("c", description.name))
    engine.snapshots.delete("c", description.name)
"""


def kill_while_snapshotting(directory: Path, kills: int) -> None:
    engine = Engine.open(directory)
    engine.create_collection("c", CONFIG)
    fill(engine.collection("c"), 1, points=200)
    expected = state_of(engine.collection("c"))
    engine.close()
    rng = random.Random(9)
    root = str(Path(__file__).parent.parent.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in [root, *sys.path] if p)}
    for _ in range(kills):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(directory)],
            stdout=subprocess.PIPE,
            env=environment,
        )
        assert child.stdout is not None
        with child.stdout:
            assert child.stdout.readline() == b"ready\n"
            time.sleep(rng.random() * 0.2)
            child.send_signal(signal.SIGKILL)
            assert child.wait(20) == -signal.SIGKILL
        engine = Engine.open(directory)
        assert state_of(engine.collection("c")) == expected
        for description in engine.snapshots.list("c"):
            with ArchiveReader(engine.snapshots.find("c", description.name)) as reader:
                for _, chunks in reader.members():
                    for _ in chunks:
                        pass
            engine.snapshots.delete("c", description.name)
        engine.close()


@pytest.mark.timeout(120)
def test_3_kills_while_snapshots_are_made_and_restored_leave_a_whole_collection(
    tmp_path: Path,
) -> None:
    kill_while_snapshotting(tmp_path, 3)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_100_kills_while_snapshots_are_made_and_restored_leave_a_whole_collection(
    tmp_path: Path,
) -> None:
    kill_while_snapshotting(tmp_path, 100)
