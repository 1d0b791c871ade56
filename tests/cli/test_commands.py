"""The command line as its users and their supervisors meet it: real processes."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import headrace
from tests.headrace_process import HeadraceProcess, run_headrace

COMMANDS = [
    *(["serve"], ["up"], ["demo"], ["sink"], ["sink", "run"], ["sink", "worker"]),
    *(["sink", "status"], ["sink", "dry-run"], ["sink", "dead-letters"]),
]
FREE_PORTS = ["--http-port", "0", "--grpc-port", "0"]


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        yield holder.getsockname()[1]


def serve(data: Path, *arguments: str) -> HeadraceProcess:
    return HeadraceProcess("serve", "--data", str(data), *FREE_PORTS, *arguments)


def test_the_package_runs_as_a_module_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "headrace", "--version"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == f"headrace {headrace.__version__}\n"


def test_version_is_the_version_of_the_package() -> None:
    done = run_headrace("--version")
    assert (done.returncode, done.stdout) == (0, f"headrace {headrace.__version__}\n")


@pytest.mark.parametrize("command", [[], *COMMANDS], ids=" ".join)
def test_every_command_has_help_with_an_example(command: list[str]) -> None:
    done = run_headrace(*command, "--help")
    assert done.returncode == 0
    assert re.search(rf"Example: headrace {' '.join(command)}", done.stdout)


@pytest.mark.parametrize(
    ("shell", "environment"),
    [
        ("bash", {"COMP_WORDS": "headrace se", "COMP_CWORD": "1"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "headrace se"}),
        (
            "fish",
            {"_TYPER_COMPLETE_ARGS": "headrace se", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
        ),
    ],
)
def test_shells_complete_commands(shell: str, environment: dict[str, str]) -> None:
    done = run_headrace(environment={"_HEADRACE_COMPLETE": f"complete_{shell}", **environment})
    assert "serve" in done.stdout
    assert "demo" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["serve", "--http-prt", "1"], "No such option: --http-prt"),
        (["serve", "--http-port", "many"], "--http-port"),
        (["serve", "--http-port", "65536"], "--http-port"),
        (["serve", "--log-level", "loud"], "--log-level"),
        (["serve", "--cors-origin", "https://app.example/"], "no web origin"),
        (["up", "--cors-origin", "app.example"], "no web origin"),
        (["surf"], "No such command 'surf'"),
        (["up", "--connect-port", "many"], "--connect-port"),
        (["sink", "run"], "Missing argument 'CONNECTOR'"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, list) else "",
)
def test_a_wrong_command_line_exits_with_1_and_says_what_is_wrong(
    arguments: list[str], told: str
) -> None:
    done = run_headrace(*arguments)
    assert done.returncode == 1
    assert told in done.stderr


def test_a_settings_file_with_an_unknown_key_exits_with_1_and_names_it(tmp_path: Path) -> None:
    path = tmp_path / "headrace.toml"
    path.write_text("htp_port = 1\n")
    done = run_headrace("serve", "--config", str(path))
    assert done.returncode == 1
    assert "unknown key 'htp_port'; did you mean 'http_port'?" in " ".join(done.stderr.split())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_answers_and_a_signal_stops_it_with_0(tmp_path: Path, number: signal.Signals) -> None:
    with serve(tmp_path / "data") as server:
        serving = server.wait_until_serving()
        assert serving["data"] == str(tmp_path / "data")
        assert httpx.get(f"{serving['rest']}/healthz").text == "healthz check passed"
        with grpc.insecure_channel(serving["grpc"]) as channel:
            health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        assert server.stop(number) == 0
        assert "Traceback" not in server.all_stderr()


def test_what_was_written_is_served_again(tmp_path: Path) -> None:
    with serve(tmp_path, "--no-grpc") as server:
        rest_url = server.wait_until_serving()["rest"]
        made = httpx.put(
            f"{rest_url}/collections/airports", json={"vectors": {"size": 2, "distance": "Dot"}}
        )
        assert made.json()["result"] is True
        point = {"id": 7, "vector": [1, 2], "payload": {"city": "Oslo"}}
        httpx.put(
            f"{rest_url}/collections/airports/points?wait=true", json={"points": [point]}
        ).raise_for_status()
        assert server.stop() == 0
    with serve(tmp_path, "--no-grpc") as server:
        serving = server.wait_until_serving()
        assert serving["grpc"] is None
        found = httpx.get(f"{serving['rest']}/collections/airports/points/7").json()["result"]
        assert found["payload"] == {"city": "Oslo"}
        assert server.stop() == 0


@pytest.mark.parametrize("option", ["--http-port", "--grpc-port"])
def test_a_port_in_use_exits_with_3_and_one_line(
    tmp_path: Path, taken_port: int, option: str
) -> None:
    done = run_headrace("serve", "--data", str(tmp_path), *FREE_PORTS, option, str(taken_port))
    assert done.returncode == 3
    setting = option.removeprefix("--").replace("-", "_")
    assert done.stderr == (
        f"headrace: error: Cannot listen on 127.0.0.1:{taken_port}: it is in use. Stop what "
        f"holds it, or set {setting} to another port (0 takes a free one)\n"
    )
    assert done.stdout == ""


def test_a_directory_in_use_exits_with_3_and_names_the_holder(tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        server.wait_until_serving()
        done = run_headrace("serve", "--data", str(tmp_path), *FREE_PORTS)
        assert done.returncode == 3
        assert done.stderr == (
            f"headrace: error: The data directory {tmp_path} is in use by process {server.pid}: "
            "stop it, or open another directory\n"
        )
        assert server.stop() == 0


def test_a_directory_that_cannot_be_made_exits_with_3_and_one_line(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    done = run_headrace("serve", "--data", str(path), *FREE_PORTS)
    assert done.returncode == 3
    assert done.stderr.startswith(f"headrace: error: Cannot open the data directory {path}: ")
    assert done.stderr.count("\n") == 1


def test_a_directory_left_by_sigkill_is_served_again(tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        server.wait_until_serving()
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    with serve(tmp_path) as server:
        server.wait_until_serving()
        assert server.stop() == 0


@pytest.mark.parametrize("suffix", [".properties", ".json"])
@pytest.mark.parametrize("command", [["up", "--connector"], ["sink", "run"]], ids=" ".join)
def test_a_wrong_connector_file_exits_with_3_and_names_file_and_key(
    tmp_path: Path, command: list[str], suffix: str
) -> None:
    path = tmp_path / f"airports{suffix}"
    config = {"name": "airports", "bootstrap.servers": "127.0.0.1:1"}
    lines = [f"{key}={value}" for key, value in config.items()]
    path.write_text(json.dumps(config) if suffix == ".json" else "\n".join(lines))
    done = run_headrace(*command, str(path))
    assert done.returncode == 3
    assert done.stderr == (f"headrace: error: {path}: topics: give either topics or topics.regex\n")


@pytest.mark.parametrize("command", [["up", "--connector"], ["sink", "run"]], ids=" ".join)
def test_a_missing_connector_file_exits_with_3_and_is_named(
    tmp_path: Path, command: list[str]
) -> None:
    path = tmp_path / "missing.properties"
    done = run_headrace(*command, str(path))
    assert done.returncode == 3
    assert f"{path}: cannot be read: No such file or directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_two_connectors_of_one_name_are_refused(tmp_path: Path) -> None:
    first, second = _connector_file(tmp_path / "a"), _connector_file(tmp_path / "b")
    done = run_headrace("up", "--connector", str(first), "--connector", str(second))
    assert done.returncode == 3
    assert f"{second}: another connector is named 'airports' too" in done.stderr


def test_sink_run_without_a_server_to_write_into_exits_with_3(tmp_path: Path) -> None:
    done = run_headrace("sink", "run", str(_connector_file(tmp_path)))
    assert done.returncode == 3
    assert "names no server: give it qdrant.grpc.url or qdrant.rest.url" in done.stderr


def _connector_file(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "airports.properties"
    path.write_text("name=airports\ntopics=airports\nbootstrap.servers=127.0.0.1:1\n")
    return path
