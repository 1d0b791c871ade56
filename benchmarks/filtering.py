"""How fast are filters: searches, counts, pages, facets, and writes by filter?

Each call has another filter, so no side answers from a cache of answers. With an index each
engine walks the least wide of some walks that finds 0.99 of the nearest. Without one, calls
are measured from the second on. Counts, pages and facets are exact on both sides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.data import NUMBERS, Dataset
from benchmarks.recall import exact_scores, recall_of
from benchmarks.results import Figure
from benchmarks.searching import CurvePoint, search_figure
from benchmarks.sides import PAGE_LIMIT, SEARCH_LIMIT, Bounds, EdgeSide, HeadraceSide, Searcher
from benchmarks.timing import Timed, alternate, in_block_order
from headrace.model.vectors import FloatMatrix, Mask

# By the share of points that pass, in per mille: the ratio that is aimed at.
SEARCH_TARGETS = {1: 1.1, 10: 1.3, 100: 2.5, 500: 2.0, 900: 1.5}
_RECALL_MIN = 0.99
# In small steps: what is above the wanted recall by a step too many counts against a side.
_WIDTHS = (16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 100, 128, 160, 200, 256, 320, 400, 560, 800)
_UNINDEXED_TARGET = 10.0
_UNINDEXED_CALLS_MIN = 12
_READ_TARGET = 2.0
_WRITE_TARGET = 3.0

# Filters of different figures differ by so little that they mean the same.
_FIGURE_STEP = 0.01
_CALL_STEP = 1e-6


def compare_filters(
    ours: HeadraceSide, theirs: EdgeSide, dataset: Dataset, data: str, calls: int
) -> list[Figure]:
    """Ask both filled engines the same.

    Args:
        ours, theirs: filled with `dataset`; at the end some payloads are changed.
        dataset: what is stored and asked.
        data: what figures call it.
        calls: how many calls a figure is taken of; an eighth, but not fewer than a dozen, where
            there is no index and the rival takes half a second for each.
    """
    scores = exact_scores(dataset.vectors, dataset.queries)
    figures: list[Figure] = []
    few = min(calls, max(_UNINDEXED_CALLS_MIN, calls // 8))
    for key, named, target, key_calls in (
        ("number", "indexed", None, calls),
        ("rank", "no index, second call on", _UNINDEXED_TARGET, few),
    ):
        for per_mille, indexed_target in SEARCH_TARGETS.items():
            what = f"search, {per_mille / 10:g}% pass, {named}"
            widths: tuple[int | None, int | None] = (None, None)
            if target is None:
                tried = asked_bounds(per_mille, key_calls, 10 + len(figures), key)
                widths = widths_for((ours, theirs), dataset, scores, tried, _RECALL_MIN)
                what += f", recall {_RECALL_MIN} or more"
            asked = asked_bounds(per_mille, key_calls, len(figures), key)
            figures.append(
                filtered_search_figure(
                    (ours, theirs),
                    dataset,
                    scores,
                    asked,
                    what,
                    target or indexed_target,
                    data,
                    widths,
                )
            )
        figures += _read_figures(ours, theirs, key_calls, key, named, data)
    figures += _facet_figures(ours, theirs, calls, data)
    figures.append(_write_figure(ours, theirs, len(dataset.vectors), data))
    return figures


def filtered_search_figure(
    sides: tuple[HeadraceSide, Searcher],
    dataset: Dataset,
    scores: FloatMatrix,
    asked: Sequence[Bounds],
    what: str,
    target: float,
    data: str,
    widths: tuple[int | None, int | None] = (None, None),
) -> Figure:
    """Search with a filter of each of the bounds.

    Args:
        sides: Headrace and a rival.
        dataset, scores: what is asked, and the true scores.
        asked: the filters; the first only warms.
        what, target, data: see `Figure`.
        widths: of the walks.
    """
    queries = [call % len(dataset.queries) for call in range(len(asked))]
    timed = alternate(
        [side.search for side in sides],
        [
            [
                (dataset.queries[query], bounds, width)
                for query, bounds in zip(queries, asked, strict=True)
            ]
            for width in widths
        ],
    )
    masks = masks_of(dataset, in_block_order(asked))
    of_query = [scores[query] for query in in_block_order(queries)]
    our, their = (
        CurvePoint(None, recall_of(SEARCH_LIMIT, one.answers, of_query, masks), one.seconds)
        for one in timed
    )
    return search_figure(what, our, their, target, sides[1].name, data)


def widths_for(
    sides: tuple[HeadraceSide, Searcher],
    dataset: Dataset,
    scores: FloatMatrix,
    asked: Sequence[Bounds],
    recall_min: float,
) -> tuple[int, int]:
    """For each engine the least wide of some walks that finds enough; the widest if none does."""
    ours, theirs = (_width_for(side, dataset, scores, asked, recall_min) for side in sides)
    return ours, theirs


def _width_for(
    side: Searcher,
    dataset: Dataset,
    scores: FloatMatrix,
    asked: Sequence[Bounds],
    recall_min: float,
) -> int:
    queries = [call % len(dataset.queries) for call in range(len(asked))]
    of_query = [scores[query] for query in queries]
    masks = masks_of(dataset, asked)
    for width in _WIDTHS:
        found = [
            side.search(dataset.queries[query], bounds, width)
            for query, bounds in zip(queries, asked, strict=True)
        ]
        if recall_of(SEARCH_LIMIT, found, of_query, masks) >= recall_min:
            return width
    return _WIDTHS[-1]


def masks_of(dataset: Dataset, asked: Sequence[Bounds]) -> list[Mask]:
    """Which points pass each filter."""
    values = np.array([payload[asked[0].key] for payload in dataset.payloads])
    return [(values >= one.low) & (values < one.high) for one in asked]


def asked_bounds(per_mille: int, calls: int, figure: int, key: str = "number") -> list[Bounds]:
    """Stretches of numbers that a share of the points has; each call's is another.

    Args:
        per_mille: the share.
        calls: how many; one more is given, to warm with.
        figure: another for each figure, so that none asks what another asked.
        key: the field.
    """
    width = NUMBERS * per_mille // 1000
    lows = [(call * 37) % (NUMBERS - width + 1) for call in range(calls + 1)]
    # Numbers are whole, so a bound a little lower is the same bound.
    lower = _FIGURE_STEP * (figure + 1)
    return [
        Bounds(low - lower - call * _CALL_STEP, low + width - lower, key)
        for call, low in enumerate(lows)
    ]


def _read_figures(
    ours: HeadraceSide, theirs: EdgeSide, calls: int, key: str, named: str, data: str
) -> Iterator[Figure]:
    target = _READ_TARGET if named == "indexed" else None
    for per_mille in SEARCH_TARGETS:
        share = f"{per_mille / 10:g}% pass, {named}"
        asked = [(bounds,) for bounds in asked_bounds(per_mille, calls, 20, key)]
        counted = alternate([ours.count, theirs.count], [asked, asked])
        assert counted[0].answers == counted[1].answers
        yield _read_figure(f"count, {share}", target, counted, theirs.name, data)
        asked = [(bounds,) for bounds in asked_bounds(per_mille, calls, 21, key)]
        paged = alternate([ours.page, theirs.page], [asked, asked])
        assert paged[0].answers == paged[1].answers
        what = f"scroll of {PAGE_LIMIT} with payloads, {share}"
        yield _read_figure(what, target, paged, theirs.name, data)


def _facet_figures(ours: HeadraceSide, theirs: EdgeSide, calls: int, data: str) -> Iterator[Figure]:
    for per_mille in (1, 100, None):
        asked: list[tuple[Bounds | None]] = [(None,)] * (1 + min(calls, 12))
        share = "no filter"
        if per_mille is not None:
            asked = [(bounds,) for bounds in asked_bounds(per_mille, calls, 22)]
            share = f"{per_mille / 10:g}% pass"
        timed = alternate([ours.facet, theirs.facet], [asked, asked])
        for our, their in zip(timed[0].answers, timed[1].answers, strict=True):
            assert sorted(our.values()) == sorted(their.values())
        what = f"facet of 100 values, exact, {share}, indexed"
        yield _read_figure(what, _READ_TARGET, timed, theirs.name, data)


def _write_figure(ours: HeadraceSide, theirs: EdgeSide, point_count: int, data: str) -> Figure:
    """Ten thousand points, or a tenth of them if there are fewer than a hundred thousand."""
    width = min(NUMBERS // 10, max(1, 10_000 * NUMBERS // point_count))
    asked = [(Bounds(low, low + width),) for low in range(0, 9 * width, width)]
    timed = alternate([ours.set_payload, theirs.set_payload], [asked, asked])
    what = f"set_payload on {point_count * width // NUMBERS:,} points by filter"
    return _read_figure(what, _WRITE_TARGET, timed, f"{theirs.name}, not synced", data)


def _read_figure(
    what: str, target: float | None, timed: Sequence[Timed], rival_name: str, data: str
) -> Figure:
    our_s, their_s = (one.seconds for one in timed)
    return Figure(
        what=what,
        ratio=their_s / our_s,
        target=target,
        better="higher",
        unit="calls/s",
        headrace=1 / our_s,
        rival=1 / their_s,
        rival_name=rival_name,
        data=data,
    )
