"""How is a graph of near neighbours built and walked?

The graph is FAISS's HNSW. Over 8-bit codes compiled modules of our own link and walk it, where
they are there (`linking`, `byte_walk`). What its nodes hold depends on the distance:

- cosine and Euclid: 8-bit codes that keep Euclidean distances (`ByteCodes`); cosine
  vectors are normalised, so their order by either is the same.
- dot product: FAISS's own 8-bit codes, compared by inner product. The known reduction to
  Euclid by one more component finds 0.70 of the ten nearest where this finds 0.99
  (30,000 x 128, lengths spread log-normally by 0.5, ef 64).
- Manhattan, and data that 8 bits do not tell apart: the floats.

With `quantization_config` they hold what that says. Scalar codes are the 8-bit codes above;
for others the graph is linked over nodes as above, which are then replaced by codes, and
come again from the vectors when nodes are added.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.engine.vector_index.codes import OUTSIDE_SHARE, ByteCodes
from headrace.engine.vector_index.quantizers import encoded_query, padded, set_quantile
from headrace.engine.vector_index.settings import (
    GraphOptions,
    IndexSettings,
    QuantizationKind,
    QueryEncoding,
)
from headrace.engine.vectors.row_set import RowSet
from headrace.engine.vectors.untyped_faiss import faiss, without_wrapper
from headrace.model.vectors import Distance, FloatMatrix, FloatVector

# Where the package was built without a C compiler, FAISS links and walks all graphs.
try:
    from headrace.engine.vector_index.byte_walk import ByteWalk as ByteWalk
    from headrace.engine.vector_index.linking import link_all as link_all
    from headrace.engine.vector_index.node_scan import NodeScan as NodeScan
except ImportError:
    ByteWalk = NodeScan = link_all = None  # type: ignore[assignment, misc]

# Nodes are added in steps of this many: a step lasts well under a second, and between
# steps the builder reports how far it is and may be told to stop.
_NODES_PER_STEP = 2048

# Codes are made of about so many bytes of vectors at a time: what is worked out on the way
# stays in the caches, and in memory that the process has already.
_ENCODED_BYTES = 2**18

# FAISS keeps fewer of the links it considers than Qdrant does: on text embeddings
# (100,000 x 256, ef 100) it needs 1.5 times the width to reach the recall of Qdrant's graph.
_EF_CONSTRUCT_FACTOR = 1.5

# Where nodes are linked all at once, so many of the nearest of each are considered for each
# candidate that was asked for: then a walk of the same width finds as much.
_CANDIDATES_FACTOR = 0.8

# Linking all nodes at once takes about a fifth of the time of adding them one by one; with
# more candidates or links than these it no longer does, and with very few links there is no
# room for those that connect what lies apart.
_LINKED_AT_ONCE_SHARE = 0.2
_LINKED_AT_ONCE_M = range(4, 65)
_LINKED_AT_ONCE_EF_CONSTRUCT_MAX = 256

# FAISS adds up squared differences of codes, each below 2^16, as int32.
_CODED_DIM_MAX = 2**15


_pointer = without_wrapper("swig_ptr")
_search = without_wrapper("IndexHNSW_search")
_set_width = without_wrapper("SearchParametersHNSW_efSearch_set")
_set_bitmap = without_wrapper("IDSelectorBitmap_bitmap_set")
_set_bitmap_length = without_wrapper("IDSelectorBitmap_n_set")


class NodeKind(StrEnum):
    """What the nodes of a graph hold."""

    EUCLID_CODES = "euclid_codes"
    DOT_CODES = "dot_codes"
    FLOATS = "floats"
    QUANTISED = "quantised"


class Abandoned(Exception):
    """The builder was told to stop; nothing was changed."""


class Graph:
    """A finished graph over nodes 0..node_count - 1; immutable, any number of threads search it.

    Args:
        index: FAISS's, holding all nodes.
        kind: what its nodes hold.
        codes: the box of the codes; also kept for DOT_CODES, to know what lies outside.
        options: what it was made with.
        keep_alive: whatever owns the memory that `index` only looks at.
        storage: FAISS's index of the nodes, if `index` does not own it.
    """

    def __init__(
        self,
        index: Any,
        kind: NodeKind,
        codes: ByteCodes,
        options: GraphOptions,
        keep_alive: object = None,
        storage: Any = None,
    ) -> None:
        self.index = index
        self.kind = kind
        self.codes = codes
        self.options = options
        self._keep_alive = keep_alive
        self._storage = storage
        # Whether a query that the codes cannot express is asked all the same.
        self._is_forced = options.quantization is not None

    @property
    def node_count(self) -> int:
        """How many nodes there are."""
        return int(self.index.ntotal)

    @property
    def is_coded(self) -> bool:
        """Whether distances in the graph are approximate."""
        return self.kind is not NodeKind.FLOATS

    @property
    def is_mapped(self) -> bool:
        """Whether it lies in a mapped file."""
        return self._keep_alive is not None

    @property
    def storage(self) -> Any:
        """FAISS's index of what the nodes hold."""
        return faiss.downcast_index(self.index.storage)

    def decoded(self, nodes: NDArray[np.int64]) -> FloatMatrix:
        """The vectors, shape (n, dim), that the nodes' codes stand for."""
        if not len(nodes):
            return np.empty((0, len(self.codes.middle)), dtype=np.float32)
        values: FloatMatrix = self.storage.reconstruct_batch(nodes)
        if self.kind is NodeKind.EUCLID_CODES:
            return self.codes.decode(values)
        return np.ascontiguousarray(values[:, : len(self.codes.middle)])

    def node_values(self, vectors: FloatMatrix) -> FloatMatrix:
        """What FAISS is given for vectors that become nodes."""
        if self.kind is NodeKind.EUCLID_CODES:
            vectors = self.codes.encode(vectors)
        return np.ascontiguousarray(vectors, dtype=np.float32)

    def copied_storage(self) -> Any:
        """A copy of FAISS's index of what the nodes hold, that may be added to."""
        source = self.copied_index() if self.is_mapped else self.index
        return faiss.clone_index(faiss.downcast_index(source.storage))

    def copied_index(self) -> Any:
        """A copy of FAISS's index that may be added to."""
        if self._keep_alive is None and self.kind is not NodeKind.QUANTISED:
            return faiss.clone_index(self.index)
        # What only looks at a map cannot grow, nor can its clone; read a copy of the bytes.
        return faiss.deserialize_index(faiss.serialize_index(self.index))

    def misplaces(self, vectors: FloatMatrix) -> NDArray[np.bool_]:
        """shape (n,): which vectors, stored or asked for, the nodes' codes cannot express."""
        if self.kind in (NodeKind.FLOATS, NodeKind.QUANTISED) or self.options.quantization:
            return np.zeros(len(vectors), dtype=np.bool_)
        return self.codes.outside(vectors)

    def search(
        self,
        query: FloatVector,
        k: int,
        ef: int,
        allowed: RowSet | None,
        query_encoding: QueryEncoding = QueryEncoding.DEFAULT,
    ) -> NDArray[np.int64]:
        """The nodes that are nearest by what the graph holds, nearest first; mostly k at most.

        There may be up to `ef` if codes cannot tell the nearest apart, and there are none if
        they cannot express the query: the walk would go the wrong way. Releases the interpreter
        lock and uses the calling thread alone.

        Args:
            query: shape (dim,), float32.
            k: how many are wanted.
            ef: the width of the walk; at least k is used.
            allowed: nodes that may be returned, counted up to node_count or less; None = all.
            query_encoding: how a query is compared with quantised nodes.
        """
        walk = self._byte_walk
        if walk is not None:
            mask = None if allowed is None else allowed.packed
            return walk.nearest(query, k, ef, mask, self._is_forced)
        asked: FloatVector | None = query
        if self.kind is NodeKind.EUCLID_CODES:
            asked = self.codes.encode_query(query, self._is_forced)
            if asked is None:
                return np.empty(0, dtype=np.int64)
        elif self.kind is NodeKind.QUANTISED:
            asked = padded(query, self.index.d)
            if query_encoding is not QueryEncoding.DEFAULT:
                asked = encoded_query(self.storage, asked, query_encoding)
        asked = np.ascontiguousarray(asked, dtype=np.float32)
        distances = np.empty(k, dtype=np.float32)
        found = np.empty(k, dtype=np.int64)
        if allowed is None:
            parameters = _walk_parameters(max(ef, k))
        else:
            parameters = _masked_walk.over(allowed.packed, max(ef, k))
        _search(self.index, 1, _pointer(asked), k, _pointer(distances), _pointer(found), parameters)
        # What is missing stands behind what was found, as -1.
        return found if found[-1] >= 0 else found[found >= 0]

    def nearest_of(
        self, query: FloatVector, k: int, nodes: RowSet, surely: int = 0
    ) -> NDArray[np.int64] | None:
        """Which of some nodes are nearest by their codes; k at most.

        Args:
            query: shape (dim,), float32.
            k: how many are wanted.
            nodes: of them, counted up to node_count.
            surely: if not 0, so many of the nearest are nearly always found, and others as
                they come: sketches, which the first such call makes, rule out the rest.

        Returns:
            shape (n,), int64, nearest first; None if the graph has no codes that are compared
            faster than vectors, or they cannot express the query or tell the nearest apart.
        """
        scan = self.node_scan
        if scan is None:
            return None
        if nodes.is_listed:
            return scan.nearest_of(query, k, nodes.rows, None, self._is_forced, surely)
        return scan.nearest_of(query, k, None, nodes.packed, self._is_forced, surely)

    @cached_property
    def node_scan(self) -> NodeScan | None:
        """What compares the codes of nodes one by one; it looks at FAISS's memory.

        None where that is not faster than comparing vectors.
        """
        if self.kind is not NodeKind.EUCLID_CODES or NodeScan is None or not self.node_count:
            return None
        return NodeScan(
            self._codes_in_memory,
            self.codes.code_dim,
            self.codes.offset,
            float(self.codes.steps_per_unit),
            OUTSIDE_SHARE,
        )

    @property
    def _codes_in_memory(self) -> NDArray[np.uint8]:
        """shape (node_count * code_dim,): FAISS's own memory."""
        code_bytes = self.node_count * self.codes.code_dim
        codes: NDArray[np.uint8] = faiss.rev_swig_ptr(self.storage.codes.data(), code_bytes)
        return codes

    @cached_property
    def _byte_walk(self) -> ByteWalk | None:
        """What walks the graph in the place of FAISS; it looks at FAISS's memory."""
        if self.kind is not NodeKind.EUCLID_CODES or ByteWalk is None or not self.node_count:
            return None
        hnsw, codes = self.index.hnsw, self.codes
        begins = faiss.rev_swig_ptr(hnsw.offsets.data(), self.node_count + 1)
        return ByteWalk(
            self._codes_in_memory,
            codes.code_dim,
            faiss.rev_swig_ptr(hnsw.neighbors.data(), int(begins[-1])),
            begins,
            faiss.vector_to_array(hnsw.cum_nneighbor_per_level),
            hnsw.entry_point,
            hnsw.max_level,
            codes.offset,
            float(codes.steps_per_unit),
            OUTSIDE_SHARE,
        )


def new_graph(sample: FloatMatrix, distance: Distance, settings: IndexSettings) -> Graph:
    """A graph without nodes.

    Args:
        sample: shape (n, dim), n >= 1: what the nodes will be like.
        distance: the collection's.
        settings: `m`, `ef_construct` and `quantization`; of the latter only scalar codes
            are made while linking, see `with_codes`.
    """
    quantization = settings.quantization
    is_scalar = quantization is not None and not is_replaced(sample.shape[1], distance, settings)
    codes = ByteCodes.fit(sample, quantization.outside_share if quantization and is_scalar else 0.0)
    if is_scalar:
        kind = NodeKind.DOT_CODES if distance is Distance.DOT else NodeKind.EUCLID_CODES
    else:
        kind = _node_kind(sample, distance, codes)
    dim = sample.shape[1]
    match kind:
        case NodeKind.EUCLID_CODES:
            byte_per_component = faiss.ScalarQuantizer.QT_8bit_direct
            index = faiss.IndexHNSWSQ(codes.code_dim, byte_per_component, settings.m)
        case NodeKind.DOT_CODES:
            trained_steps = faiss.ScalarQuantizer.QT_8bit
            index = faiss.IndexHNSWSQ(dim, trained_steps, settings.m, faiss.METRIC_INNER_PRODUCT)
            set_quantile(
                faiss.downcast_index(index.storage).sq, quantization if is_scalar else None
            )
            index.train(np.ascontiguousarray(sample))
        case _:
            index = faiss.IndexHNSWFlat(dim, settings.m, _METRICS[distance])
    index.hnsw.efConstruction = round(settings.ef_construct * _EF_CONSTRUCT_FACTOR)
    return Graph(index, kind, codes, settings.graph_options)


def options_of(index: Any) -> GraphOptions:
    """What FAISS's index says of how it was made, which is all but quantization."""
    ef_construct = round(index.hnsw.efConstruction / _EF_CONSTRUCT_FACTOR)
    return GraphOptions(int(index.hnsw.nb_neighbors(1)), ef_construct)


def is_replaced(dim: int, distance: Distance, settings: IndexSettings) -> bool:
    """Whether the nodes that a graph is linked over give way to codes in the end."""
    quantization = settings.quantization
    if quantization is None:
        return False
    is_scalar = quantization.kind is QuantizationKind.SCALAR
    return not is_scalar or distance is Distance.MANHATTAN or dim > _CODED_DIM_MAX


def with_codes(linked: Graph, storage: Any) -> Graph:
    """A graph with the links of another one, over the codes of its nodes.

    Args:
        linked: the graph.
        storage: FAISS's index of codes, of as many vectors as the graph has nodes.
    """
    index = faiss.IndexHNSW(storage, linked.options.m)
    index.hnsw = linked.index.hnsw
    index.ntotal = storage.ntotal
    index.is_trained = True
    return Graph(index, NodeKind.QUANTISED, linked.codes, linked.options, storage=storage)


def resumed(empty: Graph, base: Graph, vectors_of: Callable[[int, int], FloatMatrix]) -> Graph:
    """The graph of `base` over exact nodes again, so that nodes can be added.

    Args:
        empty: a new graph; it becomes the result.
        base: a graph whose nodes were replaced by codes.
        vectors_of: gives the vectors of its nodes begin..end - 1.
    """
    storage = empty.storage
    for begin in range(0, base.node_count, _NODES_PER_STEP):
        values = vectors_of(begin, min(begin + _NODES_PER_STEP, base.node_count))
        storage.add(empty.node_values(values))
    # Of a copy that owns its memory, so that the links can grow.
    source = base.copied_index() if base.is_mapped else base.index
    empty.index.hnsw = source.hnsw
    empty.index.ntotal = base.node_count
    return empty


def extended(
    base: Graph,
    node_count: int,
    vectors_of: Callable[[int, int], FloatMatrix],
    threads: Callable[[], int],
    is_stopped: Callable[[], bool],
    report: Callable[[int], None],
) -> Graph:
    """A new graph with the nodes of `base` and more; `base` is not changed.

    Args:
        base: finished or without nodes.
        node_count: how many are added.
        vectors_of: gives the vectors of added nodes begin..end - 1.
        threads: how many link nodes at a time; asked before each step.
        is_stopped: asked before each step; once it says so, the call ends.
        report: is told how many have been added.

    Raises:
        Abandoned: `is_stopped` said so.
    """
    if _is_linked_at_once(base) and node_count > _LINKED_AT_ONCE_SHARE * base.node_count:
        return _linked_at_once(base, node_count, vectors_of, threads, is_stopped, report)
    index = base.copied_index()
    before = int(faiss.omp_get_max_threads())
    try:
        for begin in range(0, node_count, _NODES_PER_STEP):
            if is_stopped():
                raise Abandoned
            end = min(begin + _NODES_PER_STEP, node_count)
            # This setting belongs to the calling thread: searches in other threads keep theirs.
            faiss.omp_set_num_threads(threads())
            index.add(base.node_values(vectors_of(begin, end)))
            report(end)
    finally:
        faiss.omp_set_num_threads(before)
    return Graph(index, base.kind, base.codes, base.options)


def _is_linked_at_once(base: Graph) -> bool:
    """Whether a graph like this may be linked at once, if there is enough to link."""
    options = base.options
    return (
        base.kind is NodeKind.EUCLID_CODES
        and options.m in _LINKED_AT_ONCE_M
        and options.ef_construct <= _LINKED_AT_ONCE_EF_CONSTRUCT_MAX
        and link_all is not None
    )


def _linked_at_once(
    base: Graph,
    node_count: int,
    vectors_of: Callable[[int, int], FloatMatrix],
    threads: Callable[[], int],
    is_stopped: Callable[[], bool],
    report: Callable[[int], None],
) -> Graph:
    """As `extended`, but the nodes of `base` are linked anew."""

    def check() -> None:
        if is_stopped():
            raise Abandoned

    old_count, m = base.node_count, base.options.m
    count, dim = old_count + node_count, base.codes.code_dim
    index = faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_8bit_direct, m)
    index.hnsw.efConstruction = base.index.hnsw.efConstruction
    storage = faiss.downcast_index(index.storage)
    # FAISS owns the memory, and it is filled where it lies.
    storage.codes.resize(count * dim)
    codes = faiss.rev_swig_ptr(storage.codes.data(), count * dim).reshape(count, dim)
    if old_count:
        old_bytes = old_count * dim
        codes[:old_count] = faiss.rev_swig_ptr(base.storage.codes.data(), old_bytes).reshape(
            -1, dim
        )
    step = max(1, _ENCODED_BYTES // (4 * dim))
    for begin in range(0, node_count, step):
        check()
        end = min(begin + step, node_count)
        codes[old_count + begin : old_count + end] = base.codes.encode(vectors_of(begin, end))
    hnsw = index.hnsw
    layers = link_all(
        codes,
        m,
        math.ceil(base.options.ef_construct * _CANDIDATES_FACTOR),
        faiss.vector_to_array(hnsw.cum_nneighbor_per_level),
        threads,
        check,
        lambda done: report(int(done * node_count)),
    )
    faiss.copy_array_to_vector(layers.layers, hnsw.levels)
    faiss.copy_array_to_vector(layers.begins, hnsw.offsets)
    faiss.copy_array_to_vector(layers.links, hnsw.neighbors)
    hnsw.entry_point, hnsw.max_level = layers.entry, int(layers.layers.max()) - 1
    storage.ntotal = index.ntotal = count
    return Graph(index, base.kind, base.codes, base.options)


class _MaskedWalk(threading.local):
    """How walks with a mask are done: for each thread the same objects of FAISS's.

    Making them anew takes as long as scoring a hundred rows.
    """

    def __init__(self) -> None:
        self._bits: NDArray[np.uint8] = np.zeros(1, dtype=np.uint8)
        self._selector = faiss.IDSelectorBitmap(1, _pointer(self._bits))
        self._parameters = faiss.SearchParametersHNSW(sel=self._selector)

    def over(self, bits: NDArray[np.uint8], ef: int) -> Any:
        """The parameters of the thread's next walk.

        Args:
            bits: the mask, the lowest bit of a byte first.
            ef: the width.
        """
        self._bits = bits
        _set_bitmap_length(self._selector, len(bits))
        _set_bitmap(self._selector, _pointer(bits))
        _set_width(self._parameters, ef)
        return self._parameters


_masked_walk = _MaskedWalk()


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
