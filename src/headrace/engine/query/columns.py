"""How are many points read at once, as flat arrays instead of a record each?

The way out that mirrors `UpsertPoints`: ids, vectors by name, payloads. Vectors are
gathered by the stores, so no Python object stands for a point's vector.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from uuid import UUID

import msgspec
import numpy as np

from headrace.engine.query.mask import passing_set
from headrace.engine.segment.segment import View
from headrace.model.batches import batch_entries
from headrace.model.filters import Filter
from headrace.model.points import PointColumns
from headrace.model.queries import VectorSelection
from headrace.model.vectors import Rows, VectorBatch


class ColumnScan(msgspec.Struct, frozen=True, eq=False):
    """All points that a scan finds.

    Attributes:
        has_uuids: whether any id in the collection is a UUID.
        pieces: the points, read as they are taken.
    """

    has_uuids: bool
    pieces: Iterator[PointColumns]


def scan_columns(
    view: View,
    filter: Filter | None,
    with_payload: bool,
    with_vectors: VectorSelection,
    points_max: int,
) -> ColumnScan:
    """All points of a view that pass a filter, in the order in which they are stored.

    Args:
        view: what is read, also while writes go on.
        filter: None takes all.
        with_payload: whether payloads are read.
        with_vectors: which vectors are read.
        points_max: how many points are in one piece at most.

    Raises:
        UnknownVectorName: `with_vectors` names a vector the collection lacks.
    """
    selected_names(view, with_vectors)
    rows = passing_set(filter, view).rows
    # Numbers come before UUIDs.
    has_uuids = bool(view.live_count) and isinstance(view.id_of(int(view.rows_by_id[-1])), UUID)
    pieces = (
        read_columns(view, rows[begin : begin + points_max], with_payload, with_vectors)
        for begin in range(0, len(rows), points_max)
    )
    return ColumnScan(has_uuids, pieces)


def read_columns(
    view: View, rows: Rows, with_payload: bool, with_vectors: VectorSelection
) -> PointColumns:
    """The points of some rows, in the order of `rows`.

    Args:
        view: shows all of the rows.
        rows: shape (n,), int64, unique.
        with_payload: whether payloads are read.
        with_vectors: which vectors are read.
    """
    return PointColumns(
        ids=view.segment.row_ids.get_many(rows),
        vectors=_read_vectors(view, rows, with_vectors),
        payloads=[view.payload(row) for row in rows.tolist()] if with_payload else None,
    )


def selected_names(view: View, selection: VectorSelection) -> Sequence[str]:
    """The vector names that a selection means.

    Raises:
        UnknownVectorName: it names a vector that the collection lacks.
    """
    if not selection.enabled:
        return ()
    if selection.names is None:
        return view.vector_names()
    for name in selection.names:
        view.vectors(name)
    return selection.names


def _read_vectors(view: View, rows: Rows, selection: VectorSelection) -> dict[str, VectorBatch]:
    names = selected_names(view, selection)
    order = np.argsort(rows, kind="stable")
    is_ascending = bool((order[1:] > order[:-1]).all())
    batches = {name: view.vectors(name).read(rows[order]) for name in names}
    if is_ascending:
        return batches
    return {name: _reordered(batch, order) for name, batch in batches.items()}


def _reordered(batch: VectorBatch, order: Rows) -> VectorBatch:
    """A batch whose positions count in another order: position i becomes `order[i]`."""
    moved = order[batch.positions]
    entries = np.argsort(moved, kind="stable")
    return batch_entries(batch, entries, moved[entries])
