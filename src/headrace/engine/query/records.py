"""How does a row become what an answer shows?"""

from __future__ import annotations

from headrace.engine.payload.select import select_payload
from headrace.engine.segment.segment import View, read_vectors
from headrace.model.operations import PayloadJson
from headrace.model.points import Record
from headrace.model.queries import PayloadSelection, VectorSelection
from headrace.model.vectors import Vector


def read_record(
    view: View, row: int, with_payload: PayloadSelection, with_vectors: VectorSelection
) -> Record:
    """The record of a live row, with what the selections ask for."""
    return Record(
        id=view.id_of(row),
        version=view.version(row),
        payload=_read_payload(view, row, with_payload),
        vectors=_read_selected_vectors(view, row, with_vectors),
    )


def check_vector_selection(view: View, selection: VectorSelection) -> None:
    """Refuse a selection that names a vector the collection lacks.

    Raises:
        UnknownVectorName: it does.
    """
    for name in selection.names or ():
        view.vectors(name)


def _read_payload(view: View, row: int, selection: PayloadSelection) -> PayloadJson | None:
    if not selection.enabled:
        return None
    return select_payload(view.payload(row), selection)


def _read_selected_vectors(
    view: View, row: int, selection: VectorSelection
) -> dict[str, Vector] | None:
    if not selection.enabled:
        return None
    names = view.vector_names() if selection.names is None else selection.names
    return read_vectors(view, row, names)
