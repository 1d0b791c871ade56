"""What do the counts of tasks say together?"""

from __future__ import annotations

from headrace.sink.progress import TaskCounters, total_progress


def test_records_that_are_read_and_not_written_are_lag() -> None:
    tasks = [TaskCounters(has_partitions=True, lag=0), TaskCounters(has_partitions=True, lag=0)]
    tasks[0].note_read(3)
    progress = total_progress(tasks)
    assert (progress.records_read, progress.lag) == (3, 3)
    tasks[0].lag = 0
    tasks[1].lag = 7
    tasks[1].note_read(2)
    progress = total_progress(tasks)
    assert (progress.records_read, progress.lag) == (5, 7)


def test_a_lag_that_is_not_known_stays_unknown() -> None:
    tasks = [TaskCounters(has_partitions=True), TaskCounters(has_partitions=True, lag=0)]
    tasks[0].note_read(3)
    assert total_progress(tasks).lag is None


def test_tasks_without_partitions_have_no_part_in_the_lag() -> None:
    tasks = [TaskCounters(), TaskCounters(has_partitions=True, lag=4)]
    assert total_progress(tasks).lag == 4
    assert total_progress(tasks[:1]).lag is None
