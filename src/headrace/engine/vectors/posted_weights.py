"""In which type are the weights in the postings of a sparse vector stored?

What a point's vector is stays as it came; the postings, which are what a search adds up,
may hold their weights shorter: as float16, or as one byte between the least and the
largest weight of the vector that the weight belongs to.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.engine.vectors.arrays import GrowingArray
from headrace.engine.vectors.elements import as_floats
from headrace.model.collection_config import Datatype
from headrace.model.vectors import FloatVector, Rows

_CODE_MAX = 255


class PostedWeights(Protocol):
    """How weights are encoded, and what the codes of each row mean."""

    @property
    def dtype(self) -> type[np.generic]:
        """Of the codes."""

    def encoded(self, rows: Rows, weights: FloatVector) -> NDArray[Any]:
        """The codes of weights, all of each row and side by side.

        Args:
            rows: shape (n,): the row that each weight belongs to.
            weights: shape (n,).
        """

    def decoded(self, rows: Rows, codes: NDArray[Any]) -> FloatVector:
        """What codes of rows stand for."""

    def rounded(self, rows: Rows, weights: FloatVector) -> FloatVector:
        """What encoding makes of weights of rows that were encoded before."""


class _Floats:
    dtype = np.float32

    def encoded(self, rows: Rows, weights: FloatVector) -> NDArray[Any]:
        return weights

    def decoded(self, rows: Rows, codes: NDArray[Any]) -> FloatVector:
        return codes

    def rounded(self, rows: Rows, weights: FloatVector) -> FloatVector:
        return weights


class _HalfFloats:
    """Weights beyond float16 are stored as its largest number."""

    dtype = np.float16

    def encoded(self, rows: Rows, weights: FloatVector) -> NDArray[Any]:
        largest = np.finfo(np.float16).max
        return np.clip(weights, -largest, largest).astype(np.float16)

    def decoded(self, rows: Rows, codes: NDArray[Any]) -> FloatVector:
        return as_floats(codes)

    def rounded(self, rows: Rows, weights: FloatVector) -> FloatVector:
        return as_floats(self.encoded(rows, weights))


class _Bytes:
    dtype = np.uint8

    def __init__(self) -> None:
        self._low: GrowingArray[np.float32] = GrowingArray(np.float32)
        self._step: GrowingArray[np.float32] = GrowingArray(np.float32)

    def encoded(self, rows: Rows, weights: FloatVector) -> NDArray[Any]:
        if not len(rows):
            return np.empty(0, dtype=np.uint8)
        starts = np.concatenate(([0], np.flatnonzero(np.diff(rows)) + 1))
        low, high = np.minimum.reduceat(weights, starts), np.maximum.reduceat(weights, starts)
        for array in (self._low, self._step):
            array.reserve(int(rows.max()) + 1)
        self._low.buffer[rows[starts]] = low
        self._step.buffer[rows[starts]] = (high.astype(np.float64) - low) / _CODE_MAX
        return self._codes(rows, weights)

    def decoded(self, rows: Rows, codes: NDArray[Any]) -> FloatVector:
        decoded: FloatVector = codes * self._step.buffer[rows]
        decoded += self._low.buffer[rows]
        return decoded

    def rounded(self, rows: Rows, weights: FloatVector) -> FloatVector:
        return self.decoded(rows, self._codes(rows, weights))

    def _codes(self, rows: Rows, weights: FloatVector) -> NDArray[np.uint8]:
        step = self._step.buffer[rows]
        places = (weights - self._low.buffer[rows]) / np.where(step > 0, step, np.float32(1))
        return np.clip(np.rint(places), 0, _CODE_MAX).astype(np.uint8)


POSTED_WEIGHTS: dict[Datatype, type[PostedWeights]] = {
    Datatype.FLOAT32: _Floats,
    Datatype.FLOAT16: _HalfFloats,
    Datatype.UINT8: _Bytes,
}
