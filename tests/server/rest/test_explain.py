"""`explain`, this server's own extension of the query request."""

from __future__ import annotations

import pytest

from tests.server.rest.rest_server import Rest

QUERY = {"query": [1, 0, 0, 0], "filter": {"must": [{"key": "n", "range": {"lt": 3}}]}}


@pytest.fixture
def filled(rest: Rest, collection: str) -> str:
    points = [
        {"id": n, "vector": [1, 0, 0, n], "payload": {"n": n, "odd": n % 2 == 1}}
        for n in range(200)
    ]
    rest.result("PUT", f"/collections/{collection}/points?wait=true", {"points": points})
    return collection


def test_the_plan_stands_beside_the_points(rest: Rest, filled: str) -> None:
    path = f"/collections/{filled}/points/query"
    answer = rest.result("POST", path, QUERY | {"explain": True})
    assert answer["points"] == rest.result("POST", path, QUERY)["points"]
    plan = answer["explain"]
    assert plan == {
        "query": "nearest",
        "using": "",
        "limit": 10,
        "cardinality": 3,
        "cost": 3,
        "filter": {
            "cardinality": 3,
            "points_count": 200,
            "conditions": [
                {
                    "clause": "must",
                    "condition": "n < 3",
                    "access": ["transient column"],
                    "at_most": 3,
                    "cardinality": 3,
                    "is_slow": False,
                }
            ],
            "evaluated_rows": 0,
            "is_cached": True,
        },
        "steps": [
            {
                "strategy": "exact rows",
                "row_begin": 0,
                "row_end": 200,
                "cardinality": 3,
                "cost": 3,
                "reason": "few rows are allowed",
                "ef": None,
            }
        ],
        "prefetch": [],
    }


def test_no_plan_unless_it_is_asked_for(rest: Rest, filled: str) -> None:
    path = f"/collections/{filled}/points/query"
    assert set(rest.result("POST", path, QUERY)) == {"points"}
    assert set(rest.result("POST", path, QUERY | {"explain": False})) == {"points"}


def test_each_query_of_a_batch_is_explained_if_it_asks(rest: Rest, filled: str) -> None:
    path = f"/collections/{filled}/points/query/batch"
    searches = [QUERY, QUERY | {"explain": True}, {"explain": True}]
    answers = rest.result("POST", path, {"searches": searches})
    assert ["explain" in answer for answer in answers] == [False, True, True]
    assert answers[2]["explain"]["query"] == "points by id"


def test_explain_must_be_a_boolean(rest: Rest, filled: str) -> None:
    status, text = rest.error("POST", f"/collections/{filled}/points/query", {"explain": 1})
    assert status == 400
    assert text.startswith("Format error in JSON body")
