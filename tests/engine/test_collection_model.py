"""Random writes, with restarts in between, against a plain dictionary."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from headrace.model.collection_config import (
    CollectionConfig,
    MultiVectorConfig,
    SparseVectorParams,
    VectorParams,
)
from headrace.model.errors import NotFound
from headrace.model.filters import FieldCondition, Filter, MatchValue
from headrace.model.ids import PointId, point_id_order
from headrace.model.operations import (
    ClearPayload,
    DeletePayload,
    DeletePoints,
    DeleteVectors,
    Operation,
    OverwritePayload,
    PointSelector,
    SetPayload,
    SourceOffset,
    SourcePartition,
    UpdateMode,
)
from headrace.model.points import PointStruct
from headrace.model.queries import ALL_VECTORS, WHOLE_PAYLOAD, Nearest, Query, Scroll
from headrace.model.upserts import build_update_vectors, build_upsert
from headrace.model.vectors import Distance, SparseVector, Vector
from headrace.service.service import Service

CONFIG = CollectionConfig(
    vectors={
        "": VectorParams(2, Distance.DOT),
        "multi": VectorParams(2, Distance.EUCLID, multivector_config=MultiVectorConfig()),
    },
    sparse_vectors={"sparse": SparseVectorParams()},
)
IDS: st.SearchStrategy[PointId] = st.integers(0, 6) | st.sampled_from(
    [UUID(int=1), UUID(int=2**64), UUID(int=2**127)]
)
COORDINATES = st.integers(-4, 4)
COLORS = st.sampled_from(["red", "blue"])
PAYLOADS = st.dictionaries(
    st.sampled_from(["color", "size", "tags"]),
    COLORS | st.integers(-(2**63), 2**64 - 1) | st.lists(COLORS, max_size=2) | st.none(),
)
PARTITION = SourcePartition("test", "topic", 0)


def dense(numbers: list[int]) -> Vector:
    return np.array(numbers, dtype=np.float32)


DENSE = st.lists(COORDINATES, min_size=2, max_size=2).map(dense)
MULTI = st.lists(st.lists(COORDINATES, min_size=2, max_size=2), min_size=1, max_size=3).map(
    lambda rows: np.array(rows, dtype=np.float32)
)
SPARSE = st.dictionaries(st.integers(0, 3), COORDINATES).map(
    lambda terms: SparseVector(
        np.array(list(terms), dtype=np.uint32), np.array(list(terms.values()), dtype=np.float32)
    )
)
VECTORS = st.fixed_dictionaries({}, optional={"": DENSE, "multi": MULTI, "sparse": SPARSE})


def plain(vector: Vector) -> Any:
    """A vector as something that compares by value."""
    if isinstance(vector, SparseVector):
        return dict(sorted(zip(vector.indices.tolist(), vector.values.tolist(), strict=True)))
    return vector.tolist()


def red(filter_key: str = "color") -> Filter:
    return Filter(must=(FieldCondition(filter_key, match=MatchValue("red")),))


def is_red(payload: dict[str, Any]) -> bool:
    color = payload.get("color")
    return color == "red" or (isinstance(color, list) and "red" in color)


class CollectionMachine(RuleBasedStateMachine):
    """The model: id -> (vectors, payload)."""

    @initialize()
    def start(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.service = Service.open(self.directory)
        self.service.create_collection("c", CONFIG)
        self.model: dict[PointId, tuple[dict[str, Any], dict[str, Any]]] = {}
        self.next_offset = 0

    def teardown(self) -> None:
        self.service.close()
        shutil.rmtree(self.directory)

    def write(self, *operations: Operation) -> None:
        self.next_offset += 1
        self.service.write("c", operations, [SourceOffset(PARTITION, self.next_offset)])

    @contextmanager
    def refused_if(self, ids: list[PointId]) -> Iterator[bool]:
        """Expect NotFound, and no change at all, if any of the ids is not stored."""
        if all(i in self.model for i in ids):
            yield True
            return
        with pytest.raises(NotFound):
            yield False
        self.next_offset -= 1

    @rule(
        points=st.lists(st.tuples(IDS, VECTORS, PAYLOADS), max_size=4),
        mode=st.sampled_from(UpdateMode),
        conditional=st.booleans(),
    )
    def upsert(
        self,
        points: list[tuple[PointId, dict[str, Vector], dict[str, Any]]],
        mode: UpdateMode,
        conditional: bool,
    ) -> None:
        structs = [PointStruct(i, vectors, orjson.dumps(payload)) for i, vectors, payload in points]
        self.write(build_upsert(structs, CONFIG, mode, red() if conditional else None))
        before = dict(self.model)
        for i, vectors, payload in points:
            exists = i in before
            passes = not conditional or (exists and is_red(before[i][1]))
            if (mode is UpdateMode.INSERT_ONLY and exists) or (
                mode is not UpdateMode.INSERT_ONLY and exists and not passes
            ):
                continue
            if mode is UpdateMode.UPDATE_ONLY and not exists:
                continue
            self.model[i] = ({name: plain(v) for name, v in vectors.items()}, payload)

    @rule(ids=st.lists(IDS, max_size=3))
    def delete(self, ids: list[PointId]) -> None:
        self.write(DeletePoints(PointSelector(ids=tuple(ids))))
        for i in ids:
            self.model.pop(i, None)

    @rule()
    def delete_red(self) -> None:
        self.write(DeletePoints(PointSelector(filter=red())))
        self.model = {i: point for i, point in self.model.items() if not is_red(point[1])}

    @rule(ids=st.lists(IDS, max_size=2), patch=PAYLOADS)
    def set_payload(self, ids: list[PointId], patch: dict[str, Any]) -> None:
        with self.refused_if(ids) as applied:
            self.write(SetPayload(PointSelector(ids=tuple(ids)), orjson.dumps(patch)))
        if applied:
            for i in set(ids):
                vectors, payload = self.model[i]
                merged = payload | patch
                for name in [name for name, value in patch.items() if value is None]:
                    del merged[name]
                self.model[i] = (vectors, merged)

    @rule(payload=PAYLOADS)
    def overwrite_red(self, payload: dict[str, Any]) -> None:
        self.write(OverwritePayload(PointSelector(filter=red()), orjson.dumps(payload)))
        for i, (vectors, old) in self.model.items():
            if is_red(old):
                self.model[i] = (vectors, payload)

    @rule(ids=st.lists(IDS, max_size=2))
    def clear_and_drop_color(self, ids: list[PointId]) -> None:
        selector = PointSelector(ids=tuple(ids))
        with self.refused_if(ids) as applied:
            self.write(DeletePayload(selector, ("color",)), ClearPayload(selector))
        if applied:
            for i in ids:
                self.model[i] = (self.model[i][0], {})

    @rule(points=st.lists(st.tuples(IDS, VECTORS), max_size=3))
    def update_vectors(self, points: list[tuple[PointId, dict[str, Vector]]]) -> None:
        with self.refused_if([i for i, _ in points]) as applied:
            self.write(build_update_vectors(points, CONFIG))
        if applied:
            for i, vectors in points:
                stored, payload = self.model[i]
                stored = stored | {name: plain(v) for name, v in vectors.items()}
                self.model[i] = (stored, payload)

    @rule(name=st.sampled_from(["", "multi", "sparse"]))
    def delete_vectors_of_red(self, name: str) -> None:
        self.write(DeleteVectors(PointSelector(filter=red()), (name,)))
        for i, (vectors, payload) in self.model.items():
            if is_red(payload):
                kept = {other: v for other, v in vectors.items() if other != name}
                self.model[i] = (kept, payload)

    @rule(i=IDS)
    def a_batch_that_fails_half_way_leaves_no_trace(self, i: PointId) -> None:
        missing = 10**9
        upsert = build_upsert(
            [PointStruct(i, {"": dense([9, 9])}, b'{"color":"red","trace":1}')], CONFIG
        )
        with pytest.raises(NotFound):
            self.service.write(
                "c",
                [
                    upsert,
                    SetPayload(PointSelector(filter=red()), b'{"trace":2}'),
                    DeletePoints(PointSelector(filter=red())),
                    ClearPayload(PointSelector(ids=(missing,))),
                ],
                [SourceOffset(PARTITION, 10**6)],
            )

    @rule()
    def checkpoint(self) -> None:
        self.service._engine.collection("c").checkpoint()

    @rule()
    def compact(self) -> None:
        collection = self.service._engine.collection("c")
        collection._compact()
        view = collection.view
        assert view.row_count == view.live_count == len(self.model)

    @rule()
    def reopen(self) -> None:
        self.service.close()
        self.service = Service.open(self.directory)

    @invariant()
    def all_reads_agree_with_the_model(self) -> None:
        service = self.service
        ids = sorted(self.model, key=point_id_order)
        page = service.scroll("c", Scroll(limit=100, with_vectors=ALL_VECTORS))
        assert [record.id for record in page.records] == ids
        for record in page.records:
            assert record.vectors is not None
            assert record.payload is not None
            vectors, payload = self.model[record.id]
            assert {n: plain(v) for n, v in record.vectors.items()} == vectors
            assert orjson.loads(record.payload) == payload
        by_id = service.retrieve("c", [*ids, 10**9], WHOLE_PAYLOAD, ALL_VECTORS)
        assert [record.id for record in by_id] == ids
        assert service.count("c") == len(ids)
        assert service.count("c", red()) == sum(is_red(p) for _, p in self.model.values())
        assert service.source_offsets("c").get(PARTITION, 0) == self.next_offset
        found = service.query("c", Query(query=Nearest(dense([1, 2])), filter=red(), limit=100))
        wanted = {
            i: vectors[""][0] + 2 * vectors[""][1]
            for i, (vectors, payload) in self.model.items()
            if "" in vectors and is_red(payload)
        }
        assert {point.record.id: point.score for point in found} == wanted
        scores = [point.score for point in found]
        assert scores == sorted(scores, reverse=True)


TestCollection = CollectionMachine.TestCase
TestCollection.settings = settings(
    max_examples=80,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
