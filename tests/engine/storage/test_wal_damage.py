"""One test per kind of damage to a log; `docs/formats/wal.md` says what each one is."""

import random
import shutil
import struct
from bisect import bisect_right
from pathlib import Path

import pytest
from crc32c import crc32c

from headrace.engine.storage.wal import Wal
from headrace.engine.storage.wal_format import (
    BATCH_MARKER,
    CLOSED_MARKER,
    CONTINUED_MARKER,
    FILE_HEADER_BYTES,
    RECORD_HEADER_BYTES,
    encode_record_header,
    read_file_header,
    read_log_file,
)
from headrace.engine.storage.wal_scan import scan_wal, wal_file_paths
from headrace.model.errors import CorruptFile, NewerFormat

GROUPS = [[b"a" * 700, b"b"], [b"c" * 30], [b"d" * 1200, b"e" * 600, b"f" * 20]]
BODIES = [body for group in GROUPS for body in group]


def write_log(
    directory: Path,
    groups: list[list[bytes]] = GROUPS,
    *,
    file_bytes_max: int = 64 << 20,
    close: bool = False,
) -> list[Path]:
    """A log as a killed process leaves it, or a cleanly closed one; its files."""
    wal = Wal.open(directory, file_bytes_max=file_bytes_max)
    for group in groups:
        for body in group:
            wal.append(wal.next_seq_no, body)
        wal.sync()
    if close:
        wal.close()
    else:
        wal._writer.close()
    return wal_file_paths(directory)


def bodies_after_reopening(directory: Path) -> list[bytes]:
    """What is replayed; then the log must take another write and open again."""
    wal = Wal.open(directory, create=False)
    bodies = [bytes(wal_record.body) for wal_record in wal.replay()]
    wal.append(len(bodies) + 1, b"after the damage")
    wal.sync()
    wal.close()
    wal = Wal.open(directory, create=False)
    assert [bytes(wal_record.body) for wal_record in wal.replay()] == [*bodies, b"after the damage"]
    wal.close()
    return bodies


def record_starts(groups: list[list[bytes]] = GROUPS) -> list[int]:
    starts = [FILE_HEADER_BYTES]
    for body in (body for group in groups for body in group):
        starts.append(starts[-1] + RECORD_HEADER_BYTES + len(body))
    return starts


def flip_bit(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def zero(path: Path, start: int, end: int) -> None:
    data = bytearray(path.read_bytes())
    end = min(end, len(data))
    data[start:end] = bytes(end - start)
    path.write_bytes(data)


def assert_corrupt(directory: Path, path: Path, byte_offset: int | None = None) -> CorruptFile:
    """Opening names the file, and changes nothing."""
    before = {p: p.read_bytes() for p in wal_file_paths(directory)}
    with pytest.raises(CorruptFile) as raised:
        Wal.open(directory, create=False)
    assert raised.value.path == str(path)
    if byte_offset is not None:
        assert raised.value.byte_offset == byte_offset
    assert raised.value.expected != raised.value.found
    assert {p: p.read_bytes() for p in wal_file_paths(directory)} == before
    return raised.value


@pytest.mark.parametrize("close", [False, True])
def test_a_log_cut_at_any_byte_gives_the_whole_records_before_the_cut(
    tmp_path: Path, close: bool
) -> None:
    (path,) = write_log(tmp_path, close=close)
    data, starts = path.read_bytes(), record_starts()
    for size in range(FILE_HEADER_BYTES, len(data)):
        log_file = read_log_file(data[:size], str(path), may_be_torn=True)
        assert len(log_file.bodies) == sum(start <= size for start in starts) - 1
    for size in range(FILE_HEADER_BYTES, len(data), 83):
        path.write_bytes(data[:size])
        whole = sum(start <= size for start in starts) - 1
        assert bodies_after_reopening(tmp_path) == BODIES[:whole]


@pytest.mark.slow
def test_a_log_cut_at_any_byte_of_its_last_64_kib_gives_the_records_before_the_cut(
    tmp_path: Path,
) -> None:
    rng = random.Random(9)
    groups = [[rng.randbytes(rng.randint(0, 4000)) for _ in range(3)] for _ in range(20)]
    (path,) = write_log(tmp_path, groups)
    data, starts = path.read_bytes(), record_starts(groups)
    assert len(data) > 1 << 16
    for size in range(len(data) - (1 << 16), len(data)):
        log_file = read_log_file(data[:size], str(path), may_be_torn=True)
        assert len(log_file.bodies) == bisect_right(starts, size) - 1


def test_a_file_cut_within_its_header_is_a_creation_that_a_crash_stopped(tmp_path: Path) -> None:
    Wal.create(tmp_path / "whole", first_seq_no=7)._writer.close()
    (path,) = wal_file_paths(tmp_path / "whole")
    for size in range(FILE_HEADER_BYTES):
        directory = tmp_path / str(size)
        directory.mkdir()
        (directory / path.name).write_bytes(path.read_bytes()[:size])
        wal = Wal.open(directory)
        assert wal.next_seq_no == 7
        wal.close()


def test_a_file_cut_within_its_header_is_corrupt_where_a_log_must_exist(tmp_path: Path) -> None:
    (path,) = write_log(tmp_path)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(CorruptFile):
        Wal.open(tmp_path, create=False)


def test_a_dropped_tail_is_reported(tmp_path: Path) -> None:
    (path,) = write_log(tmp_path)
    path.write_bytes(path.read_bytes()[:-5])
    wal = Wal.open(tmp_path)
    start, end = record_starts()[-2:]
    assert wal.torn_tail == (path, start, end - start - 5)
    wal.close()
    wal = Wal.open(tmp_path)
    assert wal.torn_tail is None
    wal.close()


@pytest.mark.parametrize("zeros", [1, RECORD_HEADER_BYTES, 512, 4096, 100_000])
@pytest.mark.parametrize("close", [False, True])
def test_zeros_after_the_last_record_are_dropped(tmp_path: Path, zeros: int, close: bool) -> None:
    (path,) = write_log(tmp_path, close=close)
    path.write_bytes(path.read_bytes() + bytes(zeros))
    assert bodies_after_reopening(tmp_path) == BODIES


def test_foreign_bytes_after_the_last_record_are_dropped(tmp_path: Path) -> None:
    (path,) = write_log(tmp_path)
    path.write_bytes(path.read_bytes() + random.Random(1).randbytes(5000))
    assert bodies_after_reopening(tmp_path) == BODIES


def test_records_of_another_log_after_the_last_record_are_dropped(tmp_path: Path) -> None:
    (path,) = write_log(tmp_path / "a", GROUPS[:1])
    (other,) = write_log(tmp_path / "b", GROUPS)
    path.write_bytes(path.read_bytes() + other.read_bytes()[len(path.read_bytes()) :])
    assert bodies_after_reopening(tmp_path / "a") == GROUPS[0]


def test_a_body_that_holds_a_log_is_not_taken_for_later_records(tmp_path: Path) -> None:
    (other,) = write_log(tmp_path / "other", [[b"x"]] * 20)
    (path,) = write_log(tmp_path / "log", [[b"first"], [other.read_bytes()]])
    path.write_bytes(path.read_bytes()[:-1])
    assert bodies_after_reopening(tmp_path / "log") == [b"first"]


def test_any_bit_flipped_before_the_last_group_is_detected(tmp_path: Path) -> None:
    (path,) = write_log(tmp_path)
    whole, starts = path.read_bytes(), record_starts()
    last_group_start = starts[len(BODIES) - len(GROUPS[-1])]
    rng = random.Random(2)
    for bit in rng.sample(range(last_group_start * 8), 400):
        flip_bit(path, bit)
        error = assert_corrupt(tmp_path, path)
        before = max([0, *(start for start in starts if start <= bit // 8)])
        assert before <= error.byte_offset <= bit // 8
        path.write_bytes(whole)


def test_a_bit_flipped_in_the_last_group_leaves_the_records_before_it(tmp_path: Path) -> None:
    """Without a closing record, such damage cannot be told from a torn write."""
    (path,) = write_log(tmp_path)
    whole, starts = path.read_bytes(), record_starts()
    last_group_start = starts[len(BODIES) - len(GROUPS[-1])]
    rng = random.Random(3)
    for bit in rng.sample(range(last_group_start * 8, len(whole) * 8), 100):
        flip_bit(path, bit)
        records = sum(start <= bit // 8 for start in starts) - 1
        assert scan_wal(tmp_path).files[0].next_seq_no == records + 1
        path.write_bytes(whole)


def test_any_bit_flipped_after_a_clean_close_is_detected(tmp_path: Path) -> None:
    (path,) = write_log(tmp_path, close=True)
    whole = path.read_bytes()
    rng = random.Random(4)
    closing_record = range((len(whole) - RECORD_HEADER_BYTES) * 8, len(whole) * 8)
    for bit in [*rng.sample(range(len(whole) * 8), 400), *closing_record]:
        flip_bit(path, bit)
        assert_corrupt(tmp_path, path)
        path.write_bytes(whole)


def test_any_bit_flipped_in_a_log_without_writes_is_detected(tmp_path: Path) -> None:
    (path,) = write_log(tmp_path, [])
    for bit in range(FILE_HEADER_BYTES * 8):
        flip_bit(path, bit)
        assert_corrupt(tmp_path, path, 0)
        flip_bit(path, bit)


def test_any_bit_flipped_in_a_file_before_the_last_is_detected(tmp_path: Path) -> None:
    first, *_ = write_log(tmp_path, file_bytes_max=800)
    whole = first.read_bytes()
    rng = random.Random(5)
    marker = range((len(whole) - RECORD_HEADER_BYTES) * 8, len(whole) * 8)
    for bit in [*rng.sample(range(len(whole) * 8), 200), *marker]:
        flip_bit(first, bit)
        assert_corrupt(tmp_path, first)
        first.write_bytes(whole)


def test_sectors_of_the_last_group_lost_in_any_combination_give_a_prefix(tmp_path: Path) -> None:
    (path,) = write_log(tmp_path)
    whole, starts = path.read_bytes(), record_starts()
    last_group_start = starts[len(BODIES) - len(GROUPS[-1])]
    rng = random.Random(6)
    for _ in range(1000):
        data = bytearray(whole)
        lost = len(whole)
        for sector in range(last_group_start // 512, -(-len(whole) // 512)):
            start, end = max(sector * 512, last_group_start), min(sector * 512 + 512, len(whole))
            if rng.random() < 0.4:
                data[start:end] = bytes(end - start)
                lost = min(lost, start)
        path.write_bytes(data)
        file = scan_wal(tmp_path).files[0]
        # A lost sector may hold nothing but bytes that are zero anyway, never more than that.
        assert sum(start <= lost for start in starts) - 1 == file.next_seq_no - 1
    path.write_bytes(whole)


def test_swapped_sectors_of_the_last_group_give_a_prefix(tmp_path: Path) -> None:
    rng = random.Random(7)
    last_group = [rng.randbytes(3000), rng.randbytes(500)]
    (path,) = write_log(tmp_path, [[b"first"], last_group])
    whole = path.read_bytes()
    for _ in range(1000):
        data = bytearray(whole)
        one, two = rng.sample(range(1, len(whole) // 512), 2)
        data[one * 512 : one * 512 + 512] = whole[two * 512 : two * 512 + 512]
        data[two * 512 : two * 512 + 512] = whole[one * 512 : one * 512 + 512]
        path.write_bytes(data)
        assert scan_wal(tmp_path).files[0].next_seq_no in (2, 3)
    path.write_bytes(whole)


def test_a_lost_sector_that_was_synced_is_detected(tmp_path: Path) -> None:
    (path,) = write_log(tmp_path)
    whole, starts = path.read_bytes(), record_starts()
    last_group_start = starts[len(BODIES) - len(GROUPS[-1])]
    for start in range(0, last_group_start, 512):
        zero(path, start, min(start + 512, last_group_start))
        assert_corrupt(tmp_path, path)
        path.write_bytes(whole)


def test_damage_is_reported_with_the_place_and_both_checksums(tmp_path: Path) -> None:
    (path,) = write_log(tmp_path)
    body_start = record_starts()[1] + RECORD_HEADER_BYTES
    flip_bit(path, body_start * 8)
    error = assert_corrupt(tmp_path, path, body_start)
    assert error.expected.startswith("a record body with checksum 0x")
    assert error.found.startswith("one with checksum 0x")


def test_a_missing_first_file_is_detected_by_the_checkpoint(tmp_path: Path) -> None:
    first, *_ = write_log(tmp_path, file_bytes_max=1)
    first.unlink()
    wal = Wal.open(tmp_path, create=False)
    with pytest.raises(CorruptFile) as raised:
        wal.replay()
    assert raised.value.path == str(first)
    wal.close()


def test_a_missing_middle_file_is_detected(tmp_path: Path) -> None:
    _, middle, _ = write_log(tmp_path, file_bytes_max=1)
    middle.unlink()
    assert_corrupt(tmp_path, middle, 0)


def test_a_missing_last_file_is_detected(tmp_path: Path) -> None:
    *_, last = write_log(tmp_path, file_bytes_max=1)
    last.unlink()
    assert_corrupt(tmp_path, last, 0)


def test_a_last_file_cut_to_nothing_is_detected_if_the_one_before_points_to_it(
    tmp_path: Path,
) -> None:
    *_, last = write_log(tmp_path, file_bytes_max=1)
    last.write_bytes(b"")
    assert_corrupt(tmp_path, last, 0)


def test_swapped_files_are_detected(tmp_path: Path) -> None:
    first, second, _ = write_log(tmp_path, file_bytes_max=1)
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)
    assert_corrupt(tmp_path, first, 0)


def test_a_file_of_another_log_is_detected(tmp_path: Path) -> None:
    first, _, _ = write_log(tmp_path / "a", file_bytes_max=1)
    write_log(tmp_path / "b", file_bytes_max=1)
    second = wal_file_paths(tmp_path / "b")[1]
    shutil.copy(first.with_name(second.name), second)
    assert_corrupt(tmp_path / "b", second, 0)


def test_an_older_copy_of_a_file_before_the_last_is_detected(tmp_path: Path) -> None:
    (path,) = write_log(tmp_path, GROUPS[:1])
    older = path.read_bytes()
    wal = Wal.open(tmp_path, file_bytes_max=1000)
    for body in BODIES[2:]:
        wal.append(wal.next_seq_no, body)
        wal.sync()
    wal.close()
    first, second, *_ = wal_file_paths(tmp_path)
    first.write_bytes(older)
    error = assert_corrupt(tmp_path, first.with_name("00000000000000000003.wal"))
    assert second.name in error.expected


def test_a_file_before_the_last_cut_at_a_record_is_detected(tmp_path: Path) -> None:
    first, *_ = write_log(tmp_path, file_bytes_max=800)
    first.write_bytes(first.read_bytes()[: record_starts()[1]])
    assert_corrupt(tmp_path, first.with_name("00000000000000000002.wal"), 0)


def test_a_file_before_the_last_cut_within_a_record_is_detected(tmp_path: Path) -> None:
    first, *_ = write_log(tmp_path, file_bytes_max=800)
    first.write_bytes(first.read_bytes()[: record_starts()[1] + 3])
    assert_corrupt(tmp_path, first, record_starts()[1])


def test_a_lost_pointer_to_a_file_that_holds_writes_is_detected(tmp_path: Path) -> None:
    first, *_ = write_log(tmp_path, file_bytes_max=1)
    size = first.stat().st_size
    zero(first, size - RECORD_HEADER_BYTES, size)
    assert_corrupt(tmp_path, first, size - RECORD_HEADER_BYTES)


@pytest.mark.parametrize("kept_share", [0.0, 0.5, 1.0])
def test_damage_that_comes_while_the_log_is_open_is_not_replayed(
    tmp_path: Path, kept_share: float
) -> None:
    (path,) = write_log(tmp_path)
    wal = Wal.open(tmp_path)
    if kept_share < 1:
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept_share)])
    else:
        flip_bit(path, (path.stat().st_size - 1) * 8)
    with pytest.raises(CorruptFile) as raised:
        list(wal.replay())
    assert raised.value.path == str(path)
    wal._writer.close()


def test_another_format_version_is_refused(tmp_path: Path) -> None:
    (path,) = write_log(tmp_path)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, 8, 2)
    path.write_bytes(data)
    assert_corrupt(tmp_path, path, 0)


def test_a_log_of_a_newer_format_says_so(tmp_path: Path) -> None:
    (path,) = write_log(tmp_path)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, 8, 2)
    struct.pack_into("<I", data, FILE_HEADER_BYTES - 4, crc32c(data[: FILE_HEADER_BYTES - 4]))
    with pytest.raises(NewerFormat, match="format version 2"):
        read_file_header(bytes(data), str(path))


def append_by_hand(path: Path, marker: bytes, seq_no: int, body: bytes = b"") -> int:
    """Append a record with good checksums; returns where it begins."""
    data = path.read_bytes()
    seed = read_file_header(data, str(path)).seed
    path.write_bytes(
        data + encode_record_header(marker, seq_no, len(data), body, seed) + body,
    )
    return len(data)


def test_a_repeated_record_is_detected(tmp_path: Path) -> None:
    (path,) = write_log(tmp_path)
    start = append_by_hand(path, BATCH_MARKER, len(BODIES), b"again")
    assert_corrupt(tmp_path, path, start)


def test_a_seq_no_that_skips_one_is_detected(tmp_path: Path) -> None:
    (path,) = write_log(tmp_path)
    start = append_by_hand(path, BATCH_MARKER, len(BODIES) + 2, b"skips")
    assert_corrupt(tmp_path, path, start)


def test_a_record_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    (path,) = write_log(tmp_path)
    start = append_by_hand(path, b"WXYZ", len(BODIES) + 1)
    assert_corrupt(tmp_path, path, start)


def test_a_record_after_the_pointer_to_the_next_file_is_detected(tmp_path: Path) -> None:
    first, *_ = write_log(tmp_path, file_bytes_max=1)
    start = append_by_hand(first, CLOSED_MARKER, len(GROUPS[0]))
    assert_corrupt(tmp_path, first, start)


def test_a_record_moved_within_its_file_is_detected(tmp_path: Path) -> None:
    (path,) = write_log(tmp_path, [[b"one"], [b"two"], [b"six"]])
    starts = record_starts([[b"one"], [b"two"], [b"six"]])
    data = path.read_bytes()
    one, two = data[starts[0] : starts[1]], data[starts[1] : starts[2]]
    path.write_bytes(data[: starts[0]] + two + one + data[starts[2] :])
    assert_corrupt(tmp_path, path, starts[0])


def test_a_pointer_to_the_next_file_that_a_crash_cut_off_is_written_again(tmp_path: Path) -> None:
    first, second, *_ = write_log(tmp_path / "whole", [[b"one"], [b"two"]], file_bytes_max=1)
    data, header = first.read_bytes(), second.read_bytes()[:FILE_HEADER_BYTES]
    for lost in range(1, RECORD_HEADER_BYTES + 1):
        directory = tmp_path / str(lost)
        directory.mkdir()
        (directory / first.name).write_bytes(data[:-lost])
        (directory / second.name).write_bytes(header)
        assert bodies_after_reopening(directory) == [b"one"]
        assert (directory / first.name).read_bytes() == data
        assert CONTINUED_MARKER in data
