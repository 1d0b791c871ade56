"""Sets of rows do what Python's sets do, in whichever form they are."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.engine.vectors.row_set import RowSet

ROW_COUNT = 61
bounded = settings(max_examples=200, derandomize=True, database=None, deadline=None)

# Few rows, so that lists stay lists, or many.
members = st.sets(st.integers(0, ROW_COUNT - 1), max_size=3) | st.sets(
    st.integers(0, ROW_COUNT - 1)
)


def row_set(rows: set[int], form: str) -> RowSet:
    listed = RowSet.of_rows(np.array(sorted(rows), dtype=np.int64), ROW_COUNT)
    match form:
        case "mask":
            return RowSet.of_mask(listed.mask.copy())
        case "bits":
            return RowSet.of_bits(listed.packed.copy(), ROW_COUNT, len(rows))
    return RowSet.of_rows(listed.rows, ROW_COUNT)


sets = st.builds(row_set, members, st.sampled_from(("rows", "mask", "bits")))


def rows_of(found: RowSet) -> set[int]:
    assert found.count == len(found.rows) == int(found.mask.sum())
    assert found.rows.tolist() == sorted(set(found.rows.tolist()))
    assert found.row_count == len(found.mask) == ROW_COUNT
    return set(found.rows.tolist())


@bounded
@given(a=sets, b=sets)
def test_two_sets_combine_as_sets_do_and_stay_as_they_were(a: RowSet, b: RowSet) -> None:
    in_a, in_b = rows_of(a), rows_of(b)
    assert rows_of(a & b) == in_a & in_b
    assert rows_of(a | b) == in_a | in_b
    assert rows_of(a - b) == in_a - in_b
    assert rows_of(a.complement()) == set(range(ROW_COUNT)) - in_a
    assert rows_of(a.having(b.mask)) == in_a & in_b
    assert a.contains(b.rows).tolist() == [row in in_a for row in b.rows.tolist()]
    assert (rows_of(a), rows_of(b)) == (in_a, in_b)


@bounded
@given(several=st.lists(sets, max_size=6))
def test_the_union_of_several_has_the_rows_of_each(several: list[RowSet]) -> None:
    expected = set().union(*map(rows_of, several))
    assert rows_of(RowSet.union(iter(several), ROW_COUNT)) == expected
    assert set().union(*map(rows_of, several)) == expected
