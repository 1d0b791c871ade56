"""What does a run measure, show and keep?"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.against_zvec import compare_with_zvec
from benchmarks.data import Dataset, make_dataset, make_text_dataset
from benchmarks.filling import compare_filling
from benchmarks.filtering import compare_filters
from benchmarks.freshness import compare_freshness
from benchmarks.ingest import compare_ingest
from benchmarks.opening import compare_opening
from benchmarks.results import RESULTS_FOLDER, Figure, describe_run, write_results
from benchmarks.searching import compare_searches
from benchmarks.serving import LoadGeneratorMissing, compare_serving
from benchmarks.sides import EdgeSide, HeadraceSide
from benchmarks.sparse import compare_sparse, make_sparse_data
from benchmarks.streaming import compare_streaming
from benchmarks.zvec_side import has_zvec

DEFAULT_POINT_COUNT = 100_000
DEFAULT_TEXT_COUNT = 200_000
DEFAULT_DIM = 128
DEFAULT_QUERY_COUNT = 400
DEFAULT_CALL_COUNT = 100
PARTS = ("synthetic", "text", "sparse", "ingest", "serving", "streaming", "freshness")
# Measured with "synthetic" and "text" too; by itself it saves their time.
_PARTS_OF_OTHERS = ("opening",)

# Records and floats of each: the ratio that is aimed at.
_STREAMS = {(50_000, 128): 0.5, (10_000, 1536): 0.6}
# What tells the maximum rate, and then comes again at half of it, for so long at most.
_STREAMED_POINTS = 200_000
_STREAM_S = 10.0

# Of a file, say, which has no width of its own.
_TABLE_WIDTH_MIN = 170

Tell = Callable[[str], None]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure once; show a table and write the lines."""
    chosen = _parser().parse_args(arguments)
    console = Console()
    console.width = max(console.width, _TABLE_WIDTH_MIN)
    run = describe_run()
    chosen.disk.mkdir(parents=True, exist_ok=True)
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="headrace-bench-", dir=chosen.disk) as folder:
        for part in chosen.only:
            figures += _measure(part, chosen, Path(folder) / part, console.print)
    console.print(table_of(figures))
    for rival_name in dict.fromkeys(one.rival_name for one in figures):
        console.print(f"rival: {rival_name}")
    console.print(f"written to {write_results(chosen.results, run, figures)}", soft_wrap=True)


def table_of(figures: Sequence[Figure]) -> Table:
    """The figures with a target, and those beside them, for a person."""
    table = Table("what", "data", "ratio", "target", "headrace", "rival", "recall", "rival's")
    for one in figures:
        table.add_row(
            one.what,
            one.data,
            f"{one.ratio:.2f}" if one.is_met else f"[red]{one.ratio:.2f}[/red]",
            "-" if one.target is None else f"{one.target:g}",
            f"{one.headrace:,.4g} {one.unit}",
            f"{one.rival:,.4g} {one.unit}",
            *(
                "-" if recall is None else f"{recall:.4f}"
                for recall in (one.recall, one.rival_recall)
            ),
        )
    return table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure Headrace beside its rivals."
    )
    parser.add_argument("--only", nargs="+", choices=(*PARTS, *_PARTS_OF_OTHERS), default=PARTS)
    parser.add_argument("--points", type=int, default=DEFAULT_POINT_COUNT)
    parser.add_argument("--dim", type=int, default=DEFAULT_DIM, help="of synthetic vectors")
    parser.add_argument("--texts", type=int, default=DEFAULT_TEXT_COUNT)
    parser.add_argument("--queries", type=int, default=DEFAULT_QUERY_COUNT)
    parser.add_argument(
        "--calls", type=int, default=DEFAULT_CALL_COUNT, help="of each figure with a filter"
    )
    parser.add_argument("--results", type=Path, default=RESULTS_FOLDER, help="where lines go")
    parser.add_argument(
        "--disk",
        type=Path,
        default=Path("build"),
        help="a folder on the disk to measure; what is written there is removed again, "
        "but for the embeddings of texts",
    )
    return parser


def _measure(part: str, chosen: argparse.Namespace, folder: Path, tell: Tell) -> list[Figure]:
    match part:
        case "sparse":
            sparse = make_sparse_data(chosen.points, chosen.queries)
            return [compare_sparse(sparse, folder)]
        case "ingest":
            dataset = make_dataset(chosen.points, chosen.dim, 1)
            return [compare_ingest(dataset, _described(dataset), folder)]
        case "serving":
            folder.mkdir()
            dataset = make_dataset(chosen.points, chosen.dim, chosen.queries)
            try:
                return [compare_serving(dataset, _described(dataset), folder, tell)]
            except LoadGeneratorMissing as error:
                tell(f"serving: left out: {error}")
                return []
        case "streaming":
            folder.mkdir()
            return list(_stream(chosen, folder, tell))
        case "freshness":
            folder.mkdir()
            return _fresh(chosen, folder, tell)
        case "opening":
            dataset = make_dataset(chosen.points, chosen.dim, chosen.queries)
            return _measure_opening(dataset, folder, tell)
        case "text":
            dataset = make_text_dataset(chosen.texts, chosen.queries, chosen.disk)
        case _:
            dataset = make_dataset(chosen.points, chosen.dim, chosen.queries)
    return _measure_dense(dataset, folder, chosen.calls, tell)


def _stream(chosen: argparse.Namespace, folder: Path, tell: Tell) -> Iterator[Figure]:
    for (points, dim), target in _STREAMS.items():
        dataset = make_dataset(min(points, chosen.points), dim, 1)
        yield compare_streaming(dataset, _described(dataset), folder / str(dim), target, tell)


def _fresh(chosen: argparse.Namespace, folder: Path, tell: Tell) -> list[Figure]:
    """Searches beside a stream into as many points as are stored before."""
    streamed = min(_STREAMED_POINTS, chosen.points)
    dataset = make_dataset(chosen.points + streamed, chosen.dim, chosen.queries)
    data = f"{dataset.name} {chosen.points:,} x {chosen.dim} stored"
    return compare_freshness(dataset, data, folder, chosen.points, _STREAM_S, tell)


def _measure_dense(dataset: Dataset, folder: Path, calls: int, tell: Tell) -> list[Figure]:
    data = _described(dataset)
    ours_folder, theirs_folder = folder / "headrace", folder / "edge"
    with (
        closing(HeadraceSide(ours_folder, dataset.dim)) as ours,
        closing(EdgeSide(theirs_folder, dataset.dim)) as theirs,
    ):
        figures = compare_filling(ours, theirs, dataset, data, tell)
        figures += compare_searches(ours, theirs, dataset, data, tell)
        if dataset.name == "text" and has_zvec():
            our_index_s = figures[1].headrace
            figures += compare_with_zvec(
                ours, our_index_s, dataset, data, folder / "zvec", calls, tell
            )
        figures += compare_filters(ours, theirs, dataset, data, calls)
    figures += compare_opening(ours_folder, theirs_folder, dataset, data, tell)
    tell(f"{data}: measured")
    return figures


def _measure_opening(dataset: Dataset, folder: Path, tell: Tell) -> list[Figure]:
    data = _described(dataset)
    ours_folder, theirs_folder = folder / "headrace", folder / "edge"
    with (
        closing(HeadraceSide(ours_folder, dataset.dim)) as ours,
        closing(EdgeSide(theirs_folder, dataset.dim)) as theirs,
    ):
        compare_filling(ours, theirs, dataset, data, tell)
    return compare_opening(ours_folder, theirs_folder, dataset, data, tell)


def _described(dataset: Dataset) -> str:
    return f"{dataset.name} {len(dataset.vectors):,} x {dataset.dim}"
