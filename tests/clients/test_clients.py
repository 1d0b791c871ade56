"""Unmodified clients of others take Headrace for Qdrant, each in an environment of its own.

Each folder here holds what a package manager installs and one program, which gets the
options of a client as JSON, fills a store, searches with a filter, updates, deletes, and
prints `ok`. Its environment holds nothing of ours. For a store in its own process, our
packages stand at the end of its path, where they hide none of the client's.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import headrace
from tests.headrace_process import HeadraceProcess, clean_environment

FOLDER = Path(__file__).parent
# Kept from run to run; a folder is made anew when its requirements change.
ENVIRONMENTS = FOLDER.parent.parent / "build" / "clients"

PYTHON_CLIENTS = ("haystack", "langchain", "llama_index", "mcp", "mem0", "qdrant_client")
# Those whose options or client can speak gRPC.
GRPC_CLIENTS = ("haystack", "langchain", "llama_index", "mem0", "qdrant_client")
# Those that take a client.
EMBEDDED_CLIENTS = ("langchain", "llama_index", "mem0", "qdrant_client")

INSTALL_TIMEOUT_S = 900
# The first run of a client compiles all of its modules.
CHECK_TIMEOUT_S = 300
# Installing mostly unpacks: two at once keep two cores busy.
INSTALLERS = 2

# Set where this must not be skipped; see `.ci/run`.
REQUIRE_NODE = "HEADRACE_REQUIRE_NODE"

OUR_PATHS = [sysconfig.get_path("purelib"), str(Path(headrace.__file__).parent.parent)]

# Runs a program with our packages behind its own.
EMBEDDING = (
    "import json, runpy, sys; program, paths, options = sys.argv[1:]; "
    "sys.path += json.loads(paths); sys.argv = [program, options]; "
    "runpy.run_path(program, run_name='__main__')"
)

pytestmark = [pytest.mark.clients, pytest.mark.timeout(INSTALL_TIMEOUT_S + 2 * CHECK_TIMEOUT_S)]


@pytest.fixture(scope="session")
def environments() -> Iterator[Mapping[str, Future[Path]]]:
    """The environment of each client, some of them being made still."""
    with ThreadPoolExecutor(INSTALLERS) as installers:
        yield {
            "js": installers.submit(node_environment),
            **{name: installers.submit(python_environment, name) for name in PYTHON_CLIENTS},
        }


@pytest.fixture
def served(tmp_path: Path) -> Iterator[re.Match[str]]:
    with HeadraceProcess(
        "serve", "--data", str(tmp_path / "data"), "--http-port", "0", "--grpc-port", "0"
    ) as server:
        yield server.wait_until_serving()
        assert server.stop() == 0


@pytest.mark.parametrize("name", PYTHON_CLIENTS)
def test_a_python_client_fills_searches_updates_and_deletes(
    name: str, environments: Mapping[str, Future[Path]], served: re.Match[str]
) -> None:
    check_python(name, environments, {"url": served["rest"]})


@pytest.mark.parametrize("name", GRPC_CLIENTS)
def test_a_python_client_does_so_over_grpc(
    name: str, environments: Mapping[str, Future[Path]], served: re.Match[str]
) -> None:
    grpc_port = int(served["grpc"].rpartition(":")[2])
    options = {"url": served["rest"], "prefer_grpc": True, "grpc_port": grpc_port}
    check_python(name, environments, options)


@pytest.mark.parametrize("name", EMBEDDED_CLIENTS)
def test_a_python_client_does_so_in_its_own_process(
    name: str, environments: Mapping[str, Future[Path]], tmp_path: Path
) -> None:
    environment = environments[name].result(INSTALL_TIMEOUT_S)
    options = json.dumps({"path": str(tmp_path / "data")})
    program = [EMBEDDING, str(FOLDER / name / "check.py"), json.dumps(OUR_PATHS), options]
    command = [str(environment / "bin" / "python"), "-P", "-c", *program]
    assert run(command, CHECK_TIMEOUT_S, environment).endswith("ok\n")


def test_the_javascript_client_fills_searches_updates_and_deletes(
    environments: Mapping[str, Future[Path]], served: re.Match[str]
) -> None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        assert REQUIRE_NODE not in os.environ, "node and npm are not installed"
        pytest.skip("node and npm are not installed")
    environment = environments["js"].result(INSTALL_TIMEOUT_S)
    shutil.copy(FOLDER / "js" / "check.mjs", environment)
    command = ["node", "check.mjs", json.dumps({"url": served["rest"]})]
    assert run(command, CHECK_TIMEOUT_S, environment) == "ok\n"


def check_python(
    name: str, environments: Mapping[str, Future[Path]], options: Mapping[str, Any]
) -> None:
    environment = environments[name].result(INSTALL_TIMEOUT_S)
    # From a folder of its own, so that no module here hides an installed one.
    python = str(environment / "bin" / "python")
    command = [python, "-P", str(FOLDER / name / "check.py"), json.dumps(options)]
    assert run(command, CHECK_TIMEOUT_S, environment).endswith("ok\n")


def python_environment(name: str) -> Path:
    requirements = FOLDER / name / "requirements.txt"
    environment = place_of(requirements)
    if not (environment / "ready").exists():
        run([sys.executable, "-m", "venv", "--clear", str(environment)], INSTALL_TIMEOUT_S)
        pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        run(
            [*pip, "--prefer-binary", "--no-compile", "--requirement", str(requirements)],
            INSTALL_TIMEOUT_S,
        )
        (environment / "ready").touch()
    return environment


def node_environment() -> Path:
    package = FOLDER / "js" / "package.json"
    environment = place_of(package)
    npm = shutil.which("npm")
    if npm is not None and not (environment / "ready").exists():
        environment.mkdir(parents=True, exist_ok=True)
        shutil.copy(package, environment)
        run([npm, "install", "--silent", "--no-audit"], INSTALL_TIMEOUT_S, environment)
        (environment / "ready").touch()
    return environment


def place_of(requirements: Path) -> Path:
    # Another Python needs other wheels.
    known = requirements.read_bytes() + sys.version.encode()
    digest = hashlib.sha256(known).hexdigest()[:12]
    return ENVIRONMENTS / f"{requirements.parent.name}-{digest}"


def run(command: list[str], timeout_s: float, folder: Path | None = None) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        cwd=folder,
        env=clean_environment({"MEM0_TELEMETRY": "False", "HAYSTACK_TELEMETRY_ENABLED": "False"}),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
