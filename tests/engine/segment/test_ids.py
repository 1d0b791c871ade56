"""Ids to rows and back, against a dictionary."""

from __future__ import annotations

from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.engine.segment.ids import NO_ROW, IdIndex, RowIds
from headrace.model.ids import PointId, point_id_order

NUMBERS = st.integers(0, 2**64 - 1) | st.integers(0, 20)
# Small and zero-ended UUIDs: where fixed-width byte strings are easily compared wrongly.
UUIDS = st.uuids() | st.builds(lambda high: UUID(int=high << 120), st.integers(0, 5))
IDS: st.SearchStrategy[PointId] = NUMBERS | UUIDS


@given(st.lists(st.tuples(st.lists(IDS, unique=True, max_size=8), st.booleans(), st.booleans())))
def test_the_index_answers_as_a_dictionary(
    changes: list[tuple[list[PointId], bool, bool]],
) -> None:
    index, model, next_row = IdIndex(), dict[PointId, int](), 0
    for ids, deletes, folds in changes:
        rows = [NO_ROW] * len(ids) if deletes else list(range(next_row, next_row + len(ids)))
        next_row += len(ids)
        index.set(ids, rows)
        model.update(zip(ids, rows, strict=True))
        if folds:
            index.fold()
        known = [*model, 12345, UUID(int=1)]
        assert index.rows(known).tolist() == [model.get(i, NO_ROW) for i in known]
        assert [index.row(i) for i in known] == [model.get(i, NO_ROW) for i in known]


@given(st.lists(IDS, unique=True, min_size=1))
def test_rows_give_their_ids_back_and_sort_by_them(ids: list[PointId]) -> None:
    row_ids = RowIds()
    row_ids.write(0, ids[:1])
    row_ids.write(1, ids[1:])
    rows = np.arange(len(ids))
    assert row_ids.get_many(rows) == ids
    ordered = row_ids.get_many(row_ids.in_id_order(rows))
    assert ordered == sorted(ids, key=point_id_order)


def test_changes_are_folded_when_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.engine.segment.ids._CHANGES_MIN", 3)
    index = IdIndex()
    index.set([5, 1, 3], [0, 1, 2])
    index.fold_if_grown()
    assert len(index._state.changes) == 3
    index.set([9], [3])
    index.fold_if_grown()
    assert len(index._state.changes) == 0
    assert index.rows([1, 3, 5, 9]).tolist() == [1, 2, 0, 3]
