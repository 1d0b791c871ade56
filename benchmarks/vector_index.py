"""`python -m benchmarks.vector_index`: graphs alone, beside Qdrant's, in one run.

Build time; search by width, with recall; the time at equal recall; search with a filter
that leaves a share of the points. Our side is `IndexedVectors` called from Python with a
mask made from a column; the rival's is a shard with an indexed integer field. One search
thread on both sides.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":
    for _variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[_variable] = "1"

import numpy as np
import qdrant_edge as edge
from rich.console import Console
from rich.table import Table

from benchmarks.data import make_dataset
from benchmarks.results import RESULTS_FOLDER, Figure, describe_run, write_results
from headrace.engine.vector_index.builder import IndexBuilder
from headrace.engine.vector_index.indexed_vectors import IndexedVectors
from headrace.engine.vectors.distances import normalised
from headrace.model.collection_config import CollectionConfig, VectorParams
from headrace.model.queries import SearchParams
from headrace.model.vectors import DenseBatch, Distance, FloatMatrix, FloatVector, Rows

SEARCH_LIMIT = 10
_WIDTHS = (32, 48, 64, 100, 128, 192, 256, 400)
_RECALLS = (0.95, 0.97, 0.99, 0.995)
_SHARES_PER_MILLE = (1, 10, 100, 500, 900)
_SHARE_TARGETS = {1: 1.1, 10: 1.3, 100: 2.5, 500: 2.0, 900: 1.5}
_BATCH_POINTS = 1000
_BUILD_SECONDS_MAX = 3600
_TIE_TOLERANCE = 1e-5
_RIVAL = f"qdrant-edge-py {version('qdrant-edge-py')}"

Search = Callable[[FloatVector], Sequence[int]]


class Curve(NamedTuple):
    """What one width gives: recall@10 and the median time of a search."""

    width: int | None
    recall: float
    search_us: float


def compare_graphs(
    vectors: FloatMatrix, queries: FloatMatrix, folder: Path, tell: Callable[[str], None]
) -> list[Figure]:
    """Build both, then search both in turn.

    Args:
        vectors, queries: normalised.
        folder: empty, for the rival's files.
        tell: called with a line when a part is done.
    """
    numbers = np.random.default_rng(1).permutation(len(vectors)) % 1000
    builder = IndexBuilder()
    try:
        store, ours_s = build_headrace(vectors, builder)
        tell(f"headrace: indexed after {ours_s:.1f} s")
        shard, theirs_s = build_edge(vectors, numbers, folder)
        tell(f"{_RIVAL}: indexed after {theirs_s:.1f} s")
        figures = [_build_figure(ours_s, theirs_s, len(vectors))]
        figures += _compare_searches(store, shard, vectors, queries, tell)
        figures += _compare_filters(store, shard, numbers, vectors, queries)
        shard.close()
    finally:
        builder.close()
    return figures


def build_headrace(vectors: FloatMatrix, builder: IndexBuilder) -> tuple[IndexedVectors, float]:
    """A store that is done indexing, and the seconds from its first vector to then."""
    params = VectorParams(vectors.shape[1], Distance.COSINE)
    store = IndexedVectors(params, CollectionConfig(), builder)
    live = np.ones(len(vectors), dtype=np.bool_)
    started = time.perf_counter()
    for begin in range(0, len(vectors), _BATCH_POINTS):
        batch = vectors[begin : begin + _BATCH_POINTS]
        rows = np.arange(begin, begin + len(batch))
        store.write(rows, DenseBatch(rows - begin, batch))
        store.published(live[: begin + len(batch)])
    if not builder.wait_until_idle(_BUILD_SECONDS_MAX) or store.build_error:
        raise RuntimeError(f"not indexed: {store.build_error}")
    return store, time.perf_counter() - started


def build_edge(vectors: FloatMatrix, numbers: Rows, folder: Path) -> tuple[edge.EdgeShard, float]:
    """A shard that is done optimizing, and the seconds that this took."""
    params = edge.EdgeVectorParams(size=vectors.shape[1], distance=edge.Distance.Cosine)
    shard = edge.EdgeShard.create(
        str(folder), edge.EdgeConfig(vectors=params, max_search_threads=1)
    )
    shard.update(edge.UpdateOperation.create_field_index("number", edge.PayloadSchemaType.Integer))
    for begin in range(0, len(vectors), _BATCH_POINTS):
        batch = vectors[begin : begin + _BATCH_POINTS].tolist()
        points = [
            edge.Point(begin + place, vector, {"number": int(numbers[begin + place])})
            for place, vector in enumerate(batch)
        ]
        shard.update(edge.UpdateOperation.upsert_points(points))
    started = time.perf_counter()
    shard.optimize()
    return shard, time.perf_counter() - started


def measure(width: int | None, search: Search, queries: FloatMatrix, scores: FloatMatrix) -> Curve:
    """Ask every query once; recall counts ties as found.

    Args:
        width: noted in the result.
        search: gives ids, which are positions.
        queries: shape (queries, dim).
        scores: shape (queries, points): true ones; lowest where a point is filtered out.
    """
    tenth = -np.partition(-scores, SEARCH_LIMIT - 1, axis=1)[:, SEARCH_LIMIT - 1]
    search(queries[0])
    seconds, right = [], 0
    for place, query in enumerate(queries):
        started = time.perf_counter()
        ids = search(query)
        seconds.append(time.perf_counter() - started)
        right += int((scores[place, list(ids)] >= tenth[place] - _TIE_TOLERANCE).sum())
    recall = right / (SEARCH_LIMIT * len(queries))
    return Curve(width, recall, float(np.median(seconds)) * 1e6)


def time_at(recall: float, curves: Sequence[Curve]) -> float | None:
    """The median time at which a recall is reached, between the measured widths."""
    before: Curve | None = None
    for curve in curves:
        if curve.recall >= recall:
            if before is None or curve.recall == before.recall:
                return curve.search_us
            part = (recall - before.recall) / (curve.recall - before.recall)
            return before.search_us + part * (curve.search_us - before.search_us)
        before = curve
    return None


def _compare_searches(
    store: IndexedVectors,
    shard: edge.EdgeShard,
    vectors: FloatMatrix,
    queries: FloatMatrix,
    tell: Callable[[str], None],
) -> list[Figure]:
    scores = queries @ vectors.T
    live = np.ones(len(vectors), dtype=np.bool_)

    def ours(width: int | None) -> Search:
        params = SearchParams(hnsw_ef=width)
        return lambda query: store.nearest(query, live, SEARCH_LIMIT, params).rows.tolist()

    def theirs(width: int | None) -> Search:
        return lambda query: _search_edge(shard, query, width, None)

    both = [
        (
            measure(width, ours(width), queries, scores),
            measure(width, theirs(width), queries, scores),
        )
        for width in (None, *_WIDTHS)
    ]
    for our, their in both:
        tell(
            f"width {our.width or 'default'}: headrace {our.recall:.4f} in {our.search_us:.0f} us, "
            f"edge {their.recall:.4f} in {their.search_us:.0f} us"
        )
    figures = [_search_figure("search at default parameters", *both[0], None)]
    for recall in _RECALLS:
        our_us = time_at(recall, [our for our, _ in both[1:]])
        their_us = time_at(recall, [their for _, their in both[1:]])
        if our_us is not None and their_us is not None:
            pair = Curve(None, recall, our_us), Curve(None, recall, their_us)
            figures.append(_search_figure(f"search at recall {recall}", *pair, 1.5))
    return figures


def _compare_filters(
    store: IndexedVectors,
    shard: edge.EdgeShard,
    numbers: Rows,
    vectors: FloatMatrix,
    queries: FloatMatrix,
) -> list[Figure]:
    figures = []
    for share in _SHARES_PER_MILLE:
        scores = np.where(numbers < share, queries @ vectors.T, np.float32(-9))

        def ours(query: FloatVector, share: int = share) -> Sequence[int]:
            rows: list[int] = store.nearest(query, numbers < share, SEARCH_LIMIT).rows.tolist()
            return rows

        def theirs(query: FloatVector, share: int = share) -> Sequence[int]:
            condition = edge.FieldCondition("number", range=edge.RangeFloat(lt=float(share)))
            return _search_edge(shard, query, None, edge.Filter(must=[condition]))

        figures.append(
            _search_figure(
                f"search with a filter that {share / 10:g}% pass, default parameters",
                measure(None, ours, queries, scores),
                measure(None, theirs, queries, scores),
                _SHARE_TARGETS[share],
            )
        )
    return figures


def _search_edge(
    shard: edge.EdgeShard, query: FloatVector, width: int | None, filter: edge.Filter | None
) -> list[int]:
    request = edge.QueryRequest(
        query=edge.Query.Nearest(query.tolist()),
        limit=SEARCH_LIMIT,
        filter=filter,
        params=None if width is None else edge.SearchParams(hnsw_ef=width),
    )
    return [int(point.id) for point in shard.query(request)]


def _build_figure(ours_s: float, theirs_s: float, count: int) -> Figure:
    return Figure(
        what="time until everything is indexed, default parameters",
        ratio=theirs_s / ours_s,
        target=4,
        better="higher",
        unit="vectors/s",
        headrace=count / ours_s,
        rival=count / theirs_s,
        rival_name=_RIVAL,
    )


def _search_figure(what: str, ours: Curve, theirs: Curve, target: float | None) -> Figure:
    return Figure(
        what=what,
        ratio=theirs.search_us / ours.search_us,
        target=target,
        better="higher",
        unit="queries/s",
        headrace=1e6 / ours.search_us,
        rival=1e6 / theirs.search_us,
        rival_name=_RIVAL,
        recall=ours.recall,
        rival_recall=theirs.recall,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure once; show a table and write the lines."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vector_index")
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument(
        "--vectors", type=Path, help="a .npy of vectors instead; the last are asked"
    )
    parser.add_argument("--results", type=Path, default=RESULTS_FOLDER)
    chosen = parser.parse_args(arguments)
    console = Console()
    vectors, queries = _data(chosen.vectors, chosen.points, chosen.dim, chosen.queries)
    run = describe_run(*vectors.shape)
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        figures = compare_graphs(vectors, queries, Path(folder), console.print)
    table = Table("what", "ratio", "target", "headrace", "rival", "recall", "rival's")
    for one in figures:
        recalls = (
            "-" if recall is None else f"{recall:.4f}" for recall in (one.recall, one.rival_recall)
        )
        table.add_row(
            one.what,
            f"{one.ratio:.2f}",
            "-" if one.target is None else f"{one.target:g}",
            f"{one.headrace:,.0f} {one.unit}",
            f"{one.rival:,.0f} {one.unit}",
            *recalls,
        )
    console.print(table)
    console.print(f"written to {write_results(chosen.results, run, figures)}", soft_wrap=True)


def _data(
    path: Path | None, point_count: int, dim: int, query_count: int
) -> tuple[FloatMatrix, FloatMatrix]:
    if path is None:
        dataset = make_dataset(point_count, dim, query_count)
        return normalised(dataset.vectors), normalised(dataset.queries)
    drawn = np.load(path).astype(np.float32)
    kept = normalised(drawn[: len(drawn) - query_count][:point_count])
    return kept, normalised(drawn[len(drawn) - query_count :])


if __name__ == "__main__":
    main()
