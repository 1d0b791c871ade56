"""How near are sampled points to one another?"""

from __future__ import annotations

import msgspec
import numpy as np

from headrace.engine.query.execute import QueryContext, vector_distance
from headrace.engine.query.mask import passing_set
from headrace.engine.query.vector_query import run_vector_query
from headrace.engine.vectors.row_set import RowSet
from headrace.model.ids import PointId
from headrace.model.queries import MatrixRequest, Nearest


class MatrixRow(msgspec.Struct, frozen=True):
    """One sampled point and its nearest others within the sample, nearest first."""

    id: PointId
    nearest: list[tuple[PointId, float]]


def run_matrix(context: QueryContext, request: MatrixRequest) -> list[MatrixRow]:
    """For a random sample of points, sorted by id, the nearest others in the sample.

    Empty if fewer than two points have the vector.

    Raises:
        UnknownVectorName: there is no such vector.
    """
    view = context.view
    store = view.vectors(request.using)
    distance = vector_distance(context.config, request.using)
    passing = passing_set(request.filter, view)
    rows = passing.having(store.present(view.row_count)).rows
    if len(rows) < 2:
        return []
    chosen = np.random.default_rng().permutation(rows)[: request.sample]
    ordered = view.segment.row_ids.in_id_order(chosen)
    sample = np.sort(ordered)
    matrix = []
    for row in ordered.tolist():
        vector = store.get(row)
        assert vector is not None
        others = RowSet.of_rows(sample[sample != row], view.row_count)
        found = run_vector_query(
            view, request.using, distance, Nearest(vector), others, request.limit
        )
        ids = view.segment.row_ids.get_many(found.rows)
        matrix.append(
            MatrixRow(view.id_of(row), list(zip(ids, found.scores.tolist(), strict=True)))
        )
    return matrix
