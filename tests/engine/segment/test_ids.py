"""The ids of rows, against the ids that were given."""

from __future__ import annotations

from uuid import UUID

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.engine.segment.ids import IdWords, RowIds
from headrace.model.ids import PointId, point_id_order

NUMBERS = st.integers(0, 2**64 - 1) | st.integers(0, 20)
# Small and zero-ended UUIDs: where a UUID is easily taken for a number, or for its half.
UUIDS = (
    st.uuids()
    | st.builds(lambda high: UUID(int=high << 120), st.integers(0, 5))
    | st.builds(lambda low: UUID(int=low), st.integers(0, 20))
)
IDS: st.SearchStrategy[PointId] = NUMBERS | UUIDS


@given(st.lists(IDS, unique=True, min_size=1))
def test_rows_give_their_ids_back_and_sort_by_them(ids: list[PointId]) -> None:
    row_ids = RowIds()
    row_ids.write(0, IdWords.of(ids[:1]))
    assert row_ids.get_many(np.arange(1)) == ids[:1]
    row_ids.write(1, IdWords.of(ids[1:]))
    rows = np.arange(len(ids))
    assert row_ids.get_many(rows) == ids
    assert [row_ids.get(row) for row in range(len(ids))] == ids
    ordered = row_ids.get_many(row_ids.in_id_order(rows))
    assert ordered == sorted(ids, key=point_id_order)
    assert row_ids.get_many(row_ids.in_id_order(rows[::2])) == sorted(ids[::2], key=point_id_order)


@given(st.lists(IDS, unique=True, min_size=1), st.lists(IDS, unique=True))
def test_rows_are_found_by_their_ids_where_no_index_knows_them(
    ids: list[PointId], asked: list[PointId]
) -> None:
    row_ids = RowIds()
    row_ids.write(0, IdWords.of(ids))
    row_ids.write(len(ids), IdWords.of(ids[:1]))
    wanted = {row for row, point_id in enumerate([*ids, ids[0]]) if point_id in asked}
    assert set(row_ids.rows_of(asked, len(ids) + 1).tolist()) == wanted
