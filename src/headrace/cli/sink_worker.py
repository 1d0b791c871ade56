"""`headrace sink worker`: connectors into servers elsewhere, managed over REST."""

from __future__ import annotations

import signal
import threading
from types import FrameType

from headrace.cli.failures import EXIT_FAILED_START, CommandFailed
from headrace.cli.options import (
    DEFAULT_CONNECT_PORT,
    DEFAULT_DATA,
    DEFAULT_PROGRESS_INTERVAL_S,
    ConfigOption,
    ConnectorsOption,
    ConnectPortOption,
    DataOption,
    EmbeddingModelsOption,
    LogFormatOption,
    LogLevelOption,
    ProgressIntervalOption,
    StopTimeoutOption,
    WorkerConfigOption,
)
from headrace.server.logs import LogFormat, LogLevel, configure_logging
from headrace.server.options import DEFAULT_STOP_TIMEOUT_S


def worker(
    connector: ConnectorsOption = None,
    config: ConfigOption = None,
    data: DataOption = DEFAULT_DATA,
    connect_port: ConnectPortOption = DEFAULT_CONNECT_PORT,
    worker_config: WorkerConfigOption = None,
    stop_timeout_s: StopTimeoutOption = DEFAULT_STOP_TIMEOUT_S,
    progress_interval_s: ProgressIntervalOption = DEFAULT_PROGRESS_INTERVAL_S,
    embedding_model: EmbeddingModelsOption = None,
    log_level: LogLevelOption = LogLevel.INFO,
    log_format: LogFormatOption = LogFormat.TEXT,
) -> None:
    """Run connectors as Kafka Connect's worker does, until SIGTERM or Ctrl-C.

    Its REST API adds, changes, pauses and removes connectors, which are kept in the data
    directory. Each writes into the server that it names. Once the API answers, one line on
    stdout says where: "worker: REST http://127.0.0.1:8083 data headrace-data".
    """
    from headrace.cli.connectors import load_connectors, load_worker_defaults, register_models
    from headrace.cli.worker import RunningWorker, connect_address, connect_shared
    from headrace.engine.storage.lock import DirectoryLock
    from headrace.sink.worker.store import ConnectorStore
    from headrace.sink.worker.worker import Worker

    configure_logging(log_level, log_format)
    register_models(embedding_model or [])
    defaults = load_worker_defaults(worker_config)
    from_files = load_connectors(connector or [], defaults.settings)
    try:
        data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandFailed(f"Cannot make {data}: {error.strerror}", EXIT_FAILED_START) from error
    lock = DirectoryLock.acquire(data)
    try:
        connectors = Worker(
            ConnectorStore(data),
            None,
            defaults.settings,
            from_files=from_files,
            shared=connect_shared(defaults),
        )
        address = connect_address(defaults, connect_port)
        running = RunningWorker(connectors, address, progress_interval_s, defaults.sharing)
        stop = _on_signals()
        running.start()
        print(f"worker: REST {running.url} data {data}", flush=True)
        stop.wait()
        running.stop(stop_timeout_s)
    finally:
        lock.release()


def _on_signals() -> threading.Event:
    """Set by the first SIGTERM or Ctrl-C; a second Ctrl-C ends the process at once."""
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    return stop
