"""The payload index and the evaluator give the same answers to random filters.

The same filters are asked of several views of a segment with a history: rows in several
runs, payloads replaced after they were taken in, points deleted, batches taken back.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.engine.query.mask import passing_set
from headrace.engine.query.points import evaluate_rows
from headrace.engine.segment.segment import View
from headrace.model.filters import Filter
from tests.engine.query.histories import SCHEMAS, History
from tests.engine.query.random_filters import filters

bounded = settings(
    max_examples=60,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def passing_by_payload(filter: Filter, view: View) -> list[int]:
    live: list[int] = np.flatnonzero(view.live).tolist()
    passes = evaluate_rows(filter, view, np.flatnonzero(view.live)).tolist()
    return [row for row, passing in zip(live, passes, strict=True) if passing]


@pytest.fixture(scope="module", params=SCHEMAS.values(), ids=list(SCHEMAS))
def history(request: pytest.FixtureRequest) -> History:
    return History(request.param)


@bounded
@given(filter=filters, number=st.integers(0, 4))
def test_the_index_finds_what_the_evaluator_finds(
    history: History, filter: Filter, number: int
) -> None:
    for view in (history.views[number], history.views[-1]):
        assert passing_set(filter, view).rows.tolist() == passing_by_payload(filter, view)
