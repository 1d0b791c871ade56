"""The commonest filters, asked of one run at once, find what the evaluator finds."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.engine.query.mask import kept_set, passing, passing_set
from headrace.engine.query.points import evaluate_rows
from headrace.engine.segment.segment import Segment, View
from headrace.model.collection_config import PayloadFieldSchema, PayloadFieldType
from headrace.model.datetimes import parse_datetime_micros
from headrace.model.filters import (
    DatetimeRange,
    FieldCondition,
    Filter,
    MatchAny,
    MatchValue,
    Range,
    ValuesCount,
)
from headrace.model.operations import DeletePoints, PointSelector, SetPayload
from tests.engine.query.stored_points import StoredPoints

COUNT = 2000
UUIDS = tuple(f"00000000-0000-0000-0000-{number:012x}" for number in range(7))


def payload(number: int) -> dict[str, Any]:
    """Numbers, words and times of which some are several, of another type, or missing."""
    several = [number % 50, number % 30, str(number)]
    return {
        "integer": number % 40 if number % 3 else several,
        "float": number / 7 if number % 5 else [number, True, None],
        "keyword": f"w{number % 60}" if number % 4 else ["w1", f"w{number % 9}", 3],
        "datetime": f"2024-01-{number % 28 + 1:02}T00:00:00Z" if number % 6 else number,
        "uuid": UUIDS[number % 7],
        "bare": number % 10,
        "lookup": number % 40,
        "bool": number % 3 == 0,
    }


SCHEMA = {
    "integer": PayloadFieldSchema(PayloadFieldType.INTEGER),
    "float": PayloadFieldSchema(PayloadFieldType.FLOAT),
    "keyword": PayloadFieldSchema(PayloadFieldType.KEYWORD),
    "datetime": PayloadFieldSchema(PayloadFieldType.DATETIME),
    "uuid": PayloadFieldSchema(PayloadFieldType.UUID),
    "lookup": PayloadFieldSchema(PayloadFieldType.INTEGER, {"lookup": True, "range": False}),
    "bool": PayloadFieldSchema(PayloadFieldType.BOOL),
}
CONDITIONS = [
    FieldCondition("integer", range=Range(gte=3, lt=4)),
    FieldCondition("integer", range=Range(gt=2.5, lte=31)),
    FieldCondition("integer", range=Range(gte=100)),
    FieldCondition("integer", range=Range(gte=float("nan"))),
    FieldCondition("integer", range=Range()),
    FieldCondition("integer", match=MatchValue(3), range=Range(gte=5, lt=6)),
    FieldCondition("integer", match=MatchValue("3")),
    # Equal to others as Python compares, or about as much.
    FieldCondition("integer", range=Range(gte=3.0, lt=4.0)),
    FieldCondition("integer", range=DatetimeRange(gte=3, lt=4)),
    FieldCondition("integer", range=Range(gte=2**53 + 1)),
    FieldCondition("integer", range=Range(gt=3, lte=4)),
    FieldCondition("float", range=Range(gte=0.0, lt=1)),
    FieldCondition("float", range=Range(gte=-0.0, lt=True)),
    FieldCondition("float", range=DatetimeRange(gte=1, lt=20)),
    # Several operators: the first that the index serves decides.
    FieldCondition("integer", range=Range(gte=3, lt=4), is_empty=True),
    FieldCondition("integer", range=Range(gte=3, lt=4), values_count=ValuesCount(gte=3)),
    FieldCondition("keyword", match=MatchValue("w1"), range=Range(gte=0), is_null=True),
    FieldCondition("keyword", match=MatchAny(("w1",)), range=Range(gte=0)),
    FieldCondition("keyword", match=MatchAny(("w1",)), range=Range(gte=3)),
    # Its index serves no range, so all operators are asked of the payload.
    FieldCondition("lookup", range=Range(gte=3, lt=4)),
    FieldCondition("lookup", range=Range(gte=3, lt=4), values_count=ValuesCount(gte=2)),
    FieldCondition("lookup", range=Range(gte=3, lt=4), is_empty=True),
    FieldCondition("bool", range=Range(gte=0)),
    FieldCondition("bool", match=MatchValue(True)),
    FieldCondition("float", range=Range(gte=1, lt=20.5)),
    FieldCondition(
        "datetime", range=DatetimeRange(gte=parse_datetime_micros("2024-01-03T00:00:00Z"))
    ),
    FieldCondition("datetime", range=Range(gte=5, lt=100)),
    FieldCondition("keyword", match=MatchValue("w1")),
    FieldCondition("keyword", match=MatchValue("w40")),
    FieldCondition("keyword", match=MatchValue("none has it")),
    FieldCondition("keyword", match=MatchValue("long " * 1000)),
    FieldCondition("keyword", match=MatchValue(3)),
    FieldCondition("keyword", range=Range(gte=0)),
    FieldCondition("uuid", match=MatchValue(UUIDS[3].upper())),
    FieldCondition("bare", range=Range(gte=3, lt=4)),
]


def stored(schema: dict[str, PayloadFieldSchema]) -> StoredPoints:
    points = StoredPoints(schema)
    points.upsert([(number, payload(number)) for number in range(COUNT)])
    points.keep_up()
    return points


@pytest.fixture(scope="module")
def views() -> dict[str, View]:
    """The same points in one run, in several, with deleted and with changed ones among them.

    And as they were before an index went on, and without the rows of deleted ones.
    """
    in_one, in_two, deleted, changed, moved_on = (stored(SCHEMA) for _ in range(5))
    in_two.upsert([(COUNT + number, payload(number)) for number in range(200)])
    deleted.apply(DeletePoints(PointSelector(ids=tuple(range(0, COUNT, 3)))))
    changed.apply(SetPayload(PointSelector(ids=(5, 6, 7)), b'{"integer": 3}'))
    older = moved_on.view
    moved_on.apply(SetPayload(PointSelector(ids=tuple(range(9))), b'{"integer": 3}'))
    moved_on.keep_up()
    sparse = deleted.view
    compacted = Segment.compacted(sparse, sparse.segment.versions.view(sparse.row_count))
    compacted.payload_index.take_over(deleted.segment.payload_index, compacted.working_view())
    return {
        "one run": in_one.view,
        "new rows": in_two.view,
        "deleted points": deleted.view,
        "changed payloads": changed.view,
        "older than the index": older,
        "compacted": compacted.working_view(),
    }


@pytest.mark.parametrize(
    "state",
    [
        *("one run", "new rows", "deleted points", "changed payloads"),
        *("older than the index", "compacted"),
    ],
)
@pytest.mark.parametrize("condition", CONDITIONS, ids=repr)
def test_it_is_what_the_payloads_say(
    views: dict[str, View], state: str, condition: FieldCondition
) -> None:
    view, filter = views[state], Filter(must=(condition,))
    live = view.live_set.rows
    held = evaluate_rows(filter, view, live)
    expected = live[held].tolist()
    found = passing(filter, view)
    assert found.at_most >= len(expected)
    assert found.count() == len(expected)
    assert found.holds(live).tolist() == held.tolist()
    assert found.row_set().rows.tolist() == expected
    assert passing_set(filter, view).rows.tolist() == expected
    # Now from what was kept.
    assert passing_set(filter, view).rows.tolist() == expected


def test_what_was_found_is_kept(views: dict[str, View]) -> None:
    view = views["one run"]
    ranges = Range(gte=45, lt=46), Range(gte=0, lt=46.5)
    few, many = (Filter(must=(FieldCondition("integer", range=bounds),)) for bounds in ranges)
    for filter, bounds in zip((few, many), ranges, strict=True):
        assert kept_set(filter, view) is None
        found = passing_set(filter, view)
        kept = kept_set(filter, view)
        assert kept is not None
        assert kept.rows.tolist() == found.rows.tolist()
        assert view.row_sets.get(("integer", bounds)) is not None
    assert passing_set(few, view).count < 256 < passing_set(many, view).count
    # Of a field with an index its first operator decides; the same is found for whatever follows.
    also = Filter(must=(FieldCondition("integer", range=Range(gte=45, lt=46), is_null=True),))
    assert passing_set(also, view).rows.tolist() == passing_set(few, view).rows.tolist()


def test_a_long_keyword_is_kept_where_its_length_counts(views: dict[str, View]) -> None:
    view, keyword = views["one run"], "k" * 10_000
    filter = Filter(must=(FieldCondition("keyword", match=MatchValue(keyword)),))
    assert passing_set(filter, view).count == 0
    assert view.row_sets.get(("keyword", keyword)) is None
    assert kept_set(filter, view) is not None


def test_rows_that_had_to_be_looked_at_to_be_counted_are_kept(views: dict[str, View]) -> None:
    view = views["one run"]
    filter = Filter(must=(FieldCondition("integer", range=Range(gte=1, lt=45)),))
    assert kept_set(filter, view) is None
    count = passing(filter, view).count()
    kept = kept_set(filter, view)
    assert kept is not None
    assert kept.count == count
