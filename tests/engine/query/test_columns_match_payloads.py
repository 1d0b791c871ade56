"""Pages, orders, facets and counts are those of the payloads, read one by one."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.engine.filter.indexed import indexed_value
from headrace.engine.payload.paths import leaf_values, values_at
from headrace.engine.query.counts import count_points, indexed_points_count
from headrace.engine.query.facet import run_facet
from headrace.engine.query.mask import known, passing, passing_set
from headrace.engine.query.order import order_rows
from headrace.engine.query.points import evaluate_rows
from headrace.engine.query.scroll import rows_in_id_order, run_scroll
from headrace.engine.segment.segment import View
from headrace.model.errors import BadRequest
from headrace.model.filters import FieldCondition, Filter, IsEmpty, MatchValue, Range
from headrace.model.ids import PointId, point_id_order
from headrace.model.payload_path import parse_payload_path
from headrace.model.queries import NO_PAYLOAD, Direction, Facet, OrderBy, Scroll
from tests.engine.query.histories import SCHEMAS, History
from tests.engine.query.random_filters import IDS
from tests.engine.query.stored_points import StoredPoints

bounded = settings(max_examples=30, derandomize=True, database=None, deadline=None)

FILTERS = st.sampled_from(
    (
        None,
        Filter(),
        Filter(must_not=(IsEmpty("n"),)),
        Filter(must=(FieldCondition("a", match=MatchValue("red")),)),
        Filter(must=(FieldCondition("zz", match=MatchValue("red")),)),
    )
)


def live_rows(view: View, filter: Filter | None) -> list[int]:
    rows = np.flatnonzero(view.live)
    kept: list[int] = rows[evaluate_rows(filter or Filter(), view, rows)].tolist()
    return kept


def values_of(view: View, row: int, key: str) -> set[Any]:
    """What the index of a field holds of a row."""
    document: dict[str, Any] = orjson.loads(view.payload(row))
    leaves = leaf_values(values_at(document, parse_payload_path(key)))
    held = (indexed_value(leaf, view.schema[key].data_type) for leaf in leaves)
    return {value for value in held if value is not None}


@pytest.fixture(scope="module", params=[name for name in SCHEMAS if name != "no index"])
def history(request: pytest.FixtureRequest) -> History:
    return History(SCHEMAS[request.param])


@bounded
@given(number=st.integers(0, 4), key=st.sampled_from(("a", "b.c", "a[]", "n[].x")))
def test_the_points_of_an_index_are_those_with_a_value_in_it(
    history: History, number: int, key: str
) -> None:
    view = history.views[number]
    rows = live_rows(view, None)
    assert indexed_points_count(view, key) == sum(bool(values_of(view, r, key)) for r in rows)


@bounded
@given(
    number=st.integers(0, 4),
    key=st.sampled_from(("a", "b.c", "n[].x")),
    filter=FILTERS,
    limit=st.integers(1, 12) | st.just(1000),
)
def test_a_facet_counts_each_point_once_a_value(
    history: History, number: int, key: str, filter: Filter | None, limit: int
) -> None:
    view = history.views[number]
    facet = Facet(key, filter, limit)
    data_type = view.schema[key].data_type.value
    if data_type not in ("keyword", "integer", "bool", "uuid") or not _serves(view, key, "lookup"):
        with pytest.raises(BadRequest, match="No appropriate index for faceting"):
            run_facet(view, facet)
        return
    counts: Counter[Any] = Counter()
    for row in live_rows(view, filter):
        counts.update(values_of(view, row, key))
    shown = {str(v) if data_type == "uuid" else v: count for v, count in counts.items()}
    expected = sorted(shown.items(), key=lambda item: (-item[1], item[0]))[:limit]
    hits = [(hit.value, hit.count) for hit in run_facet(view, facet)]
    assert hits == expected
    assert [type(value) for value, _ in hits] == [type(value) for value, _ in expected]


@bounded
@given(
    number=st.integers(0, 4),
    key=st.sampled_from(("a", "b.c", "n[].x")),
    filter=FILTERS,
    limit=st.integers(1, 12) | st.just(1000),
    direction=st.sampled_from(Direction),
    start_from=st.none() | st.sampled_from((0, 1, 1.5, -3, 2**53, 1_577_836_800_000_000)),
)
def test_an_order_has_each_value_of_each_point_once(
    history: History,
    number: int,
    key: str,
    filter: Filter | None,
    limit: int,
    direction: Direction,
    start_from: float | None,
) -> None:
    view = history.views[number]
    order_by = OrderBy(key, direction, start_from)
    data_type = view.schema[key].data_type.value
    if data_type not in ("integer", "float", "datetime") or not _serves(view, key, "range"):
        with pytest.raises(BadRequest, match="No range index"):
            order_rows(view, order_by, passing_set(filter, view), limit)
        return
    descends = direction is Direction.DESC
    pairs = [(value, row) for row in live_rows(view, filter) for value in values_of(view, row, key)]
    if start_from is not None:
        pairs = [p for p in pairs if (p[0] <= start_from if descends else p[0] >= start_from)]
    expected = sorted((value for value, _ in pairs), reverse=descends)[:limit]

    ordered = order_rows(view, order_by, passing_set(filter, view), limit)

    assert ordered.values == expected
    assert len(set(zip(ordered.rows, ordered.values, strict=True))) == len(expected)
    assert set(zip(ordered.values, ordered.rows, strict=True)) <= set(pairs)


@bounded
@given(
    number=st.integers(0, 4),
    filter=FILTERS,
    limit=st.integers(1, 30),
    start_id=st.none() | st.integers(0, 130) | st.sampled_from(IDS),
)
def test_a_page_has_the_first_ids_from_the_start_on(
    history: History, number: int, filter: Filter | None, limit: int, start_id: PointId | None
) -> None:
    view = history.views[number]
    ids = sorted((view.id_of(row) for row in live_rows(view, filter)), key=point_id_order)
    if start_id is not None:
        ids = [one for one in ids if point_id_order(one) >= point_id_order(start_id)]
    page = run_scroll(view, Scroll(start_id, limit, filter, NO_PAYLOAD))
    assert [record.id for record in page.records] == ids[:limit]
    assert page.next_id == (ids[limit] if len(ids) > limit else None)
    assert count_points(view, filter) == len(live_rows(view, filter))


def test_pages_of_a_large_collection_are_walked_to_the_end() -> None:
    """Ids descend while rows ascend, and what passes is spread unevenly."""
    points = StoredPoints()
    count = 6000
    points.upsert([(count - n, {"number": n, "far": n < 30}) for n in range(count)])
    view = points.view
    for filter, expected in (
        (Filter(must=(FieldCondition("number", range=Range(lt=3000.0)),)), range(3001, count + 1)),
        (Filter(must_not=(FieldCondition("number", range=Range(gte=30.0)),)), range(5971, 6001)),
        (None, range(1, count + 1)),
    ):
        found: list[int] = []
        start: PointId | None = 0
        while start is not None:
            page = run_scroll(view, Scroll(start, 700, filter, NO_PAYLOAD))
            found.extend(int(record.id) for record in page.records)
            start = page.next_id
        assert found == list(expected)
        first = rows_in_id_order(view, passing(filter, view), None, 5)
        assert first.tolist() == [count - one for one in expected[:5]]
        all_known = known(passing_set(filter, view))
        assert rows_in_id_order(view, all_known, None, 5).tolist() == first.tolist()


def _serves(view: View, key: str, option: str) -> bool:
    return (view.schema[key].params or {}).get(option) is not False
