"""Every operation on a file fails once, or from then on: nothing is acknowledged that is lost."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.engine.engine import Engine
from headrace.model.errors import HeadraceError, StorageFailed
from tests.crash.test_engine_crash import compact, seal
from tests.crash.test_engine_kill import CONFIG, assert_whole, numbered_batch, stored_number
from tests.engine.storage.faulty_file_ops import FaultyFileOps

# What takes a failed write back, `ftruncate`, has its tests in tests/engine/storage.
OPERATIONS = [
    "open",
    "read_file",
    "write",
    "fdatasync",
    "rename",
    "unlink",
    "fsync_dir",
]
WRITER = 1


class FailingOps(FaultyFileOps):
    """Fails one call of one operation, or every one from that on.

    Attributes:
        failed: how many calls did.
    """

    def __init__(self, operation: str, call: int, *, once: bool) -> None:
        super().__init__()
        self.failing[operation] = errno.EIO
        self.fails_after[operation] = call
        self.failed = 0
        self._once = once

    def _check(self, name: str) -> None:
        try:
            super()._check(name)
        except OSError:
            self.failed += 1
            if self._once:
                self.failing = {}
            raise


def run(directory: Path, ops: FailingOps) -> int:
    """Write, checkpoint, seal, compact, snapshot and reopen; returns the last acknowledged."""
    last = tried = 0
    engine: Engine | None = None

    def step(work: Callable[[Engine], object]) -> bool:
        with contextlib.suppress(HeadraceError, OSError):
            if engine is not None and engine.has_collection("c"):
                work(engine)
                return True
        return False

    def write() -> None:
        # A number is never tried twice: one that failed may be there at the next opening.
        nonlocal last, tried
        tried += 1
        batch = numbered_batch(WRITER, tried)
        if step(lambda e: e.collection("c").write(batch)):
            last = tried

    for _ in range(2):
        with contextlib.suppress(HeadraceError, OSError):
            engine = Engine.open(directory, ops)
        for _ in range(6):
            write()
        step(lambda e: seal(e, e.collection("c")))
        step(lambda e: e.collection("c").checkpoint())
        write()
        step(lambda e: compact(e.collection("c")))
        step(lambda e: e.create_snapshot("c"))
        if engine is not None:
            with contextlib.suppress(HeadraceError, OSError):
                engine.close()
        engine = None
    return last


def fail_each_call(stored: Path, tmp_path: Path, operation: str, every: int, once: bool) -> int:
    """Returns at how many calls of the operation a run met an error."""
    call = 0
    while True:
        directory = tmp_path / "failing"
        shutil.copytree(stored, directory)
        ops = FailingOps(operation, call, once=once)
        last = run(directory, ops)
        assert_whole(directory, {WRITER: last})
        shutil.rmtree(directory)
        if not ops.failed:
            return call // every
        call += every


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("stored")
    engine = Engine.open(directory)
    engine.create_collection("c", CONFIG)
    engine.close()
    return directory


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_io_error_now_and_then_acknowledges_nothing_that_is_lost(
    stored: Path, tmp_path: Path, operation: str
) -> None:
    assert fail_each_call(stored, tmp_path, operation, every=11, once=True) > 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("once", [True, False], ids=["once", "for good"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_io_error_at_any_call_acknowledges_nothing_that_is_lost(
    stored: Path, tmp_path: Path, operation: str, once: bool
) -> None:
    assert fail_each_call(stored, tmp_path, operation, every=1, once=once) > 0


def test_a_failed_sync_ends_writing_until_the_directory_is_opened_anew(
    stored: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "failing"
    shutil.copytree(stored, directory)
    ops = FaultyFileOps()
    engine = Engine.open(directory, ops)
    collection = engine.collection("c")
    collection.write(numbered_batch(WRITER, 1))
    ops.failing["fdatasync"] = errno.EIO
    with pytest.raises(StorageFailed):
        collection.write(numbered_batch(WRITER, 2))
    # The disk is well again, and that proves nothing: the sync is not tried again.
    ops.failing = {}
    syncs = ops.calls["fdatasync"]
    for number in (2, 3):
        with pytest.raises(StorageFailed, match="until it is reopened"):
            collection.write(numbered_batch(WRITER, number))
    assert ops.calls["fdatasync"] == syncs
    assert stored_number(collection, WRITER) == 1
    assert collection.points_count() == 5
    engine.close()
    assert_whole(directory, {WRITER: 1})
    engine = Engine.open(directory)
    engine.collection("c").write(numbered_batch(WRITER, 2))
    engine.close()
    assert_whole(directory, {WRITER: 2})
