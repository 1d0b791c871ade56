"""How do the requests of the API before `Query` become a `Query`?

Clients call it still; all that it can, a query can.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from qdrant_client import grpc as qdrant

from headrace.model.errors import BadRequest, MalformedInput
from headrace.model.queries import (
    NO_PAYLOAD,
    Context,
    ContextPair,
    Discover,
    Nearest,
    Query,
    QueryKind,
    Recommend,
    VectorInput,
)
from headrace.model.query_rules import check_finite
from headrace.model.vectors import Vector
from headrace.server.grpc.filters import read_filter
from headrace.server.grpc.ids import read_point_id, read_point_ids
from headrace.server.grpc.queries import (
    ANSWER_FIELDS,
    GROUP_FIELDS,
    read_count_of,
    read_limit,
    read_lookup_from,
    read_params,
    read_threshold,
    read_with_payload,
    read_with_vectors,
)
from headrace.server.grpc.query_kinds import read_recommend_strategy
from headrace.server.grpc.rules import refuse_other_fields, refuse_shard_keys
from headrace.server.grpc.vectors import read_dense, read_sparse, read_vector

_SHARED_FIELDS = ("filter", "params", "shard_key_selector", *ANSWER_FIELDS)
_SEARCH_FIELDS = ("vector", "sparse_indices", "vector_name", "score_threshold", *_SHARED_FIELDS)
_RECOMMEND_FIELDS = (
    *("positive", "negative", "positive_vectors", "negative_vectors", "strategy"),
    *("using", "lookup_from", "score_threshold", *_SHARED_FIELDS),
)
_DISCOVER_FIELDS = ("target", "context", "using", "lookup_from", *_SHARED_FIELDS)
_PAGE_FIELDS = ("limit", "offset")

_Search = qdrant.SearchPoints | qdrant.SearchPointGroups
_Recommend = qdrant.RecommendPoints | qdrant.RecommendPointGroups
_Page = qdrant.SearchPoints | qdrant.RecommendPoints | qdrant.DiscoverPoints


def read_search(message: qdrant.SearchPoints) -> Query:
    """A search: always the nearest to a vector.

    Raises:
        MalformedInput: a part of it is missing or no such thing.
        InvalidBody: a value in it breaks a rule.
        InvalidVector: a vector is ragged or not finite.
        BadRequest: it asks for what is not supported.
    """
    refuse_other_fields(message, *_SEARCH_FIELDS, *_PAGE_FIELDS)
    return _with_page(message, _read_search(message))


def read_group_search(message: qdrant.SearchPointGroups) -> Query:
    """The search whose results are to be grouped; how many, the groups say.

    Raises: as `read_search`.
    """
    refuse_other_fields(message, *_SEARCH_FIELDS, *GROUP_FIELDS)
    return _read_search(message)


def read_recommend(message: qdrant.RecommendPoints) -> Query:
    """A recommendation by examples, ids before vectors.

    Raises: as `read_search`.
    """
    refuse_other_fields(message, *_RECOMMEND_FIELDS, *_PAGE_FIELDS)
    return _with_page(message, _read_recommend(message))


def read_group_recommend(message: qdrant.RecommendPointGroups) -> Query:
    """The recommendation whose results are to be grouped; how many, the groups say.

    Raises: as `read_search`.
    """
    refuse_other_fields(message, *_RECOMMEND_FIELDS, *GROUP_FIELDS)
    return _read_recommend(message)


def read_discover(message: qdrant.DiscoverPoints) -> Query:
    """A discovery; without a target, of what is on the right side of its pairs alone.

    Raises: as `read_search`.
    """
    refuse_other_fields(message, *_DISCOVER_FIELDS, *_PAGE_FIELDS)
    pairs = tuple(
        ContextPair(_read_example(pair.positive), _read_example(pair.negative))
        for pair in message.context
    )
    kind: QueryKind
    if message.HasField("target"):
        kind = Discover(_read_example(message.target.single), pairs)
    elif pairs:
        kind = Context(pairs)
    else:
        raise BadRequest("target and/or context_pairs must be specified")
    query = msgspec.structs.replace(
        _shared(message, kind), using=message.using, lookup_from=read_lookup_from(message)
    )
    return _with_page(message, query)


def _read_search(message: _Search) -> Query:
    return msgspec.structs.replace(
        _shared(message, Nearest(_read_search_vector(message))),
        using=message.vector_name,
        score_threshold=read_threshold(message),
    )


def _read_search_vector(message: _Search) -> Vector:
    if not message.HasField("sparse_indices"):
        return check_finite(read_dense(message.vector))
    if not message.vector_name:
        raise MalformedInput("Sparse vector must have a name")
    return check_finite(read_sparse(message.sparse_indices.data, message.vector))


def _read_recommend(message: _Recommend) -> Query:
    kind = Recommend(
        (*read_point_ids(message.positive), *_read_vectors(message.positive_vectors)),
        (*read_point_ids(message.negative), *_read_vectors(message.negative_vectors)),
        read_recommend_strategy(message.strategy),
    )
    return msgspec.structs.replace(
        _shared(message, kind),
        using=message.using,
        score_threshold=read_threshold(message),
        lookup_from=read_lookup_from(message),
    )


def _read_vectors(messages: Iterable[qdrant.Vector]) -> tuple[Vector, ...]:
    return tuple(check_finite(read_vector(message)) for message in messages)


def _read_example(message: qdrant.VectorExample) -> VectorInput:
    match message.WhichOneof("example"):
        case "id":
            return read_point_id(message.id)
        case "vector":
            return check_finite(read_vector(message.vector))
        case _:
            raise MalformedInput("No vector example provided")


def _shared(message: _Search | _Recommend | qdrant.DiscoverPoints, kind: QueryKind) -> Query:
    """What all these requests have."""
    refuse_shard_keys(message.shard_key_selector, BadRequest)
    return Query(
        query=kind,
        filter=read_filter(message.filter) if message.HasField("filter") else None,
        params=read_params(message.params),
        with_payload=read_with_payload(message, NO_PAYLOAD),
        with_vectors=read_with_vectors(message),
    )


def _with_page(message: _Page, query: Query) -> Query:
    """The query with its `limit`, which must be there, and its `offset`."""
    return msgspec.structs.replace(
        query,
        limit=read_limit("limit", message.limit),
        offset=read_count_of("offset", message.offset),
    )
