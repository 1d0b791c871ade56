"""How are points listed in id order, a page at a time?"""

from __future__ import annotations

import msgspec
import numpy as np

from headrace.engine.query.mask import filter_mask, filter_rows
from headrace.engine.query.order import order_rows
from headrace.engine.query.records import check_vector_selection, read_record
from headrace.engine.segment.segment import View
from headrace.model.filters import Filter
from headrace.model.ids import PointId
from headrace.model.points import ScrollPage
from headrace.model.queries import OrderBy, Scroll

_ROWS_PER_STEP = 1024


def run_scroll(view: View, scroll: Scroll) -> ScrollPage:
    """One page of a scroll over a view.

    Raises:
        UnknownVectorName: the selection names a vector the collection lacks.
    """
    check_vector_selection(view, scroll.with_vectors)
    if scroll.order_by is not None:
        return _ordered_page(view, scroll, scroll.order_by)
    rows = rows_in_id_order(view, scroll.start_id, scroll.filter, scroll.limit + 1)
    records = [
        read_record(view, row, scroll.with_payload, scroll.with_vectors)
        for row in rows[: scroll.limit]
    ]
    next_id = view.id_of(rows[scroll.limit]) if len(rows) > scroll.limit else None
    return ScrollPage(records, next_id)


def _ordered_page(view: View, scroll: Scroll, order_by: OrderBy) -> ScrollPage:
    """A page by payload value: a point stands once for each value, and nothing follows."""
    ordered = order_rows(view, order_by, filter_mask(scroll.filter, view), scroll.limit)
    records = [
        msgspec.structs.replace(
            read_record(view, row, scroll.with_payload, scroll.with_vectors), order_value=value
        )
        for row, value in zip(ordered.rows, ordered.values, strict=True)
    ]
    return ScrollPage(records, None)


def rows_in_id_order(
    view: View, start_id: PointId | None, filter: Filter | None, limit: int
) -> list[int]:
    """The first `limit` rows that pass a filter, in id order, from an id on.

    Rows are tested a step at a time, so that a page near the start costs little.
    """
    ascending = view.rows_by_id
    first = 0 if start_id is None else view.first_place_from(start_id)
    if filter is None:
        page: list[int] = ascending[first : first + limit].tolist()
        return page
    found: list[int] = []
    for begin in range(first, len(ascending), _ROWS_PER_STEP):
        found.extend(filter_rows(filter, view, ascending[begin : begin + _ROWS_PER_STEP]).tolist())
        if len(found) >= limit:
            break
    return found[:limit]


def count_rows(view: View, filter: Filter | None) -> int:
    """How many points pass a filter, exactly."""
    if filter is None:
        return view.live_count
    return len(filter_rows(filter, view, np.flatnonzero(view.live)))
