"""Points as the evaluator sees them, and the sets of them that pass a filter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.engine.filter.evaluate import matches
from headrace.engine.payload.paths import JsonObject
from headrace.model.collection_config import PayloadFieldSchema, PayloadFieldType
from headrace.model.filters import Condition, Filter
from headrace.model.ids import PointId


@dataclass(frozen=True)
class StoredPoint:
    """A point with a payload and named vectors."""

    id: PointId
    payload: JsonObject
    vector_names: frozenset[str] = frozenset({""})

    def has_vector(self, name: str) -> bool:
        return name in self.vector_names


def passing(
    filter: Filter,
    payloads: Mapping[PointId, JsonObject] | Sequence[JsonObject],
    schema: Mapping[str, PayloadFieldSchema] | None = None,
) -> set[PointId]:
    """The ids of the points that pass; a sequence of payloads is numbered from 0."""
    by_id = payloads if isinstance(payloads, Mapping) else dict(enumerate(payloads))
    points = [StoredPoint(id, payload) for id, payload in by_id.items()]
    return {point.id for point in points if matches(filter, point, schema or {})}


def passes(
    condition: Condition,
    payload: JsonObject,
    schema: Mapping[str, PayloadFieldSchema] | None = None,
) -> bool:
    """Whether a point with this payload satisfies one condition."""
    return bool(passing(Filter(must=(condition,)), [payload], schema))


def indexed(data_type: str, **params: Any) -> dict[str, PayloadFieldSchema]:
    """A payload index of field `a`."""
    sent = {"type": data_type, **params} if params else None
    return {"a": PayloadFieldSchema(PayloadFieldType(data_type), sent)}
