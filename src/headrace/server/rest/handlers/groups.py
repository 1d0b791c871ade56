"""What do the routes that group their results do?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.server.auth import Need
from headrace.server.rest.answers import groups_answer
from headrace.server.rest.endpoint import Call, Operation, on_read_thread, read_timed_out
from headrace.server.rest.groups import (
    GroupsRequest,
    parse_query_groups,
    parse_recommend_groups,
    parse_search_groups,
)
from headrace.server.rest.handlers.reads import begin_read
from headrace.server.rest.parameters import collection_name
from headrace.server.rest.routes import COLLECTION, JsonRoute


def _groups(parse: Callable[[bytes], GroupsRequest]) -> Callable[[Call], Any]:
    """The handler of a route whose body is a grouped query."""

    def handle(call: Call) -> Any:
        name = collection_name(call.path_parameters)
        request = parse(call.body)
        begin_read(call, name, request.shard_key)
        call.access.check_lookups(request.query, request.with_lookup)
        return groups_answer(
            call.service.query_groups(name, request.query, request.group_by, request.with_lookup)
        )

    return handle


ROUTES = tuple(
    JsonRoute(
        "POST",
        f"{COLLECTION}/points/{path}/groups",
        # A point stands in the group of each of its values, and others are shown beside it.
        Operation(_groups(parse), on_read_thread, True, read_timed_out),
        Need.READ,
    )
    for path, parse in (
        ("query", parse_query_groups),
        ("search", parse_search_groups),
        ("recommend", parse_recommend_groups),
    )
)
