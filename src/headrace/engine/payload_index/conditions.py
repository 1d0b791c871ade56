"""Which parts answer a condition, and what is asked of them?

A filter becomes a tree of questions, once for all runs. The meaning is the evaluator's
(`headrace.engine.filter`): where a field has a payload index, the first operator that the
index serves decides by what the index holds; else the payload decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from headrace.engine.filter.evaluate import Schema
from headrace.engine.filter.fields import operators_of
from headrace.engine.filter.geo import GeoShape
from headrace.engine.filter.indexed import index_serves
from headrace.engine.filter.text import FullTextMatch, pipeline_of
from headrace.engine.filter.values import Operator
from headrace.engine.payload_index.found import AllOf, AnyOf, AtLeast, Found, Not
from headrace.engine.payload_index.numbers import Numbers
from headrace.engine.payload_index.part_key import POINTS, PartKey, PartKind, Space
from headrace.engine.payload_index.places import Places
from headrace.engine.payload_index.questions import (
    Combined,
    Everything,
    Nothing,
    PartQuestion,
    PayloadQuestion,
    PointsQuestion,
    Question,
    SomeElementQuestion,
)
from headrace.engine.payload_index.shapes import (
    FILLED,
    INTEGER,
    NULL,
    NULL_VALUE,
    OTHER,
    STRING,
    Shapes,
)
from headrace.engine.payload_index.terms import Terms
from headrace.engine.payload_index.texts import Texts
from headrace.model.collection_config import PayloadFieldSchema, PayloadFieldType
from headrace.model.filter_bounds import check_size
from headrace.model.filters import (
    Condition,
    DatetimeRange,
    FieldCondition,
    Filter,
    GeoBoundingBox,
    GeoPolygon,
    GeoRadius,
    HasId,
    HasVector,
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
    Range,
    Slice,
)
from headrace.model.ids import parse_uuid
from headrace.model.payload_path import PayloadPath, parse_payload_path

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1


def compile_filter(filter: Filter, schema: Schema) -> Question:
    """The question of a whole filter.

    Raises:
        BadRequest: it is too deep or has too many conditions.
        MalformedInput: a payload path does not parse.
    """
    place = _Place(POINTS, schema)
    if filter.has_one_field_condition():
        return _compile(filter.must[0], place)  # as nearly always
    check_size(filter)
    return _all_of(filter, place)


def compile_condition(condition: Condition, schema: Schema) -> Question:
    """The question of one condition on points."""
    return _compile(condition, _Place(POINTS, schema))


def indexed_part(key: str, schema: PayloadFieldSchema) -> PartKey:
    """The part that a payload index is."""
    if schema.data_type is PayloadFieldType.TEXT:
        return PartKey(POINTS, key, PartKind.TEXT, msgspec.json.encode(schema.params))
    return _plain_part(key, schema.data_type)


@lru_cache(maxsize=1024)
def _plain_part(key: str, data_type: PayloadFieldType) -> PartKey:
    return PartKey(POINTS, key, _PART_OF_INDEX[data_type])


def demanded_parts(schema: Schema) -> set[PartKey]:
    """The parts that payload indexes are, with what answers is_empty and is_null."""
    parts = {indexed_part(key, field) for key, field in schema.items()}
    return parts.union(key._replace(kind=PartKind.SHAPES, params=b"") for key in parts)


_PART_OF_INDEX = {
    PayloadFieldType.KEYWORD: PartKind.STRINGS,
    PayloadFieldType.INTEGER: PartKind.WHOLE_NUMBERS,
    PayloadFieldType.FLOAT: PartKind.FLOATS,
    PayloadFieldType.BOOL: PartKind.BOOLS,
    PayloadFieldType.GEO: PartKind.PLACES,
    PayloadFieldType.DATETIME: PartKind.DATETIMES,
    PayloadFieldType.UUID: PartKind.UUIDS,
}


class _NeedsPayload(Exception):
    """A condition on elements that no part answers: the points' payloads must."""


class _Place(msgspec.Struct, frozen=True, eq=False, gc=False):
    """Where conditions are compiled: for points or for the elements of a space."""

    space: Space
    schema: Schema

    def part(self, key: str, kind: PartKind, params: bytes = b"") -> PartKey:
        """The part of a field; raises MalformedInput if `key` is no payload path."""
        parse_payload_path(key)
        return PartKey(self.space, key, kind, params)

    def inside(self, elements_path: PayloadPath) -> _Place:
        """The place of the elements at a path; indexes on their fields come along."""
        prefix = f"{elements_path}."
        schema = {
            path.removeprefix(prefix): field
            for path, field in self.schema.items()
            if path.startswith(prefix)
        }
        return _Place((*self.space, str(elements_path)), schema)


def _all_of(filter: Filter, place: _Place) -> Question:
    if len(filter.must) == 1 and not (filter.must_not or filter.should or filter.min_should):
        return _compile(filter.must[0], place)
    questions = [_compile(condition, place) for condition in filter.must]
    questions += [_none_of(_compile(condition, place), place) for condition in filter.must_not]
    if filter.should:
        questions.append(_any_of([_compile(one, place) for one in filter.should], place))
    at_least = filter.min_should
    if at_least is not None and at_least.min_count > 0:
        several = [_compile(one, place) for one in at_least.conditions]
        min_count = at_least.min_count
        questions.append(
            Combined(several, lambda found, n: AtLeast(found, min_count, n), place.space)
        )
    if not questions:
        return Everything(place.space)
    if len(questions) == 1:
        return questions[0]
    return Combined(questions, lambda found, n: AllOf(found), place.space)


def _any_of(questions: Sequence[Question], place: _Place) -> Question:
    if len(questions) == 1:
        return questions[0]
    return Combined(questions, AnyOf, place.space)


def _none_of(question: Question, place: _Place) -> Question:
    return Combined([question], lambda found, n: Not(found[0], n), place.space)


def _compile(condition: Condition, place: _Place) -> Question:
    """The question of a condition; what no part can answer is asked of whole payloads."""
    try:
        match condition:
            case FieldCondition():
                return _field(condition, place)
            case IsEmpty(key):
                return _is_empty(key, True, place)
            case IsNull(key):
                sees_leaves = place.space == POINTS and key in place.schema
                return _shapes(key, NULL if sees_leaves else NULL_VALUE, place)
            case Nested(key, filter):
                elements_path = parse_payload_path(key).each_element()
                elements = PartKey(place.space, str(elements_path), PartKind.ELEMENTS)
                return SomeElementQuestion(elements, _all_of(filter, place.inside(elements_path)))
            case Filter():
                return _all_of(condition, place)
            case HasId() | HasVector() | Slice():
                return _point_condition(condition, place)
    except _NeedsPayload:
        if place.space != POINTS:
            raise
        return PayloadQuestion(condition)


def _point_condition(condition: HasId | HasVector | Slice, place: _Place) -> Question:
    """Conditions on the point itself, which no element satisfies."""
    if place.space != POINTS:
        return Nothing(place.space)
    match condition:
        case HasId(ids):
            return PointsQuestion(lambda points: points.rows_of_ids(ids))
        case HasVector(name):
            return PointsQuestion(lambda points: points.rows_with_vector(name))
        case Slice():
            return PointsQuestion(lambda points: points.rows_in_slice(condition))


def _field(condition: FieldCondition, place: _Place) -> Question:
    schema = place.schema.get(condition.key)
    if schema is None:
        return _field_by_payload(condition, place)
    if place.space != POINTS:
        if schema.data_type is PayloadFieldType.TEXT and isinstance(
            condition.match, (MatchText, MatchTextAny, MatchPhrase)
        ):
            return _full_text(condition.match, condition.key, schema, place)
        return _field_by_payload(condition, place)
    for operator in operators_of(condition):
        if index_serves(operator, schema):
            return _by_index(operator, condition.key, schema, place)
    if condition.is_empty is not None:
        return _is_empty(condition.key, condition.is_empty, place)
    if condition.is_null is not None:
        return _is_null(condition.key, condition.is_null, place)
    return _field_by_payload(condition, place)


def _field_by_payload(condition: FieldCondition, place: _Place) -> Question:
    key, bounds = condition.key, condition.values_count
    if bounds is not None:
        part = place.part(key, PartKind.COUNTS)
        return PartQuestion(part, lambda counts: counts.within(bounds))
    if condition.is_empty is not None:
        return _is_empty(key, condition.is_empty, place)
    if condition.is_null is not None:
        return _is_null(key, condition.is_null, place)
    questions = [
        question
        for operator in operators_of(condition)
        for question in _by_payload(operator, key, place)
    ]
    if not questions:
        parse_payload_path(key)
        return Nothing(place.space)
    return _any_of(questions, place)


def _shapes(key: str, flags: int, place: _Place) -> Question:
    part = place.part(key, PartKind.SHAPES)

    def with_flags(shapes: Shapes) -> Found:
        return shapes.with_any(flags)

    return PartQuestion(part, with_flags)


def _is_empty(key: str, expected: bool, place: _Place) -> Question:
    filled = _shapes(key, FILLED, place)
    return _none_of(filled, place) if expected else filled


def _is_null(key: str, expected: bool, place: _Place) -> Question:
    has_null = _shapes(key, NULL, place)
    return has_null if expected else _none_of(has_null, place)


def _by_index(operator: Operator, key: str, schema: PayloadFieldSchema, place: _Place) -> Question:
    """The question of an operator that the index of the field serves."""
    part = indexed_part(key, schema)
    match operator:
        case Range() | DatetimeRange():
            return PartQuestion(part, lambda numbers: numbers.within(operator))
        case GeoBoundingBox() | GeoRadius() | GeoPolygon():
            return PartQuestion(part, lambda places: places.inside(operator, indexed_only=True))
        case MatchText() | MatchTextAny() | MatchPhrase():
            return _full_text(operator, key, schema, place)
        case MatchPrefix(prefix):
            return PartQuestion(part, lambda terms: terms.starting_with(prefix))
        case MatchValue(value):
            return _equal_to(part, (value,))
        case MatchAny(values):
            return _equal_to(part, values)
        case MatchExcept(values):
            listed = _of_part_type(part.kind, values)
            return PartQuestion(part, lambda held: held.other_than(listed))


def _full_text(
    match: FullTextMatch, key: str, schema: PayloadFieldSchema, place: _Place
) -> Question:
    params = msgspec.json.encode(schema.params)
    part = place.part(key, PartKind.TEXT, params)
    alone = place.space != POINTS

    def matching(texts: Texts) -> Found:
        return texts.matching(match, pipeline_of(params), alone)

    return PartQuestion(part, matching)


def _by_payload(operator: Operator, key: str, place: _Place) -> list[Question]:
    """Questions of which one must hold, for an operator that no index serves."""

    def part(kind: PartKind) -> PartKey:
        return place.part(key, kind)

    match operator:
        case Range():
            return [PartQuestion(part(PartKind.FLOATS), lambda numbers: numbers.within(operator))]
        case DatetimeRange():
            return [PartQuestion(part(PartKind.DATETIMES), lambda found: found.within(operator))]
        case GeoBoundingBox() | GeoRadius() | GeoPolygon():
            return [_inside(part(PartKind.PLACES), operator)]
        case MatchPrefix(prefix):
            return [PartQuestion(part(PartKind.STRINGS), lambda terms: terms.starting_with(prefix))]
        case MatchText(text) | MatchPhrase(text):
            return [_containing(part(PartKind.STRINGS), [text])]
        case MatchTextAny(text):
            return [_containing(part(PartKind.STRINGS), text.split())]
        case MatchValue(value):
            return _equal_by_payload((value,), part)
        case MatchAny(values):
            return _equal_by_payload(values, part)
        case MatchExcept(values):
            return _other_by_payload(values, part, place, key)


def _inside(part: PartKey, shape: GeoShape) -> Question:
    def inside(places: Places) -> Found:
        return places.inside(shape, indexed_only=False)

    return PartQuestion(part, inside)


def _containing(part: PartKey, wanted: Sequence[str]) -> Question:
    """Strings that contain one of some texts."""

    def containing(terms: Terms) -> Found:
        if len(wanted) == 1:
            return terms.containing(wanted[0])
        return terms.where(lambda term: any(one in term for one in wanted))

    return PartQuestion(part, containing)


def _equal_by_payload(
    values: Sequence[str | int], part: Callable[[PartKind], PartKey]
) -> list[Question]:
    return [_equal_to(part(kind), of_kind) for kind, of_kind in _by_kind(values).items()]


def _other_by_payload(
    values: Sequence[str | int], part: Callable[[PartKind], PartKey], place: _Place, key: str
) -> list[Question]:
    """`except`: a value of a type that is not listed, or one of a listed type that is not."""
    listed = _by_kind(values)
    if PartKind.BOOLS in listed:
        raise _NeedsPayload
    flags = OTHER
    if PartKind.STRINGS not in listed:
        flags |= STRING
    if PartKind.INTEGERS not in listed:
        flags |= INTEGER
    questions: list[Question] = [_shapes(key, flags, place)]
    for kind, of_kind in listed.items():
        questions.append(_other_than(part(kind), of_kind))
    return questions


def _equal_to(part: PartKey, values: Sequence[str | int]) -> Question:
    wanted = _of_part_type(part.kind, values)

    def equal(held: Terms | Numbers) -> Found:
        return held.equal_to(wanted)

    return PartQuestion(part, equal)


def _other_than(part: PartKey, values: list[Any]) -> Question:
    def other(held: Terms | Numbers) -> Found:
        return held.other_than(values)

    return PartQuestion(part, other)


def _by_kind(values: Sequence[str | int]) -> dict[PartKind, list[Any]]:
    """Wanted values by the part that holds values of their type, exactly."""
    by_kind: dict[PartKind, list[Any]] = {}
    for value in values:
        if isinstance(value, bool):
            kind = PartKind.BOOLS
        elif isinstance(value, str):
            kind = PartKind.STRINGS
        elif _INT64_MIN <= value <= _INT64_MAX:
            kind = PartKind.INTEGERS
        else:
            raise _NeedsPayload
        by_kind.setdefault(kind, []).append(value)
    return by_kind


def _of_part_type(kind: PartKind, values: Sequence[str | int]) -> list[Any]:
    """Those of the wanted values that a part of this kind may hold."""
    match kind:
        case PartKind.STRINGS:
            return [value for value in values if isinstance(value, str)]
        case PartKind.UUIDS:
            uuids = (parse_uuid(value) for value in values if isinstance(value, str))
            return [str(uuid) for uuid in uuids if uuid is not None]
        case PartKind.BOOLS:
            return [value for value in values if isinstance(value, bool)]
        case _:
            return [
                value for value in values if isinstance(value, int) and not isinstance(value, bool)
            ]
