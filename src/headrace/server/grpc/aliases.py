"""Which changes of aliases does a request ask for?"""

from __future__ import annotations

from typing import Any

from qdrant_client import grpc as qdrant

from headrace.model.aliases import AliasAction
from headrace.server.grpc.rules import read_as_json
from headrace.server.rest.aliases import parse_alias_actions


def read_alias_actions(message: qdrant.ChangeAliases) -> list[AliasAction]:
    """The actions, in their order, by REST's rules for names.

    Raises:
        MalformedInput: an action is none.
        InvalidBody: a name in it is none that can stand in a path.
    """
    body = {"actions": [*map(_action_json, message.actions)]}
    return read_as_json(parse_alias_actions, body)


def _action_json(message: qdrant.AliasOperations) -> dict[str, Any]:
    kind = message.WhichOneof("action")
    if kind is None:
        return {}
    action = getattr(message, kind)
    names = (field.name for field in action.DESCRIPTOR.fields)
    return {kind: {name: getattr(action, name) for name in names}}
