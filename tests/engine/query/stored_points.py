"""A segment that is written to step by step, without a log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from headrace.engine.collection.apply import apply_operation
from headrace.engine.segment.segment import Segment, View
from headrace.engine.vector_index.builder import IndexBuilder
from headrace.model.collection_config import CollectionConfig, PayloadFieldSchema, VectorParams
from headrace.model.ids import PointId
from headrace.model.operations import CreatePayloadIndex, Operation
from headrace.model.points import PointStruct
from headrace.model.upserts import build_upsert
from headrace.model.vectors import Distance, Vector

CONFIG = CollectionConfig(
    vectors={"": VectorParams(2, Distance.DOT), "other": VectorParams(2, Distance.DOT)}
)


class StoredPoints:
    """A segment and its newest view.

    Args:
        schema: the payload indexes, by payload path.
    """

    def __init__(self, schema: Mapping[str, PayloadFieldSchema] | None = None) -> None:
        self.segment = Segment(CONFIG, IndexBuilder())
        self._seq_no = 0
        self.apply(*(CreatePayloadIndex(key, field) for key, field in (schema or {}).items()))

    @property
    def view(self) -> View:
        return self.segment.working_view()

    def apply(self, *operations: Operation) -> None:
        """One batch."""
        self._seq_no += 1
        self.segment.begin(self._seq_no)
        for operation in operations:
            apply_operation(self.segment, operation)
        self.segment.end_batches()

    def apply_and_take_back(self, *operations: Operation) -> None:
        """A batch that fails at its end."""
        self.segment.begin(self._seq_no + 1)
        for operation in operations:
            apply_operation(self.segment, operation)
        self.segment.rollback()

    def upsert(self, points: Sequence[tuple[PointId, dict[str, Any]]]) -> None:
        """Points whose vectors depend on their ids."""
        self.apply(upsert_of(points))

    def keep_up(self, is_settled: bool = True) -> None:
        """What the background does; while writes go on, if it is not settled."""
        self.segment.payload_index.keep_up(self.view, is_settled=lambda: is_settled)


def upsert_of(points: Sequence[tuple[PointId, dict[str, Any]]]) -> Operation:
    """An upsert of points; those with an odd id have the vector `other` too."""
    return build_upsert([_point(point_id, payload) for point_id, payload in points], CONFIG)


def _point(point_id: PointId, payload: dict[str, Any]) -> PointStruct:
    vector = np.array([int(point_id) % 97, 1], dtype=np.float32)
    vectors: dict[str, Vector] = {"": vector}
    if int(point_id) % 2:
        vectors["other"] = vector
    return PointStruct(point_id, vectors, orjson.dumps(payload))
