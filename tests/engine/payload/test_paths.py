from __future__ import annotations

from headrace.engine.payload.paths import JsonObject, JsonValue, leaf_values, values_at
from headrace.model.payload_path import parse_payload_path


def at(payload: JsonObject, path: str) -> list[JsonValue]:
    return list(values_at(payload, parse_payload_path(path)))


def leaves(payload: JsonObject, path: str) -> list[JsonValue]:
    return list(leaf_values(values_at(payload, parse_payload_path(path))))


def test_key_descends_into_objects_only() -> None:
    assert at({"a": {"b": 1}}, "a.b") == [1]
    assert at({"a": [{"b": 1}]}, "a.b") == []
    assert at({"a": "text"}, "a.b") == []


def test_null_is_a_value_but_a_missing_key_is_none() -> None:
    assert at({"a": None}, "a") == [None]
    assert at({}, "a") == []


def test_each_element_needs_an_array() -> None:
    assert at({"a": [1, [2], {"b": 3}]}, "a[]") == [1, [2], {"b": 3}]
    assert at({"a": {"b": 1}}, "a[]") == []


def test_key_after_each_element_skips_elements_without_it() -> None:
    assert at({"a": [{"b": 1}, 5, {"c": 2}, {"b": [3]}]}, "a[].b") == [1, [3]]


def test_array_element_beyond_the_end_is_nothing() -> None:
    assert at({"a": [1, 2]}, "a[1]") == [2]
    assert at({"a": [1, 2]}, "a[2]") == []


def test_digits_are_a_key_not_a_position() -> None:
    assert at({"a": {"0": "x"}}, "a.0") == ["x"]
    assert at({"a": ["x"]}, "a.0") == []


def test_arrays_at_the_end_are_opened_one_level_deep() -> None:
    assert leaves({"a": [1, [2]]}, "a") == [1, [2]]
    assert leaves({"a": [1, [2]]}, "a[]") == [1, 2]
    assert leaves({"a": []}, "a") == []
