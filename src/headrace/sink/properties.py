"""How is a .properties file read?

The format of `java.util.Properties`: comments, escapes, continued lines. Java reads such
files as Latin-1; most people write them as UTF-8, so that is tried first.
"""

from __future__ import annotations

import javaproperties

from headrace.sink.errors import ConfigError


def read_properties(data: bytes) -> dict[str, str]:
    """The keys and values of a .properties file; of a key given twice the last one counts.

    Raises:
        ConfigError: an escape sequence is broken.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    try:
        properties: dict[str, str] = javaproperties.loads(text)
    except javaproperties.InvalidUEscapeError as error:
        raise ConfigError("", f"not a .properties file: {error}") from None
    return properties
