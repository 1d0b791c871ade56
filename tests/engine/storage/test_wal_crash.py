"""What a log holds after the process was killed, or the power lost, at any operation."""

import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.engine.storage import wal_writer
from headrace.engine.storage.wal import Wal
from headrace.engine.storage.wal_format import FILE_HEADER_BYTES, RECORD_HEADER_BYTES
from tests.engine.storage.faulty_file_ops import FaultyFileOps
from tests.engine.storage.simulated_disk import (
    FileOp,
    Killed,
    RecordingFileOps,
    disk_after_kill,
    disk_after_power_loss,
)

FILE_BYTES_MAX = 1500
# SIGKILLs of a writing process; each takes about a tenth of a second.
KILLS = 5


@pytest.fixture(params=[100, 2**18])
def alone_bytes_min(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bodies are written by calls of their own, and with the rest of their group."""
    monkeypatch.setattr(wal_writer, "_ALONE_BYTES_MIN", request.param)


class RecordedRun:
    """Groups, cuts and restarts against recorded operations.

    Attributes:
        ops: all operations, in order.
        bodies: every write that was ever tried, by seq_no.
        acknowledged: after how many operations which seq_no was acknowledged.
        checkpoints: after how many operations writes through which seq_no may be cut.
    """

    def __init__(self, directory: Path, rng: random.Random, steps: int) -> None:
        self.directory = directory
        self.bodies: dict[int, bytes] = {}
        self.acknowledged: list[tuple[int, int]] = [(0, 0)]
        self.checkpoints: list[tuple[int, int]] = [(0, 0)]
        directory.mkdir()
        recorder = RecordingFileOps()
        wal = Wal.create(directory / "wal", file_bytes_max=FILE_BYTES_MAX, ops=recorder)
        self.created_after = len(recorder.log)
        for _ in range(steps):
            action = rng.random()
            if action < 0.1:
                self.checkpoints.append((len(recorder.log), wal.synced_seq_no))
                wal.cut(wal.synced_seq_no)
            elif action < 0.2:
                wal.close()
                wal = Wal.open(directory / "wal", file_bytes_max=FILE_BYTES_MAX, ops=recorder)
            else:
                self._append_group(wal, rng)
                self.acknowledged.append((len(recorder.log), wal.synced_seq_no))
        wal._writer.close()
        self.ops: list[FileOp] = recorder.log

    def _append_group(self, wal: Wal, rng: random.Random) -> None:
        for _ in range(rng.randint(1, 4)):
            body = rng.randbytes(rng.choice((0, 10, 100, 600)))
            self.bodies[wal.next_seq_no] = body
            wal.append(wal.next_seq_no, body)
        wal.sync()

    def acknowledged_by(self, ops_count: int) -> int:
        return max(seq_no for after, seq_no in self.acknowledged if after <= ops_count)

    def checkpoint_by(self, ops_count: int) -> int:
        return max(seq_no for after, seq_no in self.checkpoints if after <= ops_count)

    def assert_recovers(self, ops_count: int, directory: Path) -> None:
        """No acknowledged write is lost, none is changed, and the log goes on."""
        checkpoint = self.checkpoint_by(ops_count)
        ops = FaultyFileOps()
        wal = Wal.open(directory / "wal", create=False, ops=ops)
        found = {record.seq_no: bytes(record.body) for record in wal.replay(checkpoint)}
        assert list(found) == list(range(checkpoint + 1, wal.next_seq_no))
        assert wal.synced_seq_no >= self.acknowledged_by(ops_count)
        assert all(self.bodies[seq_no] == body for seq_no, body in found.items())
        wal.append(wal.next_seq_no, b"goes on")
        wal.sync()
        wal.close()
        wal = Wal.open(directory / "wal", create=False, ops=ops)
        *_, last = wal.replay(checkpoint)
        assert bytes(last.body) == b"goes on"
        wal.close()


@pytest.mark.usefixtures("alone_bytes_min")
def test_a_kill_at_any_operation_keeps_every_acknowledged_write(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path / "run", random.Random(1), steps=40)
    for ops_count in range(run.created_after, len(run.ops) + 1):
        directory = tmp_path / "killed"
        disk_after_kill(run.ops[:ops_count], run.directory, directory)
        run.assert_recovers(ops_count, directory)
        shutil.rmtree(directory)


@pytest.mark.usefixtures("alone_bytes_min")
def test_a_power_loss_at_any_operation_keeps_every_acknowledged_write(tmp_path: Path) -> None:
    for seed in range(3):
        rng = random.Random(seed)
        run = RecordedRun(tmp_path / f"run{seed}", rng, steps=30)
        for ops_count in range(run.created_after, len(run.ops) + 1):
            assert_recovers_from_power_loss(run, ops_count, tmp_path / "lost", rng)


@pytest.mark.slow
@pytest.mark.usefixtures("alone_bytes_min")
def test_1000_power_losses_keep_every_acknowledged_write(tmp_path: Path) -> None:
    for seed in range(100, 1100):
        rng = random.Random(seed)
        run = RecordedRun(tmp_path / "run", rng, steps=30)
        ops_count = rng.randint(run.created_after, len(run.ops))
        assert_recovers_from_power_loss(run, ops_count, tmp_path / "lost", rng)
        shutil.rmtree(run.directory)


def assert_recovers_from_power_loss(
    run: RecordedRun, ops_count: int, directory: Path, rng: random.Random
) -> None:
    disk_after_power_loss(run.ops[:ops_count], run.directory, directory, rng)
    run.assert_recovers(ops_count, directory)
    shutil.rmtree(directory)


def test_a_power_loss_while_a_log_is_created_leaves_none_or_an_empty_one(tmp_path: Path) -> None:
    for seed in range(50):
        rng = random.Random(seed)
        recorder = RecordingFileOps()
        (tmp_path / f"run{seed}").mkdir()
        Wal.create(tmp_path / f"run{seed}" / "wal", ops=recorder)._writer.close()
        directory = tmp_path / f"lost{seed}"
        ops_count = rng.randint(0, len(recorder.log))
        disk_after_power_loss(recorder.log[:ops_count], tmp_path / f"run{seed}", directory, rng)
        wal = Wal.open(directory / "wal")
        assert wal.next_seq_no == 1
        wal.close()


@pytest.mark.usefixtures("alone_bytes_min")
def test_a_second_power_loss_during_recovery_keeps_every_acknowledged_write(
    tmp_path: Path,
) -> None:
    for seed in range(40):
        rng = random.Random(seed)
        run = RecordedRun(tmp_path / f"run{seed}", rng, steps=12)
        ops_count = rng.randint(run.created_after, len(run.ops))
        once = tmp_path / f"once{seed}"
        disk_after_power_loss(run.ops[:ops_count], run.directory, once, rng)
        recorder = RecordingFileOps()
        recorder.adopt(once)
        Wal.open(once / "wal", ops=recorder)._writer.close()
        twice = tmp_path / f"twice{seed}"
        disk_after_power_loss(
            recorder.log[: rng.randint(recorder.adopted, len(recorder.log))], once, twice, rng
        )
        run.assert_recovers(ops_count, twice)


def test_writes_that_are_served_after_a_kill_survive_a_power_loss(tmp_path: Path) -> None:
    """The killed process had written them, and not synced them yet."""
    for killed_after in range(1, 40):
        rng = random.Random(killed_after)
        directory = tmp_path / f"run{killed_after}"
        directory.mkdir()
        recorder = RecordingFileOps()
        wal = Wal.create(directory / "wal", file_bytes_max=200, ops=recorder)
        recorder.killed_after = len(recorder.log) + killed_after
        with pytest.raises(Killed):
            _append_until_killed(wal)
        wal._writer.close()
        recorder.killed_after = None
        wal = Wal.open(directory / "wal", create=False, ops=recorder)
        served = [bytes(record.body) for record in wal.replay()]
        wal._writer.close()
        disk_after_power_loss(recorder.log, directory, tmp_path / f"lost{killed_after}", rng)
        wal = Wal.open(tmp_path / f"lost{killed_after}" / "wal", create=False)
        assert [bytes(record.body) for record in wal.replay()] == served
        wal.close()


def _append_until_killed(wal: Wal) -> None:
    for n in range(100):
        wal.append(wal.next_seq_no, b"%070d" % n)
        wal.sync()


WRITING_PROGRAM = """
import sys
from pathlib import Path
from headrace.engine.storage.wal import Wal

wal = Wal.open(Path(sys.argv[1]), file_bytes_max=20_000)
print("open", flush=True)
for _ in range(100_000):
    seq_no = wal.next_seq_no
    wal.append(seq_no, b"%d " % seq_no * (seq_no % 50 + 1))
    wal.append(seq_no + 1, b"%d " % (seq_no + 1))
    wal.sync()
    print(seq_no + 1, flush=True)
"""


def test_a_killed_process_loses_no_acknowledged_write(tmp_path: Path) -> None:
    rng = random.Random(8)
    for _ in range(KILLS):
        acknowledged = _acknowledged_until_killed(tmp_path / "wal", rng.randint(1, 60))
        wal = Wal.open(tmp_path / "wal", create=False, file_bytes_max=20_000)
        found = [(record.seq_no, bytes(record.body)) for record in wal.replay()]
        wal.close()
        assert len(found) >= acknowledged
        for place, (seq_no, body) in enumerate(found, start=1):
            assert seq_no == place
            assert set(body.split()) == {b"%d" % seq_no}


def _acknowledged_until_killed(directory: Path, acknowledgements: int) -> int:
    """Kill a writer some time after so many acknowledgements; the last one that was read."""
    program = [sys.executable, "-c", WRITING_PROGRAM, str(directory)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "open\n"
            for _ in range(acknowledgements):
                assert process.stdout.readline()
        finally:
            process.send_signal(signal.SIGKILL)
        # A line that the kill cut off may be a beginning of a number, which is smaller.
        return max(int(line) for line in process.stdout.read().split() or ["0"])


def test_a_file_whose_removal_was_lost_is_removed_again(tmp_path: Path) -> None:
    """A file was begun and given up for lack of space, then the log went on in the old one."""
    wal = Wal.open(tmp_path, file_bytes_max=1)
    for body in (b"one", b"two"):
        wal.append(wal.next_seq_no, body)
        wal.sync()
    wal.close()
    first, second = sorted(tmp_path.iterdir())
    given_up = second.read_bytes()[:FILE_HEADER_BYTES]
    second.unlink()
    first.write_bytes(first.read_bytes()[:-RECORD_HEADER_BYTES])
    wal = Wal.open(tmp_path)
    wal.append(2, b"in the old file")
    wal.sync()
    wal.close()
    second.write_bytes(given_up)
    wal = Wal.open(tmp_path)
    assert [bytes(record.body) for record in wal.replay()] == [b"one", b"in the old file"]
    assert not second.exists()
    wal.close()
