"""Which files make up a log, and do they fit together?

Reads only: `Wal.open` and an offline check of a directory both start here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from headrace.engine.storage.file_ops import FILE_OPS, FileOps, storage_error
from headrace.engine.storage.wal_format import (
    CONTINUED_MARKER,
    FILE_HEADER_BYTES,
    LogFile,
    is_torn_creation,
    read_file_header,
    read_log_file,
)
from headrace.model.errors import CorruptFile

_FILE_NAME = re.compile(r"(\d{20})\.wal")

# By log id, hexadecimal, a seq_no that the log is known to reach.
KnownLogs = Mapping[str, int]


class WalRecord(NamedTuple):
    """One write as the log keeps it; `body` is a read-only view, valid as long as it is held."""

    seq_no: int
    body: memoryview


class WalFile(NamedTuple):
    """One file of a log.

    Attributes:
        path: where it is.
        first_seq_no: of its first write, also if it has none yet.
        next_seq_no: the one after its last write.
        seed: what the checksums of its records start from.
        valid_bytes: length up to which it is whole.
        stored_bytes: its length on disk, a torn tail included.
        last_marker: the marker of its last whole record, b"" if there is none.
    """

    path: Path
    first_seq_no: int
    next_seq_no: int
    seed: int
    valid_bytes: int
    stored_bytes: int
    last_marker: bytes

    @property
    def holds_writes(self) -> bool:
        """Whether there is any write in it."""
        return self.next_seq_no > self.first_seq_no


class TornTail(NamedTuple):
    """The end of a log that a crash cut off: writes that were never acknowledged.

    Attributes:
        path: the file that ended in it.
        byte_offset: where it began.
        bytes_count: its length.
    """

    path: Path
    byte_offset: int
    bytes_count: int


class WalScan(NamedTuple):
    """A verified log: no damage but at most one torn tail.

    Attributes:
        log_id: 16 random bytes that all files of this log carry, b"" if there is no whole file.
        files: whole files in order; only the last may have more stored than valid bytes, and
            the one before it if the last has no records yet.
        abandoned: a last file that never held a write and is not needed: its creation was
            cut off by a crash, or given up.
    """

    log_id: bytes
    files: list[WalFile]
    abandoned: Path | None

    @property
    def torn_tail(self) -> TornTail | None:
        """What a crash cut off, if anything."""
        for file in self.files:
            if file.stored_bytes > file.valid_bytes:
                torn_bytes = file.stored_bytes - file.valid_bytes
                return TornTail(file.path, file.valid_bytes, torn_bytes)
        return None


def wal_file_name(first_seq_no: int) -> str:
    """The name of the log file whose first write has this seq_no."""
    return f"{first_seq_no:020d}.wal"


def wal_file_paths(directory: Path) -> list[Path]:
    """The log files in `directory`, in the order of their writes; none if it is not there."""
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if _FILE_NAME.fullmatch(path.name))


def scan_wal(directory: Path, ops: FileOps = FILE_OPS) -> WalScan:
    """Read and verify every file of a log; changes nothing.

    Raises:
        CorruptFile: damage that a crash cannot have left, or a file that is missing,
            misnamed or of another log.
        StorageFailed: a file cannot be read.
    """
    paths = wal_file_paths(directory)
    files: list[WalFile] = []
    log_id = b""
    abandoned = None
    for path in paths:
        data = read_wal_file(path, ops)
        is_last = path == paths[-1]
        if is_last and not _is_pointed_to(files) and is_torn_creation(data):
            abandoned = path
            break
        log_file = read_log_file(data, str(path), may_be_torn=_may_be_torn(path, paths))
        log_id = log_id or log_file.header.log_id
        _check_identity(path, log_file, log_id)
        if is_last and not _is_pointed_to(files) and _was_given_up(log_file, len(data), files):
            abandoned = path
            break
        _check_place(path, log_file, files)
        files.append(_summary(path, log_file, len(data)))
    if abandoned is None and _is_pointed_to(files):
        missing = directory / wal_file_name(files[-1].next_seq_no)
        raise CorruptFile(str(missing), 0, "the next file of the log", "no such file")
    return WalScan(log_id, files, abandoned)


def check_known(scan: WalScan, known: KnownLogs | None) -> None:
    """Refuse a log that is another one, or ends before what it is known to reach.

    Args:
        scan: of a log that has files.
        known: which logs there may be; None if nothing is known.

    Raises:
        CorruptFile: it is none of them, or an older copy.
    """
    if known is None:
        return
    log_id, last = scan.log_id.hex(), scan.files[-1]
    if log_id not in known:
        expected = " or ".join(known)
        raise CorruptFile(str(scan.files[0].path), 0, f"log id {expected}", f"log id {log_id}")
    reached = last.next_seq_no - 1
    if reached < known[log_id]:
        raise CorruptFile(
            str(last.path),
            last.valid_bytes,
            f"a log through seq_no {known[log_id]}",
            f"one through seq_no {reached}",
        )


def read_log_id(directory: Path) -> str:
    """The id of a log, hexadecimal, by the header of its first file.

    Raises:
        CorruptFile: there is no file, or its header is damaged.
        StorageFailed: the system cannot read it.
    """
    paths = wal_file_paths(directory)
    if not paths:
        raise CorruptFile(str(directory), 0, "the files of a log", "none")
    try:
        with paths[0].open("rb") as file:
            header = file.read(FILE_HEADER_BYTES)
    except OSError as error:
        raise storage_error(error, f"reading {paths[0]}") from error
    return read_file_header(header, str(paths[0])).log_id.hex()


def replay_files(
    files: list[WalFile], after_seq_no: int, ops: FileOps = FILE_OPS
) -> Iterator[WalRecord]:
    """The writes after `after_seq_no` of files that a scan found whole, verified again.

    Raises:
        CorruptFile: a file is no longer what the scan saw.
        StorageFailed: a file cannot be read.
    """
    for file in files:
        if file.next_seq_no <= after_seq_no + 1:
            continue
        data = read_wal_file(file.path, ops)[: file.valid_bytes]
        if len(data) < file.valid_bytes:
            raise CorruptFile(
                str(file.path), len(data), f"{file.valid_bytes} bytes", f"{len(data)} bytes"
            )
        log_file = read_log_file(data, str(file.path), may_be_torn=False)
        view = memoryview(data)
        for seq_no, start, end in log_file.bodies:
            if seq_no > after_seq_no:
                yield WalRecord(seq_no, view[start:end])


def read_wal_file(path: Path, ops: FileOps) -> bytes:
    """The bytes of one log file.

    Raises:
        StorageFailed: the system cannot read it.
    """
    try:
        return ops.read_file(path)
    except OSError as error:
        raise storage_error(error, f"reading {path}") from error


def _summary(path: Path, log_file: LogFile, stored_bytes: int) -> WalFile:
    return WalFile(
        path,
        log_file.header.first_seq_no,
        log_file.next_seq_no,
        log_file.header.seed,
        log_file.valid_bytes,
        stored_bytes,
        log_file.last_marker,
    )


def _is_pointed_to(earlier: list[WalFile]) -> bool:
    """Whether the file before says that a file follows: then its creation was durable."""
    return bool(earlier) and earlier[-1].last_marker == CONTINUED_MARKER


def _was_given_up(log_file: LogFile, stored_bytes: int, earlier: list[WalFile]) -> bool:
    """Whether the log went on in the file before, and this one's removal was not synced."""
    return (
        bool(earlier)
        and stored_bytes == FILE_HEADER_BYTES
        and log_file.header.first_seq_no < earlier[-1].next_seq_no
    )


def _may_be_torn(path: Path, paths: list[Path]) -> bool:
    """The last file may, and so may the one before if the last one has never held a write."""
    if path == paths[-1]:
        return True
    return path == paths[-2] and paths[-1].stat().st_size <= FILE_HEADER_BYTES


def _check_identity(path: Path, log_file: LogFile, log_id: bytes) -> None:
    """Refuse a file under another file's name, or of another log."""
    header = log_file.header
    if wal_file_name(header.first_seq_no) != path.name:
        raise CorruptFile(
            str(path), 0, f"the file named {path.name}", wal_file_name(header.first_seq_no)
        )
    if header.log_id != log_id:
        raise CorruptFile(str(path), 0, f"log id {log_id.hex()}", f"log id {header.log_id.hex()}")


def _check_place(path: Path, log_file: LogFile, earlier: list[WalFile]) -> None:
    """Refuse a file that does not begin where the one before it ends."""
    first_seq_no = log_file.header.first_seq_no
    if not earlier or first_seq_no == earlier[-1].next_seq_no:
        return
    before = earlier[-1]
    if before.stored_bytes > before.valid_bytes:
        raise CorruptFile(
            str(before.path),
            before.valid_bytes,
            f"records through seq_no {first_seq_no - 1}",
            f"none after seq_no {before.next_seq_no - 1}",
        )
    raise CorruptFile(
        str(path.parent / wal_file_name(before.next_seq_no)),
        0,
        f"a file from seq_no {before.next_seq_no} on, before {path.name}",
        "no such file",
    )
