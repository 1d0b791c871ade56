"""How does `topics.regex`, a Java pattern, become one that librdkafka matches?

librdkafka uses POSIX extended patterns and searches; Kafka Connect matches whole names.
What the two dialects write alike is taken, digits and word characters are translated, and
the rest is refused: a pattern that silently meant something else would read other topics.
"""

from __future__ import annotations

import re
from typing import Final

from headrace.sink.errors import ConfigError

_CLASSES: Final = {"d": "0-9", "w": "A-Za-z0-9_"}
_KEY: Final = "topics.regex"

# A set in brackets, or an escape outside of one.
_ESCAPE_OR_SET: Final = re.compile(r"\[(?:\\.|[^\]\\])*\]|\\(.)")
# Groups with options, lazy and possessive counts, sets that are empty to POSIX.
_UNSUPPORTED: Final = re.compile(r"\(\?|[*+?}][+?]|\[\^?\]")
# Unions, intersections and the like of sets.
_UNSUPPORTED_IN_SET: Final = re.compile(r"\[|&&|--|~~|\|\|")


def posix_pattern(pattern: str) -> str:
    """The POSIX extended pattern that matches the same whole topic names.

    Raises:
        ConfigError: the pattern is broken, or uses what POSIX does not have.
    """
    unsupported = _UNSUPPORTED.search(pattern) or next(
        filter(None, map(_UNSUPPORTED_IN_SET.search, _sets(pattern))), None
    )
    if unsupported is not None:
        raise ConfigError(_KEY, f"'{unsupported.group()}' is not supported in a pattern")
    try:
        re.compile(pattern)
    except re.error as error:
        raise ConfigError(_KEY, f"is not a regular expression: {error}") from None
    return f"^({_ESCAPE_OR_SET.sub(_translate, pattern)})$"


def _sets(pattern: str) -> list[str]:
    """The insides of the sets in brackets."""
    found = (match.group() for match in _ESCAPE_OR_SET.finditer(pattern))
    return [text[1:-1] for text in found if text.startswith("[")]


def _translate(match: re.Match[str]) -> str:
    text = match.group()
    if text.startswith("["):
        return re.sub(r"\\(.)", _translate_in_set, text)
    escaped = text[1]
    if escaped in _CLASSES:
        return f"[{_CLASSES[escaped]}]"
    return _literal(escaped)


def _translate_in_set(match: re.Match[str]) -> str:
    escaped = match.group(1)
    if escaped in _CLASSES:
        return _CLASSES[escaped]
    if escaped in r"]\^-":
        raise ConfigError(_KEY, f"'\\{escaped}' is not supported within brackets")
    return "." if escaped == "." else _literal(escaped).removeprefix("\\")


def _literal(escaped: str) -> str:
    if escaped.isalnum():
        raise ConfigError(_KEY, f"'\\{escaped}' is not supported in a pattern")
    return f"\\{escaped}"
