"""What does every kind of vector store offer?

A store keeps the vectors of one vector name, by row. One writer appends; readers score
only rows below the row count of their view.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from headrace.engine.vectors.arrays import BlockMatrix
from headrace.engine.vectors.row_set import RowSet
from headrace.engine.vectors.stored import StoredArray
from headrace.model.queries import DEFAULT_SEARCH_PARAMS, SearchParams
from headrace.model.vectors import FloatVector, Mask, Rows, Vector, VectorBatch


class Candidates(msgspec.Struct, frozen=True, eq=False, gc=False):
    """Rows and their similarities (larger is nearer), nearest first.

    Attributes:
        rows: shape (n,), int64.
        similarities: shape (n,), float32.
    """

    rows: Rows
    similarities: FloatVector


class VectorStore(Protocol):
    """The vectors of one vector name."""

    def write(self, rows: Rows, batch: VectorBatch) -> None:
        """Store the batch's vectors: vector i goes to `rows[i]`. Rows are new, ascending."""

    def copy(self, from_rows: Rows, to_rows: Rows) -> None:
        """Give each of `to_rows` (new, ascending) the vector of its `from_rows`, if any."""

    def read(self, rows: Rows) -> VectorBatch:
        """The vectors of the given ascending rows, of those that have one, as a batch.

        Returns:
            A batch whose `positions` count within `rows`.
        """

    def get(self, row: int) -> Vector | None:
        """The vector of one row, not to be changed; None if the row has none."""

    def present(self, row_count: int) -> Mask:
        """shape (row_count,): which rows have a vector of this name."""

    def nearest(
        self, query: Vector, allowed: RowSet, k: int, params: SearchParams = DEFAULT_SEARCH_PARAMS
    ) -> Candidates:
        """The k rows nearest to a query: exactly, but where there is a graph.

        Args:
            query: of the store's kind and dim; normalised for cosine.
            allowed: the rows of a view that may be returned, of those present.
            k: how many at most.
            params: for stores that have graphs: whether and how these are walked.
        """

    def similarities(self, query: Vector, rows: Rows) -> FloatVector:
        """Similarity of a query to each of the given rows, all of which have a vector.

        Args:
            query: as `check_query` gave it.
            rows: shape (n,), ascending.

        Returns:
            shape (n,), float32; larger is nearer.
        """

    def indexed_vectors_count(self, live: Mask) -> int:
        """How many vectors are in an index, of the rows that `live` allows."""

    def matrices(self) -> dict[str, BlockMatrix]:
        """The arrays of `stored_arrays` that can lie in files alone, by name."""

    def stored_arrays(self) -> dict[str, StoredArray]:
        """The arrays that a checkpoint keeps, by name."""

    def after_load(self, live: Mask, lengths: Mapping[str, int]) -> None:
        """Make the rest of the state from the arrays, once they are loaded.

        Args:
            live: shape (row_count,): the rows that hold the newest version of a point.
            lengths: of each stored array.
        """

    def check_query(self, query: Vector) -> Vector:
        """The query in the form `nearest` takes.

        Raises:
            WrongVectorDimension, WrongInput: the query does not fit this vector.
        """
