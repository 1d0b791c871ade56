"""How are points found by id and read at once, while a writer writes?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.engine.collection.collection import Collection
from headrace.engine.query.columns import read_columns, selected_names
from headrace.engine.segment.ids import NO_ROW
from headrace.model.ids import PointId
from headrace.model.points import PointColumns
from headrace.model.queries import NO_PAYLOAD, WHOLE_PAYLOAD, VectorSelection
from headrace.model.upserts import build_vector_batches


def retrieve_columns(
    collection: Collection,
    ids: Sequence[PointId],
    with_payload: bool,
    with_vectors: VectorSelection,
) -> PointColumns:
    """Points by id, in request order, once each; missing ids are left out.

    Raises:
        UnknownVectorName: `with_vectors` names a vector the collection lacks.
    """
    wanted = list(dict.fromkeys(ids))
    view = collection.view
    selected_names(view, with_vectors)
    rows = view.segment.id_index.rows(wanted)
    if len(rows) and (rows.min() < 0 or rows.max() >= view.row_count or not view.live[rows].all()):
        # An id is missing, or a write came between: each is looked up by itself.
        located = [collection.locate(point_id) for point_id in wanted]
        found = [(place, row) for place, row in located if row != NO_ROW]
        if any(place is not found[0][0] for place, _ in found):
            return _columns_one_by_one(collection, wanted, with_payload, with_vectors)
        view = found[0][0] if found else view
        rows = np.array([row for _, row in found], dtype=np.int64)
    return read_columns(view, rows, with_payload, with_vectors)


def _columns_one_by_one(
    collection: Collection,
    ids: Sequence[PointId],
    with_payload: bool,
    with_vectors: VectorSelection,
) -> PointColumns:
    """The points as they are found in several views, while writes go on."""
    selection = WHOLE_PAYLOAD if with_payload else NO_PAYLOAD
    records = collection.retrieve(ids, selection, with_vectors)
    found = [record.id for record in records]
    vectors = [record.vectors or {} for record in records]
    return PointColumns(
        ids=found,
        vectors=build_vector_batches(found, vectors, collection.config),
        payloads=[record.payload or b"{}" for record in records] if with_payload else None,
    )
