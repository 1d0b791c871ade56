"""A data directory that is read beside the process that owns it."""

from __future__ import annotations

import random
import shutil
import threading
from pathlib import Path

import pytest

from headrace.engine.engine import Engine
from headrace.model.aliases import CreateAlias
from headrace.model.errors import CorruptFile, DirectoryInUse, Forbidden, NotFound
from headrace.model.operations import SourceOffset, WriteBatch
from headrace.model.upserts import build_upsert
from headrace.service.service import Service
from tests.crash.test_engine_crash import CONFIG, PARTITION, random_point, state_of
from tests.engine.snapshot.collections import fill, filled_engine
from tests.engine.storage.faulty_file_ops import FaultyFileOps


def contents(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_a_reader_sees_what_was_written_before_it_opened(tmp_path: Path) -> None:
    owner = filled_engine(tmp_path, "c")
    owner.collection("c").checkpoint()
    fill(owner.collection("c"), 3)
    owner.change_aliases([CreateAlias("c", "alias")])
    owner.set_source_positions([SourceOffset(PARTITION, 3)])
    snapshot = owner.create_snapshot("c")
    before = contents(tmp_path)
    expected = state_of(owner.collection("c"))
    reader = Engine.open(tmp_path, read_only=True)
    fill(owner.collection("c"), 4)
    assert state_of(reader.collection("alias")) == expected
    assert reader.source_positions(PARTITION.source) == {PARTITION: 3}
    assert reader.snapshots.list("c") == [snapshot]
    reader.close()
    reader.close()
    assert state_of(owner.collection("c")) != expected
    owner.close()
    assert before.keys() <= contents(tmp_path).keys()


def test_a_reader_changes_nothing(tmp_path: Path) -> None:
    filled_engine(tmp_path / "data", "c").close()
    killed = tmp_path / "data/collections/.making-123"
    shutil.copytree(tmp_path / "data/collections/c", killed)
    log = max((tmp_path / "data/collections/c/wal").iterdir())
    log.write_bytes(log.read_bytes() + b"torn")
    (tmp_path / "data/collections/c/.tmp-1").write_bytes(b"left")
    before = contents(tmp_path)
    reader = Engine.open(tmp_path / "data", read_only=True)
    assert reader.collection_names() == ["c"]
    assert reader.collection("c").points_count() == 38
    reader.close()
    assert contents(tmp_path) == before


def test_a_reader_refuses_every_change(tmp_path: Path) -> None:
    owner = filled_engine(tmp_path, "c")
    name = owner.create_snapshot("c").name
    reader = Service.open(tmp_path, read_only=True)
    operation = build_upsert([random_point(1, random.Random(0))], CONFIG)
    path = reader.snapshots.path("c", name)
    for change in (
        lambda: reader.write("c", [operation]),
        lambda: reader.create_collection("new", CONFIG),
        lambda: reader.delete_collection("c"),
        lambda: reader.change_aliases([CreateAlias("c", "alias")]),
        lambda: reader.set_source_positions([SourceOffset(PARTITION, 1)]),
        lambda: reader.snapshots.create("c"),
        lambda: reader.snapshots.create_full(),
        lambda: reader.snapshots.delete("c", name),
        lambda: reader.snapshots.delete_full("x"),
        lambda: reader.snapshots.incoming_path(),
        lambda: reader.snapshots.recover_upload("c", path),
    ):
        with pytest.raises(Forbidden, match="reading only"):
            change()
    assert reader.count("c") == 38
    reader.close()
    owner.close()


def test_a_reader_does_not_keep_an_owner_away(tmp_path: Path) -> None:
    filled_engine(tmp_path, "c").close()
    reader = Engine.open(tmp_path, read_only=True)
    owner = Engine.open(tmp_path)
    with pytest.raises(DirectoryInUse):
        Engine.open(tmp_path)
    fill(owner.collection("c"), 2)
    owner.close()
    reader.close()


def test_readers_beside_a_busy_owner_each_see_one_whole_state(tmp_path: Path) -> None:
    owner = Engine.open(tmp_path, FaultyFileOps())
    owner.create_collection("c", CONFIG)
    collection = owner.collection("c")
    states = [state_of(collection)]
    is_over = threading.Event()

    def write() -> None:
        rng = random.Random(1)
        taken = 0
        while not is_over.is_set():
            taken += 1
            upsert = build_upsert([random_point(n, rng) for n in rng.sample(range(9), 4)], CONFIG)
            # Written before it is known to readers of the list.
            collection.write(WriteBatch([upsert], [SourceOffset(PARTITION, taken)]))
            states.append(state_of(collection))
            if taken % 10 == 0:
                with collection._checkpoint_lock:
                    collection._compact()
                    collection.checkpoint()

    writer = threading.Thread(target=write)
    writer.start()
    seen = []
    try:
        for _ in range(30):
            acknowledged = len(states) - 1
            reader = Engine.open(tmp_path, read_only=True)
            seen.append((acknowledged, state_of(reader.collection("c"))))
            reader.close()
    finally:
        is_over.set()
        writer.join()
    for acknowledged, state in seen:
        assert acknowledged <= state["taken"]
        assert state == states[state["taken"]]
    owner.close()


def test_a_collection_between_the_two_renames_of_a_restore_is_read(tmp_path: Path) -> None:
    filled_engine(tmp_path, "c").close()
    collections = tmp_path / "collections"
    (collections / "c").rename(collections / ".replaced-c")
    reader = Engine.open(tmp_path, read_only=True)
    assert reader.collection("c").points_count() == 38
    reader.close()


def test_damage_is_found_by_a_reader_too(tmp_path: Path) -> None:
    engine = filled_engine(tmp_path, "c")
    engine.collection("c").checkpoint()
    engine.close()
    path = next(tmp_path.glob("collections/c/data/*values.data"))
    content = bytearray(path.read_bytes())
    content[4096] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptFile) as caught:
        Engine.open(tmp_path, read_only=True)
    assert caught.value.path == str(path)


def test_what_is_no_data_directory_is_not_made_one(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        Engine.open(tmp_path, read_only=True)
    assert list(tmp_path.iterdir()) == []
