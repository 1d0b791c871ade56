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


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        ({"vectors": {"x": {}}}, 400, "Wrong input: Not existing vector name error: x"),
        ({"sparse_vectors": {"x": {}}}, 400, "Wrong input: Not existing vector name error: x"),
        ({"quantization_config": {"scalar": {"type": "int8"}}}, 400, "Bad request: `quant"),
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
