"""What goes into a snapshot?

For each collection a checkpoint of its newest view: files that do not change any more, so
that writes go on meanwhile. No log is needed beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from headrace.engine.collection.collection import Collection, PinnedCheckpoint
from headrace.engine.collection.document import COLLECTION_DOCUMENT, CollectionDocument
from headrace.engine.segment.checkpoint import DATA_DIRECTORY, MANIFEST_NAME
from headrace.engine.snapshot.archive import (
    CheckRunning,
    Source,
    StoredCollection,
    write_archive,
)
from headrace.engine.snapshot.store import SnapshotStore
from headrace.engine.storage.data_file import map_data_file
from headrace.engine.storage.file_ops import FileOps, storage_error
from headrace.engine.storage.files import encode_document
from headrace.model.snapshots import SnapshotDescription


def create_snapshot(
    store: SnapshotStore,
    collection: Collection,
    ops: FileOps,
    check_running: CheckRunning,
    check_present: Callable[[], None],
) -> SnapshotDescription:
    """Store a snapshot of one collection, as it is at some moment of the call.

    Args:
        store: where to.
        collection: of what.
        ops: the file operations to use.
        check_running: raises if the work is to stop.
        check_present: raises if the collection was deleted. It is called when all was read:
            another one may have files of the same names by then.

    Raises:
        CorruptFile: a file of the collection is damaged or gone; nothing was stored.
        Unavailable: the collection is closed; nothing was stored.
        NoSpace, StorageFailed: nothing was stored.
    """
    return _create(store, collection.name, [collection], [], ops, check_running, check_present)


def create_full_snapshot(
    store: SnapshotStore,
    collections: Sequence[Collection],
    documents: Sequence[Source],
    ops: FileOps,
    check_running: CheckRunning,
    check_present: Callable[[], None],
) -> SnapshotDescription:
    """Store a snapshot of a whole data directory.

    The documents were read before any collection: source positions in them may say less
    than the collections hold, which is harmless, but never more.

    Args:
        store: where to.
        collections: all of them.
        documents: what is kept beside the collections.
        ops: the file operations to use.
        check_running: raises if the work is to stop.
        check_present: raises if one of the collections was deleted.

    Raises: as `create_snapshot`.
    """
    return _create(store, None, collections, documents, ops, check_running, check_present)


def _create(
    store: SnapshotStore,
    collection_name: str | None,
    collections: Sequence[Collection],
    documents: Sequence[Source],
    ops: FileOps,
    check_running: CheckRunning,
    check_present: Callable[[], None],
) -> SnapshotDescription:
    with ExitStack() as pins:
        stored: list[StoredCollection] = []
        sources = list(documents)
        for number, collection in enumerate(collections):
            check_running()
            pinned = pins.enter_context(collection.pinned_checkpoint())
            sources += _sources(number, pinned)
            stored.append(StoredCollection(collection.name, pinned.manifest.seq_no))
        bytes_expected = sum(_bytes_count(source) for source in sources)
        is_full = collection_name is None

        def write(fd: int) -> str:
            checksum = write_archive(fd, is_full, stored, sources, ops, check_running)
            check_present()
            return checksum

        return store.add(collection_name, write, bytes_expected)


def _sources(number: int, pinned: PinnedCheckpoint) -> list[Source]:
    """The members of one collection; its files are verified, so no damage is carried on."""
    document = CollectionDocument(pinned.name, pinned.config)
    data = pinned.directory / DATA_DIRECTORY
    sources = [
        Source(f"{number}/{COLLECTION_DOCUMENT}", encode_document(document)),
        Source(f"{number}/{MANIFEST_NAME}", encode_document(pinned.manifest)),
    ]
    for ref in pinned.manifest.files():
        map_data_file(data, ref)
        sources.append(Source(f"{number}/{DATA_DIRECTORY}/{ref.name}", data / ref.name))
    return sources


def _bytes_count(source: Source) -> int:
    content = source.content
    if isinstance(content, bytes):
        return len(content)
    try:
        return content.stat().st_size
    except OSError as error:
        raise storage_error(error, f"reading {content}") from error
