"""In which order are the changes of a batch written, when some change only parts of points?

Whole points first, then, in rounds, the first change of each point, the second, and so on:
so the order of each point is kept, and many points still share an operation.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from headrace.model.ids import PointId
from headrace.sink.batch import Entry, Fold
from headrace.sink.changes import Delete, Merge, Upsert, WritableChange, resolve_merge


@dataclass(frozen=True, slots=True)
class Step:
    """An entry and what a target has to write for it."""

    entry: Entry
    changes: tuple[WritableChange, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of each point, and the entries whose point is not there."""

    by_point: dict[PointId, list[Step]]
    without_point: list[Entry]


def plan_steps(folded: Fold, existing: Collection[PointId]) -> Plan:
    """What a target has to write.

    Args:
        folded: the entries of one collection.
        existing: of the points that are only patched, those that the collection has.
    """
    by_point: dict[PointId, list[Step]] = {}
    for entry in (*folded.upserts, *folded.deletes):
        assert isinstance(entry.change, Upsert | Delete)
        by_point[entry.change.point_id] = [Step(entry, (entry.change,))]
    without_point: list[Entry] = []
    for point_id, entries in folded.patches.items():
        steps = by_point.setdefault(point_id, [])
        exists = isinstance(steps[0].entry.change, Upsert) if steps else point_id in existing
        for entry in entries:
            if isinstance(entry.change, Merge):
                steps.append(Step(entry, tuple(resolve_merge(entry.change, exists))))
                exists = True
            elif exists:
                assert not isinstance(entry.change, Upsert | Delete)
                steps.append(Step(entry, (entry.change,)))
            else:
                without_point.append(entry)
    return Plan(by_point, without_point)


def points_without_whole(folded: Fold) -> list[PointId]:
    """The points that are only patched: whether they exist is for the target to say."""
    whole = {one.change.point_id for one in (*folded.upserts, *folded.deletes)}
    return [point_id for point_id in folded.patches if point_id not in whole]


def in_rounds(groups: Iterable[Sequence[Step]]) -> list[WritableChange]:
    """All changes of some points, each point's in order, like ones side by side."""
    sequences = [[change for step in steps for change in step.changes] for steps in groups]
    ordered: list[WritableChange] = []
    for chosen in zip_longest(*sequences):
        present = [change for change in chosen if change is not None]
        ordered += sorted(present, key=lambda change: type(change).__name__)
    return ordered
