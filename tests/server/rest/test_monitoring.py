from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from headrace.engine.payload_index.part_key import PartKey, PartKind
from headrace.server.logs import LogLevel, configure_logging
from headrace.server.requests_log import Endpoint, Protocol, RequestsLog
from headrace.server.rest import endpoint
from headrace.service.service import BuildProgress, GraphProgress, Service
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


SNAPSHOT_METRICS = (
    "snapshot_creation_running",
    "snapshot_recovery_running",
    "snapshot_created_total",
)


def test_metrics_count_the_snapshots_of_a_collection(rest: Rest, collection: str) -> None:
    def counted() -> list[float]:
        found = samples(rest)
        return [found[name, labels(id=collection)] for name in SNAPSHOT_METRICS]

    assert counted() == [0, 0, 0]
    path = f"/collections/{collection}/snapshots"
    made = rest.result("POST", path)
    assert counted() == [0, 0, 1]
    full = rest.result("POST", "/snapshots")
    assert counted() == [0, 0, 2]
    rest.result("DELETE", f"/snapshots/{full['name']}")
    # What waits for another snapshot is under way.
    location = {"location": rest.service.snapshots.path(collection, made["name"]).as_uri()}
    with ThreadPoolExecutor() as threads:
        with rest.service._engine._snapshotting:
            under_way = [
                threads.submit(rest.result, "PUT", f"{path}/recover", location),
                threads.submit(rest.result, "POST", path),
            ]
            deadline = time.monotonic() + 30
            while counted() != [1, 1, 2] and time.monotonic() < deadline:
                time.sleep(0.01)
            assert counted() == [1, 1, 2]
        assert all(one.result() for one in under_way)
    assert counted() == [0, 0, 3]


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


@pytest.mark.parametrize("level", [0, 1, 3])
def test_what_is_told_of_all_leaves_out_what_is_deleted_meanwhile(
    rest: Rest, collection: str, monkeypatch: pytest.MonkeyPatch, level: int
) -> None:
    monkeypatch.setattr(rest.service, "collection_names", lambda: ["deleted", collection])
    result = rest.result("GET", f"/telemetry?details_level={level}")
    if level:
        assert len(result["collections"]["collections"]) == 1
        assert result["collections"]["number_of_collections"] == 1
    assert samples(rest)["collections_total", labels()] == 1


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


def test_levels_and_format_of_the_log_can_be_changed(
    rest: Rest, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("", "headrace.server", "uvicorn", "httpx", "httpcore")
    loggers = {name: logging.getLogger(name) for name in names}
    handlers = loggers[""].handlers[:]
    levels = {name: logger.level for name, logger in loggers.items()}
    try:
        configure_logging(LogLevel.INFO)
        assert rest.result("GET", "/logger") == {
            "log_level": "info",
            "format": "text",
            "on_disk": {"enabled": False},
        }
        change = {"log_level": "ERROR,headrace.server=debug", "format": "json", "on_disk": None}
        assert rest.result("POST", "/logger", change) is True
        assert rest.result("GET", "/logger")["log_level"] == "error"
        assert loggers[""].level == logging.ERROR
        capsys.readouterr()
        rest.call("GET", "/collections", headers={"x-request-id": "seen-7"})
        said = [orjson.loads(line) for line in capsys.readouterr().err.splitlines()]
        assert "seen-7" in [line.get("request_id") for line in said]
        for wrong in (
            {"log_level": "loud"},
            {"log_level": "error,headrace.sever=debug"},
            {"format": "xml"},
            {"on_disk": {"enabled": True}},
            {"color": True},
        ):
            assert rest.error("POST", "/logger", wrong)[0] == 400
        assert "headrace.sever" not in logging.root.manager.loggerDict
    finally:
        loggers[""].handlers[:] = handlers
        for name, level in levels.items():
            loggers[name].setLevel(level)


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
    graphs = {"": GraphProgress(0, 0, "the tail is long")}
    monkeypatch.setattr(Service, "graph_builds", lambda *_: graphs)
    waiting = rest.result("GET", path)
    assert waiting["idle_segments"] == []
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


def test_a_graph_that_is_made_is_a_running_optimization(
    rest: Rest, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = {"text": GraphProgress(10, 50, "the tail is long")}
    monkeypatch.setattr(Service, "graph_builds", lambda *_: graphs)
    (running,) = rest.result("GET", f"/collections/{collection}/optimizations")["running"]
    assert running["progress"] == {
        "name": "graph of vector 'text': the tail is long",
        "done": 10,
        "total": 50,
    }


def test_what_was_done_in_the_background_is_completed_newest_first(
    rest: Rest, new_collection: Callable[..., str]
) -> None:
    name = new_collection(optimizers_config={"indexing_threshold": 1})
    points = [{"id": n, "vector": [n % 7, n % 11, 1, 0], "payload": {"n": n}} for n in range(1200)]
    for first in range(0, len(points), 400):
        body = {"points": points[first : first + 400]}
        rest.result("PUT", f"/collections/{name}/points?wait=true", body)
    by_n = {"filter": {"must": [{"key": "n", "range": {"gte": 3}}]}}
    path = f"/collections/{name}/optimizations?with=completed"
    deadline = time.monotonic() + 30
    kinds: set[str] = set()
    completed: list[Any] = []
    while not {"indexing", "payload_index"} <= kinds and time.monotonic() < deadline:
        rest.result("POST", f"/collections/{name}/points/count", by_n)
        completed = rest.result("GET", path)["completed"]
        kinds = {one["optimizer"] for one in completed}
        time.sleep(0.05)
    assert {"indexing", "payload_index"} <= kinds
    ended = [one["progress"]["started_at"] for one in completed]
    assert ended == sorted(ended, reverse=True)
    assert all(one["status"] == "done" for one in completed)
    assert len(rest.result("GET", f"{path}&completed_limit=1")["completed"]) == 1
    metrics = rest.call("GET", "/metrics").text
    assert f'collection_vectors{{collection="{name}",vector=""}} 1200.0' in metrics
    local = next(
        one["shards"][0]["local"]
        for one in rest.result("GET", "/telemetry?details_level=3")["collections"]["collections"]
        if one["id"] == name
    )
    assert (local["num_points"], local["num_vectors_by_name"]) == (1200, {"": 1200})
    assert local["total_optimized_points"] > 0


def test_a_slow_read_of_a_field_without_an_index_is_an_issue_until_it_has_one(
    rest: Rest, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def issues() -> list[Any]:
        found = rest.result("GET", "/issues")["issues"]
        return [one for one in found if collection in one["id"]]

    by_color = {"filter": {"must": [{"key": "color", "match": {"value": "red"}}]}}
    by_size = {"prefetch": {"filter": {"must": [{"key": "size", "range": {"gt": 1}}]}}}
    count, query = (f"/collections/{collection}/points/{one}" for one in ("count", "query"))
    rest.result("POST", count, by_color)
    assert issues() == []
    monkeypatch.setattr("headrace.service.service.SLOW_READ_S", 0.0)
    rest.result("POST", count, by_color)
    rest.result("POST", query, {**by_size, "query": [1, 0, 0, 0]})
    of_size, of_color = issues()
    assert of_color["id"] == f"UNINDEXED_FIELD/{collection}/color"
    choices = [one["action"]["body"] for one in of_size["solution"]["immediate_choice"]]
    assert {one["field_schema"] for one in choices} == {"float", "integer"}
    action = of_color["solution"]["immediate"]["action"]
    rest.result(action["method"], action["uri"], action["body"], headers=action["headers"])
    assert [one["id"] for one in issues()] == [of_size["id"]]
    assert rest.result("DELETE", "/issues") is True
    assert issues() == []


def test_slow_requests_show_what_was_asked_without_what_is_long(
    rest: Rest, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.server.requests_log.SLOW_REQUEST_S", 0.0)
    vector, filter = [0.5] * 4, {"must": [{"has_id": list(range(50))}]}
    body = {"query": vector, "limit": 3, "filter": filter}
    for _ in range(3):
        rest.result("POST", f"/collections/{collection}/points/query", body)
    secret = {"location": "file:///nowhere/x.snapshot", "api_key": "secret-7"}
    rest.call("PUT", f"/collections/{collection}/snapshots/recover", secret)
    monkeypatch.undo()
    found = rest.result("GET", "/profiler/slow_requests?limit=1000&request=points/query")
    (slow,) = (one for one in found["requests"] if one["collection_name"] == collection)
    assert slow["approx_count"] == 3
    assert slow["request_body"] == {
        "query": vector,
        "limit": 3,
        "filter": {"must": [{"has_id": "<50 numbers>"}]},
    }
    assert "secret-7" not in rest.call("GET", "/profiler/slow_requests?limit=1000").text


def test_nothing_is_ever_left_to_cut_from_a_log(rest: Rest, collection: str) -> None:
    path = f"/collections/{collection}/truncate_unapplied_wal"
    assert rest.result("POST", path) == 0
    assert rest.call("POST", f"{path}?wait=false").status_code == 202
    missing = "/collections/missing/truncate_unapplied_wal"
    assert rest.error("POST", missing)[0] == 404


def test_no_profiler_is_attached(rest: Rest) -> None:
    assert rest.result("GET", "/debugger") == {"pyroscope": None}
    assert rest.result("PATCH", "/debugger", {"pyroscope": None}) is True
    wanted = {"pyroscope": {"url": "http://x", "identifier": "x"}}
    assert rest.error("PATCH", "/debugger", wanted)[0] == 400


def test_more_requests_than_may_wait_are_told_to_come_again(
    rest: Rest, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "WAITING_MAX", 0)
    path = f"/collections/{collection}/points"
    refused = rest.call("PUT", path, {"points": []})
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert rest.call("POST", f"{path}/count", {}).status_code == 200
