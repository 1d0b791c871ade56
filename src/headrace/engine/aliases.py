"""Which second names do collections have?

All are kept in one small document, replaced as a whole by each change.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Sequence
from pathlib import Path

from headrace.engine.storage.file_ops import FileOps
from headrace.engine.storage.files import read_document, write_document
from headrace.model.aliases import (
    AliasAction,
    AliasDescription,
    CreateAlias,
    DeleteAlias,
    RenameAlias,
)
from headrace.model.errors import AlreadyExists, NotFound, collection_not_found

logger = logging.getLogger(__name__)


class Aliases:
    """The aliases of a data directory. Readers never wait; the owner lets one writer in.

    Args:
        path: of the document.
        ops: the file operations to use.
    """

    def __init__(self, path: Path, ops: FileOps) -> None:
        self._path = path
        self._ops = ops
        self._collection_names: dict[str, str] = {}

    def load(self, collections: Container[str]) -> None:
        """Read the document, without the aliases of collections that are gone.

        Raises:
            CorruptFile: it is damaged.
        """
        if not self._path.exists():
            return
        stored = read_document(self._path, dict[str, str], ops=self._ops)
        for alias_name, collection_name in stored.items():
            if collection_name in collections:
                self._collection_names[alias_name] = collection_name
            else:
                logger.info("dropping alias %s of %s, which is gone", alias_name, collection_name)

    def resolve(self, name: str) -> str:
        """The collection that an alias stands for; any other name stands for itself."""
        return self._collection_names.get(name, name)

    def descriptions(self) -> list[AliasDescription]:
        """All aliases, sorted by name."""
        return [AliasDescription(*item) for item in sorted(self._collection_names.items())]

    def change(self, actions: Sequence[AliasAction], collections: Container[str]) -> None:
        """Take actions in order, all or none; durable when it returns.

        Raises:
            NotFound, AlreadyExists: as `Engine.change_aliases`.
        """
        changed = dict(self._collection_names)
        for action in actions:
            _apply_into(changed, action, collections)
        self._store(changed)

    def drop_collection(self, collection_name: str) -> None:
        """Forget the aliases of a collection that is gone; durable when it returns."""
        if collection_name in self._collection_names.values():
            self._store(
                {
                    alias_name: target
                    for alias_name, target in self._collection_names.items()
                    if target != collection_name
                }
            )

    def _store(self, changed: dict[str, str]) -> None:
        if changed != self._collection_names:
            write_document(self._path, changed, self._ops)
            self._collection_names = changed


def _apply_into(
    collection_names: dict[str, str], action: AliasAction, collections: Container[str]
) -> None:
    match action:
        case CreateAlias(collection_name, alias_name):
            if collection_name not in collections:
                raise collection_not_found(collection_name)
            _refuse_collection_name(alias_name, collections)
            collection_names[alias_name] = collection_name
        case DeleteAlias(alias_name):
            collection_names.pop(alias_name, None)
        case RenameAlias(old_alias_name, new_alias_name):
            if old_alias_name not in collection_names:
                raise NotFound(f"Alias {old_alias_name} does not exists!")
            _refuse_collection_name(new_alias_name, collections)
            collection_names[new_alias_name] = collection_names.pop(old_alias_name)


def _refuse_collection_name(alias_name: str, collections: Container[str]) -> None:
    if alias_name in collections:
        raise AlreadyExists(f"Collection `{alias_name}` already exists!")
