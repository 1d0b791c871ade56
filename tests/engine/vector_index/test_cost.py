"""The plan is a value that says what will be done, and why."""

from __future__ import annotations

import pytest

from headrace.engine.vector_index.cost import Strategy, plan_range
from headrace.engine.vector_index.settings import IndexSettings

NODES = 100_000
DEFAULTS = IndexSettings()


@pytest.mark.parametrize("cardinality", [0, 1, 100, 1_000, 5_000])
def test_few_rows_are_scored_one_by_one(cardinality: int) -> None:
    assert plan_range(cardinality, NODES, 128, 100, DEFAULTS).strategy is Strategy.EXACT


@pytest.mark.parametrize("cardinality", [20_000, 50_000, NODES])
def test_many_rows_are_found_by_the_graph(cardinality: int) -> None:
    assert plan_range(cardinality, NODES, 128, 100, DEFAULTS).strategy is Strategy.GRAPH


def test_walk_is_as_wide_as_asked_where_all_rows_are_allowed() -> None:
    assert plan_range(NODES, NODES, 128, 77, DEFAULTS).ef == 77


def test_walk_widens_as_the_allowed_rows_thin_out() -> None:
    widths = [
        plan_range(cardinality, NODES, 128, 100, DEFAULTS).ef
        for cardinality in (NODES, NODES // 2, NODES // 10, NODES // 100)
    ]
    assert widths == sorted(set(widths))


def test_full_scan_threshold_that_was_set_is_kept() -> None:
    settings = IndexSettings(full_scan_kb=20_000)
    assert plan_range(40_000, NODES, 128, 100, settings).strategy is Strategy.EXACT
    assert plan_range(40_001, NODES, 128, 100, settings).strategy is Strategy.GRAPH
