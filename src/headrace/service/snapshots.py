"""What can any front do with snapshots?"""

from __future__ import annotations

import hashlib
import hmac
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from headrace.engine.engine import Engine
from headrace.model.errors import BadRequest, Forbidden, NotFound, WrongInput
from headrace.model.snapshots import SnapshotDescription, SnapshotUrls
from headrace.service.snapshot_downloads import download_snapshot, shown_url

_CHUNK_BYTES = 4 * 2**20


class SnapshotCounts(NamedTuple):
    """What is done with snapshots of a collection, full ones included.

    Attributes:
        creating: how many are being made now, or wait for another.
        recovering: how many it is being restored from, or waits to be.
        created: how many were made since the store was opened.
    """

    creating: int
    recovering: int
    created: int


class Snapshots:
    """The snapshots of a data directory; thread-safe. One is made or restored at a time.

    Args:
        engine: an open engine.
        urls: from which URLs snapshots may be fetched.
        forget: drops what the service keeps of a collection that is replaced.
    """

    def __init__(self, engine: Engine, urls: SnapshotUrls, forget: Callable[[str], None]) -> None:
        self._engine = engine
        self._urls = urls
        self._forget = forget
        self._counting = threading.Lock()
        self._creating: Counter[str] = Counter()
        self._recovering: Counter[str] = Counter()
        self._created: Counter[str] = Counter()

    def counts(self, collection_name: str) -> SnapshotCounts:
        """What is done with snapshots of a collection."""
        with self._counting:
            counters = (self._creating, self._recovering, self._created)
            return SnapshotCounts(*(counter[collection_name] for counter in counters))

    def forget_counts(self, collection_name: str) -> None:
        """Count those of a collection of this name from 0 again."""
        with self._counting:
            self._created.pop(collection_name, None)

    def descriptions(self, collection_name: str) -> list[SnapshotDescription]:
        """The snapshots of a collection, oldest first.

        Raises:
            NotFound: no such collection.
        """
        return self._engine.snapshots.list(self._true_name(collection_name))

    def create(self, collection_name: str) -> SnapshotDescription:
        """Store a snapshot of a collection, beside running writes; durable when it returns.

        Raises:
            NotFound: no such collection.
            NoSpace, StorageFailed, CorruptFile: nothing was stored.
        """
        name = self._true_name(collection_name)
        with self._counted(self._creating, [name]):
            made = self._engine.create_snapshot(name)
            self._add(self._created, [name], 1)
        return made

    def path(self, collection_name: str, name: str) -> Path:
        """The file of a snapshot, which does not change as long as it is there.

        Raises:
            NotFound: no such collection or snapshot.
        """
        return self._engine.snapshots.find(self._true_name(collection_name), name)

    def delete(self, collection_name: str, name: str) -> None:
        """Remove a snapshot; durable when it returns.

        Raises:
            NotFound: no such collection or snapshot.
        """
        self._engine.check_writable()
        self._engine.snapshots.delete(self._true_name(collection_name), name)

    def full_descriptions(self) -> list[SnapshotDescription]:
        """The snapshots of the whole directory, oldest first."""
        return self._engine.snapshots.list(None)

    def create_full(self) -> SnapshotDescription:
        """Store a snapshot of all collections and their aliases.

        Raises:
            NoSpace, StorageFailed, CorruptFile: nothing was stored.
        """
        names = self._engine.collection_names()
        with self._counted(self._creating, names):
            made = self._engine.create_full_snapshot()
            self._add(self._created, names, 1)
        return made

    def full_path(self, name: str) -> Path:
        """The file of a full snapshot.

        Raises:
            NotFound: there is none.
        """
        return self._engine.snapshots.find(None, name)

    def delete_full(self, name: str) -> None:
        """Remove a full snapshot; durable when it returns.

        Raises:
            NotFound: there is none.
        """
        self._engine.check_writable()
        self._engine.snapshots.delete(None, name)

    def incoming_path(self) -> Path:
        """Where to put an upload, for `recover_upload`; removed at the next start if left."""
        self._engine.check_writable()
        return self._engine.snapshots.incoming_path()

    def recover_upload(self, collection_name: str, path: Path, checksum: str | None = None) -> None:
        """Make a collection out of a file, or replace it by that; durable when it returns.

        Args:
            collection_name: what the collection is, or will be, called.
            path: the file.
            checksum: the SHA-256 that it must have, hexadecimal.

        Raises:
            WrongInput: the checksum differs, or the snapshot is damaged or does not fit;
                nothing was changed.
            NoSpace, StorageFailed: nothing was changed.
        """
        with self._counted(self._recovering, [collection_name]):
            if checksum is not None:
                found = _sha256(path)
                if not hmac.compare_digest(found, checksum.lower()):
                    raise WrongInput(
                        f"Snapshot checksum mismatch: expected {checksum}, got {found}"
                    )
            self._engine.restore_collection(collection_name, path)
        self._forget(collection_name)

    def recover(
        self,
        collection_name: str,
        location: str,
        checksum: str | None = None,
        api_key: str | None = None,
    ) -> None:
        """Make a collection out of a snapshot at a URL, or replace it by that.

        Args:
            collection_name: what the collection is, or will be, called.
            location: `file://` of a file in the directory of snapshots, or `http(s)://` if
                that is switched on.
            checksum: the SHA-256 that it must have, hexadecimal.
            api_key: shown to the server of an `http(s)://` location.

        Raises:
            BadRequest: the location is no such URL.
            Forbidden: it leads where nothing may be fetched from.
            NotFound: there is no such file.
            WrongInput, NoSpace, StorageFailed: as `recover_upload`.
        """
        if urlsplit(location).scheme in ("http", "https"):
            target = self.incoming_path()
            try:
                download_snapshot(location, api_key, target, self._urls)
                self.recover_upload(collection_name, target, checksum)
            finally:
                target.unlink(missing_ok=True)
        else:
            self.recover_upload(collection_name, self._local_file(location), checksum)

    def _local_file(self, location: str) -> Path:
        parts = urlsplit(location)
        if parts.scheme != "file":
            raise BadRequest(
                f"URL {shown_url(location)} with schema {parts.scheme} is not supported"
            )
        path = unquote(parts.path)
        if parts.netloc not in ("", "localhost") or not path.startswith("/") or "\0" in path:
            raise BadRequest("Invalid snapshot URI, file path must be absolute or on localhost")
        try:
            found = Path(os.path.realpath(path))
        except (OSError, ValueError):
            raise NotFound(f"Snapshot file {path} does not exist") from None
        if not found.is_relative_to(os.path.realpath(self._engine.snapshots.directory)):
            raise Forbidden(f"Snapshot file {path} must be inside the snapshots directory")
        if not found.is_file():
            raise NotFound(f"Snapshot file {path} does not exist")
        return found

    @contextmanager
    def _counted(self, counter: Counter[str], names: Sequence[str]) -> Iterator[None]:
        """Count collections for the time that it takes."""
        self._add(counter, names, 1)
        try:
            yield
        finally:
            self._add(counter, names, -1)

    def _add(self, counter: Counter[str], names: Sequence[str], number: int) -> None:
        with self._counting:
            counter.update(dict.fromkeys(names, number))
            for name in names:
                if not counter[name]:
                    del counter[name]

    def _true_name(self, collection_name: str) -> str:
        return self._engine.collection(collection_name).name


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
