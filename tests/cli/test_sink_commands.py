"""`headrace sink worker`, `status`, `dead-letters` and `dry-run` over a broker."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from headrace.server.options import ServeOptions
from headrace.server.run import Serving, serve_in_thread
from tests.headrace_process import HeadraceProcess, run_headrace
from tests.stream.harness import (
    connector_settings,
    new_topic,
    produce,
    read_topic,
    wait_until,
    write_properties,
)

COLLECTION = "airports"
WORKER_LINE = re.compile(r"^worker: REST (?P<rest>\S+) data (?P<data>.+)$")
CONNECT_LINE = "connectors are managed at "


@pytest.fixture
def topic(tansu_bootstrap_servers: str) -> str:
    return new_topic(tansu_bootstrap_servers, "sink-cli")


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    with serve_in_thread(ServeOptions(tmp_path / "remote", http_port=0, grpc_port=0)) as serving:
        config = {"vectors": {"size": 2, "distance": "Dot"}}
        url = f"{serving.rest_url}/collections/{COLLECTION}"
        httpx.put(url, json=config).raise_for_status()
        yield serving


def value_of(point_id: object, dim: int = 2) -> bytes:
    value = {"collection_name": COLLECTION, "id": point_id, "vector": [1] * dim}
    return json.dumps(value).encode()


def worker(folder: Path, *arguments: str) -> HeadraceProcess:
    data = str(folder / "worker")
    return HeadraceProcess("sink", "worker", "--data", data, "--connect-port", "0", *arguments)


def test_a_worker_runs_what_it_is_told_over_rest_and_knows_it_after_a_restart(
    tmp_path: Path, tansu_bootstrap_servers: str, topic: str, serving: Serving
) -> None:
    worker_file = write_properties(
        tmp_path / "worker.properties",
        {"bootstrap.servers": tansu_bootstrap_servers, "plugin.path": "plugins"},
    )
    settings = connector_settings(
        tansu_bootstrap_servers,
        topic,
        qdrant__grpc__url=f"http://{serving.grpc_address}",
        errors__tolerance="all",
    )
    del settings["bootstrap.servers"]
    produce(tansu_bootstrap_servers, topic, [(None, value_of(one)) for one in (1, 2, -3)])
    arguments = ("--worker-config", str(worker_file), "--progress-interval-s", "0.2")
    with worker(tmp_path, *arguments) as process:
        url = process.wait_for_stdout(WORKER_LINE)["rest"]
        body = {"name": settings["name"], "config": settings}
        assert httpx.post(f"{url}/connectors", json=body).status_code == 201
        process.wait_for_stderr("records=3 points_written=2")
        shown = run_headrace("sink", "status", "--url", url, "--interval-s", "0.1")
        assert shown.returncode == 0, shown.stderr
        row = next(line for line in shown.stdout.splitlines() if settings["name"] in line)
        assert "RUNNING" in row
        assert "invalid_id 1" in row
        assert process.stop() == 0
        assert "ignored: plugin.path" in process.all_stderr()
    with worker(tmp_path, *arguments) as process:
        url = process.wait_for_stdout(WORKER_LINE)["rest"]
        assert httpx.get(f"{url}/connectors").json() == [settings["name"]]
        assert process.stop() == 0


def test_up_serves_the_rest_api_of_its_connectors_and_keeps_those_that_it_is_given(
    tmp_path: Path, tansu_bootstrap_servers: str, topic: str
) -> None:
    settings = connector_settings(tansu_bootstrap_servers, topic, collection__auto__create="true")
    produce(tansu_bootstrap_servers, topic, [(None, value_of(1))])
    arguments = (
        *("up", "--data", str(tmp_path / "data"), "--http-port", "0", "--grpc-port", "0"),
        *("--connect-port", "0", "--progress-interval-s", "0.2"),
    )
    with HeadraceProcess(*arguments) as process:
        process.wait_until_serving()
        process.wait_for_stderr(CONNECT_LINE)
        url = process.stderr_text.rpartition(CONNECT_LINE)[2].strip()
        body = {"name": settings["name"], "config": settings}
        assert httpx.post(f"{url}/connectors", json=body).status_code == 201
        process.wait_for_stderr("records=1 points_written=1")
        assert process.stop() == 0
    with HeadraceProcess(*arguments) as process:
        process.wait_for_stderr(f"connector {settings['name']} starts")
        assert process.stop() == 0


def test_up_without_its_rest_api_listens_nowhere_else_and_needs_a_connector(
    tmp_path: Path, tansu_bootstrap_servers: str, topic: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = str(holder.getsockname()[1])
        connector = write_properties(
            tmp_path / "a.properties", connector_settings(tansu_bootstrap_servers, topic)
        )
        ports = ("--http-port", "0", "--grpc-port", "0", "--connect-port", port)
        data = ("--data", str(tmp_path / "data"), "--connector", str(connector))
        with HeadraceProcess("up", *data, *ports) as process:
            assert process.wait() == 3
            assert f"Cannot listen on 127.0.0.1:{port}" in process.all_stderr()
        with HeadraceProcess("up", *data, *ports, "--no-connect") as process:
            process.wait_until_serving()
            assert process.stop() == 0


def test_a_connector_of_a_file_is_what_its_file_says(
    tmp_path: Path, tansu_bootstrap_servers: str, topic: str, serving: Serving
) -> None:
    settings = connector_settings(
        tansu_bootstrap_servers, topic, qdrant__rest__url=serving.rest_url
    )
    connector = write_properties(tmp_path / "a.properties", settings)
    with worker(tmp_path, "--connector", str(connector)) as process:
        url = process.wait_for_stdout(WORKER_LINE)["rest"]
        path = f"{url}/connectors/{settings['name']}"
        assert httpx.put(f"{path}/config", json=settings).status_code == 409
        assert httpx.delete(path).status_code == 409
        assert httpx.put(f"{path}/stop", timeout=30).status_code == 204
        assert process.stop() == 0
    with worker(tmp_path, "--connector", str(connector)) as process:
        url = process.wait_for_stdout(WORKER_LINE)["rest"]
        found = httpx.get(f"{url}/connectors/{settings['name']}/status").json()
        assert found["connector"]["state"] == "STOPPED"
        assert process.stop() == 0


def test_status_without_a_worker_says_how_to_start_one() -> None:
    done = run_headrace("sink", "status", "--url", "http://127.0.0.1:1")
    assert done.returncode == 2
    assert "No worker answers at http://127.0.0.1:1" in done.stderr


def test_status_knows_no_lag_of_a_connector_without_partitions(tmp_path: Path) -> None:
    settings = connector_settings("127.0.0.1:1", "nowhere", qdrant__grpc__url="http://127.0.0.1:1")
    with worker(tmp_path) as process:
        url = process.wait_for_stdout(WORKER_LINE)["rest"]
        body = {"name": settings["name"], "config": settings}
        assert httpx.post(f"{url}/connectors", json=body).status_code == 201
        shown = run_headrace("sink", "status", "--url", url, "--interval-s", "0.1")
        assert re.search(rf"{settings['name']} +│ RUNNING +│ 1 RUNNING +│ - +│", shown.stdout)


def test_a_dry_run_tells_what_would_be_written_and_refused_and_writes_nothing(
    tmp_path: Path, tansu_bootstrap_servers: str, topic: str, serving: Serving
) -> None:
    settings = connector_settings(
        tansu_bootstrap_servers, topic, qdrant__grpc__url=f"http://{serving.grpc_address}"
    )
    connector = write_properties(tmp_path / "a.properties", settings)
    values = [value_of(1), value_of(1), value_of(2), value_of(3, dim=5), value_of(-1), b"{"]
    produce(tansu_bootstrap_servers, topic, [(None, one) for one in values])
    for _ in range(2):
        done = run_headrace("sink", "dry-run", str(connector), "--records", "1000")
        assert done.returncode == 0, done.stderr
        assert "records read: 6\n" in done.stdout
        assert "would write into airports: 2 upserts, 0 updates, 0 deletes\n" in done.stdout
        assert "would refuse: 3\n" in done.stdout
        assert f"  {topic}-0 offset 3: Wrong input: Vector dimension error" in done.stdout
        assert f"  {topic}-0 offset 4: Point ID must be a positive integer" in done.stdout
    assert serving.service.points_count(COLLECTION) == 0


def test_a_dry_run_without_a_store_decodes_only(
    tmp_path: Path, tansu_bootstrap_servers: str, topic: str
) -> None:
    settings = connector_settings(tansu_bootstrap_servers, topic)
    connector = write_properties(tmp_path / "a.properties", settings)
    produce(tansu_bootstrap_servers, topic, [(None, value_of(one)) for one in range(10)])
    done = run_headrace("sink", "dry-run", str(connector), "--records", "5")
    assert "records read: 5\n" in done.stdout
    assert "no collection was asked" in done.stdout


def test_a_dry_run_names_keys_that_are_ignored(
    tmp_path: Path, tansu_bootstrap_servers: str, topic: str
) -> None:
    settings = connector_settings(tansu_bootstrap_servers, topic, colection__auto__create="true")
    connector = write_properties(tmp_path / "a.properties", settings)
    produce(tansu_bootstrap_servers, topic, [(None, value_of(1))])
    done = run_headrace("sink", "dry-run", str(connector))
    assert "did you mean 'collection.auto.create'?" in done.stderr


def test_a_dry_run_takes_what_the_connectors_file_leaves_to_the_workers(
    tmp_path: Path, tansu_bootstrap_servers: str, topic: str
) -> None:
    settings = connector_settings(tansu_bootstrap_servers, topic)
    converters = [one for one in settings if ".converter" in one]
    for_worker = {one: settings.pop(one) for one in ("bootstrap.servers", *converters)}
    connector = write_properties(tmp_path / "a.properties", settings)
    worker_config = write_properties(tmp_path / "worker.properties", for_worker)
    produce(tansu_bootstrap_servers, topic, [(None, value_of(1))])
    alone = run_headrace("sink", "dry-run", str(connector))
    assert alone.returncode == 3
    assert "bootstrap.servers: is required" in alone.stderr
    told = run_headrace("sink", "dry-run", str(connector), "--worker-config", str(worker_config))
    assert told.returncode == 0, told.stderr
    assert "1 upserts" in told.stdout


def test_dead_letters_are_listed_and_replayed_once_to_where_they_came_from(
    tmp_path: Path, tansu_bootstrap_servers: str, topic: str, serving: Serving
) -> None:
    dead = new_topic(tansu_bootstrap_servers, "dead")
    settings = connector_settings(
        tansu_bootstrap_servers,
        topic,
        qdrant__grpc__url=f"http://{serving.grpc_address}",
        errors__tolerance="all",
        errors__deadletterqueue__topic__name=dead,
        errors__deadletterqueue__context__headers__enable="true",
    )
    connector = write_properties(tmp_path / "a.properties", settings)
    produce(tansu_bootstrap_servers, topic, [(b"7", value_of(7, dim=3)), (None, value_of(-1))])
    with HeadraceProcess("sink", "run", str(connector), "--progress-interval-s", "0.2") as process:
        process.wait_for_stderr("dead_letters=2")
        assert process.stop() == 0
    listed = run_headrace("sink", "dead-letters", "list", str(connector))
    assert listed.returncode == 0, listed.stderr
    assert f"from {topic}-0 offset 0: " in listed.stdout
    assert "Point ID must be a positive integer" in listed.stdout
    assert "dead letters: 2\n" in listed.stdout
    for replayed in (2, 0):
        done = run_headrace("sink", "dead-letters", "replay", str(connector))
        assert (done.returncode, done.stdout) == (0, f"replayed: {replayed}\n"), done.stderr
    records = read_topic(tansu_bootstrap_servers, topic)
    # Dead letters are in the order in which they were refused.
    replayed_pairs = {(one.key(), one.value()) for one in records[2:]}
    assert replayed_pairs == {(one.key(), one.value()) for one in records[:2]}
    assert not any(one.headers() for one in records[2:])
    assert (
        "dead letters: 0\n"
        in run_headrace("sink", "dead-letters", "list", str(connector), "--new").stdout
    )
    wait_until(lambda: len(read_topic(tansu_bootstrap_servers, dead)) == 2, "both stay")


def test_dead_letters_of_a_connector_without_a_topic_for_them_are_an_error(
    tmp_path: Path, tansu_bootstrap_servers: str, topic: str
) -> None:
    settings = connector_settings(tansu_bootstrap_servers, topic)
    connector = write_properties(tmp_path / "a.properties", settings)
    done = run_headrace("sink", "dead-letters", "list", str(connector))
    assert done.returncode == 3
    assert "errors.deadletterqueue.topic.name: is not set" in done.stderr
