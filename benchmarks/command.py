"""What does a run measure, show and keep?"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.data import make_dataset
from benchmarks.ingest import compare_ingest
from benchmarks.results import RESULTS_FOLDER, Figure, describe_run, write_results
from benchmarks.rooms import compare

DEFAULT_POINT_COUNT = 100_000
DEFAULT_DIM = 128
DEFAULT_QUERY_COUNT = 200


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure everything once, at one size."""
    chosen = _parser().parse_args(arguments)
    console = Console()
    run = describe_run(chosen.points, chosen.dim)
    dataset = make_dataset(chosen.points, chosen.dim, chosen.queries)
    chosen.disk.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="headrace-bench-", dir=chosen.disk) as folder:
        figures = compare(dataset, Path(folder), console.print)
        figures.append(compare_ingest(dataset, Path(folder)))
    console.print(_table(figures))
    for rival_name in dict.fromkeys(one.rival_name for one in figures):
        console.print(f"rival: {rival_name}")
    console.print(f"written to {write_results(chosen.results, run, figures)}", soft_wrap=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure Headrace beside Qdrant's own engine."
    )
    parser.add_argument("--points", type=int, default=DEFAULT_POINT_COUNT)
    parser.add_argument("--dim", type=int, default=DEFAULT_DIM)
    parser.add_argument("--queries", type=int, default=DEFAULT_QUERY_COUNT)
    parser.add_argument("--results", type=Path, default=RESULTS_FOLDER, help="where lines go")
    parser.add_argument(
        "--disk",
        type=Path,
        default=Path("build"),
        help="a folder on the disk to measure; what is written there is removed again",
    )
    return parser


def _table(figures: Sequence[Figure]) -> Table:
    table = Table("what", "ratio", "target", "headrace", "rival", "recall", "rival's")
    for one in figures:
        table.add_row(
            one.what,
            f"{one.ratio:.2f}",
            "-" if one.target is None else f"{one.target:g}",
            f"{one.headrace:,.0f} {one.unit}",
            f"{one.rival:,.0f} {one.unit}",
            *(
                "-" if recall is None else f"{recall:.4f}"
                for recall in (one.recall, one.rival_recall)
            ),
        )
    return table
