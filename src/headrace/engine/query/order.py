"""How are points ordered by a payload value?

The field needs a payload index that has an order (integer, float or datetime), as in
Qdrant; its type says which values count. A point with several values stands once for
each. The index is walked in its order until enough allowed rows are found.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from headrace.engine.payload_index.numbers import Numbers
from headrace.engine.query.indexed_field import Column, IndexedField
from headrace.engine.query.ranked import Ranked
from headrace.engine.segment.segment import View
from headrace.engine.vectors.row_set import RowSet
from headrace.model.collection_config import PayloadFieldSchema, PayloadFieldType
from headrace.model.errors import BadRequest
from headrace.model.filters import Range
from headrace.model.payload_path import parse_payload_path
from headrace.model.queries import Direction, OrderBy
from headrace.model.vectors import Rows

_ORDERED_TYPES = (PayloadFieldType.INTEGER, PayloadFieldType.FLOAT, PayloadFieldType.DATETIME)

# So many entries of an index are looked at first; each further step doubles them.
_ENTRIES_PER_STEP = 256

OrderedValue = tuple[int | float, int]


class OrderedRows(NamedTuple):
    """Rows by payload value; a row stands once for each of its values.

    Attributes:
        rows: in order.
        values: the value each stands for; datetimes in microseconds.
    """

    rows: list[int]
    values: list[int | float]

    def ranked(self) -> Ranked:
        """The same with the score that has no meaning here."""
        rows = np.array(self.rows, dtype=np.int64)
        return Ranked(rows, np.ones(len(rows), dtype=np.float32), self.values)


def order_rows(view: View, order_by: OrderBy, allowed: RowSet, limit: int) -> OrderedRows:
    """The first `limit` of the allowed rows, by a payload value.

    Raises:
        BadRequest: the field has no payload index with an order.
    """
    key = str(parse_payload_path(order_by.key))
    schema = view.schema.get(key)
    if schema is None or not _is_ordered(schema):
        raise BadRequest(
            f"No range index for `order_by` key: `{order_by.key}`. "
            "Please create one to use `order_by`."
        )
    field = IndexedField(view, key, schema, allowed)
    found: list[OrderedValue] = []
    for column in field.columns:
        found.extend(_first_of(column, order_by, limit))
    found.extend(
        (value, row)
        for row, value in field.values_beside_columns()
        if isinstance(value, (int, float)) and _is_shown(value, order_by)
    )
    found.sort(key=lambda item: item[0], reverse=order_by.direction is Direction.DESC)
    return OrderedRows([row for _, row in found[:limit]], [value for value, _ in found[:limit]])


def _first_of(column: Column, order_by: OrderBy, limit: int) -> Iterator[OrderedValue]:
    """The first values of a column's rows, in order."""
    numbers = column.part
    assert isinstance(numbers, Numbers), "an ordered index holds numbers"
    begin, end = _shown_entries(numbers, order_by)
    is_descending = order_by.direction is Direction.DESC
    if column.rows.is_few:
        entries = np.sort(numbers.entries.of_rows(column.rows.rows)[1])
        entries = entries[(entries >= begin) & (entries < end)]
        chosen = entries[::-1][:limit] if is_descending else entries[:limit]
    else:
        chosen = _walk(column, numbers, begin, end, is_descending, limit)
    rows = column.run.outer_rows(numbers.entries.rows[chosen].astype(np.int64))
    return zip(numbers.values[chosen].tolist(), rows.tolist(), strict=True)


def _walk(
    column: Column, numbers: Numbers, begin: int, end: int, is_descending: bool, limit: int
) -> Rows:
    """The first entries of allowed rows, from one end of a stretch of entries."""
    allowed, rows = column.rows.mask, numbers.entries.rows
    found = [np.empty(0, dtype=np.int64)]
    missing, step = limit, max(_ENTRIES_PER_STEP, limit)
    while missing > 0 and begin < end:
        if is_descending:
            entries = np.arange(end - 1, max(begin, end - step) - 1, -1)
            end -= len(entries)
        else:
            entries = np.arange(begin, min(end, begin + step))
            begin += len(entries)
        kept = entries[allowed[rows[entries]]][:missing]
        found.append(kept)
        missing -= len(kept)
        step *= 2
    return np.concatenate(found)


def _shown_entries(numbers: Numbers, order_by: OrderBy) -> tuple[int, int]:
    """The stretch of entries that `start_from` leaves."""
    if order_by.start_from is None:
        return 0, len(numbers.values)
    if order_by.direction is Direction.DESC:
        return numbers.stretch_within(Range(lte=order_by.start_from))
    return numbers.stretch_within(Range(gte=order_by.start_from))


def _is_shown(value: float, order_by: OrderBy) -> bool:
    if order_by.start_from is None:
        return True
    if order_by.direction is Direction.DESC:
        return value <= order_by.start_from
    return value >= order_by.start_from


def _is_ordered(schema: PayloadFieldSchema) -> bool:
    if schema.data_type not in _ORDERED_TYPES:
        return False
    return (schema.params or {}).get("range", True) is not False
