"""The benchmark of the stream, small: every record becomes a point, on both sides."""

from __future__ import annotations

from pathlib import Path

from benchmarks.data import make_dataset
from benchmarks.freshness import compare_freshness
from benchmarks.streaming import compare_streaming


def test_all_records_of_a_broker_become_points(tmp_path: Path) -> None:
    told: list[str] = []
    figure = compare_streaming(make_dataset(1_500, 16, 1), "small", tmp_path, 0.5, told.append)
    assert len(told) == 3
    assert figure.ratio > 0


def test_records_that_stream_in_are_found_beside_other_searches(tmp_path: Path) -> None:
    told: list[str] = []
    dataset = make_dataset(2_000, 16, 20)
    fresh, search = compare_freshness(dataset, "small", tmp_path, 1_000, 0.5, told.append)
    assert len(told) == 5
    assert (fresh.better, search.better) == ("lower", "lower")
    assert fresh.headrace > 0
    assert search.headrace > 0
