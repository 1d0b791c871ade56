"""`headrace sink`: connectors without a server, and a look at those that run."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli.failures import EXIT_FAILED_START, CommandFailed
from headrace.cli.options import (
    DEFAULT_PROGRESS_INTERVAL_S,
    ConfigOption,
    EmbeddingModelsOption,
    LogFormatOption,
    LogLevelOption,
    ProgressIntervalOption,
    StopTimeoutOption,
    WorkerConfigOption,
)
from headrace.cli.sink_records import dead_letter_commands, dry_run
from headrace.cli.sink_status import status
from headrace.cli.sink_worker import worker
from headrace.server.logs import LogFormat, LogLevel, configure_logging
from headrace.server.options import DEFAULT_STOP_TIMEOUT_S

if TYPE_CHECKING:
    from headrace.cli.connectors import RunningConnector

_LOOK_INTERVAL_S = 0.1

sink_commands = typer.Typer(
    name="sink",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Stream Kafka topics into a Qdrant or Headrace server.",
    epilog="Example: headrace sink run airports.properties",
)


sink_commands.command(epilog="Example: headrace sink worker --data ./worker")(worker)
sink_commands.command(epilog="Example: headrace sink status")(status)
sink_commands.command(
    "dry-run", epilog="Example: headrace sink dry-run airports.properties --records 1000"
)(dry_run)
sink_commands.add_typer(dead_letter_commands)


@sink_commands.callback()
def sink() -> None:
    """Stream Kafka topics into a Qdrant or Headrace server."""


@sink_commands.command(epilog="Example: headrace sink run airports.properties")
def run(
    connector: Annotated[
        Path, typer.Argument(metavar="CONNECTOR", help="A connector file, .properties or .json.")
    ],
    config: ConfigOption = None,
    worker_config: WorkerConfigOption = None,
    stop_timeout_s: StopTimeoutOption = DEFAULT_STOP_TIMEOUT_S,
    progress_interval_s: ProgressIntervalOption = DEFAULT_PROGRESS_INTERVAL_S,
    embedding_model: EmbeddingModelsOption = None,
    log_level: LogLevelOption = LogLevel.INFO,
    log_format: LogFormatOption = LogFormat.TEXT,
) -> None:
    """Run one connector until SIGTERM or Ctrl-C, into the server that its file names.

    The file needs qdrant.grpc.url or qdrant.rest.url. Delivery is at least once, with
    writes that may be repeated. Exits with 3 if the connector fails before it has written
    anything, with 2 if it fails later.
    """
    from headrace.cli.connectors import RunningConnector, load_connector, register_models

    configure_logging(log_level, log_format)
    register_models(embedding_model or [])
    connector_config = load_connector(connector, worker_config)
    if connector_config.is_embedded:
        raise CommandFailed(
            f"{connector}: names no server: give it qdrant.grpc.url or qdrant.rest.url, or let "
            "`headrace up` run it beside the store of its own process",
            EXIT_FAILED_START,
        )
    running = RunningConnector(connector_config, progress_interval_s)
    run_until_stopped(running, stop_timeout_s)


def run_until_stopped(running: RunningConnector, stop_timeout_s: float) -> None:
    """Run a connector as this process's job.

    Raises:
        CommandFailed: the connector failed.
    """
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()
        # The tasks' threads do not keep the process: a second Ctrl-C ends it at once.
        signal.signal(signal.SIGINT, signal.default_int_handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    running.start()
    while not stop.wait(_LOOK_INTERVAL_S) and not running.has_failed:
        pass
    running.stop(stop_timeout_s)
    if running.has_failed:
        raise running.failure()
