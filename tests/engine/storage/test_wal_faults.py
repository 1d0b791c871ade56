"""What the log does when the system refuses an operation."""

import errno
from pathlib import Path

import pytest

from headrace.engine.storage import wal_writer
from headrace.engine.storage.file_ops import FileOps, ReadableBuffer
from headrace.engine.storage.wal import Wal
from headrace.engine.storage.wal_format import FILE_HEADER_BYTES, RECORD_HEADER_BYTES
from headrace.engine.storage.wal_scan import wal_file_paths
from headrace.model.errors import NoSpace, StorageFailed
from tests.engine.storage.faulty_file_ops import FaultyFileOps


def append_synced(wal: Wal, *bodies: bytes) -> None:
    for body in bodies:
        wal.append(wal.next_seq_no, body)
    wal.sync()


def bodies_of(wal: Wal) -> list[bytes]:
    return [bytes(wal_record.body) for wal_record in wal.replay()]


def assert_stays_failed(wal: Wal, ops: FaultyFileOps, directory: Path, kept: list[bytes]) -> None:
    """Nothing is accepted or synced, though the system would do it again, until reopened."""
    ops.failing.clear()
    calls = dict(ops.calls)
    for _ in range(2):
        with pytest.raises(StorageFailed, match="until it is reopened"):
            wal.append(wal.next_seq_no, b"more")
        with pytest.raises(StorageFailed, match="until it is reopened"):
            wal.sync()
        with pytest.raises(StorageFailed, match="until it is reopened"):
            wal.cut(1)
    assert bodies_of(wal) == kept
    wal.close()
    for name in ("write", "fdatasync", "ftruncate", "unlink", "fsync_dir"):
        assert ops.calls.get(name) == calls.get(name)
    wal = Wal.open(directory, create=False)
    assert bodies_of(wal) == kept
    append_synced(wal, b"after reopening")
    wal.close()


@pytest.mark.parametrize("alone_bytes_min", [40, 2**18])
def test_a_full_disk_refuses_a_write_and_takes_the_next_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone_bytes_min: int
) -> None:
    """Every length to which a group can be cut off by a full disk, in one call or in several."""
    monkeypatch.setattr(wal_writer, "_ALONE_BYTES_MIN", alone_bytes_min)
    group = [b"two" * 10, b"three" * 10]
    group_bytes = sum(map(len, group)) + len(group) * RECORD_HEADER_BYTES
    ops = FaultyFileOps()
    wal = Wal.open(tmp_path, ops=ops)
    append_synced(wal, b"one")
    size = wal.bytes_size
    for room_bytes in range(group_bytes):
        ops.room_bytes = room_bytes
        with pytest.raises(NoSpace, match="No space left"):
            append_synced(wal, *group)
        assert wal.bytes_size == wal_file_paths(tmp_path)[0].stat().st_size == size
        assert wal.next_seq_no == 2
        assert bodies_of(wal) == [b"one"]
    ops.room_bytes = None
    append_synced(wal, *group)
    wal.close()
    wal = Wal.open(tmp_path)
    assert bodies_of(wal) == [b"one", *group]
    wal.close()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_group_refused_for_space_is_taken_back_durably(tmp_path: Path, number: int) -> None:
    ops = FaultyFileOps()
    wal = Wal.open(tmp_path, ops=ops)
    append_synced(wal, b"one")
    syncs = ops.calls["fdatasync"]
    ops.failing["write"] = number
    with pytest.raises(NoSpace):
        append_synced(wal, b"two")
    assert ops.calls["fdatasync"] == syncs + 1
    ops.failing.clear()
    append_synced(wal, b"two again")
    assert bodies_of(wal) == [b"one", b"two again"]
    wal.close()


def test_a_full_disk_while_a_file_is_begun_leaves_the_log_as_it_was(tmp_path: Path) -> None:
    """Every byte at which beginning a file and pointing to it can run out of space."""
    ops = FaultyFileOps()
    wal = Wal.open(tmp_path, file_bytes_max=1, ops=ops)
    append_synced(wal, b"one")
    (path,) = wal_file_paths(tmp_path)
    before = path.read_bytes()
    for room_bytes in range(FILE_HEADER_BYTES + RECORD_HEADER_BYTES):
        ops.room_bytes = room_bytes
        with pytest.raises(NoSpace):
            append_synced(wal, b"two")
        assert wal_file_paths(tmp_path) == [path]
        assert path.read_bytes() == before
    ops.room_bytes = None
    append_synced(wal, b"two")
    wal.close()
    wal = Wal.open(tmp_path)
    assert bodies_of(wal) == [b"one", b"two"]
    wal.close()


def test_a_log_opens_cuts_and_closes_on_a_full_disk(tmp_path: Path) -> None:
    wal = Wal.open(tmp_path, file_bytes_max=1)
    append_synced(wal, b"one")
    append_synced(wal, b"two")
    wal.close()
    ops = FaultyFileOps()
    ops.room_bytes = 0
    ops.failing["open"], ops.fails_after["open"] = errno.ENOSPC, 1
    wal = Wal.open(tmp_path, ops=ops)
    assert bodies_of(wal) == [b"one", b"two"]
    wal.cut(2)
    with pytest.raises(NoSpace):
        append_synced(wal, b"three")
    wal.close()
    wal = Wal.open(tmp_path)
    assert [bytes(wal_record.body) for wal_record in wal.replay(1)] == [b"two"]
    wal.close()


@pytest.mark.parametrize(
    ("operation", "number"),
    [("write", errno.EIO), ("fdatasync", errno.EIO), ("fdatasync", errno.ENOSPC)],
)
def test_a_failed_write_or_sync_is_final_until_reopened(
    tmp_path: Path, operation: str, number: int
) -> None:
    ops = FaultyFileOps()
    wal = Wal.open(tmp_path, ops=ops)
    append_synced(wal, b"one")
    ops.failing[operation] = number
    with pytest.raises(StorageFailed):
        append_synced(wal, b"two")
    assert_stays_failed(wal, ops, tmp_path, [b"one"])


def test_a_write_to_a_file_that_somebody_removed_is_refused(tmp_path: Path) -> None:
    wal = Wal.open(tmp_path)
    append_synced(wal, b"one")
    for path in tmp_path.iterdir():
        path.unlink()
    for body in (b"two", b"three"):
        with pytest.raises(StorageFailed, match="removed while it was open"):
            append_synced(wal, body)
    wal.close()


def test_a_log_that_somebody_removed_is_closed(tmp_path: Path) -> None:
    wal = Wal.open(tmp_path)
    append_synced(wal, b"one")
    for path in tmp_path.iterdir():
        path.unlink()
    wal.close()


@pytest.mark.parametrize("operation", ["ftruncate", "fdatasync"])
def test_a_full_disk_is_final_if_the_write_cannot_be_taken_back(
    tmp_path: Path, operation: str
) -> None:
    ops = FaultyFileOps()
    wal = Wal.open(tmp_path, ops=ops)
    append_synced(wal, b"one")
    ops.room_bytes = 10
    ops.failing[operation] = errno.EIO
    with pytest.raises(StorageFailed, match="taking back"):
        append_synced(wal, b"two")
    assert_stays_failed(wal, ops, tmp_path, [b"one"])


@pytest.mark.parametrize("operation", ["open", "write", "fdatasync", "fsync_dir"])
def test_a_failure_while_a_file_is_begun_is_final_until_reopened(
    tmp_path: Path, operation: str
) -> None:
    ops = FaultyFileOps()
    wal = Wal.open(tmp_path, file_bytes_max=1, ops=ops)
    append_synced(wal, b"one")
    ops.failing[operation] = errno.EIO
    with pytest.raises(StorageFailed):
        append_synced(wal, b"two")
    assert_stays_failed(wal, ops, tmp_path, [b"one"])


@pytest.mark.parametrize("operation", ["write", "fdatasync"])
def test_a_failure_to_point_to_the_next_file_is_final_until_reopened(
    tmp_path: Path, operation: str
) -> None:
    ops = FaultyFileOps()
    wal = Wal.open(tmp_path, file_bytes_max=1, ops=ops)
    append_synced(wal, b"one")
    ops.failing[operation] = errno.EIO
    ops.fails_after[operation] = ops.calls[operation] + 1
    with pytest.raises(StorageFailed):
        append_synced(wal, b"two")
    assert len(wal_file_paths(tmp_path)) == 2
    assert_stays_failed(wal, ops, tmp_path, [b"one"])


@pytest.mark.parametrize("operation", ["unlink", "fsync_dir"])
def test_a_failed_cut_is_final_until_reopened(tmp_path: Path, operation: str) -> None:
    ops = FaultyFileOps()
    wal = Wal.open(tmp_path, file_bytes_max=1, ops=ops)
    append_synced(wal, b"one")
    append_synced(wal, b"two")
    ops.failing[operation] = errno.EIO
    with pytest.raises(StorageFailed):
        wal.cut(1)
    ops.failing.clear()
    with pytest.raises(StorageFailed, match="until it is reopened"):
        wal.append(3, b"three")
    wal.close()
    wal = Wal.open(tmp_path)
    assert [bytes(wal_record.body) for wal_record in wal.replay(1)] == [b"two"]
    wal.close()


@pytest.mark.parametrize("operation", ["read_file", "open", "fdatasync", "fsync_dir"])
def test_a_log_that_cannot_be_read_or_synced_does_not_open(tmp_path: Path, operation: str) -> None:
    wal = Wal.open(tmp_path)
    append_synced(wal, b"one")
    wal.close()
    ops = FaultyFileOps()
    ops.failing[operation] = errno.EIO
    with pytest.raises(StorageFailed, match="Input/output error"):
        Wal.open(tmp_path, ops=ops)


def test_no_free_descriptor_lets_a_file_grow_beyond_its_bound(tmp_path: Path) -> None:
    ops = FaultyFileOps()
    wal = Wal.open(tmp_path, file_bytes_max=1, ops=ops)
    append_synced(wal, b"one")
    for operation in ("open", "fsync_dir"):
        ops.failing[operation] = errno.EMFILE
        append_synced(wal, operation.encode())
        assert len(wal_file_paths(tmp_path)) == 1
        ops.failing.clear()
    append_synced(wal, b"in the next file")
    assert len(wal_file_paths(tmp_path)) == 2
    wal.close()
    wal = Wal.open(tmp_path)
    assert bodies_of(wal) == [b"one", b"open", b"fsync_dir", b"in the next file"]
    wal.close()


@pytest.mark.parametrize(
    ("interrupted_call", "alone_bytes_min"), [(1, 2**18), (2, 2**18), (3, 2**18), (3, 1), (4, 1)]
)
def test_an_interrupted_write_is_taken_back(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    interrupted_call: int,
    alone_bytes_min: int,
) -> None:
    """A signal handler may raise at any operation: in a new file, its pointer, the group."""
    monkeypatch.setattr(wal_writer, "_ALONE_BYTES_MIN", alone_bytes_min)

    class InterruptedFileOps(FileOps):
        calls_left = -1

        def write(self, fd: int, data: ReadableBuffer, byte_offset: int) -> int:
            taken = super().write(fd, data, byte_offset)
            self.calls_left -= 1
            if self.calls_left == 0:
                raise KeyboardInterrupt
            return taken

    ops = InterruptedFileOps()
    wal = Wal.open(tmp_path, file_bytes_max=1, ops=ops)
    append_synced(wal, b"one")
    ops.calls_left = interrupted_call
    with pytest.raises(KeyboardInterrupt):
        append_synced(wal, b"two")
    assert bodies_of(wal) == [b"one"]
    append_synced(wal, b"three")
    wal.close()
    wal = Wal.open(tmp_path)
    assert bodies_of(wal) == [b"one", b"three"]
    wal.close()


def test_one_group_is_one_write_and_one_sync(tmp_path: Path) -> None:
    ops = FaultyFileOps()
    wal = Wal.open(tmp_path, ops=ops)
    before = dict(ops.calls)
    append_synced(wal, *[b"write"] * 50)
    assert ops.calls["write"] == before["write"] + 1
    assert ops.calls["fdatasync"] == before["fdatasync"] + 1
    assert ops.calls["fsync_dir"] == before["fsync_dir"]
    wal.close()


def test_large_bodies_are_written_as_they_are_and_synced_with_their_group(tmp_path: Path) -> None:
    ops = FaultyFileOps()
    wal = Wal.open(tmp_path, ops=ops)
    before = dict(ops.calls)
    large = bytes(range(256)) * 1024
    bodies = [b"one", large, b"", large[:-1], large, large + b"more", b"last"]
    append_synced(wal, *bodies)
    assert ops.calls["write"] == before["write"] + 7
    assert ops.calls["fdatasync"] == before["fdatasync"] + 1
    wal.close()
    wal = Wal.open(tmp_path)
    assert bodies_of(wal) == bodies
    wal.close()


def test_a_failure_behind_a_large_body_is_final_until_reopened(tmp_path: Path) -> None:
    ops = FaultyFileOps()
    wal = Wal.open(tmp_path, ops=ops)
    append_synced(wal, b"one")
    ops.failing["write"], ops.fails_after["write"] = errno.EIO, ops.calls["write"] + 1
    with pytest.raises(StorageFailed):
        append_synced(wal, bytes(2**18))
    assert_stays_failed(wal, ops, tmp_path, [b"one"])


def test_a_memory_error_leaves_the_log_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> bytes:
        raise MemoryError

    wal = Wal.open(tmp_path)
    append_synced(wal, b"one")
    with monkeypatch.context() as patched:
        patched.setattr(wal_writer, "encode_record_header", no_memory)
        with pytest.raises(MemoryError):
            append_synced(wal, b"two")
    append_synced(wal, b"three")
    assert bodies_of(wal) == [b"one", b"three"]
    wal.close()
