"""Which rows of a view pass a filter?"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import orjson

from headrace.engine.filter.evaluate import matches
from headrace.engine.segment.segment import View
from headrace.model.filters import Filter
from headrace.model.ids import PointId
from headrace.model.vectors import Mask, Rows


def filter_rows(filter: Filter, view: View, rows: Rows) -> Rows:
    """Those of `rows` (live ones) that pass the filter, in their order."""
    if filter.is_unconstrained():
        return rows
    passing = [matches(filter, RowPoint(view, row), view.schema) for row in rows.tolist()]
    return rows[np.array(passing, dtype=np.bool_)]


def filter_mask(filter: Filter | None, view: View) -> Mask:
    """shape (row_count,): the live rows that pass the filter; not to be changed."""
    if filter is None or filter.is_unconstrained():
        return view.live
    mask = np.zeros(view.row_count, dtype=np.bool_)
    mask[filter_rows(filter, view, np.flatnonzero(view.live))] = True
    return mask


class RowPoint:
    """A row as the evaluator sees it."""

    def __init__(self, view: View, row: int) -> None:
        self._view = view
        self._row = row

    @property
    def id(self) -> PointId:
        """The point's id."""
        return self._view.id_of(self._row)

    @cached_property
    def payload(self) -> dict[str, Any]:
        """The payload, decoded when first asked for."""
        payload: dict[str, Any] = orjson.loads(self._view.payload(self._row))
        return payload

    def has_vector(self, name: str) -> bool:
        """Whether the point has a vector of this name; False for unknown names."""
        store = self._view.segment.stores.get(name)
        return store is not None and store.get(self._row) is not None
