"""How are multi-vectors kept and searched?

A point owns a list of vectors; its similarity to a query list is the sum, over the query
vectors, of the best similarity to any of the point's (MaxSim).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from headrace.engine.vectors.arrays import Allocate, BlockMatrix, GrowingArray
from headrace.engine.vectors.base import Candidates
from headrace.engine.vectors.distances import normalised, similarities, top_k
from headrace.engine.vectors.elements import as_query, element_dtype, is_compared_by_angle
from headrace.engine.vectors.row_set import RowSet
from headrace.engine.vectors.stored import StoredArray
from headrace.model.collection_config import VectorParams
from headrace.model.errors import WrongInput, WrongVectorDimension
from headrace.model.queries import DEFAULT_SEARCH_PARAMS, SearchParams
from headrace.model.vectors import (
    Distance,
    FloatMatrix,
    FloatVector,
    Mask,
    MultiBatch,
    Rows,
    SparseVector,
    Vector,
    VectorBatch,
)

# Inner vectors are scored in runs of about this many components, to bound the scratch memory.
_COMPONENTS_PER_STEP = 2**22


class MultiVectors:
    """A list of vectors a row, searched exactly by MaxSim.

    The inner vectors of all rows stand one behind the other; `first` and `count` say
    which belong to a row.

    Args:
        params: size, distance and datatype of the inner vectors.
        scratch: as for `BlockMatrix`.
    """

    def __init__(self, params: VectorParams, scratch: Allocate | None = None) -> None:
        self._distance = params.distance
        dtype = element_dtype(params.datatype)
        self._inner = BlockMatrix(params.size, dtype=dtype, scratch=scratch)
        self._inner_count = 0
        self._first: GrowingArray[np.int64] = GrowingArray(np.int64)
        self._count: GrowingArray[np.int64] = GrowingArray(np.int64)

    def write(self, rows: Rows, batch: VectorBatch) -> None:
        """See `VectorStore.write`."""
        assert isinstance(batch, MultiBatch)
        if not len(rows):
            return
        begin, end = self._inner_count, self._inner_count + len(batch.values)
        self._inner.reserve(end)
        self._inner.write(np.arange(begin, end), batch.values)
        self._inner_count = end
        self._first.reserve(int(rows[-1]) + 1)
        self._count.reserve(int(rows[-1]) + 1)
        self._first.buffer[rows] = begin + batch.bounds[:-1]
        self._count.buffer[rows] = np.diff(batch.bounds)

    def copy(self, from_rows: Rows, to_rows: Rows) -> None:
        """See `VectorStore.copy`: the inner vectors are shared, they never change."""
        if not len(to_rows):
            return
        last = int(max(from_rows.max(), to_rows[-1]))
        self._first.reserve(last + 1)
        self._count.reserve(last + 1)
        self._first.buffer[to_rows] = self._first.buffer[from_rows]
        self._count.buffer[to_rows] = self._count.buffer[from_rows]

    def read(self, rows: Rows) -> MultiBatch:
        """See `VectorStore.read`."""
        end = int(rows.max(initial=-1)) + 1
        positions = np.flatnonzero(self._count.view(end)[rows])
        counts = self._count.view(end)[rows[positions]]
        bounds = np.concatenate(([0], np.cumsum(counts)))
        inner = np.repeat(self._first.view(end)[rows[positions]] - bounds[:-1], counts)
        return MultiBatch(positions, bounds, self._gather(inner + np.arange(bounds[-1])))

    def get(self, row: int) -> FloatMatrix | None:
        """See `VectorStore.get`."""
        count = int(self._count.view(row + 1)[row])
        if not count:
            return None
        first = int(self._first.view(row + 1)[row])
        return self._inner.gather(np.arange(first, first + count))

    def present(self, row_count: int) -> Mask:
        """See `VectorStore.present`."""
        return self._count.view(row_count) > 0

    def stored_arrays(self) -> dict[str, StoredArray]:
        """See `VectorStore.stored_arrays`."""
        return {
            "first": StoredArray(self._first),
            "count": StoredArray(self._count),
            "inner": StoredArray(self._inner, self._inner_count),
        }

    def after_load(self, live: Mask, lengths: Mapping[str, int]) -> None:
        """See `VectorStore.after_load`."""
        self._inner_count = lengths["inner"]

    def check_query(self, query: Vector) -> FloatMatrix:
        """See `VectorStore.check_query`; one dense vector is a list of one."""
        if isinstance(query, SparseVector):
            raise WrongInput("Conversion between sparse and multi vectors failed")
        matrix = np.atleast_2d(query)
        if matrix.shape[1] != self._inner.dim:
            raise WrongVectorDimension(self._inner.dim, matrix.shape[1])
        return as_query(matrix, self._distance, self._inner.dtype)

    def indexed_vectors_count(self, live: Mask) -> int:
        """See `VectorStore.indexed_vectors_count`: there is no index."""
        return 0

    def matrices(self) -> dict[str, BlockMatrix]:
        """See `VectorStore.matrices`."""
        return {"inner": self._inner}

    def nearest(
        self, query: Vector, allowed: RowSet, k: int, params: SearchParams = DEFAULT_SEARCH_PARAMS
    ) -> Candidates:
        """See `VectorStore.nearest`: exactly."""
        assert not isinstance(query, SparseVector)
        rows = allowed.having(self.present(allowed.row_count)).rows
        scored = self.similarities(query, rows)
        best = top_k(scored, k)
        return Candidates(rows[best], scored[best])

    def similarities(self, query: Vector, rows: Rows) -> FloatVector:
        """See `VectorStore.similarities`."""
        assert not isinstance(query, SparseVector)
        return self._in_steps(rows, partial(_max_sim, query, self._distance))

    def similarities_as_queries(self, document: FloatMatrix, rows: Rows) -> FloatVector:
        """Similarity of each row's list as a query to one list; MaxSim is not symmetric.

        Args:
            document: as `check_query` gave it.
            rows: as for `similarities`.
        """
        return self._in_steps(rows, partial(_max_sim_of_queries, document, self._distance))

    def _in_steps(
        self, rows: Rows, score: Callable[[FloatMatrix, Rows], FloatVector]
    ) -> FloatVector:
        """A score of each row from its inner vectors and where each row's begin, in steps."""
        end = int(rows.max(initial=-1)) + 1
        counts = self._count.view(end)[rows]
        firsts = self._first.view(end)[rows]
        scored = np.empty(len(rows), dtype=np.float32)
        ends = np.cumsum(counts)
        begin = 0
        while begin < len(rows):
            done = int(ends[begin] - counts[begin])
            most = done + _COMPONENTS_PER_STEP // self._inner.dim
            end = int(np.searchsorted(ends, most, side="right"))
            end = max(end, begin + 1)
            bounds = np.concatenate(([0], ends[begin:end] - done))
            inner = np.repeat(firsts[begin:end] - bounds[:-1], counts[begin:end])
            vectors = self._gather(inner + np.arange(bounds[-1]))
            if is_compared_by_angle(self._distance, self._inner.dtype):
                vectors = normalised(vectors)
            scored[begin:end] = score(vectors, bounds[:-1])
            begin = end
        return scored

    def _gather(self, inner: Rows) -> FloatMatrix:
        """The inner vectors at these places, which ascend except where rows were copied."""
        order = np.argsort(inner, kind="stable")
        values = np.empty((len(inner), self._inner.dim), dtype=np.float32)
        values[order] = self._inner.gather(inner[order])
        return values


def _max_sim(
    query: FloatMatrix, distance: Distance, vectors: FloatMatrix, begins: Rows
) -> FloatVector:
    """MaxSim of a query to each list of vectors, of which each begins where `begins` says."""
    total = np.zeros(len(begins), dtype=np.float32)
    for one in query:
        total += np.maximum.reduceat(similarities(one, vectors, distance), begins)
    return total


def _max_sim_of_queries(
    document: FloatMatrix, distance: Distance, vectors: FloatMatrix, begins: Rows
) -> FloatVector:
    """MaxSim of each list of vectors, as a query, to one list."""
    nearest = similarities(document[0], vectors, distance)
    for one in document[1:]:
        nearest = np.maximum(nearest, similarities(one, vectors, distance))
    return np.add.reduceat(nearest, begins)
