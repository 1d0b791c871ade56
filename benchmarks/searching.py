"""How fast is a search without a filter, at which recall?

Both engines are searched at many widths; between these, the time at a recall is read off
the curve through its points. One search thread on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks.data import Dataset
from benchmarks.recall import exact_scores, recall_of
from benchmarks.results import Figure
from benchmarks.sides import SEARCH_LIMIT, EdgeSide, HeadraceSide, Searcher
from benchmarks.timing import BLOCKS, alternate, in_block_order

_OUR_WIDTHS = (8, 16, 24, 32, 48, 64, 100, 160, 256, 400)
_THEIR_WIDTHS = (16, 24, 32, 48, 64, 100, 160, 256, 400)
_TARGETS = {
    "synthetic": {0.99: 1.5},
    "text": {0.94: 1.5, 0.965: 1.5},
}


class CurvePoint(NamedTuple):
    """What one width gives: recall@10 and the median time of a search."""

    width: int | None
    recall: float
    seconds: float


def compare_searches(
    ours: HeadraceSide,
    theirs: EdgeSide,
    dataset: Dataset,
    data: str,
    tell: Callable[[str], None],
) -> list[Figure]:
    """Search by defaults, at equal recall, and exactly."""
    both = measure_curves((ours, theirs), (_OUR_WIDTHS, _THEIR_WIDTHS), dataset)
    (our_default, *our_curve), (their_default, *their_curve) = both
    tell(f"{data}: {curve_in_words(ours.name, our_curve)}")
    tell(f"{data}: {curve_in_words(theirs.name, their_curve)}")
    what = "search, no filter, default parameters"
    figures = [search_figure(what, our_default, their_default, None, theirs.name, data)]
    figures += at_equal_recall(our_curve, their_curve, _TARGETS[dataset.name], theirs.name, data)
    figures += curve_figures(our_curve, their_curve, theirs.name, data)
    figures.append(_exact_figure(ours, theirs, dataset, data))
    return figures


def measure_curves(
    sides: Sequence[Searcher],
    widths: Sequence[Sequence[int]],
    dataset: Dataset,
) -> list[list[CurvePoint]]:
    """For each engine its default and all its widths, measured in turn."""
    scores = exact_scores(dataset.vectors, dataset.queries)
    numbers = [0, *range(len(dataset.queries))]
    ordered = in_block_order(numbers)
    curves: list[list[CurvePoint]] = [[] for _ in sides]
    steps = max(len(of_side) for of_side in widths)
    for step in range(steps + 1):
        chosen = [None if not step else of_side[min(step, len(of_side)) - 1] for of_side in widths]
        asked = [[(dataset.queries[number], None, width) for number in numbers] for width in chosen]
        timed = alternate([side.search for side in sides], asked)
        for curve, one, width in zip(curves, timed, chosen, strict=True):
            recall = recall_of(SEARCH_LIMIT, one.answers, [scores[number] for number in ordered])
            if not curve or width != curve[-1].width:
                curve.append(CurvePoint(width, recall, one.seconds))
    return curves


def seconds_at(recall: float, curve: Sequence[CurvePoint]) -> float | None:
    """The time at which a recall is reached, between the measured widths; None if never."""
    before: CurvePoint | None = None
    for point in curve:
        if point.recall >= recall:
            if before is None or point.recall == before.recall:
                return point.seconds
            part = (recall - before.recall) / (point.recall - before.recall)
            return before.seconds + part * (point.seconds - before.seconds)
        before = point
    return None


def at_equal_recall(
    our_curve: Sequence[CurvePoint],
    their_curve: Sequence[CurvePoint],
    targets: dict[float, float],
    rival_name: str,
    data: str,
) -> list[Figure]:
    """One figure for each recall that both reach."""
    figures = []
    for recall, target in targets.items():
        our_s, their_s = seconds_at(recall, our_curve), seconds_at(recall, their_curve)
        if our_s is not None and their_s is not None:
            what = f"search, no filter, at recall {recall}"
            pair = CurvePoint(None, recall, our_s), CurvePoint(None, recall, their_s)
            figures.append(search_figure(what, *pair, target, rival_name, data))
    return figures


def curve_figures(
    our_curve: Sequence[CurvePoint], their_curve: Sequence[CurvePoint], rival_name: str, data: str
) -> list[Figure]:
    """The curves themselves, one figure for each pair of widths, as plots take them."""
    return [
        search_figure(
            f"search, no filter, width {our.width} and {their.width}",
            our,
            their,
            None,
            rival_name,
            data,
        )
        for our, their in zip(our_curve, their_curve, strict=False)
    ]


def search_figure(
    what: str,
    our: CurvePoint,
    their: CurvePoint,
    target: float | None,
    rival_name: str,
    data: str,
) -> Figure:
    """Queries a second, with recall."""
    return Figure(
        what=what,
        ratio=their.seconds / our.seconds,
        target=target,
        better="higher",
        unit="queries/s",
        headrace=1 / our.seconds,
        rival=1 / their.seconds,
        rival_name=rival_name,
        data=data,
        recall=our.recall,
        rival_recall=their.recall,
    )


def curve_in_words(name: str, curve: Sequence[CurvePoint]) -> str:
    """A curve as a line of text."""
    points = (f"{point.recall:.4f} in {point.seconds * 1e6:.0f} us" for point in curve)
    return f"{name}: " + ", ".join(points)


def _exact_figure(ours: HeadraceSide, theirs: EdgeSide, dataset: Dataset, data: str) -> Figure:
    numbers = [0, *range(min(len(dataset.queries), 10 * BLOCKS))]
    asked = [(dataset.queries[number],) for number in numbers]
    timed = alternate([ours.search_exactly, theirs.search_exactly], [asked, asked])
    scores = exact_scores(dataset.vectors, dataset.queries)
    of_query = [scores[number] for number in in_block_order(numbers)]
    our, their = (
        CurvePoint(None, recall_of(SEARCH_LIMIT, one.answers, of_query), one.seconds)
        for one in timed
    )
    return search_figure("search, no filter, exact", our, their, None, theirs.name, data)
