from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.server.rest.rest_server import Rest

A_UUID = "550e8400-e29b-41d4-a716-446655440000"


def points_path(collection: str, rest: str = "", wait: bool = True) -> str:
    return f"/collections/{collection}/points{rest}" + ("?wait=true" if wait else "")


def upsert(rest: Rest, collection: str, *points: dict[str, Any]) -> Any:
    return rest.result("PUT", points_path(collection), {"points": list(points)})


def stored(rest: Rest, collection: str) -> list[dict[str, Any]]:
    page = rest.result(
        "POST", points_path(collection, "/scroll", wait=False), {"with_vector": True, "limit": 100}
    )
    points: list[dict[str, Any]] = page["points"]
    return points


def payload_of(rest: Rest, collection: str, point_id: int) -> Any:
    return rest.result("GET", points_path(collection, f"/{point_id}", wait=False))["payload"]


def test_an_upsert_is_answered_with_its_operation_id_and_completed(
    rest: Rest, collection: str
) -> None:
    first = upsert(rest, collection, {"id": 1, "vector": [1, 0, 0, 0]})
    second = upsert(rest, collection, {"id": 2, "vector": [1, 0, 0, 0]})
    assert first["status"] == second["status"] == "completed"
    assert second["operation_id"] == first["operation_id"] + 1


def test_without_wait_a_write_is_acknowledged_and_already_visible(
    rest: Rest, collection: str
) -> None:
    body = {"points": [{"id": 1, "vector": [1, 0, 0, 0]}]}
    result = rest.result("PUT", points_path(collection, wait=False), body)
    assert result["status"] == "acknowledged"
    assert [point["id"] for point in stored(rest, collection)] == [1]


def test_what_was_upserted_comes_back_in_id_order(rest: Rest, collection: str) -> None:
    upsert(
        rest,
        collection,
        {"id": A_UUID, "vector": [0.1, 0.2, 0.3, 0.4], "payload": {"a": [1, 1.0, None]}},
        {"id": 2**64 - 1, "vector": [1e-7, -0.0, 3e38, 1], "payload": None},
        {"id": 0, "vectors": [1, 2, 3, 4]},
    )
    assert stored(rest, collection) == [
        {"id": 0, "payload": {}, "vector": [1.0, 2.0, 3.0, 4.0]},
        {"id": 2**64 - 1, "payload": {}, "vector": [1e-7, -0.0, 3e38, 1.0]},
        {"id": A_UUID, "payload": {"a": [1, 1.0, None]}, "vector": [0.1, 0.2, 0.3, 0.4]},
    ]


@pytest.mark.parametrize(
    "spelling",
    [A_UUID, A_UUID.upper(), A_UUID.replace("-", ""), f"urn:uuid:{A_UUID}", f"{{{A_UUID}}}"],
)
def test_every_spelling_of_a_uuid_is_the_same_id(
    rest: Rest, collection: str, spelling: str
) -> None:
    upsert(rest, collection, {"id": spelling, "vector": [1, 0, 0, 0]})
    assert [point["id"] for point in stored(rest, collection)] == [A_UUID]


def test_payload_numbers_stay_as_they_were_sent(rest: Rest, collection: str) -> None:
    payload = b'{"int":1,"float":1.0,"big":18446744073709551615,"min":-9223372036854775808}'
    body = b'{"points":[{"id":1,"vector":[1,0,0,0],"payload":' + payload + b"}]}"
    rest.http.put(
        points_path(collection), content=body, headers={"content-type": "application/json"}
    ).raise_for_status()
    answer = rest.http.get(points_path(collection, "/1", wait=False)).content
    assert b'"payload":' + payload in answer


def test_a_batch_body_is_upserted_by_column(rest: Rest, collection: str) -> None:
    batch = {
        "ids": [1, A_UUID],
        "vectors": [[1, 0, 0, 0], [0, 1, 0, 0]],
        "payloads": [None, {"a": 1}],
    }
    rest.result("PUT", points_path(collection), {"batch": batch})
    assert stored(rest, collection) == [
        {"id": 1, "payload": {}, "vector": [1.0, 0.0, 0.0, 0.0]},
        {"id": A_UUID, "payload": {"a": 1}, "vector": [0.0, 1.0, 0.0, 0.0]},
    ]


def test_all_kinds_of_named_vectors_are_stored_and_shown(
    rest: Rest, new_collection: Callable[..., str]
) -> None:
    name = new_collection(
        vectors={
            "dense": {"size": 2, "distance": "Dot"},
            "multi": {
                "size": 2,
                "distance": "Dot",
                "multivector_config": {"comparator": "max_sim"},
            },
        },
        sparse_vectors={"sparse": {}},
    )
    vectors = {
        "dense": [1.0, 2.0],
        "multi": [[1.0, 2.0], [3.0, 4.0]],
        "sparse": {"indices": [7, 3], "values": [0.5, 0.25]},
    }
    upsert(rest, name, {"id": 1, "vector": vectors}, {"id": 2, "vector": {}})
    one, two = stored(rest, name)
    assert one["vector"] == vectors | {"sparse": {"indices": [3, 7], "values": [0.25, 0.5]}}
    assert two["vector"] == {}


@pytest.mark.parametrize(
    ("vector", "reason"),
    [
        ([1, 0, 0], "Vector dimension error: expected dim: 4, got 3 (point 27)"),
        ({"x": [1, 0, 0, 0]}, "Not existing vector name error: x (point 27)"),
    ],
)
def test_one_bad_point_keeps_the_whole_batch_out(
    rest: Rest, collection: str, vector: object, reason: str
) -> None:
    points = [{"id": 1, "vector": [1, 0, 0, 0]}, {"id": 27, "vector": vector}]
    status, text = rest.error("PUT", points_path(collection), {"points": points})
    assert (status, text) == (400, f"Wrong input: {reason}")
    assert stored(rest, collection) == []


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("vector", ["[1,0,0,1e39]", "[1,0,0,-1e300]"])
def test_numbers_that_float32_cannot_hold_are_refused(
    rest: Rest, collection: str, vector: str, wait: bool
) -> None:
    body = '{"points":[{"id":1,"vector":%s}]}' % vector  # noqa: UP031
    status, text = rest.error(
        "PUT",
        points_path(collection, wait=wait),
        content=body,
        headers={"content-type": "application/json"},
    )
    assert (status, text.split(":")[0]) == (400, "Wrong input")
    assert "not finite" in text


@pytest.mark.parametrize(
    ("point", "reason"),
    [
        ('{"id":1,"vector":[1,[0],0,0]}', "points[0].vector[1]: invalid type: sequence"),
        ('{"id":1,"vector":[1,true,0,0]}', "points[0].vector[1]: invalid type: boolean `true`"),
        ('{"id":1,"vector":[1,null,0,0]}', "points[0].vector[1]: invalid type: null"),
        ('{"id":1,"vector":[1,"0",0,0]}', 'points[0].vector[1]: invalid type: string "0"'),
        ('{"id":1,"vector":"abcd"}', "points[0].vector: invalid type"),
        ('{"id":1,"vector":null}', "points[0].vector: invalid type: null"),
        ('{"id":1}', "points[0]: missing field `vector`"),
        ('{"vector":[1,0,0,0]}', "points[0]: missing field `id`"),
        ('{"id":1.0,"vector":[1,0,0,0]}', "value 1.0 is not a valid point ID"),
        ('{"id":-1,"vector":[1,0,0,0]}', "value -1 is not a valid point ID"),
        ('{"id":"5","vector":[1,0,0,0]}', "value 5 is not a valid point ID"),
        ('{"id":true,"vector":[1,0,0,0]}', "value true is not a valid point ID"),
        ('{"id":18446744073709551616,"vector":[1,0,0,0]}', "is not a valid point ID"),
        ('{"id":1,"vector":[1,0,0,0],"payload":[]}', "points[0].payload: invalid type: sequence"),
        ('{"id":1,"vector":[1,0,0,0],"payload":{"a":1e400}}', "number is infinity"),
        ('{"id":1,"vector":[1,0,0,NaN]}', "line 1 column"),
        ("[]", "points[0]: invalid type: sequence, expected a map"),
    ],
)
def test_points_of_a_wrong_type_are_a_format_error(
    rest: Rest, collection: str, point: str, reason: str
) -> None:
    status, text = rest.error(
        "PUT",
        points_path(collection),
        content='{"points":[%s]}' % point,  # noqa: UP031
        headers={"content-type": "application/json"},
    )
    assert status == 400
    assert text.startswith("Format error in JSON body: ")
    assert reason in text


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            {"points": [{"id": 1, "vector": []}]},
            "[points[0].vector: dense vector must not be empty]",
        ),
        (
            {"batch": {"ids": [1, 2], "vectors": [[1, 0, 0, 0]]}},
            "[batch: number of ids and vectors must be equal (2 != 1)]",
        ),
        (
            {"batch": {"ids": [1], "vectors": [[1, 0, 0, 0]], "payloads": []}},
            "[batch: number of ids and payloads must be equal (1 != 0)]",
        ),
        (
            {"points": [{"id": 1, "vector": {"a": {"indices": [1, 1], "values": [1, 1]}}}]},
            "[points[0].vector.?.indices: Validation error: must be unique [{}]]",
        ),
        (
            {"points": [{"id": 1, "vector": {"a": {"indices": [1], "values": []}}}]},
            "[points[0].vector.?.values: Validation error: "
            "must be the same length as indices [{}]]",
        ),
        (
            {"points": [{"id": 1, "vector": [[1, 2], [3]]}]},
            "[points[0].vector: all vectors must have the same dimension, "
            "found vector with dimension 1]",
        ),
    ],
)
def test_points_that_break_a_rule_are_a_422_that_names_it(
    rest: Rest, collection: str, body: Any, text: str
) -> None:
    assert rest.error("PUT", points_path(collection), body) == (
        422,
        f"Validation error in JSON body: {text}",
    )


def test_images_in_place_of_vectors_are_refused_as_not_supported(
    rest: Rest, collection: str
) -> None:
    body = {"points": [{"id": 1, "vector": {"image": "a", "model": "m"}}]}
    status, text = rest.error("PUT", points_path(collection), body)
    assert status == 400
    assert "inference" in text
    assert "not supported in this version" in text


def test_update_modes_and_filters_decide_which_points_are_written(
    rest: Rest, collection: str
) -> None:
    upsert(
        rest,
        collection,
        {"id": 1, "vector": [1, 0, 0, 0], "payload": {"v": 1}},
        {"id": 2, "vector": [1, 0, 0, 0], "payload": {"v": 2}},
    )
    new = [{"id": i, "vector": [0, 0, 0, 1], "payload": {"v": 10 * i}} for i in (1, 2, 3)]
    only_v1 = {"must": {"key": "v", "match": {"value": 1}}}
    rest.result(
        "PUT",
        points_path(collection),
        {"points": new, "update_filter": only_v1, "update_mode": "update_only"},
    )
    assert [point["payload"]["v"] for point in stored(rest, collection)] == [10, 2]
    rest.result("PUT", points_path(collection), {"points": new, "update_mode": "insert_only"})
    assert [point["payload"]["v"] for point in stored(rest, collection)] == [10, 2, 30]
    status, text = rest.error(
        "PUT", points_path(collection), {"points": new, "update_mode": "upsrt"}
    )
    assert status == 400
    assert "unknown variant `upsrt`, expected one of `upsert`" in text


def test_payloads_are_set_overwritten_deleted_and_cleared(rest: Rest, collection: str) -> None:
    upsert(rest, collection, {"id": 1, "vector": [1, 0, 0, 0], "payload": {"a": 1, "b": {"c": 2}}})
    path = points_path(collection, "/payload")
    rest.result("POST", path, {"payload": {"a": None, "d": 4}, "points": [1]})
    assert payload_of(rest, collection, 1) == {"b": {"c": 2}, "d": 4}
    rest.result("POST", path, {"payload": {"e": 5}, "points": [1], "key": "b"})
    assert payload_of(rest, collection, 1) == {"b": {"c": 2, "e": 5}, "d": 4}
    rest.result(
        "POST", points_path(collection, "/payload/delete"), {"keys": ["b.c", "d"], "filter": {}}
    )
    assert payload_of(rest, collection, 1) == {"b": {"e": 5}}
    rest.result("PUT", path, {"payload": {"x": None}, "points": [1]})
    assert payload_of(rest, collection, 1) == {"x": None}
    rest.result("POST", points_path(collection, "/payload/clear"), {"points": [1]})
    assert payload_of(rest, collection, 1) == {}


def test_vectors_are_updated_and_deleted_by_name(
    rest: Rest, new_collection: Callable[..., str]
) -> None:
    name = new_collection(
        vectors={n: {"size": 2, "distance": "Dot"} for n in "ab"}, sparse_vectors={"s": {}}
    )
    upsert(rest, name, {"id": 1, "vector": {"a": [1, 1], "b": [2, 2]}})
    update = {"id": 1, "vector": {"b": [3, 3], "s": {"indices": [1], "values": [1]}}}
    rest.result("PUT", points_path(name, "/vectors"), {"points": [update]})
    [point] = stored(rest, name)
    assert point["vector"] == {
        "a": [1.0, 1.0],
        "b": [3.0, 3.0],
        "s": {"indices": [1], "values": [1.0]},
    }
    rest.result(
        "POST",
        points_path(name, "/vectors/delete"),
        {"points": [1], "filter": {}, "vector": ["a", "s"]},
    )
    [point] = stored(rest, name)
    assert point["vector"] == {"b": [3.0, 3.0]}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "text"),
    [
        (
            "PUT",
            "/vectors",
            {"points": [{"id": 1, "vector": {}}]},
            422,
            "[points[0].vector: must specify vectors to update for point]",
        ),
        ("PUT", "/vectors", {"points": []}, 422, "[points: value [] invalid"),
        ("POST", "/vectors/delete", {"points": [1], "vector": []}, 422, "[vector: "),
        (
            "POST",
            "/vectors/delete",
            {"vector": ["a"]},
            400,
            "Bad request: No filter or points provided",
        ),
        (
            "POST",
            "/payload",
            {"payload": {}},
            400,
            "Either list of point ids or filter must be provided",
        ),
        ("POST", "/delete", {}, 400, "Format error in JSON body: "),
        ("POST", "/delete", {"filter": {"musst": []}}, 400, "unknown field `musst`"),
        ("POST", "/payload/delete", {"keys": ["a..b"], "points": [1]}, 400, "Invalid json path"),
        ("POST", "/payload", {"payload": {}, "points": [9]}, 404, "Not found: No point with id 9"),
        (
            "POST",
            "/delete",
            {"points": [1], "shard_key": "k"},
            400,
            "Wrong input: Shard key k not found",
        ),
        ("POST", "/batch", {"operations": [{"upser": {}}]}, 400, "operations[0]: expected one"),
    ],
)
def test_updates_that_cannot_be_applied_say_why(
    rest: Rest, collection: str, method: str, path: str, body: Any, status: int, text: str
) -> None:
    found_status, found_text = rest.error(method, points_path(collection, path), body)
    assert found_status == status
    assert text in found_text


def test_points_are_deleted_by_id_and_by_filter(rest: Rest, collection: str) -> None:
    upsert(
        rest,
        collection,
        *({"id": i, "vector": [1, 0, 0, 0], "payload": {"even": i % 2 == 0}} for i in range(6)),
    )
    rest.result("POST", points_path(collection, "/delete"), {"points": [0, 1, 99]})
    even = {"must": [{"key": "even", "match": {"value": True}}]}
    rest.result("POST", points_path(collection, "/delete"), {"filter": even})
    assert [point["id"] for point in stored(rest, collection)] == [3, 5]


def test_a_batch_of_operations_is_applied_in_order_as_one_write(
    rest: Rest, collection: str
) -> None:
    operations = [
        {"upsert": {"points": [{"id": i, "vector": [i, 0, 0, 0]} for i in (1, 2)]}},
        {"upsert": {"batch": {"ids": [3], "vectors": [[3, 0, 0, 0]]}}},
        {"set_payload": {"payload": {"a": 1, "b": 1}, "points": [1, 2]}},
        {"delete_payload": {"keys": ["b"], "points": [1]}},
        {"overwrite_payload": {"payload": {"c": 1}, "points": [2]}},
        {"clear_payload": {"points": [2]}},
        {"update_vectors": {"points": [{"id": 1, "vector": [9, 9, 9, 9]}]}},
        {"delete_vectors": {"points": [2], "vector": [""]}},
        {"delete": {"points": [3]}},
    ]
    results = rest.result("POST", points_path(collection, "/batch"), {"operations": operations})
    assert [result["status"] for result in results] == ["completed"] * len(operations)
    assert stored(rest, collection) == [
        {"id": 1, "payload": {"a": 1}, "vector": [9.0, 9.0, 9.0, 9.0]},
        {"id": 2, "payload": {}, "vector": {}},
    ]


def test_a_failing_operation_takes_back_its_whole_batch(rest: Rest, collection: str) -> None:
    operations = [
        {"upsert": {"points": [{"id": 1, "vector": [1, 0, 0, 0]}]}},
        {"set_payload": {"payload": {"a": 1}, "points": [77]}},
    ]
    status, text = rest.error("POST", points_path(collection, "/batch"), {"operations": operations})
    assert (status, text) == (404, "Not found: No point with id 77 found")
    assert stored(rest, collection) == []


def test_an_empty_batch_of_operations_is_answered_with_no_results(
    rest: Rest, collection: str
) -> None:
    assert rest.result("POST", points_path(collection, "/batch"), {"operations": []}) == []


def test_an_upsert_of_no_points_is_completed(rest: Rest, collection: str) -> None:
    assert upsert(rest, collection)["status"] == "completed"


def test_a_large_upsert_is_answered_whole(rest: Rest, new_collection: Callable[..., str]) -> None:
    name = new_collection(vectors={"size": 256, "distance": "Euclid"})
    body = {
        "points": [
            {"id": i, "vector": [i / 7.0 + j for j in range(256)], "payload": {"i": i}}
            for i in range(1_000)
        ]
    }
    rest.result("PUT", points_path(name), body)
    assert rest.result("POST", points_path(name, "/count"), {}) == {"count": 1_000}
    shown = rest.result(
        "POST", points_path(name, "", wait=False), {"ids": [999], "with_vector": True}
    )
    assert shown[0]["vector"] == pytest.approx(body["points"][999]["vector"], rel=1e-6)
