"""`python -m benchmarks.report`: `docs/benchmarks.md` and its plots, from the results.

Of each figure the newest result counts, so a part that was measured again replaces that part
alone. Nothing is written that is not in a results file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.plots import Axis, Line, plot
from benchmarks.results import RESULTS_FOLDER, Figure, Run, read_results

DOCS_FOLDER = Path(__file__).parent.parent / "docs"
PAGE_NAME = "benchmarks.md"
PLOTS_NAME = "benchmarks"

_WIDTHS = re.compile(r"^search, no filter, width ")
_POINTS = re.compile(r"^synthetic ([0-9,]+) x ")
_AT_RECALL = "search, no filter, at recall 0.99"
_INDEXED = "time from the first point until everything is indexed, default parameters"

_INTRODUCTION = """\
# Benchmarks

Written by `python -m benchmarks.report` from the files in `benchmarks/results`; `make bench` \
measures (about 12 minutes on two cores), `make bench-large` measures a million vectors.

Figures are ratios to a rival that was measured in the same run, in turn, a block of calls \
each; no absolute time is worth quoting from another machine, and no speed without its recall \
(recall@10 against exact, ties counted as found). `qdrant-edge-py` is Qdrant's own engine in \
process, zvec the fastest other embedded engine that we found. All searches use one thread, and \
are timed from the call in Python to the ids in Python. Headrace syncs its writes; the rivals do \
not. *synthetic* are clustered vectors of low intrinsic dimension, *text* are sentences from the \
docstrings of installed Python packages, embedded by wordllama. A ratio in bold misses its target.
"""


class Result(NamedTuple):
    """A figure and the run it is of."""

    run: Run
    figure: Figure


def newest_results(folder: Path) -> list[Result]:
    """Of each figure the newest, in the order of their runs and lines."""
    newest: dict[tuple[str, str, str], Result] = {}
    for path in sorted(folder.glob("*.jsonl")):
        run, figures = read_results(path)
        for figure in figures:
            key = (figure.what, figure.data, figure.rival_name.partition(" ")[0])
            newest.pop(key, None)
            newest[key] = Result(run, figure)
    return list(newest.values())


def write_report(results: Sequence[Result], docs: Path) -> None:
    """Write the page and the plots it shows; plots that it no longer shows are removed."""
    plots = _plots([result.figure for result in results])
    folder = docs / PLOTS_NAME
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.svg"):
        path.unlink()
    for name, drawn in plots.items():
        (folder / f"{name}.svg").write_text(drawn, encoding="utf-8")
    (docs / PAGE_NAME).write_text(_page(results, plots), encoding="utf-8")


def _page(results: Sequence[Result], plots: Mapping[str, str]) -> str:
    parts = [_INTRODUCTION]
    for data in dict.fromkeys(result.figure.data for result in results):
        shown = [
            result.figure
            for result in results
            if result.figure.data == data and not _WIDTHS.match(result.figure.what)
        ]
        parts.append(f"## {data}\n\n{_table(shown)}\n")
    if plots:
        pictures = [f"![{name}]({PLOTS_NAME}/{name}.svg)" for name in plots]
        parts.append("## Plots\n\n" + "\n\n".join(pictures) + "\n")
    runs = dict.fromkeys(result.run for result in results)
    lines = [f"- {run.started_at}, commit `{run.commit}`, {run.machine}" for run in runs]
    parts.append("## Runs\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def _table(figures: Sequence[Figure]) -> str:
    lines = [
        "| what | ratio | target | headrace | rival | recall | rival's |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in figures:
        ratio = f"{one.ratio:,.2f}" if one.is_met else f"**{one.ratio:,.2f}**"
        recalls = [
            "" if recall is None else f"{recall:.3f}" for recall in (one.recall, one.rival_recall)
        ]
        sign = "at least" if one.better == "higher" else "at most"
        target = "" if one.target is None else f"{sign} {one.target:g}"
        raw = f"{one.headrace:,.4g} {one.unit} | {one.rival:,.4g} {one.unit} ({one.rival_name})"
        lines.append(f"| {one.what} | {ratio} | {target} | {raw} | {' | '.join(recalls)} |")
    return "\n".join(lines)


def _plots(figures: Sequence[Figure]) -> dict[str, str]:
    plots = {}
    for data in dict.fromkeys(one.data for one in figures):
        widths = [one for one in figures if one.data == data and _WIDTHS.match(one.what)]
        if widths:
            name = f"recall-{data.partition(' ')[0]}-{data.split()[1].replace(',', '')}"
            plots[name] = plot(
                f"Recall and speed, no filter, {data}",
                Axis("recall@10"),
                Axis("queries a second", is_logarithmic=True),
                [
                    Line("headrace", [(one.recall or 0, one.headrace) for one in widths]),
                    Line(
                        widths[0].rival_name, [(one.rival_recall or 0, one.rival) for one in widths]
                    ),
                ],
            )
    for name, what, label in (
        ("growth-search", _AT_RECALL, "queries a second at recall 0.99"),
        ("growth-indexing", _INDEXED, "seconds until indexed"),
    ):
        grown = sorted(
            ((_points_of(one), one) for one in figures if _is_grown(one, what)),
            key=lambda item: item[0],
        )
        if len(grown) > 1:
            plots[name] = plot(
                "Growth, synthetic vectors",
                Axis("points", is_logarithmic=True),
                Axis(label, is_logarithmic=True),
                [
                    Line("headrace", [(points, one.headrace) for points, one in grown]),
                    Line("qdrant-edge-py", [(points, one.rival) for points, one in grown]),
                ],
            )
    return plots


def _is_grown(figure: Figure, what: str) -> bool:
    return figure.what == what and _POINTS.match(figure.data) is not None


def _points_of(figure: Figure) -> int:
    found = _POINTS.match(figure.data)
    assert found is not None
    return int(found.group(1).replace(",", ""))


def main() -> None:
    """Write the page from all results that are kept."""
    write_report(newest_results(RESULTS_FOLDER), DOCS_FOLDER)


if __name__ == "__main__":
    main()
