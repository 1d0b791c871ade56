"""What is measured: clustered vectors of low intrinsic dimension, or real texts; with payloads.

All of it is the same in every run: by a fixed seed, and texts by what is installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from benchmarks.texts import embed, find_sentences
from headrace.engine.vectors.distances import normalised
from headrace.model.vectors import FloatMatrix

SEED = 20240601

# So that 0.99 of the nearest need a search about as wide as engines walk by default.
_CLUSTER_COUNT = 1000
_INTRINSIC_DIM = 24
_NOISE = 0.05

# Each value of `number` and of `rank` is had by one point in so many.
NUMBERS = 1000
_KEYWORDS = tuple(f"kind-{number:02d}" for number in range(100))
_WORDS = ("amber", "brook", "cedar", "delta", "ember", "flint", "grove", "heron")

Payload = dict[str, Any]


@dataclass(frozen=True)
class Dataset:
    """The points of a run and the queries against them.

    Attributes:
        name: what they are, such as "synthetic".
        vectors: shape (points, dim), float32, of length 1.
        payloads: one per point.
        queries: shape (queries, dim), float32, of length 1; none of them is a point.
    """

    name: str
    vectors: FloatMatrix
    payloads: list[Payload]
    queries: FloatMatrix

    @property
    def ids(self) -> range:
        """The point ids."""
        return range(len(self.vectors))

    @property
    def dim(self) -> int:
        """Components of a vector."""
        return int(self.vectors.shape[1])

    def documents(self) -> list[bytes]:
        """The payloads as JSON."""
        return [orjson.dumps(payload) for payload in self.payloads]


def make_dataset(point_count: int, dim: int, query_count: int) -> Dataset:
    """Synthetic data; the same for the same numbers, on every machine."""
    rng = np.random.default_rng(SEED)
    flat = rng.standard_normal((_INTRINSIC_DIM, dim)).astype(np.float32)
    centres = rng.standard_normal((_CLUSTER_COUNT, _INTRINSIC_DIM)).astype(np.float32)

    def draw(count: int) -> FloatMatrix:
        near = centres[rng.integers(0, _CLUSTER_COUNT, count)]
        spread = rng.standard_normal((count, _INTRINSIC_DIM)).astype(np.float32)
        noise = rng.standard_normal((count, dim)).astype(np.float32) * np.float32(_NOISE)
        return normalised((near + spread) @ flat + noise)

    vectors = draw(point_count)
    return Dataset("synthetic", vectors, make_payloads(point_count), draw(query_count))


def make_text_dataset(point_count: int, query_count: int, cache: Path) -> Dataset:
    """Embeddings of sentences found on this machine.

    Args:
        point_count, query_count: how many.
        cache: a folder where embeddings are kept between runs.

    Raises:
        TooFewTexts: there are not so many sentences.
    """
    sentences = find_sentences(point_count + query_count)
    order = np.random.default_rng(SEED).permutation(len(sentences))
    vectors = embed(sentences, cache)[order]
    return Dataset("text", vectors[:point_count], make_payloads(point_count), vectors[point_count:])


def make_payloads(count: int) -> list[Payload]:
    """One for each point; `number` and `rank` are alike, and only `number` is ever indexed."""
    rng = np.random.default_rng(SEED + 1)
    kinds = rng.integers(0, len(_KEYWORDS), count).tolist()
    numbers = rng.integers(0, NUMBERS, count).tolist()
    ranks = rng.integers(0, NUMBERS, count).tolist()
    prices = np.round(rng.random(count) * 100, 2).tolist()
    flags = (rng.random(count) < 0.5).tolist()
    places = np.round(rng.random((count, 2)) * [360, 180] - [180, 90], 4).tolist()
    days = rng.integers(1, 29, count).tolist()
    words = rng.integers(0, len(_WORDS), (count, 4)).tolist()
    return [
        {
            "kind": _KEYWORDS[kind],
            "unique": f"point-{position}",
            "number": number,
            "rank": rank,
            "price": price,
            "in_stock": flag,
            "place": {"lon": place[0], "lat": place[1]},
            "seen_at": f"2024-05-{day:02d}T12:00:00Z",
            "title": " ".join(_WORDS[word] for word in chosen),
            "tags": [_KEYWORDS[kind], _KEYWORDS[number % len(_KEYWORDS)]],
        }
        for position, (kind, number, rank, price, flag, place, day, chosen) in enumerate(
            zip(kinds, numbers, ranks, prices, flags, places, days, words, strict=True)
        )
    ]
