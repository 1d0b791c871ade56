"""How are points ordered by a payload value?

The field needs a payload index that has an order (integer, float or datetime), as in
Qdrant; its type says which values count. A point with several values stands once for
each.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from headrace.engine.query.indexed import indexed_values
from headrace.engine.query.ranked import Ranked
from headrace.engine.segment.segment import View
from headrace.model.collection_config import PayloadFieldSchema, PayloadFieldType
from headrace.model.errors import BadRequest
from headrace.model.payload_path import parse_payload_path
from headrace.model.queries import Direction, OrderBy
from headrace.model.vectors import Mask

_ORDERED_TYPES = (PayloadFieldType.INTEGER, PayloadFieldType.FLOAT, PayloadFieldType.DATETIME)


class OrderedRows(NamedTuple):
    """Rows by payload value; a row stands once for each of its values.

    Attributes:
        rows: in order.
        values: the value each stands for; datetimes in microseconds.
    """

    rows: list[int]
    values: list[int | float]

    def ranked(self) -> Ranked:
        """Each row once, where it first stands, with the score that has no meaning here."""
        rows = np.array(list(dict.fromkeys(self.rows)), dtype=np.int64)
        return Ranked(rows, np.ones(len(rows), dtype=np.float32))


def order_rows(view: View, order_by: OrderBy, allowed: Mask, limit: int) -> OrderedRows:
    """The first `limit` of the allowed rows, by a payload value.

    Raises:
        BadRequest: the field has no payload index with an order.
    """
    path = parse_payload_path(order_by.key)
    schema = view.schema.get(str(path))
    if schema is None or not _is_ordered(schema):
        raise BadRequest(
            f"No range index for `order_by` key: `{order_by.key}`. "
            "Please create one to use `order_by`."
        )
    found: list[tuple[int | float, int]] = []
    for row in np.flatnonzero(allowed).tolist():
        for value in indexed_values(view, row, path, schema):
            assert isinstance(value, (int, float)), "an ordered index holds numbers"
            found.append((value, row))
    descending = order_by.direction is Direction.DESC
    if order_by.start_from is not None:
        start = order_by.start_from
        found = [f for f in found if (f[0] <= start if descending else f[0] >= start)]
    found.sort(key=lambda item: item[0], reverse=descending)
    return OrderedRows([row for _, row in found[:limit]], [value for value, _ in found[:limit]])


def _is_ordered(schema: PayloadFieldSchema) -> bool:
    if schema.data_type not in _ORDERED_TYPES:
        return False
    return (schema.params or {}).get("range", True) is not False
