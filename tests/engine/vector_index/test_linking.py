"""Nodes that are linked all at once make a graph as good as one that grew node by node."""

from __future__ import annotations

import shutil
import sysconfig
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from headrace.engine.vector_index import byte_links, linking
from headrace.engine.vector_index import graph as graph_module
from headrace.engine.vector_index.builder import NoMoreThreads
from headrace.engine.vector_index.graph import Abandoned, Graph, NodeKind, extended, new_graph
from headrace.engine.vector_index.settings import IndexSettings
from headrace.engine.vectors.untyped_faiss import faiss
from headrace.model.vectors import Distance, FloatMatrix

needs_linking = pytest.mark.skipif(
    graph_module.link_all is None, reason="built without a C compiler"
)

DIM = 24


def _vectors(count: int, seed: int, dim: int = DIM) -> FloatMatrix:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((50, dim))
    near = centres[rng.integers(0, len(centres), count)]
    return np.asarray(near + 0.3 * rng.standard_normal((count, dim)), dtype=np.float32)


def _extended(base: Graph, vectors: FloatMatrix, threads: int = 1) -> Graph:
    graph = extended(
        base,
        len(vectors),
        lambda begin, end: vectors[begin:end],
        lambda: threads,
        lambda: False,
        lambda _: None,
    )
    assert graph.kind is NodeKind.EUCLID_CODES
    return graph


def _linked(vectors: FloatMatrix, threads: int = 1, m: int = 16) -> Graph:
    settings = IndexSettings(m=m)
    return _extended(new_graph(vectors, Distance.EUCLID, settings), vectors, threads)


def _links(graph: Graph) -> list[list[int]]:
    """Of each node, all layers."""
    hnsw = graph.index.hnsw
    links = faiss.rev_swig_ptr(hnsw.neighbors.data(), hnsw.neighbors.size()).copy()
    begins = faiss.vector_to_array(hnsw.offsets).astype(np.int64)
    parts = np.split(links, begins[1:-1])
    return [part.tolist() for part in parts]


def _reached(graph: Graph) -> int:
    """How many nodes the links of the lowest layer lead to from the entry."""
    width = graph.index.hnsw.nb_neighbors(0)
    links = _links(graph)
    reached, waiting = {int(graph.index.hnsw.entry_point)}, [int(graph.index.hnsw.entry_point)]
    while waiting:
        for node in links[waiting.pop()][:width]:
            if node >= 0 and node not in reached:
                reached.add(node)
                waiting.append(node)
    return len(reached)


def _recall(graph: Graph, vectors: FloatMatrix, width: int) -> float:
    right = 0
    queries = _vectors(60, 99, vectors.shape[1])
    for query in queries:
        nearest = np.argsort(((vectors - query) ** 2).sum(axis=1))[:10]
        right += len(set(nearest.tolist()) & set(graph.search(query, 10, width, None).tolist()))
    return right / (10 * len(queries))


@needs_linking
def test_it_finds_what_a_graph_that_grew_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = _vectors(6000, 1)
    at_once = _linked(vectors)
    monkeypatch.setattr(graph_module, "link_all", None)
    grown = _linked(vectors)
    assert _links(at_once) != _links(grown)
    for width in (60, 150, 400):
        assert _recall(at_once, vectors, width) >= _recall(grown, vectors, width) - 0.03


@needs_linking
def test_threads_change_nothing() -> None:
    vectors = _vectors(3000, 2)
    alone = _linked(vectors, threads=1)
    assert _links(_linked(vectors, threads=3)) == _links(alone)


@needs_linking
def test_links_are_of_other_nodes_and_each_once() -> None:
    graph = _linked(_vectors(2500, 3), m=8)
    lowest = graph.index.hnsw.nb_neighbors(0)
    for node, links in enumerate(_links(graph)):
        for begin in range(0, len(links), 8):
            if begin in range(1, lowest):
                continue
            layer = links[begin : begin + (8 if begin else lowest)]
            known = [link for link in layer if link >= 0]
            assert layer == known + [-1] * (len(layer) - len(known))
            assert len(set(known)) == len(known)
            assert node not in known


@needs_linking
@pytest.mark.parametrize("count", [1, 2, 3, 50, 1599, 1600, 1601, 1602, 3300])
def test_every_node_is_reached_and_found(count: int) -> None:
    vectors = _vectors(count, 4)
    graph = _linked(vectors)
    assert graph.node_count == count
    assert _reached(graph) == count
    found = [graph.search(vector, 1, 100, None)[:1].tolist() for vector in vectors]
    wrong = sum(one != [node] for node, one in enumerate(found))
    # Two vectors may have one code.
    assert wrong <= count * 0.02


@needs_linking
def test_many_copies_of_a_few_vectors_stay_reachable() -> None:
    few = _vectors(12, 5)
    vectors = np.repeat(few, 300, axis=0)
    np.random.default_rng(6).shuffle(vectors)
    graph = _linked(vectors)
    assert _reached(graph) == len(vectors)
    for vector in few:
        found = graph.search(vector, 5, 60, None)
        assert (vectors[found] == vector).all()


@needs_linking
def test_all_vectors_alike() -> None:
    vectors = np.ones((2000, DIM), dtype=np.float32)
    graph = _linked(vectors)
    assert _reached(graph) == 2000
    assert len(graph.search(vectors[0], 10, 50, None)) >= 10


@needs_linking
@pytest.mark.parametrize(("m", "dim"), [(4, 3), (4, 17), (64, 40), (65, 40), (16, 300)])
def test_links_and_dimensions_of_all_kinds(m: int, dim: int) -> None:
    vectors = _vectors(1500, 7, dim)
    graph = _linked(vectors, m=m)
    assert _reached(graph) == 1500
    assert _recall(graph, vectors, 400) >= 0.9


@needs_linking
def test_a_graph_is_extended_by_many_and_then_by_few() -> None:
    vectors = _vectors(4000, 8)
    base = _extended(new_graph(vectors, Distance.EUCLID, IndexSettings()), vectors[:1000])
    before = base.decoded(np.arange(1000))
    more = _extended(base, vectors[1000:3900])
    assert base.node_count == 1000
    assert (more.decoded(np.arange(1000)) == before).all()
    all_of_them = _extended(more, vectors[3900:])
    # Few are added to a copy, which keeps the links that are there.
    assert _links(all_of_them)[0][:1] == _links(more)[0][:1]
    assert all_of_them.node_count == 4000
    assert _recall(all_of_them, vectors, 150) >= 0.94


@needs_linking
def test_the_builder_may_stop_it_at_any_step() -> None:
    vectors = _vectors(3000, 9)
    empty = new_graph(vectors, Distance.EUCLID, IndexSettings())
    asked = told = 0
    for stop_after in (0, 1, 3, 10, 30):
        asked = 0

        def is_stopped(stop_after: int = stop_after) -> bool:
            nonlocal asked
            asked += 1
            return asked > stop_after

        with pytest.raises(Abandoned):
            extended(
                empty, 3000, lambda begin, end: vectors[begin:end], lambda: 2, is_stopped, print
            )
        assert empty.node_count == 0

    def report(linked: int) -> None:
        nonlocal told
        assert told <= linked <= 3000
        told = linked

    extended(empty, 3000, lambda begin, end: vectors[begin:end], lambda: 2, lambda: False, report)
    assert told == 3000


def test_what_can_be_compiled_is() -> None:
    """Without it the tests of compiled modules are skipped, and everything is slower."""
    headers = Path(sysconfig.get_paths()["include"], "Python.h")
    if shutil.which("cc") and headers.exists():
        assert graph_module.ByteWalk is not None
        assert graph_module.link_all is not None


@needs_linking
@pytest.mark.parametrize("seed", [1, 2])
def test_pairs_of_copies_are_reached_with_few_links(seed: int) -> None:
    half = np.random.default_rng(seed).standard_normal((750, 16)).astype(np.float32)
    vectors = np.repeat(half, 2, axis=0)
    assert _reached(_linked(vectors, m=4)) == len(vectors)


each_kernel = pytest.mark.parametrize(
    "kernel",
    [
        pytest.param(
            number,
            id=name,
            marks=pytest.mark.skipif(
                number > byte_links.KERNELS,
                reason=f"this processor has no {name}, or the compiler does not know it",
            ),
        )
        for number, name in ((1, "AVX2"), (2, "AVX-512 VNNI"))
    ],
)

_CODES_OF_ALL_KINDS = ["random", "near", "zero", "full", "far", "few"]


def _codes(kind: str, count: int, dim: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(count + dim)
    shape = (count, dim)
    match kind:
        case "random":
            return rng.integers(0, 256, shape, dtype=np.uint8)
        case "near":
            return rng.integers(100, 104, shape, dtype=np.uint8)
        case "zero":
            return np.zeros(shape, dtype=np.uint8)
        case "full":
            return np.full(shape, 255, dtype=np.uint8)
        case "far":
            return np.repeat(255 * rng.integers(0, 2, (count, 1), dtype=np.uint8), dim, axis=1)
        case _:
            return rng.integers(0, 256, (5, dim), dtype=np.uint8)[rng.integers(0, 5, count)]


def _pools(codes: NDArray[np.uint8], size: int, kernel: int) -> NDArray[np.uint64]:
    """What two groups, which overlap, know of each other."""
    count = len(codes)
    pools = np.full((count, size), byte_links.EMPTY, dtype=np.uint64)
    order = np.random.default_rng(1).permutation(count).astype(np.int32)
    for group in (order[: count - count // 4], order[count // 3 :]):
        byte_links.compare_all(codes, group, pools, kernel)
    return pools


@each_kernel
@pytest.mark.parametrize("kind", _CODES_OF_ALL_KINDS)
@pytest.mark.parametrize("dim", [16, 48, 128, 256, 1536, 2**15])
def test_kernels_tell_the_same_nearest(kind: str, dim: int, kernel: int) -> None:
    for count in (1, 2, 7, 16, 17, 40) if dim > 1000 else (1, 2, 15, 16, 17, 33, 130):
        codes = _codes(kind, count, dim)
        for size in (1, 7, 8, 20, 83):
            assert (_pools(codes, size, kernel) == _pools(codes, size, 0)).all()


@each_kernel
def test_kernels_tell_how_far_the_nearest_are(kernel: int) -> None:
    codes = _codes("random", 45, 48)
    nodes = np.arange(45, dtype=np.int32)
    pools = np.full((45, 44), byte_links.EMPTY, dtype=np.uint64)
    byte_links.compare_all(codes, nodes, pools, kernel)
    for node, code in enumerate(codes.astype(np.int64)):
        distances = ((codes - code) ** 2).sum(axis=1)
        expected = sorted((distances[other], other) for other in range(45) if other != node)
        assert [divmod(int(entry), 2**32) for entry in pools[node]] == expected


@each_kernel
@pytest.mark.parametrize("kind", _CODES_OF_ALL_KINDS)
@pytest.mark.parametrize("dim", [16, 48, 128, 256, 1536, 2**15])
@pytest.mark.parametrize("pivot_count", [1, 2, 16, 17])
def test_kernels_tell_the_same_pivots(kind: str, dim: int, pivot_count: int, kernel: int) -> None:
    codes = _codes(kind, 45, dim)
    pivots = np.random.default_rng(2).permutation(45)[:pivot_count].astype(np.int32)
    nodes = np.arange(1, 45, dtype=np.int32)
    nearest = [np.full(44, -1, dtype=np.int32) for _ in range(2)]
    byte_links.nearest_pivots(codes, nodes, pivots, nearest[0], kernel)
    byte_links.nearest_pivots(codes, nodes, pivots, nearest[1], 0)
    assert (nearest[0] == nearest[1]).all()


@each_kernel
@pytest.mark.parametrize("kind", _CODES_OF_ALL_KINDS)
@pytest.mark.parametrize("dim", [16, 48, 128, 256, 1536])
@pytest.mark.parametrize("degree", [1, 8, 40])
def test_kernels_choose_the_same_links(kind: str, dim: int, degree: int, kernel: int) -> None:
    count = 150
    codes = _codes(kind, count, dim)
    begins, linking = np.zeros(count + 2, dtype=np.int64), np.empty(count * degree, dtype=np.int32)
    for size in (5, 16, 83):
        pools = _pools(codes, size, 0)
        chosen = np.empty((2, count, degree), dtype=np.int32)
        joined = np.empty((2, count, degree), dtype=np.int32)
        for place, used in enumerate((0, kernel)):
            byte_links.choose_links(codes, pools, 1.2, chosen[place], 0, count, used)
        assert (chosen[0] == chosen[1]).all()
        begins[:] = 0
        byte_links.linked_from(chosen[0], begins, linking)
        for place, used in enumerate((0, kernel)):
            byte_links.join_links(
                codes,
                chosen[0],
                begins,
                linking,
                2 * degree,
                1.2,
                joined[place],
                0,
                count,
                used,
            )
        assert (joined[0] == joined[1]).all()


@each_kernel
def test_a_graph_is_the_same_with_any_kernel(kernel: int, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = _vectors(2500, 11, 100)
    links = []
    for used in (0, kernel):
        for name in ("nearest_pivots", "compare_all", "choose_links", "join_links"):
            monkeypatch.setattr(linking, name, partial(getattr(byte_links, name), kernel=used))
        links.append(_links(_linked(vectors, threads=2)))
    assert links[0] == links[1]


@needs_linking
@pytest.mark.parametrize(("m", "ef_construct"), [(2, 100), (128, 100), (16, 1000)])
def test_what_is_cheaper_one_by_one_is_linked_so(
    m: int, ef_construct: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError(arguments)

    monkeypatch.setattr(graph_module, "link_all", refuse)
    vectors = _vectors(300, 3)
    settings = IndexSettings(m=m, ef_construct=ef_construct)
    graph = _extended(new_graph(vectors, Distance.EUCLID, settings), vectors)
    assert graph.node_count == 300


@needs_linking
def test_no_more_threads_than_allowed_link() -> None:
    vectors = _vectors(4000, 4)
    empty = new_graph(vectors, Distance.EUCLID, IndexSettings())
    running = most = 0
    lock = threading.Lock()
    original = byte_links.compare_all

    def counted(*arguments: Any) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        original(*arguments)
        with lock:
            running -= 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linking, "compare_all", counted)
        extended(empty, 4000, lambda b, e: vectors[b:e], lambda: 1, lambda: False, lambda _: None)
    assert most == 1


@needs_linking
def test_the_builder_may_stop_it_among_very_many_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies are connected one by one, which takes long where there are many."""
    connecting: list[None] = []
    original = byte_links.reach

    def noted(*arguments: Any) -> int:
        connecting.append(None)
        return original(*arguments)

    def check() -> None:
        if connecting:
            raise Abandoned

    monkeypatch.setattr(linking, "reach", noted)
    codes = np.full((4000, 16), 7, dtype=np.uint8)
    layer_begins = np.array([0, 8, *range(12, 40, 4)], dtype=np.int32)
    with pytest.raises(Abandoned):
        linking.link_all(codes, 4, 8, layer_begins, lambda: 2, check, lambda _: None)
    # It was in the midst of it: each node that is connected is followed on its way.
    assert len(connecting) < 100


@needs_linking
@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("cannot schedule new futures after interpreter shutdown", NoMoreThreads),
        ("can't start new thread", RuntimeError),
    ],
)
def test_an_end_of_python_is_told_from_a_shortage_of_threads(
    monkeypatch: pytest.MonkeyPatch, text: str, kind: type[Exception]
) -> None:
    def refuse(*arguments: Any) -> None:
        raise RuntimeError(text)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", refuse)
    codes = np.full((100, 16), 7, dtype=np.uint8)
    layer_begins = np.array([0, 8, *range(12, 40, 4)], dtype=np.int32)
    with pytest.raises(kind, match=text):
        linking.link_all(codes, 4, 8, layer_begins, lambda: 2, lambda: None, lambda _: None)
