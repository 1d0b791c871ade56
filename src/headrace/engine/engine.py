"""What is in a data directory?

    lock                    held by the one process that owns the directory
    source_positions.doc    how far each source has been taken, in all collections
    collections/<name>/     one collection: collection.doc (its name and configuration), wal/

A collection appears and disappears by one rename, so that a crash leaves it whole or
gone; what a crash left half-made is removed at the next open.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import msgspec

from headrace.engine.collection.collection import WAL_DIRECTORY, Collection
from headrace.engine.collection.maintenance import Maintenance
from headrace.engine.storage.file_ops import FILE_OPS, FileOps, storage_error
from headrace.engine.storage.files import (
    collection_directory_name,
    read_document,
    remove_temporary_files,
    write_document,
)
from headrace.engine.storage.lock import DirectoryLock
from headrace.engine.storage.wal import Wal
from headrace.model.collection_config import CollectionConfig
from headrace.model.errors import AlreadyExists, CorruptFile, Unavailable, collection_not_found
from headrace.model.operations import SourceOffset, SourcePartition

logger = logging.getLogger(__name__)

_MAKING_PREFIX = ".making-"
_DELETED_PREFIX = ".deleted-"
_COLLECTION_DOCUMENT = "collection.doc"


class _Document(msgspec.Struct, frozen=True):
    """The content of collection.doc."""

    name: str
    config: CollectionConfig


class Engine:
    """An opened data directory and its collections; thread-safe. Use `Engine.open`."""

    def __init__(self, directory: Path, lock: DirectoryLock, ops: FileOps) -> None:
        self._directory = directory
        self._ops = ops
        self._maintenance = Maintenance()
        self._lock = lock
        self._collections: dict[str, Collection] = {}
        self._changing = threading.Lock()
        self._closed = False
        self._positions: dict[SourcePartition, int] = {}

    @classmethod
    def open(cls, directory: Path, ops: FileOps = FILE_OPS) -> Engine:
        """Open or create a data directory, replaying the log of each collection.

        Raises:
            DirectoryInUse: another process has it open.
            CorruptFile: a file is damaged beyond a torn tail.
        """
        try:
            (directory / "collections").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, f"creating {directory}") from error
        engine = cls(directory, DirectoryLock.acquire(directory), ops)
        try:
            engine._load()
        except BaseException:
            engine.close()
            raise
        return engine

    def close(self) -> None:
        """Finish running writes, then release the directory."""
        with self._changing:
            if self._closed:
                return
            self._closed = True
            self._maintenance.close()
            for collection in self._collections.values():
                collection.close()
            self._lock.release()

    def create_collection(self, name: str, config: CollectionConfig) -> None:
        """Make a collection; it is there after a crash once this has returned.

        Raises:
            AlreadyExists: the name is taken.
            NoSpace, StorageFailed: nothing was made.
        """
        with self._changing:
            self._check_open()
            if name in self._collections:
                raise AlreadyExists(f"Collection `{name}` already exists!")
            parent = self._directory / "collections"
            making = parent / f"{_MAKING_PREFIX}{uuid4().hex}"
            directory = parent / collection_directory_name(name)
            try:
                self._ops.mkdir(making)
                write_document(making / _COLLECTION_DOCUMENT, _Document(name, config), self._ops)
                Wal.create(making / WAL_DIRECTORY, ops=self._ops).close()
                self._ops.rename(making, directory)
                self._ops.fsync_dir(parent)
            except OSError as error:
                raise storage_error(error, f"creating {directory}") from error
            self._collections[name] = self._open_collection(name, directory, config)

    def delete_collection(self, name: str) -> bool:
        """Delete a collection and its files; False if there is none."""
        with self._changing:
            self._check_open()
            collection = self._collections.pop(name, None)
            if collection is None:
                return False
            collection.close()
            parent = self._directory / "collections"
            deleted = parent / f"{_DELETED_PREFIX}{uuid4().hex}"
            try:
                self._ops.rename(parent / collection_directory_name(name), deleted)
                self._ops.fsync_dir(parent)
            except OSError as error:
                raise storage_error(error, f"deleting {name}") from error
            shutil.rmtree(deleted, ignore_errors=True)
            return True

    def collection(self, name: str) -> Collection:
        """An open collection; raises NotFound."""
        try:
            return self._collections[name]
        except KeyError:
            raise collection_not_found(name) from None

    def has_collection(self, name: str) -> bool:
        """Whether a collection has this name."""
        return name in self._collections

    def collection_names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._collections)

    def source_positions(self, source: str) -> dict[SourcePartition, int]:
        """The offsets before which everything from a source is durable, by partition."""
        with self._changing:
            return {
                partition: next_offset
                for partition, next_offset in self._positions.items()
                if partition.source == source
            }

    def set_source_positions(self, positions: Sequence[SourceOffset]) -> None:
        """Remember such offsets; durable when it returns."""
        with self._changing:
            self._check_open()
            changed = self._positions | {p.partition: p.next_offset for p in positions}
            document = [SourceOffset(*item) for item in changed.items()]
            write_document(self._positions_path, document, self._ops)
            self._positions = changed

    @property
    def _positions_path(self) -> Path:
        return self._directory / "source_positions.doc"

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("The data directory is closed")

    def _load(self) -> None:
        remove_temporary_files(self._directory, self._ops)
        if self._positions_path.exists():
            positions = read_document(self._positions_path, list[SourceOffset], ops=self._ops)
            self._positions = {p.partition: p.next_offset for p in positions}
        for directory in sorted((self._directory / "collections").iterdir()):
            if directory.name.startswith((_MAKING_PREFIX, _DELETED_PREFIX)):
                logger.info("removing %s, left by an interrupted change", directory)
                shutil.rmtree(directory)
                continue
            self._load_collection(directory)

    def _open_collection(self, name: str, directory: Path, config: CollectionConfig) -> Collection:
        return Collection(name, directory, config, self._maintenance, self._ops)

    def _load_collection(self, directory: Path) -> None:
        path = directory / _COLLECTION_DOCUMENT
        try:
            document = read_document(path, _Document, ops=self._ops)
        except FileNotFoundError:
            raise CorruptFile(str(path), 0, "the document of a collection", "no file") from None
        collection = self._open_collection(document.name, directory, document.config)
        self._collections[document.name] = collection
