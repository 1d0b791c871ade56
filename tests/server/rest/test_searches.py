"""The older routes, groups, facets and matrices answer as the queries they stand for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.server.rest.rest_server import Rest

BLUE, RED = "blue", "red"


@pytest.fixture
def name(rest: Rest, new_collection: Callable[..., str]) -> str:
    name = new_collection(vectors={"v": {"size": 2, "distance": "Dot"}}, sparse_vectors={"s": {}})
    points = [
        {
            "id": n,
            "vector": {"v": [n, 10 - n], "s": {"indices": [n], "values": [1.0]}},
            "payload": {"color": [RED, BLUE][n % 2], "n": n},
        }
        for n in range(1, 9)
    ]
    rest.result("PUT", f"/collections/{name}/points", {"points": points})
    for field, schema in (("color", "keyword"), ("n", "integer")):
        index = {"field_name": field, "field_schema": schema}
        rest.result("PUT", f"/collections/{name}/index", index)
    return name


def read(rest: Rest, name: str, path: str, body: Any) -> Any:
    return rest.result("POST", f"/collections/{name}/{path}", body)


VECTOR = {"name": "v", "vector": [1, 0]}
SPARSE = {"name": "s", "vector": {"indices": [3], "values": [2.0]}}
EXAMPLES = {"positive": [8], "negative": [1], "using": "v"}
PAIR = {"positive": 8, "negative": 1}


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("search", {"vector": VECTOR}, {"query": [1, 0], "using": "v"}),
        ("search", {"vector": SPARSE}, {"query": SPARSE["vector"], "using": "s"}),
        (
            "recommend",
            {**EXAMPLES, "strategy": "best_score"},
            {
                "query": {
                    "recommend": {"positive": [8], "negative": [1], "strategy": "best_score"}
                },
                "using": "v",
            },
        ),
        (
            "discover",
            {"target": 5, "context": [PAIR], "using": "v"},
            {"query": {"discover": {"target": 5, "context": [PAIR]}}, "using": "v"},
        ),
        (
            "discover",
            {"context": [PAIR], "using": "v"},
            {"query": {"context": [PAIR]}, "using": "v"},
        ),
    ],
)
def test_an_older_search_is_a_query_with_a_bare_list(
    rest: Rest, name: str, path: str, old: Any, new: Any
) -> None:
    page = {"limit": 3, "offset": 1, "with_payload": True, "with_vector": ["v"]}
    found = read(rest, name, f"points/{path}", {**old, **page})
    expected = read(rest, name, "points/query", {**new, **page})["points"]
    assert [point["id"] for point in found] == [point["id"] for point in expected]
    assert found == expected
    batch = {"searches": [{**old, **page}, {**old, "top": 1}]}
    both = read(rest, name, f"points/{path}/batch", batch)
    assert both[0] == found
    assert len(both[1]) == 1


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("search", {"vector": [1, 0]}, 400, "missing field `limit`"),
        ("search", {"vector": [1, 0], "limit": 0}, 422, "limit: value 0 invalid"),
        ("search", {"vector": 1, "limit": 1}, 400, "invalid type"),
        ("recommend", {"limit": 1, "using": "v"}, 400, "At least one positive vector ID"),
        ("discover", {"limit": 1}, 400, "target and/or context_pairs must be specified"),
        ("search/groups", {"vector": VECTOR, "limit": 1, "group_by": "a"}, 400, "group_size"),
        ("query/groups", {"query": [1, 0]}, 400, "missing field `group_by`"),
        ("query/groups", {"group_by": "a", "limit": 0}, 422, "value 0 invalid"),
    ],
)
def test_a_wrong_search_is_refused(
    rest: Rest, name: str, path: str, body: Any, status: int, text: str
) -> None:
    refused = rest.error("POST", f"/collections/{name}/points/{path}", body)
    assert refused[0] == status
    assert text in refused[1]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("query/groups", {"query": [1, 0], "using": "v"}),
        ("search/groups", {"vector": VECTOR}),
        ("recommend/groups", {"positive": [[1, 0]], "using": "v"}),
    ],
)
def test_groups_show_the_best_points_of_each_value(
    rest: Rest, name: str, path: str, body: Any
) -> None:
    sizes = {"group_by": "color", "limit": 2, "group_size": 2}
    groups = read(rest, name, f"points/{path}", {**body, **sizes})["groups"]
    assert [group["id"] for group in groups] == [RED, BLUE]
    assert [[hit["id"] for hit in group["hits"]] for group in groups] == [[8, 6], [7, 5]]
    assert "lookup" not in groups[0]


def test_groups_look_up_the_points_that_their_values_name(rest: Rest, name: str) -> None:
    body = {"query": [1, 0], "using": "v", "group_by": "n", "limit": 1, "with_lookup": name}
    (group,) = read(rest, name, "points/query/groups", body)["groups"]
    assert group["lookup"]["id"] == 8
    assert group["lookup"]["payload"] == {"color": RED, "n": 8}
    body["with_lookup"] = {"collection": "gone"}
    status, text = rest.error("POST", f"/collections/{name}/points/query/groups", body)
    assert (status, text) == (404, "Not found: Collection gone not found")


def test_a_facet_counts_points_by_value(rest: Rest, name: str) -> None:
    hits = read(rest, name, "facet", {"key": "color", "exact": True})["hits"]
    assert hits == [{"value": BLUE, "count": 4}, {"value": RED, "count": 4}]
    filtered = {"key": "color", "filter": {"must": [{"key": "n", "range": {"gte": 7}}]}}
    assert read(rest, name, "facet", {**filtered, "limit": 1})["hits"][0]["count"] == 1
    status, text = rest.error("POST", f"/collections/{name}/facet", {"key": "other"})
    assert status == 400
    assert "No appropriate index for faceting" in text


def test_a_matrix_says_the_same_as_pairs_and_as_offsets(rest: Rest, name: str) -> None:
    body = {"sample": 100, "limit": 2, "using": "v"}
    pairs = read(rest, name, "points/search/matrix/pairs", body)["pairs"]
    offsets = read(rest, name, "points/search/matrix/offsets", body)
    ids = offsets["ids"]
    assert ids == list(range(1, 9))
    as_pairs = [
        {"a": ids[row], "b": ids[column], "score": score}
        for row, column, score in zip(
            offsets["offsets_row"], offsets["offsets_col"], offsets["scores"], strict=True
        )
    ]
    assert as_pairs == pairs
    assert all(pair["a"] != pair["b"] for pair in pairs)


def test_a_scroll_can_be_ordered_by_a_value(rest: Rest, name: str) -> None:
    body = {"order_by": {"key": "n", "direction": "desc", "start_from": 6}, "limit": 3}
    page = read(rest, name, "points/scroll", body)
    assert [(point["id"], point["order_value"]) for point in page["points"]] == [
        (6, 6),
        (5, 5),
        (4, 4),
    ]
    assert page["next_page_offset"] is None
    status, _ = rest.error("POST", f"/collections/{name}/points/scroll", {**body, "offset": 1})
    assert status == 400


def ordered(points: list[Any]) -> list[tuple[int, float]]:
    return [(point["id"], point["order_value"]) for point in points]


def test_a_query_can_be_ordered_by_a_value(rest: Rest, name: str) -> None:
    body = {"query": {"order_by": {"key": "n", "direction": "desc"}}, "limit": 3, "offset": 1}
    points = read(rest, name, "points/query", body)["points"]
    assert ordered(points) == [(7, 7), (6, 6), (5, 5)]
    assert {(point["score"], point["version"]) for point in points} == {(1.0, 0)}


def test_a_point_of_several_values_stands_in_an_order_once_for_each(rest: Rest, name: str) -> None:
    for n in (1, 2, 3):
        change = {"payload": {"n": [n, 100 - n]}, "points": [n]}
        rest.result("POST", f"/collections/{name}/points/payload", change)
    small = {"filter": {"must": [{"key": "n", "range": {"lt": 4}}]}, "limit": 20}
    order = {"query": {"order_by": "n"}}
    points = read(rest, name, "points/query", {**small, **order})["points"]
    expected = [(1, 1), (2, 2), (3, 3), (3, 97), (2, 98), (1, 99)]
    assert ordered(points) == expected
    prefetched = {"prefetch": {**small, "query": [1, 0], "using": "v"}}
    points = read(rest, name, "points/query", {**prefetched, **order, "limit": 5})["points"]
    assert ordered(points) == expected[:5]
    # A prefetch has each point once, and so has a group.
    body = {"prefetch": {**small, **order}, "query": {"fusion": "rrf"}}
    assert [one["id"] for one in read(rest, name, "points/query", body)["points"]] == [1, 2, 3]
    body = {**small, **order, "group_by": "color", "group_size": 5}
    groups = read(rest, name, "points/query/groups", body)["groups"]
    assert [ordered(group["hits"]) for group in groups] == [[(1, 1), (3, 3)], [(2, 2)]]


def test_a_score_that_float32_cannot_hold_is_shown_as_its_largest_number(
    rest: Rest, name: str
) -> None:
    body = {"query": [3e38, 3e38], "using": "v", "limit": 1}
    (point,) = read(rest, name, "points/query", body)["points"]
    assert point["score"] == pytest.approx(3.4028235e38)


@pytest.mark.parametrize("path", ["query/groups", "search/groups", "recommend/groups"])
def test_a_size_of_groups_that_breaks_a_rule_is_named_once(
    rest: Rest, name: str, path: str
) -> None:
    body = {"vector": VECTOR, "positive": [8], "using": "v", "group_by": "color"}
    for member in ("limit", "group_size"):
        sizes = {"limit": 1, "group_size": 1, member: 0}
        status, text = rest.error("POST", f"/collections/{name}/points/{path}", {**body, **sizes})
        rule = f"search_group_request.{member}: value 0 invalid, must be 1 or larger"
        assert (status, text) == (422, f"Validation error in JSON body: [{rule}]")
