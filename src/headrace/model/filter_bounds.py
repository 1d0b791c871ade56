"""How deep and how long may a filter be?

Evaluating a deeper one would take the stack, a longer one seconds. A client that wants more
conditions wants `match.any` or `has_id`, whose lists are not bounded.
"""

from __future__ import annotations

from collections.abc import Sequence

from headrace.model.errors import BadRequest
from headrace.model.filters import Condition, Filter, Nested

FILTER_DEPTH_MAX = 64
FILTER_CONDITIONS_MAX = 65_536

_NESTING = frozenset((Filter, Nested))


def check_depth(depth: int) -> None:
    """Refuse a filter that stands in too many others.

    Raises:
        BadRequest: it does.
    """
    if depth > FILTER_DEPTH_MAX:
        raise BadRequest(f"Filter is nested too deeply: at most {FILTER_DEPTH_MAX} levels")


def check_conditions_count(count: int) -> None:
    """Refuse a filter with too many conditions, those inside others included.

    Raises:
        BadRequest: it has.
    """
    if count > FILTER_CONDITIONS_MAX:
        raise BadRequest(f"Filter has too many conditions: at most {FILTER_CONDITIONS_MAX}")


def check_size(filter: Filter) -> None:
    """Refuse a filter that is too deep or has too many conditions.

    Raises:
        BadRequest: it is.
    """
    conditions = conditions_of(filter)
    check_conditions_count(len(conditions))
    if _NESTING.isdisjoint(map(type, conditions)):
        return  # as nearly always
    conditions_count = 0
    level: Sequence[Filter] = [filter]
    depth = 0
    while level:
        depth += 1
        check_depth(depth)
        conditions = [condition for one in level for condition in conditions_of(one)]
        conditions_count += len(conditions)
        check_conditions_count(conditions_count)
        level = [
            one.filter if isinstance(one, Nested) else one
            for one in conditions
            if isinstance(one, (Nested, Filter))
        ]


def conditions_of(filter: Filter) -> list[Condition]:
    """The conditions of all clauses; those inside them are not opened."""
    conditions = [*filter.must, *filter.should, *filter.must_not]
    if filter.min_should is not None:
        conditions += filter.min_should.conditions
    return conditions
