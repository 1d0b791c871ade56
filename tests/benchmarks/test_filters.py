from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.data import make_dataset
from benchmarks.filters import compare_filters


def test_both_engines_find_and_count_the_same_with_filters(tmp_path: Path) -> None:
    """That counts, pages and facets agree, the benchmark itself asserts."""
    told: list[str] = []
    figures = compare_filters(make_dataset(1_500, 16, 10), tmp_path, 3, told.append)
    searches = [figure for figure in figures if figure.what.startswith("search")]
    assert len(searches) == 10
    assert {(one.recall, one.rival_recall) for one in searches} == {(1.0, 1.0)}
    for figure in figures:
        assert figure.ratio == pytest.approx(figure.headrace / figure.rival)
    assert len(told) == 4
