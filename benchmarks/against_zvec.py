"""How does Headrace compare with zvec, on real text?

Neither zvec nor Headrace is tuned to a query: for each recall the width is read off a
curve, and with a filter each engine walks the least wide of some widths that finds 0.98 of
the nearest.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.data import Dataset
from benchmarks.filtering import asked_bounds, filtered_search_figure, widths_for
from benchmarks.recall import exact_scores
from benchmarks.results import Figure
from benchmarks.searching import at_equal_recall, curve_in_words, measure_curves
from benchmarks.sides import HeadraceSide
from benchmarks.timing import seconds_of
from benchmarks.zvec_side import ZvecSide

_OUR_WIDTHS = (16, 24, 32, 48, 64, 100, 160, 256, 400)
_THEIR_WIDTHS = (10, 16, 24, 32, 48, 64, 100, 160, 256)
_RECALL_TARGETS = {0.95: 1.0, 0.97: 1.0}
_FILTER_TARGETS = {1: 4.0, 10: 4.0, 100: 4.0, 500: 1.0}
_FILTER_RECALL_MIN = 0.98
_BUILD_TARGET = 0.8


def compare_with_zvec(
    ours: HeadraceSide,
    our_index_s: float,
    dataset: Dataset,
    data: str,
    folder: Path,
    calls: int,
    tell: Callable[[str], None],
) -> list[Figure]:
    """Fill zvec and ask both.

    Args:
        ours: filled with `dataset`.
        our_index_s: how long it took from the first point until all was indexed.
        dataset, data: what is asked, and its name in figures.
        folder: does not exist yet.
        calls: how many calls a figure is taken of.
        tell: called with a line when a part is done.
    """
    theirs = ZvecSide(folder, dataset.dim)
    try:
        their_index_s = seconds_of(lambda: theirs.upsert_all(dataset))
        their_index_s += seconds_of(theirs.wait_until_indexed)
        tell(f"{theirs.name}: {data} stored and optimized in {their_index_s:.1f} s")
        figures = [_build_figure(our_index_s, their_index_s, theirs.name, data)]
        (_, *our_curve), (_, *their_curve) = measure_curves(
            (ours, theirs), (_OUR_WIDTHS, _THEIR_WIDTHS), dataset
        )
        tell(f"{data}: {curve_in_words(theirs.name, their_curve)}")
        figures += at_equal_recall(our_curve, their_curve, _RECALL_TARGETS, theirs.name, data)
        scores = exact_scores(dataset.vectors, dataset.queries)
        for number, (per_mille, target) in enumerate(_FILTER_TARGETS.items()):
            asked = asked_bounds(per_mille, calls, 30 + number)
            widths = widths_for((ours, theirs), dataset, scores, asked, _FILTER_RECALL_MIN)
            figures.append(
                filtered_search_figure(
                    (ours, theirs),
                    dataset,
                    scores,
                    asked_bounds(per_mille, calls, 50 + number),
                    f"search, {per_mille / 10:g}% pass, recall {_FILTER_RECALL_MIN} or more",
                    target,
                    data,
                    widths,
                )
            )
        return figures
    finally:
        theirs.close()


def _build_figure(ours_s: float, theirs_s: float, rival_name: str, data: str) -> Figure:
    return Figure(
        what="time from the first point until everything is indexed, default parameters",
        ratio=theirs_s / ours_s,
        target=_BUILD_TARGET,
        better="higher",
        unit="s",
        headrace=ours_s,
        rival=theirs_s,
        rival_name=rival_name,
        data=data,
    )
