"""What is done for the collections of a directory beside reads and writes?

One thread for all of them, so that background work never takes more than one core:
checkpoints when a log has grown, compaction when many rows are dead.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from headrace.model.errors import HeadraceError

logger = logging.getLogger(__name__)

Task = Callable[[], None]


class Maintenance:
    """The background thread of one engine; a task that is queued twice is run once."""

    def __init__(self) -> None:
        self._queued: set[Task] = set()
        self._queue: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="maintenance", daemon=True)
        self._thread.start()

    def request(self, task: Task) -> None:
        """Run a task soon, after those that were requested before."""
        with self._lock:
            if task in self._queued:
                return
            self._queued.add(task)
        self._queue.put(task)

    def close(self) -> None:
        """Finish the task in hand, drop the others."""
        with self._lock:
            # Whatever is queued finds itself dropped.
            self._queued.clear()
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (task := self._queue.get()) is not None:
            with self._lock:
                if task not in self._queued:
                    continue
                self._queued.discard(task)
            try:
                task()
            except HeadraceError as error:
                logger.warning("background work failed, it will be tried again: %s", error)
            except Exception:
                logger.exception("background work failed")
