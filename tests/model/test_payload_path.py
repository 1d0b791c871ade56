from __future__ import annotations

import pytest

from headrace.model.errors import MalformedInput
from headrace.model.payload_path import ArrayElement, EachElement, Key, parse_payload_path


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("a", (Key("a"),)),
        ("a.b", (Key("a"), Key("b"))),
        ("a[].b[3]", (Key("a"), EachElement(), Key("b"), ArrayElement(3))),
        ("a[][]", (Key("a"), EachElement(), EachElement())),
        ("a[007]", (Key("a"), ArrayElement(7))),
        ("a-b_c", (Key("a-b_c"),)),
        ('"a b"."c.d[]"', (Key("a b"), Key("c.d[]"))),
        ('""', (Key(""),)),
        ('a.""', (Key("a"), Key(""))),
        ("größe", (Key("größe"),)),
        ("हिंदी", (Key("हिंदी"),)),
        (f"a[{2**64 - 1}]", (Key("a"), ArrayElement(2**64 - 1))),
    ],
)
def test_path_has_these_steps(text: str, steps: tuple[object, ...]) -> None:
    assert parse_payload_path(text).steps == steps


def test_number_after_a_dot_is_an_object_key() -> None:
    assert parse_payload_path("a.0").steps == (Key("a"), Key("0"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".a",
        "a.",
        "a..b",
        "[]",
        "[0]",
        "a b",
        "a[-1]",
        "a[ 1]",
        "a[b]",
        "a]",
        'a["b"]',
        '"a"b',
        '"a\\"',
        '"a',
        "a[٣]",
        "a\u0301",
        f"a[{2**64}]",
        f"a[{'9' * 10_000}]",
    ],
)
def test_text_that_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(MalformedInput, match="Invalid json path"):
        parse_payload_path(text)


@pytest.mark.parametrize("text", ["a", "a.b[].c[0]", '"a b".c', '"a.b"', '""', "हिंदी.x"])
def test_canonical_text_parses_to_itself(text: str) -> None:
    assert str(parse_payload_path(text)) == text


def test_needless_quotes_are_not_canonical() -> None:
    assert str(parse_payload_path('"a"."b-c"[00]')) == "a.b-c[0]"


def test_each_element_is_appended_once() -> None:
    assert str(parse_payload_path("a.b").each_element()) == "a.b[]"
    assert str(parse_payload_path("a.b[]").each_element()) == "a.b[]"
