"""Which payload index would serve a condition, and is it there?

Strict mode refuses what lacks one, and a slow read that lacks one is an issue.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from headrace.model.collection_config import PayloadFieldSchema, PayloadFieldType
from headrace.model.filters import (
    Condition,
    DatetimeRange,
    FieldCondition,
    Filter,
    IsEmpty,
    IsNull,
    MatchAny,
    MatchExcept,
    MatchPhrase,
    MatchPrefix,
    MatchText,
    MatchTextAny,
    MatchValue,
    Nested,
)
from headrace.model.formula import (
    ConditionValue,
    DatetimeKey,
    Decay,
    Div,
    Expression,
    GeoDistance,
    Mult,
    PayloadVariable,
    Pow,
    Sum,
    Unary,
)
from headrace.model.ids import parse_uuid

Schema = Mapping[str, PayloadFieldSchema]


class IndexKind(NamedTuple):
    """A payload index that can do something.

    Attributes:
        data_type: its type.
        option: the option of the type that must be on; None for none.
        is_default: whether it is on if nothing is said.
    """

    data_type: PayloadFieldType
    option: str | None = None
    is_default: bool = True

    def is_served_by(self, schema: PayloadFieldSchema) -> bool:
        """Whether an index that is there can do it."""
        if schema.data_type is not self.data_type:
            return False
        if self.option is None:
            return True
        said = (schema.params or {}).get(self.option)
        return self.is_default if said is None else bool(said)

    def field_schema(self) -> str | dict[str, Any]:
        """The `field_schema` with which such an index is made."""
        if self.option is None or self.is_default:
            return self.data_type.value
        return {"type": self.data_type.value, self.option: True}


class NeededIndex(NamedTuple):
    """What a condition needs: an index at a payload path, of any of some kinds."""

    payload_path: str
    kinds: tuple[IndexKind, ...]

    def is_there(self, schema: Schema) -> bool:
        """Whether one of them is there."""
        found = schema.get(self.payload_path)
        return found is not None and any(kind.is_served_by(found) for kind in self.kinds)


_KEYWORD = IndexKind(PayloadFieldType.KEYWORD)
_KEYWORD_PREFIX = IndexKind(PayloadFieldType.KEYWORD, "prefix", is_default=False)
_UUID = IndexKind(PayloadFieldType.UUID)
_INTEGER_LOOKUP = IndexKind(PayloadFieldType.INTEGER, "lookup")
_INTEGER_RANGE = IndexKind(PayloadFieldType.INTEGER, "range")
_FLOAT = IndexKind(PayloadFieldType.FLOAT)
_DATETIME = IndexKind(PayloadFieldType.DATETIME)
_BOOL = IndexKind(PayloadFieldType.BOOL)
_GEO = IndexKind(PayloadFieldType.GEO)
_TEXT = IndexKind(PayloadFieldType.TEXT)
_TEXT_PHRASE = IndexKind(PayloadFieldType.TEXT, "phrase_matching", is_default=False)

_ANY = tuple(IndexKind(data_type) for data_type in PayloadFieldType)
_NUMBERS = (_INTEGER_LOOKUP, _INTEGER_RANGE, _FLOAT)


def needed_by_filter(filter: Filter) -> Iterator[NeededIndex]:
    """What the conditions of a filter need, those that need something."""
    for condition, prefix in filter_leaves(filter):
        needed = _needed_by_condition(condition, prefix)
        if needed is not None:
            yield needed


def needed_by_expression(expression: Expression) -> Iterator[NeededIndex]:
    """What the payload values and conditions of a formula need."""
    match expression:
        case PayloadVariable(key):
            yield NeededIndex(key, _NUMBERS)
        case GeoDistance(to=key):
            yield NeededIndex(key, (_GEO,))
        case DatetimeKey(key):
            yield NeededIndex(key, (_DATETIME,))
        case ConditionValue(condition):
            yield from needed_by_filter(Filter(must=(condition,)))
        case _:
            for inner in _operands(expression):
                yield from needed_by_expression(inner)


def needed_by_group(payload_path: str) -> NeededIndex:
    """What grouping by a field needs."""
    return NeededIndex(payload_path, (_KEYWORD, _INTEGER_LOOKUP, _UUID))


def filter_leaves(filter: Filter, prefix: str = "") -> Iterator[tuple[Condition, str]]:
    """Every condition that is no filter, and the path that its key is below."""
    groups: Iterable[tuple[Condition, ...]] = (
        filter.must,
        filter.should,
        filter.must_not,
        filter.min_should.conditions if filter.min_should else (),
    )
    for conditions in groups:
        for condition in conditions:
            match condition:
                case Filter():
                    yield from filter_leaves(condition, prefix)
                case Nested(key=key, filter=nested):
                    path = key if key.endswith("[]") else f"{key}[]"
                    yield from filter_leaves(nested, f"{prefix}{path}.")
                case _:
                    yield condition, prefix


def _needed_by_condition(condition: Condition, prefix: str) -> NeededIndex | None:
    if isinstance(condition, (IsEmpty, IsNull)):
        return NeededIndex(prefix + condition.key, _ANY)
    if not isinstance(condition, FieldCondition):
        return None
    kinds = _kinds_for(condition)
    return NeededIndex(prefix + condition.key, kinds) if kinds else None


def _kinds_for(condition: FieldCondition) -> tuple[IndexKind, ...]:
    """The indexes that serve a condition; none if it needs none."""
    if condition.match is not None:
        return _kinds_for_match(condition)
    if isinstance(condition.range, DatetimeRange):
        return (_DATETIME,)
    if condition.range is not None:
        return (_FLOAT, _INTEGER_RANGE)
    if condition.geo_bounding_box or condition.geo_radius or condition.geo_polygon:
        return (_GEO,)
    return _ANY


def _kinds_for_match(condition: FieldCondition) -> tuple[IndexKind, ...]:
    match condition.match:
        case MatchText() | MatchTextAny():
            return (_TEXT,)
        case MatchPhrase():
            return (_TEXT_PHRASE,)
        case MatchPrefix():
            return (_KEYWORD_PREFIX,)
        case MatchValue(value=bool()):
            return (_BOOL,)
        case MatchValue(value=value):
            return _kinds_for_values((value,))
        case MatchAny(values=()):
            return ()  # nothing matches, whatever is stored
        case MatchAny(values=values) | MatchExcept(values=values):
            return _kinds_for_values(values)
        case _:
            raise AssertionError(condition.match)


def _kinds_for_values(values: Sequence[str | int]) -> tuple[IndexKind, ...]:
    # An empty list is one of strings that are UUIDs, as in Qdrant.
    if not all(isinstance(value, str) for value in values):
        return (_INTEGER_LOOKUP,)
    if all(parse_uuid(str(value)) is not None for value in values):
        return (_KEYWORD, _UUID)
    return (_KEYWORD,)


def _operands(expression: Expression) -> Iterable[Expression]:
    match expression:
        case Mult(factors):
            return factors
        case Sum(terms):
            return terms
        case Unary(operand=operand):
            return (operand,)
        case Div(left=left, right=right):
            return (left, right)
        case Pow(base=base, exponent=exponent):
            return (base, exponent)
        case Decay(x=x, target=target):
            return (x,) if target is None else (x, target)
        case _:
            return ()
