"""Which values does a field have, and how many points have each?"""

from __future__ import annotations

from collections import Counter
from uuid import UUID

import numpy as np

from headrace.engine.filter.indexed import IndexedValue
from headrace.engine.query.indexed import indexed_values
from headrace.engine.query.mask import filter_mask
from headrace.engine.segment.segment import View
from headrace.model.collection_config import PayloadFieldSchema, PayloadFieldType
from headrace.model.errors import BadRequest
from headrace.model.filters import Geo
from headrace.model.payload_path import parse_payload_path
from headrace.model.queries import Facet, FacetHit

_COUNTED_TYPES = (
    PayloadFieldType.KEYWORD,
    PayloadFieldType.INTEGER,
    PayloadFieldType.BOOL,
    PayloadFieldType.UUID,
)


def run_facet(view: View, facet: Facet) -> list[FacetHit]:
    """The most frequent values, by count, then by value; a point counts once a value.

    Raises:
        BadRequest: the field has no payload index that serves equality.
    """
    path = parse_payload_path(facet.key)
    schema = view.schema.get(str(path))
    if schema is None or not _is_counted(schema):
        raise BadRequest(
            f"No appropriate index for faceting: `{facet.key}`. "
            "Please create one to facet on this field."
        )
    counts: Counter[str | int | bool] = Counter()
    for row in np.flatnonzero(filter_mask(facet.filter, view)).tolist():
        counts.update({_shown(value) for value in indexed_values(view, row, path, schema)})
    hits = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [FacetHit(value, count) for value, count in hits[: facet.limit]]


def _shown(value: IndexedValue) -> str | int | bool:
    assert not isinstance(value, (float, Geo)), "no such type is counted"
    return str(value) if isinstance(value, UUID) else value


def _is_counted(schema: PayloadFieldSchema) -> bool:
    if schema.data_type not in _COUNTED_TYPES:
        return False
    return (schema.params or {}).get("lookup", True) is not False
