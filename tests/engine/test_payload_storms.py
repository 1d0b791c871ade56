"""Many random payload operations, with filtered searches beside them.

Readers check what they find against the payloads of the very view they read, while
checkpoints, compactions and a restart come between. Afterwards every payload index must
equal one that is built from scratch.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import orjson
import pytest

from headrace.engine.collection.collection import Collection
from headrace.engine.engine import Engine
from headrace.engine.query.counts import indexed_points_count
from headrace.engine.query.execute import QueryContext, run_query
from headrace.engine.query.facet import run_facet
from headrace.engine.query.mask import passing_set
from headrace.engine.query.order import order_rows
from headrace.engine.query.points import evaluate_rows
from headrace.engine.segment.segment import Segment, View
from headrace.model.collection_config import (
    CollectionConfig,
    PayloadFieldSchema,
    PayloadFieldType,
    VectorParams,
)
from headrace.model.errors import NotFound
from headrace.model.filters import (
    Condition,
    DatetimeRange,
    FieldCondition,
    Filter,
    Geo,
    GeoRadius,
    IsEmpty,
    IsNull,
    MatchAny,
    MatchExcept,
    MatchPrefix,
    MatchText,
    MatchValue,
    Nested,
    Range,
)
from headrace.model.operations import (
    ClearPayload,
    CreatePayloadIndex,
    DeletePayload,
    DeletePoints,
    DropPayloadIndex,
    Operation,
    OverwritePayload,
    PointSelector,
    SetPayload,
    WriteBatch,
)
from headrace.model.points import PointStruct
from headrace.model.queries import Facet, Nearest, OrderBy, Query
from headrace.model.upserts import build_upsert
from headrace.model.vectors import Distance

CONFIG = CollectionConfig(
    vectors={"": VectorParams(2, Distance.DOT)},
    optimizers_config={"vacuum_min_vector_number": 500},
)
COLLECTION = "headrace.engine.collection.collection"
POINT_COUNT = 400
VECTOR = np.ones(2, dtype=np.float32)
FIELDS = {
    "color": "keyword",
    "size": "integer",
    "price": "float",
    "sold": "bool",
    "at": "datetime",
    "owner": "uuid",
    "place": "geo",
    "note": "text",
    "parts[].name": "keyword",
}
COLORS = ("red", "green", "blue", "grey")
UUIDS = ("550e8400-e29b-41d4-a716-446655440000", "123E4567-E89B-12D3-A456-426614174000")
WORDS = ("quick", "brown", "fox", "lazy", "dog")


class Storm:
    """Random operations and filters, always the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._stored: set[int] = set()

    def first_batch(self) -> list[Operation]:
        """All points."""
        self._stored = set(range(POINT_COUNT))
        return [self._upsert(range(POINT_COUNT))]

    def batch(self, size: int) -> list[Operation]:
        return [self._operation() for _ in range(size)]

    def failing_batch(self, size: int) -> list[Operation]:
        """Operations, the last of which names a point that is not stored."""
        stored = self._stored.copy()
        batch = self.batch(size)
        self._stored = stored
        return [*batch, ClearPayload(PointSelector(ids=(POINT_COUNT,)))]

    def filter(self) -> Filter:
        random = self._random
        must, should, must_not = (
            tuple(self._condition() for _ in range(random.randrange(3))) for _ in range(3)
        )
        return Filter(must, should, must_not)

    def payload(self) -> dict[str, Any]:
        random = self._random
        values: dict[str, Any] = {
            "color": random.choice([random.choice(COLORS), random.choices(COLORS, k=2), None]),
            "size": random.choice([random.randrange(100), [1, 2.0], "large", 2**63]),
            "price": random.choice([round(random.random() * 10, 2), random.randrange(10)]),
            "sold": random.choice([True, False, None, [True, False]]),
            "at": random.choice(["2024-01-01", "2024-06-01T12:00:00Z", 5]),
            "owner": random.choice([*UUIDS, UUIDS[1].lower(), "nobody"]),
            "place": {"lon": random.uniform(-180, 180), "lat": random.uniform(-90, 90)},
            "note": " ".join(random.choices(WORDS, k=random.randrange(4))),
            "parts": [{"name": random.choice(COLORS)} for _ in range(random.randrange(3))],
        }
        return {key: value for key, value in values.items() if random.random() < 0.8}

    def _operation(self) -> Operation:
        random = self._random
        kind = random.random()
        if kind < 0.25:
            return self._upsert(random.sample(range(POINT_COUNT), 5))
        selector = self._selector()
        patch = orjson.dumps(dict(list(self.payload().items())[:2]))
        if kind < 0.5:
            return SetPayload(selector, patch)
        if kind < 0.6:
            return SetPayload(selector, patch, "parts[]")
        if kind < 0.75:
            return OverwritePayload(selector, orjson.dumps(self.payload()))
        if kind < 0.88:
            return DeletePayload(selector, (random.choice(list(FIELDS)),))
        if kind < 0.93:
            return ClearPayload(selector)
        deleted = self._stored_id()
        self._stored.discard(deleted)
        return DeletePoints(PointSelector(ids=(deleted,)))

    def _upsert(self, ids: Sequence[int]) -> Operation:
        self._stored.update(ids)
        return build_upsert(
            [PointStruct(i, {"": VECTOR}, orjson.dumps(self.payload())) for i in ids], CONFIG
        )

    def _stored_id(self) -> int:
        return self._random.choice(sorted(self._stored))

    def _selector(self) -> PointSelector:
        random = self._random
        if random.random() < 0.3:
            few = FieldCondition("size", range=Range(gte=float(random.randrange(100))))
            return PointSelector(filter=Filter(must=(few, self._condition())))
        return PointSelector(ids=(self._stored_id(),))

    def _condition(self) -> Condition:
        random = self._random
        low = float(random.randrange(100))
        color = random.choice(COLORS)
        by_name = FieldCondition("name", match=MatchValue(color))
        return random.choice(
            (
                FieldCondition("color", match=MatchValue(color)),
                FieldCondition("color", match=MatchAny((color, "red"))),
                FieldCondition("color", match=MatchExcept((color,))),
                FieldCondition("color", match=MatchPrefix("gr")),
                FieldCondition("size", range=Range(gte=low, lt=low + 20)),
                FieldCondition("size", match=MatchValue(int(low))),
                FieldCondition("price", range=Range(lt=low / 10)),
                FieldCondition("sold", match=MatchValue(low < 50)),
                FieldCondition("at", range=DatetimeRange(gte=1_710_000_000_000_000)),
                FieldCondition("owner", match=MatchValue(random.choice(UUIDS))),
                FieldCondition("place", geo_radius=GeoRadius(Geo(low, low / 2), 5e6)),
                FieldCondition("note", match=MatchText(random.choice(WORDS))),
                FieldCondition("parts[].name", match=MatchValue(color)),
                Nested("parts", Filter(must=(by_name,))),
                Nested("parts", Filter(must_not=(by_name,))),
                IsEmpty(random.choice(list(FIELDS))),
                IsNull(random.choice(list(FIELDS))),
            )
        )


def read_until(stop: threading.Event, collection: Collection, seed: int) -> int:
    """Check filters against the payloads of the views they are asked of; how many were."""
    storm, random, checked = Storm(seed), Random(seed), 0
    while not stop.is_set():
        filter, view = storm.filter(), collection.view
        found = passing_set(filter, view)
        sample = np.array(sorted(random.sample(range(view.row_count), min(40, view.row_count))))
        sample = sample[view.live[sample]] if len(sample) else sample.astype(np.int64)
        expected = evaluate_rows(filter, view, sample)
        assert found.contains(sample).tolist() == expected.tolist(), filter
        assert not found.count or view.live[found.rows].all()
        query = Query(Nearest(VECTOR), filter=filter, limit=POINT_COUNT)
        nearest = run_query(QueryContext("c", CONFIG, view, find_no_view), query)
        ids = view.segment.row_ids.get_many(found.rows)
        assert sorted(point.record.id for point in nearest) == sorted(ids), filter
        checked += 1
    return checked


def find_no_view(name: str) -> Any:
    raise NotFound(name)


def assert_indexes_equal_a_rebuild(view: View) -> None:
    rebuilt = Segment.compacted(view, view.segment.versions.view(view.row_count)).working_view()
    storm = Storm(99)

    def ids(of: View, filter: Filter) -> list[Any]:
        return sorted(of.segment.row_ids.get_many(passing_set(filter, of).rows))

    for filter in (storm.filter() for _ in range(100)):
        assert ids(view, filter) == ids(rebuilt, filter)
    for key, field in view.schema.items():
        assert indexed_points_count(view, key) == indexed_points_count(rebuilt, key)
        if field.data_type.value in ("keyword", "integer", "bool", "uuid"):
            assert run_facet(view, Facet(key, None, 50)) == run_facet(rebuilt, Facet(key, None, 50))
        if field.data_type.value in ("integer", "float", "datetime"):
            ordered = [
                order_rows(one, OrderBy(key), one.live_set, 10_000).values
                for one in (view, rebuilt)
            ]
            assert ordered[0] == ordered[1]


def run_storm(directory: Path, operations_count: int) -> None:
    """Half of the operations before a restart, half after it."""
    storm, random = Storm(1), Random(2)
    engine = Engine.open(directory)
    engine.create_collection("c", CONFIG)
    engine.collection("c").write(WriteBatch(storm.first_batch()))
    for _ in range(2):
        write_beside_readers(engine.collection("c"), storm, random, operations_count // 2)
        assert_indexes_equal_a_rebuild(engine.collection("c").view)
        engine.close()
        engine = Engine.open(directory)
    assert_indexes_equal_a_rebuild(engine.collection("c").view)
    engine.close()


def write_beside_readers(
    collection: Collection, storm: Storm, random: Random, operations_count: int
) -> None:
    written = 0
    stop = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read_until, stop, collection, seed) for seed in (10, 11)]
        try:
            while written < operations_count:
                size = random.choice((1, 5, 40))
                if random.random() < 0.1:
                    with pytest.raises(NotFound):
                        collection.write(WriteBatch(storm.failing_batch(size)))
                collection.write(WriteBatch(storm.batch(size)))
                written += size
                if random.random() < 0.05:
                    change_an_index(collection, random)
        finally:
            stop.set()
        assert all(reader.result(timeout=60) for reader in readers)


def change_an_index(collection: Collection, random: Random) -> None:
    """Drop an index, or make one, while reads and writes go on."""
    key = random.choice(list(FIELDS))
    schema = PayloadFieldSchema(PayloadFieldType(FIELDS[key]))
    changed: Operation = CreatePayloadIndex(key, schema)
    if key in collection.view.schema and random.random() < 0.5:
        changed = DropPayloadIndex(key)
    collection.write(WriteBatch([changed]))


@pytest.fixture(autouse=True)
def much_background_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{COLLECTION}._CHECKPOINT_WAL_BYTES", 300_000)
    monkeypatch.setattr(f"{COLLECTION}._COMPACTION_PAUSE", 1.0)


def test_indexes_stay_right_through_a_storm_of_payload_operations(tmp_path: Path) -> None:
    run_storm(tmp_path, 2_000)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_indexes_stay_right_through_a_hundred_thousand_operations(tmp_path: Path) -> None:
    run_storm(tmp_path, 100_000)
