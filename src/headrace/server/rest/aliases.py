"""Which changes of aliases does a body ask for?"""

from __future__ import annotations

from collections.abc import Callable

from headrace.model.aliases import AliasAction, CreateAlias, DeleteAlias, RenameAlias
from headrace.model.names import collection_name_problems
from headrace.server.rest.body import Node, read_body


def parse_alias_actions(body: bytes) -> list[AliasAction]:
    """POST /collections/aliases. Raises FormatError, InvalidBody."""
    return read_body(
        body, lambda node: [_read_action(one) for one in node.require("actions").elements()]
    )


def _read_action(node: Node) -> AliasAction:
    for name, read in _ACTIONS.items():
        if node.has(name):
            return read(node.require(name))
    raise node.format_error("data did not match any variant of untagged enum AliasOperations")


def _read_name(node: Node, member: str) -> str:
    """A name that can stand in a path."""
    child = node.require(member)
    name = child.text()
    for problem in collection_name_problems(name):
        child.broken(problem)
    return name


_ACTIONS: dict[str, Callable[[Node], AliasAction]] = {
    "create_alias": lambda node: CreateAlias(
        node.require("collection_name").text(), _read_name(node, "alias_name")
    ),
    "delete_alias": lambda node: DeleteAlias(node.require("alias_name").text()),
    "rename_alias": lambda node: RenameAlias(
        node.require("old_alias_name").text(), _read_name(node, "new_alias_name")
    ),
}
