"""How does the body of a grouped read become a `Query` and a `GroupBy`?"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from headrace.model.queries import WHOLE_PAYLOAD, GroupBy, GroupLookup, Query
from headrace.server.rest.body import Node, read_body
from headrace.server.rest.points import read_payload_selection, read_vector_selection
from headrace.server.rest.queries import SearchRequest, read_search
from headrace.server.rest.query_parts import read_count_of, read_required_limit
from headrace.server.rest.searches import read_recommend_by_examples, read_search_by_vector

_GROUP_SIZE_DEFAULT = 3

# What Qdrant prefixes to paths in these bodies.
_BODY = "search_group_request"


class GroupsRequest(NamedTuple):
    """A grouped query, and the shard key that it names."""

    query: Query
    group_by: GroupBy
    with_lookup: GroupLookup | None
    shard_key: str | None


def parse_query_groups(body: bytes) -> GroupsRequest:
    """POST /points/query/groups. Raises FormatError, InvalidBody, BadRequest."""

    def read(node: Node) -> GroupsRequest:
        search = read_search(node)
        group_size = read_count_of(node, "group_size", _GROUP_SIZE_DEFAULT, minimum=1)
        return _request(node, search, search.query.limit, group_size)

    return read_body(body, read, _BODY)


def parse_search_groups(body: bytes) -> GroupsRequest:
    """POST /points/search/groups. Raises FormatError, InvalidBody, BadRequest."""
    return read_body(body, _older(read_search_by_vector), _BODY)


def parse_recommend_groups(body: bytes) -> GroupsRequest:
    """POST /points/recommend/groups. Raises FormatError, InvalidBody, BadRequest."""
    return read_body(body, _older(read_recommend_by_examples), _BODY)


def _older(read_search: Callable[[Node], SearchRequest]) -> Callable[[Node], GroupsRequest]:
    """A reader of a body in which both sizes must be given."""

    def read(node: Node) -> GroupsRequest:
        limit = read_required_limit(node)
        node.require("group_size")
        group_size = read_count_of(node, "group_size", _GROUP_SIZE_DEFAULT, minimum=1)
        return _request(node, read_search(node), limit, group_size)

    return read


def _request(node: Node, search: SearchRequest, limit: int, group_size: int) -> GroupsRequest:
    group_by = GroupBy(node.require("group_by").payload_path(), limit, group_size)
    lookup = node.get("with_lookup")
    return GroupsRequest(
        search.query,
        group_by,
        None if lookup is None else _read_lookup(lookup),
        search.shard_key,
    )


def _read_lookup(node: Node) -> GroupLookup:
    """The name of a collection, or an object of it and what to show."""
    if isinstance(node.value, str):
        return GroupLookup(node.text())
    return GroupLookup(
        node.require("collection").text(),
        read_payload_selection(node.get("with_payload"), WHOLE_PAYLOAD),
        read_vector_selection(node),
    )
