"""Is every file of a data directory still what was written?

Nothing is written and no lock is taken, so a directory can be checked beside the process
that owns it. What changes under the check is looked at again: only what stays wrong while
nothing else changes is damage.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from headrace.engine.catalogue import (
    CATALOGUE_DOCUMENT,
    older_documents,
    read_catalogue,
    read_older_document,
)
from headrace.engine.collection.document import COLLECTION_DOCUMENT, read_collection_document
from headrace.engine.collection.identity import (
    WAL_DIRECTORY,
    Identities,
    generation_min,
    known_logs,
)
from headrace.engine.collection.read_only import fingerprint
from headrace.engine.engine import stored_collections
from headrace.engine.segment.checkpoint import (
    DATA_DIRECTORY,
    MANIFEST_NAME,
    Checkpoints,
    Manifest,
)
from headrace.engine.snapshot.archive import ArchiveReader, InvalidSnapshot
from headrace.engine.snapshot.restore import check_lengths
from headrace.engine.snapshot.store import SNAPSHOT_SUFFIX, stored_checksum
from headrace.engine.storage.data_file import find_damage
from headrace.engine.storage.file_ops import FILE_OPS
from headrace.engine.storage.files import read_document
from headrace.engine.storage.lock import read_noted_generation
from headrace.engine.storage.wal_format import is_torn_creation, read_log_file
from headrace.engine.storage.wal_scan import (
    WalScan,
    check_known,
    read_wal_file,
    replay_files,
    scan_wal,
    wal_file_paths,
)
from headrace.model.errors import CorruptFile, NotFound, StorageFailed
from headrace.model.operations import decode_write_batch

# A collection that its owner changes is looked at again so often, then it is taken as it is.
_ATTEMPTS_MAX = 10


class Problem(msgspec.Struct, frozen=True):
    """One place where a file is not what was written.

    Attributes:
        file: its path.
        byte_offset: where in it.
        expected: what should be there.
        found: what is there.
    """

    file: str
    byte_offset: int
    expected: str
    found: str

    @classmethod
    def of(cls, error: CorruptFile | InvalidSnapshot) -> Problem:
        """What an error says."""
        return cls(str(error.path), error.byte_offset, error.expected, error.found)


class CheckReport(msgspec.Struct, frozen=True):
    """What was looked at, and what is wrong.

    Attributes:
        directory: that was checked.
        files: how many files were verified.
        bytes: how long they are together.
        problems: in the order in which they were found.
        notes: what is unusual and harmless.
    """

    directory: str
    files: int
    bytes: int
    problems: list[Problem]
    notes: list[str]


class FileChecked(NamedTuple):
    """One file has been verified."""

    path: Path
    bytes_count: int


OnFile = Callable[[FileChecked], None]


def check_directory(directory: Path, on_file: OnFile = lambda checked: None) -> CheckReport:
    """Verify every file of a data directory, its snapshots too.

    Args:
        directory: of an `Engine`.
        on_file: told of each file, for progress.

    Raises:
        NotFound: it is no data directory.
        StorageFailed: the system cannot read a document beside the collections.
    """
    if not (directory / "collections").is_dir():
        raise NotFound(f"{directory} is not a data directory: it has no `collections` in it")
    check = _Check(directory, on_file)
    check.beside()
    for path in sorted((directory / "collections").glob(".*")):
        check.notes.append(f"{path} was left by an interrupted change; an opening settles it")
    for name, path in stored_collections(directory).items():
        check.collection(name, path)
    check.missing()
    for path in sorted((directory / "snapshots").rglob(f"*{SNAPSHOT_SUFFIX}")):
        check.snapshot(path)
    return CheckReport(str(directory), check.files, check.bytes_count, check.problems, check.notes)


def check_manifest(
    collection: Path, generation_at_least: int = 0
) -> tuple[Manifest | None, list[Problem]]:
    """The newest manifest of a collection, None if there is none or it is damaged.

    Args:
        collection: the directory.
        generation_at_least: of a checkpoint that was there; 0 if there may be none.
    """
    try:
        manifest = Checkpoints(collection).read_manifest(generation_at_least)
        check_lengths(collection / MANIFEST_NAME, manifest)
    except FileNotFoundError:
        return None, []
    except CorruptFile as error:
        return None, [Problem.of(error)]
    return manifest, []


class _Check:
    """What has been found so far."""

    def __init__(self, directory: Path, on_file: OnFile) -> None:
        self._directory = directory
        self._on_file = on_file
        self.files = 0
        self.bytes_count = 0
        self.problems: list[Problem] = []
        self.notes: list[str] = []

    def beside(self) -> None:
        """Verify the catalogue, or the documents of older versions, and any other document."""
        catalogue = self._directory / CATALOGUE_DOCUMENT
        has_catalogue = catalogue.exists() or read_noted_generation(self._directory) > 0
        if has_catalogue:
            self._verify(catalogue, lambda path: read_catalogue(self._directory))
        older = older_documents(self._directory)
        for path in older:
            if has_catalogue:
                self.notes.append(f"{path} is in {catalogue.name}; an opening removes it")
            else:
                self._verify(path, read_older_document)
        for path in sorted(self._directory.glob("*.doc")):
            if path not in (catalogue, *older):
                self._verify(path, read_document)

    def missing(self) -> None:
        """Tell which collections the catalogue lists that are not there."""
        for _ in range(_ATTEMPTS_MAX):
            try:
                catalogue = read_catalogue(self._directory)
            except CorruptFile:
                return
            found = stored_collections(self._directory)
            missing = list(catalogue.missing(self._directory, found))
            if not missing or catalogue.listing() == self._listing():
                self.problems += map(Problem.of, missing)
                return

    def _verify(self, path: Path, read: Callable[[Path], object]) -> None:
        """Read a document; that it is gone by now is no problem."""
        try:
            read(path)
        except FileNotFoundError:
            return
        except CorruptFile as error:
            self.problems.append(Problem.of(error))
        self._count(path)

    def _listing(self) -> object:
        try:
            return read_catalogue(self._directory).listing()
        except CorruptFile:
            return None

    def collection(self, name: str, directory: Path) -> None:
        """Verify a collection, again where its owner changed it meanwhile."""
        part = self
        for attempt in range(_ATTEMPTS_MAX):
            before = fingerprint(directory), self._listing()
            on_file = self._on_file if attempt == 0 else lambda checked: None
            part = _Check(self._directory, on_file)
            try:
                part._collection(name, directory)
                is_settled = not part.problems
            except StorageFailed as error:
                part.problems.append(_unreadable(directory, error))
                is_settled = False
            except FileNotFoundError:
                is_settled = False
            if not directory.exists():
                return
            if is_settled or (fingerprint(directory), self._listing()) == before:
                break
        self.files += part.files
        self.bytes_count += part.bytes_count
        self.problems += part.problems
        self.notes += part.notes

    def snapshot(self, path: Path) -> None:
        """Verify an archive, and the checksum beside it; one that is gone is no problem."""
        try:
            with ArchiveReader(path) as reader:
                for _, chunks in reader.members():
                    for _ in chunks:
                        pass
            wanted, digest = stored_checksum(path), hashlib.sha256()
            with path.open("rb") as file:
                while wanted and (chunk := file.read(2**22)):
                    digest.update(chunk)
            if wanted and digest.hexdigest() != wanted:
                raise CorruptFile(str(path), 0, f"SHA-256 {wanted}", digest.hexdigest())
        except (InvalidSnapshot, CorruptFile) as error:
            self.problems.append(Problem.of(error))
        except (StorageFailed, FileNotFoundError) as error:
            if not path.exists():
                return
            if not isinstance(error, StorageFailed):
                raise
            self.problems.append(_unreadable(path, error))
        self._count(path)

    def _collection(self, name: str, directory: Path) -> None:
        known = None
        try:
            read_collection_document(directory)
            known = self._known(name, directory)
        except CorruptFile as error:
            self.problems.append(Problem.of(error))
        self._count(directory / COLLECTION_DOCUMENT)
        manifest, problems = check_manifest(directory, generation_min(known))
        self.problems += problems
        if manifest is not None:
            self._count(directory / MANIFEST_NAME)
            for ref in manifest.files():
                damages = find_damage(directory / DATA_DIRECTORY, ref)
                self.problems += map(Problem.of, damages)
                self._count(directory / DATA_DIRECTORY / ref.name)
        after_seq_no = None if problems else manifest.seq_no if manifest else 0
        self._log(directory / WAL_DIRECTORY, after_seq_no, known)

    def _known(self, name: str, directory: Path) -> Identities | None:
        try:
            catalogue = read_catalogue(self._directory)
        except CorruptFile:
            return None  # That is told once, not for each collection.
        return catalogue.known(directory, name)

    def _log(self, directory: Path, after_seq_no: int | None, known: Identities | None) -> None:
        """Verify the log's files one by one, then that they fit together and can be replayed."""
        problems = list(_log_problems(directory))
        for path in wal_file_paths(directory):
            self._count(path)
        try:
            if not problems:
                scan = scan_wal(directory)
                _check_reach(directory, scan, after_seq_no)
                if scan.files:
                    check_known(scan, known_logs(known))
                if scan.torn_tail is not None:
                    self.notes.append(
                        f"{scan.torn_tail.path} ends in {scan.torn_tail.bytes_count} bytes of a "
                        "write that was never acknowledged; an opening drops them"
                    )
                problems += _undecodable(scan)
        except CorruptFile as error:
            problems.append(Problem.of(error))
        self.problems += problems

    def _count(self, path: Path) -> None:
        try:
            bytes_count = path.stat().st_size
        except OSError:
            return
        self.files += 1
        self.bytes_count += bytes_count
        self._on_file(FileChecked(path, bytes_count))


def _unreadable(path: Path, error: StorageFailed) -> Problem:
    return Problem(str(path), 0, "files that can be read", error.detail)


def _log_problems(directory: Path) -> Iterator[Problem]:
    """The damage within each file of a log; only its end may be torn."""
    paths = wal_file_paths(directory)
    if not paths:
        yield Problem(str(directory), 0, "the files of a log", "none")
    for path in paths:
        data = read_wal_file(path, FILE_OPS)
        # Whether the last file counts, and the one before may be torn, is judged by `scan_wal`.
        if path == paths[-1] and is_torn_creation(data):
            continue
        try:
            read_log_file(data, str(path), may_be_torn=path in paths[-2:])
        except CorruptFile as error:
            yield Problem.of(error)


def _check_reach(directory: Path, scan: WalScan, checkpoint_seq_no: int | None) -> None:
    """The log begins no later than the checkpoint ends, and ends no earlier."""
    if checkpoint_seq_no is None or not scan.files:
        return
    first, last = scan.files[0].first_seq_no, scan.files[-1].next_seq_no - 1
    if first > checkpoint_seq_no + 1 or last < checkpoint_seq_no:
        raise CorruptFile(
            str(directory), 0, f"a log through seq_no {checkpoint_seq_no}", f"{first} to {last}"
        )


def _undecodable(scan: WalScan) -> Iterator[Problem]:
    for wal_record in replay_files(scan.files, 0):
        try:
            decode_write_batch(wal_record.body)
        except msgspec.DecodeError as error:
            path = str(scan.files[-1].path)
            yield Problem(path, 0, f"a batch with seq_no {wal_record.seq_no}", str(error))
