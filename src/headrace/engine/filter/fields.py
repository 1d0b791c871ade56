"""Does a payload satisfy the condition on one of its fields?

A condition may carry several operators. Where the field has a payload index, the first
operator that the index answers decides alone. Otherwise values_count, is_empty and
is_null, in this order, each take over alone; else any operator that holds is enough.
"""

from __future__ import annotations

from collections.abc import Sequence

from headrace.engine.filter.indexed import full_text_answer, index_answer, index_serves
from headrace.engine.filter.values import Operator, is_within, value_satisfies
from headrace.engine.payload.paths import JsonObject, JsonValue, leaf_values, values_at
from headrace.model.collection_config import PayloadFieldSchema, PayloadFieldType
from headrace.model.filters import (
    FieldCondition,
    MatchPhrase,
    MatchText,
    MatchTextAny,
    ValuesCount,
)
from headrace.model.payload_path import parse_payload_path


def field_passes(
    condition: FieldCondition, payload: JsonObject, schema: PayloadFieldSchema | None
) -> bool:
    """Whether the field passes.

    Args:
        condition: its `key` names the field.
        payload: of the point.
        schema: of the field's payload index, if it has one.
    """
    values = values_of(payload, condition.key)
    if schema is not None:
        leaves = list(leaf_values(values))
        for operator in operators_of(condition):
            if index_serves(operator, schema):
                return index_answer(operator, leaves, schema)
        if condition.is_empty is not None:
            return are_empty(values) == condition.is_empty
        if condition.is_null is not None:
            return have_null(values) == condition.is_null
    return _passes_by_payload(condition, values)


def element_field_passes(
    condition: FieldCondition, element: JsonObject, schema: PayloadFieldSchema | None
) -> bool:
    """Whether a field of an array element passes, inside a nested condition.

    The payload decides here, whatever indexes there are; but a text index decides how
    text is compared, and each text then stands by itself.
    """
    values = values_of(element, condition.key)
    if schema is not None and schema.data_type is PayloadFieldType.TEXT:
        match condition.match:
            case MatchText() | MatchTextAny() | MatchPhrase() as operator:
                texts = [leaf for leaf in leaf_values(values) if isinstance(leaf, str)]
                return any(full_text_answer(operator, [text], schema) for text in texts)
    return _passes_by_payload(condition, values)


def operators_of(condition: FieldCondition) -> list[Operator]:
    """The operators that test single values, in the order in which an index takes them."""
    operators = (
        condition.match,
        condition.range,
        condition.geo_bounding_box,
        condition.geo_radius,
        condition.geo_polygon,
    )
    return list(filter(None, operators))


def values_of(payload: JsonObject, key: str) -> list[JsonValue]:
    """The values at a payload path, arrays closed."""
    return list(values_at(payload, parse_payload_path(key)))


def are_empty(values: Sequence[JsonValue]) -> bool:
    """Whether a field is missing, or each of its values is null or []."""
    return all(value is None or value == [] for value in values)


def have_null(values: Sequence[JsonValue]) -> bool:
    """Whether a value, or an element of a value that is an array, is null."""
    return any(leaf is None for leaf in leaf_values(values))


def _passes_by_payload(condition: FieldCondition, values: Sequence[JsonValue]) -> bool:
    if condition.values_count is not None:
        return _count_passes(condition.values_count, values)
    if condition.is_empty is not None:
        return are_empty(values) == condition.is_empty
    if condition.is_null is not None:
        return have_null(values) == condition.is_null
    operators = operators_of(condition)
    return any(
        value_satisfies(operator, leaf) for leaf in leaf_values(values) for operator in operators
    )


def _count_passes(bounds: ValuesCount, values: Sequence[JsonValue]) -> bool:
    """A missing field counts as 0; of several values at a path, any may pass."""
    return any(is_within(values_count(value), bounds) for value in values or [None])


def values_count(value: JsonValue) -> int:
    """How many values a value at a path is: the length of an array, none for null."""
    if value is None:
        return 0
    return len(value) if isinstance(value, list) else 1
