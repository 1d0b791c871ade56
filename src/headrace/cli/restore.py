"""`headrace restore`: a new data directory out of a snapshot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def restore(
    snapshot: Annotated[
        Path,
        typer.Argument(
            metavar="SNAPSHOT", exists=True, dir_okay=False, help="The snapshot's file."
        ),
    ],
    data: Annotated[
        Path,
        typer.Option("--data", metavar="DIR", help="The directory to make; missing, or empty."),
    ],
) -> None:
    """Make a data directory out of a snapshot, whole or not at all.

    A full snapshot gives all its collections and their aliases; one of a collection gives a
    directory with that. To restore into a running server, upload the snapshot instead.
    """
    from headrace.engine.snapshot.restore import restore_new_directory

    names = restore_new_directory(snapshot.resolve(), data)
    print(f"restored {len(names)} collections into {data}: {', '.join(names)}")
