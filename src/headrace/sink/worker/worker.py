"""How do many connectors live in one process?

A connector is what its configuration says, and does what was wanted of it last: run,
pause or stop. Both are kept before they are acted on, so that a restart goes on likewise.
"""

from __future__ import annotations

import logging
import re
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Final

from headrace.model.errors import HeadraceError
from headrace.service.service import Service
from headrace.sink.config import CONNECTOR_CLASS, ConnectorConfig
from headrace.sink.connector import Connector, TaskStatus
from headrace.sink.errors import ConfigError
from headrace.sink.placeholders import HIDDEN, shown
from headrace.sink.progress import SinkProgress, TaskCounters
from headrace.sink.target import EmbeddedTarget, QdrantTarget, Target
from headrace.sink.task import TaskState
from headrace.sink.worker.defaults import with_defaults
from headrace.sink.worker.errors import (
    BadWorkerRequest,
    ConnectorExists,
    ConnectorFromFile,
    ConnectorNotFound,
    InvalidConnectorConfig,
    TaskNotFound,
)
from headrace.sink.worker.offsets import Offsets, change_offsets, read_offsets
from headrace.sink.worker.shared import SharedConnectors
from headrace.sink.worker.shared_records import (
    Change,
    ConfigChange,
    RemoteTask,
    RestartRequest,
    StateChange,
)
from headrace.sink.worker.store import ConnectorStore, KeptConnector, WantedState
from headrace.sink.worker.validate import static_errors

logger = logging.getLogger(__name__)

_STOP_TIMEOUT_S: Final = 10.0
# What other workers are told of a failure: its end, where the reason is.
_TRACE_MAX: Final = 4_000
# What Kafka takes in no group.instance.id.
_ILLEGAL: Final = re.compile(r"[^a-zA-Z0-9._-]")


@dataclass(frozen=True, slots=True)
class Standing:
    """What a connector and its tasks are doing.

    Attributes:
        state: what was wanted of the connector, or FAILED if it could not be started.
        trace: why not.
        tasks: of this worker; none while it is stopped or could not be started.
        elsewhere: those of other workers, with those workers' ids.
    """

    state: str
    trace: str | None
    tasks: tuple[TaskStatus, ...]
    elsewhere: Sequence[tuple[str, RemoteTask]] = ()


@dataclass(slots=True)
class _Managed:
    """One connector of the worker; changed with `lock` held.

    Attributes:
        config: as it was given.
        connector: while it runs or is paused.
        leaving: the connector that was stopped last, whose tasks may not have ended yet.
        trace: why it could not be started.
    """

    kept: KeptConnector
    config: dict[str, str]
    connector: Connector | None = None
    target: Target | None = None
    leaving: Connector | None = None
    trace: str | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)


class Worker:
    """Connectors, and what is wanted of them; thread-safe.

    Args:
        store: where they are kept.
        service: the store that connectors without a server write into, if there is one; its
            owner closes it.
        defaults: what connectors say that do not say it themselves.
        worker_id: how answers name this worker, as `host:port`.
        from_files: configurations that are not kept, but given anew at each start.
        shared: where the connectors of all workers are kept, if they are: then those of
            `store` do not run.

    Raises:
        ConnectorExists: a file's connector has the name of one that is kept.
        CorruptFile: what was kept is damaged.
    """

    def __init__(
        self,
        store: ConnectorStore,
        service: Service | None = None,
        defaults: Mapping[str, str] | None = None,
        worker_id: str = "127.0.0.1:8083",
        from_files: Sequence[ConnectorConfig] = (),
        shared: SharedConnectors | None = None,
    ) -> None:
        self.service = service
        self.worker_id = worker_id
        self.defaults = dict(defaults or {})
        self._store = store
        self._shared = shared
        # What stays in the store, though it does not run.
        self._set_aside: list[KeptConnector] = []
        self._embedded = None if service is None else EmbeddedTarget(service)
        self._lock = threading.Lock()
        self._connectors: dict[str, _Managed] = {}
        kept = {one.name: one for one in store.read()}
        for name, one in kept.items():
            if one.config is not None and shared is not None:
                self._set_aside.append(one)
                logger.warning(
                    "connector %s is kept in the data directory, and does not run while "
                    "config.storage.topic is set: post it to this worker",
                    name,
                )
            elif one.config is not None:
                self._connectors[name] = _Managed(one, dict(one.config))
        for config in from_files:
            if config.name in self._connectors:
                raise ConnectorExists(config.name)
            before = kept.get(config.name) or KeptConnector(config.name, None)
            self._connectors[config.name] = _Managed(before, dict(config.raw))

    # The worker's life

    def start(self) -> None:
        """Start what is to run; returns at once."""
        for managed in list(self._connectors.values()):
            with managed.lock:
                if managed.kept.wanted_state is WantedState.STOPPED:
                    logger.info("connector %s stays stopped, as was asked", managed.kept.name)
                else:
                    self._start(managed)
        if self._shared is not None:
            self._shared.start(self)

    def stop(self, timeout_s: float) -> bool:
        """Stop all tasks; they run again after the next start.

        Returns:
            Whether all have ended within `timeout_s`.
        """
        if self._shared is not None:
            self._shared.stop(timeout_s)
        stopping = [
            threading.Thread(target=self._stop, args=(one, timeout_s), daemon=True)
            for one in self._connectors.values()
        ]
        deadline = time.monotonic() + timeout_s
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join(max(0.0, deadline - time.monotonic()) + 1)
        return all(
            one.connector is None and (one.leaving is None or one.leaving.has_ended)
            for one in self._connectors.values()
        )

    # What is there

    def check_known(self) -> None:
        """Make sure that this worker knows all its connectors.

        Raises:
            Unavailable: the topic that workers share was not read to its end yet.
        """
        if self._shared is not None:
            self._shared.check()

    def names(self) -> list[str]:
        """The names of all connectors, sorted."""
        return sorted(self._connectors)

    def config(self, name: str) -> dict[str, str]:
        """A configuration as it may be shown: with placeholders, without bare secrets.

        Raises:
            ConnectorNotFound: no such connector.
        """
        return {key: shown(key, value) for key, value in self._managed(name).config.items()}

    def standing(self, name: str) -> Standing:
        """What a connector and its tasks are doing.

        Raises:
            ConnectorNotFound: no such connector.
        """
        managed = self._managed(name)
        connector = managed.connector
        elsewhere: list[tuple[str, RemoteTask]] = []
        if self._shared is not None and self._is_shared(managed):
            elsewhere = self._shared.tasks_elsewhere(name)
        if managed.trace is not None:
            return Standing(TaskState.FAILED.value, managed.trace, (), elsewhere)
        tasks = () if connector is None else connector.status().tasks
        return Standing(managed.kept.wanted_state.value, None, tasks, elsewhere)

    def running(self) -> list[tuple[str, list[TaskCounters], SinkProgress]]:
        """The counts of each connector that has tasks, and of its tasks, by name."""
        found = []
        for name in self.names():
            connector = self._connectors[name].connector
            if connector is not None:
                found.append((name, connector.counters(), connector.progress()))
        return found

    def topics(self, name: str) -> list[str]:
        """The topics that a connector was seen to read, sorted.

        Raises:
            ConnectorNotFound: no such connector.
        """
        managed = self._managed(name)
        with managed.lock:
            self._note_topics(managed)
            return list(managed.kept.topics)

    def offsets(self, name: str) -> Offsets:
        """Where a connector reads on.

        Raises:
            ConnectorNotFound: no such connector.
            Unavailable: Kafka does not answer.
        """
        return read_offsets(self._checked(self._managed(name).config), self.service)

    # Changes

    def create(self, config: Mapping[str, str], wanted_state: WantedState) -> None:
        """Add a connector; kept when it returns.

        Args:
            config: with its `name`.
            wanted_state: what it is to do.

        Raises:
            ConnectorExists: the name is taken.
            InvalidConnectorConfig: the configuration cannot be used.
        """
        self._check(config)
        name = config["name"]
        if self._shared is not None:
            self._shared.check()
            if name in self._connectors or self._shared.has_foreign(name):
                raise ConnectorExists(name)
            state = StateChange(name, wanted_state)
            self._shared.keep(state, ConfigChange(name, dict(config)))
            return
        self._add(KeptConnector(name, dict(config), wanted_state))

    def _add(self, kept: KeptConnector) -> None:
        name, wanted_state = kept.name, kept.wanted_state
        managed = _Managed(kept, dict(kept.config or {}))
        with managed.lock:
            with self._lock:
                if name in self._connectors:
                    raise ConnectorExists(name)
                if not self._is_shared(managed):
                    self._keep([*self._kept(), managed.kept])
                self._connectors[name] = managed
            if wanted_state is not WantedState.STOPPED:
                self._start(managed)

    def replace_config(self, name: str, config: Mapping[str, str]) -> bool:
        """Give a connector another configuration and restart it; make it if it is not there.

        Returns:
            Whether it is new.

        Raises:
            ConnectorFromFile: its file says what it is.
            InvalidConnectorConfig: the configuration cannot be used; nothing was changed.
        """
        managed = self._connectors.get(name)
        if managed is None:
            self.create(config, WantedState.RUNNING)
            return True
        self._check_not_from_file(managed)
        if self._shared is not None:
            replaced = _with_secrets_of(managed.config, config)
            self._check(replaced)
            self._shared.keep(ConfigChange(name, replaced))
            return False
        with self._held(managed):
            replaced = _with_secrets_of(managed.config, config)
            self._check(replaced)
            self._replace(managed, replaced)
        return False

    def _replace(self, managed: _Managed, config: dict[str, str]) -> None:
        self._change(managed, config=config)
        self._stop(managed, _STOP_TIMEOUT_S)
        if managed.kept.wanted_state is not WantedState.STOPPED:
            self._start(managed)

    def patch_config(self, name: str, patch: Mapping[str, str | None]) -> None:
        """Change single keys of a configuration; None removes one.

        Raises: as `replace_config`, and ConnectorNotFound.
        """
        managed = self._managed(name)
        # Shared connectors change on the thread that follows them, which needs the lock.
        with nullcontext() if self._is_shared(managed) else self._held(managed):
            merged = {**managed.config, **patch}
            self.replace_config(
                name, {key: value for key, value in merged.items() if value is not None}
            )

    def delete(self, name: str) -> None:
        """Stop a connector and forget it; its offsets stay.

        Raises:
            ConnectorNotFound: no such connector.
            ConnectorFromFile: it would be there again after the next start.
        """
        managed = self._managed(name)
        self._check_not_from_file(managed)
        if self._shared is not None:
            self._shared.keep(ConfigChange(name, None))
        else:
            self._remove(managed)

    def _remove(self, managed: _Managed) -> None:
        name = managed.kept.name
        with self._held(managed):
            with self._lock:
                self._keep([one for one in self._kept() if one.name != name])
                self._connectors.pop(name, None)
            self._stop(managed, _STOP_TIMEOUT_S)

    def pause(self, name: str) -> None:
        """Stop reading, stay in the consumer group.

        Raises:
            ConnectorNotFound: no such connector.
        """
        self._want(name, WantedState.PAUSED)

    def resume(self, name: str) -> None:
        """Run, after `pause` or `stop_connector`.

        Raises:
            ConnectorNotFound: no such connector.
        """
        self._want(name, WantedState.RUNNING)

    def stop_connector(self, name: str) -> None:
        """End the tasks and leave the consumer group, until it is resumed.

        Raises:
            ConnectorNotFound: no such connector.
        """
        self._want(name, WantedState.STOPPED)

    def restart(self, name: str, include_tasks: bool, only_failed: bool) -> None:
        """Start a connector again that could not be started, or its tasks; on all workers.

        Args:
            name: the connector's.
            include_tasks: whether tasks are restarted at all.
            only_failed: whether those alone that failed.

        Raises:
            ConnectorNotFound: no such connector.
            TaskFailed: an old task has not ended in time.
        """
        managed = self._managed(name)
        if self._shared is not None and self._is_shared(managed):
            self._shared.keep(RestartRequest(name, include_tasks, only_failed))
        else:
            self._restart(managed, include_tasks, only_failed)

    def _restart(self, managed: _Managed, include_tasks: bool, only_failed: bool) -> None:
        tasks = self.standing(managed.kept.name).tasks if include_tasks else ()
        chosen = [one.task for one in tasks if not only_failed or one.state is TaskState.FAILED]
        self.restart_tasks(managed.kept.name, chosen)

    def restart_tasks(self, name: str, tasks: Sequence[int]) -> None:
        """Start a connector again that could not be started, or some of its tasks here.

        Args:
            name: the connector's.
            tasks: by number.

        Raises:
            ConnectorNotFound, TaskNotFound: there is none.
            TaskFailed: an old task has not ended in time.
        """
        managed = self._managed(name)
        with self._held(managed):
            if managed.trace is not None and managed.connector is None:
                self._start(managed)
                return
            running = managed.connector
            for task in tasks:
                if running is None or task >= len(running.counters()) or task < 0:
                    raise TaskNotFound(name, task)
            if running is not None and tasks:
                self._note_topics(managed)
                running.restart(tasks, _STOP_TIMEOUT_S)

    def change_offsets(self, name: str, changes: Mapping[tuple[str, int], int | None]) -> None:
        """Make a stopped connector read on elsewhere.

        Args:
            name: the connector's.
            changes: by topic and partition the next offset; None for one never read.

        Raises:
            ConnectorNotFound: no such connector.
            BadWorkerRequest: it is not stopped, or Kafka has no such partition.
            GroupInUse: its tasks, or others of its group, have not left yet.
            Unavailable: Kafka does not answer.
        """
        managed = self._managed(name)
        with self._held(managed):
            self._check_stopped(managed)
            change_offsets(self._checked(managed.config), self.service, changes)

    def reset_offsets(self, name: str) -> None:
        """Make a stopped connector one that has never read anything.

        Raises: as `change_offsets`.
        """
        managed = self._managed(name)
        with self._held(managed):
            self._check_stopped(managed)
            config = self._checked(managed.config)
            everything = dict.fromkeys(read_offsets(config, self.service))
            change_offsets(config, self.service, everything)

    def reset_topics(self, name: str) -> None:
        """Forget which topics a connector was seen to read.

        Raises:
            ConnectorNotFound: no such connector.
        """
        managed = self._managed(name)
        with self._held(managed):
            if managed.connector is not None:
                for counters in managed.connector.counters():
                    counters.topics = frozenset()
            self._change(managed, topics=[])

    # What is read from the topic that workers share; see `Host`

    def load(self, wanted: Mapping[str, tuple[dict[str, str], WantedState]]) -> None:
        """Run these shared connectors, and no others."""
        for name in self.names():
            if name not in wanted and self._is_shared(self._connectors[name]):
                self.apply(ConfigChange(name, None), WantedState.RUNNING)
        for name, (config, state) in wanted.items():
            managed = self._connectors.get(name)
            try:
                if managed is None or managed.config != config:
                    self.apply(ConfigChange(name, config), state)
                if managed is not None and managed.kept.wanted_state is not state:
                    self.apply(StateChange(name, state), state)
            except HeadraceError as error:
                logger.error("connector %s: %s", name, error.message)

    def apply(self, change: Change, wanted_state: WantedState) -> None:
        """Act on a change of a shared connector."""
        managed = self._connectors.get(change.name)
        if managed is not None and not self._is_shared(managed):
            raise ConnectorFromFile(change.name)
        if isinstance(change, ConfigChange):
            if change.config is None:
                if managed is not None:
                    self._remove(managed)
                return
            config = {**change.config, "name": change.name}
            if managed is None:
                self._add(KeptConnector(change.name, config, wanted_state))
                return
            with managed.lock:
                self._replace(managed, config)
        elif managed is not None and isinstance(change, StateChange):
            self._want_here(managed, change.wanted_state)
        elif managed is not None and isinstance(change, RestartRequest):
            self._restart(managed, change.include_tasks, change.only_failed)

    def own_tasks(self) -> dict[str, list[RemoteTask]]:
        """What the tasks of shared connectors do here, by connector."""
        found = {}
        for name, managed in list(self._connectors.items()):
            connector = managed.connector
            if self._is_shared(managed) and connector is not None:
                found[name] = [
                    RemoteTask(one.task, one.state.value, (one.trace or "")[-_TRACE_MAX:] or None)
                    for one in connector.status().tasks
                ]
        return found

    def _is_shared(self, managed: _Managed) -> bool:
        return self._shared is not None and managed.kept.config is not None

    # Configurations

    def effective(self, config: Mapping[str, str]) -> dict[str, str]:
        """A configuration with the worker's defaults."""
        return with_defaults(config, self.defaults)

    def effective_configs(self) -> list[dict[str, str]]:
        """All configurations with the worker's defaults: not to be shown."""
        return [self.effective(one.config) for one in list(self._connectors.values())]

    def _checked(self, config: Mapping[str, str]) -> ConnectorConfig:
        return ConnectorConfig.from_mapping(self.effective(config))

    def _check(self, config: Mapping[str, str]) -> None:
        errors = static_errors(self.effective(config), self.service is not None)
        if errors:
            plugin = config.get("connector.class", CONNECTOR_CLASS).rpartition(".")[2]
            raise InvalidConnectorConfig(errors, plugin)

    # Starting and stopping, with the connector's lock held

    def _want(self, name: str, wanted: WantedState) -> None:
        managed = self._managed(name)
        if self._shared is not None and self._is_shared(managed):
            self._shared.keep(StateChange(name, wanted))
        else:
            self._want_here(managed, wanted)

    def _want_here(self, managed: _Managed, wanted: WantedState) -> None:
        with self._held(managed):
            self._change(managed, wanted_state=wanted)
            if wanted is WantedState.STOPPED:
                self._stop(managed, _STOP_TIMEOUT_S)
            elif managed.connector is None:
                self._start(managed)
            elif wanted is WantedState.PAUSED:
                managed.connector.pause()
            else:
                managed.connector.resume()

    def _start(self, managed: _Managed) -> None:
        managed.trace = None
        try:
            config = self._checked(managed.config)
            if self._is_shared(managed):
                config = replace(config, member=_ILLEGAL.sub("-", self.worker_id))
            target = self._target(config)
        except HeadraceError as error:
            logger.error("connector %s cannot be started: %s", managed.kept.name, error.message)
            managed.trace = "".join(traceback.format_exception(error))
            return
        connector = Connector(config, target)
        if managed.kept.wanted_state is WantedState.PAUSED:
            connector.pause()
        logger.info("connector %s starts", managed.kept.name)
        connector.start()
        managed.connector, managed.target = connector, target

    def _stop(self, managed: _Managed, timeout_s: float) -> None:
        with managed.lock:
            managed.trace = None
            connector, target = managed.connector, managed.target
            if connector is None or target is None:
                return
            connector.stop(timeout_s)
            try:
                self._note_topics(managed)
            except HeadraceError as error:
                logger.warning("topics of %s are not kept: %s", managed.kept.name, error.message)
            managed.connector, managed.target, managed.leaving = None, None, connector
            target.close()

    def _target(self, config: ConnectorConfig) -> Target:
        if not config.is_embedded:
            return QdrantTarget(config)
        if self._embedded is None:
            raise ConfigError("qdrant.grpc.url", "is required: this worker has no store of its own")
        return self._embedded

    # What is kept

    def _managed(self, name: str) -> _Managed:
        managed = self._connectors.get(name)
        if managed is None:
            self.check_known()
            raise ConnectorNotFound(name)
        return managed

    @contextmanager
    def _held(self, managed: _Managed) -> Iterator[None]:
        """Hold a connector's lock, which a stop before it may have held for seconds.

        Raises:
            ConnectorNotFound: it was deleted meanwhile: started again, nobody could stop it.
        """
        with managed.lock:
            if self._connectors.get(managed.kept.name) is not managed:
                raise ConnectorNotFound(managed.kept.name)
            yield

    def _check_not_from_file(self, managed: _Managed) -> None:
        if managed.kept.config is None:
            raise ConnectorFromFile(managed.kept.name)

    def _check_stopped(self, managed: _Managed) -> None:
        name = managed.kept.name
        if managed.kept.wanted_state is not WantedState.STOPPED:
            raise BadWorkerRequest(
                "Connectors must be in the STOPPED state before their offsets can be modified. "
                "This can be done for the specified connector by issuing a 'PUT' request to the "
                f"'/connectors/{name}/stop' endpoint"
            )
        if managed.leaving is not None and not managed.leaving.has_ended:
            raise BadWorkerRequest(f"The tasks of connector {name} have not ended yet: try again")

    def _note_topics(self, managed: _Managed) -> None:
        if managed.connector is None:
            return
        seen = {topic for one in managed.connector.counters() for topic in one.topics}
        if not seen <= set(managed.kept.topics):
            self._change(managed, topics=sorted(seen | set(managed.kept.topics)))

    def _change(
        self,
        managed: _Managed,
        *,
        config: dict[str, str] | None = None,
        wanted_state: WantedState | None = None,
        topics: list[str] | None = None,
    ) -> None:
        """Keep a changed connector, then know it."""
        before = managed.kept
        changed = KeptConnector(
            before.name,
            before.config if config is None else config,
            wanted_state or before.wanted_state,
            before.topics if topics is None else topics,
        )
        with self._lock:
            if before.name in self._connectors:
                self._keep([changed if one is before else one for one in self._kept()])
            managed.kept = changed
        if config is not None:
            managed.config = config

    def _kept(self) -> list[KeptConnector]:
        here = [one.kept for one in self._connectors.values() if not self._is_shared(one)]
        return [*self._set_aside, *here]

    def _keep(self, connectors: Iterable[KeptConnector]) -> None:
        self._store.write(sorted(connectors, key=lambda one: one.name))


def _with_secrets_of(before: Mapping[str, str], config: Mapping[str, str]) -> dict[str, str]:
    """A configuration that was read back and changed has its hidden values again."""
    return {
        key: before.get(key, value) if value == HIDDEN else value for key, value in config.items()
    }
