"""How is a part of a vector batch taken, whatever its kind?"""

from __future__ import annotations

import numpy as np

from headrace.model.vectors import DenseBatch, MultiBatch, Rows, SparseBatch, VectorBatch


def batch_part(batch: VectorBatch, begin: int, end: int) -> VectorBatch:
    """The vectors of the points `begin` to `end`, whose positions then count from 0.

    The arrays are views of the batch's, except positions and bounds.
    """
    low, high = np.searchsorted(batch.positions, (begin, end)).tolist()
    positions = batch.positions[low:high] - begin
    if isinstance(batch, DenseBatch):
        return DenseBatch(positions, batch.values[low:high])
    bounds = batch.bounds[low : high + 1] - batch.bounds[low]
    first, last = int(batch.bounds[low]), int(batch.bounds[high])
    if isinstance(batch, MultiBatch):
        return MultiBatch(positions, bounds, batch.values[first:last])
    return SparseBatch(positions, bounds, batch.indices[first:last], batch.values[first:last])


def batch_entries(batch: VectorBatch, entries: Rows, positions: Rows) -> VectorBatch:
    """Some vectors of a batch, in another order and for other points.

    Args:
        batch: left as it is.
        entries: shape (n,), int64: which vectors, by their place in the batch.
        positions: shape (n,), int64, ascending: whose they are then.
    """
    if isinstance(batch, DenseBatch):
        return DenseBatch(positions, batch.values[entries])
    counts = np.diff(batch.bounds)[entries]
    bounds = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(counts)))
    elements = np.repeat(batch.bounds[:-1][entries] - bounds[:-1], counts) + np.arange(bounds[-1])
    if isinstance(batch, MultiBatch):
        return MultiBatch(positions, bounds, batch.values[elements])
    return SparseBatch(positions, bounds, batch.indices[elements], batch.values[elements])
