"""Which settings can stand in a TOML file, and how do they reach the options?

A setting has one name everywhere: flag `--http-port`, environment variable
`HEADRACE_HTTP_PORT`, TOML key `http_port`. The command line wins over the environment,
the environment over the file, the file over the default.
"""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from headrace.model.errors import ErrorCode, HeadraceError

ENVIRONMENT_PREFIX = "HEADRACE_"


class BadSettingsFile(HeadraceError):
    """A settings file that cannot be read, or says something that no setting is."""

    code = ErrorCode.BAD_INPUT


class SettingsFile(msgspec.Struct, frozen=True):
    """The keys of a settings file; one file serves all commands, each takes its own keys."""

    data: str | UnsetType = UNSET
    host: str | UnsetType = UNSET
    http_port: int | UnsetType = UNSET
    grpc: bool | UnsetType = UNSET
    grpc_port: int | UnsetType = UNSET
    stop_timeout_s: float | UnsetType = UNSET
    connector: list[str] | UnsetType = UNSET
    connect: bool | UnsetType = UNSET
    connect_port: int | UnsetType = UNSET
    worker_config: str | UnsetType = UNSET
    progress_interval_s: float | UnsetType = UNSET
    log_level: str | UnsetType = UNSET
    log_format: str | UnsetType = UNSET
    api_key: str | UnsetType = UNSET
    alt_api_key: str | UnsetType = UNSET
    read_only_api_key: str | UnsetType = UNSET
    jwt_rbac: bool | UnsetType = UNSET
    tls_cert: str | UnsetType = UNSET
    tls_key: str | UnsetType = UNSET
    snapshot_urls: str | UnsetType = UNSET
    embedding_model: list[str] | UnsetType = UNSET
    cors_origin: list[str] | UnsetType = UNSET
    transient_columns_mb: int | UnsetType = UNSET


def read_settings(path: Path) -> dict[str, Any]:
    """The settings of a TOML file, by option name; paths are taken from the file's folder.

    Raises:
        BadSettingsFile: it cannot be read, is no TOML, or has a key that no option has or
            a value of the wrong type; the text names the key.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadSettingsFile(f"Cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSettingsFile(f"{path} is not valid TOML: {error}") from error
    _refuse_unknown_keys(path, document)
    try:
        settings = msgspec.convert(document, SettingsFile)
    except msgspec.ValidationError as error:
        raise BadSettingsFile(f"{path}: {error}") from error
    return _with_paths_from(path.parent, msgspec.to_builtins(settings))


def _refuse_unknown_keys(path: Path, document: dict[str, Any]) -> None:
    known = SettingsFile.__struct_fields__
    for key in document:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are: {', '.join(known)}"
            raise BadSettingsFile(f"{path}: unknown key {key!r}{hint}")


def _with_paths_from(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    for name in ("data", "tls_cert", "tls_key", "worker_config"):
        if name in settings:
            settings[name] = str(folder / settings[name])
    if "connector" in settings:
        settings["connector"] = [str(folder / one) for one in settings["connector"]]
    if "embedding_model" in settings:
        settings["embedding_model"] = [
            _model_from(folder, one) for one in settings["embedding_model"]
        ]
    return settings


def _model_from(folder: Path, setting: str) -> str:
    """An embedding model whose file, if it is in one, is taken from a folder."""
    name, separator, target = setting.partition("=")
    file, colon, function = target.rpartition(":")
    if not file.endswith(".py"):
        return setting
    return f"{name}{separator}{folder / file}{colon}{function}"
