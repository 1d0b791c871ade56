"""What does the engine answer on a small, fixed data set? The same as before, whatever is tuned.

Speed is only worth having if answers stay: what is exact has a digest of its ids, and what a
graph finds has its recall, at defaults and narrow, without a filter and with one.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.data import Dataset, make_dataset
from benchmarks.filtering import asked_bounds, masks_of
from benchmarks.recall import exact_scores, recall_of
from benchmarks.sides import COLLECTION, SEARCH_LIMIT, Bounds, HeadraceSide
from headrace.model.collection_config import CollectionConfig, VectorParams
from headrace.model.vectors import Distance

_POINTS, _DIM, _QUERIES, _CALLS = 12_000, 48, 60, 20
_SHARES_PER_MILLE = (1, 10, 100, 500, 900)
_NARROW = 16
_BUILD_SECONDS_MAX = 120.0


class Answers(NamedTuple):
    """What was answered.

    Attributes:
        digests: of the ids that are exact, by what was asked.
        recalls: recall@10 of what a graph finds, by what was asked.
    """

    digests: dict[str, str]
    recalls: dict[str, float]


def small_answers(folder: Path) -> Answers:
    """Fill an engine and ask it everything.

    Args:
        folder: an empty folder.
    """
    dataset = make_dataset(_POINTS, _DIM, _QUERIES)
    with _filled(folder, dataset) as side:
        return Answers(_digests(side, dataset), _recalls(side, dataset))


@contextmanager
def _filled(folder: Path, dataset: Dataset) -> Iterator[HeadraceSide]:
    """An engine with one graph, linked by one thread: then it is the same every time."""
    vectors = {"": VectorParams(_DIM, Distance.COSINE, hnsw_config={"max_indexing_threads": 1})}
    config = CollectionConfig(vectors, optimizers_config={"indexing_threshold": 100})
    side = HeadraceSide(folder, _DIM, config, batch_points=_POINTS)
    try:
        side.upsert_all(dataset)
        deadline = time.monotonic() + _BUILD_SECONDS_MAX
        while side.service.collection_info(COLLECTION).indexed_vectors_count < _POINTS:
            assert time.monotonic() < deadline, "not indexed in time"
            time.sleep(0.01)
        yield side
    finally:
        side.close()


def _digests(side: HeadraceSide, dataset: Dataset) -> dict[str, str]:
    asked = [
        bounds
        for per_mille in _SHARES_PER_MILLE
        for bounds in asked_bounds(per_mille, _CALLS, per_mille)
    ]
    return {
        "search, exact": _digest([side.search_exactly(query) for query in dataset.queries]),
        "count": _digest([side.count(bounds) for bounds in asked]),
        "scroll": _digest([[i for i, _ in side.page(bounds)] for bounds in asked]),
        "facet": _digest([sorted(side.facet(bounds).items()) for bounds in asked]),
    }


def _recalls(side: HeadraceSide, dataset: Dataset) -> dict[str, float]:
    scores = list(exact_scores(dataset.vectors, dataset.queries))
    recalls = {}
    for name, width in (("default", None), ("narrow", _NARROW)):
        found = [side.search(query, None, width) for query in dataset.queries]
        recalls[f"search, no filter, {name}"] = recall_of(SEARCH_LIMIT, found, scores)
        for per_mille in _SHARES_PER_MILLE:
            asked: list[Bounds] = asked_bounds(per_mille, _QUERIES - 1, per_mille)
            found = [
                side.search(query, bounds, width)
                for query, bounds in zip(dataset.queries, asked, strict=True)
            ]
            recall = recall_of(SEARCH_LIMIT, found, scores, masks_of(dataset, asked))
            recalls[f"search, {per_mille / 10:g}% pass, {name}"] = recall
    return {what: round(recall, 3) for what, recall in recalls.items()}


def _digest(answers: Sequence[object]) -> str:
    return hashlib.sha256(repr(answers).encode()).hexdigest()[:12]
