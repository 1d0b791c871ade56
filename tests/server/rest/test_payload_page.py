"""The payload page of Qdrant's documentation, request by request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from qdrant_client import models

from tests.server.rest.rest_server import Rest

JACKET = {
    "name": "jacket",
    "color": ["red", "blue"],
    "quantity": 10,
    "price": 11.99,
    "location": [{"longitude": 52.5200, "latitude": 13.4050}],
    "reviews": [{"user": "Alice", "score": 4}, {"user": "Bob", "score": 5}],
}
# What the page shows for each type, alone and as an array.
INTEGERS = {"quantity": 10, "sizes": [35, 36, 38]}
FLOATS = {"price": 11.99, "rating": [9.1, 9.2, 9.4]}
BOOLS = {"delivered": True, "replies": [False, False, True, False]}
KEYWORDS = {"name": "Alice", "friends": ["Bob", "Eva", "Jack"]}
PLACES = {
    "location": {"longitude": 52.5200, "latitude": 13.4050},
    "cities": [
        {"longitude": 51.5072, "latitude": 0.1276},
        {"longitude": 40.7128, "latitude": 74.0060},
    ],
}
TYPED: dict[str, Any] = {**INTEGERS, **FLOATS, **BOOLS, **KEYWORDS, **PLACES}
OTHER: dict[str, Any] = {
    "quantity": "10",
    "sizes": [1],
    "price": "11.99",
    "rating": [],
    "delivered": False,
    "replies": None,
    "name": ["Bob"],
    "friends": "Alice",
    "location": {"longitude": 0.0, "latitude": 0.0},
}
CITIES = {
    "points": [
        {
            "id": 1,
            "vector": [0.05, 0.61, 0.76, 0.74],
            "payload": {"city": "Berlin", "price": 1.99},
        },
        {
            "id": 2,
            "vector": [0.19, 0.81, 0.75, 0.11],
            "payload": {"city": ["Berlin", "London"], "price": 1.99},
        },
        {
            "id": 3,
            "vector": [0.36, 0.55, 0.47, 0.94],
            "payload": {"city": ["Berlin", "Moscow"], "price": [1.99, 2.99]},
        },
    ]
}


class Page:
    """A collection, and what the page does with it."""

    def __init__(self, rest: Rest, name: str) -> None:
        self.rest = rest
        self.name = name
        self.path = f"/collections/{name}"

    def write(self, method: str, route: str, body: Any) -> None:
        result = self.rest.result(method, f"{self.path}{route}?wait=true", body)
        assert result["status"] == "completed"

    def put(self, payloads: dict[int, Any]) -> None:
        points = [
            {"id": point_id, "vector": [0.1, 0.2, 0.3, 0.4], "payload": payload}
            for point_id, payload in payloads.items()
        ]
        self.write("PUT", "/points", {"points": points})

    def payload(self, point_id: int) -> Any:
        return self.rest.result("GET", f"{self.path}/points/{point_id}")["payload"]

    def passing(self, condition: dict[str, Any]) -> list[int]:
        """By search, scroll and count, which must agree."""
        filter = {"must": [condition]}
        page = self.rest.result("POST", f"{self.path}/points/scroll", {"filter": filter})
        ids = [point["id"] for point in page["points"]]
        count = self.rest.result("POST", f"{self.path}/points/count", {"filter": filter})
        query = {"query": [0.1, 0.2, 0.3, 0.4], "filter": filter}
        found = self.rest.result("POST", f"{self.path}/points/query", query)["points"]
        assert count == {"count": len(ids)}
        assert sorted(point["id"] for point in found) == ids
        return ids

    def schema(self) -> Any:
        return self.rest.result("GET", self.path)["payload_schema"]


@pytest.fixture
def page(rest: Rest, new_collection: Callable[..., str]) -> Page:
    return Page(rest, new_collection())


def test_a_typical_payload_comes_back_as_it_was_sent(page: Page) -> None:
    page.put({1: JACKET})
    assert page.payload(1) == JACKET
    assert list(page.payload(1)) == list(JACKET)


@pytest.mark.parametrize("payload", [INTEGERS, FLOATS, BOOLS, KEYWORDS, PLACES])
def test_the_example_of_each_type_comes_back_as_it_was_sent(
    page: Page, payload: dict[str, Any]
) -> None:
    page.put({1: payload})
    assert list(page.payload(1).items()) == list(payload.items())
    assert [type(value) for value in page.payload(1).values()] == [
        type(value) for value in payload.values()
    ]


def test_points_are_created_with_payloads(page: Page) -> None:
    page.write("PUT", "/points", CITIES)
    assert [page.payload(n) for n in (1, 2, 3)] == [p["payload"] for p in CITIES["points"]]
    assert page.passing({"key": "city", "match": {"value": "Berlin"}}) == [1, 2, 3]
    assert page.passing({"key": "city", "match": {"value": "London"}}) == [2]
    assert page.passing({"key": "price", "range": {"gt": 2.5}}) == [3]


TYPES_AND_CONDITIONS: list[tuple[str, str, dict[str, Any]]] = [
    ("quantity", "integer", {"match": {"value": 10}}),
    ("sizes", "integer", {"match": {"value": 36}}),
    ("sizes", "integer", {"range": {"gte": 37, "lte": 39}}),
    ("price", "float", {"range": {"gt": 11.9, "lt": 12.0}}),
    ("rating", "float", {"range": {"gte": 9.4}}),
    ("delivered", "bool", {"match": {"value": True}}),
    ("replies", "bool", {"match": {"value": True}}),
    ("name", "keyword", {"match": {"value": "Alice"}}),
    ("friends", "keyword", {"match": {"any": ["Eva", "Kim"]}}),
    (
        "location",
        "geo",
        {"geo_radius": {"center": {"lon": 52.52, "lat": 13.4}, "radius": 1000.0}},
    ),
    (
        "cities",
        "geo",
        {
            "geo_bounding_box": {
                "top_left": {"lon": 40.0, "lat": 75.0},
                "bottom_right": {"lon": 41.0, "lat": 73.0},
            }
        },
    ),
]


@pytest.mark.parametrize("is_indexed", [False, True], ids=["no index", "index"])
def test_each_type_is_filtered_and_any_value_of_an_array_is_enough(
    page: Page, is_indexed: bool
) -> None:
    page.put({1: TYPED, 2: OTHER, 3: {}})
    for key, data_type, condition in TYPES_AND_CONDITIONS:
        if is_indexed:
            page.write("PUT", "/index", {"field_name": key, "field_schema": data_type})
        assert page.passing({"key": key, **condition}) == [1], condition


def test_a_range_over_strings_is_empty(page: Page) -> None:
    page.put({1: {"price": "11.99"}, 2: {"price": "10"}})
    assert page.passing({"key": "price", "range": {"gte": 0}}) == []


def test_integers_of_64_bits_are_exact(page: Page) -> None:
    page.put({1: {"n": -(2**63)}, 2: {"n": 2**63 - 1}, 3: {"n": 2**63 - 2}})
    assert page.payload(1) == {"n": -9223372036854775808}
    assert page.passing({"key": "n", "match": {"value": 9223372036854775807}}) == [2]


def test_payloads_are_set_on_some_points(page: Page) -> None:
    page.put({0: {"property1": 5}, 1: {}, 3: {}, 100: {"other": True}})
    body = {"payload": {"property1": "string", "property2": "string"}, "points": [0, 3, 100]}
    page.write("POST", "/points/payload", body)
    assert page.payload(0) == body["payload"]
    assert page.payload(1) == {}
    assert page.payload(100) == {"other": True, "property1": "string", "property2": "string"}


def test_payload_keys_are_deleted_from_some_points(page: Page) -> None:
    page.put({n: {"color": "red", "price": 1, "kept": n} for n in (0, 1, 3, 100)})
    page.write(
        "POST", "/points/payload/delete", {"keys": ["color", "price"], "points": [0, 3, 100]}
    )
    assert [page.payload(n) for n in (0, 3, 100)] == [{"kept": 0}, {"kept": 3}, {"kept": 100}]
    assert page.payload(1) == {"color": "red", "price": 1, "kept": 1}


def test_payloads_of_some_points_are_cleared(page: Page) -> None:
    page.put({n: {"color": "red"} for n in (0, 1, 3, 100)})
    page.write("POST", "/points/payload/clear", {"points": [0, 3, 100]})
    assert [page.payload(n) for n in (0, 1, 3, 100)] == [{}, {"color": "red"}, {}, {}]


def test_payloads_are_deleted_and_cleared_by_filter_with_the_official_client(page: Page) -> None:
    page.put({n: {"color": "red" if n < 3 else "blue", "n": n} for n in range(5)})
    red = models.FilterSelector(
        filter=models.Filter(
            must=[models.FieldCondition(key="color", match=models.MatchValue(value="red"))]
        )
    )
    page.rest.client.delete_payload(page.name, keys=["n"], points=red, wait=True)
    assert [page.payload(n) for n in (0, 4)] == [{"color": "red"}, {"color": "blue", "n": 4}]
    page.rest.client.clear_payload(page.name, points_selector=red, wait=True)
    assert [page.payload(n) for n in (0, 2, 4)] == [{}, {}, {"color": "blue", "n": 4}]


def test_indexed_fields_are_shown_in_the_payload_schema(page: Page) -> None:
    page.put({1: {"property1": "a", "property2": 1}, 2: {"property1": ["b", "c"]}, 3: {}})
    for key, field_schema in (("property1", "keyword"), ("property2", "integer")):
        page.write("PUT", "/index", {"field_name": key, "field_schema": field_schema})
    assert page.schema() == {
        "property1": {"data_type": "keyword", "points": 2},
        "property2": {"data_type": "integer", "points": 1},
    }
    page.write("POST", "/points/payload", {"payload": {"property1": None}, "points": [2]})
    page.write("POST", "/points/payload", {"payload": {"property2": 7}, "points": [2, 3]})
    assert page.schema()["property1"]["points"] == 1
    assert page.schema()["property2"]["points"] == 3
    page.write("DELETE", "/index/property1", None)
    assert list(page.schema()) == ["property2"]


def test_the_name_of_a_field_with_spaces_stands_in_quotes(page: Page) -> None:
    """The page's own request has a placeholder there, which is no payload path."""
    page.put({1: {"name of field to index": "a"}, 2: {}})
    as_printed = {"field_name": "name of field to index", "field_schema": "keyword"}
    status, text = page.rest.error("PUT", f"{page.path}/index?wait=true", as_printed)
    assert status == 400
    assert "Invalid json path: 'name of field to index'" in text
    quoted = '"name of field to index"'
    page.write("PUT", "/index", {"field_name": quoted, "field_schema": "keyword"})
    assert page.schema() == {quoted: {"data_type": "keyword", "points": 1}}
    assert page.passing({"key": quoted, "match": {"value": "a"}}) == [1]


def test_the_most_restrictive_condition_is_taken_first(page: Page) -> None:
    page.put({n: {"object": n, "color": ("red", "blue")[n % 2]} for n in range(200)})
    page.write("PUT", "/index", {"field_name": "color", "field_schema": "keyword"})
    page.write("PUT", "/index", {"field_name": "object", "field_schema": "integer"})
    body = {
        "query": [0.1, 0.2, 0.3, 0.4],
        "filter": {
            "must": [
                {"key": "color", "match": {"value": "red"}},
                {"key": "object", "match": {"value": 4}},
            ]
        },
        "explain": True,
    }
    plan = page.rest.result("POST", f"{page.path}/points/query", body)["explain"]
    taken = [(one["condition"], one["cardinality"]) for one in plan["filter"]["conditions"]]
    assert taken == [("object = 4", 1), ("color = 'red'", 100)]
    assert plan["filter"]["cardinality"] == 1
