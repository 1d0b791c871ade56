"""The TOML file: what it may say, and what is told when it says something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.cli.settings import BadSettingsFile, read_settings


def written(folder: Path, text: str) -> Path:
    path = folder / "headrace.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_keys_become_the_defaults_of_the_options(tmp_path: Path) -> None:
    path = written(tmp_path, 'http_port = 7000\ngrpc = false\nlog_level = "warning"\n')
    assert read_settings(path) == {"http_port": 7000, "grpc": False, "log_level": "warning"}


def test_an_empty_file_sets_nothing(tmp_path: Path) -> None:
    assert read_settings(written(tmp_path, "")) == {}


def test_relative_paths_are_taken_from_the_folder_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, 'data = "vectors"\nconnector = ["a.properties", "/etc/b.json"]\n')
    assert read_settings(path) == {
        "data": str(tmp_path / "vectors"),
        "connector": [str(tmp_path / "a.properties"), "/etc/b.json"],
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("htp_port = 1\n", "unknown key 'htp_port'; did you mean 'http_port'?"),
        ("[server]\nhttp_port = 1\n", "unknown key 'server'"),
        ('colour = "blue"\n', "known are: data, host, http_port"),
        ('http_port = "6333"\n', "$.http_port"),
        ("http_port = true\n", "$.http_port"),
        ("http_port = 6333.0\n", "$.http_port"),
        ('connector = "a.properties"\n', "$.connector"),
        ("http_port = \n", "is not valid TOML"),
    ],
)
def test_what_is_no_setting_is_refused_and_named(tmp_path: Path, text: str, told: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(BadSettingsFile) as refused:
        read_settings(path)
    assert str(path) in refused.value.message
    assert told in refused.value.message


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadSettingsFile, match=r"Cannot read .*missing\.toml: No such file"):
        read_settings(tmp_path / "missing.toml")


def test_bytes_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "headrace.toml"
    path.write_bytes(b'data = "\xff"\n')
    with pytest.raises(BadSettingsFile, match="is not valid TOML"):
        read_settings(path)
