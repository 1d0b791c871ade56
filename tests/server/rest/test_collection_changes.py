from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.model.collection_changes import CollectionChange
from headrace.model.collection_config import CollectionConfig
from headrace.service.service import Service
from tests.server.rest.rest_server import Rest


def config(rest: Rest, name: str) -> Any:
    return rest.result("GET", f"/collections/{name}")["config"]


def test_sections_are_merged_member_by_member(
    rest: Rest, new_collection: Callable[..., str]
) -> None:
    name = new_collection(
        hnsw_config={"m": 8, "ef_construct": 50}, metadata={"a": 1, "b": {"c": 2}}
    )
    change = {
        "hnsw_config": {"m": 32},
        "optimizers_config": {"deleted_threshold": 0.5},
        "params": {"on_disk_payload": False},
        "strict_mode_config": {"max_query_limit": 7},
        "metadata": {"a": None, "d": 3},
        "vectors": {"": {"on_disk": True, "hnsw_config": {"m": 24}}},
    }
    assert rest.result("PATCH", f"/collections/{name}", change) is True
    changed = config(rest, name)
    assert changed["hnsw_config"]["m"] == 32
    assert changed["hnsw_config"]["ef_construct"] == 50
    assert changed["optimizer_config"]["deleted_threshold"] == 0.5
    assert changed["params"]["on_disk_payload"] is False
    assert changed["params"]["vectors"]["on_disk"] is True
    assert changed["params"]["vectors"]["hnsw_config"] == {"m": 24}
    assert changed["strict_mode_config"] == {"enabled": False, "max_query_limit": 7}
    assert changed["metadata"] == {"b": {"c": 2}, "d": 3}


def test_the_modifier_of_a_sparse_vector_can_change(
    rest: Rest, new_collection: Callable[..., str]
) -> None:
    name = new_collection(sparse_vectors={"s": {}})
    rest.result("PATCH", f"/collections/{name}", {"sparse_vectors": {"s": {"modifier": "idf"}}})
    assert config(rest, name)["params"]["sparse_vectors"] == {"s": {"modifier": "idf"}}
    status, text = rest.error(
        "PATCH",
        f"/collections/{name}",
        {"sparse_vectors": {"s": {"index": {"datatype": "uint8"}}}},
    )
    assert status == 400
    assert text.startswith("Wrong input: The datatype of sparse vector `s` cannot be changed")


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        ({"vectors": {"x": {}}}, 400, "Wrong input: Not existing vector name error: x"),
        ({"sparse_vectors": {"x": {}}}, 400, "Wrong input: Not existing vector name error: x"),
        ({"quantization_config": {"turbo": {}}}, 400, "Bad request: the quantization `turbo` is"),
        ({"quantization_config": {"scalar": {}}}, 400, "Format error in JSON body: "),
        ({"quantization_config": {"product": {"compression": "x5"}}}, 400, "Format error in"),
        (
            {"quantization_config": "disabled"},
            400,
            "Format error in JSON body: quantization_config: ",
        ),
        (
            {"vectors": {"": {"quantization_config": {"scalar": {"type": "int8", "quantile": 2}}}}},
            422,
            "Validation error in JSON body: [vectors",
        ),
        ({"params": {"read_fan_out_factor": 2}}, 400, "Bad request: `params.read_fan"),
        ({"hnsw_config": {"ef_construct": 1}}, 422, "Validation error in JSON body"),
        ({"metadata": 1}, 400, "Format error in JSON body"),
    ],
)
def test_a_change_that_cannot_be_made_changes_nothing(
    rest: Rest, collection: str, change: Any, status: int, text: str
) -> None:
    before = config(rest, collection)
    refused = rest.error("PATCH", f"/collections/{collection}", {"metadata": {"a": 1}, **change})
    assert refused[0] == status
    assert refused[1].startswith(text)
    assert config(rest, collection) == before


def test_quantization_that_is_off_can_be_switched_off(rest: Rest, collection: str) -> None:
    assert rest.result("PATCH", f"/collections/{collection}", {"quantization_config": "Disabled"})


def test_a_change_outlives_the_process(tmp_path: Path) -> None:
    service = Service.open(tmp_path)
    service.create_collection("c", CollectionConfig())
    service.change_collection("c", CollectionChange(metadata={"a": 1}))
    service.close()
    reopened = Service.open(tmp_path)
    assert reopened.collection_config("c").metadata == {"a": 1}
    reopened.close()


def test_a_vector_name_is_added_filled_and_removed(
    rest: Rest, new_collection: Callable[..., str]
) -> None:
    path = f"/collections/{new_collection()}"
    points = [{"id": 1, "vector": [1, 2, 3, 4]}, {"id": 2, "vector": [1, 2, 3, 4]}]
    rest.result("PUT", f"{path}/points?wait=true", {"points": points})
    added = {"dense": {"size": 2, "distance": "Dot", "hnsw_config": {"m": 3}}}
    first = rest.result("PUT", f"{path}/vectors/a%20b?wait=true", added)
    again = rest.result("PUT", f"{path}/vectors/a%20b?wait=true", added)
    assert (first["status"], again["status"]) == ("completed", "completed")
    assert again["operation_id"] > first["operation_id"]
    shown = rest.result("GET", path)["config"]["params"]["vectors"]
    assert shown["a b"] == {"size": 2, "distance": "Dot"}

    vectors = {"points": [{"id": 1, "vector": {"a b": [5, 6]}}]}
    rest.result("PUT", f"{path}/points/vectors?wait=true", vectors)
    found = rest.result("POST", f"{path}/points/query", {"query": [1, 1], "using": "a b"})
    assert [(hit["id"], hit["score"]) for hit in found["points"]] == [(1, 11.0)]

    rest.result("DELETE", f"{path}/vectors/a%20b?wait=true")
    rest.result("DELETE", f"{path}/vectors/a%20b?wait=true")
    gone = rest.error("POST", f"{path}/points/query", {"query": [1, 1], "using": "a b"})
    assert gone == (400, "Wrong input: Not existing vector name error: a b")
    assert rest.result("GET", f"{path}/points/1")["vector"] == [1, 2, 3, 4]

    rest.result("PUT", f"{path}/vectors/a%20b?wait=true", {"sparse": {"modifier": "idf"}})
    assert rest.result("GET", path)["config"]["params"]["sparse_vectors"] == {
        "a b": {"modifier": "idf"}
    }


@pytest.mark.parametrize(
    ("name", "body", "status", "text"),
    [
        ("a", {"dense": {"size": 3, "distance": "Dot"}}, 400, "Wrong input: Vector `a` already"),
        ("a", {"sparse": {}}, 400, "Wrong input: Vector `a` already exists with a different"),
        ("b", {"dense": {"size": 0, "distance": "Dot"}}, 422, "Validation error in JSON body"),
        ("b", {"dense": {"size": 2}}, 400, "Format error in JSON body: "),
        ("b", {}, 400, "Format error in JSON body: data did not match any variant"),
        ("b%3Ac", {"sparse": {}}, 422, "Validation error in path parameters: [vector_name: "),
        ("b" * 201, {"sparse": {}}, 422, "Validation error in path parameters: [vector_name: "),
    ],
)
def test_a_vector_name_that_does_not_fit_is_refused(
    rest: Rest,
    new_collection: Callable[..., str],
    name: str,
    body: Any,
    status: int,
    text: str,
) -> None:
    path = f"/collections/{new_collection(vectors={'a': {'size': 2, 'distance': 'Dot'}})}"
    refused = rest.error("PUT", f"{path}/vectors/{name}", body)
    assert refused[0] == status
    assert refused[1].startswith(text)
    assert list(rest.result("GET", path)["config"]["params"]["vectors"]) == ["a"]


def test_a_vector_name_of_a_missing_collection_is_not_found(rest: Rest) -> None:
    for method, body in (("PUT", {"sparse": {}}), ("DELETE", None)):
        assert rest.error(method, "/collections/missing/vectors/a", body)[0] == 404


QUANTIZATIONS: list[dict[str, Any]] = [
    {"scalar": {"type": "int8", "quantile": 0.99, "always_ram": True}},
    {"product": {"compression": "x16", "memory": "pinned"}},
    {"binary": {"encoding": "one_and_half_bits", "query_encoding": "scalar8bits"}},
    {"binary": {}},
]


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_quantization_is_shown_changed_and_switched_off(
    rest: Rest, new_collection: Callable[..., str], quantization: dict[str, Any]
) -> None:
    name = new_collection(
        vectors={"size": 4, "distance": "Dot", "quantization_config": quantization},
        quantization_config=quantization,
    )
    path = f"/collections/{name}"
    assert config(rest, name)["quantization_config"] == quantization
    assert config(rest, name)["params"]["vectors"]["quantization_config"] == quantization
    other = {"scalar": {"type": "int8"}}
    rest.result(
        "PATCH",
        path,
        {"quantization_config": other, "vectors": {"": {"quantization_config": "Disabled"}}},
    )
    assert config(rest, name)["quantization_config"] == other
    assert "quantization_config" not in config(rest, name)["params"]["vectors"]
    rest.result("PATCH", path, {"quantization_config": None})
    assert config(rest, name)["quantization_config"] == other
    rest.result("PATCH", path, {"quantization_config": "Disabled"})
    assert config(rest, name)["quantization_config"] is None
