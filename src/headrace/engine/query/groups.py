"""How are results grouped by a payload value?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeGuard

import msgspec
from msgspec import UNSET

from headrace.engine.payload.paths import JsonValue, leaf_values, values_at
from headrace.engine.payload.store import payloads_at
from headrace.engine.payload_index.documents import CHUNK_DOCUMENTS, member_reader
from headrace.engine.query.execute import QueryContext, rank, to_points
from headrace.engine.query.ranked import Ranked
from headrace.engine.segment.segment import View
from headrace.model.payload_path import Key, PayloadPath, parse_payload_path
from headrace.model.points import PointGroup
from headrace.model.queries import GroupBy, Query
from headrace.model.vectors import Rows

GroupValue = str | int

# A round asks for this many times the points that full groups need, then twice as many
# again, until the groups are full or there are no more points.
_OVERSAMPLING = 4


def run_groups(context: QueryContext, query: Query, group_by: GroupBy) -> list[PointGroup]:
    """The best groups, best hit first, each with its best points.

    A point stands in the group of each of its values (strings and integers); points
    without one stand in none.

    Raises: as `run_query`.
    """
    path = parse_payload_path(group_by.key)
    wanted = group_by.limit * group_by.group_size * _OVERSAMPLING
    while True:
        found = rank(context, msgspec.structs.replace(query, limit=wanted, offset=0))
        ranked = found.once()
        groups = _gather(context, ranked, path, group_by)
        is_full = len(groups) == group_by.limit and all(
            len(places) == group_by.group_size for places in groups.values()
        )
        if is_full or len(found.rows) < wanted:
            break
        wanted *= 2
    return [
        PointGroup(value, to_points(context, query, ranked.part(places)))
        for value, places in groups.items()
    ]


def _gather(
    context: QueryContext, ranked: Ranked, path: PayloadPath, group_by: GroupBy
) -> dict[GroupValue, list[int]]:
    """Places in `ranked` by group value, in the order in which groups appear."""
    groups: dict[GroupValue, list[int]] = {}
    for place, values in enumerate(_group_values(context.view, ranked.rows, path)):
        for value in values:
            places = groups.get(value)
            if places is None and len(groups) < group_by.limit:
                places = groups[value] = []
            if places is not None and len(places) < group_by.group_size:
                places.append(place)
    return groups


def _group_values(view: View, rows: Rows, path: PayloadPath) -> Iterator[list[GroupValue]]:
    """The values that each row is grouped by: strings and integers, each once."""
    first = path.steps[0]
    assert isinstance(first, Key), "a path begins with a key"
    reader = member_reader((first.name,))
    for begin in range(0, len(rows), CHUNK_DOCUMENTS):
        payloads = payloads_at(view.payloads, rows[begin : begin + CHUNK_DOCUMENTS].tolist())
        for member in reader.read(payloads)[0]:
            document = {} if member is UNSET else {first.name: member}
            leaves = leaf_values(values_at(document, path))
            yield list(dict.fromkeys(leaf for leaf in leaves if _is_group_value(leaf)))


def _is_group_value(leaf: JsonValue) -> TypeGuard[GroupValue]:
    if isinstance(leaf, int):
        # Beyond 64 bits a number counts as a float.
        return not isinstance(leaf, bool) and -(2**63) <= leaf < 2**64
    return isinstance(leaf, str)
