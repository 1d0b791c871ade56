"""How near is one vector to another?

Inside the engine nearness is a *similarity*: larger is always nearer. Dot and cosine
similarities are the dot product (cosine vectors are stored normalised); Euclid is the
negative squared distance, Manhattan the negative sum of differences. Answers show a
*score*: the similarity, or the distance itself, made by `scores_from_similarities`.
These are Qdrant's definitions, in float32 as there.
"""

from __future__ import annotations

import math

import numpy as np

from headrace.model.vectors import Distance, FloatMatrix, FloatVector, Rows

_NORM_SQUARED_MIN = float(np.finfo(np.float32).eps)
_NORM_SQUARED_TOLERANCE = 1e-6

# So many values are sorted as fast as their largest are found.
_SORTED_VALUES_MAX = 256

# Differences are made in pieces of about this many floats, to stay in the cache.
_DIFFERENCE_FLOATS = 2**18


def similarities(query: FloatVector, vectors: FloatMatrix, distance: Distance) -> FloatVector:
    """Similarity of one query to each stored vector; larger is nearer.

    Args:
        query: shape (dim,), float32; normalised for cosine.
        vectors: shape (n, dim), float32, C order.
        distance: the collection's.

    Returns:
        shape (n,), float32.
    """
    if distance in (Distance.COSINE, Distance.DOT):
        return vectors @ query
    out = np.empty(len(vectors), dtype=np.float32)
    step = max(1, _DIFFERENCE_FLOATS // max(1, vectors.shape[1]))
    for begin in range(0, len(vectors), step):
        difference = vectors[begin : begin + step] - query
        if distance is Distance.EUCLID:
            np.einsum("ij,ij->i", difference, difference, out=out[begin : begin + step])
        else:
            np.abs(difference, out=difference)
            difference.sum(axis=1, out=out[begin : begin + step])
    return np.negative(out, out=out)


def scores_from_similarities(values: FloatVector, distance: Distance) -> FloatVector:
    """What answers show for these similarities."""
    if distance is Distance.EUCLID:
        return np.sqrt(np.abs(values))
    return np.abs(values) if distance is Distance.MANHATTAN else values


def normalised(vectors: FloatMatrix) -> FloatMatrix:
    """Rows scaled to length 1; rows already so, and zero rows, stay as they are.

    Qdrant's rule: leave a vector alone whose squared length is below the float32 epsilon
    or within 1e-6 of 1.

    Args:
        vectors: shape (n, dim) or (dim,), float32; not changed.
    """
    norms_squared = np.einsum("...j,...j->...", vectors, vectors)
    keep = (norms_squared < _NORM_SQUARED_MIN) | (
        np.abs(norms_squared - 1.0) <= _NORM_SQUARED_TOLERANCE
    )
    lengths = np.where(keep, np.float32(1), np.sqrt(norms_squared)).astype(np.float32)
    return (vectors / lengths[..., np.newaxis]).astype(np.float32)


def normalised_query(query: FloatVector) -> FloatVector:
    """One vector, shape (dim,), scaled to length 1 by the same rule."""
    norm_squared = float(query.dot(query))
    is_kept = norm_squared < _NORM_SQUARED_MIN or abs(norm_squared - 1) <= _NORM_SQUARED_TOLERANCE
    return query if is_kept else query / np.float32(math.sqrt(norm_squared))


def top_k(values: FloatVector, k: int) -> Rows:
    """Positions of the k largest values, largest first; ties by position."""
    negative = -values
    if len(values) <= max(k, _SORTED_VALUES_MAX):
        return negative.argsort(kind="stable")[: max(k, 0)]
    if k <= 0:
        return np.empty(0, dtype=np.int64)
    nearest = negative.argpartition(k - 1)[:k]
    nearest.sort()
    best: Rows = nearest[negative[nearest].argsort(kind="stable")]
    return best
