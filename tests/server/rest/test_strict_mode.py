from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from headrace.model.errors import BadRequest, NoSpace, RateLimited
from headrace.service.quotas import QuotaConfig
from headrace.service.rate_limits import RateLimits
from tests.server.rest.rest_server import Rest

SEARCH = {"query": [1, 0, 0, 0]}
BY_COLOR = {"must": [{"key": "color", "match": {"value": "red"}}]}
POINT = {"id": 1, "vector": [1, 0, 0, 0]}


def strict(rest: Rest, name: str, **limits: Any) -> None:
    config = {"strict_mode_config": {"enabled": True, **limits}}
    rest.result("PATCH", f"/collections/{name}", config)


@pytest.mark.parametrize(
    ("limits", "method", "path", "body", "text"),
    [
        (
            {"max_query_limit": 4},
            "POST",
            "points/query",
            {**SEARCH, "limit": 5},
            'Bad request: Limit exceeded 5 > 4 for "limit". '
            'Help: Reduce the "limit" parameter to or below 4.',
        ),
        ({"max_query_limit": 4}, "POST", "points/scroll", {}, "Limit exceeded 10 > 4"),
        (
            {"max_query_limit": 4},
            "POST",
            "points/query",
            {"prefetch": {**SEARCH, "limit": 9}, "query": {"fusion": "rrf"}, "limit": 1},
            "Limit exceeded 9 > 4",
        ),
        ({"max_timeout": 5}, "POST", "points/query?timeout=6", SEARCH, 'for "timeout"'),
        ({"max_timeout": 5}, "PUT", "points?timeout=6", {"points": []}, 'for "timeout"'),
        (
            {"search_max_hnsw_ef": 10},
            "POST",
            "points/query",
            {**SEARCH, "params": {"hnsw_ef": 11}},
            'for "hnsw_ef"',
        ),
        (
            {"search_max_oversampling": 2},
            "POST",
            "points/query",
            {**SEARCH, "params": {"quantization": {"oversampling": 3}}},
            'for "oversampling"',
        ),
        (
            {"search_allow_exact": False},
            "POST",
            "points/query",
            {**SEARCH, "params": {"exact": True}},
            "Exact search is disabled!",
        ),
        (
            {"search_max_batchsize": 1},
            "POST",
            "points/query/batch",
            {"searches": [SEARCH, SEARCH]},
            "search batch size",
        ),
        (
            {"upsert_max_batchsize": 1},
            "PUT",
            "points",
            {"points": [POINT, {**POINT, "id": 2}]},
            "upsert limit",
        ),
        (
            {"unindexed_filtering_retrieve": False},
            "POST",
            "points/count",
            {"filter": BY_COLOR},
            'Index required but not found for "color" of one of the following types: [keyword]',
        ),
        (
            {"unindexed_filtering_retrieve": False},
            "POST",
            "points/query/groups",
            {**SEARCH, "group_by": "color"},
            'Index required but not found for "color"',
        ),
        (
            {"unindexed_filtering_update": False},
            "POST",
            "points/delete",
            {"filter": {"must": [{"nested": {"key": "a", "filter": BY_COLOR}}]}},
            'Index required but not found for "a[].color"',
        ),
        (
            {"filter_max_conditions": 1},
            "POST",
            "points/count",
            {"filter": {"should": [{"filter": BY_COLOR}, BY_COLOR, BY_COLOR]}},
            "Filter condition limit reached (2 > 1)",
        ),
        (
            {"condition_max_size": 2},
            "POST",
            "points/count",
            {"filter": {"must": [{"has_id": [1, 2, 3]}]}},
            "Condition size limit reached (3 > 2)",
        ),
        (
            {"max_payload_index_count": 0},
            "PUT",
            "index",
            {"field_name": "a", "field_schema": "keyword"},
            "maximum number of payload indices (0)",
        ),
        (
            {"write_rate_limit": 1},
            "PUT",
            "points",
            {"points": [POINT] * 1 + [{**POINT, "id": 2}]},
            "the operation needs 2 tokens",
        ),
    ],
)
def test_a_request_beyond_a_limit_is_refused_with_help(
    rest: Rest,
    collection: str,
    limits: dict[str, Any],
    method: str,
    path: str,
    body: Any,
    text: str,
) -> None:
    if "filter_max_conditions" in limits:
        body = {"filter": {"should": [BY_COLOR, BY_COLOR]}}
    strict(rest, collection, **limits)
    status, found = rest.error(method, f"/collections/{collection}/{path}", body)
    assert status == 400
    assert text in found
    assert "Help: " in found
    rest.result("PATCH", f"/collections/{collection}", {"strict_mode_config": {"enabled": False}})
    assert rest.call(method, f"/collections/{collection}/{path}", body).status_code == 200


@pytest.mark.parametrize(
    ("condition", "lacking", "serving"),
    [
        ({"match": {"value": 7}}, {"type": "integer", "lookup": False, "range": True}, "integer"),
        ({"range": {"gt": 1}}, {"type": "integer", "lookup": True, "range": False}, "float"),
        ({"range": {"gt": 1}}, "datetime", "integer"),
        ({"range": {"gt": "2020-01-01"}}, "float", "datetime"),
        ({"match": {"prefix": "a"}}, "keyword", {"type": "keyword", "prefix": True}),
        ({"match": {"phrase": "a b"}}, "text", {"type": "text", "phrase_matching": True}),
        ({"match": {"text": "a"}}, "keyword", "text"),
        ({"match": {"value": True}}, "keyword", "bool"),
        ({"match": {"except": ["a"]}}, "integer", "keyword"),
        ({"match": {"except": []}}, None, "keyword"),
        ({"match": {"except": []}}, "integer", "uuid"),
        ({"geo_radius": {"center": {"lon": 0, "lat": 0}, "radius": 1}}, "float", "geo"),
        ({"match": {"value": "6f3c7d8e-0f3b-4e0d-9f0a-3f3c7d8e0f3b"}}, "text", "uuid"),
        ({"is_empty": True}, None, "float"),
    ],
)
def test_an_index_counts_only_if_it_serves_the_condition(
    rest: Rest, collection: str, condition: Any, lacking: Any, serving: Any
) -> None:
    strict(rest, collection, unindexed_filtering_retrieve=False)
    body = {"filter": {"must": [{"key": "f", **condition}]}}
    count, index = f"/collections/{collection}/points/count", f"/collections/{collection}/index"
    if lacking is not None:
        rest.result("PUT", index, {"field_name": "f", "field_schema": lacking})
    status, text = rest.error("POST", count, body)
    assert (status, 'not found for "f"' in text) == (400, True)
    rest.result("PUT", index, {"field_name": "f", "field_schema": serving})
    assert rest.result("POST", count, body) == {"count": 0}


def test_any_of_no_values_needs_no_index(rest: Rest, collection: str) -> None:
    strict(rest, collection, unindexed_filtering_retrieve=False)
    body = {"filter": {"must": [{"key": "f", "match": {"any": []}}]}}
    assert rest.result("POST", f"/collections/{collection}/points/count", body) == {"count": 0}


@pytest.mark.parametrize(
    ("expression", "types"),
    [
        ({"sum": ["$score", {"mult": [2.0, "size"]}]}, "integer, float"),
        ({"div": {"left": 1.0, "right": {"datetime_key": "size"}}}, "datetime"),
        ({"geo_distance": {"origin": {"lon": 0, "lat": 0}, "to": "size"}}, "geo"),
        ({"lin_decay": {"x": 1.0, "target": {"neg": "size"}}}, "integer, float"),
        ({"key": "size", "match": {"value": "a"}}, "keyword"),
    ],
)
def test_a_formula_needs_indexes_as_filters_do(
    rest: Rest, collection: str, expression: Any, types: str
) -> None:
    strict(rest, collection, unindexed_filtering_retrieve=False)
    body = {"prefetch": {"query": [1, 0, 0, 0]}, "query": {"formula": expression}}
    status, text = rest.error("POST", f"/collections/{collection}/points/query", body)
    assert status == 400
    assert f'for "size" of one of the following types: [{types}]' in text


@pytest.mark.parametrize("limit", ["max_points_count", "max_collection_vector_size_bytes"])
def test_a_full_collection_takes_no_more_points_but_lets_them_go(
    rest: Rest, collection: str, limit: str
) -> None:
    strict(rest, collection, **{limit: 1})
    path = f"/collections/{collection}/points"
    rest.result("PUT", path, {"points": [POINT]})
    status, text = rest.error("PUT", path, {"points": [{**POINT, "id": 2}]})
    assert status == 400
    assert text.startswith("Bad request: Max ")
    rest.result("POST", f"{path}/delete", {"points": [1]})
    rest.result("PUT", path, {"points": [POINT]})


def test_a_full_payload_store_takes_no_more(rest: Rest, collection: str) -> None:
    strict(rest, collection, max_collection_payload_size_bytes=20)
    path = f"/collections/{collection}/points"
    rest.result("PUT", path, {"points": [{**POINT, "payload": {"text": "x" * 20}}]})
    status, text = rest.error("PUT", path, {"points": [POINT]})
    assert status == 400
    assert "Max payload storage size limit of 20 bytes" in text


def test_vectors_have_their_own_limits(rest: Rest, new_collection: Callable[..., str]) -> None:
    multi = {"size": 2, "distance": "Dot", "multivector_config": {"comparator": "max_sim"}}
    name = new_collection(vectors={"m": multi}, sparse_vectors={"s": {}})
    strict(
        rest,
        name,
        multivector_config={"m": {"max_vectors": 1}},
        sparse_config={"s": {"max_length": 1}},
    )
    for vector in ({"m": [[1, 0], [0, 1]]}, {"s": {"indices": [1, 2], "values": [1, 1]}}):
        body = {"points": [{"id": 1, "vector": vector}]}
        status, text = rest.error("PUT", f"/collections/{name}/points", body)
        assert status == 400
        assert "has a limit of 1" in text


def test_reads_and_writes_beyond_a_rate_are_told_when_to_come_again(
    rest: Rest, collection: str
) -> None:
    strict(rest, collection, read_rate_limit=2, write_rate_limit=1)
    path = f"/collections/{collection}/points"
    rest.result("PUT", path, {"points": [POINT]})
    refused = rest.call("PUT", path, {"points": [POINT]})
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    for _ in range(2):
        rest.result("POST", f"{path}/query", SEARCH)
    status, text = rest.error("POST", f"{path}/query", SEARCH)
    assert status == 429
    assert text.startswith("Rate limiting exceeded: Read rate limit exceeded")


def test_a_bucket_fills_evenly_up_to_a_minutes_worth() -> None:
    now_s = [0.0]
    limits = RateLimits(lambda: now_s[0])
    limits.take("c", "Read", 60, 60)
    now_s[0] = 10.0
    with pytest.raises(RateLimited) as refused:
        limits.take("c", "Read", 60, 15)
    assert refused.value.retry_after_s == 5
    limits.take("c", "Read", 60, 10)
    now_s[0] = 1000.0
    limits.take("c", "Read", 60, 60)
    with pytest.raises(RateLimited):
        limits.take("c", "Read", 60, 1)
    limits.take("other", "Read", 60, 1)
    with pytest.raises(BadRequest):
        limits.take("c", "Read", 60, 61)


def test_a_reached_quota_holds_up_what_takes_room_and_nothing_else(
    rest: Rest, collection: str
) -> None:
    path = f"/collections/{collection}/points"
    rest.result("PUT", path, {"points": [POINT]})
    try:
        rest.result("PUT", "/quotas", {"enabled": True, "max_resident_memory_percent": 1})
        usage = rest.result("GET", "/quotas")["usage"]
        if usage["resident_memory_percent"] < 1:
            pytest.skip("this process takes less than a percent of the memory")
        status, text = rest.error("PUT", path, {"points": [POINT]})
        assert status == 507
        assert text.startswith(NoSpace.prefix)
        rest.result("POST", f"{path}/delete", {"points": [1]})
        rest.result("POST", f"{path}/query", SEARCH)
    finally:
        rest.service.quotas.change(QuotaConfig())
    rest.result("PUT", path, {"points": [POINT]})


@pytest.mark.parametrize(
    ("without", "with_option", "condition"),
    [
        ("keyword", {"type": "keyword", "prefix": True}, {"match": {"prefix": "re"}}),
        (
            {"type": "integer", "range": False},
            {"type": "integer", "lookup": False, "range": True},
            {"range": {"lt": 5}},
        ),
        (
            {"type": "integer", "lookup": False},
            {"type": "integer", "range": False},
            {"match": {"any": [1, 2]}},
        ),
    ],
)
def test_an_index_without_the_option_that_serves_a_condition_is_none(
    rest: Rest, new_collection: Callable[..., str], without: Any, with_option: Any, condition: Any
) -> None:
    strict = {"enabled": True, "unindexed_filtering_retrieve": False}
    path = f"/collections/{new_collection(strict_mode_config=strict)}"
    body = {"filter": {"must": [{"key": "a", **condition}]}}
    index = {"field_name": "a", "field_schema": without}
    rest.result("PUT", f"{path}/index?wait=true", index)
    status, text = rest.error("POST", f"{path}/points/count", body)
    assert status == 400
    assert text.startswith('Bad request: Index required but not found for "a"')
    rest.result("PUT", f"{path}/index?wait=true", index | {"field_schema": with_option})
    assert rest.result("POST", f"{path}/points/count", body) == {"count": 0}
