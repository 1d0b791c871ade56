"""How do facets, orders and counts read the columns of the rows they are about?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from headrace.engine.filter.indexed import IndexedValue
from headrace.engine.payload_index.build import Part
from headrace.engine.payload_index.conditions import indexed_part
from headrace.engine.payload_index.run import Run
from headrace.engine.query.indexed import indexed_values
from headrace.engine.segment.segment import View
from headrace.engine.vectors.row_set import RowSet
from headrace.model.collection_config import PayloadFieldSchema
from headrace.model.payload_path import parse_payload_path
from headrace.model.vectors import Rows


class Column(NamedTuple):
    """A part of the payload index and the rows of it that are asked about.

    Attributes:
        run: what the part covers.
        part: the values.
        rows: the allowed rows, numbered as in the run.
    """

    run: Run
    part: Part
    rows: RowSet


class IndexedField:
    """The values that the payload index of a field holds, for the allowed rows of a view.

    Args:
        view: where it is read.
        key: the payload path; it has a payload index.
        schema: of that index.
        allowed: the rows that are asked about, all live.
    """

    def __init__(self, view: View, key: str, schema: PayloadFieldSchema, allowed: RowSet) -> None:
        self._view = view
        self._key = key
        self._schema = schema
        index = view.segment.payload_index
        coverage = index.coverage(view)
        unknown = RowSet.of_rows(coverage.unknown, view.row_count)
        self._unknown = unknown & allowed
        known = allowed - unknown
        part_key = indexed_part(key, schema)
        self.columns = [
            Column(
                covered.run,
                index.require(covered.run, [part_key], view.schema)[part_key],
                covered.inner_set(known),
            )
            for covered in coverage.runs
        ]

    def values_beside_columns(self) -> Iterator[tuple[int, IndexedValue]]:
        """(row, value) of the rows that no column knows, each once."""
        path = parse_payload_path(self._key)
        rows: Rows = self._unknown.rows
        for row in rows.tolist():
            for value in set(indexed_values(self._view, row, path, self._schema)):
                yield row, value
