"""Each vector store against plain NumPy, on random data with random masks."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from headrace.engine.vectors.arrays import BlockMatrix, GrowingArray
from headrace.engine.vectors.dense import DenseVectors
from headrace.engine.vectors.distances import normalised, scores_from_similarities
from headrace.engine.vectors.multi import MultiVectors
from headrace.engine.vectors.row_set import RowSet
from headrace.engine.vectors.sparse import SparseVectors
from headrace.model.collection_config import (
    MultiVectorConfig,
    SparseVectorParams,
    VectorParams,
)
from headrace.model.errors import WrongInput, WrongVectorDimension
from headrace.model.vectors import (
    DenseBatch,
    Distance,
    FloatMatrix,
    FloatVector,
    MultiBatch,
    SparseBatch,
    SparseVector,
)

ROWS = 1500
DIM = 7
DISTANCES = list(Distance)


def reference_scores(
    query: FloatVector, vectors: FloatMatrix, distance: Distance
) -> NDArray[np.float64]:
    """Scores in float64, straight from the definitions."""
    exact, target = vectors.astype(np.float64), query.astype(np.float64)
    match distance:
        case Distance.EUCLID:
            return np.asarray(np.sqrt(((exact - target) ** 2).sum(axis=1)))
        case Distance.MANHATTAN:
            return np.asarray(np.abs(exact - target).sum(axis=1))
        case Distance.COSINE:
            norms = np.linalg.norm(exact, axis=1) * np.linalg.norm(target)
            return np.asarray(exact @ target / norms)
        case Distance.DOT:
            return np.asarray(exact @ target)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("allowed_share", [0.01, 0.5, 1.0])
def test_dense_search_is_exact(distance: Distance, allowed_share: float) -> None:
    rng = np.random.default_rng(1)
    raw = rng.standard_normal((ROWS, DIM)).astype(np.float32)
    stored = normalised(raw) if distance is Distance.COSINE else raw
    store = DenseVectors(VectorParams(DIM, distance))
    positions = np.flatnonzero(rng.random(ROWS) < 0.9)
    store.write(positions, DenseBatch(np.arange(len(positions)), stored[positions]))
    allowed = rng.random(ROWS) < allowed_share
    query = rng.standard_normal(DIM).astype(np.float32)

    found = store.nearest(store.check_query(query), RowSet.of_mask(allowed), 10)

    candidates = np.flatnonzero(allowed & np.isin(np.arange(ROWS), positions))
    scores = reference_scores(query, raw[candidates], distance)
    order = np.argsort(-scores if distance.larger_is_nearer else scores)[:10]
    assert found.rows.tolist() == candidates[order].tolist()
    shown = scores_from_similarities(found.similarities, distance)
    np.testing.assert_allclose(shown, scores[order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("distance", DISTANCES)
def test_multi_vector_search_is_max_sim(distance: Distance) -> None:
    rng = np.random.default_rng(2)
    counts = rng.integers(1, 6, size=300)
    inner = rng.standard_normal((int(counts.sum()), DIM)).astype(np.float32)
    if distance is Distance.COSINE:
        inner = normalised(inner)
    bounds = np.concatenate(([0], np.cumsum(counts)))
    store = MultiVectors(VectorParams(DIM, distance, multivector_config=MultiVectorConfig()))
    rows = np.arange(300)
    store.write(rows, MultiBatch(rows, bounds, inner))
    query = rng.standard_normal((3, DIM)).astype(np.float32)

    found = store.nearest(store.check_query(query), RowSet.all(300), 5)

    wanted = []
    for row in range(300):
        own = inner[bounds[row] : bounds[row + 1]]
        total = 0.0
        for one in query:
            scores = reference_scores(one, own, distance)
            if distance.larger_is_nearer:
                total += scores.max()
            else:
                total -= scores.min() ** (2 if distance is Distance.EUCLID else 1)
        wanted.append(total)
    order = np.argsort(-np.array(wanted))[:5]
    assert found.rows.tolist() == order.tolist()
    np.testing.assert_allclose(found.similarities, np.array(wanted)[order], rtol=1e-4)


def sparse_store(dense: FloatMatrix) -> SparseVectors:
    store = SparseVectors(SparseVectorParams())
    rows = np.arange(len(dense))
    indices = [np.flatnonzero(row).astype(np.uint32) for row in dense]
    bounds = np.concatenate(([0], np.cumsum([len(one) for one in indices])))
    values = np.concatenate([row[row != 0] for row in dense])
    store.write(rows, SparseBatch(rows, bounds, np.concatenate(indices), values))
    return store


def random_sparse(rows: int, dimensions: int) -> FloatMatrix:
    rng = np.random.default_rng(3)
    dense = rng.standard_normal((rows, dimensions)).astype(np.float32)
    dense[rng.random(dense.shape) < 0.8] = 0
    dense[:, 0] = 0
    dense[0] = 0
    return dense


def test_sparse_search_returns_only_points_that_share_a_dimension() -> None:
    dense = random_sparse(400, 20)
    store = sparse_store(dense)
    query = SparseVector(
        np.array([1, 5, 900], dtype=np.uint32), np.array([0.5, -1, 3], dtype=np.float32)
    )

    found = store.nearest(query, RowSet.all(400), 400)

    sharing = np.flatnonzero((dense[:, 1] != 0) | (dense[:, 5] != 0))
    scores = dense[sharing, 1] * 0.5 - dense[sharing, 5]
    assert sorted(found.rows.tolist()) == sharing.tolist()
    np.testing.assert_allclose(found.similarities, np.sort(scores)[::-1], rtol=1e-5)
    assert (
        len(
            store.nearest(
                SparseVector(query.indices[:0], query.values[:0]), RowSet.all(400), 5
            ).rows
        )
        == 0
    )


def test_idf_weights_count_the_population() -> None:
    dense = random_sparse(100, 10)
    store = sparse_store(dense)
    query = SparseVector(np.array([3], dtype=np.uint32), np.array([2], dtype=np.float32))
    population = np.arange(100) < 60

    weighted = store.weighted(query, population)

    with_dimension = int((dense[:60, 3] != 0).sum())
    expected = 2 * np.log((60 - with_dimension + 0.5) / (with_dimension + 0.5) + 1)
    np.testing.assert_allclose(weighted.values, [expected], rtol=1e-6)


def test_copied_rows_have_the_vectors_of_their_sources() -> None:
    rng = np.random.default_rng(4)
    values = rng.standard_normal((3, DIM)).astype(np.float32)
    rows = np.arange(3)
    dense = DenseVectors(VectorParams(DIM, Distance.DOT))
    dense.write(rows, DenseBatch(rows, values))
    multi = MultiVectors(VectorParams(DIM, Distance.DOT, multivector_config=MultiVectorConfig()))
    multi.write(rows, MultiBatch(rows, np.arange(4), values))
    sparse = sparse_store(np.abs(values))
    for store in (dense, multi, sparse):
        store.copy(np.array([2, 0, 7]), np.array([3, 4, 5]))

        assert store.present(6).tolist() == [True] * 5 + [False]
    np.testing.assert_array_equal(dense.get(3), values[2])
    np.testing.assert_array_equal(multi.get(4), values[:1])
    copied = sparse.get(3)
    assert isinstance(copied, SparseVector)
    np.testing.assert_array_equal(copied.values, np.abs(values[2]))
    query = SparseVector(np.array([0], dtype=np.uint32), np.array([1], dtype=np.float32))
    only_copy = RowSet.of_mask(np.array([False, False, False, True]))
    assert sparse.nearest(query, only_copy, 1).rows.tolist() == [3]


def test_a_query_of_another_kind_or_size_is_refused() -> None:
    dense = DenseVectors(VectorParams(DIM, Distance.DOT))
    sparse = SparseVectors(SparseVectorParams())
    query = SparseVector(np.empty(0, dtype=np.uint32), np.empty(0, dtype=np.float32))
    with pytest.raises(WrongInput, match="Conversion between sparse and regular vectors failed"):
        dense.check_query(query)
    with pytest.raises(WrongInput, match="Conversion between sparse and regular vectors failed"):
        sparse.check_query(np.zeros(DIM, dtype=np.float32))
    with pytest.raises(WrongInput, match="Conversion between multi and regular vectors failed"):
        dense.check_query(np.zeros((2, DIM), dtype=np.float32))
    with pytest.raises(WrongVectorDimension, match="expected dim: 7, got 3"):
        dense.check_query(np.zeros(3, dtype=np.float32))


def test_unit_and_zero_vectors_are_not_scaled() -> None:
    unit = np.array([[0.6, 0.8], [0, 0], [3, 4]], dtype=np.float32)
    scaled = normalised(unit)
    np.testing.assert_array_equal(scaled[:2], unit[:2])
    np.testing.assert_allclose(scaled[2], [0.6, 0.8], rtol=1e-6)


def test_a_view_of_a_growing_array_keeps_its_content() -> None:
    array: GrowingArray[np.int64] = GrowingArray(np.int64)
    array.reserve(10)
    array.buffer[:10] = 7
    held = array.view(10)
    array.reserve(100_000)
    array.buffer[:10] = 8
    assert held.tolist() == [7] * 10
    assert array.view(200_000)[150_000] == 0


def test_rows_cross_block_borders() -> None:
    blocks = BlockMatrix(16_384)
    rows = np.arange(0, 6 * blocks.block_rows, blocks.block_rows // 2)
    values = np.repeat(rows[:, np.newaxis], 16_384, axis=1).astype(np.float32)
    blocks.reserve(int(rows[-1]) + 1)
    blocks.write(rows, values)
    np.testing.assert_array_equal(blocks.gather(rows), values)
    assert [first for first, _ in blocks.slices(int(rows[-1]) + 1)] == [
        0,
        blocks.block_rows,
        4 * blocks.block_rows,
    ]
