"""Masks of stretches are the same compiled or not, and know their count."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.engine.payload_index import entries as entries_module
from headrace.engine.payload_index.entries import Entries, Stretches


@given(st.integers(0, 300) | st.integers(1000, 2000), st.integers(0, 2**32 - 1), st.data())
@settings(max_examples=100, deadline=None)
def test_rows_of_a_stretch_are_those_of_its_entries(
    count: int, seed: int, data: st.DataObject
) -> None:
    row_count = count + data.draw(st.integers(0, 50))
    rows = np.random.default_rng(seed).permutation(row_count)[:count].astype(np.int32)
    begin = data.draw(st.integers(0, count))
    end = data.draw(st.integers(begin, count))
    made = Entries(rows, row_count)
    truth = np.zeros(row_count, dtype=np.bool_)
    truth[rows[begin:end]] = True
    asked = np.random.default_rng(seed).integers(0, max(row_count, 1), 20 if row_count else 0)
    with pytest.MonkeyPatch.context() as patched:
        for name in ("", "are_between", "bits_between"):  # one after the other is missing
            if name:
                patched.setattr(entries_module, name, None)
            many = made.rows_between(begin, end)
            assert many.packed.tolist() == np.packbits(truth, bitorder="little").tolist()
            assert (many.mask == truth).all()
            assert many.rows.tolist() == np.flatnonzero(truth).tolist()
            assert (made.are_between(asked, begin, end) == truth[asked]).all()
            found = Stretches(made, [begin], [end]).row_set()
            assert found.count == end - begin == int(np.count_nonzero(found.mask))
            assert (found.mask == truth).all()


@pytest.mark.skipif(entries_module.are_between is None, reason="built without a C compiler")
def test_what_is_not_a_stretch_is_refused() -> None:
    are_between, bits_between = entries_module.are_between, entries_module.bits_between
    assert are_between is not None
    assert bits_between is not None
    numbers = np.array([-1, 0, 5, 2**31 - 1], dtype=np.int32)
    assert are_between(numbers, 0, 2**31 - 1).tolist() == [False, True, True, False]
    assert bits_between(numbers, 0, 2**31 - 1).tolist() == [0b0110]
    assert are_between(numbers[:0], 0, 5).tolist() == bits_between(numbers[:0], 0, 5).tolist() == []
    for begin, end in ((5, 4), (-1, 4)):
        with pytest.raises(ValueError, match="before its beginning"):
            are_between(numbers, begin, end)
        with pytest.raises(ValueError, match="before its beginning"):
            bits_between(numbers, begin, end)
