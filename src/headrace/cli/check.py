"""`headrace check`: is every file of a data directory still what was written?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli.failures import CommandFailed

if TYPE_CHECKING:
    from headrace.engine.upkeep.check import CheckReport, OnFile

# As `cmp` and `grep`: 0 for all well, 1 for what was looked for.
EXIT_DAMAGED = 1


def check(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The data directory.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report as one JSON object.")
    ] = False,
) -> None:
    """Verify every file of a data directory, its snapshots too, without changing anything.

    Also works while a server runs on the directory. Exits with 0 if all is well and with 1
    if something is damaged; each place is told with file, byte offset, what was expected
    and what was found.
    """
    import msgspec

    from headrace.engine.upkeep.check import check_directory
    from headrace.model.errors import NotFound

    try:
        with _Progress(directory) as on_file:
            report = check_directory(directory, on_file)
    except NotFound as error:
        raise typer.BadParameter(error.detail) from error
    if as_json:
        print(msgspec.json.encode(report).decode())
    else:
        _print(report)
    if report.problems:
        raise CommandFailed("", EXIT_DAMAGED)


def _print(report: CheckReport) -> None:
    for note in report.notes:
        print(f"note: {note}")
    for problem in report.problems:
        print(
            f"damaged: {problem.file} at byte {problem.byte_offset}: "
            f"expected {problem.expected}, found {problem.found}"
        )
    told = f"{len(report.problems)} damaged places" if report.problems else "no damage"
    print(f"{report.directory}: {report.files} files, {report.bytes} bytes, {told}")


class _Progress:
    """A bar on stderr, if that is a terminal and there is much to read."""

    def __init__(self, directory: Path) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

        total = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
        self._bar = Progress(
            TextColumn("checking"),
            BarColumn(),
            DownloadColumn(),
            TextColumn("{task.fields[file]}"),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task("checking", total=total, file="")

    def __enter__(self) -> OnFile:
        self._bar.start()
        return lambda checked: self._bar.update(
            self._task, advance=checked.bytes_count, file=checked.path.name
        )

    def __exit__(self, *ending: object) -> None:
        self._bar.stop()
