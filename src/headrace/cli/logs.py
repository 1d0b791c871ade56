"""How do log lines look? One line each, on stderr: time, level, where, what."""

from __future__ import annotations

import logging
import sys
import time
from enum import StrEnum

LINE_FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s"
TIME_FORMAT = "%Y-%m-%dT%H:%M:%S"


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def configure_logging(level: LogLevel) -> None:
    """Send this process's log lines to stderr.

    uvicorn tells its own life at INFO, which `headrace` tells itself: its warnings remain.
    """
    formatter = logging.Formatter(LINE_FORMAT, TIME_FORMAT)
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if level is not LogLevel.DEBUG:
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
