"""Which user and password does Java's `sasl.jaas.config` name?

Java's clients are told so in one text; librdkafka has a setting for each.
"""

from __future__ import annotations

import re
from typing import Final

from headrace.sink.errors import ConfigError

JAAS: Final = "sasl.jaas.config"
_ENTRY: Final = re.compile(r"\s*(\S+)\s+required\b(.*?);?\s*", re.DOTALL)
_OPTION: Final = re.compile(
    r"""\s*([\w.]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([^\s'"]+)(?=\s|$))"""
)
_MODULES: Final = ("PlainLoginModule", "ScramLoginModule")


def jaas_settings(key: str, text: str) -> dict[str, str]:
    """The settings of librdkafka that say the same.

    Args:
        key: the configuration key, for error texts.
        text: as Java takes it, placeholders filled in.

    Raises:
        ConfigError: it is none of a module with a user and a password; shows nothing of it.
    """
    entry = _ENTRY.fullmatch(text)
    module = entry.group(1).rpartition(".")[2] if entry is not None else ""
    if entry is None or module not in _MODULES:
        raise ConfigError(
            key,
            f"must be a {' or '.join(_MODULES)} with username and password; for others give "
            "librdkafka's settings, such as sasl.oauthbearer.*",
        )
    options = {
        name: bare or re.sub(r"\\(.)", r"\1", double or single)
        for name, double, single, bare in _OPTION.findall(entry.group(2))
    }
    if "username" not in options or "password" not in options:
        raise ConfigError(key, "names no username and password")
    return {"sasl.username": options["username"], "sasl.password": options["password"]}
