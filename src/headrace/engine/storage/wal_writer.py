"""How is one log file written so that a failure leaves it as it was, or stops everything?"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from headrace.engine.storage.file_ops import (
    FileOps,
    ReadableBuffer,
    is_no_space,
    is_too_many_open_files,
    storage_error,
    write_all,
)
from headrace.engine.storage.wal_format import (
    BATCH_MARKER,
    FILE_HEADER_BYTES,
    encode_file_header,
    encode_record_header,
    read_file_header,
)
from headrace.engine.storage.wal_scan import WalFile, wal_file_name
from headrace.model.errors import HeadraceError, StorageFailed, Unavailable

# A body of so many bytes is written by a call of its own, instead of being copied.
_ALONE_BYTES_MIN = 2**18


class WalFileWriter:
    """The open last file of a log. Owns the descriptor.

    Attributes:
        file: what the file durably holds.
        failure: why the file must not be written any more, None while it may.
    """

    def __init__(self, file: WalFile, fd: int, ops: FileOps) -> None:
        self.file = file
        self.failure: str | None = None
        self._fd = fd
        self._ops = ops
        self._had_name = ops.has_name(fd)

    @classmethod
    def create(
        cls, directory: Path, log_id: bytes, first_seq_no: int, ops: FileOps
    ) -> WalFileWriter:
        """Begin a file; its header and its name are durable when it returns.

        Raises:
            NoSpace: the disk is full; the file has been removed.
            Unavailable: no descriptor is free; the file has been removed.
            StorageFailed: the system refused.
        """
        path = directory / wal_file_name(first_seq_no)
        header = encode_file_header(log_id, first_seq_no)
        seed = read_file_header(header, str(path)).seed
        try:
            fd = ops.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        except OSError as error:
            raise _creation_error(error, path) from error
        size = FILE_HEADER_BYTES
        writer = cls(WalFile(path, first_seq_no, first_seq_no, seed, size, size, b""), fd, ops)
        try:
            writer._write_header(header)
        except StorageFailed:
            writer.close()
            raise
        except BaseException:
            writer.remove()
            raise
        return writer

    @classmethod
    def open(cls, file: WalFile, ops: FileOps) -> WalFileWriter:
        """Open a scanned file, drop its torn tail, and make what is whole durable.

        Whole records may still be in memory only: the process that wrote them was killed
        before its sync. They are about to be served, so they are synced here.

        Raises:
            StorageFailed: the system refused.
        """
        try:
            fd = ops.open(file.path, os.O_RDWR)
        except OSError as error:
            raise storage_error(error, f"opening {file.path}") from error
        try:
            if file.stored_bytes > file.valid_bytes:
                ops.ftruncate(fd, file.valid_bytes)
            ops.fdatasync(fd)
        except OSError as error:
            ops.close(fd)
            raise StorageFailed(f"syncing {file.path}: {error.strerror}") from error
        return cls(file._replace(stored_bytes=file.valid_bytes), fd, ops)

    @property
    def is_removed(self) -> bool:
        """Whether somebody has removed the file while it was open."""
        return self._had_name and not self._ops.has_name(self._fd)

    def append_group(self, group: Sequence[tuple[int, ReadableBuffer]]) -> None:
        """Append writes, as (seq_no, body), with one sync.

        Raises:
            NoSpace: the disk is full; the file is as before.
            StorageFailed: `failure` is set.
        """
        start, seed = self.file.valid_bytes, self.file.seed
        parts: list[ReadableBuffer] = []
        for seq_no, body in group:
            parts.append(encode_record_header(BATCH_MARKER, seq_no, start, body, seed))
            parts.append(body)
        self._append_synced(_joined(parts), BATCH_MARKER, self.file.next_seq_no + len(group))

    def append_marker(self, marker: bytes) -> None:
        """Append a record that is no write.

        Raises: as `append_group`.
        """
        next_seq_no = self.file.next_seq_no
        start, seed = self.file.valid_bytes, self.file.seed
        header = encode_record_header(marker, next_seq_no - 1, start, b"", seed)
        self._append_synced([header], marker, next_seq_no)

    def close(self) -> None:
        """Close the descriptor."""
        self._ops.close(self._fd)

    def remove(self) -> None:
        """Close and remove a file that was never used.

        The removal need not be durable: such a file is recognised on the next opening.

        Raises:
            StorageFailed: the system refused.
        """
        self.close()
        try:
            self._ops.unlink(self.file.path)
        except OSError as error:
            raise StorageFailed(f"removing {self.file.path}: {error.strerror}") from error

    def _write_header(self, header: bytes) -> None:
        path = self.file.path
        try:
            write_all(self._ops, self._fd, header, 0)
        except OSError as error:
            raise _creation_error(error, path) from error
        try:
            self._ops.fdatasync(self._fd)
            self._ops.fsync_dir(path.parent)
        except OSError as error:
            if is_too_many_open_files(error):
                raise _creation_error(error, path) from error
            raise StorageFailed(f"syncing {path}: {error.strerror}") from error

    def _append_synced(
        self, parts: Sequence[ReadableBuffer], marker: bytes, next_seq_no: int
    ) -> None:
        """Append durably, or leave the file as it was, or fail for good."""
        size = self.file.valid_bytes + sum(map(len, parts))
        synced = self.file._replace(
            valid_bytes=size, stored_bytes=size, last_marker=marker, next_seq_no=next_seq_no
        )
        # Any exception, also one from a signal handler, leaves this until shown to be harmless.
        self.failure = f"writing {self.file.path} was interrupted"
        try:
            byte_offset = self.file.valid_bytes
            for part in parts:
                write_all(self._ops, self._fd, part, byte_offset)
                byte_offset += len(part)
        except OSError as error:
            if not is_no_space(error):
                raise self._fail(error, "writing") from error
            self._roll_back()
            raise storage_error(error, f"writing {self.file.path}") from error
        except BaseException:
            self._roll_back()
            raise
        try:
            self._ops.fdatasync(self._fd)
            if self.is_removed:
                # Whoever removes the directory of a running store would be told of writes that
                # no opening finds.
                raise OSError(errno.ENOENT, "the file was removed while it was open")
        except OSError as error:
            self._forget_unsynced()
            raise self._fail(error, "syncing") from error
        except BaseException:
            # The sync did not fail, it was interrupted, before or behind it.
            self._roll_back()
            raise
        self.file, self.failure = synced, None

    def _roll_back(self) -> None:
        """Take back a partly written group, durably, so that it cannot turn up later."""
        try:
            self._ops.ftruncate(self._fd, self.file.valid_bytes)
            self._ops.fdatasync(self._fd)
        except OSError as error:
            raise self._fail(error, "taking back a write to") from error
        self.failure = None

    def _forget_unsynced(self) -> None:
        """After a failed sync, drop the group from the page cache, where it looks stored.

        Best effort: the file has failed already.
        """
        try:
            self._ops.ftruncate(self._fd, self.file.valid_bytes)
        except OSError:
            return

    def _fail(self, error: OSError, doing: str) -> StorageFailed:
        self.failure = f"{doing} {self.file.path}: {error.strerror or error}"
        return StorageFailed(self.failure)


def _joined(parts: Sequence[ReadableBuffer]) -> list[ReadableBuffer]:
    """The same bytes in few parts; large ones stay as they are, since copying takes longer."""
    joined: list[ReadableBuffer] = []
    small: list[ReadableBuffer] = []
    for part in parts:
        if len(part) < _ALONE_BYTES_MIN:
            small.append(part)
            continue
        joined += (b"".join(small), part)
        small.clear()
    return [*joined, b"".join(small)] if small else joined


def _creation_error(error: OSError, path: Path) -> HeadraceError:
    if is_too_many_open_files(error):
        return Unavailable(f"creating {path}: {error.strerror}")
    return storage_error(error, f"creating {path}")
