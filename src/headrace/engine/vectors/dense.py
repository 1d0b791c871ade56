"""How are dense vectors kept and searched?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from headrace.engine.vectors.arrays import BlockMatrix, GrowingArray
from headrace.engine.vectors.base import Candidates
from headrace.engine.vectors.distances import normalised, similarities, top_k
from headrace.engine.vectors.stored import StoredArray
from headrace.model.collection_config import VectorParams
from headrace.model.errors import WrongInput, WrongVectorDimension
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

# Below this share of allowed rows in a block, those rows are gathered and scored alone:
# a gathered row costs about eight times a row of a contiguous product.
_GATHER_SHARE = 1 / 8


class DenseVectors:
    """One float32 vector a row, searched exactly.

    Args:
        params: size and distance.
    """

    def __init__(self, params: VectorParams) -> None:
        self._distance = params.distance
        self._vectors = BlockMatrix(params.size)
        self._present: GrowingArray[np.bool_] = GrowingArray(np.bool_)

    def write(self, rows: Rows, batch: VectorBatch) -> None:
        """See `VectorStore.write`."""
        assert isinstance(batch, DenseBatch)
        self._write(rows, batch.values)

    def copy(self, from_rows: Rows, to_rows: Rows) -> None:
        """See `VectorStore.copy`."""
        has_vector = self._present.view(int(from_rows.max(initial=-1)) + 1)[from_rows]
        sources = from_rows[has_vector]
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
        return normalised(query) if self._distance is Distance.COSINE else query

    def nearest(self, query: Vector, allowed: Mask, k: int) -> Candidates:
        """See `VectorStore.nearest`."""
        assert not isinstance(query, SparseVector)
        allowed = allowed & self.present(len(allowed))
        found_rows: list[Rows] = [np.empty(0, dtype=np.int64)]
        found: list[FloatVector] = [np.empty(0, dtype=np.float32)]
        for first_row, block in self._vectors.slices(len(allowed)):
            within = np.flatnonzero(allowed[first_row : first_row + len(block)])
            if not len(within):
                continue
            if len(within) < len(block) * _GATHER_SHARE:
                scored = similarities(query, block[within], self._distance)
            else:
                scored = similarities(query, block, self._distance)[within]
            best = top_k(scored, k)
            found_rows.append(within[best] + first_row)
            found.append(scored[best])
        all_rows, all_found = np.concatenate(found_rows), np.concatenate(found)
        best = top_k(all_found, k)
        return Candidates(all_rows[best], all_found[best])

    def similarities(self, query: Vector, rows: Rows) -> FloatVector:
        """See `VectorStore.similarities`."""
        assert not isinstance(query, SparseVector)
        return similarities(query, self._vectors.gather(rows), self._distance)

    def _write(self, rows: Rows, values: FloatVector) -> None:
        if not len(rows):
            return
        self._vectors.reserve(int(rows[-1]) + 1)
        self._vectors.write(rows, values)
        self._present.reserve(int(rows[-1]) + 1)
        self._present.buffer[rows] = True
