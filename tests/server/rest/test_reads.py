from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from headrace.server.rest import endpoint
from tests.server.rest.rest_server import Rest

A_UUID = "550e8400-e29b-41d4-a716-446655440000"


def points_path(collection: str, rest: str = "") -> str:
    return f"/collections/{collection}/points{rest}"


@pytest.fixture
def filled(rest: Rest, collection: str) -> str:
    """Points 1..5 along the first axis, and a UUID that lies across."""
    points: list[dict[str, Any]] = [
        {"id": i, "vector": [i / 10, 0, 0, 0], "payload": {"n": i, "odd": i % 2 == 1}}
        for i in range(1, 6)
    ]
    points.append({"id": A_UUID, "vector": [0, 1, 0, 0]})
    rest.result("PUT", points_path(collection), {"points": points})
    return collection


@pytest.fixture(params=["on the loop", "on a thread"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "on a thread":
        monkeypatch.setattr(endpoint, "IN_PLACE_POINTS_MAX", -1)
        monkeypatch.setattr(endpoint, "IN_PLACE_FILTERED_POINTS_MAX", -1)
    return str(request.param)


@pytest.mark.usefixtures("place")
def test_a_query_finds_the_nearest_first(rest: Rest, filled: str) -> None:
    result = rest.result(
        "POST",
        points_path(filled, "/query"),
        {"query": [1, 0, 0, 0], "limit": 2, "with_payload": True, "with_vector": True},
    )
    versions = [point.pop("version") for point in result["points"]]
    assert result == {
        "points": [
            {"id": 5, "score": 0.5, "payload": {"n": 5, "odd": True}, "vector": [0.5, 0, 0, 0]},
            {"id": 4, "score": 0.4, "payload": {"n": 4, "odd": False}, "vector": [0.4, 0, 0, 0]},
        ]
    }
    assert versions[0] == versions[1]


def test_scores_are_printed_as_float32(rest: Rest, filled: str) -> None:
    response = rest.call("POST", points_path(filled, "/query"), {"query": [1, 0, 0, 0], "limit": 3})
    assert b'"score":0.3}' in response.content


def test_payload_and_vector_are_left_out_unless_asked_for(rest: Rest, filled: str) -> None:
    [point] = rest.result("POST", points_path(filled, "/query"), {"query": 5, "limit": 1})["points"]
    assert set(point) == {"id", "version", "score"}


@pytest.mark.usefixtures("place")
def test_filters_thresholds_and_offsets_narrow_a_query(rest: Rest, filled: str) -> None:
    body = {
        "query": [1, 0, 0, 0],
        "filter": {"must": [{"key": "odd", "match": {"value": True}}]},
        "score_threshold": 0.1,
        "offset": 1,
    }
    result = rest.result("POST", points_path(filled, "/query"), body)
    assert [point["id"] for point in result["points"]] == [3]


def test_a_query_by_id_leaves_that_point_out(rest: Rest, filled: str) -> None:
    result = rest.result("POST", points_path(filled, "/query"), {"query": A_UUID})
    assert A_UUID not in [point["id"] for point in result["points"]]
    assert rest.error("POST", points_path(filled, "/query"), {"query": 99}) == (
        404,
        "Not found: No point with id 99 found",
    )


def test_prefetches_are_fused(rest: Rest, filled: str) -> None:
    body = {
        "prefetch": [{"query": [1, 0, 0, 0], "limit": 2}, {"query": [0, 1, 0, 0], "limit": 1}],
        "query": {"fusion": "rrf"},
    }
    result = rest.result("POST", points_path(filled, "/query"), body)
    assert {point["id"] for point in result["points"]} == {5, 4, A_UUID}
    assert result["points"][0]["score"] == 0.5


def test_a_query_batch_answers_each_search(rest: Rest, filled: str) -> None:
    searches = [{"query": [1, 0, 0, 0], "limit": 1}, {"query": [0, 1, 0, 0], "limit": 1}]
    results = rest.result("POST", points_path(filled, "/query/batch"), {"searches": searches})
    assert [[p["id"] for p in one["points"]] for one in results] == [[5], [A_UUID]]
    assert rest.result("POST", points_path(filled, "/query/batch"), {"searches": []}) == []


@pytest.mark.usefixtures("place")
def test_a_scroll_walks_all_points_in_id_order(rest: Rest, filled: str) -> None:
    seen: list[Any] = []
    start: Any = None
    for _ in range(10):
        page = rest.result("POST", points_path(filled, "/scroll"), {"limit": 4, "offset": start})
        seen += [point["id"] for point in page["points"]]
        assert all("payload" in point and "vector" not in point for point in page["points"])
        start = page["next_page_offset"]
        if start is None:
            break
    assert seen == [1, 2, 3, 4, 5, A_UUID]


def test_a_scroll_can_follow_a_payload_value(rest: Rest, filled: str) -> None:
    path = f"/collections/{filled}/index?wait=true"
    rest.result("PUT", path, {"field_name": "n", "field_schema": "integer"})
    body = {"order_by": {"key": "n", "direction": "desc", "start_from": 4}, "limit": 2}
    page = rest.result("POST", points_path(filled, "/scroll"), body)
    assert [(point["id"], point["order_value"]) for point in page["points"]] == [(4, 4), (3, 3)]
    assert page["next_page_offset"] is None


def test_payload_can_be_shown_in_part(rest: Rest, filled: str) -> None:
    for selection in (["n"], {"include": ["n"]}, {"exclude": ["odd"]}):
        body = {"ids": [1], "with_payload": selection}
        assert rest.result("POST", points_path(filled), body) == [{"id": 1, "payload": {"n": 1}}]


def test_counts_are_exact_also_with_a_filter(rest: Rest, filled: str) -> None:
    path = points_path(filled, "/count")
    assert rest.result("POST", path, {}) == {"count": 6}
    odd = {"filter": {"must": [{"key": "odd", "match": {"value": True}}]}, "exact": False}
    assert rest.result("POST", path, odd) == {"count": 3}


def test_retrieved_points_follow_the_request_once_each(rest: Rest, filled: str) -> None:
    result = rest.result("POST", points_path(filled), {"ids": [3, 99, 1, 3]})
    assert result == [{"id": 3}, {"id": 1}]


def test_one_point_comes_with_payload_and_vector(rest: Rest, filled: str) -> None:
    assert rest.result("GET", points_path(filled, f"/{A_UUID.upper()}")) == {
        "id": A_UUID,
        "payload": {},
        "vector": [0.0, 1.0, 0.0, 0.0],
    }
    assert rest.error("GET", points_path(filled, "/99")) == (
        404,
        "Not found: Point with id 99 does not exists!",
    )
    assert rest.error("GET", points_path(filled, "/x")) == (
        400,
        'Wrong input: Can not recognize "x" as point id',
    )


def test_unknown_vector_names_are_wrong_input(rest: Rest, filled: str) -> None:
    text = "Wrong input: Not existing vector name error: x"
    body: Any = {"query": [1, 0, 0, 0], "using": "x"}
    assert rest.error("POST", points_path(filled, "/query"), body) == (400, text)
    body = {"ids": [1], "with_vector": ["x"]}
    assert rest.error("POST", points_path(filled), body) == (400, text)


def test_a_shard_key_is_refused_since_no_collection_has_any(rest: Rest, filled: str) -> None:
    bodies: dict[str, dict[str, Any]] = {"/scroll": {}, "/count": {}, "/query": {}, "": {"ids": []}}
    for path, body in bodies.items():
        refused = rest.error("POST", points_path(filled, path), body | {"shard_key": "k"})
        assert refused == (400, "Bad request: Shard key k not found")
        either = {"shard_key": {"target": "k", "fallback": 2}}
        refused = rest.error("POST", points_path(filled, path), body | either)
        assert refused == (400, "Bad request: Shard key k not found")


def test_large_answers_are_compressed_if_asked(
    rest: Rest, new_collection: Callable[..., str]
) -> None:
    name = new_collection(vectors={"size": 512, "distance": "Dot"})
    points = [{"id": i, "vector": [i + j / 512 for j in range(512)]} for i in range(20)]
    rest.result("PUT", points_path(name), {"points": points})
    body = {"limit": 20, "with_vector": True}
    path = points_path(name, "/scroll")
    plain = rest.call("POST", path, body, headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    zipped = rest.call("POST", path, body, headers={"accept-encoding": "gzip"})
    assert zipped.headers["content-encoding"] == "gzip"
    assert int(zipped.headers["content-length"]) < int(plain.headers["content-length"])
    assert zipped.json()["result"] == plain.json()["result"]
    refused = rest.call("POST", path, body, headers={"accept-encoding": "gzip;q=0, identity"})
    assert "content-encoding" not in refused.headers
    small = rest.call("POST", path, {"limit": 1}, headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in small.headers
