"""Which records of a batch are older than what is stored, or than one before them?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from headrace.model.ids import PointId
from headrace.sink.batch import Entry
from headrace.sink.changes import Delete, Version
from headrace.sink.errors import RecordError
from headrace.sink.json_value import JsonValue
from headrace.sink.shapes.versions import is_stale


@dataclass(slots=True)
class VersionOrder:
    """Entries by what their versions say.

    Attributes:
        current: to be written.
        stale: something newer was there.
        refused: their version cannot be compared with the stored one.
    """

    current: Sequence[Entry] = ()
    stale: list[Entry] = field(default_factory=list)
    refused: list[tuple[Entry, RecordError]] = field(default_factory=list)


def sort_by_version(entries: Sequence[Entry], stored: Mapping[PointId, JsonValue]) -> VersionOrder:
    """Sort entries; what has no version is taken as it comes.

    Args:
        entries: of one collection, in the order they were read.
        stored: the versions of the points that are there.
    """
    newest: dict[PointId, Version] = {
        point_id: value
        for point_id, value in stored.items()
        if isinstance(value, int | float | str) and not isinstance(value, bool)
    }
    current: list[Entry] = []
    order = VersionOrder(current)
    for entry in entries:
        change = entry.change
        version, known = change.version, newest.get(change.point_id)
        try:
            if version is not None and known is not None and is_stale(version, known):
                order.stale.append(entry)
                continue
        except RecordError as error:
            order.refused.append((entry, error))
            continue
        current.append(entry)
        if version is not None:
            newest[change.point_id] = version
        elif isinstance(change, Delete):
            newest.pop(change.point_id, None)
    return order
