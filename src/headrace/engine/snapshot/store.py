"""Where are snapshots kept, and under which names?

    snapshots/<name>.snapshot                   of the whole directory
    snapshots/<collection>/<name>.snapshot      of one collection

Beside each stands `<name>.snapshot.sha256`, as `sha256sum -c` reads it. Snapshots outlive
their collection: that is what they are for.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from headrace.engine.storage.file_ops import FILE_OPS, FileOps, storage_error
from headrace.engine.storage.files import (
    collection_directory_name,
    remove_temporary_files,
    write_file_atomically,
)
from headrace.model.errors import NoSpace, NotFound, StorageFailed
from headrace.model.snapshots import SnapshotDescription

SNAPSHOT_SUFFIX = ".snapshot"
CHECKSUM_SUFFIX = ".sha256"

_MAKING_PREFIX = ".making-"
_FILE_NAME_BYTES_MAX = 255 - len(CHECKSUM_SUFFIX)
_FULL_PREFIX = "full-snapshot"
# With the rest of a name, and what is put behind it, below the 255 bytes of a file name.
_NAME_PREFIX_CHARS_MAX = 120
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
_CHECKSUM_LINE = re.compile(r"([0-9a-f]{64})  ([^/\n]+)\n")
# Left free for the log and the checkpoints, which matter more than another snapshot.
_RESERVED_BYTES = 64 * 2**20


class SnapshotStore:
    """The snapshots of a data directory. Thread-safe for all but `clear`.

    Args:
        directory: of the snapshots; made when it is first needed.
        ops: the file operations to use.
    """

    def __init__(self, directory: Path, ops: FileOps = FILE_OPS) -> None:
        self.directory = directory
        self._ops = ops

    def clear(self) -> None:
        """Remove what interrupted calls have left; for the owner, before any other call.

        Raises:
            StorageFailed: the system refused.
        """
        if not self.directory.is_dir():
            return
        folders = [path for path in self.directory.iterdir() if path.is_dir()]
        for folder in (self.directory, *folders):
            remove_temporary_files(folder, self._ops)
            for path in folder.iterdir():
                is_orphan = path.name.endswith(SNAPSHOT_SUFFIX + CHECKSUM_SUFFIX) and not (
                    path.with_name(path.name.removesuffix(CHECKSUM_SUFFIX)).exists()
                )
                if is_orphan or path.name.startswith(_MAKING_PREFIX):
                    self._unlink(path)

    def list(self, collection_name: str | None) -> list[SnapshotDescription]:
        """The snapshots of a collection, or with None those of the whole, oldest first."""
        folder = self._folder(collection_name)
        if not folder.is_dir():
            return []
        found = []
        for path in folder.iterdir():
            if not path.name.endswith(SNAPSHOT_SUFFIX) or path.name.startswith("."):
                continue
            with suppress(FileNotFoundError):  # deleted meanwhile
                status = path.lstat()
                if stat.S_ISREG(status.st_mode):
                    found.append(_describe(path, status))
        return sorted(found, key=lambda one: (one.creation_time, one.name))

    def find(self, collection_name: str | None, name: str) -> Path:
        """The file of a snapshot.

        Raises:
            NotFound: there is none of that name; no name leads out of the directory.
        """
        path = self._folder(collection_name) / name if _is_file_name(name) else None
        if path is None or not name.endswith(SNAPSHOT_SUFFIX) or not _is_plain_file(path):
            raise NotFound(f"Snapshot {name} not found")
        return path

    def delete(self, collection_name: str | None, name: str) -> None:
        """Remove a snapshot; durable when it returns.

        Raises:
            NotFound: there is none of that name.
            StorageFailed: the system refused.
        """
        path = self.find(collection_name, name)
        try:
            self._ops.unlink(path)
        except FileNotFoundError:
            raise NotFound(f"Snapshot {name} not found") from None
        except OSError as error:
            raise _not_removed(path, error) from error
        checksum_path = path.with_name(name + CHECKSUM_SUFFIX)
        if checksum_path.exists():
            self._unlink(checksum_path)
        self._sync(path.parent)

    def add(
        self, collection_name: str | None, write: Callable[[int], str], bytes_expected: int
    ) -> SnapshotDescription:
        """Store a new snapshot; it is there, whole and durable, when this returns.

        Args:
            collection_name: whose; None for the whole.
            write: writes an open, empty file; returns its SHA-256.
            bytes_expected: about how long it will be.

        Raises:
            NoSpace: there is no room for it; nothing was stored.
            StorageFailed: the system refused.
        """
        folder = self._made_folder(collection_name)
        check_room(folder, bytes_expected)
        path = folder / _new_name(collection_name)
        making = folder / f"{_MAKING_PREFIX}{uuid4().hex}"
        try:
            checksum = self._write_synced(making, write)
            line = f"{checksum}  {path.name}\n"
            write_file_atomically(
                path.with_name(path.name + CHECKSUM_SUFFIX), line.encode(), self._ops
            )
            self._ops.rename(making, path)
        except BaseException as error:
            _remove_quietly(making, self._ops)
            _remove_quietly(path.with_name(path.name + CHECKSUM_SUFFIX), self._ops)
            if isinstance(error, OSError):
                raise storage_error(error, f"writing {path}") from error
            raise
        self._sync(folder)
        return _describe(path, path.lstat())

    def incoming_path(self) -> Path:
        """A new name for a snapshot on its way in; `clear` removes it if nobody else does.

        Raises:
            NoSpace, StorageFailed: the directory cannot be made.
        """
        return self._made_folder(None) / f"{_MAKING_PREFIX}{uuid4().hex}"

    def _folder(self, collection_name: str | None) -> Path:
        if collection_name is None:
            return self.directory
        return self.directory / collection_directory_name(collection_name)

    def _made_folder(self, collection_name: str | None) -> Path:
        folder = self._folder(collection_name)
        try:
            for path in (self.directory, folder):
                if not path.is_dir():
                    self._ops.mkdir(path)
                    self._ops.fsync_dir(path.parent)
        except FileExistsError:
            return folder
        except OSError as error:
            raise storage_error(error, f"creating {folder}") from error
        return folder

    def _write_synced(self, path: Path, write: Callable[[int], str]) -> str:
        fd = self._ops.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            checksum = write(fd)
            self._ops.fdatasync(fd)
        finally:
            self._ops.close(fd)
        return checksum

    def _unlink(self, path: Path) -> None:
        try:
            self._ops.unlink(path)
        except OSError as error:
            raise _not_removed(path, error) from error

    def _sync(self, folder: Path) -> None:
        try:
            self._ops.fsync_dir(folder)
        except OSError as error:
            raise StorageFailed(f"syncing {folder}: {error.strerror}") from error


def check_room(directory: Path, bytes_expected: int) -> None:
    """Refuse what would fill the disk.

    Raises:
        NoSpace: it does not fit, or leaves too little for the log.
    """
    free = shutil.disk_usage(directory).free
    if bytes_expected + _RESERVED_BYTES > free:
        raise NoSpace(f"{bytes_expected} bytes are needed in {directory}, {free} are free")


def stored_checksum(path: Path) -> str | None:
    """The SHA-256 that was noted for a snapshot; None if none was, or it is not legible."""
    try:
        text = path.with_name(path.name + CHECKSUM_SUFFIX).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    found = _CHECKSUM_LINE.fullmatch(text)
    return found[1] if found and found[2] == path.name else None


def _describe(path: Path, status: os.stat_result) -> SnapshotDescription:
    created = datetime.fromtimestamp(int(status.st_mtime), UTC).replace(tzinfo=None)
    return SnapshotDescription(
        path.name, created.isoformat(), status.st_size, stored_checksum(path)
    )


def _new_name(collection_name: str | None) -> str:
    """As Qdrant's: what it is of, a number that makes it unique, when it was made."""
    if collection_name is None:
        prefix = _FULL_PREFIX
    else:
        prefix = _UNSAFE.sub("_", collection_name)[:_NAME_PREFIX_CHARS_MAX]
    number = secrets.randbelow(9 * 10**15) + 10**15
    return f"{prefix}-{number}-{datetime.now(UTC):%Y-%m-%d-%H-%M-%S}{SNAPSHOT_SUFFIX}"


def _is_file_name(name: str) -> bool:
    """Whether it is one plain component of a path, not hidden."""
    try:
        encoded_name = name.encode()
    except UnicodeEncodeError:
        return False
    is_short = len(encoded_name) <= _FILE_NAME_BYTES_MAX
    return is_short and not name.startswith(".") and not any(c in name for c in "/\\\0")


def _is_plain_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _not_removed(path: Path, error: OSError) -> StorageFailed:
    return StorageFailed(f"removing {path}: {error.strerror}")


def _remove_quietly(path: Path, ops: FileOps) -> None:
    """Best effort, while another error is on its way; `clear` removes a rest."""
    try:
        ops.unlink(path)
    except OSError:
        return
