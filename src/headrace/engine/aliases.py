"""Which second names do collections have?

They are kept in the catalogue, and changed all or none.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from headrace.model.aliases import (
    AliasAction,
    AliasDescription,
    CreateAlias,
    DeleteAlias,
    RenameAlias,
)
from headrace.model.errors import AlreadyExists, NotFound, collection_not_found


def alias_descriptions(aliases: Mapping[str, str]) -> list[AliasDescription]:
    """All aliases, sorted by name."""
    return [AliasDescription(*item) for item in sorted(aliases.items())]


def changed_aliases(
    aliases: Mapping[str, str], actions: Sequence[AliasAction], collections: Container[str]
) -> dict[str, str]:
    """The aliases once all actions are taken, in order.

    Args:
        aliases: the collection's name, by alias.
        actions: what is asked for.
        collections: the names of those there are.

    Raises:
        NotFound, AlreadyExists: as `Engine.change_aliases`.
    """
    changed = dict(aliases)
    for action in actions:
        _apply_into(changed, action, collections)
    return changed


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
