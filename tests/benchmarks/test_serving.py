"""The benchmark of `headrace serve`, small; it needs the load generator wrk."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.bare_server import make_index
from benchmarks.data import make_dataset
from benchmarks.serving import LoadGeneratorMissing, compare_serving


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk, which is not installed")
def test_both_servers_answer_searches_with_the_nearest_points(tmp_path: Path) -> None:
    figure = compare_serving(
        make_dataset(1_500, 16, 10), "small", tmp_path, lambda line: None, seconds=1
    )
    assert (figure.recall, figure.rival_recall) == (1.0, 1.0)
    assert figure.ratio == pytest.approx(figure.headrace / figure.rival)


def test_without_a_load_generator_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(LoadGeneratorMissing, match="apt-get install wrk"):
        compare_serving(make_dataset(10, 4, 1), "small", tmp_path, lambda line: None)


def test_the_bare_server_finds_the_point_that_is_asked_for() -> None:
    vectors = make_dataset(500, 16, 1).vectors
    index = make_index(vectors.copy(), ef=64)
    unit = vectors[7:8] / np.linalg.norm(vectors[7:8])
    _, ids = index.search(unit.astype(np.float32), 1)
    assert ids.tolist() == [[7]]
