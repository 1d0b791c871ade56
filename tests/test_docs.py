"""The documents say what the code does: commands run, names exist, tables are complete."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import typer.main

import headrace
from headrace.cli.main import app
from headrace.cli.options import DEFAULT_CONNECT_PORT
from headrace.cli.settings import SettingsFile
from headrace.cli.worker import connect_address
from headrace.server.grpc.server import _services
from headrace.server.rest.app import create_app
from headrace.server.rest.payload_indexes import INDEX_OPTIONS
from headrace.sink.client_settings import (
    CONSUMER_PREFIX,
    PRODUCER_PREFIX,
    WORKER_CONNECTION_KEYS,
)
from headrace.sink.config import ConnectorConfig, load_connector_config
from headrace.sink.config_keys import SUPPORTED_KEYS
from headrace.sink.decode import RecordDecoder
from headrace.sink.envelope import Upsert
from headrace.sink.progress import TaskCounters
from headrace.sink.worker.defaults import (
    WORKER_KEYS,
    WorkerDefaults,
    read_worker_file,
    with_defaults,
)
from headrace.sink.worker.metrics import SinkCollector
from tests.headrace_process import HeadraceProcess, clean_environment
from tests.sink.worker.test_routes import CASES

ROOT = Path(__file__).parent.parent
PACKAGE = Path(headrace.__file__).parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
SERVING_URL = "http://127.0.0.1:6333"


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def code_blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", read(name), re.MULTILINE | re.DOTALL)


def table(name: str, first_heading: str) -> list[dict[str, str]]:
    """The rows of every table of a document whose first column has this heading."""
    rows: list[dict[str, str]] = []
    headings: list[str] = []
    for line in read(name).splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            headings = []
        elif not headings:
            headings = cells
        elif headings[0] == first_heading and not set(line) <= set("|- "):
            rows.append(dict(zip(headings, cells, strict=True)))
    assert rows, f"{name} has no table that begins with {first_heading}"
    return rows


def code_spans(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


# Payloads


def test_every_option_of_a_payload_index_is_explained() -> None:
    explained = {
        name for row in table("docs/payloads.md", "option") for name in code_spans(row["option"])
    }
    options = {name for known in INDEX_OPTIONS.values() for name in known}
    assert explained == options


# README


def test_the_readme_serves_and_its_client_prints_what_it_says(tmp_path: Path) -> None:
    serve = next(line for line in _shell_lines("README.md") if "headrace serve" in line).split()
    arguments = [*serve[1:], "--http-port", "0", "--grpc-port", "0"]
    with HeadraceProcess(*arguments, folder=tmp_path) as server:
        serving = server.wait_until_serving()
        said = next(text for text in code_blocks("README.md", "text") if "serving:" in text)
        assert said == f"serving: REST {SERVING_URL} gRPC 127.0.0.1:6334 data {serving['data']}\n"
        for program, output in zip(
            code_blocks("README.md", "python"), _outputs_of_python("README.md"), strict=True
        ):
            done = _run([sys.executable, "-W", "error", "-c", _at(program, serving["rest"])])
            assert done.stdout == output
        for line in _shell_lines("README.md"):
            if line.startswith("curl "):
                answer = json.loads(_run(_at(line, serving["rest"]).split()).stdout)
                assert answer["status"] == "ok"
        assert server.stop() == 0


def test_the_readmes_connector_file_and_record_are_taken(tmp_path: Path) -> None:
    (text,) = code_blocks("README.md", "properties")
    path = tmp_path / "airports.properties"
    path.write_text(text)
    config = load_connector_config(path)
    assert config.is_embedded
    (record,) = code_blocks("README.md", "json")
    change = RecordDecoder(config.value_converter, config.key_converter).decode(
        None, record.encode()
    )
    assert isinstance(change, Upsert)
    assert change.collection_name == "airports"


def test_the_readme_installs_from_a_clone_and_names_targets_of_the_makefile() -> None:
    lines = _shell_lines("README.md")
    targets = re.findall(r"^(\w[\w-]*):", read("Makefile"), re.MULTILINE)
    made = [line.split()[1] for line in lines if line.startswith("make ")]
    assert made[:2] == ["demo", "test"]
    assert set(made) <= set(targets)
    assert ".venv/bin/pip install ." in lines


def _shell_lines(name: str) -> list[str]:
    lines = "".join(code_blocks(name, "shell")).splitlines()
    return [line.partition("  #")[0].strip() for line in lines if line.strip()]


def _outputs_of_python(name: str) -> list[str]:
    return re.findall(r"^```\n\n```text\n(.*?)^```$", read(name), re.MULTILINE | re.DOTALL)


def _at(text: str, rest_url: str) -> str:
    assert SERVING_URL in text
    return text.replace(SERVING_URL, rest_url)


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, env=clean_environment()
        )
    except FileNotFoundError:
        pytest.skip(f"{command[0]} is not installed")
    assert done.returncode == 0, done.stderr
    return done


# Commands and settings


def commands() -> dict[str, Any]:
    """Every command by its words after `headrace`, as typer's object."""

    def walk(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        for name, child in getattr(command, "commands", {}).items():
            yield from walk(child, (*words, name))
        if not hasattr(command, "commands"):
            yield " ".join(words), command

    return dict(walk(typer.main.get_command(app), ()))


def options(command: Any) -> Mapping[str, Any]:
    return {one.name: one for one in command.params if one.name != "help"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_documents_exist_with_their_flags(document: Path) -> None:
    known = commands()
    found = re.findall(r"(?:^|[/`])headrace ((?:[a-z][a-z-]* ?)+)([^`\n]*)", document.read_text())
    for words, rest in found:
        name = next((one for one in known if f"{words} ".startswith(f"{one} ")), None)
        assert name is not None, f"{document.name}: no command `headrace {words}`"
        flags = {flag for one in known[name].params for flag in (*one.opts, *one.secondary_opts)}
        for flag in re.findall(r"--[\w-]+", rest):
            assert flag in flags | {"--help"}, f"{document.name}: `headrace {name}` has no {flag}"


def test_every_setting_is_documented_as_the_code_has_it() -> None:
    rows = {}
    for row in table("docs/configuration.md", "TOML key"):
        variable = code_spans(row["environment variable"])[0]
        rows[variable.removeprefix("HEADRACE_").lower()] = row
    users: dict[str, set[str]] = {}
    for name, command in commands().items():
        for setting, option in options(command).items():
            if option.envvar is None or name == "demo":
                continue
            users.setdefault(setting, set()).add(name)
            row = rows[setting]
            flags = [span.split()[0] for span in code_spans(row["flag"])]
            assert flags == [*option.opts, *option.secondary_opts], setting
            assert code_spans(row["environment variable"]) == [option.envvar]
            assert code_spans(row["TOML key"]) == ([] if setting == "config" else [setting])
            default = row["default"].strip("`")
            expected = option.default
            if expected is None or setting == "connector":
                expected = "none"
            elif isinstance(expected, bool):
                expected = str(expected).lower()
            assert default == str(getattr(expected, "value", expected)), setting
    documented = {setting: set(row["commands"].split(", ")) for setting, row in rows.items()}
    assert documented == users


def test_every_setting_of_a_command_can_stand_in_the_file() -> None:
    settings = {
        setting
        for name, command in commands().items()
        for setting, option in options(command).items()
        if option.envvar is not None and name != "demo"
    }
    assert settings == {*SettingsFile.__struct_fields__, "config"}


def test_the_demos_options_are_documented() -> None:
    rows = table("docs/configuration.md", "option of `headrace demo`")
    documented = {code_spans(row["option of `headrace demo`"])[0].split()[0] for row in rows}
    assert documented == {option.opts[0] for option in options(commands()["demo"]).values()}
    for row in rows:
        flag = code_spans(row["option of `headrace demo`"])[0].split()[0]
        option = next(one for one in options(commands()["demo"]).values() if flag in one.opts)
        assert code_spans(row["environment variable"]) == [option.envvar] * bool(option.envvar)


@pytest.mark.parametrize("text", code_blocks("docs/configuration.md", "toml"))
def test_the_settings_file_of_the_documents_is_taken(text: str) -> None:
    assert set(tomllib.loads(text)) <= set(SettingsFile.__struct_fields__)


# Connectors


def connector_rows() -> dict[str, dict[str, str]]:
    rows = table("docs/configuration.md", "key")
    return {code_spans(row["key"])[0]: row for row in rows}


def test_every_connector_key_is_documented() -> None:
    documented = set(connector_rows())
    assert documented == SUPPORTED_KEYS | {f"{CONSUMER_PREFIX}*", f"{PRODUCER_PREFIX}*"}


@pytest.mark.parametrize(
    ("key", "default"),
    [
        (key, code_spans(row["default"])[0])
        for key, row in connector_rows().items()
        if code_spans(row["default"])
    ],
)
def test_the_documented_default_of_a_connector_key_is_the_default(key: str, default: str) -> None:
    base = {"name": "a", "topics": "t", "bootstrap.servers": "h:1"}
    if key == "qdrant.request.timeout.ms":
        base["qdrant.grpc.url"] = "http://h:1"
    if key.startswith("collection.auto.create."):
        base["collection.auto.create"] = "true"
    without = ConnectorConfig.from_mapping(base)
    given = ConnectorConfig.from_mapping({**base, key: default})
    assert dataclasses.replace(without, raw={}) == dataclasses.replace(given, raw={})


def worker_rows() -> dict[str, dict[str, str]]:
    """The keys of a worker's file, with their rows."""
    rows = table("docs/configuration.md", "worker's key")
    return {key: row for row in rows for key in code_spans(row["worker's key"])}


def test_every_key_of_a_workers_file_is_documented_and_no_other() -> None:
    acting = WORKER_KEYS | WORKER_CONNECTION_KEYS
    documented = worker_rows().keys()
    prefixes = {key.removesuffix("*") for key in documented if key.endswith(".*")}
    known = {"consumer.", "producer."}
    assert prefixes - known <= {f"{key.partition('.')[0]}." for key in acting}
    assert known <= prefixes
    exact = documented - {f"{prefix}*" for prefix in prefixes}
    assert exact == {key for key in acting if not key.startswith(tuple(prefixes))}


@pytest.mark.parametrize(
    ("key", "default"),
    [
        (key, code_spans(row["default"])[0])
        for key, row in worker_rows().items()
        if code_spans(row["default"])
    ],
)
def test_the_documented_default_of_a_workers_key_is_the_default(
    key: str, default: str, tmp_path: Path
) -> None:
    path = tmp_path / "worker.properties"
    base = "bootstrap.servers=h:1\nconfig.storage.topic=configs\n"

    def read_with(line: str) -> WorkerDefaults:
        path.write_text(base + line)
        return read_worker_file(path)

    without, given = read_with(""), read_with(f"{key}={default}\n")
    assert connect_address(given, DEFAULT_CONNECT_PORT) == connect_address(
        without, DEFAULT_CONNECT_PORT
    )
    assert given.sharing == without.sharing
    connector = {"name": "a", "topics": "t"}
    configs = [
        ConnectorConfig.from_mapping(with_defaults(connector, one.settings))
        for one in (given, without)
    ]
    assert dataclasses.replace(configs[0], raw={}) == dataclasses.replace(configs[1], raw={})


# What is served


def served_routes() -> set[tuple[str, str]]:
    return {
        (method, str(route.path))  # type: ignore[attr-defined]
        for route in create_app(MagicMock()).routes
        for method in (route.methods or ())  # type: ignore[attr-defined]
        if method != "HEAD"
    }


def test_every_rest_route_is_documented() -> None:
    rows = table("docs/compatibility.md", "method")
    assert {(row["method"], code_spans(row["route"])[0]) for row in rows} == served_routes()


def test_what_is_documented_as_absent_is_not_served() -> None:
    rows = table("docs/compatibility.md", "absent")
    absent = {tuple(span.split()) for row in rows for span in code_spans(row["routes"])}
    assert not absent & served_routes()


def test_every_grpc_method_is_documented() -> None:
    rows = table("docs/compatibility.md", "service")
    documented = {code_spans(row["service"])[0]: set(code_spans(row["methods"])) for row in rows}
    served = {
        descriptor.full_name: set(methods)
        for descriptor, methods in _services(MagicMock()).items()
        if methods
    }
    assert documented == served


# Promises and the tests that hold to them


def named_tests(document: str) -> set[str]:
    """The tests that a document names, as `file::function`."""
    return {span for span in code_spans(read(document)) if "::test_" in span}


def defined_tests(*files: str) -> set[str]:
    return {
        f"{file}::{node.name}"
        for file in files
        for node in ast.walk(ast.parse(read(file)))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


@pytest.mark.parametrize("document", ["docs/sink-contract.md", "docs/faults.md"])
def test_the_tests_that_a_document_names_are_there(document: str) -> None:
    named = named_tests(document)
    assert named <= defined_tests(*{one.partition("::")[0] for one in named})


def test_every_fault_of_the_storage_has_its_test() -> None:
    rows = {
        int(row["#"]): row["test"] for row in table("docs/faults.md", "#") if row["#"].isdigit()
    }
    for number in range(1, 20):
        assert code_spans(rows[number]), number


def test_every_test_of_the_sinks_contract_stands_beside_its_sentence() -> None:
    sentences = table("docs/sink-contract.md", "sentence")
    beside = [code_spans(row["test"]) for row in sentences]
    assert all(beside)
    files = [str(one.relative_to(ROOT)) for one in ROOT.glob("tests/sink/contract/test_*.py")]
    assert defined_tests(*files) <= {one for tests in beside for one in tests}


def test_the_statuses_of_the_workers_routes_are_documented() -> None:
    statuses: dict[str, set[int]] = {}
    for route, _, _, status in CASES:
        statuses.setdefault(route, set()).add(status)
    assert {
        code_spans(row["worker's route"])[0]: set(map(int, row["statuses"].split(", ")))
        for row in table("docs/sink-contract.md", "worker's route")
    } == statuses


def test_the_sinks_metrics_are_documented() -> None:
    worker = MagicMock()
    worker.running.return_value = [("a", [TaskCounters()], None)]
    told = {one.name for one in SinkCollector(worker).collect()}
    documented = {code_spans(row["metric"])[0] for row in table("docs/sink-contract.md", "metric")}
    assert {one.removesuffix("_total") for one in documented} == told


# Architecture


def package_folders() -> list[str]:
    return sorted(
        str(path.parent.relative_to(PACKAGE.parent)) for path in PACKAGE.rglob("*/__init__.py")
    )


def test_architecture_has_a_section_for_each_folder_headed_by_its_question() -> None:
    headings = dict(re.findall(r"^### `(.+)`: (.+)$", read("ARCHITECTURE.md"), re.MULTILINE))
    folders = [folder for folder in package_folders() if folder != "headrace/server/rest/handlers"]
    assert sorted(headings) == folders
    for folder, heading in headings.items():
        module = importlib.import_module(folder.replace("/", "."))
        assert heading == (module.__doc__ or "").strip().splitlines()[0]


def test_architecture_says_of_each_dependency_why_it_is_here() -> None:
    project = tomllib.loads(read("pyproject.toml"))["project"]
    required = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        required += extra
    names = {re.split(r"[\[<>=; ]", one)[0] for one in required}
    rows = table("ARCHITECTURE.md", "package")
    assert {row["package"] for row in rows} == names
    assert all(row["for"] and row["why it"] for row in rows)


# All documents


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_document_names_no_place_on_the_machine_that_it_was_written_on(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.])/(work|root|home|Users|tmp|mnt)/", text)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", document.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        linked = (document.parent / file) if file else document
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {
                re.sub(r"[^\w -]", "", one).lower().replace(" ", "-") for one in headings
            }


def test_the_changelog_has_the_version_of_the_package() -> None:
    assert f"## [{headrace.__version__}]" in read("CHANGELOG.md")
    assert "## [Unreleased]" in read("CHANGELOG.md")
