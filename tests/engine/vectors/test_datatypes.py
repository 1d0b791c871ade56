"""float16 and uint8 vectors are stored, read back and scored as in Qdrant's own engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qdrant_edge as edge

from headrace.engine.engine import Engine
from headrace.engine.vectors.elements import as_floats
from headrace.model.collection_config import (
    CollectionConfig,
    Datatype,
    MultiVectorConfig,
    SparseVectorParams,
    VectorParams,
)
from headrace.model.errors import InvalidVector
from headrace.model.operations import DeletePoints, PointSelector, WriteBatch
from headrace.model.points import PointStruct
from headrace.model.queries import (
    ALL_VECTORS,
    Nearest,
    Query,
    Recommend,
    RecommendStrategy,
    Scroll,
    SearchParams,
)
from headrace.model.upserts import build_update_vectors, build_upsert
from headrace.model.vectors import Distance, SparseVector

DIM = 6
EDGE_TYPES = {
    Datatype.FLOAT16: edge.VectorStorageDatatype.Float16,
    Datatype.UINT8: edge.VectorStorageDatatype.Uint8,
}
CASES = [(datatype, distance) for datatype in EDGE_TYPES for distance in Distance]


def components(datatype: Datatype, *shape: int, seed: int = 1) -> Any:
    """Vectors that the type must round, and some that it must cut."""
    rng = np.random.default_rng(seed)
    if datatype is Datatype.UINT8:
        return (rng.random(shape) * 300 - 20).astype(np.float32)
    return (rng.normal(size=shape) * 10.0 ** rng.integers(-3, 3, shape)).astype(np.float32)


def find_view(name: str) -> Any:
    raise AssertionError(name)


def opened(directory: Path, params: VectorParams | SparseVectorParams) -> Engine:
    engine = Engine.open(directory)
    if isinstance(params, SparseVectorParams):
        config = CollectionConfig(sparse_vectors={"v": params})
    else:
        config = CollectionConfig(vectors={"v": params})
    engine.create_collection("c", config)
    return engine


def upsert(engine: Engine, vectors: Any) -> None:
    collection = engine.collection("c")
    points = [PointStruct(i, {"v": vector}, b"{}") for i, vector in enumerate(vectors)]
    collection.write(WriteBatch([build_upsert(points, collection.config)]))


def stored(engine: Engine) -> Any:
    records = engine.collection("c").scroll(Scroll(limit=10_000, with_vectors=ALL_VECTORS)).records
    return {record.id: (record.vectors or {})["v"] for record in records}


def hits(engine: Engine, query: Query) -> list[tuple[Any, float]]:
    found = engine.collection("c").query(query, find_view)
    return [(point.record.id, point.score) for point in found]


def assert_same_hits(found: list[tuple[Any, float]], wanted: list[tuple[Any, float]]) -> None:
    """The same scores in order, and the same ids but where scores are as good as equal."""
    assert [score for _, score in found] == pytest.approx(
        [score for _, score in wanted], rel=2e-5, abs=2e-5
    )
    by_id = dict(wanted)
    for point_id, score in found:
        assert score == pytest.approx(by_id[point_id], rel=2e-5, abs=2e-5)


@pytest.mark.parametrize("is_multi", [False, True])
@pytest.mark.parametrize(("datatype", "distance"), CASES)
def test_vectors_and_scores_are_those_of_qdrants_engine(
    tmp_path: Path, datatype: Datatype, distance: Distance, is_multi: bool
) -> None:
    shape = (40, 3, DIM) if is_multi else (40, DIM)
    vectors = components(datatype, *shape)
    vectors[7] = 0
    multi = MultiVectorConfig() if is_multi else None
    params = VectorParams(DIM, distance, datatype=datatype, multivector_config=multi)
    engine = opened(tmp_path / "ours", params)
    upsert(engine, vectors)

    (tmp_path / "edge").mkdir()
    options: Any = {"datatype": EDGE_TYPES[datatype]}
    if is_multi:
        options["multivector_config"] = edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim)
    edge_params = edge.EdgeVectorParams(
        size=DIM, distance=getattr(edge.Distance, distance.value), **options
    )
    shard = edge.EdgeShard.create(
        str(tmp_path / "edge"), edge.EdgeConfig(vectors={"v": edge_params})
    )
    points = [edge.Point(i, {"v": vector.tolist()}, {}) for i, vector in enumerate(vectors)]
    shard.update(edge.UpdateOperation.upsert_points(points))

    records: Any = shard.retrieve(list(range(40)), False, True)
    theirs = {record.id: record.vector["v"] for record in records}
    for point_id, vector in stored(engine).items():
        assert vector.dtype == np.float32
        np.testing.assert_allclose(vector, np.array(theirs[point_id]), rtol=1e-3, atol=1e-6)
        if distance is not Distance.COSINE or datatype is Datatype.UINT8:
            assert np.array_equal(vector, np.array(theirs[point_id], dtype=np.float32))

    for seed in range(5, 10):
        target = components(datatype, *shape[1:], seed=seed)
        ours = hits(engine, Query(query=Nearest(target), using="v", limit=40))
        request = edge.QueryRequest(query=edge.Query.Nearest(target.tolist(), using="v"), limit=40)
        assert_same_hits(ours, [(point.id, point.score) for point in shard.query(request)])
    engine.close()


@pytest.mark.parametrize("is_cold", [False, True])
@pytest.mark.parametrize(("datatype", "distance"), CASES)
def test_vectors_come_back_unchanged_through_checkpoints_compactions_and_restarts(
    tmp_path: Path, datatype: Datatype, distance: Distance, is_cold: bool
) -> None:
    params = VectorParams(DIM, distance, datatype=datatype, on_disk=is_cold or None)
    engine = opened(tmp_path, params)
    upsert(engine, components(datatype, 300, DIM))
    collection = engine.collection("c")
    collection.checkpoint()
    update = [(n, {"v": components(datatype, DIM, seed=n)}) for n in range(50, 60)]
    collection.write(WriteBatch([build_update_vectors(update, collection.config)]))
    collection.write(WriteBatch([DeletePoints(PointSelector(ids=tuple(range(40))))]))
    before = {point_id: vector.tolist() for point_id, vector in stored(engine).items()}
    target = components(datatype, DIM, seed=99)
    query = Query(query=Nearest(target), using="v", limit=300)
    best = hits(engine, query)
    for step in ("restart", "compact", "checkpoint", "restart", "snapshot"):
        collection = engine.collection("c")
        if step == "restart":
            engine.close()
            engine = Engine.open(tmp_path)
        elif step == "compact":
            collection._compact()
        elif step == "checkpoint":
            collection.checkpoint()
        else:
            archive = engine.snapshots.find("c", engine.create_snapshot("c").name)
            engine.restore_collection("c", archive)
        assert {i: vector.tolist() for i, vector in stored(engine).items()} == before, step
        assert hits(engine, query) == best, step
    values = sum(path.stat().st_size for path in tmp_path.glob("collections/c/data/*values.data"))
    # A data file has a header of a page and two checksums.
    rows, files = 260, len(list(tmp_path.glob("collections/c/data/*values.data")))
    assert values == rows * DIM * (1 if datatype is Datatype.UINT8 else 2) + files * (4096 + 8)
    engine.close()


@pytest.mark.parametrize("is_multi", [False, True])
def test_what_float16_cannot_hold_is_refused_by_point(tmp_path: Path, is_multi: bool) -> None:
    multi = MultiVectorConfig() if is_multi else None
    params = VectorParams(2, Distance.DOT, datatype=Datatype.FLOAT16, multivector_config=multi)
    engine = opened(tmp_path, params)
    fits = np.array([65504.0, -65504.0], dtype=np.float32)
    upsert(engine, [np.stack([fits, fits]) if is_multi else fits])
    broken = np.array([1.0, -65520.0], dtype=np.float32)
    with pytest.raises(InvalidVector, match="element 1 is not finite in float16: -65520") as caught:
        upsert(engine, [np.stack([fits, row]) if is_multi else row for row in (fits, broken)])
    assert caught.value.point_id == 1
    # A query may be beyond: it is taken as the largest number.
    far = np.array([1e9, 1e9], dtype=np.float32)
    assert np.isfinite(hits(engine, Query(query=Nearest(far), using="v"))[0][1])
    engine.close()


@pytest.mark.parametrize(("datatype", "distance"), CASES)
def test_a_graph_finds_what_a_scan_finds(
    tmp_path: Path, datatype: Datatype, distance: Distance
) -> None:
    params = VectorParams(16, distance, datatype=datatype)
    engine = Engine.open(tmp_path)
    config = CollectionConfig(vectors={"v": params}, optimizers_config={"indexing_threshold": 30})
    engine.create_collection("c", config)
    vectors = components(datatype, 3000, 16)
    upsert(engine, vectors)
    assert engine._builder.wait_until_idle(60)
    assert engine.collection("c").indexed_vectors_count() == 3000
    found = wanted = 0
    for target in vectors[:100] + 1:
        query = Query(query=Nearest(target), using="v", limit=10)
        exact = hits(engine, Query(**{**fields(query), "params": SearchParams(exact=True)}))
        walked = dict(hits(engine, query))
        wanted += len(exact)
        found += sum(point_id in walked for point_id, _ in exact)
        for point_id, score in exact:
            assert walked.get(point_id, score) == pytest.approx(score, rel=1e-5, abs=1e-5)
    assert found / wanted > 0.95
    engine.close()


def fields(query: Query) -> dict[str, Any]:
    return {name: getattr(query, name) for name in query.__struct_fields__}


def test_every_float16_becomes_the_same_float32_as_in_numpy() -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]
    widened = as_floats(finite)
    assert np.array_equal(widened, finite.astype(np.float32))
    assert np.array_equal(np.signbit(widened), np.signbit(finite))


@pytest.mark.parametrize("datatype", [Datatype.FLOAT16, Datatype.UINT8])
def test_sparse_weights_are_scored_as_stored_and_read_back_as_sent(
    tmp_path: Path, datatype: Datatype
) -> None:
    engine = opened(tmp_path, SparseVectorParams(index={"datatype": datatype.value}))
    rng = np.random.default_rng(3)
    sent = []
    for n in range(400):
        indices = np.sort(rng.choice(30, size=n % 7, replace=False)).astype(np.uint32)
        weights = (rng.random(len(indices)) * 4 - 1).astype(np.float32)
        sent.append(SparseVector(indices, weights))
    upsert(engine, sent)
    target = SparseVector(np.arange(30, dtype=np.uint32), np.linspace(-1, 2, 30, dtype=np.float32))

    def expected(vector: SparseVector) -> float:
        weights = vector.values
        if datatype is Datatype.FLOAT16:
            weights = weights.astype(np.float16).astype(np.float32)
        elif len(weights) > 1:
            low, step = weights.min(), (weights.max() - weights.min()) / 255
            weights = low + np.rint((weights - low) / step) * step
        return float(weights @ target.values[vector.indices])

    wanted = {n: expected(vector) for n, vector in enumerate(sent) if len(vector.indices)}
    few = Query(query=Nearest(target), using="v", limit=400)
    for _ in range(2):
        assert dict(hits(engine, few)) == pytest.approx(wanted, rel=1e-4, abs=1e-4)
        liked = Recommend((target,), (), RecommendStrategy.SUM_SCORES)
        summed = dict(hits(engine, Query(query=liked, using="v", limit=400)))
        assert {n: summed[n] for n in wanted} == pytest.approx(wanted, rel=1e-4, abs=1e-4)
        for point_id, vector in stored(engine).items():
            assert vector.values.tolist() == sent[point_id].values.tolist()
        engine.collection("c").checkpoint()
        engine.close()
        engine = Engine.open(tmp_path)
    posting = engine.collection("c").view.vectors("v")._postings[3]  # type: ignore[attr-defined]
    assert posting._values.dtype == (np.uint8 if datatype is Datatype.UINT8 else np.float16)
    engine.close()
