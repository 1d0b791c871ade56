"""How fast are points taken in, and how soon are they indexed?"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.data import Dataset
from benchmarks.results import Figure
from benchmarks.sides import BATCH_POINTS, EdgeSide, HeadraceSide
from benchmarks.timing import seconds_of

_UPSERT_TARGET = 1.5
_INDEXING_TARGETS = {"synthetic": 4.0, "text": 2.0}


def compare_filling(
    ours: HeadraceSide,
    theirs: EdgeSide,
    dataset: Dataset,
    data: str,
    tell: Callable[[str], None],
) -> list[Figure]:
    """Fill both empty engines, one after the other, and index them.

    Headrace indexes while it still takes points in, so its time begins with the first
    point; the rival's is that of `optimize` alone.
    """
    ours_upsert_s = seconds_of(lambda: ours.upsert_all(dataset))
    ours_index_s = ours_upsert_s + seconds_of(ours.wait_until_indexed)
    tell(f"{ours.name}: {data} stored in {ours_upsert_s:.1f} s, indexed after {ours_index_s:.1f} s")
    theirs_upsert_s = seconds_of(lambda: theirs.upsert_all(dataset))
    theirs_index_s = seconds_of(theirs.wait_until_indexed)
    tell(
        f"{theirs.name}: {data} stored in {theirs_upsert_s:.1f} s, "
        f"optimized in {theirs_index_s:.1f} s"
    )
    count = len(dataset.vectors)
    return [
        Figure(
            what=f"upsert with payload and two payload indexes, {BATCH_POINTS} points a batch, "
            "synced",
            ratio=theirs_upsert_s / ours_upsert_s,
            target=_UPSERT_TARGET,
            better="higher",
            unit="points/s",
            headrace=count / ours_upsert_s,
            rival=count / theirs_upsert_s,
            rival_name=f"{theirs.name}, not synced",
            data=data,
        ),
        Figure(
            what="time from the first point until everything is indexed, default parameters",
            ratio=theirs_index_s / ours_index_s,
            target=_INDEXING_TARGETS[dataset.name],
            better="higher",
            unit="s",
            headrace=ours_index_s,
            rival=theirs_index_s,
            rival_name=f"{theirs.name}, optimize alone",
            data=data,
        ),
    ]
