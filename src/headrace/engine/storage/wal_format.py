"""What do the bytes of a log file mean, and which of them can be believed?

The layout and the reasons are in `docs/formats/wal.md`. This file encodes, and reads one
file's bytes with verification; it opens nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from crc32c import crc32c

from headrace.engine.storage.file_ops import ReadableBuffer
from headrace.model.errors import CorruptFile, NewerFormat

FORMAT_VERSION = 1
LOG_ID_BYTES = 16
SECTOR_BYTES = 512
RECORD_BYTES_MAX = 1 << 30

BATCH_MARKER = b"WREC"
CLOSED_MARKER = b"WEND"
CONTINUED_MARKER = b"WNXT"

_MAGIC = b"HEADRWAL"
# magic, format version, zero, log id, first seq_no, checksum of all before it
_FILE_HEADER = struct.Struct("<8sII16sQI")
# marker, body length, seq_no, group start, body checksum, checksum of all before it
_RECORD_HEADER = struct.Struct("<4sIQQII")
_CHECKSUM_BYTES = 4
FILE_HEADER_BYTES = _FILE_HEADER.size
RECORD_HEADER_BYTES = _RECORD_HEADER.size

_MARKERS = (BATCH_MARKER, CLOSED_MARKER, CONTINUED_MARKER)
# A marker record of which at most a quarter is wrong was a marker record.
_RECOGNISABLE_BYTES_MIN = RECORD_HEADER_BYTES * 3 // 4


class FileHeader(NamedTuple):
    """The first bytes of a log file; `seed` starts the checksums of the file's records."""

    log_id: bytes
    first_seq_no: int
    seed: int


class BodySpan(NamedTuple):
    """Where the body of one write lies in its file."""

    seq_no: int
    start: int
    end: int


class Damage(NamedTuple):
    """The first bytes of a file that are not a record.

    Attributes:
        record_start: byte offset at which a record should begin.
        byte_offset: the part of it that is wrong.
        expected: what should be there.
        found: what is there.
    """

    record_start: int
    byte_offset: int
    expected: str
    found: str


class LogFile(NamedTuple):
    """One log file as read.

    Attributes:
        header: its file header.
        bodies: its writes, in order.
        valid_bytes: length up to which everything is whole.
        last_marker: the marker of the last whole record, b"" if there is none.
        torn: why reading stopped before the end of the file: a write that a crash cut off.
    """

    header: FileHeader
    bodies: list[BodySpan]
    valid_bytes: int
    last_marker: bytes
    torn: Damage | None

    @property
    def next_seq_no(self) -> int:
        """The seq_no that follows the last write in this file."""
        return self.header.first_seq_no + len(self.bodies)


class _RecordHeader(NamedTuple):
    marker: bytes
    body_bytes: int
    seq_no: int
    group_start: int
    body_checksum: int


def encode_file_header(log_id: bytes, first_seq_no: int) -> bytes:
    """The first `FILE_HEADER_BYTES` of a log file."""
    unsigned = _FILE_HEADER.pack(_MAGIC, FORMAT_VERSION, 0, log_id, first_seq_no, 0)
    checksum = crc32c(unsigned[:-_CHECKSUM_BYTES])
    return unsigned[:-_CHECKSUM_BYTES] + struct.pack("<I", checksum)


def encode_record_header(
    marker: bytes, seq_no: int, group_start: int, body: ReadableBuffer, seed: int
) -> bytes:
    """The header that stands before `body` in a file whose header's checksum is `seed`."""
    unsigned = _RECORD_HEADER.pack(marker, len(body), seq_no, group_start, crc32c(body, seed), 0)
    checksum = crc32c(unsigned[:-_CHECKSUM_BYTES], seed)
    return unsigned[:-_CHECKSUM_BYTES] + struct.pack("<I", checksum)


def read_file_header(data: bytes, path: str) -> FileHeader:
    """The verified header of a log file.

    Raises:
        NewerFormat: it is whole, and of a version that this one does not know.
        CorruptFile: it is damaged.
    """
    if len(data) < FILE_HEADER_BYTES:
        raise CorruptFile(path, 0, f"a file header of {FILE_HEADER_BYTES} bytes", f"{len(data)}")
    magic, version, zero, log_id, first_seq_no, checksum = _FILE_HEADER.unpack_from(data)
    actual = crc32c(data[: FILE_HEADER_BYTES - _CHECKSUM_BYTES])
    if actual != checksum:
        raise CorruptFile(
            path,
            0,
            f"a file header with checksum {checksum:#010x}",
            f"one with checksum {actual:#010x}",
        )
    if magic == _MAGIC and version > FORMAT_VERSION:
        raise NewerFormat(path, version, FORMAT_VERSION)
    if (magic, version, zero) != (_MAGIC, FORMAT_VERSION, 0):
        raise CorruptFile(
            path, 0, f"a log of format version {FORMAT_VERSION}", f"{magic!r} version {version}"
        )
    return FileHeader(log_id, first_seq_no, checksum)


def is_torn_creation(data: bytes) -> bool:
    """Whether a crash can have cut off this file's creation.

    The header is synced before anything follows it, and it lies within one sector.
    """
    if len(data) < FILE_HEADER_BYTES:
        return True
    return len(data) == FILE_HEADER_BYTES and not any(data)


def read_log_file(data: bytes, path: str, *, may_be_torn: bool) -> LogFile:
    """All whole records of one file.

    Args:
        data: the file's bytes.
        path: its name, for errors.
        may_be_torn: whether the file's last write may be unfinished: no file follows that
            was begun only once this one was synced.

    Raises:
        CorruptFile: there is damage that a crash cannot have left.
    """
    header = read_file_header(data, path)
    bodies: list[BodySpan] = []
    position = group_start = FILE_HEADER_BYTES
    last_marker = b""
    while position < len(data):
        record = _read_record(data, position, header.seed)
        if isinstance(record, Damage):
            next_seq_no = header.first_seq_no + len(bodies)
            later = _later_group_start(data, position, header.seed)
            is_marker = _is_damaged_marker(data, position, next_seq_no - 1, header.seed)
            if not may_be_torn or later is not None or is_marker:
                raise _corrupt(path, record, later)
            return LogFile(header, bodies, position, last_marker, record)
        next_seq_no = header.first_seq_no + len(bodies)
        _check_sequence(path, record, position, group_start, next_seq_no, last_marker)
        if record.group_start == position:
            group_start = position
        body_start = position + RECORD_HEADER_BYTES
        position = body_start + record.body_bytes
        if record.marker == BATCH_MARKER:
            bodies.append(BodySpan(record.seq_no, body_start, position))
        last_marker = record.marker
    return LogFile(header, bodies, position, last_marker, None)


def find_whole_bodies(data: bytes, path: str) -> Iterator[BodySpan]:
    """Every write in one file whose checksums hold, also behind damage; for repair alone.

    Raises:
        CorruptFile: the file's header is damaged, so that nothing can be verified.
    """
    seed = read_file_header(data, path).seed
    position = FILE_HEADER_BYTES
    while position < len(data):
        record = _read_record(data, position, seed)
        if isinstance(record, Damage) or record.marker not in _MARKERS:
            found = [data.find(marker, position + 1) for marker in _MARKERS]
            position = min((place for place in found if place >= 0), default=len(data))
            continue
        body_start = position + RECORD_HEADER_BYTES
        position = body_start + record.body_bytes
        if record.marker == BATCH_MARKER:
            yield BodySpan(record.seq_no, body_start, position)


def _read_record(data: bytes, position: int, seed: int) -> _RecordHeader | Damage:
    record = _read_record_header(data, position, seed)
    if isinstance(record, Damage):
        return record
    body_start = position + RECORD_HEADER_BYTES
    present = len(data) - body_start
    if record.body_bytes > present:
        expected = f"a record body of {record.body_bytes} bytes"
        return Damage(position, body_start, expected, f"{present} bytes")
    body = memoryview(data)[body_start : body_start + record.body_bytes]
    checksum = crc32c(body, seed)
    if checksum != record.body_checksum:
        return Damage(
            position,
            body_start,
            f"a record body with checksum {record.body_checksum:#010x}",
            f"one with checksum {checksum:#010x}",
        )
    return record


def _read_record_header(data: bytes, position: int, seed: int) -> _RecordHeader | Damage:
    if len(data) - position < RECORD_HEADER_BYTES:
        expected = f"a record header of {RECORD_HEADER_BYTES} bytes"
        return Damage(position, position, expected, f"{len(data) - position} bytes")
    *fields, checksum = _RECORD_HEADER.unpack_from(data, position)
    actual = crc32c(data[position : position + RECORD_HEADER_BYTES - _CHECKSUM_BYTES], seed)
    if actual != checksum:
        return Damage(
            position,
            position,
            f"a record header with checksum {checksum:#010x}",
            f"one with checksum {actual:#010x}",
        )
    return _RecordHeader(*fields)


def _check_sequence(
    path: str,
    record: _RecordHeader,
    position: int,
    group_start: int,
    next_seq_no: int,
    last_marker: bytes,
) -> None:
    """Refuse a record whose checksums hold, but which does not belong where it stands."""
    if last_marker == CONTINUED_MARKER:
        raise CorruptFile(path, position, "the end of the file", "another record")
    if record.marker not in _MARKERS:
        raise CorruptFile(path, position, f"one of the markers {_MARKERS}", f"{record.marker!r}")
    is_batch = record.marker == BATCH_MARKER
    expected_seq_no = next_seq_no if is_batch else next_seq_no - 1
    if record.seq_no != expected_seq_no:
        raise CorruptFile(path, position, f"seq_no {expected_seq_no}", f"seq_no {record.seq_no}")
    if record.group_start != position and (not is_batch or record.group_start != group_start):
        raise CorruptFile(
            path, position, f"a group that starts at byte {group_start}", f"{record.group_start}"
        )


def _corrupt(path: str, damage: Damage, later_group_start: int | None) -> CorruptFile:
    found = damage.found
    if later_group_start is not None:
        found += f" (and it was synced before the group at byte {later_group_start} was written)"
    return CorruptFile(path, damage.byte_offset, damage.expected, found)


def _later_group_start(data: bytes, record_start: int, seed: int) -> int | None:
    """The start of a group written after the bytes at `record_start` were synced, if any."""
    for marker in _MARKERS:
        position = data.find(marker, record_start + 1)
        while position >= 0:
            record = _read_record_header(data, position, seed)
            if not isinstance(record, Damage) and record.group_start > record_start:
                return record.group_start
            position = data.find(marker, position + 1)
    return None


def _is_damaged_marker(data: bytes, position: int, seq_no: int, seed: int) -> bool:
    """Whether the file ends in what was a marker record, and no torn write explains it.

    The bytes of a marker record are known beforehand. A torn write leaves each sector as
    it should be, or zero; anything else is damage.
    """
    if len(data) - position != RECORD_HEADER_BYTES:
        return False
    tail = data[position:]
    for marker in (CLOSED_MARKER, CONTINUED_MARKER):
        whole = encode_record_header(marker, seq_no, position, b"", seed)
        equal_bytes = sum(a == b for a, b in zip(tail, whole, strict=True))
        if equal_bytes >= _RECOGNISABLE_BYTES_MIN:
            split = SECTOR_BYTES - position % SECTOR_BYTES
            pieces = ((tail[:split], whole[:split]), (tail[split:], whole[split:]))
            return not all(found in (wanted, bytes(len(wanted))) for found, wanted in pieces)
    return False
