"""How does a connector run alone, and what is told of it?"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from headrace.cli.failures import EXIT_FAILED_START, EXIT_UNEXPECTED, CommandFailed
from headrace.service.embedding_models import BadEmbeddingModel, register_from_setting
from headrace.service.inference import model_names
from headrace.sink.config import ConnectorConfig, read_connector_file
from headrace.sink.connector import Connector
from headrace.sink.errors import ConfigError
from headrace.sink.progress import SinkProgress
from headrace.sink.target import QdrantTarget
from headrace.sink.task import TaskState
from headrace.sink.worker.defaults import WorkerDefaults, read_worker_file, with_defaults

logger = logging.getLogger(__name__)

_LOOK_INTERVAL_S = 0.2


def load_worker_defaults(path: Path | None) -> WorkerDefaults:
    """Read a worker's file, if there is one.

    Raises:
        CommandFailed: it is wrong; names it.
    """
    if path is None:
        return WorkerDefaults()
    try:
        return read_worker_file(path)
    except ConfigError as error:
        raise CommandFailed(f"{path}: {error.message}", EXIT_FAILED_START) from error


def load_connector(path: Path, worker_config: Path | None) -> ConnectorConfig:
    """Read a connector file, and the file of its worker, if there is one.

    Raises:
        CommandFailed: one is wrong; names it.
    """
    (config,) = load_connectors([path], load_worker_defaults(worker_config).settings)
    return config


def load_connectors(
    paths: Sequence[Path], defaults: Mapping[str, str] | None = None
) -> list[ConnectorConfig]:
    """Read connector files, whose names must differ: a name is a consumer group.

    Args:
        paths: of the files.
        defaults: what their worker says for them.

    Raises:
        CommandFailed: a file is wrong; names it.
    """
    configs: list[ConnectorConfig] = []
    for path in paths:
        try:
            mapping = with_defaults(read_connector_file(path), defaults or {})
            _register_model_of(mapping)
            config = ConnectorConfig.from_mapping(mapping)
        except (ConfigError, BadEmbeddingModel) as error:
            raise CommandFailed(f"{path}: {error.message}", EXIT_FAILED_START) from error
        if any(config.name == other.name for other in configs):
            raise CommandFailed(
                f"{path}: another connector is named '{config.name}' too: give each its own name",
                EXIT_FAILED_START,
            )
        configs.append(config)
    return configs


def register_models(settings: Sequence[str]) -> None:
    """Register what `--embedding-model` names, for the texts of connectors.

    Raises:
        CommandFailed: one cannot be imported.
    """
    try:
        for setting in settings:
            register_from_setting(setting)
    except BadEmbeddingModel as error:
        raise CommandFailed(error.message, EXIT_FAILED_START) from error


def _register_model_of(mapping: Mapping[str, str]) -> None:
    """A file on the command line is the operator's own: it may name a function itself."""
    model = mapping.get("vector.from.text.model", "").strip()
    if ":" in model and model.lower() not in model_names():
        register_from_setting(f"{model}={model}")


class RunningConnector:
    """A connector into a server elsewhere, whose progress and failure are logged.

    Args:
        config: the connector's.
        progress_interval_s: how often a line of progress is logged; 0 for never.

    Raises:
        ConfigError: the connector names no server, or a placeholder cannot be filled in.
    """

    def __init__(self, config: ConnectorConfig, progress_interval_s: float) -> None:
        self.name = f"connector {config.name}"
        self._target = QdrantTarget(config)
        self._connector = Connector(config, self._target)
        self._progress_interval_s = progress_interval_s
        self._ended = threading.Event()
        self._watcher = threading.Thread(
            target=self._watch, name=f"watch-{config.source}", daemon=True
        )

    @property
    def has_failed(self) -> bool:
        """Whether a task of it has."""
        return self._connector.status().state is TaskState.FAILED

    def start(self) -> None:
        """Start its tasks; returns at once."""
        logger.info("%s starts", self.name)
        self._connector.start()
        self._watcher.start()

    def stop(self, timeout_s: float) -> bool:
        """Finish the batch in hand or give it up whole; False if it still runs after that."""
        self._connector.stop(timeout_s)
        self._ended.set()
        self._watcher.join()
        self._target.close()
        logger.info("%s stopped: %s", self.name, progress_line(self._connector.progress()))
        return all(
            task.state in {TaskState.STOPPED, TaskState.FAILED}
            for task in self._connector.status().tasks
        )

    def failure(self) -> CommandFailed:
        """What `sink run` ends with, once `has_failed`: 3 if it never wrote anything, else 2."""
        progress = self._connector.progress()
        settled = (
            progress.points_written
            + progress.points_deleted
            + progress.dead_letters
            + progress.records_skipped
            + progress.records_repeated
        )
        exit_code = EXIT_UNEXPECTED if settled else EXIT_FAILED_START
        return CommandFailed(f"{self.name} failed: {self._reason()}", exit_code)

    def _reason(self) -> str:
        return failure_reason(self._connector.status().trace or "")

    def _watch(self) -> None:
        """Log progress now and then, and a failure once."""
        failure_told = False
        rate = ProgressRate()
        next_line_at = time.monotonic() + self._progress_interval_s
        while not self._ended.wait(_LOOK_INTERVAL_S):
            if self.has_failed and not failure_told:
                failure_told = True
                logger.error(
                    "%s failed and stays down until it is started anew: %s",
                    self.name,
                    self._reason(),
                )
            if self._progress_interval_s and time.monotonic() >= next_line_at:
                next_line_at += self._progress_interval_s
                progress = self._connector.progress()
                logger.info(
                    "%s: %s records_per_s=%.0f",
                    self.name,
                    progress_line(progress),
                    rate.since_last(progress.records_read),
                )


def failure_reason(trace: str) -> str:
    """The error's own text: what a trace ends with, after the name of its class."""
    last_line = trace.strip().rpartition("\n")[2]
    return last_line.partition(": ")[2] or last_line


class ProgressRate:
    """How fast a count grows between two looks at it."""

    def __init__(self) -> None:
        self._count = 0
        self._looked_at = time.monotonic()

    def since_last(self, count: int) -> float:
        """Per second, since the last call or the start."""
        now = time.monotonic()
        rate = (count - self._count) / max(now - self._looked_at, 1e-9)
        self._count, self._looked_at = count, now
        return rate


def progress_line(progress: SinkProgress) -> str:
    """The counts of a connector in one line of `name=value`."""
    counts = {
        "records": progress.records_read,
        "points_written": progress.points_written,
        "points_deleted": progress.points_deleted,
        "dead_letters": progress.dead_letters,
        "skipped": progress.records_skipped,
        "repeated": progress.records_repeated,
        "retries": progress.retries,
        "lag": "unknown" if progress.lag is None else progress.lag,
    }
    by_reason = (
        f"bad_{reason}={count}" for reason, count in sorted(progress.dead_letters_by_reason.items())
    )
    return " ".join([*(f"{name}={value}" for name, value in counts.items()), *by_reason])
