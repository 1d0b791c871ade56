"""How does an acknowledged write survive a crash?

`Wal` is the log of one collection. A write is appended as one record, a group of records
is written and synced at once, and only then may any of them be acknowledged. The bytes,
and which damage is told apart from a torn write, are in `docs/formats/wal.md`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from headrace.engine.storage.file_ops import FILE_OPS, FileOps, ReadableBuffer, storage_error
from headrace.engine.storage.wal_format import (
    CLOSED_MARKER,
    CONTINUED_MARKER,
    LOG_ID_BYTES,
    RECORD_BYTES_MAX,
)
from headrace.engine.storage.wal_scan import (
    KnownLogs,
    TornTail,
    WalFile,
    WalRecord,
    WalScan,
    check_known,
    replay_files,
    scan_wal,
    wal_file_name,
    wal_file_paths,
)
from headrace.engine.storage.wal_writer import WalFileWriter
from headrace.model.errors import BadRequest, CorruptFile, NoSpace, StorageFailed, Unavailable

WAL_FILE_BYTES_MAX = 64 << 20


class Wal:
    """An open log; for one caller at a time, in the process that opened it.

    Seq_nos have no gaps. There is always at least one file, so that the log knows its next
    seq_no even when all its writes have been cut.
    """

    def __init__(
        self,
        directory: Path,
        scan: WalScan,
        writer: WalFileWriter,
        file_bytes_max: int,
        ops: FileOps,
    ) -> None:
        self._directory = directory
        self._ops = ops
        self._file_bytes_max = file_bytes_max
        self._log_id = scan.log_id
        self._torn_tail = scan.torn_tail
        self._full_files = list(scan.files[:-1])
        self._writer = writer
        self._pending: list[tuple[int, ReadableBuffer]] = []
        self._failure: str | None = None
        self._owner_pid = os.getpid()
        self._is_open = True

    @classmethod
    def create(
        cls,
        directory: Path,
        *,
        first_seq_no: int = 1,
        file_bytes_max: int = WAL_FILE_BYTES_MAX,
        ops: FileOps = FILE_OPS,
    ) -> Wal:
        """Begin a log in `directory`, which is made if need be; durable when it returns.

        Args:
            directory: holds nothing but the log.
            first_seq_no: of the first write, at least 1; after a restored checkpoint, its
                seq_no + 1.
            file_bytes_max: a file that has reached this length gets no further group.
            ops: the operations to use.

        Raises:
            NoSpace: the disk is full.
            Unavailable: no descriptor is free.
            StorageFailed: the system refused.
        """
        assert first_seq_no >= 1
        assert not wal_file_paths(directory)
        try:
            if not directory.is_dir():
                ops.mkdir(directory)
                ops.fsync_dir(directory.parent)
        except OSError as error:
            raise storage_error(error, f"creating {directory}") from error
        scan = WalScan(os.urandom(LOG_ID_BYTES), [], None)
        writer = WalFileWriter.create(directory, scan.log_id, first_seq_no, ops)
        return cls(directory, scan, writer, file_bytes_max, ops)

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        create: bool = True,
        known: KnownLogs | None = None,
        file_bytes_max: int = WAL_FILE_BYTES_MAX,
        ops: FileOps = FILE_OPS,
    ) -> Wal:
        """Verify the whole log, drop a torn tail, and make what is left durable.

        Args:
            directory: where the log is.
            create: begin a log at seq_no 1 if there is none. Pass False where one must
                exist, since a lost log is otherwise not told from a new one.
            known: which logs there may be, and how far each is known to reach; None if
                that is not known.
            file_bytes_max: a file that has reached this length gets no further group.
            ops: the operations to use.

        Raises:
            CorruptFile: damage that a crash cannot have left; nothing has been changed.
            StorageFailed: the system refused to read, write or sync.
            NoSpace, Unavailable: as `create`, when there is no log yet.
        """
        scan = scan_wal(directory, ops)
        if not scan.files and not create:
            raise CorruptFile(str(directory), 0, "the files of a log", "none")
        if scan.files:
            check_known(scan, known)
        if scan.abandoned is not None:
            _unlink(scan.abandoned, ops)
        if not scan.files:
            first_seq_no = int(scan.abandoned.stem) if scan.abandoned else 1
            return cls.create(
                directory, first_seq_no=first_seq_no, file_bytes_max=file_bytes_max, ops=ops
            )
        full_files = scan.files[:-1]
        if full_files and full_files[-1].last_marker != CONTINUED_MARKER:
            full_files[-1] = _finish_rotation(full_files[-1], ops)
        _fsync_dir(directory, ops)
        writer = WalFileWriter.open(scan.files[-1], ops)
        settled = scan._replace(files=[*full_files, writer.file])
        wal = cls(directory, settled, writer, file_bytes_max, ops)
        wal._torn_tail = scan.torn_tail
        return wal

    @property
    def log_id(self) -> bytes:
        """16 random bytes that tell this log from every other; all its files carry them."""
        return self._log_id

    @property
    def next_seq_no(self) -> int:
        """The seq_no that the next `append` must have."""
        return self._writer.file.next_seq_no + len(self._pending)

    @property
    def synced_seq_no(self) -> int:
        """The last seq_no that is durable; one less than the first if there is none."""
        return self._writer.file.next_seq_no - 1

    @property
    def bytes_size(self) -> int:
        """Length of all files together, without what is pending."""
        return sum(file.valid_bytes for file in self._files())

    @property
    def torn_tail(self) -> TornTail | None:
        """What opening dropped because a crash had cut it off; it was never acknowledged."""
        return self._torn_tail

    def replay(self, after_seq_no: int = 0) -> Iterator[WalRecord]:
        """The synced writes after `after_seq_no`, in order.

        Holds one file in memory at a time; a body keeps its file's bytes alive.

        Args:
            after_seq_no: the last write that a checkpoint holds.

        Raises:
            CorruptFile: the log begins after `after_seq_no + 1` or ends before
                `after_seq_no`: files are missing, or are older than the checkpoint.
            StorageFailed: a file cannot be read.
        """
        files = self._files()
        if files[0].first_seq_no > after_seq_no + 1:
            raise CorruptFile(
                str(self._directory / wal_file_name(after_seq_no + 1)),
                0,
                f"a log from seq_no {after_seq_no + 1} on",
                f"one from seq_no {files[0].first_seq_no} on",
            )
        if self.synced_seq_no < after_seq_no:
            raise CorruptFile(
                str(files[-1].path),
                files[-1].valid_bytes,
                f"a log through seq_no {after_seq_no}",
                f"one through seq_no {self.synced_seq_no}",
            )
        return replay_files(files, after_seq_no, self._ops)

    def append(self, seq_no: int, body: ReadableBuffer) -> None:
        """Add a write to the pending group; neither written nor durable until `sync`.

        Args:
            seq_no: `next_seq_no`.
            body: not copied; must not change until `sync` or `discard_pending`.

        Raises:
            BadRequest: the body is longer than `RECORD_BYTES_MAX`.
            StorageFailed: an earlier write or sync failed; reopen.
        """
        self._check_usable()
        assert seq_no == self.next_seq_no, (seq_no, self.next_seq_no)
        if len(body) > RECORD_BYTES_MAX:
            raise BadRequest(
                f"One write takes {len(body)} bytes in the log, the bound is {RECORD_BYTES_MAX}"
            )
        self._pending.append((seq_no, body))

    def discard_pending(self) -> None:
        """Forget the pending group."""
        self._pending = []

    def sync(self) -> None:
        """Write the pending group and make it durable: one sync, mostly one write.

        Whatever it raises, the group is not pending any more and must not be acknowledged.

        Raises:
            NoSpace: the disk is full; the log is as before, and later syncs may succeed.
            StorageFailed: the system failed to write or to sync. It is not tried again,
                since a second sync can report success for pages that the first one lost:
                every call fails from now on, until the log is reopened.
        """
        self._check_usable()
        group, self._pending = self._pending, []
        if not group:
            return
        last = self._writer.file
        if last.holds_writes and last.valid_bytes >= self._file_bytes_max:
            self._rotate()
        self._writer.append_group(group)

    def cut(self, through_seq_no: int) -> None:
        """Remove the files whose writes are all at or before `through_seq_no`.

        If that is all of them, a new empty file is begun first. Call it when a checkpoint
        through that seq_no is durable, and nothing is pending.

        Raises:
            StorageFailed: the system failed to remove a file; reopen.
        """
        self._check_usable()
        assert not self._pending
        if through_seq_no >= self.synced_seq_no and self._writer.file.holds_writes:
            self._begin_empty_file()
        removed = [file for file in self._full_files if file.next_seq_no <= through_seq_no + 1]
        if not removed:
            return
        self._failure = f"cutting {self._directory} was interrupted"
        try:
            # Oldest first: a crash in between leaves a log without gaps.
            for file in removed:
                _unlink(file.path, self._ops)
            _fsync_dir(self._directory, self._ops)
        except StorageFailed as error:
            self._failure = error.detail
            raise
        self._full_files = self._full_files[len(removed) :]
        self._failure = None

    def close(self) -> None:
        """Close the log; what is pending is discarded.

        A closing record is written, so that from then on every changed bit is told from a
        torn write. In a forked child only the descriptor is closed.

        Raises:
            StorageFailed: the closing record could not be synced; acknowledged writes are
                durable all the same.
        """
        if not self._is_open:
            return
        self._is_open = False
        self._pending = []
        try:
            is_owner = os.getpid() == self._owner_pid
            is_failed = self._failure is not None or self._writer.failure is not None
            is_intact = not is_failed and not self._writer.is_removed
            if is_owner and is_intact and self._writer.file.last_marker != CLOSED_MARKER:
                _append_evidence(self._writer, CLOSED_MARKER)
        finally:
            self._writer.close()

    def _files(self) -> list[WalFile]:
        return [*self._full_files, self._writer.file]

    def _check_usable(self) -> None:
        if not self._is_open:
            raise StorageFailed(f"the log {self._directory} is closed")
        failure = self._failure or self._writer.failure
        if failure is not None:
            raise StorageFailed(f"{failure}; writes are refused until it is reopened")
        if os.getpid() != self._owner_pid:
            raise StorageFailed(
                f"the log {self._directory} belongs to process {self._owner_pid}, "
                "not to its forked child"
            )

    def _create_next_file(self) -> WalFileWriter:
        next_seq_no = self._writer.file.next_seq_no
        try:
            return WalFileWriter.create(self._directory, self._log_id, next_seq_no, self._ops)
        except StorageFailed as error:
            self._failure = error.detail
            raise

    def _rotate(self) -> None:
        """Begin a new file, then say in the old one that it follows.

        In this order the old file never points to a file that a crash has taken away.

        Raises:
            NoSpace: everything is as before.
            StorageFailed: as `sync`.
        """
        try:
            new = self._create_next_file()
        except Unavailable:
            return  # No descriptor is free: better a file beyond its bound than a refused write.
        try:
            self._writer.append_marker(CONTINUED_MARKER)
        except BaseException:
            if self._writer.failure is None:
                new.remove()
            else:
                new.close()
            raise
        self._change_writer(new)

    def _begin_empty_file(self) -> None:
        """Begin a new file if there is room; if not, the last one is cut another time."""
        try:
            new = self._create_next_file()
        except (NoSpace, Unavailable):
            return
        self._change_writer(new)

    def _change_writer(self, new: WalFileWriter) -> None:
        self._writer.close()
        self._full_files.append(self._writer.file)
        self._writer = new


def _finish_rotation(file: WalFile, ops: FileOps) -> WalFile:
    """Say in `file` that another follows, where a crash came before that was durable."""
    writer = WalFileWriter.open(file, ops)
    try:
        _append_evidence(writer, CONTINUED_MARKER)
    finally:
        writer.close()
    return writer.file


def _append_evidence(writer: WalFileWriter, marker: bytes) -> None:
    """Append a marker if there is room; without it the log is as a crash leaves it."""
    try:
        writer.append_marker(marker)
    except NoSpace:
        return


def _unlink(path: Path, ops: FileOps) -> None:
    try:
        ops.unlink(path)
    except OSError as error:
        raise StorageFailed(f"removing {path}: {error.strerror}") from error


def _fsync_dir(directory: Path, ops: FileOps) -> None:
    try:
        ops.fsync_dir(directory)
    except OSError as error:
        raise StorageFailed(f"syncing {directory}: {error.strerror}") from error
