"""Blocks of vectors change their place while readers read them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from headrace.engine.vectors.arrays import BlockMatrix
from headrace.model.errors import NoSpace

ROWS = 200
STORED = 100
VALUES = np.arange(ROWS * 4, dtype=np.float32).reshape(ROWS, 4)
PIECES = [memoryview(VALUES[:STORED].tobytes())]


def test_readers_see_every_row_at_each_step_of_a_rebind() -> None:
    seen: list[NDArray[Any]] = []

    def scratch(rows: int, dim: int, dtype: Any) -> NDArray[Any]:
        if watched:
            seen.append(watched[0].gather(np.array([10, 150])))
            seen.append(np.concatenate([block for _, block in watched[0].slices(ROWS)]))
        return np.zeros((rows, dim), dtype)

    watched: list[BlockMatrix] = []
    matrix = BlockMatrix(4, scratch=scratch)
    matrix.reserve(ROWS)
    matrix.write(np.arange(ROWS), VALUES)
    watched.append(matrix)
    matrix.rebind(PIECES)
    assert len(seen) == 2
    assert np.array_equal(seen[0], VALUES[[10, 150]])
    assert np.array_equal(seen[1], VALUES)
    assert np.array_equal(matrix.gather(np.arange(ROWS)), VALUES)


def test_a_rebind_that_finds_no_room_leaves_everything_as_it_was() -> None:
    is_full = False

    def scratch(rows: int, dim: int, dtype: Any) -> NDArray[Any]:
        if is_full:
            raise NoSpace("making a scratch file")
        return np.zeros((rows, dim), dtype)

    matrix = BlockMatrix(4, scratch=scratch)
    matrix.reserve(ROWS)
    matrix.write(np.arange(ROWS), VALUES)
    is_full = True
    with pytest.raises(NoSpace):
        matrix.rebind(PIECES)
    assert np.array_equal(matrix.gather(np.arange(ROWS)), VALUES)
