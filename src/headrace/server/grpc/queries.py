"""How does a request to search, or to list, become a `Query` or a `Scroll`?"""

from __future__ import annotations

from collections.abc import Collection

import msgspec
from qdrant_client import grpc as qdrant

from headrace.model.errors import BadRequest
from headrace.model.queries import (
    NO_PAYLOAD,
    NO_VECTORS,
    WHOLE_PAYLOAD,
    Idf,
    LookupFrom,
    PayloadSelection,
    Prefetch,
    Query,
    Scroll,
    SearchParams,
    VectorSelection,
)
from headrace.model.query_rules import PREFETCH_DEPTH_MAX
from headrace.server.grpc.filters import read_filter
from headrace.server.grpc.ids import read_point_id
from headrace.server.grpc.query_kinds import read_order_by, read_query_kind
from headrace.server.grpc.rules import (
    check_at_least,
    check_between,
    check_is_number,
    refuse_other_fields,
    refuse_shard_keys,
)
from headrace.server.grpc.selections import read_payload_selection, read_vector_selection
from headrace.server.rest.query_parts import LIMIT_MAX

_LIMIT_DEFAULT = 10

ANSWER_FIELDS = ("with_payload", "with_vectors")
_QUERY_FIELDS = (
    *("query", "prefetch", "using", "filter", "params", "score_threshold", "lookup_from"),
    *("shard_key_selector", *ANSWER_FIELDS),
)
GROUP_FIELDS = ("group_by", "limit", "group_size", "with_lookup")

_Query = qdrant.QueryPoints | qdrant.QueryPointGroups | qdrant.PrefetchQuery
_Recommend = qdrant.RecommendPoints | qdrant.RecommendPointGroups
_Search = qdrant.SearchPoints | qdrant.SearchPointGroups
_Answered = (
    qdrant.QueryPoints
    | qdrant.QueryPointGroups
    | qdrant.SearchPoints
    | qdrant.SearchPointGroups
    | qdrant.RecommendPoints
    | qdrant.RecommendPointGroups
    | qdrant.DiscoverPoints
    | qdrant.ScrollPoints
    | qdrant.GetPoints
    | qdrant.WithLookup
)


def read_query(message: qdrant.QueryPoints) -> Query:
    """A query of the universal API.

    Raises:
        MalformedInput: a part of it is missing or no such thing.
        InvalidBody: a value in it breaks a rule.
        InvalidVector: a vector is ragged or not finite.
        BadRequest: it contradicts itself, or asks for what is not supported.
    """
    refuse_other_fields(message, *_QUERY_FIELDS, "limit", "offset")
    limit = read_limit("limit", message.limit) if message.HasField("limit") else _LIMIT_DEFAULT
    return msgspec.structs.replace(
        _read_query(message), limit=limit, offset=read_count_of("offset", message.offset)
    )


def read_group_query(message: qdrant.QueryPointGroups) -> Query:
    """The query whose results are to be grouped; how many, the groups say.

    Raises: as `read_query`.
    """
    refuse_other_fields(message, *_QUERY_FIELDS, *GROUP_FIELDS)
    return _read_query(message)


def read_scroll(message: qdrant.ScrollPoints) -> Scroll:
    """A page of a list.

    Raises: as `read_query`.
    """
    refuse_other_fields(
        message,
        *("filter", "offset", "limit", "order_by", "shard_key_selector", *ANSWER_FIELDS),
    )
    refuse_shard_keys(message.shard_key_selector, BadRequest)
    return Scroll(
        start_id=read_point_id(message.offset) if message.HasField("offset") else None,
        limit=read_limit("limit", message.limit) if message.HasField("limit") else _LIMIT_DEFAULT,
        filter=read_filter(message.filter) if message.HasField("filter") else None,
        with_payload=read_with_payload(message, WHOLE_PAYLOAD),
        with_vectors=read_with_vectors(message),
        order_by=read_order_by(message.order_by) if message.HasField("order_by") else None,
    )


def read_with_payload(message: _Answered, default: PayloadSelection) -> PayloadSelection:
    """The payload that a request asks for, or what it gets if it says nothing.

    Raises:
        MalformedInput: a payload path is none.
    """
    return (
        read_payload_selection(message.with_payload)
        if message.HasField("with_payload")
        else default
    )


def read_with_vectors(message: _Answered) -> VectorSelection:
    """The vectors that a request asks for."""
    return (
        read_vector_selection(message.with_vectors)
        if message.HasField("with_vectors")
        else NO_VECTORS
    )


def read_limit(path: str, limit: int) -> int:
    """How many, at least one.

    Raises:
        InvalidBody: it is 0.
        BadRequest: it is more than there can be.
    """
    check_at_least(path, limit, 1)
    return read_count_of(path, limit)


def read_params(message: qdrant.SearchParams) -> SearchParams:
    """How to search. What is said of ACORN is checked, and hints at nothing here.

    Raises:
        InvalidBody: one is out of bounds.
        BadRequest: one is not supported.
    """
    refuse_other_fields(message, "hnsw_ef", "exact", "indexed_only", "quantization", "acorn", "idf")
    if message.HasField("hnsw_ef"):
        check_at_least("params.hnsw_ef", message.hnsw_ef, 1)
    if message.quantization.HasField("oversampling"):
        check_at_least("params.quantization.oversampling", message.quantization.oversampling, 1.0)
    if message.acorn.HasField("max_selectivity"):
        check_between("params.acorn.max_selectivity", message.acorn.max_selectivity, 0.0, 1.0)
    return SearchParams(
        hnsw_ef=message.hnsw_ef if message.HasField("hnsw_ef") else None,
        exact=message.exact,
        indexed_only=message.indexed_only,
        ignore_quantization=message.quantization.ignore,
        rescore=(
            message.quantization.rescore if message.quantization.HasField("rescore") else None
        ),
        oversampling=(
            message.quantization.oversampling
            if message.quantization.HasField("oversampling")
            else None
        ),
        idf=_read_idf(message.idf) if message.HasField("idf") else None,
    )


def _read_idf(message: qdrant.IdfParams) -> Idf:
    return Idf(read_filter(message.corpus) if message.HasField("corpus") else None)


def read_threshold(message: _Query | _Search | _Recommend) -> float | None:
    """The score that results must pass.

    Raises:
        InvalidBody: it is NaN.
    """
    if not message.HasField("score_threshold"):
        return None
    check_is_number("score_threshold", message.score_threshold)
    return message.score_threshold


def read_count_of(name: str, value: int) -> int:
    """A number of things.

    Raises:
        BadRequest: it is more than there can be.
    """
    if value > LIMIT_MAX:
        raise BadRequest(f"`{name}` is {value}, the maximum is {LIMIT_MAX}")
    return value


def read_lookup_from(
    message: _Query | _Recommend | qdrant.DiscoverPoints,
) -> LookupFrom | None:
    """Where example ids are looked up.

    Raises:
        BadRequest: it names a shard key.
    """
    if not message.HasField("lookup_from"):
        return None
    location = message.lookup_from
    refuse_other_fields(location, "vector_name", "shard_key_selector")
    refuse_shard_keys(location.shard_key_selector, BadRequest)
    return LookupFrom(
        location.collection_name,
        location.vector_name if location.HasField("vector_name") else None,
    )


def _read_query(message: qdrant.QueryPoints | qdrant.QueryPointGroups) -> Query:
    refuse_shard_keys(message.shard_key_selector, BadRequest)
    kind = read_query_kind(message.query) if message.HasField("query") else None
    return Query(
        query=kind,
        prefetch=_read_prefetches(message.prefetch, depth=1),
        using=message.using,
        filter=read_filter(message.filter) if message.HasField("filter") else None,
        params=read_params(message.params),
        score_threshold=read_threshold(message),
        lookup_from=read_lookup_from(message),
        with_payload=read_with_payload(message, NO_PAYLOAD),
        with_vectors=read_with_vectors(message),
    )


def _read_prefetches(
    messages: Collection[qdrant.PrefetchQuery], depth: int
) -> tuple[Prefetch, ...]:
    if messages and depth > PREFETCH_DEPTH_MAX:
        raise BadRequest(f"prefetches are nested more than {PREFETCH_DEPTH_MAX} levels deep")
    return tuple(_read_prefetch(message, depth) for message in messages)


def _read_prefetch(message: qdrant.PrefetchQuery, depth: int) -> Prefetch:
    refuse_other_fields(
        message,
        *("query", "prefetch", "using", "filter", "params", "score_threshold", "lookup_from"),
        "limit",
    )
    kind = read_query_kind(message.query) if message.HasField("query") else None
    return Prefetch(
        query=kind,
        prefetch=_read_prefetches(message.prefetch, depth + 1),
        using=message.using,
        filter=read_filter(message.filter) if message.HasField("filter") else None,
        params=read_params(message.params),
        score_threshold=read_threshold(message),
        limit=read_limit("limit", message.limit) if message.HasField("limit") else _LIMIT_DEFAULT,
        lookup_from=read_lookup_from(message),
    )
