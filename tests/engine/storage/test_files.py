import errno
import random
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.engine.storage.files import (
    DIRECTORY_NAME_BYTES_MAX,
    collection_directory_name,
    read_document,
    remove_temporary_files,
    write_document,
    write_file_atomically,
)
from headrace.model.errors import CorruptFile, NewerFormat, NoSpace, StorageFailed
from tests.engine.storage.faulty_file_ops import FaultyFileOps
from tests.engine.storage.simulated_disk import (
    RecordingFileOps,
    disk_after_kill,
    disk_after_power_loss,
)


class Settings(msgspec.Struct):
    name: str
    count: int = 0


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file_atomically(path, b"old and long")
    write_file_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_crash_at_any_operation_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    recorder = RecordingFileOps()
    run = tmp_path / "run"
    run.mkdir()
    path = run / "file"
    write_file_atomically(path, b"old" * 1000, recorder)
    old_after = len(recorder.log)
    write_file_atomically(path, b"new" * 1000, recorder)
    rng = random.Random(1)
    for ops_count in range(old_after, len(recorder.log) + 1):
        ops = recorder.log[:ops_count]
        states = []
        for seed in range(20):
            disk_after_power_loss(ops, run, tmp_path / f"lost{ops_count}-{seed}", rng)
            states.append((tmp_path / f"lost{ops_count}-{seed}" / "file").read_bytes())
        disk_after_kill(ops, run, tmp_path / f"killed{ops_count}")
        states.append((tmp_path / f"killed{ops_count}" / "file").read_bytes())
        assert set(states) <= {b"old" * 1000, b"new" * 1000}
        if ops_count == len(recorder.log):
            assert set(states) == {b"new" * 1000}


@pytest.mark.parametrize("operation", ["open", "write", "fdatasync", "rename"])
@pytest.mark.parametrize(
    ("number", "error"),
    [(errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace), (errno.EIO, StorageFailed)],
)
def test_a_refused_operation_leaves_the_old_file(
    tmp_path: Path, operation: str, number: int, error: type[Exception]
) -> None:
    path = tmp_path / "file"
    write_file_atomically(path, b"old")
    ops = FaultyFileOps()
    ops.failing[operation] = number
    with pytest.raises(error):
        write_file_atomically(path, b"new", ops)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_short_write_on_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file_atomically(path, b"old")
    for room_bytes in range(10):
        ops = FaultyFileOps()
        ops.room_bytes = room_bytes
        with pytest.raises(NoSpace):
            write_file_atomically(path, b"new" * 4, ops)
        assert path.read_bytes() == b"old"


def test_a_directory_that_cannot_be_synced_is_reported(tmp_path: Path) -> None:
    ops = FaultyFileOps()
    ops.failing["fsync_dir"] = errno.EIO
    with pytest.raises(StorageFailed):
        write_file_atomically(tmp_path / "file", b"new", ops)


def test_temporary_files_of_a_crash_are_removed_and_others_kept(tmp_path: Path) -> None:
    recorder = RecordingFileOps()
    (tmp_path / "run").mkdir()
    write_file_atomically(tmp_path / "run" / "file", b"content", recorder)
    disk_after_kill(recorder.log[:2], tmp_path / "run", tmp_path / "killed")
    (tmp_path / "killed" / "other").write_bytes(b"")
    assert len(list((tmp_path / "killed").iterdir())) == 2
    remove_temporary_files(tmp_path / "killed")
    assert [path.name for path in (tmp_path / "killed").iterdir()] == ["other"]


def test_a_document_comes_back_as_it_was_written(tmp_path: Path) -> None:
    document = {"name": "größer\n\u2028", "n": 2**64 - 1, "list": [1.5, None, True]}
    write_document(tmp_path / "d", document)
    assert read_document(tmp_path / "d") == document


def test_a_document_comes_back_as_its_type(tmp_path: Path) -> None:
    write_document(tmp_path / "d", Settings("a", 3))
    assert read_document(tmp_path / "d", Settings) == Settings("a", 3)


def test_a_document_is_stored_as_documented(tmp_path: Path) -> None:
    write_document(tmp_path / "d", Settings("a", 3))
    assert (tmp_path / "d").read_bytes() == (
        b'headrace-document 1 2c04731b 23\n{"name":"a","count":3}\n'
    )


def test_any_flipped_bit_of_a_document_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "d"
    write_document(path, {"name": "x" * 50, "n": 17})
    whole = path.read_bytes()
    for bit in range(len(whole) * 8):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        with pytest.raises(CorruptFile) as raised:
            read_document(path)
        assert raised.value.path == str(path)


def test_a_document_cut_or_extended_anywhere_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "d"
    write_document(path, {"n": 17})
    whole = path.read_bytes()
    for data in [whole[:size] for size in range(len(whole))] + [whole + b"\n", whole + b"\0"]:
        path.write_bytes(data)
        with pytest.raises(CorruptFile):
            read_document(path)


def test_a_document_of_another_kind_is_detected(tmp_path: Path) -> None:
    write_document(tmp_path / "d", {"title": "a"})
    with pytest.raises(CorruptFile, match="name"):
        read_document(tmp_path / "d", Settings)


def test_a_document_of_a_newer_format_says_so(tmp_path: Path) -> None:
    write_document(tmp_path / "d", {})
    data = (tmp_path / "d").read_bytes()
    (tmp_path / "d").write_bytes(data.replace(b"document 1", b"document 2"))
    with pytest.raises(NewerFormat, match="a newer version of Headrace wrote it"):
        read_document(tmp_path / "d")


@pytest.mark.parametrize("header", [b"document 0", b"document x", b"document 22 0"])
def test_a_document_whose_header_names_no_newer_format_is_damaged(
    tmp_path: Path, header: bytes
) -> None:
    write_document(tmp_path / "d", {})
    data = (tmp_path / "d").read_bytes()
    (tmp_path / "d").write_bytes(data.replace(b"document 1", header))
    with pytest.raises(CorruptFile, match="headrace check") as raised:
        read_document(tmp_path / "d")
    assert not isinstance(raised.value, NewerFormat)


def test_a_missing_document_is_left_to_the_caller(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_document(tmp_path / "d")


def test_an_unreadable_document_is_reported(tmp_path: Path) -> None:
    write_document(tmp_path / "d", {})
    ops = FaultyFileOps()
    ops.failing["read_file"] = errno.EIO
    with pytest.raises(StorageFailed):
        read_document(tmp_path / "d", ops=ops)


@pytest.mark.parametrize(
    ("name", "directory_name"),
    [
        ("products_v2-eu", "products_v2-eu"),
        ("Products", "%50roducts"),
        ("..", "%2e%2e"),
        ("../x", "%2e%2e%2fx"),
        ("%2f", "%252f"),
        ("a\0b", "a%00b"),
        ("con", "%63on"),
        ("CON", "%43%4f%4e"),
        ("lpt1", "%6cpt1"),
        ("a.", "a%2e"),
        (" ", "%20"),
        ("~", "%7e"),
        ("ü", "%c3%bc"),
    ],
)
def test_directory_names(name: str, directory_name: str) -> None:
    assert collection_directory_name(name) == directory_name


def test_long_names_that_differ_at_their_end_have_different_directories(tmp_path: Path) -> None:
    names = ["𝕏" * 255, "𝕏" * 254 + "y", "a" * 200, "a" * 201, "a" * 255]
    directory_names = [collection_directory_name(name) for name in names]
    assert len(set(directory_names)) == len(names)
    for directory_name in directory_names:
        (tmp_path / directory_name).mkdir()


@given(st.lists(st.text(min_size=1, max_size=255), unique=True, max_size=5))
def test_any_name_becomes_one_safe_component_of_its_own(names: list[str]) -> None:
    directory_names = [collection_directory_name(name) for name in names]
    assert len({name.lower() for name in directory_names}) == len(names)
    for directory_name in directory_names:
        assert 0 < len(directory_name) <= DIRECTORY_NAME_BYTES_MAX
        assert set(directory_name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-%~")


def test_no_short_name_has_the_directory_of_a_long_one() -> None:
    long_name = "a" * 300
    assert collection_directory_name(collection_directory_name(long_name)) != (
        collection_directory_name(long_name)
    )
