"""How is a connector run, watched and stopped?

connector = Connector(load_connector_config(path), EmbeddedTarget(service))
connector.start()
...
connector.stop(timeout_s=30)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from dataclasses import dataclass

from headrace.sink.config import ConnectorConfig
from headrace.sink.errors import TaskFailed
from headrace.sink.progress import SinkProgress, TaskCounters, total_progress
from headrace.sink.target import Target
from headrace.sink.task import SinkTask, TaskState


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """The state of one task; a trace if it failed."""

    task: int
    state: TaskState
    trace: str | None


@dataclass(frozen=True, slots=True)
class ConnectorStatus:
    """The state of a connector and of its tasks.

    Attributes:
        state: FAILED if any task is, then what its tasks are doing.
        trace: of the first task that failed.
    """

    state: TaskState
    trace: str | None
    tasks: tuple[TaskStatus, ...]


class Connector:
    """A connector and its tasks, each a thread with a consumer of its own; thread-safe.

    Args:
        config: a checked configuration.
        target: where points go; its owner closes it after `stop`.
    """

    def __init__(self, config: ConnectorConfig, target: Target) -> None:
        self._config = config
        self._target = target
        self._is_paused = False
        self._tasks = [SinkTask(config, target, task) for task in range(config.tasks_max)]
        self._threads = [self._thread(number) for number in range(config.tasks_max)]

    @property
    def config(self) -> ConnectorConfig:
        """The configuration that it runs with."""
        return self._config

    def start(self) -> None:
        """Start the tasks; returns at once. A connector is started once."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float) -> None:
        """Stop the tasks: each finishes the batch in hand, or gives it up whole.

        Args:
            timeout_s: how long to wait for them in all; a task that takes longer (a broker
                that does not answer, say) is left to itself, and `status` says so.
        """
        self._stop(range(len(self._tasks)), timeout_s)

    def restart(self, tasks: Collection[int], timeout_s: float) -> None:
        """Stop some tasks, failed ones too, and start new ones in their places.

        Args:
            tasks: their numbers.
            timeout_s: how long to wait in all for the old ones to end.

        Raises:
            TaskFailed: one has not ended by then; it was told to, and none is replaced.
        """
        self._stop(tasks, timeout_s)
        hung = [number for number in tasks if self._threads[number].is_alive()]
        if hung:
            raise TaskFailed(
                f"Task {hung[0]} of connector {self._config.name} has not ended within "
                f"{timeout_s:g} s: Kafka or the target does not answer. Try again later"
            )
        for number in tasks:
            task = SinkTask(self._config, self._target, number)
            task.set_paused(self._is_paused)
            self._tasks[number] = task
            self._threads[number] = self._thread(number)
            self._threads[number].start()

    def pause(self) -> None:
        """Stop reading, stay in the consumer group; also before `start`."""
        self._is_paused = True
        for task in self._tasks:
            task.set_paused(True)

    def resume(self) -> None:
        """Go on reading after `pause`."""
        self._is_paused = False
        for task in self._tasks:
            task.set_paused(False)

    def wait(self, timeout_s: float) -> bool:
        """Wait until the connector has ended, or any of its tasks failed.

        Returns:
            False if it still runs after `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        while self.status().state in {TaskState.UNASSIGNED, TaskState.RUNNING, TaskState.PAUSED}:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                return False
            time.sleep(min(remaining_s, 0.05))
        return True

    def status(self) -> ConnectorStatus:
        """What the connector and its tasks are doing."""
        tasks = tuple(
            TaskStatus(number, task.state, task.trace) for number, task in enumerate(self._tasks)
        )
        states = {task.state for task in tasks}
        order = (TaskState.FAILED, TaskState.RUNNING, TaskState.PAUSED, TaskState.UNASSIGNED)
        state = next((one for one in order if one in states), TaskState.STOPPED)
        trace = next((task.trace for task in tasks if task.trace is not None), None)
        return ConnectorStatus(state, trace, tasks)

    def progress(self) -> SinkProgress:
        """The counts of all tasks since the start."""
        return total_progress(self.counters())

    def counters(self) -> list[TaskCounters]:
        """The counts of each task since it was started; read only."""
        return [task.counters for task in self._tasks]

    @property
    def has_ended(self) -> bool:
        """Whether no task runs any more."""
        return not any(thread.is_alive() for thread in self._threads)

    def _stop(self, tasks: Collection[int], timeout_s: float) -> None:
        for number in tasks:
            self._tasks[number].request_stop()
        deadline = time.monotonic() + timeout_s
        for number in tasks:
            if self._threads[number].ident is not None:
                self._threads[number].join(max(0.0, deadline - time.monotonic()))

    def _thread(self, number: int) -> threading.Thread:
        # A task that hangs in a call must not keep the process from ending.
        return threading.Thread(
            target=self._tasks[number].run, name=f"{self._config.source}-{number}", daemon=True
        )
