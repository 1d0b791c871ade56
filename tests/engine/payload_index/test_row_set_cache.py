from __future__ import annotations

import numpy as np
import pytest

from headrace.engine.payload_index import row_set_cache
from headrace.engine.payload_index.row_set_cache import RowSetCache
from headrace.engine.vectors.row_set import RowSet

ROW_COUNT = 1000


def some_rows(first: int) -> RowSet:
    mask = np.zeros(ROW_COUNT, dtype=np.bool_)
    mask[first] = True
    return RowSet.of_mask(mask)


def test_a_set_is_found_under_its_key_alone() -> None:
    cache = RowSetCache()
    rows = some_rows(1)
    cache.put(b"a", rows)
    assert cache.get(b"a") is rows
    assert cache.get(b"b") is None


def test_of_few_rows_no_mask_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_set_cache, "_FEW_SETS_MAX", 2)
    cache = RowSetCache()
    few = RowSet.of_rows(np.array([3, 5], dtype=np.int64), ROW_COUNT)
    cache.put("few", few)
    found = cache.get("few")
    assert found is not None
    assert found.mask.nonzero()[0].tolist() == found.rows.tolist() == [3, 5]
    assert cache.get("few") is not found
    assert (found.count, found.row_count) == (2, ROW_COUNT)
    for key in ("second", "third"):
        cache.put(key, few)
    kept = [key for key in ("few", "second", "third") if cache.get(key) is not None]
    assert kept == ["third"]


def test_long_keys_take_room_where_few_rows_pass() -> None:
    """A filter may name a million ids, none of which is a point's."""
    cache = RowSetCache(bytes_max=100_000)
    for number in range(1000):
        cache.put(b"%d" % number + bytes(10_000), RowSet.none(ROW_COUNT))
    kept = [cache.get(b"%d" % number + bytes(10_000)) is not None for number in range(1000)]
    assert kept == [False] * 991 + [True] * 9


def test_the_sets_not_asked_for_longest_make_room() -> None:
    # Each takes about a thousand bytes, should its mask be made.
    cache = RowSetCache(bytes_max=3 * ROW_COUNT + 100)
    for first in range(3):
        cache.put(b"%d" % first, some_rows(first))
    assert cache.get(b"0") is not None
    cache.put(b"3", some_rows(3))
    assert [cache.get(b"%d" % first) is not None for first in range(4)] == [
        *(True, False, True, True),
    ]


def test_a_set_larger_than_the_bound_stays_until_another_comes() -> None:
    cache = RowSetCache(bytes_max=10)
    cache.put(b"a", some_rows(1))
    assert cache.get(b"a") is not None
    cache.put(b"b", some_rows(2))
    assert cache.get(b"a") is None
    assert cache.get(b"b") is not None
