"""How is a collection read beside the process that owns it?

Its newest checkpoint and the log behind that are loaded once, without a lock and without
changing a file. The owner may replace files meanwhile; then the loading begins anew. What
the owner writes later is not seen.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from headrace.engine.collection.collection import Collection, catch_up
from headrace.engine.collection.identity import (
    WAL_DIRECTORY,
    Identities,
    generation_min,
    known_logs,
)
from headrace.engine.payload_index.transient_memory import TransientMemory
from headrace.engine.segment.checkpoint import MANIFEST_NAME, Checkpoints
from headrace.engine.segment.segment import Segment
from headrace.engine.storage.file_ops import FILE_OPS, FileOps
from headrace.engine.storage.wal_scan import (
    check_known,
    replay_files,
    scan_wal,
    wal_file_name,
    wal_file_paths,
)
from headrace.engine.vector_index.builder import IndexBuilder
from headrace.engine.work_log import WorkLog
from headrace.model.collection_config import CollectionConfig
from headrace.model.errors import CorruptFile, Forbidden, StorageFailed
from headrace.model.operations import WriteBatch

# An owner that makes checkpoints without a pause is outrun within so many attempts, each of
# which reads a log that has just been cut.
_ATTEMPTS_MAX = 50


class ReadOnlyCollection(Collection):
    """A collection as it was when it was opened; thread-safe.

    A write that its owner was syncing at that moment may be seen or not.

    Args:
        name: as its creator spelled it.
        directory: its own.
        config: what it was created with.
        builder: where graphs are made that the checkpoint lacks.
        transient_memory: bounds the columns that filters leave behind.
        ops: the file operations to use.
        known: which it may be; None if that is not known.

    Raises:
        CorruptFile: a file is damaged; not only replaced by the owner.
        StorageFailed: the system cannot read one.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        config: CollectionConfig,
        builder: IndexBuilder,
        transient_memory: TransientMemory,
        ops: FileOps = FILE_OPS,
        known: Identities | None = None,
    ) -> None:
        self.name = name
        self._checkpoint_lock = threading.RLock()
        self._work_log = WorkLog()
        began = time.monotonic()
        self._segment = _load(
            directory, lambda: Segment(config, builder, transient_memory), ops, known
        )
        self.load_seconds = time.monotonic() - began
        self.view = self._segment.working_view()
        self._segment.published(self.view)

    def close(self) -> None:
        """Give up what is built in the background."""
        self._segment.close()

    def write(self, batch: WriteBatch) -> int:
        """Refuse."""
        raise self._refusal()

    def maintain(self) -> None:
        """Do nothing: the owner does."""

    def is_optimizing(self) -> bool:
        """Whether graphs are made here; dead rows are the owner's."""
        return self.is_indexing()

    def checkpoint(self) -> None:
        """Refuse."""
        raise self._refusal()

    def _refusal(self) -> Forbidden:
        return Forbidden(
            f"Collection `{self.name}` is open for reading only: write through its owner"
        )


def fingerprint(directory: Path) -> object:
    """Something that changes when the owner of a collection changes which files count."""
    try:
        manifest = (directory / MANIFEST_NAME).read_bytes()
    except OSError:
        manifest = b""
    logs: list[tuple[str, int]] = []
    for path in wal_file_paths(directory / WAL_DIRECTORY):
        try:
            logs.append((path.name, path.stat().st_size))
        except OSError:
            logs.append((path.name, -1))
    return manifest, logs, directory.exists()


def _load(
    directory: Path, new_segment: Callable[[], Segment], ops: FileOps, known: Identities | None
) -> Segment:
    attempts_left = _ATTEMPTS_MAX
    while True:
        before = fingerprint(directory)
        segment = new_segment()
        attempts_left -= 1
        try:
            _load_into(segment, directory, ops, known)
        except (CorruptFile, StorageFailed, FileNotFoundError):
            segment.close()
            if fingerprint(directory) == before or not attempts_left:
                raise
        else:
            return segment


def _load_into(segment: Segment, directory: Path, ops: FileOps, known: Identities | None) -> None:
    checkpoints = Checkpoints(directory, ops)
    checkpoints.load_into(segment, generation_min(known))
    wal_directory = directory / WAL_DIRECTORY
    scan = scan_wal(wal_directory, ops)
    if not scan.files:
        raise CorruptFile(str(wal_directory), 0, "the files of a log", "none")
    check_known(scan, known_logs(known))
    if scan.files[0].first_seq_no > checkpoints.seq_no + 1:
        raise CorruptFile(
            str(wal_directory / wal_file_name(checkpoints.seq_no + 1)),
            0,
            f"a log from seq_no {checkpoints.seq_no + 1} on",
            f"one from seq_no {scan.files[0].first_seq_no} on",
        )
    catch_up(segment, checkpoints.seq_no, replay_files(scan.files, checkpoints.seq_no, ops))
