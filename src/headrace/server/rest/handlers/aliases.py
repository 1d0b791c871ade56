"""What do the routes of aliases do?"""

from __future__ import annotations

from typing import Any

import msgspec

from headrace.server.auth import Need
from headrace.server.rest.aliases import parse_alias_actions
from headrace.server.rest.endpoint import (
    Call,
    Operation,
    on_loop,
    on_write_thread,
    read_timed_out,
)
from headrace.server.rest.parameters import collection_name, collection_timeout_s
from headrace.server.rest.routes import COLLECTION, JsonRoute


def list_aliases(call: Call) -> Any:
    """GET /aliases: of the collections that the caller may read."""
    return _answer(call, None)


def list_collection_aliases(call: Call) -> Any:
    """GET /collections/{collection_name}/aliases: none if there is no such collection."""
    return _answer(call, collection_name(call.path_parameters))


def change_aliases(call: Call) -> Any:
    """POST /collections/aliases: all actions or none."""
    actions = parse_alias_actions(call.body)
    collection_timeout_s(call.query_string)
    call.service.change_aliases(actions)
    return True


def _answer(call: Call, name: str | None) -> dict[str, Any]:
    return {
        "aliases": [
            msgspec.to_builtins(alias)
            for alias in call.service.aliases(name)
            if call.access.sees(alias.collection_name)
        ]
    }


ROUTES = (
    JsonRoute("GET", "/aliases", Operation(list_aliases, on_loop), Need.IDENTITY),
    JsonRoute(
        "GET",
        f"{COLLECTION}/aliases",
        Operation(list_collection_aliases, on_loop),
        Need.READ_EXTRAS,
    ),
    JsonRoute(
        "POST",
        "/collections/aliases",
        Operation(change_aliases, on_write_thread, True, read_timed_out),
        Need.MANAGE,
    ),
)
