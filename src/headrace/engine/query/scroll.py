"""How are points listed in id order, a page at a time?"""

from __future__ import annotations

from itertools import chain

import msgspec
import numpy as np

from headrace.engine.query.mask import Passing, known, passing, passing_set
from headrace.engine.query.order import order_rows
from headrace.engine.query.records import check_vector_selection, read_records
from headrace.engine.segment.segment import View
from headrace.model.ids import PointId, point_id_order
from headrace.model.points import Pieces, Record, ScrollPage, ScrollPieces
from headrace.model.queries import OrderBy, Scroll
from headrace.model.vectors import Rows

# Finding and sorting so many rows costs less than walking for a page.
_SORTED_ROWS_MAX = 4096

# Rows that pass lie as dice fall: of a page of a hundred, a tenth more or less is usual.
_STEP_FACTOR = 1.25
_STEP_ROWS_MIN = 32

# Before a step gets longer than this, all rows that pass are found instead.
_STEPPED_ROWS_MAX = 65_536


def run_scroll(view: View, scroll: Scroll) -> ScrollPage:
    """One page of a scroll over a view.

    Raises:
        UnknownVectorName: the selection names a vector the collection lacks.
        BadRequest: the field of `order_by` has no payload index with an order.
    """
    found = scroll_pieces(view, scroll, max(1, scroll.limit))
    return ScrollPage(list(chain.from_iterable(found.records.pieces)), found.next_id)


def scroll_pieces(view: View, scroll: Scroll, records_max: int) -> ScrollPieces:
    """One page of a scroll, of which `records_max` records at a time are read.

    Raises: as `run_scroll`.
    """
    check_vector_selection(view, scroll.with_vectors)
    if scroll.order_by is not None:
        return ScrollPieces(_ordered(view, scroll, scroll.order_by, records_max), None)
    found = passing(scroll.filter, view)
    rows = rows_in_id_order(view, found, scroll.start_id, scroll.limit + 1)
    next_id = view.id_of(int(rows[scroll.limit])) if len(rows) > scroll.limit else None
    rows = rows[: scroll.limit]
    pieces = (
        read_records(
            view, rows[first : first + records_max], scroll.with_payload, scroll.with_vectors
        )
        for first in range(0, len(rows), records_max)
    )
    return ScrollPieces(Pieces(len(rows), pieces), next_id)


def _ordered(view: View, scroll: Scroll, order_by: OrderBy, records_max: int) -> Pieces[Record]:
    """Records by payload value: a point stands once for each value, and nothing follows."""
    ordered = order_rows(view, order_by, passing_set(scroll.filter, view), scroll.limit)
    rows = np.array(ordered.rows, dtype=np.int64)

    def piece(first: int) -> list[Record]:
        shown = slice(first, first + records_max)
        records = read_records(view, rows[shown], scroll.with_payload, scroll.with_vectors)
        return [
            msgspec.structs.replace(record, order_value=value)
            for record, value in zip(records, ordered.values[shown], strict=True)
        ]

    return Pieces(len(rows), map(piece, range(0, len(rows), records_max)))


def rows_in_id_order(view: View, found: Passing, start_id: PointId | None, limit: int) -> Rows:
    """The first `limit` of the rows that pass, in id order, from an id on.

    Few rows are sorted; of many, the view's order of all rows is walked a step at a time,
    so that a page near the start costs little.
    """
    if found.at_most <= _SORTED_ROWS_MAX:
        ascending = view.segment.row_ids.in_id_order(found.row_set().rows)
        return _from_id(view, ascending, start_id)[:limit]
    ascending = view.rows_by_id
    first = 0 if start_id is None else view.first_place_from(start_id)
    if found.at_most == view.live_count and found.row_set().count == view.live_count:
        return ascending[first : first + limit]
    kept = [np.empty(0, dtype=np.int64)]
    missing = limit
    # As many as hold a page, with some more, if the rows that pass are spread evenly.
    step = int(_STEP_FACTOR * limit * view.row_count / found.at_most) + _STEP_ROWS_MIN
    while missing > 0 and first < len(ascending):
        rows = ascending[first : first + step]
        passes = np.empty(len(rows), dtype=np.bool_)
        order = np.argsort(rows)
        passes[order] = found.holds(rows[order])
        kept.append(rows[passes][:missing])
        missing -= len(kept[-1])
        first += step
        step *= 2
        if step > _STEPPED_ROWS_MAX:
            found = known(found.row_set())
    return np.concatenate(kept)


def _from_id(view: View, ascending: Rows, start_id: PointId | None) -> Rows:
    """Rows in id order without those before an id."""
    if start_id is None:
        return ascending
    ids = view.segment.row_ids.get_many(ascending)
    start = point_id_order(start_id)
    first = sum(1 for point_id in ids if point_id_order(point_id) < start)
    return ascending[first:]
