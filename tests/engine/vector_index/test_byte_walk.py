"""The compiled walk answers as FAISS's does, and as comparing all codes does."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from headrace.engine.vector_index import graph as graph_module
from headrace.engine.vector_index.codes import ByteCodes
from headrace.engine.vector_index.cost import Strategy
from headrace.engine.vector_index.graph import Graph, NodeKind, extended, new_graph
from headrace.engine.vector_index.sealed_range import SealedRange
from headrace.engine.vector_index.settings import IndexSettings, Quantization, QuantizationKind
from headrace.engine.vectors.base import Candidates
from headrace.engine.vectors.distances import top_k
from headrace.engine.vectors.row_set import RowSet
from headrace.model.queries import SearchParams
from headrace.model.vectors import Distance, FloatMatrix, FloatVector

pytestmark = pytest.mark.skipif(graph_module.ByteWalk is None, reason="built without a C compiler")

DIM = 20
NODES = 3000


def by_score(
    score: Callable[[FloatVector, NDArray[np.int64]], FloatVector],
) -> Callable[[FloatVector, NDArray[np.int64], int], Candidates]:
    """The best of some rows by a score."""

    def nearest_among(query: FloatVector, rows: NDArray[np.int64], k: int) -> Candidates:
        scored = score(query, rows)
        best = top_k(scored, k)
        return Candidates(rows[best], scored[best])

    return nearest_among


def _made(vectors: FloatMatrix, settings: IndexSettings | None = None) -> Graph:
    empty = new_graph(vectors, Distance.EUCLID, settings or IndexSettings())
    graph = extended(
        empty,
        len(vectors),
        lambda begin, end: vectors[begin:end],
        lambda: 1,
        lambda: False,
        lambda _: None,
    )
    assert graph.kind is NodeKind.EUCLID_CODES
    return graph


def _vectors(count: int, seed: int) -> FloatMatrix:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((30, DIM))
    near = centres[rng.integers(0, len(centres), count)]
    return np.asarray(near + 0.3 * rng.standard_normal((count, DIM)), dtype=np.float32)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return _made(_vectors(NODES, 1))


@pytest.fixture(scope="module")
def queries() -> FloatMatrix:
    return _vectors(50, 2)


def _code_distances(graph: Graph, query: FloatVector) -> NDArray[np.int64]:
    """shape (nodes,): squared, between the codes."""
    codes = graph.storage.reconstruct_n(0, graph.node_count)
    difference = codes - graph.codes.encode(query[None])
    return np.asarray((difference**2).sum(axis=1), dtype=np.int64)


def _by_faiss(graph: Graph) -> Graph:
    """The same graph, walked by FAISS."""
    other = Graph(graph.index, graph.kind, graph.codes, graph.options)
    other.__dict__["_byte_walk"] = None
    return other


@pytest.mark.parametrize("width", [1, 10, 40, 200])
def test_it_finds_as_much_as_faiss(graph: Graph, queries: FloatMatrix, width: int) -> None:
    ours = theirs = 0
    for query in queries:
        nearest = set(np.argsort(_code_distances(graph, query), kind="stable")[:10].tolist())
        ours += len(nearest & set(graph.search(query, 10, width, None).tolist()))
        theirs += len(nearest & set(_by_faiss(graph).search(query, 10, width, None).tolist()))
    assert ours >= 0.97 * theirs


def test_a_walk_over_everything_is_exact(graph: Graph, queries: FloatMatrix) -> None:
    for query in queries:
        distances = _code_distances(graph, query)
        found = graph.search(query, 25, NODES, None)
        assert distances[found].tolist() == sorted(distances.tolist())[:25]


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_only_allowed_nodes_are_found(graph: Graph, queries: FloatMatrix, share: float) -> None:
    mask = np.random.default_rng(3).random(NODES) < share
    allowed = RowSet.of_mask(mask)
    for query in queries[:20]:
        found = graph.search(query, 10, 600, allowed)
        assert mask[found].all()
        distances = np.where(mask, _code_distances(graph, query), np.iinfo(np.int64).max)
        right = np.isin(distances[found], np.sort(distances)[:10]).sum()
        assert len(found) == 10
        assert right >= 9


def test_a_mask_that_ends_early_allows_nothing_behind_it(
    graph: Graph, queries: FloatMatrix
) -> None:
    found = graph.search(queries[0], 10, 500, RowSet.all(104))
    assert len(found)
    assert found.max() < 104
    assert not len(graph.search(queries[0], 10, 500, RowSet.none(0)))


def test_listed_nodes_are_all_compared(graph: Graph, queries: FloatMatrix) -> None:
    nodes = np.flatnonzero(np.random.default_rng(4).random(NODES) < 0.2)
    mask = np.isin(np.arange(NODES), nodes)
    for query in queries:
        distances = _code_distances(graph, query)
        for row_set in (RowSet.of_rows(nodes, NODES), RowSet.of_mask(mask)):
            found = graph.nearest_of(query, 33, row_set)
            assert found is not None
            assert distances[found].tolist() == sorted(distances[nodes].tolist())[:33]
    none = graph.nearest_of(queries[0], 5, RowSet.none(NODES))
    assert none is not None
    assert not len(none)
    few = graph.nearest_of(queries[0], 5, RowSet.of_rows(nodes[:3], NODES))
    assert few is not None
    assert sorted(few.tolist()) == nodes[:3].tolist()


def test_a_query_that_the_codes_cannot_express_finds_nothing(graph: Graph) -> None:
    far = np.full(DIM, 1000, dtype=np.float32)
    assert not len(graph.search(far, 10, 100, None))
    assert graph.nearest_of(far, 10, RowSet.all(NODES)) is None


def test_codes_that_were_asked_for_take_what_they_can_of_it() -> None:
    scalar = Quantization(QuantizationKind.SCALAR)
    graph = _made(_vectors(500, 5), IndexSettings(quantization=scalar))
    far = np.full(DIM, 1000, dtype=np.float32)
    assert len(graph.search(far, 10, 100, None)) == 10


def test_more_walks_than_a_mark_can_count(graph: Graph, queries: FloatMatrix) -> None:
    first = graph.search(queries[0], 10, 20, None).tolist()
    for _ in range(600):
        assert graph.search(queries[0], 10, 20, None).tolist() == first


def test_walks_beside_each_other_do_not_disturb_each_other(
    graph: Graph, queries: FloatMatrix
) -> None:
    alone = [graph.search(query, 10, 50, None).tolist() for query in queries]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            beside = pool.map(lambda query: graph.search(query, 10, 50, None).tolist(), queries)
            assert list(beside) == alone


def test_a_wrong_dimension_is_refused(graph: Graph) -> None:
    with pytest.raises(ValueError, match="dimension"):
        graph.search(np.zeros(DIM + 1, dtype=np.float32), 10, 50, None)
    with pytest.raises(ValueError, match="dimension"):
        graph.nearest_of(np.zeros(DIM - 1, dtype=np.float32), 10, RowSet.all(3))


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 60), dim=st.integers(1, 40), k=st.integers(1, 70))
def test_small_graphs_of_any_dimension_are_exact(count: int, dim: int, k: int) -> None:
    rng = np.random.default_rng(count * 100 + dim)
    vectors = rng.standard_normal((count, dim)).astype(np.float32)
    graph = _made(vectors)
    query = vectors[0]
    distances = _code_distances(graph, query)
    wanted = sorted(distances.tolist())[:k]
    assert distances[graph.search(query, k, 200, None)[:k]].tolist() == wanted
    listed = graph.nearest_of(query, k, RowSet.all(count))
    if listed is None:
        # Rounding would decide.
        assert wanted[-1] < 2 * dim
    else:
        assert distances[listed].tolist() == wanted


def test_without_the_compiled_module_faiss_walks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_module, "ByteWalk", None)
    monkeypatch.setattr(graph_module, "NodeScan", None)
    vectors = _vectors(1000, 6)
    graph = _made(vectors)
    assert graph.node_scan is None
    assert graph.nearest_of(vectors[3], 5, RowSet.all(10)) is None
    assert graph.search(vectors[3], 1, 50, None).tolist() == [3]


def test_a_walk_wider_than_the_graph_takes_no_more_memory_than_the_graph(graph: Graph) -> None:
    query = _vectors(1, 8)[0]
    found = graph.search(query, 10, 10**15, None)
    assert found.tolist() == graph.search(query, 10, NODES, None).tolist()
    everything = graph.search(query, 10**12, 10, None)
    assert sorted(everything.tolist()) == list(range(NODES))
    listed = graph.nearest_of(query, 10**12, RowSet.all(NODES))
    assert listed is not None
    assert len(listed) == NODES


def test_clusters_that_codes_cannot_tell_apart_are_compared_exactly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where a filter leaves one tenant, whose vectors are much alike."""
    # With so many tenants that a sample has few vectors of each.
    monkeypatch.setattr(ByteCodes, "good_enough", lambda codes, vectors: True)
    rng = np.random.default_rng(11)
    centres = rng.standard_normal((40, 32))
    tenants = rng.integers(0, 40, 12_000)
    vectors = (centres[tenants] + 0.005 * rng.standard_normal((12_000, 32))).astype(np.float32)
    graph = _made(vectors)
    rows = np.flatnonzero(tenants == 7)
    sealed = SealedRange(0, 12_000, np.arange(12_000), np.empty(0, dtype=np.int64), graph)

    def score(query: FloatVector, rows: NDArray[np.int64]) -> FloatVector:
        distances: FloatVector = ((vectors[rows] - query) ** 2).sum(axis=1)
        return -distances

    for row in rows[:20]:
        query = vectors[row] + np.float32(0.001)
        wanted = rows[np.argsort(-score(query, rows), kind="stable")[:10]]
        allowed = RowSet.of_rows(rows, 12_000)
        found = sealed.nearest(query, allowed, 10, IndexSettings(), by_score(score))
        assert set(found.rows.tolist()) == set(wanted.tolist())
    # A walk shows all that it met where it cannot tell the nearest.
    assert len(graph.search(vectors[rows[0]], 10, 64, None)) > 10


def test_vectors_beyond_floats_are_not_expressed(graph: Graph) -> None:
    assert not len(graph.search(np.full(DIM, 1e30, dtype=np.float32), 10, 50, None))


def test_many_of_few_are_compared_exactly(graph: Graph) -> None:
    sealed = SealedRange(0, NODES, np.arange(NODES), np.empty(0, dtype=np.int64), graph)
    scored: list[int] = []

    def score(query: FloatVector, rows: NDArray[np.int64]) -> FloatVector:
        scored.append(len(rows))
        return np.zeros(len(rows), dtype=np.float32)

    query = _vectors(1, 12)[0]
    width = SearchParams(hnsw_ef=10)
    k = NODES // 2
    sealed.nearest(query, RowSet.all(NODES), k, IndexSettings(), by_score(score), width)
    assert scored == [NODES]


@pytest.mark.parametrize("allowed_count", [5, 100, 1200, NODES])
@pytest.mark.parametrize("k", [3, 40])
def test_a_plan_says_what_a_search_does(
    graph: Graph, allowed_count: int, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[Strategy, int | None]] = []
    search, nearest_of = Graph.search, Graph.nearest_of

    def noted_search(*arguments: Any) -> Any:
        done.append((Strategy.GRAPH, arguments[3]))
        return search(*arguments)

    def noted_nearest_of(*arguments: Any) -> Any:
        done.append((Strategy.SKETCHES if arguments[4] else Strategy.CODES, None))
        return nearest_of(*arguments)

    monkeypatch.setattr(Graph, "search", noted_search)
    monkeypatch.setattr(Graph, "nearest_of", noted_nearest_of)
    sealed = SealedRange(0, NODES, np.arange(NODES), np.empty(0, dtype=np.int64), graph)
    rows = np.sort(np.random.default_rng(5).choice(NODES, allowed_count, replace=False))
    allowed = RowSet.of_rows(rows, NODES)
    query = _vectors(1, 13)[0]
    for ef in (None, 4, 200):
        done.clear()
        params = SearchParams(hnsw_ef=ef)
        in_order = by_score(lambda query, rows: -rows.astype(np.float32))
        sealed.nearest(query, allowed, k, IndexSettings(), in_order, params)
        plan = sealed.plan(allowed, DIM, k, IndexSettings(), params)
        expected = {
            Strategy.GRAPH: [(Strategy.GRAPH, plan.ef)],
            Strategy.CODES: [(Strategy.CODES, None)],
            Strategy.SKETCHES: [(Strategy.SKETCHES, None)],
            Strategy.EXACT: [],
        }
        assert done == expected[plan.strategy]
