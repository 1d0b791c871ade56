"""`headrace up` and `headrace sink run` over a broker: what lands, what is told, how they end."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from headrace.server.options import ServeOptions
from headrace.server.run import Serving, serve_in_thread
from tests.headrace_process import HeadraceProcess
from tests.stream.harness import (
    connector_settings,
    new_topic,
    produce,
    wait_until,
    write_properties,
)

COLLECTION = "airports"


@pytest.fixture
def topic(tansu_bootstrap_servers: str) -> str:
    return new_topic(tansu_bootstrap_servers, "cli")


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    options = ServeOptions(tmp_path / "remote", http_port=0, grpc_port=0)
    with serve_in_thread(options) as serving:
        yield serving


def value_of(point_id: object) -> bytes:
    return json.dumps({"collection_name": COLLECTION, "id": point_id, "vector": [1, 2]}).encode()


def make_collection(rest_url: str) -> None:
    config = {"vectors": {"size": 2, "distance": "Dot"}}
    httpx.put(f"{rest_url}/collections/{COLLECTION}", json=config).raise_for_status()


def count_points(rest_url: str) -> int:
    answer = httpx.post(f"{rest_url}/collections/{COLLECTION}/points/count", json={})
    return int(answer.raise_for_status().json()["result"]["count"])


def up(folder: Path, connector: Path, *arguments: str) -> HeadraceProcess:
    return HeadraceProcess(
        *("up", "--data", str(folder / "data"), "--http-port", "0", "--grpc-port", "0"),
        *("--connect-port", "0", "--connector", str(connector), *arguments),
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_up_takes_records_into_its_own_store_until_a_signal_stops_it_with_0(
    tmp_path: Path, tansu_bootstrap_servers: str, topic: str, number: signal.Signals
) -> None:
    settings = connector_settings(tansu_bootstrap_servers, topic, errors__tolerance="all")
    connector = write_properties(tmp_path / "airports.properties", settings)
    with up(tmp_path, connector, "--progress-interval-s", "0.2") as process:
        rest_url = process.wait_until_serving()["rest"]
        make_collection(rest_url)
        produce(tansu_bootstrap_servers, topic, [(None, value_of(one)) for one in (1, 2, -3)])
        wait_until(lambda: count_points(rest_url) == 2, "both points searchable")
        process.wait_for_stderr("records=3 points_written=2 points_deleted=0")
        assert process.stop(number) == 0
        log = process.all_stderr()
    assert f"connector {settings['name']} stopped: records=3" in log
    assert "bad_invalid_id=1" in log
    assert "Traceback" not in log


def test_up_goes_on_serving_when_its_connector_fails(
    tmp_path: Path, tansu_bootstrap_servers: str, topic: str
) -> None:
    settings = connector_settings(tansu_bootstrap_servers, topic)
    connector = write_properties(tmp_path / "airports.properties", settings)
    produce(tansu_bootstrap_servers, topic, [(None, value_of(1))])
    with up(tmp_path, connector) as process:
        rest_url = process.wait_until_serving()["rest"]
        process.wait_for_stderr(
            f"connector {settings['name']} failed and stays down until it is started anew: "
            "Not found: Collection `airports` doesn't exist!"
        )
        assert httpx.get(f"{rest_url}/readyz").status_code == 200
        assert process.stop() == 0


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_sink_run_writes_into_the_server_that_its_file_names(
    tmp_path: Path, tansu_bootstrap_servers: str, topic: str, serving: Serving, protocol: str
) -> None:
    url = serving.rest_url if protocol == "rest" else f"http://{serving.grpc_address}"
    settings = connector_settings(tansu_bootstrap_servers, topic)
    settings[f"qdrant.{protocol}.url"] = url
    connector = write_properties(tmp_path / "airports.properties", settings)
    make_collection(serving.rest_url)
    produce(tansu_bootstrap_servers, topic, [(None, value_of(one)) for one in range(10)])
    with HeadraceProcess("sink", "run", str(connector), "--progress-interval-s", "0.2") as process:
        wait_until(lambda: count_points(serving.rest_url) == 10, "all points searchable")
        process.wait_for_stderr("records=10 points_written=10")
        assert process.stop() == 0


def test_sink_run_that_fails_before_it_wrote_anything_exits_with_3(
    tmp_path: Path, tansu_bootstrap_servers: str, topic: str, serving: Serving
) -> None:
    settings = connector_settings(
        tansu_bootstrap_servers, topic, qdrant__grpc__url=f"http://{serving.grpc_address}"
    )
    connector = write_properties(tmp_path / "airports.properties", settings)
    produce(tansu_bootstrap_servers, topic, [(None, value_of(1))])
    with HeadraceProcess("sink", "run", str(connector)) as process:
        assert process.wait() == 3
        told = f"headrace: error: connector {settings['name']} failed: Not found: Collection"
        assert told in process.all_stderr()


def test_sink_run_that_fails_later_exits_with_2(
    tmp_path: Path, tansu_bootstrap_servers: str, topic: str, serving: Serving
) -> None:
    settings = connector_settings(
        tansu_bootstrap_servers, topic, qdrant__grpc__url=f"http://{serving.grpc_address}"
    )
    connector = write_properties(tmp_path / "airports.properties", settings)
    make_collection(serving.rest_url)
    produce(tansu_bootstrap_servers, topic, [(None, value_of(1))])
    with HeadraceProcess("sink", "run", str(connector)) as process:
        wait_until(lambda: count_points(serving.rest_url) == 1, "the point searchable")
        produce(tansu_bootstrap_servers, topic, [(None, value_of("no id"))])
        assert process.wait() == 2
        assert "Point ID must be a valid UUID string" in process.all_stderr()
