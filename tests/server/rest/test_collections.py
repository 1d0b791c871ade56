from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.server.rest.rest_server import Rest

VECTOR = {"size": 4, "distance": "Dot"}

DEFAULT_CONFIG = {
    "params": {
        "vectors": VECTOR,
        "shard_number": 1,
        "replication_factor": 1,
        "write_consistency_factor": 1,
        "on_disk_payload": True,
    },
    "hnsw_config": {
        "m": 16,
        "ef_construct": 100,
        "full_scan_threshold": 10000,
        "max_indexing_threads": 0,
        "on_disk": False,
    },
    "optimizer_config": {
        "deleted_threshold": 0.2,
        "vacuum_min_vector_number": 1000,
        "default_segment_number": 0,
        "max_segment_size": None,
        "memmap_threshold": None,
        "indexing_threshold": 10000,
        "flush_interval_sec": 5,
        "max_optimization_threads": None,
    },
    "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0, "wal_retain_closed": 1},
    "quantization_config": None,
    "strict_mode_config": {"enabled": False},
}


def info(rest: Rest, name: str) -> Any:
    return rest.result("GET", f"/collections/{name}")


def refusal(rest: Rest, body: Any, name: str = "never-made") -> tuple[int, str]:
    refused = rest.error("PUT", f"/collections/{name}", body)
    assert rest.result("GET", f"/collections/{name}/exists") == {"exists": False}
    return refused


def test_a_new_collection_is_shown_with_qdrants_defaults(rest: Rest, collection: str) -> None:
    shown = info(rest, collection)
    assert isinstance(shown.pop("indexed_vectors_count"), int)
    assert isinstance(shown.pop("segments_count"), int)
    assert shown == {
        "status": "green",
        "optimizer_status": "ok",
        "points_count": 0,
        "config": DEFAULT_CONFIG,
        "payload_schema": {},
        "update_queue": {"length": 0},
    }


def test_what_was_set_is_shown(rest: Rest, new_collection: Callable[..., str]) -> None:
    name = new_collection(
        vectors={
            "a": VECTOR | {"on_disk": True, "hnsw_config": {"m": 8}, "datatype": "float32"},
            "m": VECTOR | {"multivector_config": {"comparator": "max_sim"}},
        },
        sparse_vectors={"s": {"modifier": "idf", "index": {"on_disk": True}}, "t": {}},
        hnsw_config={"m": 32, "unknown": 1},
        optimizers_config={"indexing_threshold": 0, "max_optimization_threads": "auto"},
        wal_config={"wal_capacity_mb": 8},
        on_disk_payload=False,
        replication_factor=2,
        shard_number=1,
        sharding_method="auto",
        metadata={"a": [1, 1.0, None]},
        strict_mode_config={"enabled": False, "max_query_limit": 5},
    )
    config = info(rest, name)["config"]
    assert config["params"] == {
        "vectors": {
            "a": VECTOR | {"on_disk": True, "hnsw_config": {"m": 8}, "datatype": "float32"},
            "m": VECTOR | {"multivector_config": {"comparator": "max_sim"}},
        },
        "sparse_vectors": {"s": {"modifier": "idf", "index": {"on_disk": True}}, "t": {}},
        "shard_number": 1,
        "sharding_method": "auto",
        "replication_factor": 2,
        "write_consistency_factor": 1,
        "on_disk_payload": False,
    }
    assert config["hnsw_config"] == DEFAULT_CONFIG["hnsw_config"] | {"m": 32}  # type: ignore[operator]
    assert config["optimizer_config"]["indexing_threshold"] == 0
    assert config["wal_config"]["wal_capacity_mb"] == 8
    assert config["metadata"] == {"a": [1, 1.0, None]}
    assert config["strict_mode_config"] == {"enabled": False, "max_query_limit": 5}


@pytest.mark.parametrize("body", [{}, {"vectors": {}}, {"vectors": None}])
def test_a_collection_needs_no_vectors(rest: Rest, body: Any) -> None:
    assert rest.result("PUT", "/collections/payload-only", body) is True
    assert info(rest, "payload-only")["config"]["params"]["vectors"] == {}
    upsert = {"points": [{"id": 1, "vector": {}, "payload": {"a": 1}}]}
    rest.result("PUT", "/collections/payload-only/points?wait=true", upsert)
    assert info(rest, "payload-only")["points_count"] == 1
    assert rest.result("DELETE", "/collections/payload-only") is True


def test_collections_are_listed_found_and_deleted(
    rest: Rest, new_collection: Callable[..., str]
) -> None:
    names = {new_collection() for _ in range(2)}
    listed = rest.result("GET", "/collections")["collections"]
    assert names <= {entry["name"] for entry in listed}
    for name in names:
        assert rest.result("GET", f"/collections/{name}/exists") == {"exists": True}
        assert rest.result("DELETE", f"/collections/{name}") is True
        assert rest.result("DELETE", f"/collections/{name}") is False
        assert rest.result("GET", f"/collections/{name}/exists") == {"exists": False}


def test_a_taken_name_is_a_conflict(rest: Rest, collection: str) -> None:
    assert rest.error("PUT", f"/collections/{collection}", {"vectors": VECTOR}) == (
        409,
        f"Wrong input: Collection `{collection}` already exists!",
    )


@pytest.mark.parametrize("name", ["a%2Fb", "a%00", "%3C", "a%22", "..%2F..%2Fx", "x" * 256, "%2e"])
def test_names_that_could_not_be_names_are_refused(rest: Rest, name: str) -> None:
    status, text = rest.error("PUT", f"/collections/{name}", {"vectors": VECTOR})
    assert status == 422
    assert text.startswith("Validation error in path parameters: [name: ")


def test_a_name_may_have_spaces_and_any_script(rest: Rest) -> None:
    name = "日本 語"
    assert rest.result("PUT", f"/collections/{name}", {"vectors": VECTOR}) is True
    assert name in [entry["name"] for entry in rest.result("GET", "/collections")["collections"]]
    assert rest.result("DELETE", f"/collections/{name}/") is True


@pytest.mark.parametrize(
    "body",
    [
        {"vectors": VECTOR, "quantization_config": {"turbo": {}}},
        {"vectors": VECTOR | {"quantization_config": {"turbo": {"bits": "bits2"}}}},
        {"vectors": VECTOR, "shard_number": 2},
        {"vectors": VECTOR, "sharding_method": "custom"},
        {"vectors": VECTOR | {"datatype": "turbo4"}},
    ],
)
def test_what_would_not_act_is_refused_as_not_supported(rest: Rest, body: Any) -> None:
    status, text = refusal(rest, body)
    assert status == 400
    assert text.startswith("Bad request: ")
    assert text.endswith("is not supported in this version of Headrace")


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ({"vectors": VECTOR | {"size": 0}}, "[vectors.size: value 0 invalid, must be from 1 to"),
        ({"vectors": {"a": VECTOR | {"size": 65537}}}, "[vectors.?.size: value 65537 invalid"),
        ({"vectors": VECTOR, "hnsw_config": {"ef_construct": 3}}, "[hnsw_config.ef_construct: "),
        (
            {"vectors": VECTOR, "optimizers_config": {"deleted_threshold": 1.5}},
            "[optimizers_config.deleted_threshold: value 1.5 invalid, must be from 0.0 to 1.0]",
        ),
        ({"vectors": VECTOR | {"memory": "pinned"}}, "[vectors.memory: `pinned` is not"),
        ({"vectors": VECTOR, "payload": {"memory": "pinned"}}, "[payload.memory: `pinned` is not"),
        ({"vectors": VECTOR, "replication_factor": 0}, "[replication_factor: value 0 invalid"),
        ({"vectors": {"a/b": VECTOR}}, 'vector name cannot contain "/" char'),
        ({"vectors": {"a" * 201: VECTOR}}, "longer than 200 bytes"),
    ],
)
def test_a_config_that_breaks_a_rule_is_a_422(rest: Rest, body: Any, rule: str) -> None:
    status, text = refusal(rest, body)
    assert status == 422
    assert text.startswith("Validation error in JSON body: ")
    assert rule in text


def test_all_broken_rules_are_told_at_once(rest: Rest) -> None:
    body = {"vectors": VECTOR | {"size": 0}, "wal_config": {"wal_capacity_mb": 0}}
    _, text = refusal(rest, body)
    assert "vectors.size: value 0" in text
    assert "; wal_config.wal_capacity_mb: value 0" in text


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"vectors": {"size": 4}},
        {"vectors": {"distance": "Dot"}},
        {"vectors": {"size": 4, "distance": "dot"}},
        {"vectors": {"size": -4, "distance": "Dot"}},
        {"vectors": {"size": "4", "distance": "Dot"}},
        {"vectors": {"a": 4}},
        {"vectors": VECTOR | {"datatype": "float64"}},
        {"vectors": VECTOR | {"multivector_config": {}}},
        {"vectors": VECTOR, "on_disk_payload": "yes"},
        {"vectors": VECTOR, "metadata": []},
        {"sparse_vectors": {"s": {"modifier": "x"}}},
        {"sparse_vectors": {"s": None}},
    ],
)
def test_a_config_of_a_wrong_type_is_a_format_error(rest: Rest, body: Any) -> None:
    status, text = refusal(rest, body)
    assert status == 400
    assert text.startswith("Format error in JSON body: ")


@pytest.mark.parametrize(
    "body",
    [
        {"vectors": {"a": VECTOR}, "sparse_vectors": {"a": {}}},
        {"sparse_vectors": {"": {}}},
    ],
)
def test_vector_names_are_told_apart(rest: Rest, body: Any) -> None:
    status, text = refusal(rest, body)
    assert (status, text.split(":")[0]) == (400, "Wrong input")


def test_payload_indexes_are_made_shown_and_dropped(rest: Rest, collection: str) -> None:
    path = f"/collections/{collection}"
    points = [{"id": i, "vector": [1, 0, 0, 0], "payload": {"a": {"b": i}}} for i in range(3)]
    rest.result("PUT", f"{path}/points?wait=true", {"points": points})
    for body in (
        {"field_name": "a.b", "field_schema": "integer"},
        {"field_name": "kw", "field_type": {"type": "keyword", "is_tenant": True, "x": 1}},
        {"field_name": '"a b"', "field_schema": {"type": "text", "tokenizer": "word"}},
    ):
        assert rest.result("PUT", f"{path}/index?wait=true", body)["status"] == "completed"
    assert info(rest, collection)["payload_schema"] == {
        "a.b": {"data_type": "integer", "points": 3},
        "kw": {
            "data_type": "keyword",
            "params": {"type": "keyword", "is_tenant": True},
            "points": 0,
        },
        '"a b"': {
            "data_type": "text",
            "params": {"type": "text", "tokenizer": "word"},
            "points": 0,
        },
    }
    for field in ("a.b", "kw", "%22a%20b%22", "never"):
        rest.result("DELETE", f"{path}/index/{field}?wait=true")
    assert info(rest, collection)["payload_schema"] == {}


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({"field_name": "a"}, 400, "missing field `field_schema`"),
        ({"field_schema": "keyword"}, 400, "missing field `field_name`"),
        ({"field_name": "a.", "field_schema": "keyword"}, 400, "Invalid json path: 'a.'"),
        ({"field_name": "a", "field_schema": "string"}, 400, "unknown variant `string`"),
        ({"field_name": "a", "field_schema": {"on_disk": True}}, 400, "missing field `type`"),
        ({"field_name": "a", "field_schema": {"type": "text", "tokenizer": "x"}}, 400, "`x`"),
        ({"field_name": "a", "field_schema": {"type": "text", "stopwords": "x"}}, 400, "`x`"),
        (
            {
                "field_name": "a",
                "field_schema": {"type": "text", "stemmer": {"type": "snowball", "language": "x"}},
            },
            400,
            "field_schema.stemmer.language: unknown variant `x`",
        ),
        (
            {
                "field_name": "a",
                "field_schema": {"type": "integer", "lookup": False, "range": False},
            },
            422,
            "the 'lookup' and 'range' capabilities can't be both disabled",
        ),
    ],
)
def test_what_is_no_payload_index_is_refused(
    rest: Rest, collection: str, body: Any, status: int, reason: str
) -> None:
    found, text = rest.error("PUT", f"/collections/{collection}/index", body)
    assert found == status
    assert reason in text


def test_dropping_the_index_of_no_path_is_refused(rest: Rest, collection: str) -> None:
    status, text = rest.error("DELETE", f"/collections/{collection}/index/a..b")
    assert status == 400
    assert text == "Deserialize error in path parameters: Invalid json path: 'a..b'"
