"""Plans over the payload index and Qdrant's engine give the same answers to random filters.

What is drawn leaves out the named differences (`tests/engine/filter`): each of those has a
test of its own there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.engine.payload.paths import JsonObject
from headrace.engine.query.mask import passing_set
from headrace.engine.segment.segment import View
from headrace.model.collection_config import PayloadFieldSchema, PayloadFieldType
from headrace.model.filters import Filter
from headrace.model.ids import PointId
from tests.engine.filter.edge_shard import EdgeShard, edge_shard
from tests.engine.filter.test_evaluate_against_edge import (
    INDEXES,
    PAYLOADS,
    field_conditions,
    filters_of,
    has_no_datetime_before_1970,
    nested_conditions,
    point_conditions,
    uuid_matches,
    value_matches,
)
from tests.engine.query.stored_points import StoredPoints

# Points with even ids have the default vector alone, as in the engine.
POINTS: dict[PointId, JsonObject] = {2 * number: payload for number, payload in enumerate(PAYLOADS)}

bounded = settings(max_examples=40, derandomize=True, database=None, deadline=None)


class Stores(NamedTuple):
    """The same points and indexes, here and in the engine."""

    view: View
    edge: EdgeShard
    data_type: PayloadFieldType | None

    def assert_agree(self, filter: Filter) -> None:
        rows = passing_set(filter, self.view).rows
        found = set(self.view.segment.row_ids.get_many(rows))
        assert found == self.edge.passing(filter)

    def __repr__(self) -> str:
        return f"stores with {self.data_type}"


@contextmanager
def stores_with(schema: dict[str, PayloadFieldSchema]) -> Iterator[Stores]:
    points = StoredPoints(schema)
    half = len(POINTS) // 2
    points.upsert([*POINTS.items()][:half])
    points.keep_up(is_settled=False)
    points.upsert([*POINTS.items()][half:])
    data_type = schema["a"].data_type if schema else None
    with edge_shard(POINTS, schema) as edge:
        yield Stores(points.view, edge, data_type)


@pytest.fixture(scope="module", params=INDEXES.values(), ids=list(INDEXES))
def indexed_stores(request: pytest.FixtureRequest) -> Iterator[Stores]:
    with stores_with(request.param) as stores:
        yield stores


@pytest.fixture(scope="module")
def unindexed_stores() -> Iterator[Stores]:
    with stores_with({}) as stores:
        yield stores


@bounded
@given(data=st.data())
def test_filters_on_an_indexed_field_agree(indexed_stores: Stores, data: st.DataObject) -> None:
    stores = indexed_stores
    takes_uuids = stores.data_type in (PayloadFieldType.UUID, PayloadFieldType.KEYWORD)
    conditions = field_conditions(
        ("a",), value_matches | uuid_matches if takes_uuids else value_matches
    )
    if stores.data_type is PayloadFieldType.FLOAT:
        conditions = conditions.filter(has_no_datetime_before_1970)
    stores.assert_agree(data.draw(filters_of(conditions)))


@bounded
@given(filter=filters_of(nested_conditions | point_conditions))
def test_filters_without_indexes_agree(unindexed_stores: Stores, filter: Filter) -> None:
    unindexed_stores.assert_agree(filter)
