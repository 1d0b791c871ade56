"""Each benchmark, small: it runs, finds what is right, and writes what it promises."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.command import main
from benchmarks.data import make_dataset
from benchmarks.ingest import compare_ingest
from benchmarks.results import describe_run
from benchmarks.rooms import compare, exact_scores, recall_at
from benchmarks.stores import EdgeStore

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


def test_recall_counts_ties_as_found() -> None:
    vectors = np.array([[1, 0], [1, 0], [0, 1], [-1, 0]], dtype=np.float32)
    scores = exact_scores(vectors, np.array([[2, 0]], dtype=np.float32))
    assert recall_at(1, [[0]], scores) == recall_at(1, [[1]], scores) == 1
    assert recall_at(2, [[0, 2]], scores) == 0.5
    assert recall_at(2, [[2, 3]], scores) == 0


def test_both_engines_find_every_nearest_point_exactly(tmp_path: Path) -> None:
    told: list[str] = []
    upsert, search = compare(make_dataset(POINTS, DIM, QUERIES), tmp_path, told.append)
    assert (search.recall, search.rival_recall) == (1, 1)
    for figure in (upsert, search):
        assert figure.ratio == pytest.approx(figure.headrace / figure.rival)
    assert [line.partition(":")[0] for line in told] == ["headrace", EdgeStore.name]


def test_every_record_value_becomes_a_point_in_both_engines(tmp_path: Path) -> None:
    figure = compare_ingest(make_dataset(POINTS, DIM, 1), tmp_path)
    assert figure.ratio == pytest.approx(figure.headrace / figure.rival)


def test_a_run_writes_one_line_for_each_figure(tmp_path: Path) -> None:
    results, disk = tmp_path / "results", tmp_path / "disk"
    main(
        [
            *("--points", str(POINTS), "--dim", str(DIM), "--queries", str(QUERIES)),
            *("--results", str(results), "--disk", str(disk)),
        ]
    )
    (file,) = results.iterdir()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(lines) == 3
    here = describe_run(POINTS, DIM)
    for line in lines:
        assert {"what", "ratio", "target", "better", "unit", "headrace", "rival"} <= set(line)
        assert line["better"] in ("higher", "lower")
        assert (line["commit"], line["machine"]) == (here.commit, here.machine)
        assert (line["points"], line["dim"]) == (POINTS, DIM)
    assert list(disk.iterdir()) == []
