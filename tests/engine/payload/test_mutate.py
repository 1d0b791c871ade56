from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import qdrant_edge as edge
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from headrace.engine.payload.mutate import delete_payload_paths, set_payload
from headrace.engine.payload.paths import JsonObject
from headrace.model.payload_path import parse_payload_path
from tests.engine.filter.edge_shard import edge_shard


def after_set(payload: JsonObject, patch: JsonObject, path: str | None = None) -> JsonObject:
    return set_payload(payload, patch, None if path is None else parse_payload_path(path))


def after_delete(payload: JsonObject, *paths: str) -> JsonObject:
    return delete_payload_paths(payload, [parse_payload_path(path) for path in paths])


def test_set_replaces_top_level_keys_whole() -> None:
    assert after_set({"a": 1, "b": {"c": 1}}, {"b": {"d": 2}}) == {"a": 1, "b": {"d": 2}}


def test_set_null_removes_the_key_but_nested_nulls_stay() -> None:
    assert after_set({"a": 1, "z": None}, {"a": None, "b": {"c": None}}) == {
        "z": None,
        "b": {"c": None},
    }


def test_set_at_a_path_merges_into_the_object_there() -> None:
    payload: JsonObject = {"a": {"b": {"c": 1, "d": 2}}}
    assert after_set(payload, {"c": None, "e": 3}, "a.b") == {"a": {"b": {"d": 2, "e": 3}}}


@pytest.mark.parametrize("old", [5, "text", None, [1, 2]])
def test_set_at_a_path_makes_an_object_of_what_is_none(old: Any) -> None:
    assert after_set({"a": old}, {"x": 1}, "a.b") == {"a": {"b": {"x": 1}}}


def test_set_at_a_missing_path_creates_the_objects() -> None:
    assert after_set({}, {"x": 1, "y": None}, "a.b") == {"a": {"b": {"x": 1}}}


@pytest.mark.parametrize("path", ["q[0]", "q[]", "q[0].r", "q[].r"])
def test_set_in_a_missing_array_creates_it_empty(path: str) -> None:
    assert after_set({}, {"x": 1}, path) == {"q": []}
    assert after_set({"q": 5}, {"x": 1}, path) == {"q": []}


def test_set_beyond_the_end_of_an_array_changes_nothing() -> None:
    assert after_set({"a": [1]}, {"x": 1}, "a[1]") == {"a": [1]}


def test_set_in_each_element_makes_objects_of_scalars() -> None:
    assert after_set({"a": [1, {"b": 2}, None]}, {"x": 1}, "a[]") == {
        "a": [{"x": 1}, {"b": 2, "x": 1}, {"x": 1}]
    }


def test_delete_removes_keys_along_the_path() -> None:
    payload: JsonObject = {"a": [{"c": 1, "d": 2}, {"c": 3}, 5], "b": {"c": 1}, "e": 1}
    assert after_delete(payload, "a[].c", "b.c", "e") == {"a": [{"d": 2}, {}, 5], "b": {}}
    assert after_delete(payload, "a[0].c")["a"] == [{"d": 2}, {"c": 3}, 5]


@pytest.mark.parametrize("path", ["zz", "a.c", "a[0]", "a[9].c", "b.c.d", "b[]"])
def test_delete_of_what_cannot_be_removed_changes_nothing(path: str) -> None:
    payload: JsonObject = {"a": [{"c": 1}], "b": {"c": 1}}
    assert after_delete(payload, path) == payload


def test_delete_of_each_element_empties_the_array() -> None:
    assert after_delete({"a": [1, 2]}, "a[]") == {"a": []}


keys = st.sampled_from(("a", "b", "c"))
values: SearchStrategy[Any] = st.recursive(
    st.none() | st.integers(0, 3) | st.just("text"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(keys, inner, max_size=2),
    max_leaves=6,
)
objects = st.dictionaries(keys, values, max_size=3)
steps = st.sampled_from((".a", ".b", ".c", "[]", "[0]", "[1]"))
paths = st.builds(lambda first, rest: first + "".join(rest), keys, st.lists(steps, max_size=3))
bounded = settings(max_examples=40, derandomize=True, database=None, deadline=None)


@bounded
@given(objects, objects, st.none() | paths)
def test_set_agrees_with_qdrant(payload: JsonObject, patch: JsonObject, path: str | None) -> None:
    before = deepcopy((payload, patch))
    with edge_shard([payload]) as shard:
        shard.update(edge.UpdateOperation.set_payload([0], patch, path))
        assert after_set(payload, patch, path) == shard.payload()
    assert (payload, patch) == before, "arguments are not changed"


@bounded
@given(objects, st.lists(paths, min_size=1, max_size=3))
def test_delete_agrees_with_qdrant(payload: JsonObject, paths: list[str]) -> None:
    before = deepcopy(payload)
    with edge_shard([payload]) as shard:
        shard.update(edge.UpdateOperation.delete_payload([0], paths))
        assert after_delete(payload, *paths) == shard.payload()
    assert payload == before, "the argument is not changed"
