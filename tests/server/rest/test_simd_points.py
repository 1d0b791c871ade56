"""The fast way of reading upserts against the exact one."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.model.errors import HeadraceError
from headrace.model.vectors import SparseVector
from headrace.server.rest.body import JSON_DEPTH_MAX, FormatError, read_body
from headrace.server.rest.points import Upsert, read_upsert, read_vector_updates
from headrace.server.rest.simd_points import (
    Irregular,
    read_upsert_fast,
    read_vector_updates_fast,
)

REGULAR = [
    b'{"points":[]}',
    b'{"points":[{"id":1,"vector":[1,2.5,-3e2]}]}',
    b'{"points":[{"id":18446744073709551615,"vectors":[1],"payload":{"a":[1,[2]],"b":"[x"}}]}',
    b'{"points":[{"id":"550e8400e29b41d4a716446655440000","vector":[1],"payload":null}]}',
    b'{"points":[{"id":1,"vector":[[1,2],[3,4]]}]}',
    b'{"points":[{"id":1,"vector":{}}, {"id":1,"vector":{"a":[1],"b":[[1],[2]],'
    b'"s":{"indices":[4294967295,0],"values":[1,2]},"e":{"indices":[],"values":[]}}}]}',
    b'{"batch":{"ids":[1,2],"vectors":[[1,2],[3,4]],"payloads":[{"a":{"b":1}},null]}}',
    b'{"batch":{"ids":[1],"vectors":{"a":[[1,2]],"s":[{"indices":[1],"values":[2]}]}}}',
    b'{"batch":{"ids":[1],"vectors":[[[1,2],[3,4]]]}}',
    b'{"points":[{"id":1,"vector":[1]}],"update_mode":"insert_only",'
    b'"update_filter":{"must":[{"key":"a","match":{"any":[1,2]}}]},"shard_key":["k"]}',
]

# Bodies that the exact way takes or refuses; the fast way must leave each to it.
IRREGULAR = [
    b'{"points":[{"id":1,"vector":[1,[2]]}]}',
    b'{"points":[{"id":1,"vector":[[1,[2]],[3,4]]}]}',
    b'{"points":[{"id":1,"vector":[[1],2]}]}',
    b'{"points":[{"id":1,"vector":[[1,2],[3]]}]}',
    b'{"points":[{"id":1,"vector":[true]}]}',
    b'{"points":[{"id":1,"vector":[]}]}',
    b'{"points":[{"id":1,"vector":[[]]}]}',
    b'{"points":[{"id":1,"vector":{"s":{"indices":[1.0],"values":[1]}}}]}',
    b'{"points":[{"id":1,"vector":{"s":{"indices":[-1],"values":[1]}}}]}',
    b'{"points":[{"id":1,"vector":{"s":{"indices":[4294967296],"values":[1]}}}]}',
    b'{"points":[{"id":1,"vector":{"s":{"indices":[1,1],"values":[1,1]}}}]}',
    b'{"points":[{"id":1,"vector":{"s":{"indices":[[1]],"values":[1]}}}]}',
    b'{"points":[{"id":1,"vector":{"a":[1],"a":[2]}}]}',
    b'{"points":[{"id":1,"vector":[1],"payload":[1]}]}',
    b'{"points":[{"id":1,"vector":[1],"payload":{"a":18446744073709551616}}]}',
    b'{"points":[{"id":1,"vector":[1],"payload":{"a":1e400}}]}',
    b'{"points":[{"id":1,"vector":[1],"unknown":1}]}',
    b'{"points":[{"id":1.0,"vector":[1]}]}',
    b'{"points":[{"id":"x","vector":[1]}]}',
    b'{"points":[[]]}',
    b'{"points":["a"]}',
    b'{"points":[1]}',
    b'{"points":{}}',
    b'{"points":[{"id":1,"vector":[1]}]',
    b"{}",
    b"[]",
    b"1",
    b"",
    b'{"batch":{"ids":[1],"vectors":[]}}',
    b'{"batch":{"ids":[1],"vectors":[[1],[2]]}}',
    b'{"batch":{"ids":[1,2],"vectors":[[1],[2]],"payloads":[{}]}}',
    b'{"batch":{"ids":[1,2],"vectors":[[1,2],[3]]}}',
    b'{"points":[{"id":1,"vector":[1],"payload":{"a":"\\u005b"}}]}',
]


def plain(upsert: Upsert) -> Any:
    """An upsert as values that can be compared."""

    def vector(one: Any) -> Any:
        if isinstance(one, SparseVector):
            return [one.indices.tolist(), one.values.tolist()]
        assert one.dtype == np.float32
        return one.tolist()

    points = [
        (point.id, {n: vector(v) for n, v in point.vectors.items()}, orjson.loads(point.payload))
        for point in upsert.points
    ]
    return points, upsert.mode, upsert.update_filter, upsert.shard_key


def outcome(body: bytes) -> Any:
    try:
        return plain(read_body(body, read_upsert))
    except HeadraceError as error:
        return type(error)


@pytest.mark.parametrize("body", REGULAR)
def test_regular_bodies_are_read_the_same_fast_and_exactly(body: bytes) -> None:
    assert plain(read_upsert_fast(body)) == plain(read_body(body, read_upsert))


@pytest.mark.parametrize("body", IRREGULAR)
def test_irregular_bodies_are_left_to_the_exact_way(body: bytes) -> None:
    with pytest.raises(Irregular):
        read_upsert_fast(body)


NUMBERS = st.one_of(st.integers(-3, 3), st.floats(width=32, allow_nan=False, allow_infinity=False))
DENSE = st.lists(NUMBERS, min_size=1, max_size=3)
ODD: st.SearchStrategy[Any] = st.sampled_from([True, None, "1", [], [1], {}, [[1]], 1e39])
VECTORS = st.recursive(
    st.one_of(DENSE, st.lists(st.one_of(NUMBERS, ODD), max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["", "a", "[", "indices", "values"]), inner, max_size=2),
    ),
    max_leaves=6,
)
PAYLOADS = st.dictionaries(
    st.text('ab[\\"', max_size=2), st.recursive(NUMBERS | st.text("[]{}\\"), st.lists), max_size=2
)
POINTS = st.fixed_dictionaries(
    {"id": st.integers(0, 5), "vector": VECTORS}, optional={"payload": PAYLOADS | ODD}
)


@given(st.lists(POINTS, max_size=3))
def test_what_the_fast_way_takes_the_exact_way_reads_the_same(points: list[Any]) -> None:
    body = orjson.dumps({"points": points})
    try:
        fast = plain(read_upsert_fast(body))
    except Irregular:
        return
    assert fast == outcome(body)


@given(st.lists(POINTS, min_size=1, max_size=3))
def test_vector_updates_are_read_the_same_fast_and_exactly(points: list[Any]) -> None:
    body = orjson.dumps({"points": [{n: p[n] for n in ("id", "vector")} for p in points]})
    try:
        fast = read_vector_updates_fast(body)
    except Irregular:
        return
    exact = read_body(body, read_vector_updates)
    assert [i for i, _ in fast.points] == [i for i, _ in exact.points]
    assert [sorted(v) for _, v in fast.points] == [sorted(v) for _, v in exact.points]


def test_of_a_repeated_payload_key_the_last_value_wins() -> None:
    body = (
        b'{"points":[{"id":1,"vector":[1],"payload":{"a":1,"b":{"c":1,"c":2},"a":3}},'
        b'{"id":2,"vector":[1],"payload":{"a":1,"a":3}}]}'
    )
    first, second = read_upsert_fast(body).points
    assert first.payload == b'{"a":3,"b":{"c":2}}'
    assert second.payload == b'{"a":3}'


def test_payloads_nested_too_deep_are_refused() -> None:
    nested = b"[" * JSON_DEPTH_MAX + b"]" * JSON_DEPTH_MAX
    body = b'{"points":[{"id":1,"vector":[1],"payload":{"a":' + nested + b"}}]}"
    with pytest.raises(FormatError, match="recursion limit exceeded"):
        read_upsert_fast(body)
    with pytest.raises(FormatError, match="recursion limit exceeded"):
        read_body(body, read_upsert)


def test_a_parser_is_usable_after_a_body_that_was_refused() -> None:
    for body in IRREGULAR * 2:
        with pytest.raises(Irregular):
            read_upsert_fast(body)
        assert len(read_upsert_fast(REGULAR[1]).points) == 1
