"""What changes in the meaning of a condition when the field has a payload index?

An index holds only the values of its type, converted to it, and answers some operators
from these alone. So an integer index finds 1.0 when asked for 1, a uuid index ignores
spelling, a text index compares tokens, `except` sees only the indexed values. This module
says which operators each index answers and how; payload indexes must agree with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec

from headrace.engine.filter.geo import GeoShape, geo_of, is_on_earth, shape_contains
from headrace.engine.filter.text import (
    FullTextMatch,
    full_text_matches,
    pipeline_of,
)
from headrace.engine.filter.values import Operator, float_of, is_within, value_matches
from headrace.engine.payload.paths import JsonValue
from headrace.model.collection_config import PayloadFieldSchema, PayloadFieldType
from headrace.model.datetimes import parse_datetime_micros
from headrace.model.filters import (
    DatetimeRange,
    Geo,
    GeoBoundingBox,
    GeoPolygon,
    GeoRadius,
    MatchAny,
    MatchExcept,
    MatchPhrase,
    MatchPrefix,
    MatchText,
    MatchTextAny,
    MatchValue,
    Range,
)
from headrace.model.ids import parse_uuid

INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1

IndexedValue = int | float | str | bool | UUID | Geo


def index_serves(operator: Operator, schema: PayloadFieldSchema) -> bool:
    """Whether an index answers an operator; if not, the payload does."""
    params = schema.params or {}
    match schema.data_type, operator:
        case PayloadFieldType.INTEGER, Range() | DatetimeRange():
            return params.get("range") is not False
        case PayloadFieldType.KEYWORD, MatchPrefix():
            return True
        case PayloadFieldType.KEYWORD, MatchValue() | MatchAny() | MatchExcept():
            return _wanted_type(operator) is str
        case PayloadFieldType.INTEGER, MatchValue() | MatchAny() | MatchExcept():
            return params.get("lookup") is not False and _wanted_type(operator) is int
        case ((PayloadFieldType.FLOAT | PayloadFieldType.DATETIME), (Range() | DatetimeRange())):
            return True
        case PayloadFieldType.BOOL, MatchValue(bool()):
            return True
        case PayloadFieldType.UUID, MatchValue() | MatchAny() | MatchExcept():
            return _as_uuids(operator) is not None
        case PayloadFieldType.GEO, GeoBoundingBox() | GeoRadius() | GeoPolygon():
            return True
        case PayloadFieldType.TEXT, MatchText() | MatchTextAny() | MatchPhrase():
            return True
    return False


def index_answer(
    operator: Operator, leaves: Sequence[JsonValue], schema: PayloadFieldSchema
) -> bool:
    """Whether a field passes, by the values that its index holds.

    Args:
        operator: one that `index_serves`.
        leaves: the values of the field, arrays opened.
        schema: the index.
    """
    values = [
        held for leaf in leaves if (held := indexed_value(leaf, schema.data_type)) is not None
    ]
    match operator:
        case MatchText() | MatchTextAny() | MatchPhrase():
            texts = [text for text in values if isinstance(text, str)]
            return full_text_answer(operator, texts, schema)
        case MatchPrefix(prefix):
            return any(isinstance(text, str) and text.startswith(prefix) for text in values)
        case MatchValue() | MatchAny() | MatchExcept():
            return any(_match_answer(operator, value) for value in values)
        case Range() | DatetimeRange():
            numbers = [number for number in values if isinstance(number, int | float)]
            return any(is_within(number, operator) for number in numbers)
    return any(_geo_answer(operator, place) for place in values)


def full_text_answer(
    operator: FullTextMatch, texts: Sequence[str], schema: PayloadFieldSchema
) -> bool:
    """Whether texts match as the text index with this schema answers it."""
    return full_text_matches(operator, texts, pipeline_of(msgspec.json.encode(schema.params)))


def indexed_value(value: JsonValue, data_type: PayloadFieldType) -> IndexedValue | None:
    """What an index holds of a value, converted to its type; None if nothing."""
    match data_type:
        case PayloadFieldType.KEYWORD | PayloadFieldType.TEXT:
            return value if isinstance(value, str) else None
        case PayloadFieldType.INTEGER:
            return _indexed_integer(value)
        case PayloadFieldType.FLOAT:
            return float_of(value)
        case PayloadFieldType.BOOL:
            return value if isinstance(value, bool) else None
        case PayloadFieldType.DATETIME:
            return parse_datetime_micros(value) if isinstance(value, str) else None
        case PayloadFieldType.UUID:
            return parse_uuid(value) if isinstance(value, str) else None
        case PayloadFieldType.GEO:
            place = geo_of(value)
            return place if place is not None and is_on_earth(place) else None


def _indexed_integer(value: JsonValue) -> int | None:
    """Integers and integral floats of 64 bits; 2**63, a float's next neighbour, is clamped."""
    if type(value) is int and INTEGER_MIN <= value <= INTEGER_MAX:
        return value
    number = float_of(value)
    if number is None or not number.is_integer() or abs(number) > 2.0**63:
        return None
    return min(int(number), INTEGER_MAX)


def _wanted_type(operator: MatchValue | MatchAny | MatchExcept) -> type:
    """The type of what is wanted; an empty list is one of strings, as Qdrant reads it."""
    if isinstance(operator, MatchValue):
        return type(operator.value)
    return type(operator.values[0]) if operator.values else str


def _as_uuids(operator: MatchValue | MatchAny | MatchExcept) -> frozenset[UUID] | None:
    """The UUIDs wanted; None if something else is."""
    texts = (operator.value,) if isinstance(operator, MatchValue) else operator.values
    uuids = [parse_uuid(text) if isinstance(text, str) else None for text in texts]
    return None if None in uuids else frozenset(uuid for uuid in uuids if uuid is not None)


def _match_answer(operator: MatchValue | MatchAny | MatchExcept, value: IndexedValue) -> bool:
    if isinstance(value, UUID):
        wanted = _as_uuids(operator)
        assert wanted is not None, "a uuid index serves only uuids"
        return (value in wanted) != isinstance(operator, MatchExcept)
    return not isinstance(value, Geo) and value_matches(operator, value)


def _geo_answer(shape: GeoShape, place: IndexedValue) -> bool:
    return isinstance(place, Geo) and shape_contains(shape, place)
