from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from benchmarks.plots import Axis, Line, plot
from benchmarks.report import newest_results, write_report
from benchmarks.results import Figure, Run, write_results

RIVAL = "rival 1.0"


def figure(what: str, ratio: float, data: str = "synthetic 1,000 x 8") -> Figure:
    return Figure(what, ratio, 1.5, "higher", "queries/s", ratio, 1, RIVAL, data, 0.99, 0.98)


def run(hour: int) -> Run:
    return Run("0" * 40, "a machine", f"2024-01-01T{hour:02d}:00:00Z")


def test_of_each_figure_the_newest_result_counts(tmp_path: Path) -> None:
    write_results(tmp_path, run(1), [figure("a", 1), figure("b", 2)])
    write_results(tmp_path, run(2), [figure("a", 3)])
    results = newest_results(tmp_path)
    assert {one.figure.what: one.figure.ratio for one in results} == {"a": 3, "b": 2}


def test_the_page_shows_what_was_missed_and_every_run(tmp_path: Path) -> None:
    write_results(tmp_path / "results", run(1), [figure("met", 2), figure("missed", 1)])
    write_report(newest_results(tmp_path / "results"), tmp_path)
    page = (tmp_path / "benchmarks.md").read_text()
    assert "| met | 2.00 | at least 1.5 |" in page
    assert "| missed | **1.00** | at least 1.5 |" in page
    assert "2024-01-01T01:00:00Z" in page
    assert list((tmp_path / "benchmarks").iterdir()) == []


def test_curves_and_growth_become_plots(tmp_path: Path) -> None:
    figures = [figure(f"search, no filter, width {w} and {w}", w) for w in (8, 16)]
    figures += [
        figure("search, no filter, at recall 0.99", 2, f"synthetic {points:,} x 8")
        for points in (1_000, 10_000)
    ]
    write_results(tmp_path / "results", run(1), figures)
    write_report(newest_results(tmp_path / "results"), tmp_path)
    names = {path.stem for path in (tmp_path / "benchmarks").iterdir()}
    assert names == {"recall-synthetic-1000", "growth-search"}
    page = (tmp_path / "benchmarks.md").read_text()
    assert all(f"benchmarks/{name}.svg" in page for name in names)
    assert "width 8" not in page


def test_a_plot_keeps_all_points_inside() -> None:
    lines = [Line("one & two", [(1, 10), (1000, 20)]), Line("flat", [(10, 10)])]
    root = ElementTree.fromstring(plot("t", Axis("x", True), Axis("y"), lines))
    circles = [one for one in root.iter() if one.tag.endswith("circle")]
    assert len(circles) == 3 + 2
    for circle in circles:
        assert 0 <= float(circle.attrib["cx"]) <= 640
        assert 0 <= float(circle.attrib["cy"]) <= 360
