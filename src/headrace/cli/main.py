"""Where does `headrace` begin, and with which exit code does it end?"""

from __future__ import annotations

import logging
import sys
from typing import Annotated, NoReturn

import typer

import headrace
from headrace.cli.check import check
from headrace.cli.demo import demo
from headrace.cli.explain import explain
from headrace.cli.failures import (
    EXIT_FAILED_START,
    EXIT_OK,
    EXIT_UNEXPECTED,
    EXIT_USAGE,
    CommandFailed,
)
from headrace.cli.repair import repair
from headrace.cli.restore import restore
from headrace.cli.serve import serve
from headrace.cli.sink import sink_commands
from headrace.cli.up import up
from headrace.model.errors import HeadraceError

logger = logging.getLogger(__name__)

# What typer itself exits with when the command line cannot be understood.
_TYPER_USAGE_EXIT_CODE = 2

app = typer.Typer(
    name="headrace",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,  # `main` decides what a failure looks like
    epilog="Example: headrace up --data ./vectors --connector airports.properties",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(epilog="Example: headrace serve --data ./vectors --http-port 6333")(serve)
app.command(epilog="Example: headrace up --data ./vectors --connector airports.properties")(up)
app.command(epilog="Example: headrace demo --keep")(demo)
app.command(epilog="Example: headrace explain products --query @query.json")(explain)
app.command(epilog="Example: headrace check ./vectors")(check)
app.command(epilog="Example: headrace repair ./vectors --to ./vectors-repaired")(repair)
app.command(epilog="Example: headrace restore full.snapshot --data ./vectors")(restore)
app.add_typer(sink_commands)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"headrace {headrace.__version__}")
        raise typer.Exit


@app.callback()
def headrace_command(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Kafka records in, filtered vector search out: a vector store with Qdrant's API."""


def main() -> NoReturn:
    """Run the command line and exit: 1 usage, 2 unexpected, 3 failed start."""
    sys.exit(_run())


def _run() -> int | str | None:
    try:
        app(prog_name="headrace")
    except SystemExit as ending:
        # Commands report failures by exceptions, so this code can only be typer's.
        return EXIT_USAGE if ending.code == _TYPER_USAGE_EXIT_CODE else ending.code
    except CommandFailed as failure:
        return _told(failure.message, failure.exit_code)
    except HeadraceError as error:
        return _told(error.message, EXIT_FAILED_START)
    except Exception:
        logger.exception("unexpected: this is a defect of headrace, please report it")
        return EXIT_UNEXPECTED
    return EXIT_OK


def _told(message: str, exit_code: int) -> int:
    if message:
        print(f"headrace: error: {message}", file=sys.stderr)
    return exit_code
