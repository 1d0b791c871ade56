"""A kill right before names are synced, an opening, and a power loss after that.

What the opening has found, and its catalogue says, must still be there.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from headrace.engine.catalogue import CATALOGUE_DOCUMENT, read_catalogue
from headrace.engine.engine import Engine
from headrace.engine.upkeep.check import check_directory
from tests.crash.test_catalogue_crash import state_of_all, write_note
from tests.crash.test_engine_crash import CONFIG
from tests.engine.snapshot.collections import fill
from tests.engine.storage.faulty_file_ops import FaultyFileOps
from tests.engine.storage.simulated_disk import Killed, RecordingFileOps, disk_after_power_loss


class KilledAtSync(RecordingFileOps):
    """Killed right before a directory is synced, once its path is given."""

    def __init__(self) -> None:
        super().__init__()
        self.kill_at: Path | None = None

    def fsync_dir(self, path: Path) -> None:
        if path == self.kill_at:
            self.killed_after = len(self.log)
        super().fsync_dir(path)


class NothingKept(random.Random):
    """Chooses the power loss that keeps nothing but what was synced."""

    def randint(self, a: int, b: int) -> int:
        return a

    def choice(self, seq: Any) -> Any:
        return seq[0]


CHANGES: dict[str, tuple[str, Callable[[Engine], object]]] = {
    "make": ("collections", lambda engine: engine.create_collection("new", CONFIG)),
    "delete": ("collections", lambda engine: engine.delete_collection("c")),
    "checkpoint": ("collections/c", lambda engine: engine.collection("c").checkpoint()),
    "catalogue": (".", lambda engine: engine.write_settings("quotas", {"points": 1})),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_an_opening_after_a_kill_has_found_outlives_a_power_loss(
    change: str, tmp_path: Path
) -> None:
    directory = tmp_path / "data"
    (directory / "collections").mkdir(parents=True)
    ops = KilledAtSync()
    ops.adopt(directory)
    engine = Engine.open(directory, ops)
    engine.create_collection("c", CONFIG)
    fill(engine.collection("c"), 1)
    engine.collection("c").checkpoint()
    fill(engine.collection("c"), 2)
    place, run = CHANGES[change]
    ops.kill_at = directory / place
    with pytest.raises(Killed):
        run(engine)
    with suppress(Killed):
        engine.close()
    ops.kill_at = ops.killed_after = None

    engine = Engine.open(directory, ops)
    found = state_of_all(engine)
    generation = read_catalogue(directory).generation
    disk_after_power_loss(ops.log, directory, tmp_path / "lost", NothingKept())
    engine.close()

    assert (tmp_path / "lost" / CATALOGUE_DOCUMENT).exists()
    write_note(tmp_path / "lost", generation)
    assert check_directory(tmp_path / "lost").problems == []
    engine = Engine.open(tmp_path / "lost", FaultyFileOps())
    assert state_of_all(engine) == found
    engine.close()
