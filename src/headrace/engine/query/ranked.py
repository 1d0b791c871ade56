"""What does each stage of a query hand to the next?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from headrace.engine.vectors.distances import top_k
from headrace.model.vectors import FloatVector, Rows


class Ranked(NamedTuple):
    """Rows, best first, and their scores as answers show them.

    Attributes:
        rows: shape (n,), int64, unique.
        scores: shape (n,), float32.
    """

    rows: Rows
    scores: FloatVector


def best_first(rows: Rows, scores: FloatVector, limit: int) -> Ranked:
    """The `limit` rows of the largest scores."""
    best = top_k(scores, min(limit, len(rows)))
    return Ranked(rows[best], scores[best])


def union_rows(sources: list[Ranked]) -> Rows:
    """The rows of all sources, ascending, once each."""
    if not sources:
        return np.empty(0, dtype=np.int64)
    return np.unique(np.concatenate([source.rows for source in sources]))
