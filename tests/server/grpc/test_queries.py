"""A query means the same in a message as in JSON; what contradicts itself is refused."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import orjson
import pytest
from qdrant_client import grpc as qdrant
from qdrant_client import models
from qdrant_client.conversions.conversion import RestToGrpc

from headrace.model.errors import BadRequest, HeadraceError, InvalidBody, MalformedInput
from headrace.model.queries import NO_PAYLOAD, Nearest, Query, Scroll
from headrace.model.query_rules import check_query
from headrace.model.vectors import encode_array
from headrace.server.grpc.older_queries import read_search
from headrace.server.grpc.queries import read_query, read_scroll
from headrace.server.rest.queries import parse_query, parse_scroll

UUID_ID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
SPARSE = {"indices": [5, 1], "values": [1.0, 2.0]}
PAIR = {"positive": 1, "negative": [0.0, 1.0]}

as_bytes = msgspec.msgpack.Encoder(enc_hook=encode_array).encode


@pytest.mark.parametrize(
    "request_json",
    [
        {},
        {"query": [1.0, 2.0]},
        {"query": [[1.0, 2.0], [3.0, 4.0]]},
        {"query": SPARSE, "using": "words"},
        {"query": 5},
        {"query": UUID_ID},
        {"query": {"nearest": [1.0, 2.0]}},
        {"query": {"nearest": 1, "mmr": {"diversity": 0.25, "candidates_limit": 20}}},
        {"query": {"nearest": 1, "mmr": {}}},
        {"query": {"recommend": {"positive": [1, [1.0, 2.0]], "negative": [UUID_ID]}}},
        {"query": {"recommend": {"negative": [1], "strategy": "best_score"}}},
        {"query": {"recommend": {"positive": [1], "strategy": "sum_scores"}}},
        {"query": {"discover": {"target": 1, "context": [PAIR, PAIR]}}},
        {"query": {"context": [PAIR]}},
        {"query": {"order_by": "a.b"}},
        {"query": {"order_by": {"key": "a", "direction": "desc", "start_from": 3}}},
        {"query": {"order_by": {"key": "a", "direction": "asc", "start_from": 1.5}}},
        {"query": {"order_by": {"key": "a", "start_from": "2024-01-02T03:04:05.678Z"}}},
        {"prefetch": [{"query": [1.0]}, {"query": 2}], "query": {"fusion": "rrf"}},
        {"prefetch": {"query": [1.0]}, "query": {"fusion": "dbsf"}, "score_threshold": 0.5},
        {"prefetch": {"query": [1.0]}, "query": {"rrf": {"k": 60, "weights": [0.5]}}},
        {"prefetch": {"query": [1.0]}, "query": {"rrf": {}}},
        {"query": {"sample": "random"}},
        {
            "query": {
                "relevance_feedback": {
                    "target": 1,
                    "feedback": [{"example": 2, "score": 0.5}, {"example": [1.0], "score": -1.0}],
                    "strategy": {"naive": {"a": 1.0, "b": 0.5, "c": -2.0}},
                }
            }
        },
        {
            "query": [1.0],
            "filter": {"must": [{"has_id": [1]}]},
            "params": {"hnsw_ef": 5, "exact": True, "indexed_only": True},
            "score_threshold": 0.25,
            "limit": 3,
            "offset": 4,
            "with_payload": ["a.b", "c"],
            "with_vector": ["x"],
            "lookup_from": {"collection": "other", "vector": "v"},
        },
        {
            "prefetch": [
                {
                    "query": [1.0],
                    "prefetch": [{"query": SPARSE, "using": "s", "limit": 50}],
                    "using": "x",
                    "filter": {"must_not": [{"has_id": [1]}]},
                    "params": {"exact": True},
                    "score_threshold": 0.25,
                    "limit": 7,
                    "lookup_from": {"collection": "other"},
                }
            ],
            "query": [2.0],
            "with_payload": {"exclude": ["a"]},
            "with_vector": True,
        },
    ],
)
def test_a_query_is_the_same_in_a_message_as_in_json(request_json: dict[str, Any]) -> None:
    parsed = models.QueryRequest.model_validate(request_json)
    message = RestToGrpc.convert_query_request(parsed, "c")
    expected = parse_query(orjson.dumps(request_json)).query
    assert as_bytes(read_query(message)) == as_bytes(expected)


@pytest.mark.parametrize(
    "formula",
    [
        1.5,
        "$score",
        "$score[3]",
        "a.b[]",
        {"key": "a", "match": {"value": "x"}},
        {"geo_distance": {"origin": {"lon": 1.0, "lat": 2.0}, "to": "place"}},
        {"datetime": "2024-01-02T03:04:05Z"},
        {"datetime_key": "at"},
        {"mult": [2.0, "$score"]},
        {"sum": [1.0, {"neg": "a"}]},
        {"abs": {"sqrt": {"exp": {"log10": {"ln": "a"}}}}},
        {"div": {"left": 1.0, "right": "a", "by_zero_default": 0.5}},
        {"div": {"left": 1.0, "right": "a"}},
        {"pow": {"base": 2.0, "exponent": "a"}},
        {"lin_decay": {"x": "a"}},
        {"exp_decay": {"x": "a", "target": 3.0, "scale": 0.5, "midpoint": 0.25}},
        {"gauss_decay": {"x": "a", "scale": 2.0}},
    ],
)
def test_a_formula_is_the_same_in_a_message_as_in_json(formula: Any) -> None:
    request_json = {
        "prefetch": {"query": [1.0]},
        "query": {"formula": formula, "defaults": {"a": 1, "b": [{"c": None}], "$score[1]": 0.5}},
    }
    parsed = models.QueryRequest.model_validate(request_json)
    message = RestToGrpc.convert_query_request(parsed, "c")
    expected = msgspec.to_builtins(
        parse_query(orjson.dumps(request_json)).query, enc_hook=lambda array: array.tolist()
    )
    read = msgspec.to_builtins(read_query(message), enc_hook=lambda array: array.tolist())
    assert read == expected


def nearest(**fields: Any) -> qdrant.QueryPoints:
    dense = qdrant.VectorInput(dense=qdrant.DenseVector(data=[1.0]))
    return qdrant.QueryPoints(query=qdrant.Query(nearest=dense), **fields)


def query_of(**variant: Any) -> qdrant.QueryPoints:
    return qdrant.QueryPoints(query=qdrant.Query(**variant))


def deep_prefetch(depth: int) -> qdrant.PrefetchQuery:
    prefetch = qdrant.PrefetchQuery()
    for _ in range(depth - 1):
        prefetch = qdrant.PrefetchQuery(prefetch=[prefetch])
    return prefetch


@pytest.mark.parametrize(
    ("message", "kind", "text"),
    [
        (nearest(limit=0), InvalidBody, "limit: value 0 invalid, must be 1 or larger"),
        (nearest(limit=2**64 - 1), BadRequest, "`limit` is 18446744073709551615, the maximum is"),
        (nearest(offset=2**64 - 1), BadRequest, "`offset` is 18446744073709551615"),
        (nearest(score_threshold=math.nan), InvalidBody, "score_threshold: value NaN invalid"),
        (qdrant.QueryPoints(score_threshold=1), BadRequest, "A query is needed to use the score_"),
        (
            nearest(
                lookup_from=qdrant.LookupLocation(
                    collection_name="c",
                    shard_key_selector=qdrant.ShardKeySelector(
                        shard_keys=[qdrant.ShardKey(keyword="k")]
                    ),
                )
            ),
            BadRequest,
            "Shard key k not found",
        ),
        (nearest(params=qdrant.SearchParams(hnsw_ef=0)), InvalidBody, "params.hnsw_ef: value 0"),
        (
            nearest(
                params=qdrant.SearchParams(
                    quantization=qdrant.QuantizationSearchParams(oversampling=0.5)
                )
            ),
            InvalidBody,
            "oversampling: value 0.5 invalid, must be 1.0 or larger",
        ),
        (
            nearest(
                shard_key_selector=qdrant.ShardKeySelector(
                    shard_keys=[qdrant.ShardKey(keyword="k")]
                )
            ),
            BadRequest,
            "Shard key k not found",
        ),
        (
            nearest(shard_key_selector=qdrant.ShardKeySelector(fallback=qdrant.ShardKey(number=7))),
            BadRequest,
            "Shard key 7 not found",
        ),
        (nearest(with_payload=qdrant.WithPayloadSelector()), MalformedInput, "No PayloadSelector"),
        (query_of(), MalformedInput, "Query variant is missing"),
        (
            query_of(text=qdrant.TextQuery(query="x")),
            BadRequest,
            "the `text` query is not supported",
        ),
        (query_of(nearest=qdrant.VectorInput()), MalformedInput, "VectorInput variant is missing"),
        (
            query_of(nearest=qdrant.VectorInput(document=qdrant.Document(text="x", model="y"))),
            MalformedInput,
            "The model `y` is not available here",
        ),
        (
            query_of(nearest=qdrant.VectorInput(image=qdrant.Image())),
            BadRequest,
            "inference (`image`) is not supported",
        ),
        (
            query_of(nearest=qdrant.VectorInput(dense=qdrant.DenseVector(data=[1.0, math.inf]))),
            HeadraceError,
            "element 1 is not finite",
        ),
        (query_of(recommend=qdrant.RecommendInput()), InvalidBody, "At least one positive or"),
        (
            query_of(recommend=qdrant.RecommendInput(strategy=77)),  # type: ignore[arg-type]
            MalformedInput,
            "Unknown recommend strategy: 77",
        ),
        (query_of(fusion=77), MalformedInput, "Unknown fusion: 77"),
        (query_of(sample=77), MalformedInput, "Unknown sample: 77"),
        (query_of(rrf=qdrant.Rrf(k=0)), InvalidBody, "rrf.k: value 0 invalid"),
        (
            query_of(
                nearest_with_mmr=qdrant.NearestInputWithMmr(
                    nearest=qdrant.VectorInput(id=qdrant.PointId(num=1)),
                    mmr=qdrant.Mmr(diversity=1.5),
                )
            ),
            InvalidBody,
            "mmr.diversity: value 1.5 invalid, must be from 0.0 to 1.0",
        ),
        (
            query_of(order_by=qdrant.OrderBy(key="a", direction=77)),  # type: ignore[arg-type]
            MalformedInput,
            "Unknown direction: 77",
        ),
        (
            query_of(formula=qdrant.Formula(expression=qdrant.Expression())),
            MalformedInput,
            "Malformed Expression type",
        ),
        (
            query_of(
                formula=qdrant.Formula(
                    expression=qdrant.Expression(acosh=qdrant.Expression(constant=2))
                )
            ),
            BadRequest,
            "`acosh` in a formula is not supported",
        ),
        (
            query_of(formula=qdrant.Formula(expression=qdrant.Expression(variable="$nothing"))),
            MalformedInput,
            "Invalid reserved variable: $nothing",
        ),
        (
            query_of(
                formula=qdrant.Formula(
                    expression=qdrant.Expression(
                        lin_decay=qdrant.DecayParamsExpression(
                            x=qdrant.Expression(constant=1), scale=0
                        )
                    )
                )
            ),
            BadRequest,
            "`lin_decay.scale` must be larger than 0, got 0.0",
        ),
        (
            qdrant.QueryPoints(prefetch=[deep_prefetch(65)]),
            BadRequest,
            "prefetches are nested more than 64 levels deep",
        ),
        (
            qdrant.QueryPoints(
                query=qdrant.Query(fusion=qdrant.Fusion.RRF),
                using="x",
                prefetch=[qdrant.PrefetchQuery()],
            ),
            BadRequest,
            "Fusion queries cannot be combined with the 'using' field.",
        ),
    ],
)
def test_a_query_that_is_not_possible_is_refused(
    message: qdrant.QueryPoints, kind: type[HeadraceError], text: str
) -> None:
    with pytest.raises(kind) as raised:
        check_query(read_query(message))
    assert text in raised.value.message


def test_an_empty_choice_of_shards_is_no_choice() -> None:
    read_query(nearest(shard_key_selector=qdrant.ShardKeySelector()))


def test_a_search_of_the_older_api_is_a_query_for_the_nearest() -> None:
    search = qdrant.SearchPoints(
        vector=[1.0, 2.0], limit=3, offset=1, score_threshold=0.5, vector_name="x"
    )
    expected = Query(
        query=Nearest(read_query(nearest()).query.target),  # type: ignore[union-attr]
        using="x",
        limit=3,
        offset=1,
        score_threshold=0.5,
        with_payload=NO_PAYLOAD,
    )
    read = read_search(search)
    assert isinstance(read.query, Nearest)
    assert getattr(read.query.target, "tolist", list)() == [1.0, 2.0]
    assert as_bytes(msgspec.structs.replace(read, query=expected.query)) == as_bytes(expected)


def test_a_sparse_search_of_the_older_api_needs_a_name() -> None:
    search = qdrant.SearchPoints(
        vector=[1.0], sparse_indices=qdrant.SparseIndices(data=[3]), limit=1
    )
    with pytest.raises(MalformedInput, match="Sparse vector must have a name"):
        read_search(search)
    search.vector_name = "words"
    assert isinstance(read_search(search).query, Nearest)


def test_a_search_of_the_older_api_needs_a_limit() -> None:
    with pytest.raises(InvalidBody, match="limit: value 0 invalid"):
        read_search(qdrant.SearchPoints(vector=[1.0]))


@pytest.mark.parametrize(
    "scroll_json",
    [
        {},
        {"limit": 3, "offset": 5, "with_payload": False, "with_vector": True},
        {"offset": UUID_ID, "filter": {"must": [{"has_vector": "x"}]}},
        {"order_by": {"key": "a", "direction": "desc"}, "limit": 2},
    ],
)
def test_a_scroll_is_the_same_in_a_message_as_in_json(scroll_json: dict[str, Any]) -> None:
    body = models.ScrollRequest.model_validate(scroll_json)
    order_by = body.order_by
    message = qdrant.ScrollPoints(
        limit=body.limit,
        offset=None if body.offset is None else RestToGrpc.convert_extended_point_id(body.offset),
        filter=None if body.filter is None else RestToGrpc.convert_filter(body.filter),
        with_payload=(
            None
            if body.with_payload is None
            else RestToGrpc.convert_with_payload_interface(body.with_payload)
        ),
        with_vectors=(
            None if body.with_vector is None else RestToGrpc.convert_with_vectors(body.with_vector)
        ),
        order_by=(
            RestToGrpc.convert_order_by(order_by) if isinstance(order_by, models.OrderBy) else None
        ),
    )
    expected: Scroll = parse_scroll(orjson.dumps(scroll_json)).scroll
    assert read_scroll(message) == expected


def test_a_scroll_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidBody, match="limit: value 0 invalid"):
        read_scroll(qdrant.ScrollPoints(limit=0))
