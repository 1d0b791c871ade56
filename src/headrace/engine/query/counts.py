"""How many points pass a filter, and how many has a payload index?"""

from __future__ import annotations

import numpy as np

from headrace.engine.payload_index.build import Part
from headrace.engine.payload_index.elements import Elements
from headrace.engine.payload_index.places import Places
from headrace.engine.payload_index.shapes import Shapes
from headrace.engine.payload_index.texts import Texts
from headrace.engine.query.indexed_field import IndexedField
from headrace.engine.query.mask import passing
from headrace.engine.segment.segment import View
from headrace.model.filters import Filter
from headrace.model.vectors import Mask


def count_points(view: View, filter: Filter | None) -> int:
    """How many points pass a filter, exactly.

    Raises: as `passing_set`.
    """
    return passing(filter, view).count()


def indexed_points_count(view: View, key: str) -> int:
    """How many points have a value that the payload index of a path takes."""
    field = IndexedField(view, key, view.schema[key], view.live_set)
    known = sum(
        int(np.count_nonzero(_with_value(column.part) & column.rows.mask))
        for column in field.columns
    )
    return known + len({row for row, _ in field.values_beside_columns()})


def _with_value(part: Part) -> Mask:
    """Which rows of the part have a value that the index holds."""
    assert not isinstance(part, (Shapes, Elements)), "those are no payload index"
    if isinstance(part, Texts):
        return part.row_mask()
    if isinstance(part, Places):
        return part.row_mask()
    return part.entries.row_mask()
