"""`headrace demo`: the whole product on real data, in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.failures import EXIT_OK, CommandFailed
from headrace.cli.options import LogLevelOption, environment_variable
from headrace.server.logs import LogLevel, configure_logging


def demo(
    bootstrap_servers: Annotated[
        str | None,
        typer.Option(
            "--bootstrap-servers",
            metavar="HOST:PORT",
            envvar=environment_variable("bootstrap_servers"),
            help="Your own Kafka, in place of the embedded broker.",
        ),
    ] = None,
    keep: Annotated[
        bool,
        typer.Option("--keep", help="Leave everything serving afterwards, until Ctrl-C."),
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="The data directory; without it a new one, removed at the end unless --keep.",
        ),
    ] = None,
    http_port: Annotated[
        int,
        typer.Option(
            "--http-port", min=0, max=65535, help="The port of the REST API; 0 takes a free one."
        ),
    ] = 0,
    grpc_port: Annotated[
        int,
        typer.Option(
            "--grpc-port", min=0, max=65535, help="The port of the gRPC API; 0 takes a free one."
        ),
    ] = 0,
    broker_port: Annotated[
        int,
        typer.Option(
            "--broker-port",
            min=0,
            max=65535,
            help="The port of the embedded broker; 0 takes a free one.",
        ),
    ] = 0,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Stream real airports from Kafka into a store and search them, all in this process.

    Starts a Kafka-protocol broker, the server and the sink, produces the records of a real
    data set in all message formats, shows the progress, and prints filtered searches.
    Needs the extra `demo` of the package.
    """
    from headrace.demo.run import DemoOptions, run_demo

    configure_logging(log_level)
    options = DemoOptions(bootstrap_servers, keep, data, http_port, grpc_port, broker_port)
    exit_code = run_demo(options)
    if exit_code != EXIT_OK:
        raise CommandFailed("", exit_code)
