from __future__ import annotations

import gc
import weakref

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.engine.payload_index.changes import ChangeLog

bounded = settings(max_examples=60, derandomize=True, database=None, deadline=None)


@bounded
@given(
    writes=st.lists(st.lists(st.integers(0, 50), max_size=5), max_size=20),
    marks=st.tuples(st.integers(0, 20), st.integers(0, 20)),
)
def test_the_rows_between_two_marks_are_those_that_were_logged_between(
    writes: list[list[int]], marks: tuple[int, int]
) -> None:
    log = ChangeLog()
    taken = [log.mark()]
    for rows in writes:
        log.append(np.array(rows, dtype=np.int64))
        taken.append(log.mark())
    first, last = sorted(min(mark, len(writes)) for mark in marks)

    rows_between = taken[first].rows_until(taken[last])

    expected = sorted({row for rows in writes[first:last] for row in rows})
    assert rows_between.tolist() == expected


def test_long_writes_reach_over_several_stretches() -> None:
    log = ChangeLog()
    log.append(np.arange(3))
    start = log.mark()
    for begin in range(0, 30_000, 7_000):
        log.append(np.arange(begin, begin + 7_000))
    assert start.rows_until(log.mark()).tolist() == list(range(35_000))


def test_a_later_mark_has_no_rows_until_an_earlier_one() -> None:
    log = ChangeLog()
    earlier = log.mark()
    log.append(np.arange(3))
    assert log.mark().rows_until(earlier).tolist() == []


def test_what_lies_before_the_oldest_mark_is_freed() -> None:
    log = ChangeLog()
    oldest = log.mark()
    first_stretch = weakref.ref(oldest.stretch)
    log.append(np.arange(20_000))
    newest = log.mark()
    assert len(oldest.rows_until(newest)) == 20_000
    del oldest
    gc.collect()
    assert first_stretch() is None
    assert newest.rows_until(log.mark()).tolist() == []
