"""What do filters ask of the points of a view, beside their payload columns?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
import orjson

from headrace.engine.filter.evaluate import matches
from headrace.engine.segment.segment import View
from headrace.engine.vectors.row_set import RowSet
from headrace.model.filters import Condition, Filter, Slice
from headrace.model.ids import PointId
from headrace.model.vectors import Mask, Rows


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
        store = self._view.stores.get(name)
        return store is not None and store.get(self._row) is not None


class ViewPoints(msgspec.Struct, frozen=True, eq=False, gc=False):
    """The points of a view; see `PointsReader`."""

    view: View

    def rows_of_ids(self, ids: Sequence[PointId]) -> RowSet:
        """See `PointsReader`."""
        view = self.view
        rows = view.segment.id_index.rows(ids)
        shown = (rows >= 0) & (rows < view.row_count)
        shown[shown] = view.live[rows[shown]]
        found = rows[shown]
        if len(found) < len(ids) and view.segment.begun_seq_no != view.seq_no:
            # The id index knows the newest state; this view is older.
            others = [ids[place] for place in np.flatnonzero(~shown).tolist()]
            named = view.segment.row_ids.rows_of(others, view.row_count)
            found = np.concatenate((found, named[view.live[named]]))
        return RowSet.of_rows(np.unique(found), view.row_count)

    def rows_with_vector(self, name: str) -> RowSet:
        """See `PointsReader`."""
        store = self.view.stores.get(name)
        if store is None:
            return RowSet.none(self.view.row_count)
        return RowSet.of_mask(store.present(self.view.row_count))

    def rows_in_slice(self, wanted: Slice) -> RowSet:
        """See `PointsReader`."""
        hashes = self.view.segment.row_ids.slice_hashes(self.view.row_count)
        return RowSet.of_mask(hashes % np.uint64(wanted.total) == np.uint64(wanted.rank))

    def evaluate(self, condition: Condition, rows: Rows) -> Mask:
        """See `PointsReader`."""
        return evaluate_rows(Filter(must=(condition,)), self.view, rows)


def evaluate_rows(filter: Filter, view: View, rows: Rows) -> Mask:
    """Which of the rows pass a filter, by their payloads, one by one; shape (len(rows),)."""
    passing = [matches(filter, RowPoint(view, row), view.schema) for row in rows.tolist()]
    return np.array(passing, dtype=np.bool_)
