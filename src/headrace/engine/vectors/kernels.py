"""How are stored vectors scored without copying them, on one core?

FAISS's kernels read chosen rows where they lie. They release the interpreter lock, and
unlike the matrix product of NumPy they never wait for a second core: many searches at a
time share the cores better than each of them on all (a product of 100,000 x 128 took 8 ms
instead of 2 when another thread had the core).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from headrace.engine.vectors.distances import similarities
from headrace.engine.vectors.elements import StoredMatrix, comparable
from headrace.engine.vectors.untyped_faiss import faiss, without_wrapper
from headrace.model.vectors import Distance, FloatVector, Rows

_pointer = without_wrapper("swig_ptr")
_threads_max = without_wrapper("omp_get_max_threads")
_set_threads = without_wrapper("omp_set_num_threads")
_inner_products_by_idx = without_wrapper("fvec_inner_products_by_idx")
_add_scaled = without_wrapper("fvec_madd")
_l2sqr_by_idx = without_wrapper("fvec_L2sqr_by_idx")


# Vectors of other types than float32 become so in pieces of about this many components,
# which stay in the cache.
_WIDENED_COMPONENTS = 2**18


def row_similarities_into(
    query: FloatVector, vectors: StoredMatrix, rows: Rows, distance: Distance, out: FloatVector
) -> None:
    """Similarity of a query to some rows of a matrix; larger is nearer.

    Args:
        query: shape (dim,), float32; normalised for cosine.
        vectors: shape (n, dim), of any stored type, C order; may be a read-only map.
        rows: shape (m,), int64, each below n.
        distance: the collection's.
        out: shape (m,), float32, contiguous; overwritten.
    """
    if vectors.dtype != np.float32:
        for piece in _pieces(len(rows), vectors.shape[1]):
            widened = comparable(vectors[rows[piece]], distance)
            out[piece] = all_similarities(query, widened, distance)
        return
    if distance is Distance.MANHATTAN:
        out[:] = similarities(query, vectors[rows], distance)
        return
    is_product = distance is not Distance.EUCLID
    kernel = _inner_products_by_idx if is_product else _l2sqr_by_idx
    query, rows = np.ascontiguousarray(query), np.ascontiguousarray(rows, dtype=np.int64)
    # These kernels start a team of threads even for one query, so the team has to be one.
    # The setting is the calling thread's own; whoever uses FAISS beside us keeps his.
    threads = _threads_max()
    if threads != 1:
        _set_threads(1)
    try:
        kernel(
            _pointer(out),
            _pointer(query),
            _pointer(vectors),
            _pointer(rows),
            vectors.shape[1],
            1,
            len(rows),
        )
    finally:
        if threads != 1:
            _set_threads(threads)
    if not is_product:
        np.negative(out, out=out)


def all_similarities(query: FloatVector, vectors: StoredMatrix, distance: Distance) -> FloatVector:
    """Similarity of a query to every row of a matrix, shape (n,); see above."""
    if vectors.dtype != np.float32:
        scored = [
            all_similarities(query, comparable(vectors[piece], distance), distance)
            for piece in _pieces(len(vectors), vectors.shape[1])
        ]
        return np.concatenate([np.empty(0, dtype=np.float32), *scored])
    if distance is Distance.MANHATTAN:
        return similarities(query, vectors, distance)
    is_product = distance is not Distance.EUCLID
    kernel = faiss.fvec_inner_products_ny if is_product else faiss.fvec_L2sqr_ny
    out = np.empty(len(vectors), dtype=np.float32)
    query = np.ascontiguousarray(query)
    kernel(
        faiss.swig_ptr(out),
        faiss.swig_ptr(query),
        faiss.swig_ptr(vectors),
        vectors.shape[1],
        len(vectors),
    )
    return out if is_product else np.negative(out, out=out)


def add_scaled_into(values: FloatVector, factor: float, out: FloatVector) -> None:
    """Add `factor` times some values to the first of `out`, in one pass.

    Args:
        values: shape (m,), float32, contiguous.
        factor: what they are multiplied with.
        out: shape (n,), n >= m, float32, contiguous.
    """
    pointer = _pointer(out)
    _add_scaled(len(values), pointer, factor, _pointer(values), pointer)


def _pieces(rows: int, dim: int) -> Iterator[slice]:
    step = max(1, _WIDENED_COMPONENTS // dim)
    return (slice(begin, min(begin + step, rows)) for begin in range(0, rows, step))
