"""What a query may not hold."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.model.errors import InvalidVector
from headrace.model.query_rules import check_finite
from headrace.model.vectors import SparseVector


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_query_vector_that_is_not_finite_is_refused(bad: float) -> None:
    values = np.array([1, bad], dtype=np.float32)
    with pytest.raises(InvalidVector, match="element 1 is not finite"):
        check_finite(values)
    with pytest.raises(InvalidVector, match="element 1 is not finite"):
        check_finite(SparseVector(np.array([1, 2], np.uint32), values))
    with pytest.raises(InvalidVector, match="element 1 is not finite"):
        check_finite(values.reshape(1, 2))


@pytest.mark.parametrize("shape", [(0,), (1,), (256,), (3, 5), (65_536,)])
def test_a_query_vector_that_is_finite_passes(shape: tuple[int, ...]) -> None:
    largest = np.full(shape, np.finfo(np.float32).max, dtype=np.float32)
    assert check_finite(largest) is largest
