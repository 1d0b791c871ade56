"""When has all that was produced become searchable?"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future

from headrace.demo.progress import Figures, ProgressView
from headrace.demo.verify import DemoFailed
from headrace.sink.connector import Connector
from headrace.sink.task import TaskState

_POLL_INTERVAL_S = 0.2
_STANDSTILL_S = 60.0


def watch_until_searchable(
    view: ProgressView,
    connector: Connector,
    producing: Future[int],
    *,
    count_points: Callable[[], int],
    records_total: int,
    points_total: int,
    dead_letters_total: int,
) -> None:
    """Show how the stream runs until every record is taken and every point searchable.

    Raises:
        DemoFailed: the sink failed, or nothing has changed for a minute.
        KafkaUnavailable: the records could not be produced.
    """
    done = (records_total, points_total, dead_letters_total, 0)
    changed_at = started_at = time.monotonic()
    last: tuple[int | None, ...] = ()
    while True:
        if producing.done():
            producing.result()
        status = connector.status()
        if status.state is TaskState.FAILED:
            raise DemoFailed(f"The sink failed: {status.trace}")
        progress = connector.progress()
        now = time.monotonic()
        if progress.records_read == 0:
            started_at = now
        figures = Figures(
            records=progress.records_read,
            records_total=records_total,
            points=count_points(),
            dead_letters=progress.dead_letters,
            lag=progress.lag,
            records_per_s=progress.records_read / max(now - started_at, _POLL_INTERVAL_S),
        )
        current = (figures.records, figures.points, figures.dead_letters, figures.lag)
        if producing.done() and current == done:
            view.finish(figures)
            return
        view.show(figures)
        if current != last:
            last, changed_at = current, now
        elif now - changed_at > _STANDSTILL_S:
            view.finish(figures)
            raise DemoFailed(f"Nothing has changed for {_STANDSTILL_S:g} s: {figures.line()}")
        time.sleep(_POLL_INTERVAL_S)
