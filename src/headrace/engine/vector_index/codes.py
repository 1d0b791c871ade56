"""How do float vectors become bytes that a graph can compare quickly?

A graph only has to bring the right rows among its candidates, which are then scored from
the original vectors; for that 8 bits a component are enough on most data, and a quarter
of the memory traffic. Where they are not enough, `good_enough` says so and the graph
keeps the floats.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headrace.engine.vectors.kernels import all_similarities
from headrace.model.vectors import Distance, FloatMatrix, FloatVector

CODE_MAX = 255

# NumPy takes a number of the arrays' own type faster than one of Python's.
_CODE_LEAST, _CODE_MOST = np.float32(0), np.float32(CODE_MAX)
_CODE_MIDDLE = np.float32(CODE_MAX / 2)

# FAISS compares whole groups of 16 codes as integers; other lengths are filled with zeros.
_GROUP = 16

# A vector this much outside the box (squared, relative to its distance from the middle)
# is not where its code says it is.
OUTSIDE_SHARE = 0.05

_SAMPLE_VECTORS = 4096
_SAMPLE_QUERIES = 64
_SAMPLE_NEAREST = 10
_SAMPLE_CANDIDATES = 20
_SAMPLE_RECALL_MIN = 0.98
# Squared distances that differ by less, of themselves, are the same up to rounding.
_ROUNDING = 1e-5


class ByteCodes:
    """A box around the vectors, in 255 equal steps along each component.

    All components have the same step, so squared Euclidean distances between codes are
    those between vectors, times a constant, up to rounding.

    Args:
        middle: shape (dim,), float32: the centre of the box.
        step: the width of one step.

    Attributes:
        offset: shape (dim,), float32; the codes of a vector are it times `steps_per_unit`,
            and this added, as whole numbers.
    """

    def __init__(self, middle: FloatVector, step: float) -> None:
        self.middle = middle
        self.step = step
        self.code_dim = -(-len(middle) // _GROUP) * _GROUP
        self.steps_per_unit = np.float32(1 / step)
        self.offset = _CODE_MIDDLE - middle * self.steps_per_unit

    @classmethod
    def fit(cls, vectors: FloatMatrix, outside_share: float = 0.0) -> ByteCodes:
        """The box of a sample, shape (n, dim), without that share of it on each side."""
        if outside_share:
            low, high = np.quantile(vectors, (outside_share, 1 - outside_share), axis=0)
        else:
            low, high = vectors.min(axis=0), vectors.max(axis=0)
        width = float((high - low).max())
        middle = ((low.astype(np.float64) + high) / 2).astype(np.float32)
        return cls(middle, width / CODE_MAX if width > 0 else 1.0)

    def encode(self, vectors: FloatMatrix) -> FloatMatrix:
        """The codes of vectors, whole numbers 0..255 as floats, which is how FAISS takes them.

        Args:
            vectors: shape (n, dim).

        Returns:
            shape (n, code_dim).
        """
        codes = np.zeros((len(vectors), self.code_dim), dtype=np.float32)
        inside = codes[:, : vectors.shape[1]]
        np.rint(self._scaled(vectors), out=inside)
        np.clip(inside, 0, CODE_MAX, out=inside)
        return codes

    def decode(self, codes: FloatMatrix) -> FloatMatrix:
        """The vectors, shape (n, dim), that codes stand for."""
        scaled = codes[:, : len(self.middle)] - np.float32(CODE_MAX / 2)
        return (scaled * np.float32(self.step) + self.middle).astype(np.float32, copy=False)

    def encode_query(self, query: FloatVector, is_forced: bool = False) -> FloatVector | None:
        """The codes of one vector, shape (code_dim,); None if the box cannot hold it.

        Args:
            query: shape (dim,).
            is_forced: take what the box can hold of it.
        """
        scaled = query * self.steps_per_unit
        scaled += self.offset
        codes = np.zeros(self.code_dim, dtype=np.float32)
        inside = codes[: len(query)]
        np.maximum(scaled, _CODE_LEAST, out=inside)
        np.minimum(inside, _CODE_MOST, out=inside)
        excess = scaled - inside
        far = float(excess.dot(excess))
        if far:
            scaled -= _CODE_MIDDLE
            if not is_forced and far > OUTSIDE_SHARE * float(scaled.dot(scaled)):
                return None
        np.rint(inside, out=inside)
        return codes

    def outside(self, vectors: FloatMatrix) -> NDArray[np.bool_]:
        """shape (n,): which vectors the box cannot hold, so that their codes mislead."""
        scaled = self._scaled(vectors)
        excess = scaled - np.clip(scaled, 0, CODE_MAX)
        scaled -= CODE_MAX / 2
        far = np.einsum("ij,ij->i", excess, excess)
        far_from_middle = np.einsum("ij,ij->i", scaled, scaled)
        # What is so far away that it cannot be compared is not inside.
        return np.asarray(~(far <= OUTSIDE_SHARE * far_from_middle) | np.isinf(far))

    def good_enough(self, vectors: FloatMatrix) -> bool:
        """Whether candidates by codes hold nearly all nearest neighbours within a sample."""
        # From all parts of it: rows come in the order in which they were written.
        sample = np.ascontiguousarray(vectors[:: max(1, len(vectors) // _SAMPLE_VECTORS)])
        if len(sample) <= _SAMPLE_CANDIDATES:
            return True
        queries = slice(0, None, max(1, len(sample) // _SAMPLE_QUERIES))
        coded = self.encode(sample)
        lengths = np.einsum("ij,ij->i", coded, coded)
        by_codes = lengths - 2 * (coded[queries] @ coded.T)
        candidates = np.argpartition(by_codes, _SAMPLE_CANDIDATES - 1, axis=1)
        kept = 0
        for query, found in zip(sample[queries], candidates[:, :_SAMPLE_CANDIDATES], strict=True):
            # From differences: those of lengths and products are as wrong as what is far is far.
            distances = -all_similarities(query, sample, Distance.EUCLID)
            # Of copies, or what is as near, any will do.
            bound = np.partition(distances, _SAMPLE_NEAREST - 1)[_SAMPLE_NEAREST - 1]
            near = np.count_nonzero(distances[found] <= bound * (1 + _ROUNDING))
            kept += min(int(near), _SAMPLE_NEAREST)
        return kept >= _SAMPLE_RECALL_MIN * _SAMPLE_NEAREST * len(candidates)

    def _scaled(self, vectors: FloatMatrix) -> FloatMatrix:
        scaled = vectors - self.middle
        scaled *= self.steps_per_unit
        scaled += _CODE_MIDDLE
        return scaled
