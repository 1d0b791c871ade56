"""`python -m benchmarks.filters`: filters, counts, pages, facets and payload writes, in one run.

Headrace through its service, Qdrant's engine through its Python interface; both with a
payload index and without. Each call has another filter, so no side answers from a cache of
answers; without an index, calls are measured from the second on. One thread on both sides.
Pages end as Python objects on both sides. Facets and counts are exact on both sides.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[_variable] = "1"

import numpy as np
import orjson
import qdrant_edge as edge
from rich.console import Console
from rich.table import Table

from benchmarks.data import Dataset, make_dataset
from benchmarks.results import RESULTS_FOLDER, Figure, describe_run, write_results
from benchmarks.rooms import exact_scores
from headrace.model.collection_config import (
    CollectionConfig,
    PayloadFieldSchema,
    PayloadFieldType,
    VectorParams,
)
from headrace.model.filters import FieldCondition, Filter, Range
from headrace.model.operations import CreatePayloadIndex, PointSelector, SetPayload
from headrace.model.points import PointStruct
from headrace.model.queries import Facet, Nearest, Query, Scroll
from headrace.model.upserts import build_upsert
from headrace.model.vectors import Distance, FloatMatrix
from headrace.service.service import Service

_RIVAL = f"qdrant-edge-py {version('qdrant-edge-py')}"
_COLLECTION = "bench"
_BATCH_POINTS = 1000
_SEARCH_LIMIT = 10
_PAGE_LIMIT = 100
_BUILD_SECONDS_MAX = 3600
# With Qdrant's default `indexing_threshold` and vectors 128 wide.
_GRAPH_POINTS_MIN = 20_000
_TIE_TOLERANCE = 1e-5
# Values of `number` are 0 to 999, equally often.
_NUMBERS = 1000
_INDEXES = {"number": "integer", "kind": "keyword"}

# By the share of points that pass, in per mille: the ratio that is aimed at with an index.
_SEARCH_TARGETS = {1: 1.1, 10: 1.3, 100: 2.5, 500: 2.0, 900: 1.5}
_UNINDEXED_TARGET = 10.0
_READ_TARGET = 2.0
_WRITE_TARGET = 3.0


@dataclass(frozen=True)
class Bounds:
    """`number` from `low` on, below `high`."""

    low: float
    high: float


class HeadraceSide:
    """Headrace, filled."""

    def __init__(self, dataset: Dataset, folder: Path, is_indexed: bool) -> None:
        self.service = Service.open(folder)
        config = CollectionConfig({"": VectorParams(dataset.vectors.shape[1], Distance.COSINE)})
        self.service.create_collection(_COLLECTION, config)
        if is_indexed:
            for key, data_type in _INDEXES.items():
                schema = PayloadFieldSchema(PayloadFieldType(data_type))
                self.service.write(_COLLECTION, [CreatePayloadIndex(key, schema)])
        for begin in range(0, len(dataset.vectors), _BATCH_POINTS):
            points = [
                PointStruct(i, {"": dataset.vectors[i]}, orjson.dumps(dataset.payloads[i]))
                for i in dataset.ids[begin : begin + _BATCH_POINTS]
            ]
            self.service.write(_COLLECTION, [build_upsert(points, config)])
        self._wait_until_indexed(len(dataset.vectors))

    def search(self, vector: Any, bounds: Bounds) -> list[Any]:
        query = Query(Nearest(vector), filter=_our_filter(bounds), limit=_SEARCH_LIMIT)
        return [point.record.id for point in self.service.query(_COLLECTION, query)]

    def count(self, bounds: Bounds) -> int:
        return self.service.count(_COLLECTION, _our_filter(bounds))

    def page(self, bounds: Bounds) -> list[Any]:
        scroll = Scroll(limit=_PAGE_LIMIT, filter=_our_filter(bounds))
        records = self.service.scroll(_COLLECTION, scroll).records
        return [(record.id, orjson.loads(record.payload or b"{}")) for record in records]

    def facet(self, bounds: Bounds | None) -> dict[Any, int]:
        filter = None if bounds is None else _our_filter(bounds)
        hits = self.service.facet(_COLLECTION, Facet("kind", filter))
        return {hit.value: hit.count for hit in hits}

    def set_payload(self, bounds: Bounds) -> None:
        selector = PointSelector(filter=_our_filter(bounds))
        self.service.write(_COLLECTION, [SetPayload(selector, b'{"note":"new"}')])

    def close(self) -> None:
        self.service.close()

    def _wait_until_indexed(self, count: int) -> None:
        """Until graphs cover all points; a small collection gets none."""
        deadline = time.monotonic() + _BUILD_SECONDS_MAX
        while count >= _GRAPH_POINTS_MIN and time.monotonic() < deadline:
            if self.service.collection_info(_COLLECTION).indexed_vectors_count == count:
                return
            time.sleep(0.5)


class EdgeSide:
    """Qdrant's own engine, filled and optimized."""

    def __init__(self, dataset: Dataset, folder: Path, is_indexed: bool) -> None:
        folder.mkdir(parents=True)
        vectors = edge.EdgeVectorParams(
            size=dataset.vectors.shape[1], distance=edge.Distance.Cosine
        )
        config = edge.EdgeConfig(vectors=vectors, max_search_threads=1)
        self._shard = edge.EdgeShard.create(str(folder), config)
        if is_indexed:
            for key, data_type in _INDEXES.items():
                schema = getattr(edge.PayloadSchemaType, data_type.capitalize())
                self._shard.update(edge.UpdateOperation.create_field_index(key, schema))
        for begin in range(0, len(dataset.vectors), _BATCH_POINTS):
            batch = dataset.ids[begin : begin + _BATCH_POINTS]
            points = [
                edge.Point(i, dataset.vectors[i].tolist(), dataset.payloads[i]) for i in batch
            ]
            self._shard.update(edge.UpdateOperation.upsert_points(points))
        self._shard.optimize()

    def search(self, vector: Any, bounds: Bounds) -> list[Any]:
        request = edge.QueryRequest(
            query=edge.Query.Nearest(vector.tolist()),
            filter=_their_filter(bounds),
            limit=_SEARCH_LIMIT,
        )
        return [point.id for point in self._shard.query(request)]

    def count(self, bounds: Bounds) -> int:
        return int(self._shard.count(edge.CountRequest(exact=True, filter=_their_filter(bounds))))

    def page(self, bounds: Bounds) -> list[Any]:
        request = edge.ScrollRequest(
            limit=_PAGE_LIMIT, filter=_their_filter(bounds), with_payload=True, with_vector=False
        )
        return [(record.id, record.payload) for record in self._shard.scroll(request)[0]]

    def facet(self, bounds: Bounds | None) -> dict[Any, int]:
        filter = None if bounds is None else _their_filter(bounds)
        answer = self._shard.facet(edge.FacetRequest("kind", limit=10, exact=True, filter=filter))
        return {hit.value: hit.count for hit in answer.hits}

    def set_payload(self, bounds: Bounds) -> None:
        self._shard.update(
            edge.UpdateOperation.set_payload_by_filter(_their_filter(bounds), {"note": "new"})
        )

    def close(self) -> None:
        self._shard.close()


Side = HeadraceSide | EdgeSide


def compare_filters(
    dataset: Dataset, folder: Path, calls: int, tell: Callable[[str], None]
) -> list[Figure]:
    """Fill both engines, with indexes and without, and ask both the same.

    Args:
        dataset: what is stored and asked.
        folder: an empty folder.
        calls: how many calls the median of a figure is taken of.
        tell: called with a line when a part is done.
    """
    scores = exact_scores(dataset.vectors, dataset.queries)
    figures: list[Figure] = []
    for is_indexed in (True, False):
        name = "indexed" if is_indexed else "not indexed"
        with _filled(dataset, folder / name, is_indexed) as (ours, theirs):
            tell(f"{name}: both filled")
            figures += _search_figures(ours, theirs, dataset, scores, is_indexed, calls)
            figures += _read_figures(ours, theirs, is_indexed, calls)
            if is_indexed:
                figures += _facet_figures(ours, theirs, calls)
                figures += _write_figures(ours, theirs)
            tell(f"{name}: measured")
    return figures


@contextmanager
def _filled(dataset: Dataset, folder: Path, is_indexed: bool) -> Iterator[tuple[Side, Side]]:
    ours = HeadraceSide(dataset, folder / "headrace", is_indexed)
    try:
        theirs = EdgeSide(dataset, folder / "edge", is_indexed)
        try:
            yield ours, theirs
        finally:
            theirs.close()
    finally:
        ours.close()


def _search_figures(
    ours: Side,
    theirs: Side,
    dataset: Dataset,
    scores: FloatMatrix,
    is_indexed: bool,
    calls: int,
) -> Iterator[Figure]:
    for per_mille, target in _SEARCH_TARGETS.items():
        asked = _asked(per_mille, calls, 0)
        vectors = [dataset.queries[n % len(dataset.queries)] for n in range(len(asked))]
        recalls, seconds = [], []
        for side in (ours, theirs):
            found, median_s = _measured(side.search, list(zip(vectors, asked, strict=True)))
            recalls.append(_recall(found, asked, dataset, scores))
            seconds.append(median_s)
        yield _figure(
            f"search, {per_mille / 10:g}% pass, {_name(is_indexed)}",
            target if is_indexed else _UNINDEXED_TARGET,
            *seconds,
            *recalls,
        )


def _read_figures(ours: Side, theirs: Side, is_indexed: bool, calls: int) -> Iterator[Figure]:
    target = _READ_TARGET if is_indexed else _UNINDEXED_TARGET
    for per_mille in _SEARCH_TARGETS:
        asked = [(bounds,) for bounds in _asked(per_mille, calls, 1)]
        share = f"{per_mille / 10:g}% pass, {_name(is_indexed)}"
        counts, counted_s = zip(
            *(_measured(side.count, asked) for side in (ours, theirs)), strict=True
        )
        assert counts[0] == counts[1]
        yield _figure(f"count, {share}", target, *counted_s)
        asked = [(bounds,) for bounds in _asked(per_mille, calls, 2)]
        pages, paged_s = zip(*(_measured(side.page, asked) for side in (ours, theirs)), strict=True)
        assert pages[0] == pages[1]
        yield _figure(f"scroll of {_PAGE_LIMIT} with payloads, {share}", target, *paged_s)


def _facet_figures(ours: Side, theirs: Side, calls: int) -> Iterator[Figure]:
    for per_mille in (1, 100, None):
        asked: list[tuple[Bounds | None]] = [(None,)] * (1 + min(calls, 10))
        share = "no filter"
        if per_mille is not None:
            asked = [(bounds,) for bounds in _asked(per_mille, calls, 3)]
            share = f"{per_mille / 10:g}% pass"
        hits, seconds = zip(*(_measured(side.facet, asked) for side in (ours, theirs)), strict=True)
        assert all(
            sorted(a.values()) == sorted(b.values()) for a, b in zip(hits[0], hits[1], strict=True)
        )
        yield _figure(f"facet of 100 values, exact, {share}, indexed", _READ_TARGET, *seconds)


def _write_figures(ours: Side, theirs: Side) -> Iterator[Figure]:
    asked = [(Bounds(low, low + _NUMBERS // 10),) for low in (0, 200, 400, 600)]
    seconds = [_measured(side.set_payload, asked)[1] for side in (ours, theirs)]
    yield _figure("set_payload on a tenth of the points by filter", _WRITE_TARGET, *seconds)


def _asked(per_mille: int, calls: int, figure: int) -> list[Bounds]:
    """Stretches of numbers that a share of the points has; each call's is another.

    Args:
        per_mille: the share.
        calls: how many; one more is given, to warm with.
        figure: another for each figure, so that none asks what another asked.
    """
    width = _NUMBERS * per_mille // 1000
    lows = [(call * 37) % (_NUMBERS - width + 1) for call in range(calls + 1)]
    # Numbers are whole, so a bound a little lower is the same bound.
    lower = 0.01 * (figure + 1)
    return [Bounds(low - lower - call * 1e-4, low + width - lower) for call, low in enumerate(lows)]


def _measured(ask: Callable[..., Any], asked: Sequence[tuple[Any, ...]]) -> tuple[list[Any], float]:
    """The answers, and the median seconds of a call; the first only warms what is needed."""
    ask(*asked[0])
    answers, seconds = [], []
    for arguments in asked[1:]:
        started = time.perf_counter()
        answers.append(ask(*arguments))
        seconds.append(time.perf_counter() - started)
    return answers, float(np.median(seconds))


def _recall(
    found: Sequence[Sequence[int]],
    asked: Sequence[Bounds],
    dataset: Dataset,
    scores: FloatMatrix,
) -> float:
    """The part of the nearest points that pass which was found, tolerant of ties."""
    numbers = np.array([payload["number"] for payload in dataset.payloads])
    right = wanted = 0
    for call, (ids, bounds) in enumerate(zip(found, asked[1:], strict=True), start=1):
        passes = (numbers >= bounds.low) & (numbers < bounds.high)
        of_query = np.where(passes, scores[call % len(dataset.queries)], -np.inf)
        count = min(_SEARCH_LIMIT, int(passes.sum()))
        worst_right = np.partition(of_query, -count)[-count] - _TIE_TOLERANCE
        right += int((of_query[list(ids)] >= worst_right).sum())
        wanted += count
    return right / wanted


def _figure(
    what: str,
    target: float,
    ours_s: float,
    theirs_s: float,
    recall: float | None = None,
    rival_recall: float | None = None,
) -> Figure:
    return Figure(
        what=what,
        ratio=theirs_s / ours_s,
        target=target,
        better="higher",
        unit="calls/s",
        headrace=1 / ours_s,
        rival=1 / theirs_s,
        rival_name=_RIVAL,
        recall=recall,
        rival_recall=rival_recall,
    )


def _name(is_indexed: bool) -> str:
    return "indexed" if is_indexed else "no index, second call on"


def _our_filter(bounds: Bounds) -> Filter:
    between = Range(gte=float(bounds.low), lt=float(bounds.high))
    return Filter(must=(FieldCondition("number", range=between),))


def _their_filter(bounds: Bounds) -> Any:
    between = edge.RangeFloat(gte=bounds.low, lt=bounds.high)
    return edge.Filter(must=[edge.FieldCondition(key="number", range=between)])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure everything once, at one size."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.filters", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--calls", type=int, default=50, help="calls that a median is taken of")
    parser.add_argument("--results", type=Path, default=RESULTS_FOLDER, help="where lines go")
    chosen = parser.parse_args(arguments)
    console = Console()
    run = describe_run(chosen.points, chosen.dim)
    dataset = make_dataset(chosen.points, chosen.dim, 200)
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        figures = compare_filters(dataset, Path(folder), chosen.calls, console.print)
    table = Table("what", "ratio", "target", "headrace", "rival", "recall", "rival's")
    for one in figures:
        recalls = [
            "-" if recall is None else f"{recall:.3f}" for recall in (one.recall, one.rival_recall)
        ]
        raw = (f"{one.headrace:,.0f} {one.unit}", f"{one.rival:,.0f} {one.unit}")
        table.add_row(one.what, f"{one.ratio:.2f}", f"{one.target:g}", *raw, *recalls)
    console.print(table)
    console.print(f"rival: {_RIVAL}")
    console.print(f"written to {write_results(chosen.results, run, figures)}", soft_wrap=True)


if __name__ == "__main__":
    main()
