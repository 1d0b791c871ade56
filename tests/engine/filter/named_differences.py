"""Which conditions mean something else elsewhere, and are left out where answers are compared?

The named differences, as rules about single conditions: those between this evaluator and
Qdrant's engine, each of which has a test of its own in `test_edge_differences.py`, and
those between a field with a payload index and one without, in `test_indexed.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from headrace.engine.filter.fields import operators_of
from headrace.model.collection_config import PayloadFieldSchema, PayloadFieldType
from headrace.model.filters import (
    Condition,
    DatetimeRange,
    FieldCondition,
    Filter,
    GeoBoundingBox,
    GeoPolygon,
    GeoRadius,
    IsNull,
    MatchAny,
    MatchExcept,
    MatchPhrase,
    MatchPrefix,
    MatchText,
    MatchTextAny,
    MatchValue,
    MinShould,
    Nested,
    Range,
)
from headrace.model.ids import parse_uuid
from headrace.model.payload_path import parse_payload_path

Schema = Mapping[str, PayloadFieldSchema]
# Whether a condition is a difference; a schema of None means inside an element.
IsDifferent = Callable[[Condition, Schema | None], bool]

_FULL_TEXT = (MatchText, MatchTextAny, MatchPhrase)
_SHAPES = (GeoBoundingBox, GeoRadius, GeoPolygon)


def comparable_with_edge(filter: Filter, schema: Schema) -> Filter:
    """The filter without what Qdrant's engine answers differently, or cannot be asked."""
    return _without(filter, schema, _differs_from_edge)


def unchanged_by_indexes(filter: Filter, schema: Schema) -> Filter:
    """The filter without the conditions whose meaning the payload indexes change."""
    return _without(filter, schema, _is_changed_by_index)


def _without(filter: Filter, schema: Schema | None, is_different: IsDifferent) -> Filter:
    def kept(conditions: Sequence[Condition]) -> tuple[Condition, ...]:
        same = (one for one in conditions if not is_different(one, schema))
        return tuple(_inside(one, schema, is_different) for one in same)

    at_least = filter.min_should
    if at_least is not None:
        conditions = kept(at_least.conditions)
        # More than there are conditions, or none: see the differences.
        min_count = min(at_least.min_count, len(conditions))
        at_least = MinShould(conditions, min_count) if min_count else None
    return Filter(kept(filter.must), kept(filter.should), kept(filter.must_not), at_least)


def _inside(condition: Condition, schema: Schema | None, is_different: IsDifferent) -> Condition:
    match condition:
        case Nested(key, filter):
            return Nested(key, _without(filter, None, is_different))
        case Filter():
            return _without(condition, schema, is_different)
    return condition


# Qdrant's engine


def _differs_from_edge(condition: Condition, schema: Schema | None) -> bool:
    match condition:
        case IsNull(key):
            return schema is None or key not in schema
        case Nested(key):
            return schema is not None and _has_index_below(key, schema)
        case FieldCondition():
            field = None if schema is None else schema.get(condition.key)
            return _field_differs_from_edge(condition, field)
    return False


def _has_index_below(key: str, schema: Schema) -> bool:
    """The engine takes candidates from such an index, which may lack some."""
    prefix = f"{parse_payload_path(key).each_element()}."
    return any(path.startswith(prefix) for path in schema)


def _field_differs_from_edge(condition: FieldCondition, field: PayloadFieldSchema | None) -> bool:
    asks_emptiness = condition.is_empty is not None or condition.is_null is not None
    if asks_emptiness and field is None and "[]" in condition.key:
        return True
    operators = operators_of(condition)
    if sum(isinstance(one, _SHAPES) for one in operators) > 1:
        return True
    data_type = None if field is None else field.data_type
    match condition.match:
        case MatchText() | MatchTextAny() | MatchPhrase() if data_type is not PayloadFieldType.TEXT:
            return True
        case MatchPrefix() if data_type is PayloadFieldType.KEYWORD and condition != FieldCondition(
            condition.key, match=condition.match
        ):
            return True
        case MatchAny(()):
            return True
        case MatchValue() | MatchAny() | MatchExcept() as match:
            if _is_refused_or_uuid_of_number(match, data_type):
                return True
    box = condition.geo_bounding_box
    if box is not None and not -180 <= box.bottom_right.lon <= 180:
        return True  # refused, before the engine is asked
    return condition.range is not None and _range_differs(condition.range, data_type)


def _is_refused_or_uuid_of_number(
    match: MatchValue | MatchAny | MatchExcept, data_type: PayloadFieldType | None
) -> bool:
    wanted = (match.value,) if isinstance(match, MatchValue) else match.values
    if any(isinstance(value, int) and value >= 2**63 for value in wanted):
        return True
    is_numeric = data_type in (PayloadFieldType.INTEGER, PayloadFieldType.FLOAT)
    return is_numeric and any(isinstance(v, str) and parse_uuid(v) is not None for v in wanted)


def _range_differs(bounds: Range | DatetimeRange, data_type: PayloadFieldType | None) -> bool:
    lower = [bound for bound in (bounds.gt, bounds.gte) if bound is not None]
    upper = [bound for bound in (bounds.lt, bounds.lte) if bound is not None]
    if len(lower) > 1 or len(upper) > 1 or (lower and upper and lower > upper):
        return True
    if isinstance(bounds, DatetimeRange):
        if data_type is PayloadFieldType.FLOAT:
            return any(not 0 <= bound <= 2**53 for bound in (*lower, *upper))
        # Beyond the years that a text can name.
        return any(abs(bound) > 2**57 for bound in (*lower, *upper))
    return any(abs(bound) >= 2.0**63 for bound in (*lower, *upper))


# Payload indexes


def _is_changed_by_index(condition: Condition, schema: Schema | None) -> bool:
    if schema is None:
        # Inside an element a text index alone changes anything: its tokens.
        return isinstance(condition, FieldCondition) and isinstance(condition.match, _FULL_TEXT)
    match condition:
        case IsNull(key):
            return key in schema
        case FieldCondition(key) if key in schema:
            return _field_is_changed(condition, schema[key].data_type)
    return False


def _field_is_changed(condition: FieldCondition, data_type: PayloadFieldType) -> bool:
    operators = operators_of(condition)
    flags = (condition.values_count, condition.is_empty, condition.is_null)
    if len(operators) + sum(flag is not None for flag in flags) > 1:
        return True  # the first operator that an index serves decides alone
    if not operators:
        return False
    operator = operators[0]
    match data_type:
        case PayloadFieldType.KEYWORD:
            return isinstance(operator, MatchExcept)
        case PayloadFieldType.INTEGER:
            return isinstance(operator, MatchValue | MatchAny | MatchExcept | Range | DatetimeRange)
        case PayloadFieldType.FLOAT:
            return isinstance(operator, DatetimeRange)
        case PayloadFieldType.DATETIME:
            return isinstance(operator, Range)
        case PayloadFieldType.UUID:
            return isinstance(operator, MatchValue | MatchAny | MatchExcept)
        case PayloadFieldType.GEO:
            return isinstance(operator, _SHAPES)
        case PayloadFieldType.TEXT:
            return isinstance(operator, _FULL_TEXT)
    return False
