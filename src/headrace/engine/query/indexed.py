"""Which values of a point does a payload index hold, and how many points have any?"""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from headrace.engine.filter.indexed import IndexedValue, indexed_value
from headrace.engine.payload.paths import leaf_values, values_at
from headrace.engine.segment.segment import View
from headrace.model.collection_config import PayloadFieldSchema
from headrace.model.payload_path import PayloadPath


def indexed_values(
    view: View, row: int, path: PayloadPath, schema: PayloadFieldSchema
) -> Iterator[IndexedValue]:
    """The values that an index of this schema holds of one row, in document order."""
    payload = orjson.loads(view.payload(row))
    for leaf in leaf_values(values_at(payload, path)):
        value = indexed_value(leaf, schema.data_type)
        if value is not None:
            yield value
