from __future__ import annotations

from pathlib import Path

import pytest

from headrace.engine.payload_index.conditions import compile_filter
from headrace.engine.payload_index.part_key import PartKey, PartKind
from headrace.engine.query.mask import filter_rows, passing_set
from headrace.model.collection_config import PayloadFieldSchema, PayloadFieldType
from headrace.model.errors import BadRequest, MalformedInput
from headrace.model.filter_bounds import FILTER_CONDITIONS_MAX, FILTER_DEPTH_MAX
from headrace.model.filters import (
    Condition,
    FieldCondition,
    Filter,
    IsEmpty,
    MatchExcept,
    MatchValue,
    Nested,
    ValuesCount,
)
from headrace.model.operations import DeletePoints, PointSelector, SetPayload, UpsertPoints
from headrace.service.service import Service
from tests.engine.query.stored_points import CONFIG, StoredPoints


def parts_of(condition: Condition, data_type: str | None = None) -> set[tuple[str, PartKind]]:
    schema = {}
    if data_type is not None:
        schema["a"] = PayloadFieldSchema(PayloadFieldType(data_type))
    question = compile_filter(Filter(must=(condition,)), schema)
    return {("/".join((*key.space, key.path)), key.kind) for key in question.keys}


def test_a_condition_needs_the_part_that_holds_its_values() -> None:
    one = FieldCondition("a", match=MatchValue(1))
    assert parts_of(one) == {("a", PartKind.INTEGERS)}
    assert parts_of(one, "integer") == {("a", PartKind.WHOLE_NUMBERS)}
    assert parts_of(one, "keyword") == {("a", PartKind.INTEGERS)}
    no_red = FieldCondition("a", match=MatchExcept(("red",)))
    assert parts_of(no_red) == {("a", PartKind.STRINGS), ("a", PartKind.SHAPES)}
    assert parts_of(no_red, "keyword") == {("a", PartKind.STRINGS)}
    counted = FieldCondition("a", values_count=ValuesCount(gt=1))
    assert parts_of(counted, "keyword") == {("a", PartKind.COUNTS)}


def test_a_nested_condition_needs_the_elements_and_their_parts() -> None:
    nested = Nested("a", Filter(must=(IsEmpty("x"),)))
    assert parts_of(nested) == {("a[]", PartKind.ELEMENTS), ("a[]/x", PartKind.SHAPES)}


def test_integers_beyond_64_bits_need_the_payloads() -> None:
    assert parts_of(FieldCondition("a", match=MatchValue(2**63))) == set()
    inside = Nested("a", Filter(must=(FieldCondition("x", match=MatchValue(2**63)),)))
    assert parts_of(inside) == set()


def test_the_key_of_a_part_names_its_elements() -> None:
    assert PartKey(("a[]",), "b[]", PartKind.ELEMENTS).inner_space == ("a[]", "b[]")


def nested_filter(depth: int) -> Filter:
    filter = Filter(must=(IsEmpty("a"),))
    for level in range(depth - 1):
        filter = Filter(must=(Nested("a", filter) if level % 2 else filter,))
    return filter


def test_a_filter_as_deep_as_allowed_is_answered() -> None:
    points = StoredPoints()
    points.upsert([(1, {})])
    assert passing_set(nested_filter(FILTER_DEPTH_MAX), points.view).count == 0


@pytest.mark.parametrize("depth", [FILTER_DEPTH_MAX + 1, 100_000])
def test_a_deeper_filter_is_refused(depth: int) -> None:
    points = StoredPoints()
    points.upsert([(1, {})])
    too_deep = nested_filter(depth)
    with pytest.raises(BadRequest, match="Filter is nested too deeply"):
        passing_set(too_deep, points.view)
    rows = passing_set(None, points.view).rows
    with pytest.raises(BadRequest, match="Filter is nested too deeply"):
        filter_rows(too_deep, points.view, rows)
    # Else freeing it, link by link, would take the stack.
    while isinstance(too_deep, (Filter, Nested)):
        inner = too_deep.filter if isinstance(too_deep, Nested) else too_deep.must[0]
        too_deep = inner  # type: ignore[assignment]


def test_a_filter_with_too_many_conditions_is_refused() -> None:
    points = StoredPoints()
    too_long = Filter(should=(IsEmpty("a"),) * (FILTER_CONDITIONS_MAX + 1))
    with pytest.raises(BadRequest, match="Filter has too many conditions: at most 65536"):
        passing_set(too_long, points.view)


def test_a_path_that_does_not_parse_is_refused() -> None:
    points = StoredPoints()
    for condition in (IsEmpty("a..b"), FieldCondition("a..b"), Nested("a..b", Filter())):
        with pytest.raises(MalformedInput, match="Invalid json path"):
            passing_set(Filter(must=(condition,)), points.view)


def test_a_write_with_such_a_filter_is_refused_before_it_is_logged(tmp_path: Path) -> None:
    service = Service.open(tmp_path)
    service.create_collection("c", CONFIG)
    selector = PointSelector(filter=nested_filter(FILTER_DEPTH_MAX + 1))
    conditional = UpsertPoints([1], {}, [b"{}"], update_filter=selector.filter)
    for operation in (DeletePoints(selector), SetPayload(selector, b"{}"), conditional):
        with pytest.raises(BadRequest, match="Filter is nested too deeply"):
            service.write("c", [operation])
    service.close()
