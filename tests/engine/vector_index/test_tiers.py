"""Graphs stay few, and no row is linked more than a few times."""

from __future__ import annotations

from headrace.engine.vector_index.tiers import RangeSize, plan_build

ROWS_MIN = 1000


def test_small_tail_needs_no_graph() -> None:
    assert plan_build([], ROWS_MIN - 1, ROWS_MIN, 0.2) is None


def test_first_rows_get_a_graph_of_their_own() -> None:
    plan = plan_build([], ROWS_MIN, ROWS_MIN, 0.2)
    assert plan is not None
    assert (plan.first, plan.end, plan.takes_tail, plan.extends) == (0, 0, True, False)


def test_graph_is_extended_by_less_than_a_first_graph_needs() -> None:
    ranges = [RangeSize(2000, 2000)]
    assert plan_build(ranges, ROWS_MIN // 8 - 1, ROWS_MIN, 0.2) is None
    plan = plan_build(ranges, ROWS_MIN // 8, ROWS_MIN, 0.2)
    assert plan is not None
    assert (plan.first, plan.end, plan.takes_tail, plan.extends) == (0, 1, True, True)


def test_graph_that_is_very_much_larger_is_not_copied_for_a_few_rows() -> None:
    ranges = [RangeSize(4_000_000, 4_000_000), RangeSize(3000, 3000), RangeSize(1000, 1000)]
    plan = plan_build(ranges, 1000, ROWS_MIN, 0.2)
    assert plan is not None
    assert (plan.first, plan.end, plan.extends) == (1, 3, True)


def test_worn_range_is_made_anew_instead_of_extended() -> None:
    plan = plan_build([RangeSize(2000, 1500)], 1000, ROWS_MIN, 0.2)
    assert plan is not None
    assert (plan.first, plan.end, plan.takes_tail, plan.extends) == (0, 1, True, False)


def test_worn_range_is_made_anew_without_new_rows_too() -> None:
    plan = plan_build([RangeSize(2000, 2000), RangeSize(500, 399)], 0, ROWS_MIN, 0.2)
    assert plan is not None
    assert (plan.first, plan.end, plan.takes_tail, plan.extends) == (1, 2, False, False)


def test_rows_that_trickle_in_are_linked_at_most_twice_and_leave_few_graphs() -> None:
    ranges: list[RangeSize] = []
    linked = 0
    steps = 1024
    for _ in range(steps):
        plan = plan_build(ranges, ROWS_MIN, ROWS_MIN, 0.2)
        assert plan is not None
        merged = ranges[plan.first : plan.end]
        size = ROWS_MIN + sum(one.vectors for one in merged)
        linked += size - (merged[0].vectors if plan.extends else 0)
        ranges = [*ranges[: plan.first], RangeSize(size, size), *ranges[plan.end :]]
        assert len(ranges) <= 3
    assert sum(one.vectors for one in ranges) == steps * ROWS_MIN
    assert linked <= 2 * steps * ROWS_MIN
