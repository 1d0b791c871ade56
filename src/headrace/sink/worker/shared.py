"""How do several workers run the same connectors, told through one topic?

Each worker follows the topic and runs every connector in it, with `tasks.max` tasks of its
own; the consumer group shares the partitions among all of them. Nobody leads: a change is
written to the topic, and each worker, the one that was asked too, acts when it reads it.
What its tasks do a worker tells the others every few seconds, so that any can answer for all.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec

from headrace.model.errors import HeadraceError, Unavailable
from headrace.sink.config import CONNECTOR_CLASSES
from headrace.sink.worker.compacted_topic import CompactedTopic, UnusableTopic
from headrace.sink.worker.shared_records import (
    STATUS,
    BadRecord,
    Change,
    ConfigChange,
    RemoteTask,
    RestartRequest,
    StateChange,
    WorkerStatus,
    read_change,
    records_of,
)
from headrace.sink.worker.store import WantedState

logger = logging.getLogger(__name__)

# Enough for a worker to stop a connector whose target does not answer.
_ACT_TIMEOUT_S: Final = 30.0
_RETRY_S: Final = 2.0
_LOOK_INTERVAL_S: Final = 0.5
_TELL_INTERVAL_S: Final = 10.0
# Three times, so that one that is late is not taken for gone.
_SILENCE_MAX_S: Final = 30.0
# A worker that was killed cannot say that it is gone: any other says it for it then.
_GONE_S: Final = 600.0
_GOODBYE_TIMEOUT_S: Final = 2.0


class Host(Protocol):
    """The worker that acts on what is read."""

    @property
    def worker_id(self) -> str:
        """How answers name it."""
        ...

    def load(self, wanted: Mapping[str, tuple[dict[str, str], WantedState]]) -> None:
        """Run these shared connectors, and no others."""
        ...

    def apply(self, change: Change, wanted_state: WantedState) -> None:
        """Act on a change of a shared connector.

        Args:
            change: what was read.
            wanted_state: of the connector, which may stand before its configuration.
        """
        ...

    def own_tasks(self) -> dict[str, list[RemoteTask]]:
        """What the tasks of its shared connectors do, by connector."""
        ...


@dataclass(slots=True)
class _Folded:
    """The topic, as far as it was read."""

    configs: dict[str, dict[str, str]] = field(default_factory=dict)
    states: dict[str, WantedState] = field(default_factory=dict)

    def take(self, change: Change) -> None:
        if isinstance(change, StateChange):
            self.states[change.name] = change.wanted_state
        elif isinstance(change, ConfigChange) and change.config is None:
            self.configs.pop(change.name, None)
        elif isinstance(change, ConfigChange) and change.config is not None:
            self.configs[change.name] = change.config

    def is_ours(self, name: str) -> bool:
        """Whether it is there, and of the class that this worker runs."""
        config = self.configs.get(name)
        return config is not None and config.get("connector.class") in (None, *CONNECTOR_CLASSES)

    def wanted(self) -> dict[str, tuple[dict[str, str], WantedState]]:
        return {
            name: (config, self.states.get(name, WantedState.RUNNING))
            for name, config in self.configs.items()
            if self.is_ours(name)
        }


class SharedConnectors:
    """The connectors of all workers of a topic; thread-safe.

    Args:
        configs: of one partition.
        statuses: where workers tell what they do; None for the same topic.
    """

    def __init__(self, configs: CompactedTopic, statuses: CompactedTopic | None = None) -> None:
        self._configs = configs
        self._statuses = statuses or configs
        self._folded = _Folded()
        self._is_read = False
        self._trouble = "it has not been read yet"
        self._others: dict[str, tuple[WorkerStatus, float]] = {}
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._host: Host | None = None

    def start(self, host: Host) -> None:
        """Follow the topic, on threads; returns at once."""
        self._host = host
        jobs = [self._follow_configs, self._tell]
        if self._statuses is not self._configs:
            jobs.append(self._follow_statuses)
        self._threads = [
            threading.Thread(target=one, name=f"shared{one.__name__}", daemon=True) for one in jobs
        ]
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float) -> None:
        """Act on nothing more, and let the others know that this worker is gone."""
        self._stopping.set()
        # They end by themselves; one that waits for Kafka is not waited for.
        deadline = time.monotonic() + min(timeout_s, _GOODBYE_TIMEOUT_S)
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if self._host is not None and self._is_read:
            try:
                self._statuses.append([(STATUS + self._host.worker_id, None)], _GOODBYE_TIMEOUT_S)
            except Unavailable as error:
                logger.warning("the other workers are not told that this one ends: %s", error)

    @property
    def is_read(self) -> bool:
        """Whether all is read that was there at the start."""
        return self._is_read

    def check(self) -> None:
        """Make sure that what is known is worth an answer.

        Raises:
            Unavailable: the topic was not read to its end yet; says why.
        """
        if not self._is_read:
            raise Unavailable(
                f"The connectors in topic '{self._configs.name}' are not known: {self._trouble}"
            )

    def has_foreign(self, name: str) -> bool:
        """Whether the topic has a connector of this name that this worker cannot run."""
        return name in self._folded.configs and not self._folded.is_ours(name)

    def keep(self, *changes: Change) -> None:
        """Write changes, and wait until this worker has acted on them.

        Raises:
            Unavailable: they are not kept, or kept and not acted on in time.
        """
        self.check()
        written = self._configs.append([one for change in changes for one in records_of(change)])
        if not self._configs.wait_until_read(written, _ACT_TIMEOUT_S):
            raise Unavailable(
                f"The change is kept in topic '{self._configs.name}', and this worker has not "
                "acted on it yet: look again later"
            )

    def tasks_elsewhere(self, name: str) -> list[tuple[str, RemoteTask]]:
        """The tasks of a connector on other workers, with those workers' ids."""
        now = time.monotonic()
        return [
            (worker_id, task)
            for worker_id, (status, heard_at) in sorted(self._others.copy().items())
            if now - heard_at < _SILENCE_MAX_S
            for task in status.connectors.get(name, [])
        ]

    # Threads

    def _follow_configs(self) -> None:
        self._follow(self._configs, self._take, self._note_end)

    def _follow_statuses(self) -> None:
        self._follow(self._statuses, self._take_status, lambda: None)

    def _follow(self, topic: CompactedTopic, on_record: object, on_end: object) -> None:
        while not self._stopping.is_set():
            try:
                topic.ensure()
                topic.follow(on_record, on_end, self._stopping.is_set)  # type: ignore[arg-type]
            except HeadraceError as error:
                self._trouble = error.message
                logger.log(
                    logging.ERROR if isinstance(error, UnusableTopic) else logging.WARNING,
                    "connectors are not read from topic %s: %s",
                    topic.name,
                    error.message,
                )
            except Exception as error:
                # This thread ends with the worker alone: without it no change is acted on.
                self._trouble = f"unexpected: {error}"
                logger.exception("unexpected: topic %s is read again", topic.name)
            else:
                return
            self._stopping.wait(_RETRY_S)
            # What is read again is folded anew.
            if topic is self._configs:
                self._folded, self._is_read = _Folded(), False

    def _take(self, key: str, value: bytes | None, timestamp_ms: int) -> None:
        if key.startswith(STATUS):
            self._take_status(key, value, timestamp_ms)
            return
        try:
            change = read_change(key, value)
        except BadRecord as error:
            logger.error("topic %s: %s: passed over", self._configs.name, error)
            return
        if change is None:
            return
        was_ours = self._folded.is_ours(change.name)
        self._folded.take(change)
        if not self._is_read or self._host is None:
            return
        if isinstance(change, RestartRequest | StateChange) and not was_ours:
            return
        if isinstance(change, ConfigChange) and not self._folded.is_ours(change.name):
            if change.config is not None:
                logger.info("connector %s is not of a class for this worker", change.name)
            change = ConfigChange(change.name, None)
        self._act(change)

    def _act(self, change: Change) -> None:
        assert self._host is not None
        wanted_state = self._folded.states.get(change.name, WantedState.RUNNING)
        try:
            self._host.apply(change, wanted_state)
        except HeadraceError as error:
            logger.error("connector %s: %s", change.name, error.message)
        except Exception:
            # Other connectors' changes are acted on all the same.
            logger.exception("connector %s: unexpected, a change is passed over", change.name)

    def _note_end(self) -> None:
        assert self._host is not None
        wanted = self._folded.wanted()
        self._host.load(wanted)
        self._is_read = True
        logger.info("topic %s has %d connectors for this worker", self._configs.name, len(wanted))

    def _take_status(self, key: str, value: bytes | None, timestamp_ms: int) -> None:
        worker_id = key.removeprefix(STATUS)
        if not key.startswith(STATUS) or (self._host and worker_id == self._host.worker_id):
            return
        if value is None:
            self._others.pop(worker_id, None)
            return
        try:
            status = msgspec.json.decode(value, type=WorkerStatus)
        except msgspec.MsgspecError as error:
            logger.error("topic %s: the status of %s: %s", self._statuses.name, worker_id, error)
            return
        # What was there at the start may be of a worker that is long gone.
        age_s = max(0.0, time.time() - timestamp_ms / 1000) if timestamp_ms > 0 else 0.0
        self._others[worker_id] = (status, time.monotonic() - age_s)

    def _tell(self) -> None:
        """Tell the other workers what the tasks here do: when it changes, and now and then."""
        told: WorkerStatus | None = None
        next_at = 0.0
        while not self._stopping.wait(_LOOK_INTERVAL_S):
            if not self._is_read or self._host is None:
                continue
            try:
                status = WorkerStatus(self._host.own_tasks())
                if status == told and time.monotonic() < next_at:
                    continue
                record = (STATUS + self._host.worker_id, msgspec.json.encode(status))
                self._statuses.append([record, *self._goodbyes_of_gone()])
            except HeadraceError as error:
                logger.warning("the other workers do not hear of this one: %s", error.message)
                continue
            except Exception:
                logger.exception("unexpected: the other workers do not hear of this one")
                self._stopping.wait(_RETRY_S)
                continue
            told, next_at = status, time.monotonic() + _TELL_INTERVAL_S

    def _goodbyes_of_gone(self) -> list[tuple[str, None]]:
        """The records that take workers out of the topic that have been silent for long."""
        now = time.monotonic()
        return [
            (STATUS + worker_id, None)
            for worker_id, (_, heard_at) in self._others.copy().items()
            if now - heard_at > _GONE_S
        ]
