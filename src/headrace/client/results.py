"""What does the array face give back?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from headrace.client import arrow
from headrace.client.columns import id_array
from headrace.model.collection_config import CollectionConfig
from headrace.model.errors import InvalidVector
from headrace.model.operations import PayloadJson
from headrace.model.points import PointColumns, ScoredPoint
from headrace.model.vectors import (
    DEFAULT_VECTOR_NAME,
    DenseBatch,
    FloatMatrix,
    FloatVector,
    Rows,
    VectorBatch,
)


class Hits(msgspec.Struct, frozen=True, eq=False):
    """What one or more searches found, best first; the caller owns the arrays.

    Attributes:
        ids: shape (total,), uint64; objects (`int` and `uuid.UUID`) if one is a UUID.
        scores: shape (total,), float32.
        bounds: shape (queries + 1,), int64: query i owns `bounds[i]` to `bounds[i + 1]`.
        payloads: one JSON object as bytes per hit; None if they were not asked for.
    """

    ids: NDArray[Any]
    scores: FloatVector
    bounds: Rows
    payloads: list[PayloadJson] | None = None

    def __len__(self) -> int:
        """How many queries these answer."""
        return len(self.bounds) - 1

    def __getitem__(self, query: int) -> Hits:
        """The hits of one query; views of these arrays."""
        begin, end = int(self.bounds[:-1][query]), int(self.bounds[1:][query])
        payloads = None if self.payloads is None else self.payloads[begin:end]
        bounds = np.array([0, end - begin], dtype=np.int64)
        return Hits(self.ids[begin:end], self.scores[begin:end], bounds, payloads)

    def __iter__(self) -> Iterator[Hits]:
        return (self[query] for query in range(len(self)))

    def decoded_payloads(self) -> list[dict[str, Any]]:
        """The payloads as dictionaries; empty if they were not asked for."""
        return [orjson.loads(payload) for payload in self.payloads or ()]

    def to_arrow(self) -> Any:
        """A `pyarrow.RecordBatch` of `query`, `id`, `score` and, if asked for, `payload`.

        Raises:
            MissingExtra: pyarrow is not installed.
        """
        pa = arrow.load_pyarrow()
        ids = self.ids.tolist()
        id_type = pa.uint64() if self.ids.dtype == np.uint64 else pa.string()
        columns = {
            "query": pa.array(np.repeat(np.arange(len(self)), np.diff(self.bounds))),
            "id": arrow.ids_column(ids, id_type),
            "score": pa.array(self.scores),
        }
        if self.payloads is not None:
            columns["payload"] = arrow.payload_column(self.payloads, pa.string())
        return pa.record_batch(columns)


class Points(msgspec.Struct, frozen=True, eq=False):
    """Stored points as arrays, which the caller owns and `upsert` takes.

    Attributes:
        ids: shape (n,), uint64; objects (`int` and `uuid.UUID`) if one is a UUID.
        vectors: by name; a batch's `positions` say which of the points have the vector.
        payloads: one JSON object as bytes per point; None if they were not asked for.
    """

    ids: NDArray[Any]
    vectors: dict[str, VectorBatch]
    payloads: list[PayloadJson] | None
    _config: CollectionConfig

    def __len__(self) -> int:
        return len(self.ids)

    def dense(self, name: str = DEFAULT_VECTOR_NAME) -> FloatMatrix:
        """The dense vectors of one name, shape (n, dim), float32; NaN where there is none.

        Raises:
            InvalidVector: they are not dense, or were not asked for.
        """
        batch = self.vectors.get(name)
        if not isinstance(batch, DenseBatch):
            raise InvalidVector("No dense vectors were read", name)
        if len(batch.positions) == len(self.ids):
            return batch.values
        values = np.full((len(self.ids), batch.values.shape[1]), np.nan, dtype=np.float32)
        values[batch.positions] = batch.values
        return values

    def decoded_payloads(self) -> list[dict[str, Any]]:
        """The payloads as dictionaries; empty if they were not asked for."""
        return [orjson.loads(payload) for payload in self.payloads or ()]

    def to_arrow(self) -> Any:
        """A `pyarrow.RecordBatch`; its columns are those of `ArrayCollection.to_arrow`.

        Raises:
            MissingExtra: pyarrow is not installed.
        """
        payload_type = None if self.payloads is None else arrow.payload_type(None)
        schema = arrow.points_schema(
            self._config, list(self.vectors), self.ids.dtype != np.uint64, payload_type
        )
        columns = PointColumns(self.ids.tolist(), self.vectors, self.payloads)
        return arrow.points_batch(columns, schema)


def hits_of(found: list[list[ScoredPoint]], with_payload: bool) -> Hits:
    """The results of queries as arrays."""
    flat = [point for points in found for point in points]
    counts = [len(points) for points in found]
    return Hits(
        ids=id_array([point.record.id for point in flat]),
        scores=np.fromiter((point.score for point in flat), np.float32, len(flat)),
        bounds=np.cumsum([0, *counts], dtype=np.int64),
        payloads=[point.record.payload or b"{}" for point in flat] if with_payload else None,
    )
