"""What can be kept of a damaged data directory?

A new directory is made of everything that is provably good, and the report says what was
left out. The old one is only read. What counts as good:

- a document, a checkpoint and a snapshot if they verify, and are no older copies;
- of a damaged checkpoint the whole log instead, if there is one from the first write on;
- else the rows of it that are whole (`salvage`);
- of the log the writes that follow the checkpoint without a gap. A write behind a gap is
  left out, since what it changed may have been something else by then.

Where a collection has lost writes, source positions go back to what it has, so that its
sources come again with the rest.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import numpy as np

from headrace.engine.catalogue import (
    CATALOGUE_DOCUMENT,
    Catalogue,
    older_documents,
    read_catalogue,
    read_older_document,
    together,
    write_first_catalogue,
)
from headrace.engine.collection.apply import apply_operation, take_points
from headrace.engine.collection.document import (
    COLLECTION_DOCUMENT,
    CollectionDocument,
    read_collection_document,
)
from headrace.engine.collection.identity import WAL_DIRECTORY
from headrace.engine.engine import stored_collections
from headrace.engine.segment.checkpoint import (
    DATA_DIRECTORY,
    MANIFEST_NAME,
    Checkpoints,
    Manifest,
)
from headrace.engine.segment.ids import NO_ROW
from headrace.engine.segment.segment import Segment
from headrace.engine.snapshot.store import CHECKSUM_SUFFIX, SNAPSHOT_SUFFIX
from headrace.engine.storage.file_ops import FILE_OPS, FileOps, storage_error
from headrace.engine.storage.files import collection_directory_name, write_document
from headrace.engine.storage.lock import DirectoryLock
from headrace.engine.storage.wal import Wal
from headrace.engine.storage.wal_format import find_whole_bodies, read_file_header
from headrace.engine.storage.wal_scan import read_wal_file, wal_file_name, wal_file_paths
from headrace.engine.upkeep.check import Problem, check_directory, check_manifest
from headrace.engine.upkeep.salvage import Salvaged, salvage
from headrace.engine.vector_index.builder import IndexBuilder
from headrace.model.errors import AlreadyExists, CorruptFile, HeadraceError, NotFound
from headrace.model.ids import PointId
from headrace.model.operations import (
    Operation,
    RewindSource,
    SourceOffset,
    SourcePartition,
    UpdateMode,
    UpdateVectors,
    UpsertPoints,
    WriteBatch,
    decode_write_batch,
)

# So many ids of lost points are told one by one.
_IDS_TOLD_MAX = 1000
_RECORDS_PER_SYNC = 1000


class RepairedCollection(msgspec.Struct, frozen=True):
    """What became of one collection.

    Attributes:
        name: of it; of its directory if the name is lost.
        seq_no: the last write that was kept; -1 if nothing was.
        points: how many there are now; -1 if they were not counted, since all were kept.
        left_out: what was not kept, in words.
        lost_ids: ids of points that were left out, of those that are known at most 1,000.
    """

    name: str
    seq_no: int
    points: int
    left_out: list[str]
    lost_ids: list[PointId]


class RepairReport(msgspec.Struct, frozen=True):
    """What was kept and what was not.

    Attributes:
        directory: that was repaired.
        target: the new one.
        collections: what became of each.
        left_out: files beside the collections that were not kept.
        problems: all damage that was found.
    """

    directory: str
    target: str
    collections: list[RepairedCollection]
    left_out: list[str]
    problems: list[Problem]


def repair_directory(
    directory: Path,
    target: Path,
    on_step: Callable[[str], None] = lambda what: None,
    ops: FileOps = FILE_OPS,
) -> RepairReport:
    """Make a new data directory of what is provably good; whole and durable, or not there.

    Args:
        directory: only read, but for its lock file.
        target: missing, or empty.
        on_step: told what is done next.
        ops: the file operations to use.

    Raises:
        NotFound: `directory` is no data directory.
        AlreadyExists: there is something at `target`.
        DirectoryInUse: a process has `directory` open.
        NoSpace, StorageFailed: nothing was made.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise AlreadyExists(f"{target} is not empty: repair into a new directory")
    if not (directory / "collections").is_dir():
        raise NotFound(f"{directory} is not a data directory: it has no `collections` in it")
    # A file system is read-only, for instance, after the system found errors in it.
    lock = DirectoryLock.acquire(directory, may_be_read_only=True)
    making = target.absolute().parent / f".repairing-{uuid4().hex}"
    try:
        on_step("checking")
        problems = check_directory(directory).problems
        report = _Repair(directory, making, problems, on_step, ops).run(target)
        ops.rename(making, target)
        ops.fsync_dir(target.absolute().parent)
    except BaseException as error:
        shutil.rmtree(making, ignore_errors=True)
        if isinstance(error, OSError):
            raise storage_error(error, f"making {target}") from error
        raise
    finally:
        lock.release()
    return report


class _Repair:
    def __init__(
        self,
        directory: Path,
        making: Path,
        problems: list[Problem],
        on_step: Callable[[str], None],
        ops: FileOps,
    ) -> None:
        self._directory = directory
        self._making = making
        self._problems = problems
        self._damaged = {problem.file for problem in problems}
        self._on_step = on_step
        self._ops = ops
        self._left_out: list[str] = []
        self._reached: dict[str, int] = {}
        # How far each collection that has lost something has taken its sources.
        self._taken: list[dict[SourcePartition, int]] = []

    def run(self, target: Path) -> RepairReport:
        self._ops.mkdir(self._making)
        self._ops.mkdir(self._making / "collections")
        beside = self._beside()
        found = stored_collections(self._directory)
        collections = [self._collection(path) for path in found.values()]
        for missing in beside.missing(self._directory, found):
            name = Path(missing.path).name
            reason = f"everything: {missing.path} is missing"
            collections.append(RepairedCollection(name, -1, -1, [reason], []))
            self._taken.append({})
        self._snapshots()
        self._ops.fsync_dir(self._making / "collections")
        self._ops.fsync_dir(self._making)
        positions = self._positions(beside.source_positions)
        beside = msgspec.structs.replace(beside, source_positions=positions)
        write_first_catalogue(self._making, beside, self._reached, self._ops)
        return RepairReport(
            str(self._directory), str(target), collections, self._left_out, self._problems
        )

    def _beside(self) -> Catalogue:
        """What is kept beside the collections, and whole."""
        catalogue = self._directory / CATALOGUE_DOCUMENT
        older = older_documents(self._directory)
        for path in sorted(self._directory.glob("*.doc")):
            if path not in (catalogue, *older):
                self._take(path, self._making / path.name)
        if str(catalogue) in self._damaged:
            self._left_out.append(
                f"{catalogue}: damaged, with the aliases, source positions and settings in it"
            )
            return Catalogue()
        if catalogue.exists():
            return read_catalogue(self._directory)
        self._left_out += [f"{path}: damaged" for path in older if str(path) in self._damaged]
        return together(read_older_document(p) for p in older if str(p) not in self._damaged)

    def _positions(self, stored: list[SourceOffset]) -> list[SourceOffset]:
        """Source positions that say no more than what the collections that lost writes have."""
        positions = [
            SourceOffset(one.partition, min([one.next_offset, *self._taken_of(one.partition)]))
            for one in stored
        ]
        if positions != stored:
            self._left_out.append(
                "source positions beyond what the collections hold: sources come again"
            )
        return positions

    def _taken_of(self, partition: SourcePartition) -> list[int]:
        return [taken.get(partition, 0) for taken in self._taken]

    def _collection(self, old: Path) -> RepairedCollection:
        self._on_step(f"repairing {old.name}")
        try:
            document = read_collection_document(old)
        except CorruptFile as error:
            reason = f"everything: the configuration in {error.path} is damaged"
            self._taken.append({})
            return RepairedCollection(old.name, -1, -1, [reason], [])
        new = self._making / "collections" / collection_directory_name(document.name)
        self._ops.mkdir(new)
        write_document(new / COLLECTION_DOCUMENT, document, self._ops)
        repair = _CollectionRepair(old, new, document, self._damaged, self._ops)
        repaired = repair.run()
        self._ops.fsync_dir(new)
        self._reached[new.name] = repaired.seq_no
        if repaired.left_out:
            self._taken.append(repair.taken)
        return repaired

    def _snapshots(self) -> None:
        for path in sorted((self._directory / "snapshots").rglob(f"*{SNAPSHOT_SUFFIX}")):
            target = self._making / path.relative_to(self._directory)
            for folder in (target.parent.parent, target.parent):
                if not folder.is_dir():
                    self._ops.mkdir(folder)
            self._take(path, target)
            checksum = path.with_name(path.name + CHECKSUM_SUFFIX)
            if checksum.exists() and target.exists():
                self._take(checksum, target.with_name(checksum.name))
            self._ops.fsync_dir(target.parent)

    def _take(self, source: Path, target: Path) -> None:
        if str(source) in self._damaged:
            self._left_out.append(f"{source}: damaged")
        else:
            _copy(source, target, self._ops)


class _CollectionRepair:
    """The repair of one collection.

    Attributes:
        taken: how far each source partition has been taken by what was kept.
    """

    def __init__(
        self, old: Path, new: Path, document: CollectionDocument, damaged: set[str], ops: FileOps
    ) -> None:
        self._old, self._new, self._ops = old, new, ops
        self._document = document
        self.taken: dict[SourcePartition, int] = {}
        self._left_out: list[str] = []
        self._bodies, self._logs_damaged = _whole_bodies(old / WAL_DIRECTORY, damaged)
        self._damaged = damaged
        self._is_damaged = any(Path(file).parent == old / DATA_DIRECTORY for file in damaged)

    def run(self) -> RepairedCollection:
        manifest, problems = check_manifest(self._old)
        path = self._old / MANIFEST_NAME
        if str(path) in self._damaged:
            manifest = None  # It may be whole, but an older copy.
        wanted = manifest.seq_no if manifest is not None else 0
        is_whole = manifest is not None and not self._is_damaged
        if manifest is not None and (is_whole or _reach(self._bodies, 0) < max(wanted, 1)):
            return self._from_checkpoint(manifest)
        begins_later = any(int(log.stem) > 1 for log in wal_file_paths(self._old / WAL_DIRECTORY))
        if 1 in self._bodies:
            if problems or manifest is not None or str(path) in self._damaged:
                self._left_out.append(
                    "the checkpoint, which is damaged; the log is whole from its beginning and "
                    "holds everything"
                )
        elif problems or str(path) in self._damaged or begins_later:
            what = "damaged" if path.exists() else "missing"
            self._left_out.append(
                f"the checkpoint: {path} is {what}; the configuration is the one that the "
                "collection was made with"
            )
        return self._from_log(0)

    def _from_checkpoint(self, manifest: Manifest) -> RepairedCollection:
        data = self._new / DATA_DIRECTORY
        self._ops.mkdir(data)
        config = manifest.config or self._document.config
        salvaged = salvage(manifest, config, self._old / DATA_DIRECTORY, data, self._ops)
        for ref in {ref.name: ref for ref in salvaged.kept_files}.values():
            _copy(self._old / DATA_DIRECTORY / ref.name, data / ref.name, self._ops)
        write_document(self._new / MANIFEST_NAME, salvaged.manifest, self._ops)
        self._ops.fsync_dir(data)
        if manifest.graphs and not salvaged.manifest.graphs:
            self._left_out.append("vector indexes, which are made anew")
        self.taken = {taken.partition: taken.next_offset for taken in manifest.source_offsets}
        if not salvaged.lost.any():
            return self._from_log(manifest.seq_no)
        return self._after_losses(manifest, salvaged)

    def _from_log(self, after_seq_no: int) -> RepairedCollection:
        """Keep the writes that follow a whole checkpoint, as they are."""
        last = _reach(self._bodies, after_seq_no)
        wal = Wal.create(self._new / WAL_DIRECTORY, first_seq_no=after_seq_no + 1, ops=self._ops)
        for seq_no in range(after_seq_no + 1, last + 1):
            try:
                _take_into(self.taken, decode_write_batch(self._bodies[seq_no]))
            except msgspec.DecodeError as error:
                self._left_out.append(f"the writes from seq_no {seq_no} on: {error}")
                last = seq_no - 1
                break
            wal.append(seq_no, self._bodies[seq_no])
            if seq_no % _RECORDS_PER_SYNC == 0:
                wal.sync()
        wal.sync()
        wal.close()
        self._tell_log(last)
        return RepairedCollection(self._document.name, last, -1, self._left_out, [])

    def _after_losses(self, manifest: Manifest, salvaged: Salvaged) -> RepairedCollection:
        """Apply the writes that follow to the rows that are left, and keep the outcome."""
        builder = IndexBuilder()
        builder.close()
        segment = Segment(self._document.config, builder)
        checkpoints = Checkpoints(self._new, self._ops)
        checkpoints.load_into(segment)
        known = np.flatnonzero(salvaged.lost & ~salvaged.lost_ids_unknown)
        lost_ids = list(segment.row_ids.get_many(known))
        unknown = int(np.count_nonzero(salvaged.lost_ids_unknown))
        last = manifest.seq_no
        for seq_no in range(last + 1, _reach(self._bodies, last) + 1):
            batch = decode_write_batch(self._bodies[seq_no])
            try:
                _apply_to_stored(segment, seq_no, batch)
            except HeadraceError as error:
                self._left_out.append(f"the writes from seq_no {seq_no} on: {error.message}")
                break
            last = seq_no
        view = segment.working_view()
        checkpoints.write(view, segment.versions.view(view.row_count))
        self.taken = dict(view.source_offsets)
        Wal.create(self._new / WAL_DIRECTORY, first_seq_no=last + 1, ops=self._ops).close()
        self._tell_log(last)
        again = segment.rows_of(lost_ids)
        still_lost = [
            point_id
            for point_id, row in zip(lost_ids, again.tolist(), strict=True)
            if row == NO_ROW
        ]
        self._left_out.append(
            f"{len(still_lost)} points whose rows are damaged"
            + (f", and {unknown} rows whose ids are damaged too" if unknown else "")
            + "; of later writes what concerns points that are not stored, unless it writes "
            "them whole"
        )
        return RepairedCollection(
            self._document.name,
            last,
            view.live_count,
            self._left_out,
            still_lost[:_IDS_TOLD_MAX],
        )

    def _tell_log(self, last: int) -> None:
        left = [seq_no for seq_no in self._bodies if seq_no > last]
        for path in self._logs_damaged:
            self._left_out.append(f"what is damaged in {path}")
        if left:
            self._left_out.append(
                f"{len(left)} whole writes up to seq_no {max(left)}: seq_no {last + 1}, which "
                "they follow, is lost"
            )


def _whole_bodies(directory: Path, damaged: set[str]) -> tuple[dict[int, bytes], list[Path]]:
    """Every write of a log that verifies, by seq_no; and the files with damage."""
    files: list[tuple[bytes, Path, bytes]] = []
    damaged_files = [path for path in wal_file_paths(directory) if str(path) in damaged]
    for path in wal_file_paths(directory):
        data = read_wal_file(path, FILE_OPS)
        try:
            header = read_file_header(data, str(path))
        except CorruptFile:
            continue
        if wal_file_name(header.first_seq_no) == path.name:
            files.append((header.log_id, path, data))
    bodies: dict[int, bytes] = {}
    if files:
        # A file of another log got here by mistake: its seq_nos mean other writes.
        log_id = Counter(log_id for log_id, _, _ in files).most_common(1)[0][0]
        for found_id, path, data in files:
            if found_id == log_id:
                for span in find_whole_bodies(data, str(path)):
                    bodies[span.seq_no] = data[span.start : span.end]
    return bodies, damaged_files


def _take_into(taken: dict[SourcePartition, int], batch: WriteBatch) -> None:
    """Follow how far source partitions have been taken, as a segment does."""
    for operation in batch.operations:
        if isinstance(operation, RewindSource):
            before = taken.get(operation.partition, 0)
            taken[operation.partition] = min(before, operation.next_offset)
    for offset in batch.source_offsets:
        taken[offset.partition] = max(taken.get(offset.partition, 0), offset.next_offset)


def _reach(bodies: dict[int, bytes], after_seq_no: int) -> int:
    """The last seq_no that can be reached from `after_seq_no` without a gap."""
    while after_seq_no + 1 in bodies:
        after_seq_no += 1
    return after_seq_no


def _apply_to_stored(segment: Segment, seq_no: int, batch: WriteBatch) -> None:
    """Apply a write as far as it does not rest on points that are not there.

    Raises:
        NotFound: it does so in a way that cannot be left out.
    """
    segment.begin(seq_no)
    try:
        for operation in batch.operations:
            apply_operation(segment, _on_stored(segment, operation))
        for taken in batch.source_offsets:
            segment.set_source_offset(taken.partition, taken.next_offset)
    except BaseException:
        segment.rollback()
        raise
    segment.end_batches()


def _on_stored(segment: Segment, operation: Operation) -> Operation:
    """The operation on points that are stored: of others it is not known what they were."""
    if isinstance(operation, UpsertPoints):
        is_plain = operation.mode is UpdateMode.UPSERT and operation.update_filter is None
        return operation if is_plain else _taken(segment, operation)
    if isinstance(operation, UpdateVectors):
        return _taken(segment, operation)
    selector: Any = getattr(operation, "selector", None)
    if selector is None or selector.ids is None:
        return operation
    rows = segment.rows_of(selector.ids)
    ids = tuple(i for i, row in zip(selector.ids, rows.tolist(), strict=True) if row != NO_ROW)
    changed: Operation = msgspec.structs.replace(
        operation, selector=msgspec.structs.replace(selector, ids=ids)
    )
    return changed


def _taken(segment: Segment, operation: UpsertPoints | UpdateVectors) -> Operation:
    kept = segment.rows_of(operation.ids) != NO_ROW
    vectors = {name: take_points(batch, kept) for name, batch in operation.vectors.items()}
    ids = list(_chosen(operation.ids, kept.tolist()))
    if isinstance(operation, UpdateVectors):
        return msgspec.structs.replace(operation, ids=ids, vectors=vectors)
    payloads = list(_chosen(operation.payloads, kept.tolist()))
    return msgspec.structs.replace(operation, ids=ids, vectors=vectors, payloads=payloads)


def _chosen(items: list[Any], kept: list[bool]) -> Iterator[Any]:
    return (item for item, keep in zip(items, kept, strict=True) if keep)


def _copy(source: Path, target: Path, ops: FileOps) -> None:
    """A second name for a file that never changes, or a copy where that cannot be had."""
    if source.suffix in (".data", SNAPSHOT_SUFFIX):
        try:
            os.link(source, target)
        except OSError:
            pass
        else:
            return
    shutil.copyfile(source, target)
    fd = ops.open(target, os.O_RDWR)
    try:
        ops.fdatasync(fd)
    finally:
        ops.close(fd)
