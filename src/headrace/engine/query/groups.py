"""How are results grouped by a payload value?"""

from __future__ import annotations

import msgspec
import orjson

from headrace.engine.payload.paths import leaf_values, values_at
from headrace.engine.query.execute import QueryContext, rank, to_points
from headrace.engine.query.ranked import Ranked
from headrace.model.payload_path import PayloadPath, parse_payload_path
from headrace.model.points import PointGroup
from headrace.model.queries import GroupBy, Query

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
        limit = min(wanted, context.view.row_count)
        ranked = rank(context, msgspec.structs.replace(query, limit=limit, offset=0))
        groups = _gather(context, ranked, path, group_by)
        is_full = len(groups) == group_by.limit and all(
            len(places) == group_by.group_size for places in groups.values()
        )
        if is_full or len(ranked.rows) < wanted:
            break
        wanted *= 2
    return [
        PointGroup(
            value, to_points(context, query, Ranked(ranked.rows[places], ranked.scores[places]))
        )
        for value, places in groups.items()
    ]


def _gather(
    context: QueryContext, ranked: Ranked, path: PayloadPath, group_by: GroupBy
) -> dict[GroupValue, list[int]]:
    """Places in `ranked` by group value, in the order in which groups appear."""
    groups: dict[GroupValue, list[int]] = {}
    for place, row in enumerate(ranked.rows.tolist()):
        payload = orjson.loads(context.view.payload(row))
        for value in _group_values(payload, path):
            places = groups.get(value)
            if places is None and len(groups) < group_by.limit:
                places = groups[value] = []
            if places is not None and len(places) < group_by.group_size:
                places.append(place)
    return groups


def _group_values(payload: dict[str, object], path: PayloadPath) -> list[GroupValue]:
    values = leaf_values(values_at(payload, path))  # type: ignore[arg-type]
    kept = [v for v in values if isinstance(v, (str, int)) and not isinstance(v, bool)]
    return list(dict.fromkeys(kept))
