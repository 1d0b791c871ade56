"""Who builds graphs, and when does he stop?

One thread for a whole engine takes the stores that want work in turn, one step of work
each, so that the memory and the processor time that building takes are bounded.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from headrace.engine.background import give_way_to_requests

logger = logging.getLogger(__name__)


class NoMoreThreads(Exception):
    """Python ends and takes no more work for threads; nothing was changed."""


class Buildable(Protocol):
    """Something that has work for the builder."""

    def build_next(self, is_stopped: Callable[[], bool]) -> bool:
        """Do one step of work; False if there was none, or it was given up."""

    def build_failed(self, error: Exception) -> None:
        """Take note that a step of work raised."""


class IndexBuilder:
    """A background thread that builds; starts with the first work, ends with `close`."""

    def __init__(self) -> None:
        self._waiting: deque[Buildable] = deque()
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._busy = False
        self._closed = False

    def submit(self, work: Buildable) -> None:
        """Have `work.build_next` called until it has none; does not wait. Once is enough."""
        with self._condition:
            if self._closed or work in self._waiting:
                return
            self._waiting.append(work)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="vector-index-builder", daemon=True
                )
                self._thread.start()
            self._condition.notify_all()

    def wait_until_idle(self, timeout_seconds: float) -> bool:
        """Wait until nothing is waiting or running; False if that took too long."""
        with self._condition:
            return self._condition.wait_for(
                lambda: not self._waiting and not self._busy, timeout_seconds
            )

    def close(self) -> None:
        """Give up the running step and wait until the thread has ended. Nothing is lost."""
        with self._condition:
            self._closed = True
            self._waiting.clear()
            self._condition.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        give_way_to_requests()
        while True:
            with self._condition:
                self._busy = False
                self._condition.notify_all()
                self._condition.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                work = self._waiting.popleft()
                self._busy = True
            if self._step(work):
                self.submit(work)

    def _step(self, work: Buildable) -> bool:
        try:
            return work.build_next(lambda: self._closed)
        except NoMoreThreads as error:
            logger.info("building a vector index was given up: %s", error)
            return False
        except Exception as error:
            # The vectors are still searched exactly; the next write asks again.
            logger.exception("building a vector index failed")
            work.build_failed(error)
            return False
