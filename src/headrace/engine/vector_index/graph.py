"""How is a graph of near neighbours built and walked?

The graph is FAISS's HNSW. What its nodes hold depends on the distance:

- cosine and Euclid: 8-bit codes that keep Euclidean distances (`ByteCodes`); cosine
  vectors are normalised, so their order by either is the same.
- dot product: FAISS's own 8-bit codes, compared by inner product. The known reduction to
  Euclid by one more component finds 0.70 of the ten nearest where this finds 0.99
  (30,000 x 128, lengths spread log-normally by 0.5, ef 64).
- Manhattan, and data that 8 bits do not tell apart: the floats.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.engine.vector_index.codes import ByteCodes
from headrace.engine.vector_index.settings import IndexSettings
from headrace.engine.vectors.row_set import RowSet
from headrace.engine.vectors.untyped_faiss import faiss
from headrace.model.vectors import Distance, FloatMatrix, FloatVector

# Nodes are added in steps of this many: a step lasts well under a second, and between
# steps the builder reports how far it is and may be told to stop.
_NODES_PER_STEP = 2048

# FAISS keeps fewer of the links it considers than Qdrant does: on text embeddings
# (100,000 x 256, ef 100) it needs 1.5 times the width to reach the recall of Qdrant's graph.
_EF_CONSTRUCT_FACTOR = 1.5

# FAISS adds up squared differences of codes, each below 2^16, as int32.
_CODED_DIM_MAX = 2**15


_pointer = faiss.swig_ptr


class NodeKind(StrEnum):
    """What the nodes of a graph hold."""

    EUCLID_CODES = "euclid_codes"
    DOT_CODES = "dot_codes"
    FLOATS = "floats"


class Abandoned(Exception):
    """The builder was told to stop; nothing was changed."""


class Graph:
    """A finished graph over nodes 0..node_count - 1; immutable, any number of threads search it.

    Args:
        index: FAISS's, holding all nodes.
        kind: what its nodes hold.
        codes: the box of the codes; also kept for DOT_CODES, to know what lies outside.
        keep_alive: whatever owns the memory that `index` only looks at.
    """

    def __init__(
        self, index: Any, kind: NodeKind, codes: ByteCodes, keep_alive: object = None
    ) -> None:
        self.index = index
        self.kind = kind
        self.codes = codes
        self._keep_alive = keep_alive

    @property
    def node_count(self) -> int:
        """How many nodes there are."""
        return int(self.index.ntotal)

    @property
    def is_coded(self) -> bool:
        """Whether distances in the graph are approximate."""
        return self.kind is not NodeKind.FLOATS

    def copied_index(self) -> Any:
        """A copy of FAISS's index that may be added to."""
        if self._keep_alive is None:
            return faiss.clone_index(self.index)
        # What only looks at a map cannot grow, nor can its clone; read a copy of the bytes.
        return faiss.deserialize_index(faiss.serialize_index(self.index))

    def misplaces(self, vectors: FloatMatrix) -> NDArray[np.bool_]:
        """shape (n,): which vectors, stored or asked for, the nodes' codes cannot express."""
        if self.kind is NodeKind.FLOATS:
            return np.zeros(len(vectors), dtype=np.bool_)
        return self.codes.outside(vectors)

    def search(
        self, query: FloatVector, k: int, ef: int, allowed: RowSet | None
    ) -> NDArray[np.int64]:
        """The nodes that are nearest by what the graph holds, nearest first; k at most.

        There are none if the nodes' codes cannot express the query: the walk would go the
        wrong way. Releases the interpreter lock and uses the calling thread alone.

        Args:
            query: shape (dim,), float32.
            k: how many are wanted.
            ef: the width of the walk; at least k is used.
            allowed: nodes that may be returned, counted up to node_count or less; None = all.
        """
        asked: FloatVector | None = query
        if self.kind is NodeKind.EUCLID_CODES:
            asked = self.codes.encode_query(query)
            if asked is None:
                return np.empty(0, dtype=np.int64)
        asked = np.ascontiguousarray(asked, dtype=np.float32)
        distances = np.empty(k, dtype=np.float32)
        found = np.empty(k, dtype=np.int64)
        if allowed is None:
            parameters = _walk_parameters(max(ef, k))
        else:
            packed = allowed.packed
            parameters = faiss.SearchParametersHNSW()
            parameters.efSearch = max(ef, k)
            parameters.sel = faiss.IDSelectorBitmap(len(packed), _pointer(packed))
        # FAISS's method itself: its Python wrapper takes longer than scoring a hundred rows.
        self.index.search_c(1, _pointer(asked), k, _pointer(distances), _pointer(found), parameters)
        # What is missing stands behind what was found, as -1.
        return found if found[-1] >= 0 else found[found >= 0]


def new_graph(sample: FloatMatrix, distance: Distance, settings: IndexSettings) -> Graph:
    """A graph without nodes.

    Args:
        sample: shape (n, dim), n >= 1: what the nodes will be like.
        distance: the collection's.
        settings: `m` and `ef_construct`.
    """
    codes = ByteCodes.fit(sample)
    kind = _node_kind(sample, distance, codes)
    dim = sample.shape[1]
    match kind:
        case NodeKind.EUCLID_CODES:
            byte_per_component = faiss.ScalarQuantizer.QT_8bit_direct
            index = faiss.IndexHNSWSQ(codes.code_dim, byte_per_component, settings.m)
        case NodeKind.DOT_CODES:
            trained_steps = faiss.ScalarQuantizer.QT_8bit
            index = faiss.IndexHNSWSQ(dim, trained_steps, settings.m, faiss.METRIC_INNER_PRODUCT)
            index.train(np.ascontiguousarray(sample))
        case _:
            index = faiss.IndexHNSWFlat(dim, settings.m, _METRICS[distance])
    index.hnsw.efConstruction = round(settings.ef_construct * _EF_CONSTRUCT_FACTOR)
    return Graph(index, kind, codes)


def extended(
    base: Graph,
    node_count: int,
    vectors_of: Callable[[int, int], FloatMatrix],
    threads: int,
    is_stopped: Callable[[], bool],
    report: Callable[[int], None],
) -> Graph:
    """A new graph with the nodes of `base` and more; `base` is not changed.

    Args:
        base: finished or without nodes.
        node_count: how many are added.
        vectors_of: gives the vectors of added nodes begin..end - 1.
        threads: how many link nodes at a time.
        is_stopped: asked before each step; once it says so, the call ends.
        report: is told how many have been added.

    Raises:
        Abandoned: `is_stopped` said so.
    """
    index = base.copied_index()
    before = int(faiss.omp_get_max_threads())
    # This setting belongs to the calling thread: searches in other threads keep theirs.
    faiss.omp_set_num_threads(threads)
    try:
        for begin in range(0, node_count, _NODES_PER_STEP):
            if is_stopped():
                raise Abandoned
            end = min(begin + _NODES_PER_STEP, node_count)
            values = vectors_of(begin, end)
            if base.kind is NodeKind.EUCLID_CODES:
                values = base.codes.encode(values)
            index.add(np.ascontiguousarray(values, dtype=np.float32))
            report(end)
    finally:
        faiss.omp_set_num_threads(before)
    return Graph(index, base.kind, base.codes)


@lru_cache(maxsize=64)
def _walk_parameters(ef: int) -> Any:
    """How a walk without a mask is done; searches only read it."""
    parameters = faiss.SearchParametersHNSW()
    parameters.efSearch = ef
    return parameters


_METRICS = {
    Distance.COSINE: faiss.METRIC_L2,
    Distance.EUCLID: faiss.METRIC_L2,
    Distance.DOT: faiss.METRIC_INNER_PRODUCT,
    Distance.MANHATTAN: faiss.METRIC_L1,
}


def _node_kind(sample: FloatMatrix, distance: Distance, codes: ByteCodes) -> NodeKind:
    if distance is Distance.MANHATTAN or sample.shape[1] > _CODED_DIM_MAX:
        return NodeKind.FLOATS
    if not codes.good_enough(sample):
        return NodeKind.FLOATS
    return NodeKind.DOT_CODES if distance is Distance.DOT else NodeKind.EUCLID_CODES
