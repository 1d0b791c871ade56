"""How does the body of a read become a `Query`, a `Scroll` or a retrieval?"""

from __future__ import annotations

from typing import NamedTuple

from headrace.model.errors import BadRequest
from headrace.model.filters import Filter
from headrace.model.ids import PointId
from headrace.model.queries import (
    NO_PAYLOAD,
    WHOLE_PAYLOAD,
    PayloadSelection,
    Prefetch,
    Query,
    QueryKind,
    Scroll,
    VectorSelection,
)
from headrace.model.query_rules import PREFETCH_DEPTH_MAX as PREFETCH_DEPTH_MAX
from headrace.server.rest.body import Node, read_body
from headrace.server.rest.filters import optional_filter
from headrace.server.rest.ids import read_point_id, read_point_ids
from headrace.server.rest.points import (
    read_payload_selection,
    read_shard_key,
    read_vector_selection,
)
from headrace.server.rest.query_kinds import read_order_by, read_query_kind
from headrace.server.rest.query_parts import LIMIT_MAX as LIMIT_MAX
from headrace.server.rest.query_parts import (
    read_boolean,
    read_count_of,
    read_limit,
    read_lookup_from,
    read_params,
    read_threshold,
    read_using,
)


class SearchRequest(NamedTuple):
    """A query, and the shard key that it names.

    Attributes:
        explain: whether the answer carries its plan; this server's own extension.
    """

    query: Query
    shard_key: str | None
    explain: bool = False


class ScrollRequest(NamedTuple):
    """A scroll, and the shard key that it names."""

    scroll: Scroll
    shard_key: str | None


class CountRequest(NamedTuple):
    """What to count, and the shard key that the request names."""

    filter: Filter | None
    shard_key: str | None


class RetrieveRequest(NamedTuple):
    """Which points to read, and the shard key that the request names."""

    ids: list[PointId]
    with_payload: PayloadSelection
    with_vectors: VectorSelection
    shard_key: str | None


def parse_query(body: bytes) -> SearchRequest:
    """POST /points/query. Raises FormatError, InvalidBody, BadRequest."""
    return read_body(body, read_search, "internal")


def parse_query_batch(body: bytes) -> list[SearchRequest]:
    """POST /points/query/batch. Raises FormatError, InvalidBody, BadRequest."""
    return read_body(
        body, lambda node: [read_search(one) for one in node.require("searches").elements()]
    )


def parse_scroll(body: bytes) -> ScrollRequest:
    """POST /points/scroll. Raises FormatError, InvalidBody, BadRequest."""
    return read_body(body, _read_scroll, "scroll_request")


def parse_count(body: bytes) -> CountRequest:
    """POST /points/count. Raises FormatError, InvalidBody, BadRequest."""
    return read_body(body, _read_count, "count_request")


def parse_retrieve(body: bytes) -> RetrieveRequest:
    """POST /points. Raises FormatError, InvalidBody."""
    return read_body(body, _read_retrieve, "point_request")


def read_search(body: Node) -> SearchRequest:
    """The members of a query. Raises FormatError, BadRequest."""
    search = Query(
        query=_read_optional_kind(body),
        prefetch=_read_prefetches(body),
        using=read_using(body),
        filter=optional_filter(body, "filter"),
        params=read_params(body),
        score_threshold=read_threshold(body),
        limit=read_limit(body),
        offset=read_count_of(body, "offset", 0, minimum=0),
        lookup_from=read_lookup_from(body),
        with_payload=read_payload_selection(body.get("with_payload"), NO_PAYLOAD),
        with_vectors=read_vector_selection(body),
    )
    return SearchRequest(search, read_shard_key(body), read_boolean(body, "explain"))


def _read_prefetches(body: Node, depth: int = 1) -> tuple[Prefetch, ...]:
    """A list of searches, or one without a list."""
    node = body.get("prefetch")
    if node is None:
        return ()
    if depth > PREFETCH_DEPTH_MAX:
        raise BadRequest(f"prefetches are nested more than {PREFETCH_DEPTH_MAX} levels deep")
    prefetches = node.elements() if isinstance(node.value, list) else [node]
    return tuple(_read_prefetch(prefetch, depth) for prefetch in prefetches)


def _read_prefetch(node: Node, depth: int) -> Prefetch:
    return Prefetch(
        query=_read_optional_kind(node),
        prefetch=_read_prefetches(node, depth + 1),
        using=read_using(node),
        filter=optional_filter(node, "filter"),
        params=read_params(node),
        score_threshold=read_threshold(node),
        limit=read_limit(node),
        lookup_from=read_lookup_from(node),
    )


def _read_optional_kind(body: Node) -> QueryKind | None:
    node = body.get("query")
    return None if node is None else read_query_kind(node)


def _read_scroll(body: Node) -> ScrollRequest:
    start = body.get("offset")
    order_by = body.get("order_by")
    scroll = Scroll(
        start_id=None if start is None else read_point_id(start),
        limit=read_limit(body),
        filter=optional_filter(body, "filter"),
        with_payload=read_payload_selection(body.get("with_payload"), WHOLE_PAYLOAD),
        with_vectors=read_vector_selection(body),
        order_by=None if order_by is None else read_order_by(order_by),
    )
    return ScrollRequest(scroll, read_shard_key(body))


def _read_count(body: Node) -> CountRequest:
    """`exact` is checked; an exact count is also a good estimate."""
    read_boolean(body, "exact")
    return CountRequest(optional_filter(body, "filter"), read_shard_key(body))


def _read_retrieve(body: Node) -> RetrieveRequest:
    return RetrieveRequest(
        read_point_ids(body.require("ids")),
        read_payload_selection(body.get("with_payload"), NO_PAYLOAD),
        read_vector_selection(body),
        read_shard_key(body),
    )
