"""Unmodified clients of others take Headrace for Qdrant, each in an environment of its own.

Each folder here holds what a package manager installs and one program, which gets the URL
of a server, fills a store, searches with a filter, updates, deletes, and prints `ok`.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.headrace_process import HeadraceProcess, clean_environment

FOLDER = Path(__file__).parent
# Kept from run to run; a folder is made anew when its requirements change.
ENVIRONMENTS = FOLDER.parent.parent / "build" / "clients"

PYTHON_CLIENTS = ("haystack", "langchain", "llama_index", "mcp", "mem0")

INSTALL_TIMEOUT_S = 600
CHECK_TIMEOUT_S = 120

pytestmark = [pytest.mark.clients, pytest.mark.timeout(INSTALL_TIMEOUT_S + 2 * CHECK_TIMEOUT_S)]


@pytest.fixture
def rest_url(tmp_path: Path) -> Iterator[str]:
    with HeadraceProcess(
        "serve", "--data", str(tmp_path / "data"), "--http-port", "0", "--grpc-port", "0"
    ) as server:
        yield server.wait_until_serving()["rest"]
        assert server.stop() == 0


@pytest.mark.parametrize("name", PYTHON_CLIENTS)
def test_a_python_client_fills_searches_updates_and_deletes(name: str, rest_url: str) -> None:
    requirements = FOLDER / name / "requirements.txt"
    environment = _environment(requirements)
    if not (environment / "ready").exists():
        run([sys.executable, "-m", "venv", "--clear", str(environment)], INSTALL_TIMEOUT_S)
        pip = str(environment / "bin" / "pip")
        run([pip, "install", "--quiet", "--requirement", str(requirements)], INSTALL_TIMEOUT_S)
        (environment / "ready").touch()
    # From a folder of its own, so that no module here hides an installed one.
    python = str(environment / "bin" / "python")
    check = [python, "-P", str(FOLDER / name / "check.py"), rest_url]
    assert run(check, CHECK_TIMEOUT_S, environment).endswith("ok\n")


def test_the_javascript_client_fills_searches_updates_and_deletes(rest_url: str) -> None:
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("Node.js is not installed")
    environment = _environment(FOLDER / "js" / "package.json")
    environment.mkdir(parents=True, exist_ok=True)
    for file in ("package.json", "check.mjs"):
        shutil.copy(FOLDER / "js" / file, environment)
    if not (environment / "ready").exists():
        run([npm, "install", "--silent", "--no-audit"], INSTALL_TIMEOUT_S, environment)
        (environment / "ready").touch()
    assert run([node, "check.mjs", rest_url], CHECK_TIMEOUT_S, environment) == "ok\n"


def _environment(requirements: Path) -> Path:
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
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
