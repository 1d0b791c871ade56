"""What is in a data directory?

    lock                    held by the one process that owns the directory
    catalogue.doc           which collections there must be, and what is kept beside them
    collections/<name>/     one collection: collection.doc (its name and first configuration), wal/
    snapshots/              copies of collections, see `engine.snapshot.store`

A collection appears and disappears by one rename, so that a crash leaves it whole or
gone; what a crash left half-made is removed at the next open. The catalogue knows of it
before, see `engine.catalogue`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
import weakref
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import msgspec

from headrace.engine.aliases import alias_descriptions, changed_aliases
from headrace.engine.catalogue import (
    CATALOGUE_DOCUMENT,
    DELETED_PREFIX,
    Catalogue,
    Listing,
    StoredCatalogue,
    as_settings,
    deleted_name,
    read_catalogue,
)
from headrace.engine.collection.collection import Collection
from headrace.engine.collection.document import (
    COLLECTION_DOCUMENT,
    CollectionDocument,
    read_collection_document,
)
from headrace.engine.collection.identity import WAL_DIRECTORY, read_identity
from headrace.engine.collection.maintenance import Maintenance
from headrace.engine.collection.read_only import ReadOnlyCollection
from headrace.engine.payload_index.transient_memory import TRANSIENT_BYTES_MAX, TransientMemory
from headrace.engine.snapshot.archive import Source
from headrace.engine.snapshot.create import create_full_snapshot, create_snapshot
from headrace.engine.snapshot.restore import RestoredCollection, restore_collection
from headrace.engine.snapshot.store import SnapshotStore
from headrace.engine.storage.file_ops import FILE_OPS, FileOps, storage_error
from headrace.engine.storage.files import (
    collection_directory_name,
    encode_document,
    remove_temporary_files,
    write_document,
)
from headrace.engine.storage.lock import DirectoryLock
from headrace.engine.storage.wal import Wal
from headrace.engine.vector_index.builder import IndexBuilder
from headrace.model.aliases import AliasAction, AliasDescription
from headrace.model.collection_changes import CollectionChange
from headrace.model.collection_config import CollectionConfig
from headrace.model.errors import (
    AlreadyExists,
    CorruptFile,
    Forbidden,
    HeadraceError,
    NotFound,
    StorageFailed,
    Unavailable,
    WrongInput,
    collection_not_found,
)
from headrace.model.operations import (
    ChangeConfig,
    Operation,
    RewindSource,
    SourceOffset,
    SourcePartition,
    WriteBatch,
)
from headrace.model.snapshots import SnapshotDescription

logger = logging.getLogger(__name__)

T = TypeVar("T")

_MAKING_PREFIX = ".making-"
_REPLACED_PREFIX = ".replaced-"

# A reader beside an owner that makes and deletes collections begins anew so often.
_READING_ATTEMPTS_MAX = 20
# A snapshot of all beside callers who delete collections begins anew so often.
_FULL_SNAPSHOT_ATTEMPTS_MAX = 20


class Engine:
    """An opened data directory and its collections; thread-safe. Use `Engine.open`.

    A forked child has no threads and no lock of its parent's engine, so in the child it is
    closed: every call is refused, none waits, and nothing of it reaches a file.

    Attributes:
        snapshots: the snapshots that are kept in the directory.
    """

    def __init__(
        self,
        directory: Path,
        lock: DirectoryLock | None,
        ops: FileOps,
        transient_bytes_max: int,
    ) -> None:
        self._directory = directory
        self._ops = ops
        self._maintenance = Maintenance()
        self._builder = IndexBuilder()
        self._transient_memory = TransientMemory(transient_bytes_max)
        self._lock = lock
        self._collections: dict[str, Collection] = {}
        self._changing = threading.Lock()
        self.snapshots = SnapshotStore(directory / "snapshots", ops)
        # One snapshot is made or restored at a time; taken before `_changing`.
        self._snapshotting = threading.Lock()
        self._is_stopping = False
        self._closed = False
        self._owner_pid = os.getpid()
        self._catalogue = StoredCatalogue(
            directory, ops, lock, partial(_identities, self._collections)
        )
        _engines.add(self)

    @classmethod
    def open(
        cls,
        directory: Path,
        ops: FileOps = FILE_OPS,
        *,
        read_only: bool = False,
        transient_bytes_max: int = TRANSIENT_BYTES_MAX,
    ) -> Engine:
        """Open or create a data directory, replaying the log of each collection.

        Args:
            directory: where it is.
            ops: the file operations to use.
            read_only: take no lock and change nothing, so that this works beside the
                owner; shows what was stored at this moment, and refuses writes.
            transient_bytes_max: how much memory the columns of fields without a payload
                index may take, over all collections.

        Raises:
            DirectoryInUse: another process has it open, and this is not for reading only.
            CorruptFile: a file is damaged beyond a torn tail.
            NotFound: there is no data directory, and this is for reading only.
        """
        if read_only:
            return cls._open_read_only(directory, ops, transient_bytes_max)
        try:
            (directory / "collections").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, f"creating {directory}") from error
        engine = cls(directory, DirectoryLock.acquire(directory), ops, transient_bytes_max)
        try:
            engine._load()
        except BaseException:
            engine.close()
            raise
        return engine

    @classmethod
    def _open_read_only(cls, directory: Path, ops: FileOps, transient_bytes_max: int) -> Engine:
        if not (directory / "collections").is_dir():
            raise NotFound(f"{directory} is not a data directory: it has no `collections` in it")
        attempts_left = _READING_ATTEMPTS_MAX
        while True:
            engine = cls(directory, None, ops, transient_bytes_max)
            attempts_left -= 1
            try:
                engine._load_all_read_only()
            except BaseException as error:
                engine.close()
                was = engine._catalogue.content
                is_corrupt = isinstance(error, CorruptFile)
                if is_corrupt and attempts_left and not _is_settled(directory, was, ops):
                    continue
                raise
            return engine

    def close(self) -> None:
        """Finish running writes, give up running snapshots, then release the directory.

        Raises:
            StorageFailed: a log could not be closed; everything else is, and the directory is
                released.
        """
        self._is_stopping = True
        with self._snapshotting, self._changing:
            if self._closed:
                return
            self._closed = True
            with contextlib.ExitStack() as closing:
                if self._lock is not None:
                    closing.callback(self._lock.release)
                closing.callback(self._builder.close)
                closing.callback(self._catalogue.close)
                for collection in self._collections.values():
                    closing.callback(collection.close)
                self._maintenance.close()

    def create_collection(self, name: str, config: CollectionConfig) -> None:
        """Make a collection; it is there after a crash once this has returned.

        Raises:
            AlreadyExists: a collection has the name.
            WrongInput: an alias has the name.
            NoSpace, StorageFailed: nothing was made.
        """
        with self._changing:
            self._check_open()
            if name in self._collections:
                raise AlreadyExists(f"Collection `{name}` already exists!")
            self._check_no_alias(name)
            parent = self._directory / "collections"
            making = parent / f"{_MAKING_PREFIX}{uuid4().hex}"
            directory = parent / collection_directory_name(name)
            try:
                self._ops.mkdir(making)
                document = CollectionDocument(name, config)
                write_document(making / COLLECTION_DOCUMENT, document, self._ops)
                Wal.create(making / WAL_DIRECTORY, ops=self._ops).close()
                self._catalogue.expect(directory.name, read_identity(making, self._ops))
                self._ops.rename(making, directory)
                self._ops.fsync_dir(parent)
            except BaseException as error:
                shutil.rmtree(making, ignore_errors=True)
                if isinstance(error, OSError):
                    raise storage_error(error, f"creating {directory}") from error
                raise
            self._load_collection(directory)
            self._catalogue.settle(directory.name)

    def delete_collection(self, name: str) -> bool:
        """Delete a collection, its files and aliases; False if there is none.

        An alias is not resolved.
        """
        with self._changing:
            self._check_open()
            collection = self._collections.get(name)
            if collection is None:
                return False
            parent = self._directory / "collections"
            directory = parent / collection_directory_name(name)
            # By this name it is known as deleted, also if there is no room for a catalogue.
            deleted = parent / deleted_name(collection.identity.log_id)
            self._catalogue.note_change(directory.name, None)
            del self._collections[name]
            collection.delete()
            try:
                self._ops.rename(directory, deleted)
                self._ops.fsync_dir(parent)
            except OSError as error:
                raise storage_error(error, f"deleting {name}") from error
            _clear(deleted)
            kept = {a: c for a, c in self._catalogue.content.aliases.items() if c != name}
            if self._catalogue.settle(directory.name, aliases=kept):
                _clear(deleted, itself=True)
            return True

    def change_config(self, name: str, change: CollectionChange) -> None:
        """Change a collection's configuration; durable when it returns.

        Raises:
            NotFound: no such collection or alias.
            UnknownVectorName: the change names a vector that the collection lacks.
            NoSpace, StorageFailed: nothing was changed.
        """
        self._check_open()
        self.collection(name).write(WriteBatch([ChangeConfig(change)]))

    def create_snapshot(self, collection_name: str) -> SnapshotDescription:
        """Store a snapshot of a collection, beside running writes; durable when it returns.

        It holds every write that was acknowledged before the call.

        Raises:
            NotFound: no such collection or alias.
            CorruptFile: a file of the collection is damaged; nothing was stored.
            NoSpace, StorageFailed: nothing was stored.
        """
        with self._snapshotting:
            self._check_running()
            collection = self.collection(collection_name)
            check_present = partial(self._check_present, [collection])
            try:
                return create_snapshot(
                    self.snapshots, collection, self._ops, self._check_running, check_present
                )
            except HeadraceError:
                check_present()
                raise

    def create_full_snapshot(self) -> SnapshotDescription:
        """Store a snapshot of all collections and the documents beside them.

        A collection that is deleted meanwhile is not in it: it is begun again without.

        Raises:
            Unavailable: again and again one was deleted; nothing was stored.
            CorruptFile, NoSpace, StorageFailed: as `create_snapshot`.
        """
        with self._snapshotting:
            for _ in range(_FULL_SNAPSHOT_ATTEMPTS_MAX):
                self._check_running()
                with self._changing:
                    documents = [
                        Source(name, encode_document(content))
                        for name, content in self._catalogue.content.documents().items()
                    ]
                    collections = list(self._collections.values())
                check_present = partial(self._check_present, collections)
                try:
                    return create_full_snapshot(
                        self.snapshots,
                        collections,
                        documents,
                        self._ops,
                        self._check_running,
                        check_present,
                    )
                except HeadraceError:
                    try:
                        check_present()
                    except NotFound:
                        continue
                    raise
        raise Unavailable(
            "Collections were deleted while a snapshot of all was made, "
            f"{_FULL_SNAPSHOT_ATTEMPTS_MAX} times"
        )

    def restore_collection(self, name: str, archive: Path) -> None:
        """Make a collection out of a snapshot, or replace it by that; durable when it returns.

        After a crash the collection is as before, or restored. Where sources wrote into
        it, their positions go back to what the snapshot had taken.

        Raises:
            WrongInput: the snapshot is damaged, or does not fit; nothing was changed.
            NoSpace, StorageFailed: nothing was changed.
        """
        with self._snapshotting:
            self._check_running()
            self._check_no_alias(name)
            parent = self._directory / "collections"
            making = parent / f"{_MAKING_PREFIX}{uuid4().hex}"
            try:
                restored = restore_collection(archive, name, making, self._ops, self._check_running)
                with self._changing:
                    self._check_no_alias(name)
                    self._put_in_place(name, making, restored)
            except BaseException:
                shutil.rmtree(making, ignore_errors=True)
                raise

    def change_aliases(self, actions: Sequence[AliasAction]) -> None:
        """Take actions in order, as one change; durable when it returns.

        Raises:
            NotFound: a collection or an alias is missing; nothing was changed.
            AlreadyExists: an alias would have the name of a collection; nothing was changed.
            NoSpace, StorageFailed: nothing was changed.
        """
        with self._changing:
            self._check_open()
            aliases = self._catalogue.content.aliases
            changed = changed_aliases(aliases, actions, self._collections)
            if changed != aliases:
                self._catalogue.store(aliases=changed)

    def aliases(self) -> list[AliasDescription]:
        """All aliases, sorted by name."""
        return alias_descriptions(self._catalogue.content.aliases)

    def collection(self, name: str) -> Collection:
        """An open collection, by its name or an alias of it; raises NotFound."""
        found = self._collections.get(name)
        if found is not None:
            return found  # as mostly; no alias has the name of a collection
        try:
            return self._collections[self._resolve(name)]
        except KeyError:
            self._check_not_forked()
            raise collection_not_found(name) from None

    def has_collection(self, name: str) -> bool:
        """Whether a collection or an alias has this name."""
        return self._resolve(name) in self._collections

    def collection_names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._collections)

    @property
    def directory(self) -> Path:
        """The data directory."""
        return self._directory

    def read_settings(self, name: str, kind: type[T]) -> T | None:
        """Settings that the layer above stored under a plain name; None if it never did.

        Raises:
            CorruptFile: they are of another kind.
        """
        settings = self._catalogue.content.settings.get(name)
        if settings is None:
            return None
        try:
            return msgspec.json.decode(settings, type=kind)
        except msgspec.MsgspecError as error:
            path = str(self._directory / CATALOGUE_DOCUMENT)
            raise CorruptFile(path, 0, f"settings `{name}` of {kind}", str(error)) from error

    def write_settings(self, name: str, settings: object) -> None:
        """Store settings under a plain name; durable when it returns."""
        with self._changing:
            self._check_open()
            kept = self._catalogue.content.settings
            self._catalogue.store(settings=kept | {name: as_settings(settings)})

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
            self._store_positions(changed)

    def move_source(self, moved: Mapping[SourcePartition, int | None]) -> None:
        """Make a source be read again from other offsets on, or from its start if None.

        The positions first: what a crash leaves undone then is only that a collection skips
        what it already has, and the call can be repeated.

        Raises:
            NoSpace, StorageFailed: a log could not be written; call again.
        """
        with self._changing:
            self._check_open()
            kept = {one: at for one, at in self._positions.items() if one not in moved}
            given = {one: at for one, at in moved.items() if at is not None}
            self._store_positions(kept | given)
            collections = list(self._collections.values())
        for collection in collections:
            taken = collection.source_offsets()
            rewinds: list[Operation] = [
                RewindSource(partition, at or 0)
                for partition, at in moved.items()
                if taken.get(partition, 0) > (at or 0)
            ]
            if rewinds:
                collection.write(WriteBatch(rewinds))

    def _store_positions(self, positions: dict[SourcePartition, int]) -> None:
        document = [SourceOffset(*item) for item in positions.items()]
        self._catalogue.store(source_positions=document)

    @property
    def _positions(self) -> dict[SourcePartition, int]:
        stored = self._catalogue.content.source_positions
        return {position.partition: position.next_offset for position in stored}

    def _resolve(self, name: str) -> str:
        """The collection that an alias stands for; any other name stands for itself."""
        return self._catalogue.content.aliases.get(name, name)

    def _forget_in_child(self) -> None:
        """Close without waiting for threads and locks, which stayed with the parent."""
        self._changing, self._snapshotting = threading.Lock(), threading.Lock()
        self._is_stopping = self._closed = True
        for collection in self._collections.values():
            collection.forget_in_child()
        self._collections = {}

    def _check_not_forked(self) -> None:
        if self._owner_pid != os.getpid():
            raise Unavailable(
                f"{self._directory} was opened by process {self._owner_pid}, of which this "
                "process is a fork"
            )

    def _check_open(self) -> None:
        self._check_not_forked()
        if self._closed:
            raise Unavailable("The data directory is closed")
        self.check_writable()

    def check_writable(self) -> None:
        """Refuse a change to a directory that another process owns.

        Raises:
            Forbidden: it was opened for reading only.
        """
        if self._lock is None:
            raise Forbidden(f"{self._directory} is open for reading only: write through its owner")

    def _check_running(self) -> None:
        self._check_not_forked()
        if self._is_stopping:
            raise Unavailable("The data directory is being closed")
        self.check_writable()

    def _check_present(self, collections: Sequence[Collection]) -> None:
        """Refuse to go on with collections of which one was deleted; raises NotFound."""
        for collection in collections:
            if self._collections.get(collection.name) is not collection:
                raise collection_not_found(collection.name)

    def _check_no_alias(self, name: str) -> None:
        if self._resolve(name) != name:
            raise WrongInput(
                f"Can't create collection with name {name}. Alias with the same name already exists"
            )

    def _put_in_place(self, name: str, making: Path, restored: RestoredCollection) -> None:
        """Give a made directory its name, in the place of the collection that has it.

        From the first rename to the second the collection is missing; what an opening
        finds then, it takes back.
        """
        existing = self._collections.get(name)
        if existing is not None:
            _check_same_vectors(existing.config, restored.config)
        parent = self._directory / "collections"
        directory = parent / collection_directory_name(name)
        replaced = parent / f"{_REPLACED_PREFIX}{directory.name}"
        deleted = parent / deleted_name(uuid4().hex)
        coming = read_identity(making, self._ops)
        positions = self._positions_taken_back(existing, restored)
        self._catalogue.expect(directory.name, coming, source_positions=positions)
        try:
            if existing is not None:
                existing.close()
                self._ops.rename(directory, replaced)
            self._ops.rename(making, directory)
            self._ops.fsync_dir(parent)
            if existing is not None:
                self._ops.rename(replaced, deleted)
                self._ops.fsync_dir(parent)
        except OSError as error:
            if existing is not None and not directory.exists():
                self._ops.rename(replaced, directory)
            raise storage_error(error, f"restoring {directory}") from error
        finally:
            # Until here the old one is still read; now whichever is there is opened.
            if directory.exists():
                self._load_collection(directory)
        self._catalogue.settle(directory.name)
        shutil.rmtree(deleted, ignore_errors=True)

    def _positions_taken_back(
        self, existing: Collection | None, restored: RestoredCollection
    ) -> list[SourceOffset]:
        """Positions that let sources come again with what the restored collection has not taken.

        What only the collection that is replaced had taken must come again from the start.
        """
        taken = restored.source_offsets
        lost = existing.source_offsets().keys() - taken.keys() if existing is not None else set()
        return [
            SourceOffset(partition, min(position, taken.get(partition, position)))
            for partition, position in self._positions.items()
            if partition not in lost
        ]

    def _load(self) -> None:
        # A kill leaves names that no sync has made durable yet: before anything is said of
        # them, in a catalogue or a note of it, they are.
        self._sync_names(self._directory)
        self._sync_names(self._directory / "collections")
        remove_temporary_files(self._directory, self._ops)
        self._catalogue.load()
        self.snapshots.clear()
        self._take_back_replaced()
        for directory in self._find_collections().values():
            self._load_collection(directory)
        parent = self._directory / "collections"
        left = [*parent.glob(f"{_MAKING_PREFIX}*"), *parent.glob(f"{DELETED_PREFIX}*")]
        for directory in left:
            logger.info("removing %s, left by an interrupted change", directory)
            _clear(directory)
        if self._catalogue.settle_all(self._collections):
            for directory in left:
                _clear(directory, itself=True)
            self._catalogue.remove_older_documents()

    def _load_all_read_only(self) -> None:
        self._catalogue.load()
        for name, directory in self._find_collections().items():
            self._load_read_only(name, directory)

    def _find_collections(self) -> dict[str, Path]:
        """The directories of all collections, none of which is missing."""
        found = stored_collections(self._directory)
        for missing in self._catalogue.content.missing(self._directory, found):
            raise missing
        return found

    def _load_read_only(self, listed_name: str, directory: Path) -> None:
        """Open a collection beside its owner; one that is deleted meanwhile is not there."""
        try:
            known = self._catalogue.content.known(directory, listed_name, self._ops)
            document = read_collection_document(directory, self._ops)
            collection = ReadOnlyCollection(
                document.name,
                directory,
                document.config,
                self._builder,
                self._transient_memory,
                self._ops,
                known,
            )
        except (CorruptFile, StorageFailed, FileNotFoundError):
            if directory.exists():
                raise
            return
        self._collections[document.name] = collection

    def _take_back_replaced(self) -> None:
        """Finish or undo what `_put_in_place` was interrupted in."""
        parent = self._directory / "collections"
        for replaced in parent.glob(f"{_REPLACED_PREFIX}*"):
            directory = parent / replaced.name.removeprefix(_REPLACED_PREFIX)
            is_finished = directory.exists()
            target = parent / deleted_name(uuid4().hex) if is_finished else directory
            logger.info("restoring %s was interrupted: moving %s", directory.name, replaced)
            try:
                self._ops.rename(replaced, target)
                self._ops.fsync_dir(parent)
            except OSError as error:
                raise storage_error(error, f"moving {replaced}") from error

    def _sync_names(self, directory: Path) -> None:
        try:
            self._ops.fsync_dir(directory)
        except OSError as error:
            raise storage_error(error, f"syncing {directory}") from error

    def _load_collection(self, directory: Path) -> None:
        self._sync_names(directory)
        remove_temporary_files(directory, self._ops)
        known = self._catalogue.content.known(directory, directory.name, self._ops)
        document = read_collection_document(directory, self._ops)
        self._collections[document.name] = Collection(
            document.name,
            directory,
            document.config,
            self._maintenance,
            self._builder,
            self._transient_memory,
            self._ops,
            known,
        )


def stored_collections(directory: Path) -> dict[str, Path]:
    """The directories of the collections of a data directory, by the name they should have.

    Sorted; changes nothing. Where a restore was interrupted between its two renames, the
    old one counts.
    """
    found: dict[str, Path] = {}
    for path in (directory / "collections").iterdir():
        if path.name.startswith(_REPLACED_PREFIX):
            found.setdefault(path.name.removeprefix(_REPLACED_PREFIX), path)
        elif not path.name.startswith("."):
            found[path.name] = path
    return dict(sorted(found.items()))


def _identities(collections: Mapping[str, Collection]) -> Listing:
    return {one.directory.name: [one.identity] for one in collections.values()}


def _is_settled(directory: Path, was: Catalogue, ops: FileOps) -> bool:
    """Whether the owner has made and deleted no collection since a catalogue was read."""
    try:
        return read_catalogue(directory, ops).listing() == was.listing()
    except HeadraceError:
        return True


def _clear(directory: Path, itself: bool = False) -> None:
    """Remove what is in a directory, or the directory too; a rest is left to the next opening."""
    for path in directory.iterdir():
        shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            path.unlink()
    if itself:
        shutil.rmtree(directory, ignore_errors=True)


def _check_same_vectors(existing: CollectionConfig, restored: CollectionConfig) -> None:
    """Refuse, as Qdrant does, what would change what a collection's vectors are."""
    for what in ("vectors", "sparse_vectors"):
        old, new = getattr(existing, what), getattr(restored, what)
        if old != new:
            raise WrongInput(
                "Snapshot is not compatible with existing collection: "
                f"Collection {what}: {old} Snapshot {what}: {new}"
            )


def _forget_engines_in_child() -> None:
    for engine in list(_engines):
        engine._forget_in_child()


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
os.register_at_fork(after_in_child=_forget_engines_in_child)
