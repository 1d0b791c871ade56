"""Which values does a field have, and how many points have each?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from headrace.engine.filter.indexed import IndexedValue
from headrace.engine.payload_index.entries import Entries
from headrace.engine.payload_index.numbers import Numbers
from headrace.engine.payload_index.terms import Terms
from headrace.engine.query.indexed_field import Column, IndexedField
from headrace.engine.query.mask import passing_set
from headrace.engine.segment.segment import View
from headrace.engine.vectors.row_set import RowSet
from headrace.model.collection_config import PayloadFieldSchema, PayloadFieldType
from headrace.model.errors import BadRequest
from headrace.model.filters import Geo
from headrace.model.payload_path import parse_payload_path
from headrace.model.queries import Facet, FacetHit
from headrace.model.vectors import Rows

_COUNTED_TYPES = (
    PayloadFieldType.KEYWORD,
    PayloadFieldType.INTEGER,
    PayloadFieldType.BOOL,
    PayloadFieldType.UUID,
)

FacetValue = str | int | bool


def run_facet(view: View, facet: Facet) -> list[FacetHit]:
    """The most frequent values, by count, then by value; a point counts once a value.

    Raises:
        BadRequest: the field has no payload index that serves equality.
    """
    key = str(parse_payload_path(facet.key))
    schema = view.schema.get(key)
    if schema is None or not _is_counted(schema):
        raise BadRequest(
            f"No appropriate index for faceting: `{facet.key}`. "
            "Please create one to facet on this field."
        )
    field = IndexedField(view, key, schema, passing_set(facet.filter, view))
    beside = Counter(_shown(value) for _, value in field.values_beside_columns())
    columns = [column for column in field.columns if column.rows.count]
    if len(columns) == 1 and not beside:
        counted: Iterable[tuple[FacetValue, int]] = _most_frequent(columns[0], facet.limit)
    else:
        for column in columns:
            beside.update(dict(_most_frequent(column, None)))
        counted = beside.items()
    hits = sorted(counted, key=lambda item: (-item[1], item[0]))
    return [FacetHit(value, count) for value, count in hits[: facet.limit]]


def _most_frequent(column: Column, limit: int | None) -> list[tuple[FacetValue, int]]:
    """The values of a column's rows and their counts, without those beyond `limit`."""
    part = column.part
    if isinstance(part, Terms):
        counts = _counts(part.entries, part.bounds, column.rows)
        codes = _largest(counts, limit, part)
        return [(part.terms[code], int(counts[code])) for code in codes.tolist()]
    assert isinstance(part, Numbers), "no other part is counted"
    begins = part.value_begins
    counts = _counts(part.entries, np.append(begins, len(part.values)), column.rows)
    places = _largest(counts, limit, None)
    values = part.values[begins[places]]
    if values.dtype == np.int8:
        values = values.astype(np.bool_)
    return list(zip(values.tolist(), counts[places].tolist(), strict=True))


def _counts(entries: Entries, bounds: Rows, rows: RowSet) -> NDArray[np.int64]:
    """How many of the rows have each value."""
    if not len(entries):
        return np.empty(0, dtype=np.int64)
    if rows.count == rows.row_count:
        return np.diff(bounds)
    if rows.is_few:
        found = entries.of_rows(rows.rows)[1]
        values = np.searchsorted(bounds, found, side="right") - 1
        return np.bincount(values, minlength=len(bounds) - 1)
    counts = np.zeros(len(bounds) - 1, dtype=np.int64)
    used = np.flatnonzero(np.diff(bounds))
    counts[used] = np.add.reduceat(rows.mask[entries.rows], bounds[used], dtype=np.int64)
    return counts


def _largest(counts: NDArray[np.int64], limit: int | None, terms: Terms | None) -> Rows:
    """The places of the `limit` largest counts, of equal ones the first; none that is 0.

    Args:
        counts: by value, ascending, or by the codes of `terms`.
        limit: None is all.
        terms: if places are its codes.
    """
    places = np.flatnonzero(counts)
    if limit is None or len(places) <= limit:
        return places
    present = counts[places]
    smallest = np.partition(present, -limit)[-limit]
    larger = places[present > smallest]
    equal = places[present == smallest]
    wanted = limit - len(larger)
    if terms is not None and wanted < len(equal):
        equal = equal[np.argpartition(terms.ranks[equal], wanted)]
    return np.concatenate((larger, equal[:wanted]))


def _shown(value: IndexedValue) -> FacetValue:
    assert not isinstance(value, (float, Geo)), "no such type is counted"
    return str(value) if isinstance(value, UUID) else value


def _is_counted(schema: PayloadFieldSchema) -> bool:
    if schema.data_type not in _COUNTED_TYPES:
        return False
    return (schema.params or {}).get("lookup", True) is not False
