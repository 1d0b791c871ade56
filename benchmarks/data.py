"""What is measured: clustered vectors of low intrinsic dimension, with payloads; fixed seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.model.vectors import FloatMatrix

SEED = 20240601
_CLUSTER_COUNT = 100
_INTRINSIC_DIM = 16
_KEYWORDS = tuple(f"kind-{number:02d}" for number in range(100))

Payload = dict[str, Any]


@dataclass(frozen=True)
class Dataset:
    """The points of a run and the queries against them.

    Attributes:
        vectors: shape (points, dim), float32.
        payloads: one per point.
        queries: shape (queries, dim), float32; none of them is a point.
    """

    vectors: FloatMatrix
    payloads: list[Payload]
    queries: FloatMatrix

    @property
    def ids(self) -> range:
        """The point ids."""
        return range(len(self.vectors))


def make_dataset(point_count: int, dim: int, query_count: int) -> Dataset:
    """The same data for the same numbers, on every machine."""
    rng = np.random.default_rng(SEED)
    flat = rng.standard_normal((_INTRINSIC_DIM, dim)).astype(np.float32)
    centres = rng.standard_normal((_CLUSTER_COUNT, _INTRINSIC_DIM)).astype(np.float32) * 2

    def draw(count: int) -> FloatMatrix:
        near = centres[rng.integers(0, _CLUSTER_COUNT, count)]
        spread = rng.standard_normal((count, _INTRINSIC_DIM)).astype(np.float32)
        noise = rng.standard_normal((count, dim)).astype(np.float32) * np.float32(0.05)
        return (near + spread) @ flat + noise

    return Dataset(draw(point_count), _make_payloads(rng, point_count), draw(query_count))


def _make_payloads(rng: np.random.Generator, count: int) -> list[Payload]:
    kinds = rng.integers(0, len(_KEYWORDS), count).tolist()
    numbers = rng.integers(0, 1000, count).tolist()
    prices = np.round(rng.random(count) * 100, 2).tolist()
    flags = (rng.random(count) < 0.5).tolist()
    places = np.round(rng.random((count, 2)) * [360, 180] - [180, 90], 4).tolist()
    return [
        {
            "kind": _KEYWORDS[kind],
            "unique": f"point-{position}",
            "number": number,
            "price": price,
            "in_stock": flag,
            "place": {"lon": place[0], "lat": place[1]},
            "tags": [_KEYWORDS[kind], _KEYWORDS[number % len(_KEYWORDS)]],
        }
        for position, (kind, number, price, flag, place) in enumerate(
            zip(kinds, numbers, prices, flags, places, strict=True)
        )
    ]
