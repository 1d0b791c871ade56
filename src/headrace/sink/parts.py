"""How is what a collection gets from a batch cut into requests?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from headrace.model.ids import PointId
from headrace.sink.batch import Entry
from headrace.sink.changes import Delete, Upsert


def in_parts(
    entries: Sequence[Entry], points_max: Callable[[], int], bytes_max: int
) -> Iterator[Sequence[Entry]]:
    """The entries of one request after the other; all of a point are in one, in their order.

    Args:
        entries: of one collection, in the order they were read.
        points_max: of a request; asked before each.
        bytes_max: of the keys and values whose changes are sent; a point with more goes alone.
    """
    by_point: dict[PointId, list[Entry]] = {}
    sizes: dict[PointId, int] = {}
    for entry in entries:
        point_id = entry.change.point_id
        by_point.setdefault(point_id, []).append(entry)
        # What is before a whole point is not sent.
        before = 0 if isinstance(entry.change, Upsert | Delete) else sizes.get(point_id, 0)
        sizes[point_id] = before + entry.kafka_record.bytes_count
    part: list[Entry] = []
    points = points_room = bytes_count = 0
    for point_id, of_point in by_point.items():
        size = sizes[point_id]
        if points and (points >= points_room or bytes_count + size > bytes_max):
            yield part
            part, points, bytes_count = [], 0, 0
        if not points:
            points_room = points_max()
        part += of_point
        points += 1
        bytes_count += size
    if part:
        yield part
