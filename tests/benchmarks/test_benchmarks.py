"""Each benchmark, small: it runs, finds what is right, and writes what it promises."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks.command import main
from benchmarks.data import make_dataset, make_payloads
from benchmarks.filling import compare_filling
from benchmarks.filtering import compare_filters
from benchmarks.ingest import compare_ingest
from benchmarks.opening import compare_opening
from benchmarks.recall import exact_scores, recall_of
from benchmarks.results import Figure, describe_run, read_results, write_results
from benchmarks.searching import CurvePoint, compare_searches, seconds_at
from benchmarks.sides import EdgeSide, HeadraceSide
from benchmarks.sparse import compare_sparse, make_sparse_data
from benchmarks.texts import TooFewTexts, find_sentences
from benchmarks.timing import alternate, in_block_order

POINTS = 1_500
DIM = 16
QUERIES = 10


def test_the_same_numbers_make_the_same_data() -> None:
    first, second = (make_dataset(POINTS, DIM, QUERIES) for _ in range(2))
    assert np.array_equal(first.vectors, second.vectors)
    assert np.array_equal(first.queries, second.queries)
    assert first.payloads == second.payloads
    assert first.vectors.shape == (POINTS, DIM)
    assert first.vectors.dtype == np.float32


def test_each_number_is_had_by_about_one_point_in_a_thousand() -> None:
    numbers = np.array([payload["number"] for payload in make_payloads(20_000)])
    assert 50 < np.count_nonzero(numbers < 10) < 400


def test_sentences_are_distinct_and_the_same_again() -> None:
    sentences = find_sentences(500)
    assert len(set(sentences)) == 500
    assert find_sentences(500) == sentences
    with pytest.raises(TooFewTexts):
        find_sentences(10**9)


def test_recall_counts_ties_as_found() -> None:
    vectors = np.array([[1, 0], [1, 0], [0, 1], [-1, 0]], dtype=np.float32)
    scores = list(exact_scores(vectors, np.array([[1, 0]], dtype=np.float32)))
    assert recall_of(1, [[0]], scores) == recall_of(1, [[1]], scores) == 1
    assert recall_of(2, [[0, 2]], scores) == 0.5
    assert recall_of(2, [[2, 3]], scores) == 0


def test_recall_with_a_filter_asks_for_no_more_than_pass() -> None:
    scores = [np.array([0.9, 0.5, 0.1], dtype=np.float32)]
    assert recall_of(2, [[1]], scores, [np.array([False, True, False])]) == 1
    assert recall_of(2, [[0]], scores, [np.array([False, True, True])]) == 0


def test_every_call_is_made_once_in_turn() -> None:
    calls: list[tuple[str, int]] = []

    def ask(name: str, number: int) -> int:
        calls.append((name, number))
        return number

    asked = [(number,) for number in range(6)]
    first, second = alternate([partial(ask, "a"), partial(ask, "b")], [asked, asked], blocks=2)
    assert calls[:2] == [("a", 0), ("b", 0)]
    assert [name for name, _ in calls[2:]] == ["a"] * 3 + ["b"] * 3 + ["a"] * 2 + ["b"] * 2
    assert first.answers == second.answers == in_block_order(range(6), blocks=2)


def test_the_time_at_a_recall_lies_between_the_widths_around_it() -> None:
    curve = [CurvePoint(10, 0.9, 1.0), CurvePoint(20, 0.95, 2.0), CurvePoint(40, 0.99, 4.0)]
    assert seconds_at(0.8, curve) == 1.0
    assert seconds_at(0.97, curve) == pytest.approx(3.0)
    assert seconds_at(0.999, curve) is None


def test_both_engines_find_and_count_the_same(tmp_path: Path) -> None:
    """That counts, pages and facets agree, the benchmark itself asserts."""
    dataset = make_dataset(POINTS, DIM, QUERIES)
    ours, theirs = HeadraceSide(tmp_path / "ours", DIM), EdgeSide(tmp_path / "theirs", DIM)
    told: list[str] = []
    figures = compare_filling(ours, theirs, dataset, "small", told.append)
    figures += compare_searches(ours, theirs, dataset, "small", told.append)
    figures += compare_filters(ours, theirs, dataset, "small", 5)
    ours.close()
    theirs.close()
    searches = [one for one in figures if one.recall is not None and "at recall" not in one.what]
    assert len(searches) > 20
    assert {(one.recall, one.rival_recall) for one in searches} == {(1.0, 1.0)}
    assert {figure.data for figure in figures} == {"small"}
    for figure in figures:
        raw = figure.headrace / figure.rival
        assert figure.ratio == pytest.approx(1 / raw if figure.unit == "s" else raw)
    assert len(told) == 4


def test_sparse_searches_find_the_same(tmp_path: Path) -> None:
    """That the scores agree, the benchmark itself asserts."""
    data = make_sparse_data(400, 10)
    assert all(len(set(one.indices.tolist())) == len(one.indices) > 30 for one in data.points)
    assert compare_sparse(data, tmp_path).data == "synthetic 400 sparse"


def test_every_record_value_becomes_a_point_in_both_engines(tmp_path: Path) -> None:
    figure = compare_ingest(make_dataset(POINTS, DIM, 1), "small", tmp_path)
    assert figure.ratio == pytest.approx(figure.headrace / figure.rival)


def test_a_figure_knows_whether_its_target_is_met() -> None:
    def figure(ratio: float, better: str) -> Figure:
        return Figure("w", ratio, 2.0, better, "s", 1, 1, "r", "d")  # type: ignore[arg-type]

    assert figure(2.0, "higher").is_met
    assert not figure(1.9, "higher").is_met
    assert figure(1.9, "lower").is_met
    assert not figure(2.1, "lower").is_met


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    figures = [Figure("w", 1.5, None, "higher", "s", 1, 1.5, "r", "d", 0.9, 0.8)]
    run = describe_run()
    assert read_results(write_results(tmp_path, run, figures)) == (run, figures)


def test_a_run_writes_one_line_for_each_figure(tmp_path: Path) -> None:
    results, disk = tmp_path / "results", tmp_path / "disk"
    main(
        [
            *("--only", "ingest", "--points", str(POINTS), "--dim", str(DIM)),
            *("--results", str(results), "--disk", str(disk)),
        ]
    )
    (file,) = results.iterdir()
    (line,) = [json.loads(line) for line in file.read_text().splitlines()]
    here = describe_run()
    assert {"what", "ratio", "target", "better", "unit", "headrace", "rival", "data"} <= set(line)
    assert line["better"] in ("higher", "lower")
    assert (line["commit"], line["machine"]) == (here.commit, here.machine)
    assert line["data"] == f"synthetic {POINTS:,} x {DIM}"
    assert list(disk.iterdir()) == []


def test_both_engines_open_what_they_stored_in_processes_of_their_own(tmp_path: Path) -> None:
    dataset = make_dataset(POINTS, DIM, QUERIES)
    ours, theirs = HeadraceSide(tmp_path / "ours", DIM), EdgeSide(tmp_path / "theirs", DIM)
    for side in (ours, theirs):
        side.upsert_all(dataset)
        side.close()
    told: list[str] = []
    opening, memory = compare_opening(
        tmp_path / "ours", tmp_path / "theirs", dataset, "small", told.append
    )
    assert len(told) == 1
    assert min(opening.headrace, opening.rival, memory.headrace, memory.rival) > 0
    assert opening.target is None
