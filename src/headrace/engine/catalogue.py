"""What must be in a data directory, so that what is lost or older is told from it?

One document, `catalogue.doc`, lists the collections: which log each has, which document, and
how far its log is known to reach. It also is where the small things beside the collections
are kept: aliases, source positions, settings. It is replaced as a whole; that an older copy
of itself is put back is found by the generation that the lock file notes. The bytes are
described in `docs/formats/documents.md`.

A collection that is about to be made or replaced is listed both ways before anything is
renamed: what then is there counts. One that is deleted goes to `.deleted-` and its log's id
first, which says as much until the catalogue does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from headrace.engine.collection.document import COLLECTION_DOCUMENT
from headrace.engine.collection.identity import (
    Identities,
    Identity,
    document_checksum,
    read_identity,
)
from headrace.engine.storage.file_ops import FILE_OPS, FileOps, storage_error
from headrace.engine.storage.files import read_document, write_document
from headrace.engine.storage.lock import DirectoryLock, read_noted_generation
from headrace.model.errors import CorruptFile, NoSpace, StorageFailed
from headrace.model.operations import SourceOffset

logger = logging.getLogger(__name__)

CATALOGUE_DOCUMENT = "catalogue.doc"
DELETED_PREFIX = ".deleted-"

# Older versions kept these beside the collections, and snapshots still do.
_ALIASES_DOCUMENT = "aliases.doc"
_POSITIONS_DOCUMENT = "source_positions.doc"
_SETTINGS_PREFIX, _SETTINGS_SUFFIX = "settings-", ".doc"


# By the name of its directory, what collection may be there; None stands for none.
Listing = dict[str, list[Identity | None]]


class Catalogue(msgspec.Struct, frozen=True):
    """The content of `catalogue.doc`.

    Attributes:
        generation: counts the catalogues of the directory; 0 if there is none yet, and what
            collections there must be is not known.
        collections: what there must be; more than one, and None, while that changes.
        aliases: the collection's name, by alias.
        source_positions: the offsets before which everything is durable in all collections.
        settings: what the layer above keeps, as JSON, by name.
    """

    generation: int = 0
    collections: Listing = {}
    aliases: dict[str, str] = {}
    source_positions: list[SourceOffset] = []
    settings: dict[str, msgspec.Raw] = {}

    def missing(self, directory: Path, found: Container[str]) -> Iterator[CorruptFile]:
        """The collections that must be in a data directory, and are not.

        Args:
            directory: the data directory.
            found: the names of the collections' directories that are there.
        """
        parent = directory / "collections"
        for name, listed in self.collections.items():
            may_be_gone = any(one is None or _is_deleted(parent, one) for one in listed)
            if name not in found and not may_be_gone:
                yield CorruptFile(str(parent / name), 0, "the directory of a collection", "none")

    def known(self, collection: Path, name: str, ops: FileOps = FILE_OPS) -> Identities | None:
        """Which collections the one in a directory may be; None if that is not known.

        Args:
            collection: the directory.
            name: under which it is listed.
            ops: the file operations to use.

        Raises:
            CorruptFile: none is listed, or its document is none that is.
            StorageFailed: the document cannot be read.
        """
        if self.generation == 0:
            return None
        listed = [one for one in self.collections.get(name, []) if one is not None]
        if not listed:
            expected = f"nothing, since {CATALOGUE_DOCUMENT} lists no such collection"
            raise CorruptFile(str(collection), 0, expected, "a collection")
        return {one.log_id: one for one in _of_document(listed, collection, ops)}

    def listing(self) -> object:
        """Something that changes when what collections there must be changes."""
        # Not how far each has come: that changes all the time.
        return {
            name: [one and one.log_id for one in listed]
            for name, listed in self.collections.items()
        }

    def documents(self) -> dict[str, object]:
        """What is kept beside the collections, as documents of its own: for a snapshot."""
        found: dict[str, object] = {}
        if self.aliases:
            found[_ALIASES_DOCUMENT] = self.aliases
        if self.source_positions:
            found[_POSITIONS_DOCUMENT] = self.source_positions
        for name, settings in self.settings.items():
            found[f"{_SETTINGS_PREFIX}{name}{_SETTINGS_SUFFIX}"] = settings
        return found


class StoredCatalogue:
    """The catalogue of one data directory as it is stored; for one writer at a time.

    Whatever is stored, what it says of collections is brought up to what there is.

    Args:
        directory: the data directory.
        ops: the file operations to use.
        lock: of the directory; None if it is only read, or nobody else can have it.
        there: tells which collections there are.

    Attributes:
        content: the newest one; replaced, never changed, so readers need no lock.
    """

    def __init__(
        self,
        directory: Path,
        ops: FileOps,
        lock: DirectoryLock | None,
        there: Callable[[], Listing],
    ) -> None:
        self.content = Catalogue()
        self._directory = directory
        self._ops = ops
        self._lock = lock
        self._there = there
        self._path = directory / CATALOGUE_DOCUMENT
        self._generation = 0
        # What there may be where a change is under way, or failed half-way.
        self._changing: Listing = {}
        self._is_settled = False

    def load(self) -> None:
        """Read what is stored.

        Raises:
            CorruptFile: it is damaged, missing, or an older copy.
        """
        self.content = read_catalogue(self._directory, self._ops)
        self._generation = self.content.generation
        self._note()

    def store(self, **changes: Any) -> None:
        """Change members of the catalogue; durable when it returns.

        Raises:
            NoSpace: nothing was changed.
            StorageFailed: nothing was changed, but for the document, perhaps.
        """
        # Counted before: one that was put in its place and not synced is there, perhaps.
        self._generation += 1
        changed = msgspec.structs.replace(
            self.content, generation=self._generation, collections=self._listed(), **changes
        )
        write_document(self._path, changed, self._ops)
        self.content = changed
        self._note()

    def expect(self, name: str, coming: Identity, **changes: Any) -> None:
        """Know what comes into a directory, in the place of what is there.

        Raises: as `store`; then nothing may come.
        """
        before = self._changing
        self.note_change(name, coming)
        try:
            self.store(**changes)
        except BaseException:
            self._changing = before
            raise

    def note_change(self, name: str, coming: Identity | None) -> None:
        """Have catalogues say, until it is settled, that this may be in a directory too."""
        listed = self._listed().get(name, [None])
        self._changing = self._changing | {name: [*listed, coming]}

    def settle(self, name: str, **changes: Any) -> bool:
        """Know that a change of a directory is done, which is durable without the catalogue.

        Returns:
            Whether the catalogue says so; otherwise the next one does.
        """
        self._changing = {other: one for other, one in self._changing.items() if other != name}
        try:
            self.store(**changes)
        except (NoSpace, StorageFailed) as error:
            logger.warning("%s lags behind: %s", CATALOGUE_DOCUMENT, error.message)
            self.content = msgspec.structs.replace(self.content, **changes)
            return False
        return True

    def settle_all(self, collection_names: Container[str]) -> bool:
        """When all collections are opened, let the catalogue say what there is.

        Args:
            collection_names: of all there are; aliases of others are dropped.

        Returns:
            False if there is no room for it.

        Raises:
            StorageFailed: the system refused.
        """
        self._is_settled = True
        found = self.content.aliases
        aliases = {alias: name for alias, name in found.items() if name in collection_names}
        for alias in found.keys() - aliases.keys():
            logger.info("dropping alias %s of %s, which is gone", alias, found[alias])
        is_true = self.content.collections == self._listed() and aliases == found
        if self.content.generation and is_true:
            return True
        try:
            self.store(aliases=aliases)
        except NoSpace as error:
            logger.warning("%s lags behind: %s", CATALOGUE_DOCUMENT, error.message)
            self.content = msgspec.structs.replace(self.content, aliases=aliases)
            return False
        return True

    def close(self) -> None:
        """When all collections are closed, know how far each has come."""
        is_owners = self._lock is not None and self._is_settled
        if is_owners and self.content.collections != self._listed():
            try:
                self.store()
            except (NoSpace, StorageFailed) as error:
                logger.warning("%s lags behind: %s", CATALOGUE_DOCUMENT, error.message)

    def remove_older_documents(self) -> None:
        """Remove the documents that a stored catalogue has taken the place of.

        What a crash leaves of them is never read again.

        Raises:
            StorageFailed: the system refused.
        """
        for path in older_documents(self._directory):
            logger.info("removing %s, which %s has taken in", path, CATALOGUE_DOCUMENT)
            try:
                self._ops.unlink(path)
            except OSError as error:
                raise storage_error(error, f"removing {path}") from error

    def _listed(self) -> Listing:
        return self._there() | self._changing

    def _note(self) -> None:
        if self._lock is not None and self.content.generation:
            self._lock.note(self.content.generation)


def read_catalogue(directory: Path, ops: FileOps = FILE_OPS) -> Catalogue:
    """The catalogue of a data directory, or what an older version has stored instead.

    Raises:
        CorruptFile: it is damaged, missing, or an older copy.
        StorageFailed: the system cannot read it.
    """
    path = directory / CATALOGUE_DOCUMENT
    # Noted after it was stored, so it is read before.
    noted = read_noted_generation(directory)
    expected = f"a catalogue of generation {noted} or later"
    try:
        found = read_document(path, Catalogue, ops=ops)
    except FileNotFoundError:
        if noted:
            raise CorruptFile(str(path), 0, expected, "no file") from None
        return together(read_older_document(path, ops) for path in older_documents(directory))
    if found.generation < noted:
        raise CorruptFile(str(path), 0, expected, f"generation {found.generation}")
    return found


def write_first_catalogue(
    directory: Path, beside: Catalogue, reached: Mapping[str, int], ops: FileOps
) -> None:
    """Give a directory that nobody has opened yet the catalogue of what is in it; durable.

    Args:
        directory: the data directory.
        beside: what is kept beside the collections.
        reached: by collection directory, a seq_no that its log reaches, where one is known.
        ops: the file operations to use.

    Raises:
        CorruptFile: a collection is damaged.
        NoSpace, StorageFailed: the system refused.
    """
    collections: Listing = {
        path.name: [read_identity(path, ops, reached.get(path.name, 0))]
        for path in sorted((directory / "collections").iterdir())
    }
    catalogue = StoredCatalogue(directory, ops, None, lambda: collections)
    catalogue.store(
        aliases=beside.aliases, source_positions=beside.source_positions, settings=beside.settings
    )
    catalogue.remove_older_documents()


def _is_deleted(parent: Path, collection: Identity) -> bool:
    """Whether a collection was deleted, and only the catalogue does not say so yet."""
    return (parent / deleted_name(collection.log_id)).exists()


def deleted_name(log_id: str) -> str:
    """Where a collection goes that is deleted."""
    return f"{DELETED_PREFIX}{log_id}"


def _of_document(listed: list[Identity], collection: Path, ops: FileOps) -> list[Identity]:
    """Those whose document is the one in a directory."""
    checksum = document_checksum(collection, ops)
    found = [one for one in listed if one.document == checksum]
    if not found:
        path = str(collection / COLLECTION_DOCUMENT)
        expected = " or ".join(f"{one.document:08x}" for one in listed)
        raise CorruptFile(path, 0, f"a file with checksum {expected}", f"{checksum:08x}")
    return found


def older_documents(directory: Path) -> list[Path]:
    """The documents that older versions kept in the place of a catalogue."""
    names = (_ALIASES_DOCUMENT, _POSITIONS_DOCUMENT, f"{_SETTINGS_PREFIX}*{_SETTINGS_SUFFIX}")
    return sorted(path for name in names for path in directory.glob(name))


def read_older_document(path: Path, ops: FileOps = FILE_OPS) -> Catalogue:
    """One of those documents, as the part of a catalogue that it is.

    Raises:
        CorruptFile: it is damaged.
        StorageFailed: the system cannot read it.
    """
    if path.name == _ALIASES_DOCUMENT:
        return Catalogue(aliases=read_document(path, dict[str, str], ops=ops))
    if path.name == _POSITIONS_DOCUMENT:
        return Catalogue(source_positions=read_document(path, list[SourceOffset], ops=ops))
    name = path.name.removeprefix(_SETTINGS_PREFIX).removesuffix(_SETTINGS_SUFFIX)
    return Catalogue(settings={name: as_settings(read_document(path, ops=ops))})


def as_settings(settings: object) -> msgspec.Raw:
    """Settings in the form in which a catalogue has them."""
    return msgspec.Raw(msgspec.json.encode(settings, order="deterministic"))


def together(parts: Iterable[Catalogue]) -> Catalogue:
    """One catalogue of the documents of older versions."""
    aliases: dict[str, str] = {}
    source_positions: list[SourceOffset] = []
    settings: dict[str, msgspec.Raw] = {}
    for part in parts:
        aliases |= part.aliases
        source_positions += part.source_positions
        settings |= part.settings
    return Catalogue(aliases=aliases, source_positions=source_positions, settings=settings)
