"""Snapshots of running collections, and what is made of them again."""

from __future__ import annotations

import hashlib
import random
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from headrace.engine.engine import Engine
from headrace.engine.snapshot import create
from headrace.engine.snapshot.archive import never_stops
from headrace.engine.snapshot.restore import restore_directory
from headrace.engine.storage.file_ops import FILE_OPS
from headrace.model.aliases import CreateAlias
from headrace.model.collection_config import CollectionConfig, VectorParams
from headrace.model.errors import CorruptFile, NoSpace, NotFound, Unavailable, WrongInput
from headrace.model.operations import SourceOffset, SourcePartition, WriteBatch
from headrace.model.upserts import build_upsert
from headrace.model.vectors import Distance
from tests.crash.test_engine_crash import CONFIG, PARTITION, random_point, state_of
from tests.engine.snapshot.collections import fill, filled_engine
from tests.engine.storage.faulty_file_ops import FaultyFileOps


def test_a_snapshot_restores_to_the_same_collection(tmp_path: Path) -> None:
    engine = filled_engine(tmp_path, "c")
    before = state_of(engine.collection("c"))
    schema = engine.collection("c").payload_schema()
    description = engine.create_snapshot("c")
    fill(engine.collection("c"), 77)
    assert state_of(engine.collection("c")) != before
    engine.restore_collection("c", engine.snapshots.find("c", description.name))
    assert state_of(engine.collection("c")) == before
    assert engine.collection("c").payload_schema() == schema
    engine.close()
    engine = Engine.open(tmp_path)
    assert state_of(engine.collection("c")) == before
    engine.close()


def test_a_snapshot_restores_under_another_name(tmp_path: Path) -> None:
    engine = filled_engine(tmp_path, "c")
    description = engine.create_snapshot("c")
    engine.restore_collection("Other", engine.snapshots.find("c", description.name))
    assert state_of(engine.collection("Other")) == state_of(engine.collection("c"))
    engine.close()
    engine = Engine.open(tmp_path)
    assert engine.collection_names() == ["Other", "c"]
    fill(engine.collection("Other"), 5)
    assert state_of(engine.collection("Other")) != state_of(engine.collection("c"))
    engine.close()


def test_an_empty_collection_has_a_snapshot(tmp_path: Path) -> None:
    engine = Engine.open(tmp_path)
    engine.create_collection("c", CONFIG)
    description = engine.create_snapshot("c")
    engine.delete_collection("c")
    engine.restore_collection("c", engine.snapshots.find("c", description.name))
    assert engine.collection("c").points_count() == 0
    fill(engine.collection("c"), 1)
    engine.close()


def test_a_snapshot_is_described_as_its_file_is(tmp_path: Path) -> None:
    engine = filled_engine(tmp_path, "My Collection")
    description = engine.create_snapshot("My Collection")
    path = engine.snapshots.find("My Collection", description.name)
    content = path.read_bytes()
    assert description.size == len(content)
    assert description.checksum == hashlib.sha256(content).hexdigest()
    assert description.name.startswith("My_Collection-")
    assert description.name.endswith(".snapshot")
    assert engine.snapshots.list("My Collection") == [description]
    assert engine.snapshots.list(None) == []
    engine.close()


def test_the_usual_tools_read_a_snapshot(tmp_path: Path) -> None:
    engine = filled_engine(tmp_path, "c")
    path = engine.snapshots.find("c", engine.create_snapshot("c").name)
    listed = subprocess.run(["tar", "tf", path], check=True, capture_output=True, text=True)
    assert listed.stdout.splitlines()[:3] == [
        "snapshot.doc",
        "0/collection.doc",
        "0/checkpoint.doc",
    ]
    subprocess.run(["sha256sum", "-c", f"{path.name}.sha256"], check=True, cwd=path.parent)
    engine.close()


def test_a_deleted_snapshot_is_gone(tmp_path: Path) -> None:
    engine = filled_engine(tmp_path, "c")
    description = engine.create_snapshot("c")
    engine.snapshots.delete("c", description.name)
    assert engine.snapshots.list("c") == []
    assert list((tmp_path / "snapshots/c").iterdir()) == []
    with pytest.raises(NotFound):
        engine.snapshots.delete("c", description.name)
    engine.close()


def test_snapshots_outlive_their_collection(tmp_path: Path) -> None:
    engine = filled_engine(tmp_path, "c")
    before = state_of(engine.collection("c"))
    description = engine.create_snapshot("c")
    engine.delete_collection("c")
    assert engine.snapshots.list("c") == [description]
    engine.restore_collection("c", engine.snapshots.find("c", description.name))
    assert state_of(engine.collection("c")) == before
    engine.close()


def test_checkpoints_leave_the_files_of_a_running_snapshot(tmp_path: Path) -> None:
    engine = filled_engine(tmp_path, "c")
    collection = engine.collection("c")
    with collection.pinned_checkpoint() as pinned:
        names = {ref.name for ref in pinned.manifest.files()}
        for seed in range(3):
            fill(collection, seed)
            collection._compact()
            collection.checkpoint()
            assert names <= {path.name for path in (tmp_path / "collections/c/data").iterdir()}
    collection.checkpoint()
    assert not names & {path.name for path in (tmp_path / "collections/c/data").iterdir()}
    engine.close()


def snapshots_while_writing(tmp_path: Path, snapshots: int) -> None:
    """Each snapshot must show exactly one of the states that the writes went through."""
    engine = Engine.open(tmp_path, FaultyFileOps())
    engine.create_collection("c", CONFIG)
    collection = engine.collection("c")
    states = [state_of(collection)]
    is_over = threading.Event()
    failures: list[BaseException] = []

    def write() -> None:
        rng = random.Random(1)
        taken = 0
        try:
            while not is_over.is_set():
                taken += 1
                upsert = build_upsert(
                    [random_point(n, rng) for n in rng.sample(range(9), 4)], CONFIG
                )
                collection.write(WriteBatch([upsert], [SourceOffset(PARTITION, taken)]))
                states.append(state_of(collection))
                if taken % 50 == 0:
                    with collection._checkpoint_lock:
                        collection._compact()
                        collection.checkpoint()
        except BaseException as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        paths = []
        for _ in range(snapshots):
            acknowledged = len(states) - 1
            name = engine.create_snapshot("c").name
            paths.append((acknowledged, engine.snapshots.find("c", name)))
    finally:
        is_over.set()
        writer.join()
    assert not failures
    for acknowledged, path in paths:
        engine.restore_collection("restored", path)
        restored = state_of(engine.collection("restored"))
        assert acknowledged <= restored["taken"]
        assert restored == states[restored["taken"]]
    engine.close()


@pytest.mark.timeout(120)
def test_10_snapshots_while_writing_are_each_one_whole_state(tmp_path: Path) -> None:
    snapshots_while_writing(tmp_path, 10)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_100_snapshots_while_writing_are_each_one_whole_state(tmp_path: Path) -> None:
    snapshots_while_writing(tmp_path, 100)


def test_a_full_snapshot_restores_to_a_directory(tmp_path: Path) -> None:
    engine = filled_engine(tmp_path / "data", "one", "Two")
    engine.change_aliases([CreateAlias("Two", "alias")])
    engine.set_source_positions([SourceOffset(PARTITION, 7)])
    engine.write_settings("quotas", {"points": 3})
    before = [state_of(engine.collection(name)) for name in ("one", "Two")]
    archive = engine.snapshots.find(None, engine.create_full_snapshot().name)
    engine.close()
    restored = tmp_path / "restored"
    assert restore_directory(archive, restored, FILE_OPS, never_stops) == ["one", "Two"]
    engine = Engine.open(restored)
    assert [state_of(engine.collection(name)) for name in ("one", "alias")] == before
    assert engine.source_positions(PARTITION.source) == {PARTITION: 7}
    assert engine.read_settings("quotas", dict) == {"points": 3}
    engine.close()
    assert sorted(path.name for path in restored.glob("*.doc")) == ["catalogue.doc"]
    # What is gone of it is told from the start.
    shutil.rmtree(restored / "collections/one")
    with pytest.raises(CorruptFile, match="collections/one"):
        Engine.open(restored)


def test_one_collection_is_restored_from_a_full_snapshot(tmp_path: Path) -> None:
    engine = filled_engine(tmp_path, "one", "two")
    before = state_of(engine.collection("two"))
    archive = engine.snapshots.find(None, engine.create_full_snapshot().name)
    fill(engine.collection("two"), 3)
    engine.restore_collection("two", archive)
    assert state_of(engine.collection("two")) == before
    with pytest.raises(WrongInput, match="none named `three`"):
        engine.restore_collection("three", archive)
    engine.close()


def test_a_snapshot_of_other_vectors_is_refused(tmp_path: Path) -> None:
    engine = filled_engine(tmp_path, "c")
    archive = engine.snapshots.find("c", engine.create_snapshot("c").name)
    other = CollectionConfig(vectors={"": VectorParams(8, Distance.DOT)})
    engine.create_collection("other", other)
    with pytest.raises(WrongInput, match="not compatible with existing collection"):
        engine.restore_collection("other", archive)
    assert engine.collection("other").config == other
    assert sorted(path.name for path in (tmp_path / "collections").iterdir()) == ["c", "other"]
    engine.close()


def test_a_collection_is_not_restored_over_an_alias(tmp_path: Path) -> None:
    engine = filled_engine(tmp_path, "c")
    archive = engine.snapshots.find("c", engine.create_snapshot("c").name)
    engine.change_aliases([CreateAlias("c", "alias")])
    with pytest.raises(WrongInput, match="Alias with the same name"):
        engine.restore_collection("alias", archive)
    engine.close()


def test_a_restore_takes_source_positions_back_to_what_the_snapshot_took(tmp_path: Path) -> None:
    engine = filled_engine(tmp_path, "c")
    archive = engine.snapshots.find("c", engine.create_snapshot("c").name)
    later, other = SourcePartition("crash", "topic", 1), SourcePartition("crash", "other", 0)
    upsert = build_upsert([random_point(0, random.Random(0))], CONFIG)
    engine.collection("c").write(WriteBatch([upsert], [SourceOffset(later, 5)]))
    engine.set_source_positions([SourceOffset(p, 500) for p in (PARTITION, later, other)])
    engine.restore_collection("c", archive)
    assert engine.source_positions("crash") == {PARTITION: 10, other: 500}
    engine.close()


def test_a_damaged_collection_gives_no_snapshot(tmp_path: Path) -> None:
    engine = filled_engine(tmp_path, "c")
    engine.collection("c").checkpoint()
    path = max(
        (tmp_path / "collections/c/data").glob("*values.data"), key=lambda p: p.stat().st_size
    )
    content = bytearray(path.read_bytes())
    content[4100] ^= 1
    path.write_bytes(content)
    fill(engine.collection("c"), 4, points=1)
    with pytest.raises(CorruptFile):
        engine.create_snapshot("c")
    assert engine.snapshots.list("c") == []
    engine.close()


@pytest.mark.parametrize("room_bytes", [0, 700, 9000, 60_000])
def test_a_full_disk_leaves_no_half_snapshot(tmp_path: Path, room_bytes: int) -> None:
    ops = FaultyFileOps()
    engine = Engine.open(tmp_path, ops)
    engine.create_collection("c", CONFIG)
    fill(engine.collection("c"), 1)
    engine.collection("c").checkpoint()
    ops.room_bytes = room_bytes
    with pytest.raises(NoSpace):
        engine.create_snapshot("c")
    ops.room_bytes = None
    assert engine.snapshots.list("c") == []
    engine.create_snapshot("c")
    engine.close()


@pytest.mark.parametrize("room_bytes", [0, 700, 9000, 60_000])
def test_a_full_disk_leaves_no_half_restore(tmp_path: Path, room_bytes: int) -> None:
    ops = FaultyFileOps()
    engine = Engine.open(tmp_path, ops)
    engine.create_collection("c", CONFIG)
    fill(engine.collection("c"), 1)
    archive = engine.snapshots.find("c", engine.create_snapshot("c").name)
    fill(engine.collection("c"), 2)
    before = state_of(engine.collection("c"))
    ops.room_bytes = room_bytes
    with pytest.raises(NoSpace):
        engine.restore_collection("c", archive)
    ops.room_bytes = None
    assert state_of(engine.collection("c")) == before
    assert [path.name for path in (tmp_path / "collections").iterdir()] == ["c"]
    engine.restore_collection("c", archive)
    engine.close()


def test_a_failing_rename_leaves_the_old_collection(tmp_path: Path) -> None:
    ops = FaultyFileOps()
    engine = Engine.open(tmp_path, ops)
    engine.create_collection("c", CONFIG)
    fill(engine.collection("c"), 1)
    archive = engine.snapshots.find("c", engine.create_snapshot("c").name)
    fill(engine.collection("c"), 2)
    before = state_of(engine.collection("c"))
    (tmp_path / "collections/.replaced-c").write_text("a file where no directory can go")
    with pytest.raises(Exception, match="restoring"):
        engine.restore_collection("c", archive)
    assert state_of(engine.collection("c")) == before
    fill(engine.collection("c"), 3)
    engine.close()


def test_closing_gives_up_a_running_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = filled_engine(tmp_path, "c")
    begun, closing = threading.Event(), threading.Event()
    write = engine.snapshots.add

    def add_slowly(*arguments: object) -> object:
        begun.set()
        assert closing.wait(20)
        return write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(engine.snapshots, "add", add_slowly)
    errors: list[Exception] = []

    def snapshot() -> None:
        try:
            engine.create_snapshot("c")
        except Unavailable as error:
            errors.append(error)

    thread = threading.Thread(target=snapshot)
    thread.start()
    assert begun.wait(20)
    closer = threading.Thread(target=engine.close)
    closer.start()
    while not engine._is_stopping:
        pass
    closing.set()
    thread.join(20)
    closer.join(20)
    assert len(errors) == 1
    assert list((tmp_path / "snapshots/c").iterdir()) == []
    with pytest.raises(Unavailable):
        engine.create_snapshot("c")


@pytest.mark.parametrize("is_made_again", [False, True])
@pytest.mark.parametrize("moment", ["map_data_file", "write_archive"])
def test_a_collection_that_is_deleted_meanwhile_gives_no_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, is_made_again: bool
) -> None:
    engine = filled_engine(tmp_path, "c")
    _delete_at(monkeypatch, engine, moment, is_made_again)
    with pytest.raises(NotFound, match="Collection `c` doesn't exist!"):
        engine.create_snapshot("c")
    assert list(tmp_path.glob("snapshots/c/*")) == []
    engine.close()


@pytest.mark.parametrize("moment", ["map_data_file", "write_archive"])
def test_a_full_snapshot_goes_on_without_what_is_deleted_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    engine = filled_engine(tmp_path / "old", "b", "c", "d")
    engine.change_aliases([CreateAlias("c", "of c"), CreateAlias("b", "of b")])
    _delete_at(monkeypatch, engine, moment)
    description = engine.create_full_snapshot()
    states = {name: state_of(engine.collection(name)) for name in "bd"}
    path = engine.snapshots.find(None, description.name)
    restore_directory(path, tmp_path / "new", FILE_OPS, never_stops)
    engine.close()
    engine = Engine.open(tmp_path / "new")
    assert {name: state_of(engine.collection(name)) for name in "bd"} == states
    assert [alias.alias_name for alias in engine.aliases()] == ["of b"]
    assert engine.collection_names() == ["b", "d"]
    engine.close()


def test_a_full_snapshot_gives_up_where_collections_are_deleted_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = filled_engine(tmp_path, "b", "c")
    _delete_at(monkeypatch, engine, "map_data_file", is_made_again=True, times=1000)
    with pytest.raises(Unavailable, match="deleted while a snapshot of all was made"):
        engine.create_full_snapshot()
    assert engine.snapshots.list(None) == []
    engine.close()


def _delete_at(
    monkeypatch: pytest.MonkeyPatch,
    engine: Engine,
    moment: str,
    is_made_again: bool = False,
    times: int = 1,
) -> None:
    """Have the collection `c` deleted when a snapshot gets to a function."""
    done = getattr(create, moment)
    left = times

    def delete_first(*arguments: object) -> object:
        nonlocal left
        if left:
            left -= 1
            deleter = threading.Thread(target=engine.delete_collection, args=("c",))
            deleter.start()
            deleter.join(20)
            if is_made_again:
                engine.create_collection("c", CONFIG)
                fill(engine.collection("c"), 99)
        return done(*arguments)

    monkeypatch.setattr(create, moment, delete_first)


def test_a_snapshot_that_is_deleted_meanwhile_is_not_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = filled_engine(tmp_path, "c")
    kept, deleted = engine.create_snapshot("c"), engine.create_snapshot("c")
    found = list((tmp_path / "snapshots/c").iterdir())
    engine.snapshots.delete("c", deleted.name)
    monkeypatch.setattr(Path, "iterdir", lambda _: iter(found))
    assert engine.snapshots.list("c") == [kept]
    engine.close()


def test_a_snapshot_is_deleted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = filled_engine(tmp_path, "c")
    name = engine.create_snapshot("c").name
    path = engine.snapshots.find("c", name)
    engine.snapshots.delete("c", name)
    monkeypatch.setattr(engine.snapshots, "find", lambda *_: path)
    with pytest.raises(NotFound):
        engine.snapshots.delete("c", name)
    engine.close()


def test_what_an_interrupted_snapshot_left_is_removed(tmp_path: Path) -> None:
    engine = filled_engine(tmp_path, "c")
    description = engine.create_snapshot("c")
    engine.close()
    folder = tmp_path / "snapshots/c"
    (folder / ".making-0123").write_bytes(b"half")
    (folder / "c-1-2026-01-01-00-00-00.snapshot.sha256").write_bytes(b"of nothing")
    (tmp_path / "snapshots/.making-4567").write_bytes(b"half an upload")
    engine = Engine.open(tmp_path)
    assert engine.snapshots.list("c") == [description]
    assert len(list(folder.iterdir())) == 2
    assert [path.name for path in (tmp_path / "snapshots").iterdir()] == ["c"]
    engine.close()
