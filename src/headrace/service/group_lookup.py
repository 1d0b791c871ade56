"""Which points do the values of groups name, and how are they put beside the groups?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from headrace.model.ids import PointId, as_point_id
from headrace.model.points import PointGroup, Record


def lookup_ids(groups: Iterable[PointGroup]) -> list[PointId]:
    """The ids that the values of groups are; other values name nothing."""
    ids = (as_point_id(group.value) for group in groups)
    return [point_id for point_id in ids if point_id is not None]


def joined(groups: Sequence[PointGroup], records: Iterable[Record]) -> list[PointGroup]:
    """The groups, each with the record that its value names, if there is one."""
    by_id = {record.id: record for record in records}
    return [PointGroup(group.value, group.points, _named(group, by_id)) for group in groups]


def _named(group: PointGroup, by_id: dict[PointId, Record]) -> Record | None:
    point_id = as_point_id(group.value)
    return None if point_id is None else by_id.get(point_id)
