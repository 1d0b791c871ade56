"""Which loggers are there, and how much does each log, in Kafka Connect's words?"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Final

from headrace.sink.worker.errors import NotThere

ROOT: Final = "root"
_OFF: Final = logging.CRITICAL + 10
_TRACE: Final = logging.DEBUG - 5
_LEVELS: Final = {
    "OFF": _OFF,
    "FATAL": logging.CRITICAL,
    "ERROR": logging.ERROR,
    "WARN": logging.WARNING,
    "INFO": logging.INFO,
    "DEBUG": logging.DEBUG,
    "TRACE": _TRACE,
}


@dataclass(frozen=True, slots=True)
class LoggerLevel:
    """How much a logger logs.

    Attributes:
        modified_ms: when it was last set over REST, since 1970-01-01 UTC; None if never.
    """

    level: str
    modified_ms: int | None


class Loggers:
    """The loggers of this process, and when their levels were set through here."""

    def __init__(self) -> None:
        self._modified_ms: dict[str, int] = {}

    def all(self) -> dict[str, LoggerLevel]:
        """The root, and every logger that has a level of its own, by name."""
        found = {ROOT: self._level(ROOT)}
        for name, one in sorted(logging.root.manager.loggerDict.items()):
            if isinstance(one, logging.Logger) and one.level != logging.NOTSET:
                found[name] = self._level(name)
        return found

    def get(self, name: str) -> LoggerLevel:
        """One logger, as it is effectively.

        Raises:
            NotThere: nothing logs under this name.
        """
        if name != ROOT and not self._below(name):
            raise NotThere(f"Logger {name} not found.")
        return self._level(name)

    def set(self, name: str, level: str) -> list[str]:
        """Set the level of a logger and of all below it.

        Returns:
            The names of those, sorted.

        Raises:
            NotThere: there is no such level.
        """
        number = _LEVELS.get(level.upper())
        if number is None:
            raise NotThere(f"Invalid log level '{level}'.")
        names = [ROOT] if name == ROOT else sorted({name, *self._below(name)})
        now_ms = int(time.time() * 1000)
        for one in names:
            _logger(one).setLevel(number)
            self._modified_ms[one] = now_ms
        return names

    def _level(self, name: str) -> LoggerLevel:
        effective = _logger(name).getEffectiveLevel()
        level = next((text for text, number in _LEVELS.items() if effective >= number), "TRACE")
        return LoggerLevel(level, self._modified_ms.get(name))

    def _below(self, name: str) -> list[str]:
        known = logging.root.manager.loggerDict
        return [one for one in known if one == name or one.startswith(f"{name}.")]


def _logger(name: str) -> logging.Logger:
    return logging.getLogger() if name == ROOT else logging.getLogger(name)
