"""Does a point pass a filter?

The slow, obviously right answer: a walk of the filter for one point, from its payload.
Payload indexes and query plans are tested against it. Semantics are Qdrant 1.19's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from headrace.engine.filter.fields import (
    are_empty,
    element_field_passes,
    field_passes,
    have_null,
    values_of,
)
from headrace.engine.filter.slices import in_slice
from headrace.engine.payload.paths import JsonObject, values_at
from headrace.model.collection_config import PayloadFieldSchema
from headrace.model.filters import (
    Condition,
    FieldCondition,
    Filter,
    HasId,
    HasVector,
    IsEmpty,
    IsNull,
    Nested,
    Slice,
)
from headrace.model.ids import PointId
from headrace.model.payload_path import PayloadPath, parse_payload_path

Schema = Mapping[str, PayloadFieldSchema]


class EvaluatedPoint(Protocol):
    """What a filter asks of a point."""

    @property
    def id(self) -> PointId:
        """The user's id."""
        ...

    @property
    def payload(self) -> JsonObject:
        """As `orjson.loads` gives it; not to be changed."""
        ...

    def has_vector(self, name: str) -> bool:
        """Whether the point has a vector of this name; "" is the default vector."""
        ...


def matches(filter: Filter, point: EvaluatedPoint, schema: Schema) -> bool:
    """Whether a point passes a filter.

    Args:
        filter: its payload paths in canonical text.
        point: read only.
        schema: of each indexed payload path, in canonical text; an index changes what
            some conditions mean (see `headrace.engine.filter.indexed`).
    """
    return _filter_holds(filter, _PointSubject(point, schema))


class _PointSubject:
    """Conditions on a whole point."""

    def __init__(self, point: EvaluatedPoint, schema: Schema) -> None:
        self._point = point
        self._schema = schema

    def satisfies(self, condition: Condition) -> bool:
        match condition:
            case FieldCondition(key):
                return field_passes(condition, self._point.payload, self._schema.get(key))
            case IsEmpty(key):
                return are_empty(values_of(self._point.payload, key))
            case IsNull(key):
                values = values_of(self._point.payload, key)
                # Without an index, Qdrant 1.19 does not look into arrays here.
                return have_null(values) if key in self._schema else None in values
            case HasId(ids):
                return self._point.id in ids
            case HasVector(name):
                return self._point.has_vector(name)
            case Slice():
                return in_slice(self._point.id, condition)
            case Nested():
                return _some_element_holds(condition, self._point.payload, self._schema)
            case Filter():
                return _filter_holds(condition, self)


class _ElementSubject:
    """Conditions on one object of an array: it has fields, but neither id nor vectors."""

    def __init__(self, element: JsonObject, schema: Schema) -> None:
        self._element = element
        self._schema = schema

    def satisfies(self, condition: Condition) -> bool:
        match condition:
            case FieldCondition(key):
                return element_field_passes(condition, self._element, self._schema.get(key))
            case IsEmpty(key):
                return are_empty(values_of(self._element, key))
            case IsNull(key):
                return None in values_of(self._element, key)
            case HasId() | HasVector() | Slice():
                return False
            case Nested():
                return _some_element_holds(condition, self._element, self._schema)
            case Filter():
                return _filter_holds(condition, self)


def _filter_holds(filter: Filter, subject: _PointSubject | _ElementSubject) -> bool:
    satisfies = subject.satisfies
    if not all(satisfies(condition) for condition in filter.must):
        return False
    if any(satisfies(condition) for condition in filter.must_not):
        return False
    if filter.should and not any(satisfies(condition) for condition in filter.should):
        return False
    if filter.min_should is None:
        return True
    held = sum(satisfies(condition) for condition in filter.min_should.conditions)
    return held >= filter.min_should.min_count


def _some_element_holds(nested: Nested, payload: JsonObject, schema: Schema) -> bool:
    """Whether some object in the array passes by itself; what is no object never does."""
    elements_path = parse_payload_path(nested.key).each_element()
    element_schema = _schema_below(elements_path, schema)
    return any(
        _filter_holds(nested.filter, _ElementSubject(element, element_schema))
        for element in values_at(payload, elements_path)
        if isinstance(element, dict)
    )


def _schema_below(elements_path: PayloadPath, schema: Schema) -> Schema:
    """The indexes on fields of the elements, by their paths inside an element."""
    prefix = f"{elements_path}."
    return {
        path.removeprefix(prefix): field
        for path, field in schema.items()
        if path.startswith(prefix)
    }
