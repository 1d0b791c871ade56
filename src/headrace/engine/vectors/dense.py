"""How are dense vectors kept and searched?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from headrace.engine.vectors.arrays import Allocate, BlockMatrix, GrowingArray
from headrace.engine.vectors.base import Candidates
from headrace.engine.vectors.distances import normalised_query, top_k
from headrace.engine.vectors.elements import as_query, element_dtype
from headrace.engine.vectors.kernels import all_similarities, row_similarities_into
from headrace.engine.vectors.row_set import RowSet
from headrace.engine.vectors.stored import StoredArray
from headrace.model.collection_config import VectorParams
from headrace.model.errors import WrongInput, WrongVectorDimension
from headrace.model.queries import DEFAULT_SEARCH_PARAMS, SearchParams
from headrace.model.vectors import (
    DenseBatch,
    Distance,
    FloatVector,
    Mask,
    Rows,
    SparseVector,
    Vector,
    VectorBatch,
)

# Below this share of allowed rows in a block, those rows are scored alone: a chosen row
# costs about 1.3 times a row of a whole block.
_CHOSEN_SHARE = 3 / 4

# Up to so many of the best are kept in order while rows are scored.
_INSERTED_MAX = 256


class DenseVectors:
    """One vector a row, searched exactly.

    Args:
        params: size, distance and datatype.
        begin: the first row that may have a vector.
        scratch: as for `BlockMatrix`.
    """

    def __init__(
        self, params: VectorParams, begin: int = 0, scratch: Allocate | None = None
    ) -> None:
        self._distance = params.distance
        dtype = element_dtype(params.datatype)
        self._is_plain_cosine = params.distance is Distance.COSINE and dtype is np.float32
        self._vectors = BlockMatrix(params.size, begin, dtype, scratch)
        self._present: GrowingArray[np.bool_] = GrowingArray(np.bool_)

    @property
    def dim(self) -> int:
        """Components of a vector."""
        return self._vectors.dim

    def write(self, rows: Rows, batch: VectorBatch) -> None:
        """See `VectorStore.write`."""
        assert isinstance(batch, DenseBatch)
        self._write(rows, batch.values)

    def copy(self, from_rows: Rows, to_rows: Rows) -> None:
        """See `VectorStore.copy`."""
        has_vector = self._present.view(int(from_rows.max(initial=-1)) + 1)[from_rows]
        sources = from_rows[has_vector]
        # What is stored comes through float32 and back unchanged.
        values = np.empty((len(sources), self._vectors.dim), dtype=np.float32)
        for position, row in enumerate(sources.tolist()):
            values[position] = self._vectors.row(row)
        self._write(to_rows[has_vector], values)

    def read(self, rows: Rows) -> DenseBatch:
        """See `VectorStore.read`."""
        positions = np.flatnonzero(self._present.view(int(rows.max(initial=-1)) + 1)[rows])
        return DenseBatch(positions, self._vectors.gather(rows[positions]))

    def get(self, row: int) -> FloatVector | None:
        """See `VectorStore.get`."""
        if not self._present.view(row + 1)[row]:
            return None
        vector = self._vectors.row(row).view()
        vector.flags.writeable = False
        return vector

    def present(self, row_count: int) -> Mask:
        """See `VectorStore.present`."""
        return self._present.view(row_count)

    def stored_arrays(self) -> dict[str, StoredArray]:
        """See `VectorStore.stored_arrays`."""
        return {"values": StoredArray(self._vectors), "present": StoredArray(self._present)}

    def after_load(self, live: Mask, lengths: Mapping[str, int]) -> None:
        """See `VectorStore.after_load`."""

    def check_query(self, query: Vector) -> FloatVector:
        """See `VectorStore.check_query`."""
        if isinstance(query, SparseVector):
            raise WrongInput("Conversion between sparse and regular vectors failed")
        if query.ndim == 2:
            raise WrongInput("Conversion between multi and regular vectors failed")
        if len(query) != self._vectors.dim:
            raise WrongVectorDimension(self._vectors.dim, len(query))
        if self._is_plain_cosine:
            return normalised_query(query)
        return as_query(query, self._distance, self._vectors.dtype)

    def indexed_vectors_count(self, live: Mask) -> int:
        """See `VectorStore.indexed_vectors_count`: there is no index."""
        return 0

    def matrices(self) -> dict[str, BlockMatrix]:
        """See `VectorStore.matrices`."""
        return {"values": self._vectors}

    def nearest(
        self,
        query: Vector,
        allowed: Mask | RowSet,
        k: int,
        params: SearchParams = DEFAULT_SEARCH_PARAMS,
    ) -> Candidates:
        """See `VectorStore.nearest`: exactly; takes a mask too."""
        assert not isinstance(query, SparseVector)
        if not isinstance(allowed, RowSet):
            return self.nearest_from(0, query, allowed, k)
        if not allowed.is_few:
            return self.nearest_from(0, query, allowed.mask, k)
        rows = allowed.having(self.present(allowed.row_count)).rows
        return self.nearest_among(query, rows, k)

    def nearest_from(self, row_begin: int, query: Vector, allowed: Mask, k: int) -> Candidates:
        """As `nearest`, among the rows from `row_begin` on."""
        assert not isinstance(query, SparseVector)
        allowed = allowed[row_begin:] & self.present(len(allowed))[row_begin:]
        found_rows: list[Rows] = [np.empty(0, dtype=np.int64)]
        found: list[FloatVector] = [np.empty(0, dtype=np.float32)]
        for first_row, block in self._vectors.slices_between(row_begin, row_begin + len(allowed)):
            begin = first_row - row_begin
            within = np.flatnonzero(allowed[begin : begin + len(block)])
            if not len(within):
                continue
            if len(within) < len(block) * _CHOSEN_SHARE:
                scored = np.empty(len(within), dtype=np.float32)
                row_similarities_into(query, block, within, self._distance, scored)
            else:
                scored = all_similarities(query, block, self._distance)[within]
            best = top_k(scored, k)
            found_rows.append(within[best] + first_row)
            found.append(scored[best])
        all_rows, all_found = np.concatenate(found_rows), np.concatenate(found)
        best = top_k(all_found, k)
        return Candidates(all_rows[best], all_found[best])

    def nearest_among(self, query: FloatVector, rows: Rows, k: int) -> Candidates:
        """The k nearest of the given ascending rows, all of which have a vector."""
        if k <= _INSERTED_MAX and self._distance is not Distance.MANHATTAN:
            scores = self._vectors.row_scores(self._distance is not Distance.EUCLID)
            if scores is not None:
                return Candidates(*scores.nearest(np.ascontiguousarray(query), rows, k))
        scored = self.similarities(query, rows)
        best = top_k(scored, k)
        return Candidates(rows[best], scored[best])

    def similarities(self, query: Vector, rows: Rows) -> FloatVector:
        """See `VectorStore.similarities`."""
        assert not isinstance(query, SparseVector)
        if self._distance is not Distance.MANHATTAN:
            scores = self._vectors.row_scores(self._distance is not Distance.EUCLID)
            if scores is not None:
                return scores.similarities(np.ascontiguousarray(query), rows)
        scored = np.empty(len(rows), dtype=np.float32)
        for begin, end, first_row, block in self._vectors.runs(rows):
            places = rows[begin:end]
            if first_row:
                places = places - first_row
            row_similarities_into(query, block, places, self._distance, scored[begin:end])
        return scored

    def _write(self, rows: Rows, values: FloatVector) -> None:
        if not len(rows):
            return
        self._vectors.reserve(int(rows[-1]) + 1)
        self._vectors.write(rows, values)
        self._present.reserve(int(rows[-1]) + 1)
        self._present.buffer[rows] = True
