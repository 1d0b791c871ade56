"""Rows scored in one compiled call are the rows scored block by block."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.engine.vectors import arrays
from headrace.engine.vectors.arrays import BlockMatrix
from headrace.engine.vectors.dense import DenseVectors
from headrace.engine.vectors.distances import similarities, top_k
from headrace.engine.vectors.row_set import RowSet
from headrace.model.collection_config import Datatype, VectorParams
from headrace.model.vectors import DenseBatch, Distance, FloatMatrix, Rows

RowScores = arrays.RowScores

compiled = pytest.mark.skipif(RowScores is None, reason="built without a C compiler")


def drawn(count: int, dim: int, seed: int = 0) -> FloatMatrix:
    return np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)


def chosen(count: int, share: float, seed: int = 1) -> Rows:
    return np.flatnonzero(np.random.default_rng(seed).random(count) < share)


def split(vectors: FloatMatrix, cuts: list[int]) -> list[FloatMatrix]:
    return np.split(vectors, cuts)


@compiled
@settings(deadline=None, max_examples=60)
@given(
    dim=st.sampled_from([1, 3, 16, 31, 128, 1100]),
    cuts=st.lists(st.integers(0, 300), max_size=5).map(sorted),
    begin=st.sampled_from([0, 7]),
    is_product=st.booleans(),
    share=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    k=st.sampled_from([0, 1, 10, 256]),
)
def test_the_nearest_are_those_of_all_scores(
    dim: int, cuts: list[int], begin: int, is_product: bool, share: float, k: int
) -> None:
    vectors, query = drawn(300, dim), drawn(1, dim, seed=2)[0]
    places = chosen(300, share)
    rows = places + begin
    scores = RowScores(split(vectors, cuts), begin, is_product)
    distance = Distance.DOT if is_product else Distance.EUCLID
    scored = scores.similarities(query, rows)
    np.testing.assert_allclose(
        scored, similarities(query, vectors[places], distance), rtol=1e-4, atol=1e-3
    )
    found, nearest = scores.nearest(query, rows, k)
    best = top_k(scored, k)
    assert found.tolist() == rows[best].tolist()
    assert nearest.tolist() == scored[best].tolist()


@compiled
def test_of_equally_near_rows_the_first_come_first() -> None:
    vectors = np.repeat(drawn(3, 8), 400, axis=0)
    found, _ = RowScores([vectors], 0, True).nearest(vectors[0], np.arange(1200), 30)
    assert found[found < 400].tolist() == list(range(30))


@compiled
def test_what_is_no_number_comes_last() -> None:
    vectors = drawn(20, 4)
    vectors[[3, 4]] = np.inf
    query = np.array([1, -1, 1, 1], dtype=np.float32)
    rows = np.arange(20)
    found, nearest = RowScores([vectors], 0, True).nearest(query, rows, 20)
    assert found[-2:].tolist() == [3, 4]
    assert np.isnan(nearest[-2:]).all()
    assert np.isfinite(nearest[:-2]).all()


@compiled
def test_rows_that_no_block_has_are_refused() -> None:
    scores = RowScores([drawn(10, 4), drawn(5, 4)], 2, True)
    query = drawn(1, 4)[0]
    for rows in ([1, 5], [3, 17]):
        with pytest.raises(ValueError, match="no block"):
            scores.nearest(query, np.array(rows), 3)
        with pytest.raises(ValueError, match="no block"):
            scores.similarities(query, np.array(rows))
    with pytest.raises(ValueError, match="dimension"):
        scores.nearest(drawn(1, 5)[0], np.array([2]), 3)
    with pytest.raises(ValueError, match="dimension"):
        RowScores([drawn(2, 4), drawn(2, 5)], 0, True)
    with pytest.raises(ValueError, match="dimension"):
        RowScores([], 0, True).nearest(query, np.array([0]), 1)
    with pytest.raises(ValueError, match="Buffer dtype"):
        RowScores([np.zeros((2, 4))], 0, True)


@compiled
def test_many_threads_score_at_a_time() -> None:
    vectors, queries = drawn(5000, 64), drawn(40, 64, seed=3)
    scores, rows = RowScores(split(vectors, [2000]), 0, False), chosen(5000, 0.3)
    alone = [scores.nearest(query, rows, 10)[0].tolist() for query in queries]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            beside = pool.map(lambda query: scores.nearest(query, rows, 10)[0].tolist(), queries)
            assert list(beside) == alone


@pytest.mark.parametrize("datatype", [None, *Datatype])
@pytest.mark.parametrize("distance", list(Distance))
@pytest.mark.parametrize("k", [10, 300])
def test_a_store_answers_the_same_without_a_compiler(
    distance: Distance, datatype: Datatype | None, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DenseVectors(VectorParams(24, distance, datatype=datatype))
    vectors = np.abs(drawn(2000, 24)) * 50
    rows = np.arange(2000)
    store.write(rows, DenseBatch(rows, vectors))
    query, allowed = store.check_query(vectors[5] + 1), chosen(2000, 0.05)
    with_it = store.nearest(query, RowSet.of_rows(allowed, 2000), k)
    scored = store.similarities(query, allowed)
    monkeypatch.setattr(arrays, "RowScores", None)
    without = store.nearest(query, RowSet.of_rows(allowed, 2000), k)
    assert with_it.rows.tolist() == without.rows.tolist()
    np.testing.assert_allclose(with_it.similarities, without.similarities, rtol=1e-5)
    np.testing.assert_allclose(scored, store.similarities(query, allowed), rtol=1e-5)


@compiled
def test_rows_that_were_written_since_are_scored() -> None:
    matrix = BlockMatrix(8)
    vectors = drawn(20_000, 8)
    query = vectors[-1]
    seen = 0
    for end in (1000, 20_000):
        matrix.reserve(end)
        matrix.write(np.arange(seen, end), vectors[seen:end])
        scores = matrix.row_scores(is_product=False)
        assert scores is not None
        assert matrix.row_scores(is_product=False) is scores
        found, _ = scores.nearest(query, np.arange(end), 1)
        assert (
            found.tolist()
            == similarities(query, vectors[:end], Distance.EUCLID).argsort()[-1:].tolist()
        )
        seen = end


@compiled
def test_blocks_that_files_replaced_are_let_go_of() -> None:
    matrix = BlockMatrix(8)
    vectors = drawn(1000, 8)
    matrix.reserve(1000)
    matrix.write(np.arange(1000), vectors)
    before = matrix.row_scores(is_product=True)
    matrix.rebind([memoryview(vectors.tobytes())])
    assert matrix._row_scores is None
    after = matrix.row_scores(is_product=True)
    assert before is not None
    assert after is not None
    rows = np.arange(1000)
    found = after.similarities(vectors[3], rows).tolist()
    assert found == before.similarities(vectors[3], rows).tolist()
