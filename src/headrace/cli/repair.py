"""`headrace repair`: a new directory of what is provably good in a damaged one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from headrace.engine.upkeep.repair import RepairReport


def repair(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="The damaged data directory; only read.")
    ],
    to: Annotated[
        Path, typer.Option("--to", metavar="DIR", help="The directory to make; missing, or empty.")
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report as one JSON object.")
    ] = False,
) -> None:
    """Keep what is provably good of a data directory, and say what was left out.

    The old directory stays as it is. Refused while a server runs on it. Undamaged files are
    shared between both directories where the file system can do that.
    """
    import msgspec
    from rich.console import Console

    from headrace.engine.upkeep.repair import repair_directory
    from headrace.model.errors import NotFound

    with Console(stderr=True).status("repairing") as status:
        try:
            report = repair_directory(directory, to, status.update)
        except NotFound as error:
            raise typer.BadParameter(error.detail) from error
    if as_json:
        print(msgspec.json.encode(report).decode())
    else:
        _print(report)


def _print(report: RepairReport) -> None:
    for problem in report.problems:
        print(
            f"damaged: {problem.file} at byte {problem.byte_offset}: "
            f"expected {problem.expected}, found {problem.found}"
        )
    for left_out in report.left_out:
        print(f"left out: {left_out}")
    for collection in report.collections:
        kept = f"kept through seq_no {collection.seq_no}" if collection.seq_no >= 0 else "lost"
        print(f"collection {collection.name}: {kept}")
        for left_out in collection.left_out:
            print(f"collection {collection.name}: left out: {left_out}")
        if collection.lost_ids:
            ids = ", ".join(str(point_id) for point_id in collection.lost_ids)
            print(f"collection {collection.name}: lost points: {ids}")
    print(f"{report.target} is complete; {report.directory} is as it was")
