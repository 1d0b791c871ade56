"""Which rows should get a graph next?

The first graph is built when there are `rows_min` vectors. From then on smaller numbers are
worth it, since they are added to a copy of a graph: copying a node takes about 0.3 us,
linking a new one about 100 us. So a range is extended by whatever follows it unless it is
very much larger; only then the new rows become a range of their own, until they are enough.
That keeps a collection up to a million rows in one graph and a larger one in few, and leaves
few rows to be scanned. A row is linked once or twice; again, at a fifth of the cost, whenever
what follows is more than a fifth of its range (`graph.extended`).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

# A range stays apart from what follows it while it has more than this many times its
# vectors. Copying then costs about as much as linking; walking one more graph would cost
# every search as much as the first.
_TIER_RATIO = 512

# Where there is a graph, this part of `rows_min` is enough to extend it: 10,000 kB of
# vectors take 500 us to scan, an eighth of them about as long as walking the graph.
_TAIL_PART = 8


def tail_min(has_ranges: bool, rows_min: int) -> int:
    """How many vectors behind the sealed ranges get into a graph."""
    return -(-rows_min // _TAIL_PART) if has_ranges else rows_min


class RangeSize(msgspec.Struct, frozen=True):
    """What the plan must know of a sealed range.

    Attributes:
        vectors: in its graph, deleted ones included.
        live: of these, of live rows.
        is_outdated: whether it was made with other options than those that hold now.
    """

    vectors: int
    live: int
    is_outdated: bool = False


class BuildPlan(msgspec.Struct, frozen=True):
    """One step of work.

    Attributes:
        first, end: the ranges [first, end) are replaced by one; none if they are equal.
        takes_tail: whether the new range goes on to the newest published row.
        extends: whether the graph of range `first` is extended; otherwise it starts empty.
        reason: in words.
    """

    first: int
    end: int
    takes_tail: bool
    extends: bool
    reason: str


def plan_build(
    ranges: Sequence[RangeSize], tail_vectors: int, rows_min: int, deleted_share_max: float
) -> BuildPlan | None:
    """The most useful step, or None if all is well.

    Args:
        ranges: of the sealed ranges, in row order.
        tail_vectors: live vectors behind them.
        rows_min: so many vectors get a first graph.
        deleted_share_max: a range with a larger share of deleted vectors is made anew.
    """
    if tail_vectors >= tail_min(bool(ranges), rows_min):
        first, added = len(ranges), tail_vectors
        while first and ranges[first - 1].vectors <= _TIER_RATIO * added:
            first -= 1
            added += ranges[first].vectors
        extends = first < len(ranges) and not _is_worn(ranges[first], deleted_share_max)
        return BuildPlan(first, len(ranges), True, extends, f"{tail_vectors} rows have no graph")
    for place, size in enumerate(ranges):
        if _is_worn(size, deleted_share_max):
            dead = size.vectors - size.live
            reason = f"{dead} of its vectors are deleted"
            if size.is_outdated:
                reason = "the options of the index have changed"
            return BuildPlan(place, place + 1, False, False, reason)
    return None


def _is_worn(size: RangeSize, deleted_share_max: float) -> bool:
    return size.is_outdated or size.vectors - size.live > deleted_share_max * size.vectors
