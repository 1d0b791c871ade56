"""Whoever is asked which points pass a filter, and however, says the same.

Payloads, payload indexes and filters are told by a seed. The slow evaluator, the payload
index, the transient columns of a collection without indexes, and Qdrant's engine answer
each filter. What is left out are the named differences, and nothing else.
"""

from __future__ import annotations

from random import Random

import pytest

from tests.engine.query.random_stores import random_stores
from tests.engine.query.seeded_filters import SeededFilters


def agree_on_filters(seed: int, filters_count: int) -> None:
    with random_stores(seed) as stores:
        filters = SeededFilters(Random(seed), stores.schema)
        for _ in range(filters_count):
            stores.assert_all_agree(filters.next())


@pytest.mark.parametrize("seed", range(6))
def test_all_answers_to_random_filters_agree(seed: int) -> None:
    agree_on_filters(seed, 100)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(1000, 1100))
def test_all_answers_to_very_many_random_filters_agree(seed: int) -> None:
    agree_on_filters(seed, 500)
