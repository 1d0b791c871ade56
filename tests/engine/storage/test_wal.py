import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.engine.storage.file_ops import FILE_OPS, FileOps
from headrace.engine.storage.wal import Wal
from headrace.engine.storage.wal_format import RECORD_BYTES_MAX
from headrace.engine.storage.wal_scan import scan_wal, wal_file_paths
from headrace.model.errors import BadRequest, CorruptFile, StorageFailed


@contextmanager
def opened(
    directory: Path,
    *,
    create: bool = True,
    file_bytes_max: int = 64 << 20,
    ops: FileOps = FILE_OPS,
) -> Iterator[Wal]:
    wal = Wal.open(directory, create=create, file_bytes_max=file_bytes_max, ops=ops)
    try:
        yield wal
    finally:
        wal.close()


def append_synced(wal: Wal, *bodies: bytes) -> None:
    for body in bodies:
        wal.append(wal.next_seq_no, body)
    wal.sync()


def replayed(wal: Wal, after_seq_no: int = 0) -> list[tuple[int, bytes]]:
    return [(record.seq_no, bytes(record.body)) for record in wal.replay(after_seq_no)]


def test_a_new_log_is_empty_and_starts_at_seq_no_1(tmp_path: Path) -> None:
    with opened(tmp_path / "wal") as wal:
        assert replayed(wal) == []
        assert (wal.next_seq_no, wal.synced_seq_no) == (1, 0)


def test_synced_writes_are_replayed_in_order_after_reopening(tmp_path: Path) -> None:
    with opened(tmp_path) as wal:
        append_synced(wal, b"one")
        append_synced(wal, b"two", b"", b"four")
    with opened(tmp_path) as wal:
        assert replayed(wal) == [(1, b"one"), (2, b"two"), (3, b""), (4, b"four")]
        assert wal.next_seq_no == 5


def test_replay_starts_after_the_given_seq_no(tmp_path: Path) -> None:
    with opened(tmp_path, file_bytes_max=1) as wal:
        for n in range(1, 7):
            append_synced(wal, b"%d" % n)
    with opened(tmp_path) as wal:
        assert replayed(wal, after_seq_no=4) == [(5, b"5"), (6, b"6")]
        assert replayed(wal, after_seq_no=6) == []


def test_pending_writes_are_not_replayed(tmp_path: Path) -> None:
    with opened(tmp_path) as wal:
        append_synced(wal, b"one")
        wal.append(2, b"two")
        assert replayed(wal) == [(1, b"one")]
    with opened(tmp_path) as wal:
        assert replayed(wal) == [(1, b"one")]


def test_a_discarded_group_leaves_its_seq_nos_to_the_next(tmp_path: Path) -> None:
    with opened(tmp_path) as wal:
        wal.append(1, b"discarded")
        wal.discard_pending()
        assert wal.next_seq_no == 1
        append_synced(wal, b"kept")
        assert replayed(wal) == [(1, b"kept")]


def test_a_sync_without_pending_writes_changes_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as wal:
        size = wal.bytes_size
        wal.sync()
        assert wal.bytes_size == size


def test_a_file_at_its_bound_is_followed_by_another(tmp_path: Path) -> None:
    with opened(tmp_path, file_bytes_max=200) as wal:
        for _ in range(6):
            append_synced(wal, bytes(60))
    names = [path.name for path in wal_file_paths(tmp_path)]
    assert names == [f"{seq_no:020d}.wal" for seq_no in (1, 3, 5)]


def test_bytes_size_is_the_size_of_the_files(tmp_path: Path) -> None:
    with opened(tmp_path, file_bytes_max=100) as wal:
        for n in range(5):
            append_synced(wal, bytes(n * 10))
        assert wal.bytes_size == sum(path.stat().st_size for path in wal_file_paths(tmp_path))


def test_a_body_over_the_bound_is_refused(tmp_path: Path) -> None:
    class LongBody(bytes):
        def __len__(self) -> int:
            return RECORD_BYTES_MAX + 1

    with opened(tmp_path) as wal:
        with pytest.raises(BadRequest, match=str(RECORD_BYTES_MAX)):
            wal.append(1, LongBody())
        append_synced(wal, b"next")


def test_a_cut_removes_only_files_whose_writes_are_all_cut(tmp_path: Path) -> None:
    with opened(tmp_path, file_bytes_max=200) as wal:
        for n in range(6):
            append_synced(wal, b"%060d" % n)
        wal.cut(3)
        assert [path.name for path in wal_file_paths(tmp_path)] == [
            f"{seq_no:020d}.wal" for seq_no in (3, 5)
        ]
        assert [seq_no for seq_no, _ in replayed(wal, after_seq_no=3)] == [4, 5, 6]


def test_a_cut_of_all_writes_gives_the_space_back_and_keeps_the_next_seq_no(
    tmp_path: Path,
) -> None:
    with opened(tmp_path, file_bytes_max=200) as wal:
        for n in range(6):
            append_synced(wal, b"%060d" % n)
        wal.cut(6)
        assert wal.bytes_size < 100
        assert wal.next_seq_no == 7
    with opened(tmp_path) as wal:
        assert replayed(wal, after_seq_no=6) == []
        append_synced(wal, b"seven")
        wal.cut(6)
        assert replayed(wal, after_seq_no=6) == [(7, b"seven")]


def test_a_log_created_at_a_seq_no_continues_from_there(tmp_path: Path) -> None:
    wal = Wal.create(tmp_path / "wal", first_seq_no=41)
    append_synced(wal, b"41")
    wal.close()
    with opened(tmp_path / "wal", create=False) as wal:
        assert replayed(wal, after_seq_no=40) == [(41, b"41")]


def test_a_log_that_must_exist_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(CorruptFile, match="the files of a log"):
        Wal.open(tmp_path, create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_log_that_begins_after_the_checkpoint_is_refused(tmp_path: Path) -> None:
    wal = Wal.create(tmp_path / "wal", first_seq_no=41)
    with pytest.raises(CorruptFile, match="from seq_no 40 on, found one from seq_no 41"):
        wal.replay(after_seq_no=39)
    wal.close()


def test_a_log_that_ends_before_the_checkpoint_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as wal:
        append_synced(wal, b"one")
        with pytest.raises(CorruptFile, match="through seq_no 2, found one through seq_no 1"):
            wal.replay(after_seq_no=2)


def test_closing_twice_writes_one_closing_record(tmp_path: Path) -> None:
    with opened(tmp_path) as wal:
        append_synced(wal, b"one")
        wal.close()
        size = wal.bytes_size
    with opened(tmp_path):
        pass
    with opened(tmp_path) as wal:
        assert wal.bytes_size == size


def test_a_closed_log_refuses_writes(tmp_path: Path) -> None:
    with opened(tmp_path) as wal:
        wal.close()
        with pytest.raises(StorageFailed, match="closed"):
            wal.append(1, b"late")


def test_a_forked_child_neither_writes_nor_closes_the_log(tmp_path: Path) -> None:
    with opened(tmp_path) as wal:
        append_synced(wal, b"parent")
        size = wal.bytes_size
        child_pid = os.fork()
        if child_pid == 0:
            refused = 1
            try:
                wal.append(2, b"child")
            except StorageFailed:
                refused = 0
            wal.close()
            os._exit(refused)
        assert os.waitstatus_to_exitcode(os.waitpid(child_pid, 0)[1]) == 0
        assert wal_file_paths(tmp_path)[0].stat().st_size == size
        append_synced(wal, b"parent again")
        assert len(replayed(wal)) == 2


def test_a_scan_changes_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as wal:
        append_synced(wal, b"one")
        path = wal_file_paths(tmp_path)[0]
        path.write_bytes(path.read_bytes() + b"torn")
        before = path.read_bytes()
        torn_tail = scan_wal(tmp_path).torn_tail
        assert torn_tail is not None
        assert torn_tail.bytes_count == 4
        assert path.read_bytes() == before


def test_other_files_in_the_directory_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a log")
    with opened(tmp_path) as wal:
        append_synced(wal, b"one")
        wal.cut(1)
    assert (tmp_path / "notes.txt").read_text() == "not a log"


actions = st.lists(
    st.one_of(
        st.lists(st.binary(max_size=300), min_size=1, max_size=4).map(lambda b: ("group", b)),
        st.just(("discard", [b"x"])),
        st.just(("reopen", [])),
        st.just(("cut", [])),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(actions=actions, file_bytes_max=st.sampled_from([1, 300, 1000, 1 << 20]))
def test_any_sequence_of_groups_cuts_and_restarts_keeps_every_synced_write(
    tmp_path_factory: pytest.TempPathFactory,
    actions: list[tuple[str, list[bytes]]],
    file_bytes_max: int,
) -> None:
    directory = tmp_path_factory.mktemp("wal")
    kept: list[tuple[int, bytes]] = []
    checkpoint = 0
    wal = Wal.open(directory, file_bytes_max=file_bytes_max)
    for kind, bodies in actions:
        if kind == "group":
            kept += [(wal.next_seq_no + n, body) for n, body in enumerate(bodies)]
            append_synced(wal, *bodies)
        elif kind == "discard":
            wal.append(wal.next_seq_no, bodies[0])
            wal.discard_pending()
        elif kind == "reopen":
            wal.close()
            wal = Wal.open(directory, create=False, file_bytes_max=file_bytes_max)
        else:
            checkpoint = wal.synced_seq_no - len(kept) // 2
            wal.cut(checkpoint)
        kept = [(seq_no, body) for seq_no, body in kept if seq_no > checkpoint]
        assert replayed(wal, checkpoint) == kept
    wal.close()
