from __future__ import annotations

from typing import Any

import orjson
import pytest
import qdrant_edge as edge
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from headrace.engine.payload.paths import JsonObject
from headrace.engine.payload.select import select_payload
from headrace.model.errors import MalformedInput
from headrace.model.queries import WHOLE_PAYLOAD, PayloadSelection
from tests.engine.filter.edge_shard import edge_shard

PAYLOAD: JsonObject = {
    "a": [{"c": 1, "d": 2}, {"c": [3]}, 5, [{"c": 7}]],
    "b": {"c": 1, "d": {"x": 1, "y": 2}},
    "e": 1,
}


def included(*paths: str) -> JsonObject:
    return selected(PayloadSelection(include=paths))


def excluded(*paths: str) -> JsonObject:
    return selected(PayloadSelection(exclude=paths))


def selected(selection: PayloadSelection, payload: JsonObject = PAYLOAD) -> JsonObject:
    result: JsonObject = orjson.loads(select_payload(orjson.dumps(payload), selection))
    return result


def test_whole_payload_is_the_stored_bytes() -> None:
    assert select_payload(b'{ "a" : 1.0 }', WHOLE_PAYLOAD) == b'{ "a" : 1.0 }'


def test_include_keeps_only_what_leads_to_or_lies_below_the_paths() -> None:
    assert included("b.d.x", "e") == {"b": {"d": {"x": 1}}, "e": 1}
    assert included("a[].c") == {"a": [{"c": 1}, {"c": [3]}, 5, []]}
    assert included("zz") == included() == {}


def test_include_below_a_plain_value_includes_it() -> None:
    assert included("e.x") == {"e": 1}


def test_exclude_drops_exactly_the_paths() -> None:
    assert excluded("b.d", "a", "e") == {"b": {"c": 1}}
    assert excluded("a[].c")["a"] == [{"d": 2}, {}, 5, [{"c": 7}]]
    assert excluded("a[]")["a"] == []
    assert excluded() == excluded("e.x", "zz") == PAYLOAD


def test_positions_in_arrays_select_nothing() -> None:
    assert included("a[0]") == {"a": []}
    assert excluded("a[0]") == PAYLOAD


def test_path_that_does_not_parse_is_refused() -> None:
    with pytest.raises(MalformedInput):
        included("a..b")


keys = st.sampled_from(("a", "b", "c"))
values: SearchStrategy[Any] = st.recursive(
    st.none() | st.integers(0, 3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
steps = st.sampled_from((".a", ".b", ".c", "[]", "[]", "[0]"))
paths = st.builds(lambda first, rest: first + "".join(rest), keys, st.lists(steps, max_size=3))


@settings(max_examples=40, derandomize=True, database=None, deadline=None)
@given(st.dictionaries(keys, values, max_size=3), st.lists(paths, max_size=3))
def test_selection_agrees_with_qdrant(payload: JsonObject, paths: list[str]) -> None:
    with edge_shard([payload]) as shard:
        include, exclude = edge.PayloadSelector.Include(paths), edge.PayloadSelector.Exclude(paths)
        theirs = shard.payload(include), shard.payload(exclude)
    ours = (
        selected(PayloadSelection(include=tuple(paths)), payload),
        selected(PayloadSelection(exclude=tuple(paths)), payload),
    )
    assert ours == theirs
