"""Which part of the true nearest points was found?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.model.vectors import FloatMatrix, FloatVector, Mask

# Scores this near to the tenth best one count as found: ties are broken either way.
_TIE_TOLERANCE = 1e-5


def exact_scores(vectors: FloatMatrix, queries: FloatMatrix) -> FloatMatrix:
    """Cosine of each query with each vector, all of length 1; shape (queries, points)."""
    scores: FloatMatrix = queries @ vectors.T
    return scores


def right_count(limit: int, ids: Sequence[int], scores: FloatVector) -> tuple[int, int]:
    """How many of the found are among the true nearest, and how many there are to find.

    Args:
        limit: how many were asked for.
        ids: what was found: positions.
        scores: shape (points,), from `exact_scores`; -inf where a point does not pass.
    """
    wanted = min(limit, int(np.isfinite(scores).sum()))
    if not wanted:
        return 0, 0
    worst_right = np.partition(scores, -wanted)[-wanted] - _TIE_TOLERANCE
    return int((scores[list(ids)] >= worst_right).sum()), wanted


def recall_of(
    limit: int,
    found: Sequence[Sequence[int]],
    scores: Sequence[FloatVector],
    masks: Sequence[Mask] | None = None,
) -> float:
    """The part of the true nearest that was found over many queries, tolerant of ties.

    Args:
        limit: how many were asked for.
        found: by query.
        scores: by query.
        masks: by query: which points pass, if there is a filter.
    """
    right = wanted = 0
    for number, (ids, of_query) in enumerate(zip(found, scores, strict=True)):
        passing = of_query if masks is None else np.where(masks[number], of_query, -np.inf)
        one_right, one_wanted = right_count(limit, ids, passing)
        right += one_right
        wanted += one_wanted
    return right / max(1, wanted)
