"""How do the vectors of a graph become the codes that `quantization_config` asks for?

Product and binary quantization are both codebooks of FAISS's product quantizer: a vector is
cut into pieces, and a piece is the number of one of its centroids.

- Product: the centroids are learned from a sample; a piece of 1, 2, 4, 8 or 16 components
  is one byte (x4 to x64).
- Binary: the centroids are the corners of a grid around the middle of each component: two
  levels a component in one bit, four in two bits; with one and a half bits two components
  share the bit that says whether they lie far out. So a code is as in Qdrant a few bits of
  each component, and a query may stay as exact as it is.

A graph is linked over more exact nodes (`graph.py`) and then given these codes, so coarse
codes cost candidates, not links.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.engine.vector_index.settings import (
    BinaryEncoding,
    Quantization,
    QuantizationKind,
    QueryEncoding,
)
from headrace.engine.vectors.untyped_faiss import faiss
from headrace.model.vectors import Distance, FloatMatrix, FloatVector

# More rounds of k-means, and more vectors, moved recall by less than a hundredth.
_LEARNING_ROUNDS = 8
_VECTORS_PER_CENTROID_MAX = 32
_CENTROIDS = 256

# Where the levels of two bits lie, in standard deviations from the middle: those that lose
# least of normally distributed components (Max, Quantizing for minimum distortion, 1960).
_INNER_LEVEL, _OUTER_LEVEL = 0.4528, 1.5104

# By encoding: components of a piece, and bits of its number.
_PIECES = {
    BinaryEncoding.ONE_BIT: (8, 8),
    BinaryEncoding.TWO_BITS: (4, 8),
    BinaryEncoding.ONE_AND_HALF_BITS: (4, 6),
}

_QUERY_LEVELS = {QueryEncoding.SCALAR4BITS: 16, QueryEncoding.SCALAR8BITS: 256}


def new_codes(sample: FloatMatrix, quantization: Quantization, distance: Distance) -> Any:
    """FAISS's index of codes without vectors, trained on a sample of shape (n, dim), n >= 1."""
    metric = faiss.METRIC_INNER_PRODUCT if distance is Distance.DOT else faiss.METRIC_L2
    match quantization.kind:
        case QuantizationKind.SCALAR:
            return _scalar(sample, quantization, metric)
        case QuantizationKind.PRODUCT:
            return _product(sample, quantization.components_per_code, metric)
        case QuantizationKind.BINARY:
            return _binary(sample, quantization.encoding, metric)


def code_dim_of(quantization: Quantization, dim: int) -> int:
    """Components of the codes: those of a vector, filled up to whole pieces."""
    components = 1
    if quantization.kind is QuantizationKind.PRODUCT:
        components = quantization.components_per_code
    elif quantization.kind is QuantizationKind.BINARY:
        components = _PIECES[quantization.encoding][0]
    return -(-dim // components) * components


def padded(vectors: FloatMatrix, code_dim: int) -> FloatMatrix:
    """The vectors, shape (n, dim) or (dim,), with zeros up to the components of the codes."""
    missing = code_dim - vectors.shape[-1]
    if not missing:
        return np.ascontiguousarray(vectors, dtype=np.float32)
    widths = [(0, 0)] * (vectors.ndim - 1) + [(0, missing)]
    filled: FloatMatrix = np.pad(vectors, widths).astype(np.float32, copy=False)
    return filled


def encoded_query(codes: Any, query: FloatVector, encoding: QueryEncoding) -> FloatVector:
    """A query, padded, as `query_encoding` wants it compared with binary codes."""
    if encoding is QueryEncoding.BINARY:
        decoded: FloatVector = codes.sa_decode(codes.sa_encode(query[np.newaxis]))[0]
        return decoded
    levels = _QUERY_LEVELS.get(encoding)
    if levels is None:
        return query
    low, high = float(query.min()), float(query.max())
    step = (high - low) / (levels - 1)
    if not step:
        return query
    levelled: FloatVector = (low + np.rint((query - low) / step) * step).astype(np.float32)
    return levelled


def _scalar(sample: FloatMatrix, quantization: Quantization, metric: int) -> Any:
    kind = faiss.ScalarQuantizer.QT_8bit
    index = faiss.IndexScalarQuantizer(sample.shape[1], kind, metric)
    set_quantile(index.sq, quantization)
    index.train(np.ascontiguousarray(sample))
    return index


def set_quantile(quantizer: Any, quantization: Quantization | None) -> None:
    """Have FAISS's scalar quantizer leave the outermost components out of its box."""
    if quantization is not None and quantization.outside_share:
        quantizer.rangestat = faiss.ScalarQuantizer.RS_quantiles
        quantizer.rangestat_arg = quantization.outside_share


def _product(sample: FloatMatrix, components: int, metric: int) -> Any:
    code_dim = -(-sample.shape[1] // components) * components
    index = faiss.IndexPQ(code_dim, code_dim // components, 8, metric)
    vectors = padded(sample, code_dim)
    if components == 1:
        # One component alone: the centroids are its quantiles, and nothing is to be learned.
        shares = (np.arange(_CENTROIDS) + 0.5) / _CENTROIDS
        return _with_centroids(index, np.quantile(vectors, shares, axis=0).T)
    learning = index.pq.cp
    learning.niter = _LEARNING_ROUNDS
    learning.min_points_per_centroid = 1
    learning.max_points_per_centroid = _VECTORS_PER_CENTROID_MAX
    if len(vectors) < _CENTROIDS:
        vectors = np.resize(vectors, (_CENTROIDS, code_dim))
    before = int(faiss.omp_get_max_threads())
    # k-means meets after each of many short steps: threads that wait for each other there
    # take far longer than one, once the processor has other work. The setting is this
    # thread's own.
    faiss.omp_set_num_threads(1)
    try:
        index.train(vectors)
    finally:
        faiss.omp_set_num_threads(before)
    return index


def _binary(sample: FloatMatrix, encoding: BinaryEncoding, metric: int) -> Any:
    components, bits = _PIECES[encoding]
    code_dim = -(-sample.shape[1] // components) * components
    vectors = padded(sample, code_dim)
    middle, spread = vectors.mean(axis=0), vectors.std(axis=0)
    index = faiss.IndexPQ(code_dim, code_dim // components, bits, metric)
    if encoding is BinaryEncoding.ONE_BIT:
        spread = np.abs(vectors - middle).mean(axis=0)
    pieces = _grid(encoding).astype(np.float32)
    shape = (code_dim // components, 1, components)
    return _with_centroids(index, middle.reshape(shape) + pieces * spread.reshape(shape))


def _grid(encoding: BinaryEncoding) -> FloatMatrix:
    """The centroids of a piece around the middle, in deviations, shape (2^bits, components)."""
    numbers = np.arange(256)
    if encoding is BinaryEncoding.ONE_BIT:
        return (numbers[:, np.newaxis] >> np.arange(8) & 1) * 2.0 - 1
    if encoding is BinaryEncoding.TWO_BITS:
        levels = np.array([-_OUTER_LEVEL, -_INNER_LEVEL, _INNER_LEVEL, _OUTER_LEVEL])
        return np.asarray(levels[numbers[:, np.newaxis] >> np.arange(0, 8, 2) & 3])
    numbers = np.arange(64)[:, np.newaxis]
    signs = (numbers >> np.arange(4) & 1) * 2.0 - 1
    is_far = np.repeat(numbers >> np.arange(4, 6) & 1, 2, axis=1)
    return np.asarray(signs * np.where(is_far, _OUTER_LEVEL, _INNER_LEVEL))


def _with_centroids(index: Any, centroids: FloatMatrix) -> Any:
    """The index with these centroids, shape (pieces, 2^bits, components)."""
    values = np.ascontiguousarray(centroids, dtype=np.float32).ravel()
    faiss.copy_array_to_vector(values, index.pq.centroids)
    index.is_trained = True
    return index
