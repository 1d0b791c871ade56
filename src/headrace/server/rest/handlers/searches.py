"""What do the older routes of search, recommendation and discovery do?

Qdrant serves them still, since clients call them still; all they can, a query can.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.server.auth import Need
from headrace.server.rest.answers import scored_points_answer
from headrace.server.rest.endpoint import (
    Call,
    Operation,
    by_collection_size,
    on_read_thread,
    read_timed_out,
)
from headrace.server.rest.handlers.reads import begin_read
from headrace.server.rest.parameters import collection_name
from headrace.server.rest.queries import SearchRequest
from headrace.server.rest.routes import COLLECTION, JsonRoute
from headrace.server.rest.searches import (
    parse_discover,
    parse_discover_batch,
    parse_recommend,
    parse_recommend_batch,
    parse_search,
    parse_search_batch,
)


def _one(parse: Callable[[bytes], SearchRequest]) -> Callable[[Call], Any]:
    """The handler of a route that answers with a bare list of points."""

    def handle(call: Call) -> Any:
        return scored_points_answer(_found(call, [parse(call.body)])[0])

    return handle


def _batch(parse: Callable[[bytes], list[SearchRequest]]) -> Callable[[Call], Any]:
    """The handler of a route that answers with a list of such lists."""

    def handle(call: Call) -> Any:
        return [scored_points_answer(points) for points in _found(call, parse(call.body))]

    return handle


def _found(call: Call, requests: list[SearchRequest]) -> list[Any]:
    name = collection_name(call.path_parameters)
    begin_read(call, name, *(request.shard_key for request in requests))
    queries = [request.query for request in requests]
    for query in queries:
        call.access.check_lookups(query)
    return call.service.query_batch(name, queries)


ROUTES = tuple(
    JsonRoute(
        "POST",
        f"{COLLECTION}/points/{path}",
        Operation(
            handle,
            on_read_thread if path.endswith("/batch") else by_collection_size,
            True,
            read_timed_out,
        ),
        Need.READ,
    )
    for path, handle in (
        ("search", _one(parse_search)),
        ("search/batch", _batch(parse_search_batch)),
        ("recommend", _one(parse_recommend)),
        ("recommend/batch", _batch(parse_recommend_batch)),
        ("discover", _one(parse_discover)),
        ("discover/batch", _batch(parse_discover_batch)),
    )
)
