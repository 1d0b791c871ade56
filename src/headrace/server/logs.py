"""How do log lines look? One each, on stderr: as text to read, or as JSON to collect.

What a line says beside its text are *fields*, such as the id of the request:
`logger.info("slow request", extra=fields(request_id=...))`. As text they stand behind it as
`name=value`, in JSON they are members of their own.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import orjson

LINE_FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s"
TIME_FORMAT = "%Y-%m-%dT%H:%M:%S"

# What would begin another line, or move the cursor of who reads along.
_CONTROL_CHARS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How it is written."""

    TEXT = "text"
    JSON = "json"


def fields(**values: Any) -> dict[str, Any]:
    """What a line says beside its text, for the `extra` of a logging call."""
    return {"fields": values}


class _TextFormatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        said = _fields(record)
        if said:
            pairs = " ".join(f"{name}={value}" for name, value in said.items())
            record.message = f"{record.message} {pairs}"
        record.message = _CONTROL_CHARS.sub(_escaped, record.message)
        return super().formatMessage(record)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": f"{self.formatTime(record, TIME_FORMAT)}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def configure_logging(level: LogLevel, log_format: LogFormat = LogFormat.TEXT) -> None:
    """Send this process's log lines to stderr.

    uvicorn tells its own life at INFO, which `headrace` tells itself: its warnings remain.
    httpx tells every URL at INFO, and a URL may hold a secret.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(log_format))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if level is not LogLevel.DEBUG:
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)


def current_format() -> LogFormat:
    """How lines are written now."""
    formatters = (handler.formatter for handler in logging.getLogger().handlers)
    is_json = any(isinstance(one, _JsonFormatter) for one in formatters)
    return LogFormat.JSON if is_json else LogFormat.TEXT


def change_format(log_format: LogFormat) -> None:
    """Write the next lines in another format, where this process writes them."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, (_TextFormatter, _JsonFormatter)):
            handler.setFormatter(_formatter(log_format))


def _formatter(log_format: LogFormat) -> logging.Formatter:
    is_json = log_format is LogFormat.JSON
    formatter = _JsonFormatter() if is_json else _TextFormatter(LINE_FORMAT, TIME_FORMAT)
    formatter.converter = time.gmtime
    return formatter


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    said: Mapping[str, Any] = getattr(record, "fields", {})
    return said


def _escaped(char: re.Match[str]) -> str:
    return char[0].encode("unicode_escape").decode("ascii")
