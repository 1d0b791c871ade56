"""Flags win over the environment, it over the file, the file over the defaults."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.cli import serve as serve_module
from headrace.cli.main import app
from headrace.cli.options import DEFAULT_DATA
from headrace.cli.settings import SettingsFile
from headrace.server.options import ServeOptions

SETTINGS = {
    # setting: the texts of its flag, of its environment variable, and in TOML
    "data": ("flag", "variable", '"file"'),
    "host": ("flag", "variable", '"file"'),
    "http_port": ("1", "2", "3"),
    "grpc_port": ("1", "2", "3"),
    "stop_timeout_s": ("1.0", "2.0", "3.0"),
}


@pytest.fixture
def options_of(monkeypatch: pytest.MonkeyPatch) -> OptionsOf:
    for setting in SettingsFile.__struct_fields__:
        monkeypatch.delenv(f"HEADRACE_{setting.upper()}", raising=False)
    return OptionsOf(monkeypatch)


class OptionsOf:
    """What `headrace serve` would run with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._taken: list[ServeOptions] = []
        monkeypatch.setattr(
            serve_module,
            "run_until_stopped",
            lambda options, make_companions: self._taken.append(options),
        )
        monkeypatch.setattr(serve_module, "configure_logging", lambda *_: None)

    def __call__(self, *arguments: str, **environment: str) -> ServeOptions:
        done = CliRunner().invoke(app, ["serve", *arguments], env=environment)
        assert done.exit_code == 0, done.output
        return self._taken[-1]


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_nearer_source_of_a_setting_wins(
    setting: str, options_of: OptionsOf, tmp_path: Path
) -> None:
    flag, variable, toml = SETTINGS[setting]
    file = tmp_path / "headrace.toml"
    file.write_text(f"{setting} = {toml}\n")
    by_flag = [f"--{setting.replace('_', '-')}", flag]
    by_variable = {f"HEADRACE_{setting.upper()}": variable}
    by_file = ["--config", str(file)]

    def value(*arguments: str, **environment: str) -> str:
        return str(getattr(options_of(*arguments, **environment), setting))

    assert value(*by_flag, *by_file, **by_variable) == flag
    assert value(*by_file, *by_flag) == flag
    assert value(*by_file, **by_variable) == variable
    assert value(*by_file) == (str(tmp_path / "file") if setting == "data" else toml.strip('"'))
    assert value() == str(getattr(ServeOptions(DEFAULT_DATA), setting))


def test_lists_are_given_as_often_as_needed_and_files_are_found_beside_the_settings(
    options_of: OptionsOf, tmp_path: Path
) -> None:
    file = tmp_path / "headrace.toml"
    file.write_text('embedding_model = ["a=models.py:f", "b=pkg.mod:g"]\ncors_origin = ["*"]\n')
    taken = options_of("--config", str(file))
    assert taken.embedding_models == (f"a={tmp_path}/models.py:f", "b=pkg.mod:g")
    assert taken.cors_origins == ("*",)
    flags = ["--cors-origin", "https://a.example", "--cors-origin", "https://b.example"]
    assert options_of(*flags).cors_origins == ("https://a.example", "https://b.example")
    variable = {"HEADRACE_EMBEDDING_MODEL": "a=m:f b=n:g"}
    assert options_of(**variable).embedding_models == ("a=m:f", "b=n:g")


def test_the_environment_can_name_the_settings_file(options_of: OptionsOf, tmp_path: Path) -> None:
    file = tmp_path / "headrace.toml"
    file.write_text("http_port = 7000\n")
    assert options_of(HEADRACE_CONFIG=str(file)).http_port == 7000


@pytest.mark.parametrize("source", ["flag", "variable", "file"])
def test_grpc_can_be_left_out(source: str, options_of: OptionsOf, tmp_path: Path) -> None:
    file = tmp_path / "headrace.toml"
    file.write_text("grpc = false\n")
    options = {
        "flag": lambda: options_of("--no-grpc"),
        "variable": lambda: options_of(HEADRACE_GRPC="false"),
        "file": lambda: options_of("--config", str(file)),
    }[source]()
    assert options.grpc_port is None
