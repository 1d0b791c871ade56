"""Sketches rule out nodes, and what is nearest by the codes is found all the same."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from headrace.engine.vector_index import graph as graph_module
from headrace.engine.vector_index.codes import OUTSIDE_SHARE, ByteCodes
from headrace.engine.vector_index.tail_codes import ByteScan, sketched
from headrace.model.vectors import FloatMatrix, FloatVector

pytestmark = pytest.mark.skipif(graph_module.NodeScan is None, reason="built without a C compiler")

# More than are listed at a time.
NODES = 5000


class Coded:
    """Vectors, and what compares their codes."""

    def __init__(self, vectors: FloatMatrix) -> None:
        box = ByteCodes.fit(vectors)
        self.box = box
        self.codes = box.encode(vectors).astype(np.uint8)
        self.scan = self.new_scan()

    def new_scan(self) -> graph_module.NodeScan:
        box = self.box
        scale = float(box.steps_per_unit)
        codes = np.ascontiguousarray(self.codes.reshape(-1))
        return graph_module.NodeScan(codes, box.code_dim, box.offset, scale, OUTSIDE_SHARE)

    def distances(self, query: FloatVector) -> NDArray[np.int64]:
        """shape (nodes,): squared, between the codes."""
        asked = self.box.encode(query[None])[0]
        difference = self.codes.astype(np.float32) - asked
        return np.asarray((difference**2).sum(axis=1), dtype=np.int64)

    def found_share(self, query: FloatVector, nodes: NDArray[np.int64], surely: int) -> float:
        """Which part of the nearest by codes is found; checks what must always hold."""
        found = self.scan.nearest_of(query, 4 * surely, nodes, None, True, surely)
        if found is None:
            return 1.0
        assert np.isin(found, nodes).all()
        assert len(set(found.tolist())) == len(found)
        distances = self.distances(query)
        assert (np.diff(distances[found]) >= 0).all()
        wanted = np.sort(distances[nodes])[:surely]
        return float((distances[found[:surely]] <= wanted[-1]).sum() / len(wanted))


def _clusters(count: int, dim: int, spread: float, seed: int) -> FloatMatrix:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((20, dim))
    near = centres[rng.integers(0, len(centres), count)]
    return (near + spread * rng.standard_normal((count, dim))).astype(np.float32)


def _made(kind: str, dim: int) -> FloatMatrix:
    rng = np.random.default_rng(dim)
    count = NODES + 50
    match kind:
        case "clusters":
            return _clusters(count, dim, 0.5, 1)
        case "dense clusters":
            return _clusters(count, dim, 0.05, 2)
        case "no structure":
            return rng.standard_normal((count, dim)).astype(np.float32)
        case "few large components":
            lengths = rng.lognormal(0, 1.5, dim)
            return (rng.standard_normal((count, dim)) * lengths).astype(np.float32)
        case "mostly zeros":
            kept = rng.random((count, dim)) < 0.1
            return (rng.exponential(1, (count, dim)) * kept).astype(np.float32)
        case _:
            flat = rng.standard_normal((3, dim))
            return (rng.standard_normal((count, 3)) @ flat).astype(np.float32)


KINDS = [
    "clusters",
    "dense clusters",
    "no structure",
    "few large components",
    "mostly zeros",
    "of three dimensions",
]


@pytest.mark.parametrize("dim", [20, 128, 256, 384, 500])
@pytest.mark.parametrize("kind", KINDS)
def test_sketches_lose_nearly_nothing(kind: str, dim: int) -> None:
    vectors = _made(kind, dim)
    coded = Coded(vectors[:NODES])
    rng = np.random.default_rng(3)
    shares = [
        coded.found_share(query, np.flatnonzero(rng.random(NODES) < share), 15)
        for query in vectors[NODES:]
        for share in (0.1, 0.9)
    ]
    assert np.mean(shares) >= 0.99


@pytest.mark.parametrize("dim", [20, 100, 128, 256])
@pytest.mark.parametrize("kind", KINDS)
def test_sketches_of_rows_in_chunks_lose_nearly_nothing(kind: str, dim: int) -> None:
    rows, surely = 1000, 15
    vectors = _made(kind, dim)
    # Each chunk is somewhere else.
    chunk_of = np.arange(NODES) // rows
    vectors[:NODES] += np.sin(np.arange(dim) * (1 + chunk_of[:, None])).astype(np.float32)
    coded = Coded(vectors[:NODES])
    box = coded.box
    scan = ByteScan(box.code_dim, box.offset, float(box.steps_per_unit), OUTSIDE_SHARE)
    chunks = tuple(np.ascontiguousarray(chunk) for chunk in np.split(coded.codes, NODES // rows))
    # Of the last there are none yet, and one may be of no use.
    sketches = [sketched(chunk, np.arange(0, rows, 4)) for chunk in chunks[:-1]]
    assert kind not in ("clusters", "of three dimensions") or any(sketches)
    sketches[1] = None
    rng = np.random.default_rng(7)
    shares = []
    for query in vectors[NODES:]:
        begin, end = sorted(rng.integers(0, NODES, 2))
        allowed = rng.random(end - begin) < rng.choice([0.3, 1.0])
        mask = allowed.view(np.uint8)
        found = scan.nearest_of(query, 4 * surely, chunks, begin, mask, tuple(sketches), surely)
        if found is None or not allowed.any():
            continue
        distances = coded.distances(query)
        assert allowed[found - begin].all()
        assert (np.diff(distances[found]) >= 0).all()
        wanted = np.sort(distances[begin:end][allowed])[:surely]
        shares.append((distances[found[:surely]] <= wanted[-1]).sum() / len(wanted))
    assert len(shares) > 10
    assert np.mean(shares) >= 0.99


@pytest.mark.parametrize("dim", [64, 256])
def test_queries_unlike_all_nodes_lose_nearly_nothing(dim: int) -> None:
    rng = np.random.default_rng(dim)
    # Of components that are mostly 0, and else above it.
    vectors = np.maximum(0, _clusters(NODES, dim, 1, 8) - 1).astype(np.float32)
    coded = Coded(vectors)
    shares = []
    for query in rng.random((20, dim), dtype=np.float32) * vectors.max():
        nodes = np.flatnonzero(rng.random(NODES) < 0.5)
        shares.append(coded.found_share(query, nodes, 15))
    assert coded.scan.has_sketches
    assert np.mean(shares) >= 0.99


def test_more_sketches_than_chunks_are_refused() -> None:
    coded = Coded(_made("clusters", 32))
    scan = ByteScan(32, coded.box.offset, float(coded.box.steps_per_unit), OUTSIDE_SHARE)
    allowed = np.ones(len(coded.codes), dtype=np.uint8)
    with pytest.raises(ValueError, match="sketches"):
        scan.nearest_of(
            allowed[:32].astype(np.float32), 5, (coded.codes,), 0, allowed, (None,) * 2, 1
        )


def test_a_mask_says_the_same_as_a_list() -> None:
    vectors = _clusters(NODES, 64, 0.5, 4)
    coded = Coded(vectors)
    mask = np.random.default_rng(5).random(NODES) < 0.6
    for end in (0, 1, 63, 64, 65, 1000, NODES - 3, NODES):
        nodes = np.flatnonzero(mask[:end])
        bits = np.packbits(mask[:end], bitorder="little")
        for surely in (0, 10):
            listed = coded.scan.nearest_of(vectors[7], 40, nodes, None, True, surely)
            masked = coded.scan.nearest_of(vectors[7], 40, None, bits, True, surely)
            assert (listed is None) == (masked is None)
            if listed is not None and masked is not None:
                assert listed.tolist()[:10] == masked.tolist()[:10]
                assert len(listed) <= len(nodes)


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 80),
    dim=st.integers(1, 70),
    k=st.integers(1, 90),
    surely=st.integers(1, 100),
)
def test_few_nodes_of_any_dimension(count: int, dim: int, k: int, surely: int) -> None:
    rng = np.random.default_rng(count * 100 + dim)
    vectors = rng.standard_normal((count, dim)).astype(np.float32)
    coded = Coded(vectors)
    found = coded.scan.nearest_of(vectors[0], k, np.arange(count), None, True, surely)
    if found is not None:
        # The first are compared whatever the sketches say.
        assert len(found) >= min(k, surely, count)
        assert len(set(found.tolist())) == len(found)


def test_sketches_are_made_by_the_first_search_that_wants_them() -> None:
    scan, query = Coded(_made("clusters", 32)).scan, _made("clusters", 32)[0]
    nodes = np.arange(NODES)
    scan.nearest_of(query, 40, nodes, None, True, 0)
    assert (scan.can_sketch, scan.has_sketches) == (True, False)
    scan.nearest_of(query, 40, nodes, None, True, 10)
    assert (scan.can_sketch, scan.has_sketches) == (True, True)


def test_wide_vectors_are_judged_by_fewer() -> None:
    wide = _clusters(600, 16_384, 0.5, 3)
    coded = Coded(wide)
    assert coded.found_share(wide[7], np.arange(600), 10) == 1.0
    assert coded.scan.has_sketches


def test_nodes_that_are_all_alike_are_not_told_apart() -> None:
    coded = Coded(np.ones((3000, 32), dtype=np.float32))
    every = np.arange(3000)
    assert coded.scan.nearest_of(np.ones(32, dtype=np.float32), 20, every, None, True, 5) is None


def test_searches_beside_each_other_find_the_same() -> None:
    vectors = _clusters(NODES, 96, 0.5, 6)
    coded = Coded(vectors)
    nodes = np.arange(0, NODES, 3)

    def nearest(scan: graph_module.NodeScan, query: FloatVector) -> list[int]:
        found = scan.nearest_of(query, 40, nodes, None, True, 10)
        assert found is not None
        return [int(node) for node in found[:10]]

    alone = [nearest(coded.scan, query) for query in vectors[:40]]
    for _ in range(10):
        # The first of them makes the sketches, while others ask already.
        scan = coded.new_scan()
        with ThreadPoolExecutor(8) as pool:
            beside = list(pool.map(lambda query, scan=scan: nearest(scan, query), vectors[:40]))
        assert beside == alone


def test_what_does_not_fit_is_refused() -> None:
    coded = Coded(_clusters(100, 20, 0.5, 7))
    query = np.zeros(20, dtype=np.float32)
    with pytest.raises(ValueError, match="dimension"):
        coded.scan.nearest_of(query[1:], 5, np.arange(3))
    with pytest.raises(ValueError, match="mask"):
        coded.scan.nearest_of(query, 5)
    with pytest.raises(ValueError, match="mask"):
        coded.scan.nearest_of(query, 5, None, np.zeros(14, dtype=np.uint8))
    with pytest.raises(ValueError, match="16"):
        graph_module.NodeScan(np.zeros(40, dtype=np.uint8), 20, query, 1.0, OUTSIDE_SHARE)
