"""Sorted numbers find what comparing each of them in Python finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.engine.filter.values import is_within
from headrace.engine.payload_index import numbers as numbers_module
from headrace.engine.payload_index.numbers import Numbers, NumbersBuilder, merge_numbers
from headrace.model.filters import Range

bounded = settings(max_examples=150, derandomize=True, database=None, deadline=None)

ROW_COUNT = 12
INTEGERS = st.sampled_from((0, 1, 2, -3, 2**53, 2**53 + 1, 2**63 - 1, -(2**63))) | st.integers(
    -(2**63), 2**63 - 1
)
FLOATS = st.sampled_from((0.0, -0.0, 1.5, 2.0**53, 2.0**63, -1e300)) | st.floats(
    allow_nan=False, allow_infinity=False
)
BOUNDS = (
    INTEGERS
    | FLOATS
    | st.sampled_from((float("inf"), float("-inf"), float("nan"), 2**64, -(2**64), 10**400, 0.5))
)
rows = st.integers(0, ROW_COUNT - 1)
ranges = st.dictionaries(st.sampled_from(("lt", "gt", "lte", "gte")), BOUNDS, max_size=3)


def numbers_of(pairs: list[tuple[int, Any]], dtype: type[np.generic]) -> Numbers:
    builder = NumbersBuilder(dtype)
    ordered = sorted(pairs, key=lambda pair: pair[0])
    builder.add([row for row, _ in ordered], [value for _, value in ordered])
    return builder.finish(ROW_COUNT)


@pytest.mark.parametrize("dtype", [np.int64, np.float64])
@bounded
@given(data=st.data(), bounds=ranges)
def test_a_range_finds_what_keeps_the_bounds(
    dtype: type[np.generic], data: st.DataObject, bounds: dict[str, Any]
) -> None:
    values = INTEGERS if dtype is np.int64 else FLOATS
    pairs = data.draw(st.lists(st.tuples(rows, values), max_size=20))
    numbers = numbers_of(pairs, dtype)
    wanted = Range(**bounds)
    expected = sorted({row for row, value in pairs if is_within(value, wanted)})

    found = numbers.within(wanted)

    assert found.row_set().rows.tolist() == expected
    everywhere = np.arange(ROW_COUNT)
    assert everywhere[found.holds(everywhere)].tolist() == expected
    assert found.at_most >= len(expected)
    stretch = numbers.stretch_within(wanted)
    numbers._integers = None  # as without a C compiler
    assert numbers.stretch_within(wanted) == stretch


@pytest.mark.skipif(numbers_module.SortedIntegers is None, reason="built without a C compiler")
def test_what_is_no_number_bounds_nothing_sorted() -> None:
    integers = numbers_module.SortedIntegers(np.array([-5, 0, 0, 7]))
    assert integers.within(None, 0, 7, None) == (1, 3)
    assert integers.within(None, True, None, None) == (3, 4)
    with pytest.raises(TypeError):
        integers.within(None, "0", None, None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="dtype"):
        numbers_module.SortedIntegers(np.array([0.5]))


@bounded
@given(pairs=st.lists(st.tuples(rows, INTEGERS), max_size=20), data=st.data())
def test_equality_and_its_opposite_are_exact(
    pairs: list[tuple[int, int]], data: st.DataObject
) -> None:
    numbers = numbers_of(pairs, np.int64)
    present = [value for _, value in pairs] or [0]
    wanted = data.draw(st.lists(st.sampled_from(present) | INTEGERS | st.just(2**64), max_size=4))
    equal = sorted({row for row, value in pairs if value in wanted})
    other = sorted({row for row, value in pairs if value not in wanted})
    assert numbers.equal_to(wanted).row_set().rows.tolist() == equal
    assert numbers.other_than(wanted).row_set().rows.tolist() == other


@bounded
@given(
    first=st.lists(st.tuples(rows, INTEGERS), max_size=20),
    second=st.lists(st.tuples(rows, INTEGERS), max_size=20),
    kept=st.lists(st.booleans(), min_size=2 * ROW_COUNT, max_size=2 * ROW_COUNT),
)
def test_merged_numbers_are_those_of_the_kept_rows(
    first: list[tuple[int, int]], second: list[tuple[int, int]], kept: list[bool]
) -> None:
    """The rows of the first come to stand at even places, those of the second at odd ones."""
    new_rows = [
        np.array([2 * row + odd if kept[2 * row + odd] else -1 for row in range(ROW_COUNT)])
        for odd in (0, 1)
    ]
    parts = [numbers_of(first, np.int64), numbers_of(second, np.int64)]
    merged = merge_numbers(parts, new_rows, 2 * ROW_COUNT)
    moved = {
        (value, int(to[row]))
        for pairs, to in zip((first, second), new_rows, strict=True)
        for row, value in pairs
        if to[row] >= 0
    }
    pairs = zip(merged.values.tolist(), merged.entries.rows.tolist(), strict=True)
    assert list(pairs) == sorted(moved)
