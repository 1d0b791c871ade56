"""What is a point, on its way in and on its way out?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, NamedTuple, TypeVar

import msgspec

from headrace.model.ids import PointId
from headrace.model.operations import EMPTY_PAYLOAD, PayloadJson
from headrace.model.vectors import Vector, VectorBatch

T = TypeVar("T")


class PointStruct(msgspec.Struct, frozen=True, eq=False):
    """A point as a writer sends it; `build_upsert` turns many into one operation."""

    id: PointId
    vectors: dict[str, Vector]
    payload: PayloadJson = EMPTY_PAYLOAD


class Record(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A stored point as a reader gets it.

    Attributes:
        version: the seq_no that last changed the point.
        payload: JSON bytes; None if it was not asked for.
        vectors: by name; None if they were not asked for. Arrays are read only.
        order_value: the payload value the point was ordered by, if it was.
    """

    id: PointId
    version: int
    payload: PayloadJson | None = None
    vectors: dict[str, Vector] | None = None
    order_value: int | float | None = None


class ScoredPoint(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A search result: a record and its score, as answers show it."""

    record: Record
    score: float


class PointGroup(msgspec.Struct, frozen=True, eq=False):
    """The best points that share a payload value.

    Attributes:
        lookup: the record that the group's value names in another collection, if asked for.
    """

    value: str | int
    points: list[ScoredPoint]
    lookup: Record | None = None


class ScrollPage(msgspec.Struct, frozen=True, eq=False):
    """One page of a scroll; `next_id` is None on the last page."""

    records: list[Record]
    next_id: PointId | None


class Pieces(NamedTuple, Generic[T]):
    """Points that are read as they are taken, so that many of them take little memory.

    All show the state in which they were found, whatever is written then.

    Attributes:
        at_most: how many there may be; fewer if some are not stored.
        pieces: a few at a time, in order.
    """

    at_most: int
    pieces: Iterator[list[T]]


class ScrollPieces(NamedTuple):
    """One page of a scroll, in pieces; `next_id` is None on the last page."""

    records: Pieces[Record]
    next_id: PointId | None


class PointColumns(msgspec.Struct, frozen=True, eq=False):
    """Stored points as flat arrays, in the form in which `UpsertPoints` takes them.

    Attributes:
        ids: one per point.
        vectors: by vector name; a point may lack any of them. Arrays are the reader's own.
        payloads: one JSON object per point; None if they were not asked for.
    """

    ids: list[PointId]
    vectors: dict[str, VectorBatch]
    payloads: list[PayloadJson] | None
