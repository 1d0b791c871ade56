"""What is measured, and how is each figure taken?"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.data import Dataset
from benchmarks.results import Figure
from benchmarks.stores import EdgeStore, HeadraceStore, Store
from headrace.model.vectors import FloatMatrix

SEARCH_LIMIT = 10
UPSERT_BATCH_POINTS = 1_000
# Scores this near to the tenth best one count as found: ties are broken either way.
_TIE_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Filled:
    """What one store showed."""

    upsert_s: float
    search_s: float
    recall: float


def compare(dataset: Dataset, folder: Path, tell: Callable[[str], None]) -> list[Figure]:
    """Fill and search both engines, one after the other, on the same data.

    Args:
        dataset: what is stored and asked.
        folder: an empty folder on the disk that is to be measured.
        tell: called with a line when a part is done.
    """
    dim = dataset.vectors.shape[1]
    with HeadraceStore(folder / "headrace", dim) as headrace_store:
        ours = _fill_and_search(headrace_store, dataset)
    tell(f"headrace: upsert {ours.upsert_s:.1f} s, search {ours.search_s:.1f} s")
    with EdgeStore(folder / "edge", dim) as edge_store:
        theirs = _fill_and_search(edge_store, dataset)
    tell(f"{EdgeStore.name}: upsert {theirs.upsert_s:.1f} s, search {theirs.search_s:.1f} s")
    return [
        _upsert_figure(ours, theirs, len(dataset.vectors)),
        _search_figure(ours, theirs, len(dataset.queries)),
    ]


def exact_scores(vectors: FloatMatrix, queries: FloatMatrix) -> FloatMatrix:
    """Cosine of each query with each vector, in float64; shape (queries, points)."""
    return _normalised(queries) @ _normalised(vectors).T


def recall_at(limit: int, found: Sequence[Sequence[int]], scores: FloatMatrix) -> float:
    """The part of the true nearest that was found, tolerant of ties.

    Args:
        limit: how many were asked for.
        found: ids, which are positions, by query.
        scores: shape (queries, points), from `exact_scores`.
    """
    right = 0
    for ids, of_query in zip(found, scores, strict=True):
        worst_right = np.partition(of_query, -limit)[-limit] - _TIE_TOLERANCE
        right += int((of_query[list(ids)] >= worst_right).sum())
    return right / (limit * len(found))


def _fill_and_search(store: Store, dataset: Dataset) -> Filled:
    upsert_s = _timed(lambda: _upsert_all(store, dataset))
    assert store.points_count() == len(dataset.vectors)
    store.search(dataset.queries[0], SEARCH_LIMIT)  # warms caches that a first search fills
    found: list[list[int]] = []
    search_s = _timed(
        lambda: found.extend(store.search(query, SEARCH_LIMIT) for query in dataset.queries)
    )
    recall = recall_at(SEARCH_LIMIT, found, exact_scores(dataset.vectors, dataset.queries))
    return Filled(upsert_s, search_s, recall)


def _upsert_all(store: Store, dataset: Dataset) -> None:
    for start in range(0, len(dataset.vectors), UPSERT_BATCH_POINTS):
        batch = slice(start, start + UPSERT_BATCH_POINTS)
        store.upsert(dataset.ids[batch], dataset.vectors[batch], dataset.payloads[batch])


def _upsert_figure(ours: Filled, theirs: Filled, point_count: int) -> Figure:
    return Figure(
        what=f"upsert with payload, {UPSERT_BATCH_POINTS} points a batch, synced",
        ratio=theirs.upsert_s / ours.upsert_s,
        target=1.5,
        better="higher",
        unit="points/s",
        headrace=point_count / ours.upsert_s,
        rival=point_count / theirs.upsert_s,
        rival_name=f"{EdgeStore.name}, not synced",
    )


def _search_figure(ours: Filled, theirs: Filled, query_count: int) -> Figure:
    return Figure(
        what="exact search, no filter, one thread",
        ratio=theirs.search_s / ours.search_s,
        target=None,
        better="higher",
        unit="queries/s",
        headrace=query_count / ours.search_s,
        rival=query_count / theirs.search_s,
        rival_name=EdgeStore.name,
        recall=ours.recall,
        rival_recall=theirs.recall,
    )


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _normalised(vectors: FloatMatrix) -> FloatMatrix:
    wide = vectors.astype(np.float64)
    unit: FloatMatrix = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return unit
