"""What can be done to the second names of collections?"""

from __future__ import annotations

import msgspec


class CreateAlias(msgspec.Struct, frozen=True):
    """Let `alias_name` stand for a collection; an alias that is there points elsewhere then."""

    collection_name: str
    alias_name: str


class DeleteAlias(msgspec.Struct, frozen=True):
    """Forget an alias; no error if there is none."""

    alias_name: str


class RenameAlias(msgspec.Struct, frozen=True):
    """Give an alias another name, in place of any alias that has it."""

    old_alias_name: str
    new_alias_name: str


AliasAction = CreateAlias | DeleteAlias | RenameAlias


class AliasDescription(msgspec.Struct, frozen=True):
    """An alias and the collection that it stands for."""

    alias_name: str
    collection_name: str
