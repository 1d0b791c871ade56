"""Quantised vectors find what the original ones find, once candidates are scored again."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.engine.collection.collection import Collection
from headrace.engine.engine import Engine
from headrace.engine.vector_index.graph import NodeKind
from headrace.model.collection_changes import CollectionChange, VectorChange
from headrace.model.collection_config import CollectionConfig, VectorParams
from headrace.model.operations import DeletePoints, PointSelector, UpsertPoints, WriteBatch
from headrace.model.queries import Nearest, Query, SearchParams
from headrace.model.vectors import DenseBatch, Distance, FloatMatrix

DIM, COUNT = 32, 4000
# A graph from 2,000 vectors on.
OPTIMIZERS = {"indexing_threshold": 250, "vacuum_min_vector_number": 10**9}

SCALAR = {"scalar": {"type": "int8", "quantile": 0.99}}
KINDS: dict[str, dict[str, Any]] = {
    "scalar": SCALAR,
    "scalar, all values": {"scalar": {"type": "int8", "always_ram": True}},
    "product x4": {"product": {"compression": "x4"}},
    "product x16": {"product": {"compression": "x16"}},
    "product x64": {"product": {"compression": "x64"}},
    "binary": {"binary": {}},
    "binary, two bits": {"binary": {"encoding": "two_bits"}},
    "binary, one and a half": {"binary": {"encoding": "one_and_half_bits"}},
    "binary, queries too": {"binary": {"query_encoding": "binary"}},
    "binary, queries of 4 bits": {"binary": {"query_encoding": "scalar4bits"}},
    "binary, queries of 8 bits": {"binary": {"query_encoding": "scalar8bits"}},
}


@pytest.fixture(autouse=True)
def graphs_are_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few rows would be scored one by one."""
    monkeypatch.setattr("headrace.engine.vector_index.cost._ROW_NS", 1e9)


def vectors_of(count: int, seed: int = 0, dim: int = DIM) -> FloatMatrix:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(40, dim)) * 2
    values = centres[rng.integers(0, 40, count)] + rng.normal(size=(count, dim))
    return values.astype(np.float32)


def write(collection: Collection, first: int, values: FloatMatrix) -> None:
    ids: list[Any] = list(range(first, first + len(values)))
    batch = DenseBatch(np.arange(len(values)), values)
    collection.write(WriteBatch([UpsertPoints(ids, {"": batch}, [b"{}"] * len(values))]))


def filled(
    directory: Path, quantization: Any, distance: Distance = Distance.COSINE, **options: Any
) -> Engine:
    engine = Engine.open(directory)
    params = VectorParams(options.pop("dim", DIM), distance, **options)
    config = CollectionConfig(
        {"": params}, quantization_config=quantization, optimizers_config=OPTIMIZERS
    )
    engine.create_collection("c", config)
    write(engine.collection("c"), 0, vectors_of(COUNT, dim=params.size))
    assert engine._builder.wait_until_idle(120)
    return engine


def kinds(engine: Engine) -> list[NodeKind]:
    ranges = engine.collection("c").view.indexed_stores()[""].ranges
    return [sealed.graph.kind for sealed in ranges if sealed.graph is not None]


def search(engine: Engine, target: Any, limit: int = 10, **params: Any) -> dict[Any, float]:
    query = Query(query=Nearest(target), limit=limit, params=SearchParams(**params))
    found = engine.collection("c").query(query, lambda name: engine.collection(name).view)
    return {point.record.id: point.score for point in found}


def recall(engine: Engine, dim: int = DIM, **params: Any) -> float:
    shares = []
    for target in vectors_of(60, seed=7, dim=dim):
        truth = search(engine, target, exact=True)
        shares.append(len(truth.keys() & search(engine, target, **params).keys()) / len(truth))
    return float(np.mean(shares))


RESCORED = [(kind, Distance.COSINE) for kind in KINDS] + [
    (kind, Distance.DOT) for kind in ("scalar", "product x16", "binary")
]


@pytest.mark.parametrize(("kind", "distance"), RESCORED)
def test_rescored_candidates_hold_the_nearest(
    tmp_path: Path, kind: str, distance: Distance
) -> None:
    engine = filled(tmp_path, KINDS[kind], distance)
    try:
        assert recall(engine) > 0.9
        for target in vectors_of(5, seed=3):
            exact = search(engine, target, limit=COUNT, exact=True)
            for point_id, score in search(engine, target).items():
                assert score == pytest.approx(exact[point_id], rel=1e-5)
    finally:
        engine.close()


@pytest.mark.parametrize("kind", ["scalar", "product x16", "binary"])
@pytest.mark.parametrize("distance", [Distance.EUCLID, Distance.MANHATTAN])
def test_distances_that_codes_do_not_have_are_found_too(
    tmp_path: Path, kind: str, distance: Distance
) -> None:
    engine = filled(tmp_path, KINDS[kind], distance)
    try:
        assert recall(engine, oversampling=10.0) > 0.9
    finally:
        engine.close()


def code_bytes(engine: Engine) -> int:
    (sealed,) = engine.collection("c").view.indexed_stores()[""].ranges
    assert sealed.graph is not None
    return int(sealed.graph.storage.code_size)


@pytest.mark.parametrize(
    ("kind", "dim", "expected"),
    [
        ("product x4", 30, 30),
        ("product x16", 30, 8),
        ("product x64", 30, 2),
        ("binary", 30, 4),
        ("binary, two bits", 30, 8),
        ("binary, one and a half", 32, 6),
    ],
)
def test_codes_are_as_small_as_they_should_be(
    tmp_path: Path, kind: str, dim: int, expected: int
) -> None:
    engine = filled(tmp_path, KINDS[kind], dim=dim)
    try:
        assert code_bytes(engine) == expected
        assert recall(engine, dim, oversampling=30.0) > 0.9
    finally:
        engine.close()


def test_more_candidates_find_more_and_fewer_find_less(tmp_path: Path) -> None:
    engine = filled(tmp_path, KINDS["product x64"])
    try:
        few, some, many = (recall(engine, oversampling=by) for by in (1.0, 4.0, 40.0))
        assert few < some < many
        assert many > 0.98
        # A factor is no bound on how many are found.
        assert len(search(engine, vectors_of(1)[0], limit=50, oversampling=1.0)) == 50
    finally:
        engine.close()


@pytest.mark.parametrize("kind", ["scalar", "product x16", "binary"])
@pytest.mark.parametrize("distance", list(Distance))
def test_without_rescoring_scores_are_those_of_the_codes(
    tmp_path: Path, kind: str, distance: Distance
) -> None:
    engine = filled(tmp_path, KINDS[kind], distance)
    store = engine.collection("c").view.indexed_stores()[""]
    reads: list[int] = []

    def count_reads(query: Any, rows: Any) -> Any:
        reads.append(len(rows))
        return type(store).similarities(store, query, rows)

    store.similarities = count_reads  # type: ignore[method-assign]
    try:
        target = vectors_of(1, seed=5)[0]
        true = search(engine, target, limit=COUNT, exact=True)
        reads.clear()
        by_codes = search(engine, target, limit=COUNT, rescore=False)
        assert reads == []
        scores = list(by_codes.values())
        assert scores == sorted(scores, reverse=distance.larger_is_nearer)
        assert len(scores) == COUNT
        exact = [true[point_id] for point_id in by_codes]
        assert scores != exact
        assert np.corrcoef(scores, exact)[0, 1] > (0.7 if kind == "binary" else 0.95)
    finally:
        engine.close()


@pytest.mark.parametrize("kind", ["product x64", "binary"])
def test_ignored_quantised_vectors_have_no_part_in_the_answer(tmp_path: Path, kind: str) -> None:
    engine = filled(tmp_path, KINDS[kind])
    try:
        for target in vectors_of(20, seed=8):
            ignored = search(engine, target, ignore_quantization=True, rescore=False)
            assert ignored == pytest.approx(search(engine, target, exact=True))
    finally:
        engine.close()


@pytest.mark.parametrize("kind", ["scalar", "product x16", "binary"])
@pytest.mark.parametrize("distance", [Distance.COSINE, Distance.MANHATTAN])
def test_codes_stay_through_growth_restarts_snapshots_and_compactions(
    tmp_path: Path, kind: str, distance: Distance
) -> None:
    engine = filled(tmp_path, KINDS[kind], distance)
    made = kinds(engine)
    for step in ("grow", "restart", "grow", "snapshot", "compact", "grow", "restart"):
        if step == "grow":
            # A graph that is mapped by now, or whose nodes have no rows, grows too.
            collection = engine.collection("c")
            first = max(COUNT, collection.view.row_count) + 100_000
            write(collection, first, vectors_of(400, seed=first))
            assert engine._builder.wait_until_idle(120)
            assert collection.indexed_vectors_count() == collection.points_count()
        elif step == "restart":
            engine.close()
            engine = Engine.open(tmp_path)
        elif step == "snapshot":
            name = engine.create_snapshot("c").name
            engine.restore_collection("c", engine.snapshots.find("c", name))
        else:
            delete = DeletePoints(PointSelector(ids=tuple(range(300))))
            engine.collection("c").write(WriteBatch([delete]))
            engine.collection("c")._compact()
        assert kinds(engine) == made, step
        assert recall(engine, oversampling=8.0) > 0.9, step
        by_codes = search(engine, vectors_of(1)[0], rescore=False)
        assert len(by_codes) == 10
    engine.close()


def test_a_changed_option_makes_the_graph_anew_without_a_restart(tmp_path: Path) -> None:
    engine = filled(tmp_path, None)
    assert kinds(engine) == [NodeKind.EUCLID_CODES]

    def change(**parts: Any) -> list[NodeKind]:
        engine.change_config("c", CollectionChange(**parts))
        assert engine._builder.wait_until_idle(120)
        return kinds(engine)

    def links() -> int:
        (sealed,) = engine.collection("c").view.indexed_stores()[""].ranges
        assert sealed.graph is not None
        return int(sealed.graph.index.hnsw.nb_neighbors(1))

    assert change(quantization_config=KINDS["binary"]) == [NodeKind.QUANTISED]
    assert change(vectors={"": VectorChange(quantization_config=SCALAR)}) == [NodeKind.EUCLID_CODES]
    by_vector = VectorChange(quantization_config="Disabled")
    assert change(vectors={"": by_vector}) == [NodeKind.QUANTISED]
    assert change(quantization_config="Disabled") == [NodeKind.EUCLID_CODES]
    assert engine.collection("c").config.quantization_config is None
    assert links() == 16
    change(hnsw_config={"m": 6})
    assert links() == 6
    change(vectors={"": VectorChange(hnsw_config={"m": 20})})
    assert links() == 20
    assert recall(engine) > 0.95
    assert change(vectors={"": VectorChange(hnsw_config={"m": 0})}) == []
    assert engine.collection("c").indexed_vectors_count() == 0
    assert recall(engine) == 1.0
    engine.close()


def wait_for_maintenance(engine: Engine) -> None:
    """Until the background thread has done what was requested of it."""
    done = threading.Event()
    engine._maintenance.request(done.set)
    assert done.wait(30)


@pytest.mark.parametrize("kind", [None, "scalar", "binary"])
def test_a_graph_lies_where_it_is_wanted(tmp_path: Path, kind: str | None) -> None:
    engine = filled(tmp_path, None if kind is None else KINDS[kind])

    def is_mapped() -> bool:
        (sealed,) = engine.collection("c").view.indexed_stores()[""].ranges
        assert sealed.graph is not None
        return sealed.graph.is_mapped

    def reopened() -> bool:
        nonlocal engine
        engine.close()
        engine = Engine.open(tmp_path)
        return is_mapped()

    assert not is_mapped()
    assert reopened()
    engine.change_config("c", CollectionChange(hnsw_config={"memory": "pinned"}))
    assert not reopened()
    engine.change_config("c", CollectionChange(hnsw_config={"memory": None, "on_disk": True}))
    wait_for_maintenance(engine)
    assert is_mapped()
    assert recall(engine) > 0.9
    engine.change_config("c", CollectionChange(hnsw_config={"memory": "pinned"}))
    wait_for_maintenance(engine)
    assert not is_mapped()
    assert not engine.collection("c")._needs_checkpoint()
    engine.close()
