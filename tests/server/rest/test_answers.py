"""What stands in answers for scores that JSON, or float32, cannot say?"""

from __future__ import annotations

import math

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.model.points import Record, ScoredPoint
from headrace.server.rest.answers import query_answer, success

LARGEST = float(np.finfo(np.float32).max)


def shown(scores: list[float]) -> list[float]:
    """The scores as an answer has them."""
    points = [ScoredPoint(Record(place, 0), score) for place, score in enumerate(scores)]
    answer = orjson.loads(success(query_answer(points), 0.0))
    return [point["score"] for point in answer["result"]["points"]]


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (0.1, 0.1),
        (LARGEST, LARGEST),
        (-LARGEST, -LARGEST),
        (1e39, LARGEST),
        (-1e39, -LARGEST),
        (math.inf, LARGEST),
        (-math.inf, -LARGEST),
        (math.nan, -LARGEST),
    ],
)
def test_a_score_that_float32_cannot_say_is_shown_as_the_nearest_one(
    score: float, expected: float
) -> None:
    assert np.float32(shown([score])[0]) == np.float32(expected)
    assert np.float32(shown([0.5, score])[1]) == np.float32(expected)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_scores_are_shown_as_they_are(scores: list[float]) -> None:
    assert [float(np.float32(score)) for score in shown(scores)] == scores
