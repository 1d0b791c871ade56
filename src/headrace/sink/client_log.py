"""Where do Kafka's clients log, so that an outage does not fill the log?

While no broker answers, librdkafka tells of each attempt to connect, many times a second.
"""

from __future__ import annotations

import logging
import time
from typing import Final

# How often a line of the same kind is logged.
LOG_INTERVAL_S: Final = 10.0


class ClientLog:
    """In the place of a logger, for one client; each kind of line once in a while.

    Args:
        logger: where lines go.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._next_at: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def log(self, level: int, text: str, *args: object) -> None:
        """As `logging.Logger.log`; the first argument tells the kind."""
        kind = str(args[0]) if args else text
        now = time.monotonic()
        if now < self._next_at.get(kind, 0.0):
            self._unsaid[kind] = self._unsaid.get(kind, 0) + 1
            return
        self._next_at[kind] = now + LOG_INTERVAL_S
        unsaid = self._unsaid.pop(kind, 0)
        if unsaid:
            self._logger.log(level, f"{text} (%d more since the last)", *args, unsaid)
        else:
            self._logger.log(level, text, *args)
