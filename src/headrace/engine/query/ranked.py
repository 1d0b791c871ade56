"""What does each stage of a query hand to the next?"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from headrace.engine.vectors.distances import top_k
from headrace.model.vectors import FloatVector, Rows


class Ranked(msgspec.Struct, frozen=True, eq=False, gc=False):
    """Rows, best first, and their scores as answers show them.

    Attributes:
        rows: shape (n,), int64; unique, unless there are order values.
        scores: shape (n,), float32.
        order_values: the payload value that each row stands here for, if that is the order; a
            row stands once for each of its values.
    """

    rows: Rows
    scores: FloatVector
    order_values: Sequence[int | float] | None = None

    def part(self, places: slice | Sequence[int]) -> Ranked:
        """What stands at some places."""
        values = self.order_values
        if values is None:
            pass
        elif isinstance(places, slice):
            values = values[places]
        else:
            values = [values[place] for place in places]
        return Ranked(self.rows[places], self.scores[places], values)

    def once(self) -> Ranked:
        """Each row where it first stands."""
        if self.order_values is None:
            return self
        return self.part(np.sort(np.unique(self.rows, return_index=True)[1]).tolist())


def best_first(rows: Rows, scores: FloatVector, limit: int) -> Ranked:
    """The `limit` rows of the largest scores."""
    best = top_k(scores, min(limit, len(rows)))
    return Ranked(rows[best], scores[best])


def union_rows(sources: list[Ranked]) -> Rows:
    """The rows of all sources, ascending, once each."""
    if not sources:
        return np.empty(0, dtype=np.int64)
    return np.unique(np.concatenate([source.rows for source in sources]))
