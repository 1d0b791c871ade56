"""Where does a secret in a connector's configuration come from, and who may see it?

A value may hold `${env:VAR}`, `${file:/path:key}` (one key of a .properties file) or
`${dir:/path:file}` (the content of one file), as Kafka Connect's config providers have
them. They are resolved at the moment a value is used; what is kept, compared and shown is
the text with the placeholder.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from headrace.sink.errors import ConfigError
from headrace.sink.properties import read_properties

_PLACEHOLDER: Final = re.compile(r"\$\{(env|file|dir):([^}]*)\}")
# What another of Kafka Connect's providers would fill in; `${topic}` and the like have no colon.
_OTHER_PROVIDER: Final = re.compile(r"\$\{([A-Za-z][\w.-]*):[^}]*\}")
_SECRET_KEY: Final = re.compile(
    r"(^|\.)(api\.key|password|secret|jaas\.config|key\.pem|user\.info|client\.credentials\.\w+)$"
)
HIDDEN: Final = "[hidden]"


def resolve(key: str, text: str) -> str:
    """A configuration value with its placeholders filled in; not to be stored or shown.

    Args:
        key: the configuration key, for error texts.
        text: the value as configured.

    Raises:
        ConfigError: a placeholder names something that is not there, or a provider that is
            not one of the three: as it stands it is nobody's secret.
    """
    for match in _OTHER_PROVIDER.finditer(text):
        if not _PLACEHOLDER.fullmatch(match.group()):
            raise ConfigError(
                key,
                f"there is no config provider '{match[1]}': give ${{env:VAR}}, "
                "${file:/path:key} or ${dir:/path:file}",
            )
    return _PLACEHOLDER.sub(lambda match: _look_up(key, match), text)


def has_placeholder(text: str) -> bool:
    """Whether a value is filled in at use."""
    return _PLACEHOLDER.search(text) is not None


def shown(key: str, text: str) -> str:
    """A configuration value as logs and answers may show it: a bare secret is hidden."""
    if _SECRET_KEY.search(key) and not _PLACEHOLDER.fullmatch(text):
        return HIDDEN
    return text


def _look_up(key: str, match: re.Match[str]) -> str:
    provider, name = match.groups()
    if provider == "env":
        value = os.environ.get(name)
        if value is None:
            raise ConfigError(key, f"the environment variable '{name}' is not set")
        return value
    path_text, separator, entry = name.rpartition(":")
    if not separator or not entry:
        raise ConfigError(key, f"{match.group()} must be ${{{provider}:/path:name}}")
    try:
        if provider == "dir":
            return _file_in_directory(key, Path(path_text), entry)
        return _property_in_file(key, Path(path_text), entry)
    except OSError as error:
        raise ConfigError(key, f"{match.group()} cannot be read: {error.strerror}") from None


def _file_in_directory(key: str, directory: Path, file_name: str) -> str:
    if Path(file_name).name != file_name or file_name in {".", ".."}:
        raise ConfigError(key, f"'{file_name}' is not the name of a file in {directory}")
    return (directory / file_name).read_text(encoding="utf-8")


def _property_in_file(key: str, path: Path, property_key: str) -> str:
    properties = read_properties(path.read_bytes())
    if property_key not in properties:
        raise ConfigError(key, f"the file {path} has no key '{property_key}'")
    return properties[property_key]
