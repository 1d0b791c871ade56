from __future__ import annotations

import itertools
import time
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from headrace.demo.progress import Figures, ProgressView
from headrace.demo.verify import DemoFailed
from headrace.demo.watch import watch_until_searchable
from headrace.sink.progress import SinkProgress
from headrace.sink.task import TaskState


def connector_that_says(progress: SinkProgress, state: TaskState = TaskState.RUNNING) -> Any:
    status = SimpleNamespace(state=state, trace="because")
    return SimpleNamespace(progress=lambda: progress, status=lambda: status)


def run_watch(connector: Any) -> None:
    producing: Future[int] = Future()
    producing.set_result(10)
    with ProgressView(Console(quiet=True)) as view:
        watch_until_searchable(
            view,
            connector,
            producing,
            count_points=lambda: 9,
            records_total=10,
            points_total=9,
            dead_letters_total=1,
        )


def test_watch_ends_when_every_figure_is_reached() -> None:
    run_watch(connector_that_says(SinkProgress(records_read=10, dead_letters=1, lag=0)))


def test_watch_fails_when_nothing_changes_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = itertools.count(step=10)
    monkeypatch.setattr(time, "monotonic", lambda: next(seconds))
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with pytest.raises(DemoFailed, match="Nothing has changed for 60 s: records in 9 of 10"):
        run_watch(connector_that_says(SinkProgress(records_read=9, dead_letters=1, lag=1)))


def test_watch_fails_with_the_sink() -> None:
    with pytest.raises(DemoFailed, match="because"):
        run_watch(connector_that_says(SinkProgress(), TaskState.FAILED))


def test_figures_are_one_line_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressView(Console(width=200)) as view:
        view.finish(Figures(1_000, 2_000, 990, 10, None, 333.3))
    assert capsys.readouterr().out == (
        "records in 1,000 of 2,000 | points searchable 990 | 333 records/s | lag - | "
        "dead letters 10\n"
    )
