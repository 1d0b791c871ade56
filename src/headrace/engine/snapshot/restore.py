"""How does a snapshot become a collection again, without trusting it?

Members are written only under names that were checked, into a directory that nobody reads
yet; then everything is verified and loaded as at any opening. Only what passed is put in
place by the caller, with a rename.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import msgspec

from headrace.engine.catalogue import (
    older_documents,
    read_older_document,
    together,
    write_first_catalogue,
)
from headrace.engine.collection.document import (
    COLLECTION_DOCUMENT,
    CollectionDocument,
    read_collection_document,
)
from headrace.engine.collection.identity import WAL_DIRECTORY
from headrace.engine.segment.checkpoint import DATA_DIRECTORY, MANIFEST_NAME, Checkpoints, Manifest
from headrace.engine.segment.segment import Segment
from headrace.engine.snapshot.archive import (
    ArchiveReader,
    CheckRunning,
    InvalidSnapshot,
    never_stops,
)
from headrace.engine.snapshot.store import check_room
from headrace.engine.storage.file_ops import FILE_OPS, FileOps, storage_error, write_all
from headrace.engine.storage.files import collection_directory_name, write_document
from headrace.engine.storage.wal import Wal
from headrace.engine.vector_index.builder import IndexBuilder
from headrace.model.collection_config import CollectionConfig
from headrace.model.errors import AlreadyExists, CorruptFile, HeadraceError, WrongInput
from headrace.model.operations import SourcePartition


class RestoredCollection(msgspec.Struct, frozen=True):
    """What was made in a directory that is to be put in place."""

    config: CollectionConfig
    source_offsets: dict[SourcePartition, int]


def restore_collection(
    archive: Path, name: str, making: Path, ops: FileOps, check_running: CheckRunning
) -> RestoredCollection:
    """Make the directory of one collection out of a snapshot; durable but for its own name.

    Args:
        archive: a snapshot of one collection, or a full one that holds one of this name.
        name: what the collection will be called.
        making: the directory to make; whatever goes wrong, the caller removes it.
        ops: the file operations to use.
        check_running: raises if the work is to stop.

    Raises:
        InvalidSnapshot: the snapshot is damaged, or is none.
        WrongInput: it holds several collections, and none of this name.
        NoSpace, StorageFailed: the system refused.
    """
    with ArchiveReader(archive) as reader:
        number = _number_of(reader, name)
        _extract(reader, {f"{number}": making}, None, ops, check_running)
        return _finish(reader, making, name, ops)


def restore_directory(
    archive: Path, making: Path, ops: FileOps, check_running: CheckRunning
) -> list[str]:
    """Make a whole data directory out of a snapshot; durable but for its own name.

    Args:
        archive: a full snapshot, or one of a collection, which gives a directory with that.
        making: the directory to make; whatever goes wrong, the caller removes it.
        ops: the file operations to use.
        check_running: raises if the work is to stop.

    Returns:
        The names of its collections.

    Raises: as `restore_collection`.
    """
    with ArchiveReader(archive) as reader:
        collections = making / "collections"
        names = [stored.name for stored in reader.header.collections]
        if len(set(names)) != len(names) or "" in names:
            raise InvalidSnapshot(archive, 0, "collections of different names", repr(names))
        targets = {
            f"{number}": collections / collection_directory_name(name)
            for number, name in enumerate(names)
        }
        with _reported("creating", making):
            ops.mkdir(making)
            ops.mkdir(collections)
        _extract(reader, targets, making, ops, check_running)
        for name, target in zip(names, targets.values(), strict=True):
            _finish(reader, target, name, ops)
        _write_catalogue(reader, making, ops)
        with _reported("syncing", making):
            ops.fsync_dir(collections)
            ops.fsync_dir(making)
        return names


def restore_new_directory(
    archive: Path,
    directory: Path,
    ops: FileOps = FILE_OPS,
    check_running: CheckRunning = never_stops,
) -> list[str]:
    """Make a data directory out of a snapshot, whole or not at all; durable when it returns.

    Args:
        archive: a full snapshot, or one of a collection.
        directory: missing, or empty.
        ops: the file operations to use.
        check_running: raises if the work is to stop.

    Returns:
        The names of its collections.

    Raises:
        AlreadyExists: there is something in the directory; it was not touched.
        InvalidSnapshot, NoSpace, StorageFailed: nothing was made.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise AlreadyExists(f"{directory} is not empty: restore into a new directory")
    parent = directory.absolute().parent
    making = parent / f".restoring-{uuid4().hex}"
    try:
        names = restore_directory(archive, making, ops, check_running)
        with _reported("creating", directory):
            ops.rename(making, directory)
            ops.fsync_dir(parent)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    return names


def _number_of(reader: ArchiveReader, name: str) -> int:
    names = [stored.name for stored in reader.header.collections]
    if name in names:
        return names.index(name)
    if len(names) == 1:
        return 0
    raise WrongInput(
        f"The snapshot {reader.path.name} holds {len(names)} collections and none named `{name}`"
    )


def _extract(
    reader: ArchiveReader,
    targets: Mapping[str, Path],
    documents: Path | None,
    ops: FileOps,
    check_running: CheckRunning,
) -> None:
    """Write the members of some collections; every member is verified, taken or not.

    Args:
        reader: the archive.
        targets: by a collection's number, the directory to make for it.
        documents: where the documents of a full snapshot go, if anywhere.
        ops: the file operations to use.
        check_running: raises if the work is to stop.
    """
    for target in targets.values():
        with _reported("creating", target):
            ops.mkdir(target)
            ops.mkdir(target / DATA_DIRECTORY)
    bytes_expected = sum(member.bytes_count for member in reader.header.members)
    check_room(reader.path.parent if documents is None else documents, bytes_expected)
    for member, chunks in reader.members():
        number, _, rest = member.name.partition("/")
        if rest:
            path = targets[number] / rest if number in targets else None
        else:
            path = documents / member.name if documents is not None else None
        if path is None:
            for _ in chunks:
                check_running()
        else:
            with _reported("writing", path):
                _write_synced(path, chunks, ops, check_running)
    for target in targets.values():
        with _reported("syncing", target):
            ops.fsync_dir(target / DATA_DIRECTORY)


def _write_synced(
    path: Path, chunks: Iterator[bytes], ops: FileOps, check_running: CheckRunning
) -> None:
    fd = ops.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        position = 0
        for chunk in chunks:
            check_running()
            write_all(ops, fd, chunk, position)
            position += len(chunk)
        ops.fdatasync(fd)
    finally:
        ops.close(fd)


def _finish(reader: ArchiveReader, making: Path, name: str, ops: FileOps) -> RestoredCollection:
    """Verify what was extracted as an opening would, name it, and give it an empty log."""
    builder = IndexBuilder()
    builder.close()  # what is loaded here is only looked at
    try:
        document = read_collection_document(making, ops)
        checkpoints = Checkpoints(making, ops)
        manifest = checkpoints.read_manifest()
        _check_files(making / DATA_DIRECTORY, manifest)
        check_lengths(making / MANIFEST_NAME, manifest)
        segment = Segment(document.config, builder)
        checkpoints.load_into(segment)
    except CorruptFile as error:
        member = str(Path(error.path).relative_to(making))
        raise InvalidSnapshot(
            reader.path, 0, f"in {member} at byte {error.byte_offset} {error.expected}", error.found
        ) from error
    except HeadraceError:
        raise
    except Exception as error:
        # Checksums do not keep a stranger from writing nonsense; whatever it breaks, it is his.
        raise InvalidSnapshot(reader.path, 0, "a collection that loads", repr(error)) from error
    if document.name != name:
        document = CollectionDocument(name, segment.config)
        write_document(making / COLLECTION_DOCUMENT, document, ops)
    Wal.create(making / WAL_DIRECTORY, first_seq_no=manifest.seq_no + 1, ops=ops).close()
    with _reported("syncing", making):
        ops.fsync_dir(making)
    taken = {offset.partition: offset.next_offset for offset in manifest.source_offsets}
    return RestoredCollection(segment.config, taken)


def _write_catalogue(reader: ArchiveReader, making: Path, ops: FileOps) -> None:
    """Keep the documents of a full snapshot as the catalogue of what was restored."""
    try:
        beside = together(read_older_document(path, ops) for path in older_documents(making))
    except CorruptFile as error:
        member = Path(error.path).name
        raise InvalidSnapshot(
            reader.path, 0, f"in {member} at byte {error.byte_offset} {error.expected}", error.found
        ) from error
    write_first_catalogue(making, beside, {}, ops)


def _check_files(data: Path, manifest: Manifest) -> None:
    """The manifest names the files beside it, and nothing else, wherever that may be."""
    named = {ref.name for ref in manifest.files()}
    found = {path.name for path in data.iterdir()}
    if named != found:
        raise CorruptFile(str(data), 0, f"the files {sorted(named)}", f"{sorted(found)}")


def check_lengths(path: Path, manifest: Manifest) -> None:
    """The files of the manifest hold as many rows as it says."""
    found = {
        "versions": manifest.versions.content_bytes,
        "live": manifest.live.content_bytes,
        "payloads": sum(group.row_count for group in manifest.payloads),
    }
    rows = manifest.row_count
    expected = {"versions": 8 * rows, "live": -(-rows // 8), "payloads": rows}
    if found != expected:
        raise CorruptFile(str(path), 0, f"lengths {expected}", f"{found}")
    for name, stretches in manifest.arrays.items():
        ends = [stretches[0].begin if stretches else 0, *(stretch.end for stretch in stretches)]
        if [stretch.begin for stretch in stretches] != ends[:-1] or ends != sorted(set(ends)):
            raise CorruptFile(str(path), 0, f"the array {name} without gaps", f"{stretches}")


@contextmanager
def _reported(doing: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(error, f"{doing} {path}") from error
