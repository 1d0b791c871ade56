"""How are results made less alike (maximal marginal relevance)?"""

from __future__ import annotations

import numpy as np

from headrace.engine.query.ranked import Ranked
from headrace.engine.vectors.base import VectorStore
from headrace.engine.vectors.multi import MultiVectors
from headrace.model.vectors import Distance, FloatVector, Rows, SparseVector


def most_marginally_relevant(
    store: VectorStore, ranked: Ranked, distance: Distance, diversity: float, limit: int
) -> Ranked:
    """Choose from the nearest rows, one by one, what is relevant yet unlike the chosen.

    The first is the most relevant; then the row with the largest
    `(1 - diversity) * relevance - diversity * nearest similarity to a chosen one`.
    Scores stay those of the query.

    Args:
        store: where the vectors of the rows are.
        ranked: the nearest rows, best first.
        distance: the collection's.
        diversity: 0 to 1.
        limit: how many are chosen at most.
    """
    order = np.argsort(ranked.rows)
    rows = ranked.rows[order]
    relevance = ranked.scores[order]
    if not distance.larger_is_nearer:
        relevance = -(relevance**2) if distance is Distance.EUCLID else -relevance
    alike = np.full(len(rows), -np.inf, dtype=np.float32)
    chosen: list[int] = []
    while len(chosen) < min(limit, len(rows)):
        if chosen:
            marginal = (1 - diversity) * relevance - diversity * alike
            marginal[chosen] = -np.inf
            place = int(np.argmax(marginal))
        else:
            place = int(np.argmax(relevance))
        chosen.append(place)
        alike = np.maximum(alike, _similarity_to(store, rows, place))
    return Ranked(rows[chosen], ranked.scores[order][chosen])


def _similarity_to(store: VectorStore, rows: Rows, place: int) -> FloatVector:
    """Similarities of the rows to the one at a place; of vectors of vectors, each row asks."""
    vector = store.get(int(rows[place]))
    assert vector is not None, "a ranked row has a vector"
    chosen = store.check_query(vector)
    if isinstance(store, MultiVectors):
        assert not isinstance(chosen, SparseVector)
        return store.similarities_as_queries(chosen, rows)
    return store.similarities(chosen, rows)
