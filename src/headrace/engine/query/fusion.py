"""How do several ranked lists become one?

Formulas are Qdrant's: reciprocal rank fusion with k and weights, and distribution-based
score fusion. Both add up over the lists; larger is better.
"""

from __future__ import annotations

import numpy as np

from headrace.engine.query.ranked import Ranked, best_first, union_rows
from headrace.model.errors import BadRequest
from headrace.model.queries import DbsfFusion, RrfFusion
from headrace.model.vectors import FloatVector


def fuse(sources: list[Ranked], fusion: RrfFusion | DbsfFusion, limit: int) -> Ranked:
    """Fuse ranked lists into one.

    Raises:
        BadRequest: weights are given, but not one for each list.
    """
    if isinstance(fusion, RrfFusion):
        contributions = _reciprocal_ranks(sources, fusion)
    else:
        contributions = [_by_distribution(source.scores) for source in sources]
    rows = union_rows(sources)
    totals = np.zeros(len(rows), dtype=np.float32)
    for source, contribution in zip(sources, contributions, strict=True):
        totals[np.searchsorted(rows, source.rows)] += contribution
    return best_first(rows, totals, limit)


def _reciprocal_ranks(sources: list[Ranked], fusion: RrfFusion) -> list[FloatVector]:
    weights = fusion.weights or (1.0,) * len(sources)
    if len(weights) != len(sources):
        raise BadRequest(
            f"RRF weights count ({len(weights)}) must match the number of prefetches "
            f"({len(sources)})"
        )
    contributions = []
    for source, weight in zip(sources, weights, strict=True):
        ranks = np.arange(1, len(source.rows) + 1, dtype=np.float32)
        if weight > 0:
            contributions.append(
                (1 / (ranks / np.float32(weight) + np.float32(fusion.k - 1))).astype(np.float32)
            )
        else:
            contributions.append(np.zeros_like(ranks))
    return contributions


def _by_distribution(scores: FloatVector) -> FloatVector:
    """(score - (mean - 3 sd)) / (6 sd), with the sample deviation; 0.5 where it has none."""
    if len(scores) < 2:
        return np.full(len(scores), 0.5, dtype=np.float32)
    mean = scores.mean(dtype=np.float64)
    deviation = scores.std(ddof=1, dtype=np.float64)
    if deviation == 0:
        return np.full(len(scores), 0.5, dtype=np.float32)
    low = mean - 3 * deviation
    return np.asarray((scores - low) / (6 * deviation), dtype=np.float32)
