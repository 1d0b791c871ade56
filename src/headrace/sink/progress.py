"""How far is a sink, and what became of its records?"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.model.operations import SourcePartition

# From a record that is written as soon as it is there to one that waited a day.
FRESHNESS_BOUNDS_S: Final = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0,
    3_600.0, 86_400.0,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SinkProgress:
    """The counts of a connector since it was started.

    Attributes:
        records_read: records taken from Kafka, bad ones included.
        points_written: points put; a point with three records in one batch counts once.
        points_deleted: points deleted, or asked to be.
        records_skipped: bad records that went nowhere (`errors.tolerance=all` without a
            dead-letter topic).
        records_repeated: records read again that the target already had.
        records_stale: records that something newer had overtaken (`version.field`).
        dead_letters: records written to the dead-letter topic.
        dead_letters_by_reason: bad records by why they are bad, whatever became of them.
        retries: writes that were tried again because the target could take nothing.
        lag: records in Kafka that are not durable in the target yet: the sum over all
            partitions of log end minus position. None until that is known.
    """

    records_read: int = 0
    points_written: int = 0
    points_deleted: int = 0
    records_skipped: int = 0
    records_repeated: int = 0
    records_stale: int = 0
    dead_letters: int = 0
    dead_letters_by_reason: dict[str, int] = field(default_factory=dict)
    retries: int = 0
    lag: int | None = None


class Freshness:
    """How long records took from their timestamp to being searchable.

    Attributes:
        counts: by bucket, one more than `FRESHNESS_BOUNDS_S`; each counts what is above the
            bound before its own.
        total_s: the sum over all records.
    """

    def __init__(self) -> None:
        self.counts = [0] * (len(FRESHNESS_BOUNDS_S) + 1)
        self.total_s = 0.0

    def observe(self, timestamps_ms: NDArray[np.int64], now_s: float) -> None:
        """Count records that are searchable now; a timestamp in the future counts as 0 s."""
        ages_s = np.maximum(0.0, now_s - timestamps_ms / 1000)
        buckets = np.searchsorted(FRESHNESS_BOUNDS_S, ages_s)
        found = np.bincount(buckets, minlength=len(self.counts)).tolist()
        self.counts = [a + b for a, b in zip(self.counts, found, strict=True)]
        self.total_s += float(ages_s.sum())


@dataclass(slots=True)
class TaskCounters:
    """The counts of one task: written by its threads, read by any.

    What several of its threads count goes through `add` and the methods behind it.

    Attributes:
        has_partitions: whether the group has given the task any.
        lag: see `SinkProgress`.
        partition_lags: the same for each partition of the task, where it is known.
        topics: the topics that records were read from.
        batches_written: writes of batches that succeeded.
        write_time_s: what they took, in all.
        write_time_max_s: what the longest took.
        commits_completed: how often Kafka has confirmed committed offsets.
        consumers_abandoned: consumers that got stuck, in whose place others came.
        dead_letter_failures: bad records that the dead-letter topic did not take.
        request_points_max: how many points a request to a remote target may have now.
        freshness: of the records that were written.
    """

    records_read: int = 0
    points_written: int = 0
    points_deleted: int = 0
    records_skipped: int = 0
    records_repeated: int = 0
    records_stale: int = 0
    dead_letters: int = 0
    bad_records: Counter[str] = field(default_factory=Counter)
    retries: int = 0
    has_partitions: bool = False
    lag: int | None = None
    partition_lags: dict[SourcePartition, int] = field(default_factory=dict)
    topics: frozenset[str] = frozenset()
    batches_written: int = 0
    write_time_s: float = 0.0
    write_time_max_s: float = 0.0
    commits_completed: int = 0
    consumers_abandoned: int = 0
    dead_letter_failures: int = 0
    request_points_max: int = 0
    freshness: Freshness = field(default_factory=Freshness)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, **counts: int) -> None:
        """Add to counts, by their names."""
        with self._lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)

    def note_read(self, count: int) -> None:
        """Count records that were read; the lag is so much at least until it is looked at again.

        So nobody sees records counted that are not written yet, and no lag beside them.
        """
        with self._lock:
            if self.lag is not None:
                self.lag = max(self.lag, count)
            self.records_read += count

    def note_bad(self, reasons: Iterable[str]) -> None:
        """Count bad records by why they are bad."""
        with self._lock:
            self.bad_records.update(reasons)

    def note_write(self, taken_s: float, timestamps_ms: NDArray[np.int64]) -> None:
        """Count a write of records that are searchable now."""
        with self._lock:
            self.batches_written += 1
            self.write_time_s += taken_s
            self.write_time_max_s = max(self.write_time_max_s, taken_s)
            self.freshness.observe(timestamps_ms, time.time())


def total_progress(tasks: Sequence[TaskCounters]) -> SinkProgress:
    """The counts of all tasks together; tasks without partitions have no part in the lag."""
    # First, since the lag is raised before records are counted: see `note_read`.
    records_read = sum(task.records_read for task in tasks)
    lags = [task.lag for task in tasks if task.has_partitions]
    known = [lag for lag in lags if lag is not None]
    bad_records: Counter[str] = Counter()
    for task in tasks:
        bad_records.update(task.bad_records.copy())
    return SinkProgress(
        records_read=records_read,
        points_written=sum(task.points_written for task in tasks),
        points_deleted=sum(task.points_deleted for task in tasks),
        records_skipped=sum(task.records_skipped for task in tasks),
        records_repeated=sum(task.records_repeated for task in tasks),
        records_stale=sum(task.records_stale for task in tasks),
        dead_letters=sum(task.dead_letters for task in tasks),
        dead_letters_by_reason=dict(bad_records),
        retries=sum(task.retries for task in tasks),
        lag=sum(known) if lags and len(known) == len(lags) else None,
    )
