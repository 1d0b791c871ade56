from __future__ import annotations

import logging
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from headrace.engine.payload_index.part_key import PartKey, PartKind
from headrace.server.requests_log import Endpoint, Protocol, RequestsLog
from headrace.server.rest import endpoint
from headrace.service.service import BuildProgress, Service
from tests.server.rest.rest_server import Rest

COUNT = "/collections/{collection_name}/points/count"


def samples(rest: Rest, query: str = "") -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    response = rest.call("GET", f"/metrics{query}")
    assert response.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def labels(**values: str) -> frozenset[tuple[str, str]]:
    return frozenset(values.items())


def test_metrics_have_qdrants_names_and_count_requests(rest: Rest, collection: str) -> None:
    of_count = labels(method="POST", endpoint=COUNT, status="200")
    before = samples(rest).get(("rest_responses_total", of_count), 0)
    for _ in range(3):
        rest.result("POST", f"/collections/{collection}/points/count", {})
    after = samples(rest)
    assert after["rest_responses_total", of_count] == before + 3
    assert after["rest_responses_duration_seconds_count", of_count] == before + 3
    assert after["rest_responses_avg_duration_seconds", of_count] > 0
    assert after["collection_points", labels(id=collection)] == 0
    assert after["collections_total", labels()] >= 1
    assert after["cluster_enabled", labels()] == 0
    assert ("app_info", labels(name="qdrant", version="1.19.0")) in after
    named = of_count | labels(collection=collection)
    assert samples(rest, "?per_collection=true")["rest_responses_total", named] == 3
    assert collection not in rest.call("GET", "/metrics?per_collection=true&anonymize=true").text


def test_requests_of_collections_that_are_not_there_add_no_names(rest: Rest) -> None:
    rest.call("POST", "/collections/never-there/points/count", {})
    assert "never-there" not in rest.call("GET", "/metrics?per_collection=true").text


@pytest.mark.parametrize(
    ("level", "members"),
    [
        (1, {"vectors", "optimizers_status", "params"}),
        (2, {"id", "init_time_ms", "config"}),
        (3, {"id", "init_time_ms", "config", "shards", "transfers", "resharding"}),
    ],
)
def test_telemetry_tells_more_from_level_to_level(
    rest: Rest, collection: str, level: int, members: set[str]
) -> None:
    result = rest.result("GET", f"/telemetry?details_level={level}")
    assert set(result["collections"]["collections"][0]) == members
    assert {"id", "app", "collections", "cluster", "requests", "memory"} <= set(result)
    plain = rest.result("GET", "/telemetry")
    assert set(plain) == {"id", "app", "collections", "cluster", "requests"}
    assert set(plain["collections"]) == {"number_of_collections"}
    route = "PUT /collections/{collection_name}"
    assert plain["requests"]["rest"]["responses"][route]["200"]["count"] >= 1


def test_a_request_keeps_its_id_or_gets_one(rest: Rest) -> None:
    given = rest.call("GET", "/collections", headers={"x-request-id": "abc-1_2"})
    assert given.headers["x-request-id"] == "abc-1_2"
    for wrong in ("", "a b", "x" * 200):
        headers = {"x-request-id": wrong}
        assert len(rest.call("GET", "/collections", headers=headers).headers["x-request-id"]) == 32


def test_a_slow_request_is_logged_and_kept(caplog: pytest.LogCaptureFixture) -> None:
    requests_log = RequestsLog()
    for seconds in (0.5, 2.0):
        requests_log.begin()
        requests_log.end(Endpoint(Protocol.REST, "GET /x", 200, "c"), seconds, "id-7")
    (slow,) = requests_log.slow_requests()
    assert slow.seconds == 2.0
    (line,) = (record for record in caplog.records if record.levelname == "WARNING")
    assert line.message == "slow request"
    assert line.__dict__["fields"] == {
        "request_id": "id-7",
        "endpoint": "GET /x",
        "collection": "c",
        "status": 200,
        "seconds": 2.0,
    }
    assert requests_log.running == 0


def test_the_requests_of_a_collection_that_is_gone_lose_its_name() -> None:
    requests_log = RequestsLog()
    for name in ("", "gone"):
        requests_log.begin()
        requests_log.end(Endpoint(Protocol.REST, "GET /x", 200, name), 0.1)
    requests_log.forget_collection("gone")
    ((endpoint, durations),) = requests_log.durations(per_collection=True).items()
    assert endpoint.collection_name == ""
    assert durations.count == 2


def test_the_log_level_can_be_changed(rest: Rest) -> None:
    root = logging.getLogger()
    before = root.level
    try:
        assert rest.result("POST", "/logger", {"log_level": "ERROR"}) is True
        assert rest.result("GET", "/logger") == {"log_level": "error"}
        assert root.level == logging.ERROR
        wrongs: tuple[Any, ...] = ({"log_level": "loud"}, {"on_disk": {}})
        for wrong in wrongs:
            assert rest.error("POST", "/logger", wrong)[0] == 400
    finally:
        root.setLevel(before)


def test_threads_are_shown_where_they_are(rest: Rest) -> None:
    threads: Any = rest.result("GET", "/stacktrace")["threads"]
    assert any(thread["name"] == "MainThread" and thread["frames"] for thread in threads)


def test_one_node_holds_all_of_a_collection_in_shard_0(rest: Rest, collection: str) -> None:
    shard = f"/collections/{collection}/shards/0"
    points = {"points": [{"id": 1, "vector": [1, 0, 0, 0]}]}
    rest.result("PUT", f"/collections/{collection}/points", points)
    assert rest.result("POST", f"{shard}/points", {"ids": [1]})[0]["id"] == 1
    assert rest.result("POST", f"{shard}/points/count", {}) == {"count": 1}
    ring = {"hash_ring_filter": {"expected_shard_id": 0}}
    assert len(rest.result("POST", f"{shard}/points/scroll", ring)["points"]) == 1
    assert rest.result("POST", f"{shard}/cleanup") == {"status": "acknowledged"}
    other = f"/collections/{collection}/shards/1/points"
    assert rest.error("POST", other, {"ids": [1]}) == (404, "Not found: Shard 1 not found")
    assert rest.error("POST", "/cluster/recover") == (405, "Qdrant is running in standalone mode")


def test_vectors_that_wait_for_their_graph_are_a_queued_optimization(
    rest: Rest, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/collections/{collection}/optimizations?with=queued,idle_segments"
    idle = rest.result("GET", path)
    assert idle["summary"]["queued_optimizations"] == 0
    assert len(idle["idle_segments"]) == 1
    monkeypatch.setattr(Service, "is_indexing", lambda *_: True)
    waiting = rest.result("GET", path)
    assert waiting["summary"]["queued_optimizations"] == 1
    assert waiting["queued"] == [{"optimizer": "indexing", "segments": idle["idle_segments"]}]


def test_builds_of_the_payload_index_are_running_optimizations(
    rest: Rest, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/collections/{collection}/optimizations"
    assert rest.result("GET", path)["running"] == []
    keys = (PartKey((), "n", PartKind.FLOATS), PartKey((), "color", PartKind.STRINGS))
    builds = [BuildProgress(keys, rows_done=1024, rows_total=5000)]
    monkeypatch.setattr(Service, "payload_index_builds", lambda *_: builds)
    (running,) = rest.result("GET", path)["running"]
    assert running["status"] == "optimizing"
    assert running["progress"] == {
        "name": "payload index of color, n",
        "done": 1024,
        "total": 5000,
    }


def test_more_requests_than_may_wait_are_told_to_come_again(
    rest: Rest, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "WAITING_MAX", 0)
    path = f"/collections/{collection}/points"
    refused = rest.call("PUT", path, {"points": []})
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert rest.call("POST", f"{path}/count", {}).status_code == 200
