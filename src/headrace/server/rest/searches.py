"""How do the bodies of the older search, recommend and discover routes become a `Query`?"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from headrace.model.errors import BadRequest
from headrace.model.queries import (
    NO_PAYLOAD,
    Context,
    Discover,
    Nearest,
    Query,
    QueryKind,
    Recommend,
)
from headrace.model.vectors import DEFAULT_VECTOR_NAME
from headrace.server.rest.body import Node, read_body
from headrace.server.rest.filters import optional_filter
from headrace.server.rest.points import (
    read_payload_selection,
    read_shard_key,
    read_vector_selection,
)
from headrace.server.rest.queries import SearchRequest
from headrace.server.rest.query_kinds import (
    read_context_pairs,
    read_input,
    read_inputs,
    read_recommend_strategy,
    read_vector_input,
)
from headrace.server.rest.query_parts import (
    read_count_of,
    read_lookup_from,
    read_params,
    read_required_limit,
    read_threshold,
    read_using,
)

ReadRequest = Callable[[Node], SearchRequest]


def parse_search(body: bytes) -> SearchRequest:
    """POST /points/search. Raises FormatError, InvalidBody, BadRequest."""
    return read_body(body, _with_page(read_search_by_vector), "search_request")


def parse_recommend(body: bytes) -> SearchRequest:
    """POST /points/recommend. Raises FormatError, InvalidBody, BadRequest."""
    return read_body(body, _with_page(read_recommend_by_examples), "recommend_request")


def parse_discover(body: bytes) -> SearchRequest:
    """POST /points/discover. Raises FormatError, InvalidBody, BadRequest."""
    return read_body(body, _with_page(_read_discover), "discover_request")


def parse_search_batch(body: bytes) -> list[SearchRequest]:
    """POST /points/search/batch. Raises FormatError, InvalidBody, BadRequest."""
    return read_body(body, _batch_of(_with_page(read_search_by_vector)))


def parse_recommend_batch(body: bytes) -> list[SearchRequest]:
    """POST /points/recommend/batch. Raises FormatError, InvalidBody, BadRequest."""
    return read_body(body, _batch_of(_with_page(read_recommend_by_examples)))


def parse_discover_batch(body: bytes) -> list[SearchRequest]:
    """POST /points/discover/batch. Raises FormatError, InvalidBody, BadRequest."""
    return read_body(body, _batch_of(_with_page(_read_discover)))


def read_search_by_vector(body: Node) -> SearchRequest:
    """`vector`, a list or an object of `name` and `vector`; a page is not read.

    Raises:
        FormatError: it is neither.
    """
    vector = body.require("vector")
    if isinstance(vector.value, dict):
        using = vector.require("name").text()
        return _request(body, Nearest(read_vector_input(vector.require("vector"))), using)
    return _request(body, Nearest(read_vector_input(vector)), DEFAULT_VECTOR_NAME)


def read_recommend_by_examples(body: Node) -> SearchRequest:
    """`positive` and `negative` examples; a page is not read.

    Raises:
        FormatError: they are none.
    """
    kind = Recommend(
        read_inputs(body.get("positive")),
        read_inputs(body.get("negative")),
        read_recommend_strategy(body),
    )
    return _request(body, kind, read_using(body))


def _read_discover(body: Node) -> SearchRequest:
    target, pairs = body.get("target"), read_context_pairs(body.get("context"))
    if target is None and not pairs:
        raise BadRequest("target and/or context_pairs must be specified")
    kind = Context(pairs) if target is None else Discover(read_input(target), pairs)
    return _request(body, kind, read_using(body))


def _request(body: Node, kind: QueryKind, using: str) -> SearchRequest:
    query = Query(
        query=kind,
        using=using,
        filter=optional_filter(body, "filter"),
        params=read_params(body),
        score_threshold=read_threshold(body),
        lookup_from=read_lookup_from(body),
        with_payload=read_payload_selection(body.get("with_payload"), NO_PAYLOAD),
        with_vectors=read_vector_selection(body),
    )
    return SearchRequest(query, read_shard_key(body))


def _with_page(read: ReadRequest) -> ReadRequest:
    """A reader that reads `limit`, which must be there, and `offset` too."""

    def read_with_page(body: Node) -> SearchRequest:
        limit = read_required_limit(body)
        offset = read_count_of(body, "offset", 0, minimum=0)
        request = read(body)
        return request._replace(query=replace(request.query, limit=limit, offset=offset))

    return read_with_page


def _batch_of(read: ReadRequest) -> Callable[[Node], list[SearchRequest]]:
    return lambda body: [read(one) for one in body.require("searches").elements()]
