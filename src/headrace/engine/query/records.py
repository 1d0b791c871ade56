"""How does a row become what an answer shows?"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat

import numpy as np

from headrace.engine.payload.select import select_payload
from headrace.engine.payload.store import payloads_at
from headrace.engine.segment.segment import View, read_vectors
from headrace.model.operations import PayloadJson
from headrace.model.points import Record
from headrace.model.queries import PayloadSelection, VectorSelection
from headrace.model.vectors import Rows, Vector


def read_record(
    view: View, row: int, with_payload: PayloadSelection, with_vectors: VectorSelection
) -> Record:
    """The record of a live row, with what the selections ask for."""
    return read_records(view, np.array([row]), with_payload, with_vectors)[0]


def read_records(
    view: View, rows: Rows, with_payload: PayloadSelection, with_vectors: VectorSelection
) -> list[Record]:
    """The records of live rows, in their order, with what the selections ask for."""
    ids, versions = view.segment.row_ids.get_many(rows), view.versions(rows)
    if not with_payload.enabled and not with_vectors.enabled:
        return list(map(Record, ids, versions))
    row_numbers = rows.tolist()
    return list(
        map(
            Record,
            ids,
            versions,
            _read_payloads(view, row_numbers, with_payload),
            _read_selected_vectors(view, row_numbers, with_vectors),
        )
    )


def check_vector_selection(view: View, selection: VectorSelection) -> None:
    """Refuse a selection that names a vector the collection lacks.

    Raises:
        UnknownVectorName: it does.
    """
    for name in selection.names or ():
        view.vectors(name)


def _read_payloads(
    view: View, rows: list[int], selection: PayloadSelection
) -> Iterable[PayloadJson | None]:
    if not selection.enabled:
        return repeat(None, len(rows))
    payloads = payloads_at(view.payloads, rows)
    if selection.include is None and selection.exclude is None:
        return payloads
    return (select_payload(payload, selection) for payload in payloads)


def _read_selected_vectors(
    view: View, rows: list[int], selection: VectorSelection
) -> Iterable[dict[str, Vector] | None]:
    if not selection.enabled:
        return repeat(None, len(rows))
    names = view.vector_names() if selection.names is None else selection.names
    return (read_vectors(view, row, names) for row in rows)
