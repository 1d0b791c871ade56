"""Distinct strings and their rows find what looking at each string finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.engine.payload_index import terms as terms_module
from headrace.engine.payload_index.found import Found
from headrace.engine.payload_index.terms import Terms, TermsBuilder, merge_terms

bounded = settings(max_examples=100, derandomize=True, database=None, deadline=None)

ROW_COUNT = 10
STRINGS = st.text(alphabet="aé\U0001f600b", max_size=3)
pairs_strategy = st.lists(st.tuples(st.integers(0, ROW_COUNT - 1), STRINGS), max_size=20)
Pairs = list[tuple[int, str]]


def terms_of(pairs: Pairs) -> Terms:
    builder = TermsBuilder()
    for row, term in sorted(pairs):
        builder.add([row], [term])
    return builder.finish(ROW_COUNT)


def rows_found(found: Found) -> list[int]:
    everywhere = np.arange(ROW_COUNT)
    rows: list[int] = found.row_set().rows.tolist()
    assert everywhere[found.holds(everywhere)].tolist() == rows
    assert found.at_most >= len(rows)
    return rows


@bounded
@given(pairs=pairs_strategy, wanted=st.lists(STRINGS, max_size=4))
def test_equality_and_its_opposite(pairs: Pairs, wanted: list[str]) -> None:
    terms = terms_of(pairs)
    assert rows_found(terms.equal_to(wanted)) == sorted({r for r, t in pairs if t in wanted})
    assert rows_found(terms.other_than(wanted)) == sorted({r for r, t in pairs if t not in wanted})


@bounded
@given(pairs=pairs_strategy, text=STRINGS)
def test_prefixes_and_substrings(pairs: Pairs, text: str) -> None:
    terms = terms_of(pairs)
    begins = sorted({row for row, term in pairs if term.startswith(text)})
    contains = sorted({row for row, term in pairs if text in term})
    assert rows_found(terms.starting_with(text)) == begins
    assert rows_found(terms.containing(text)) == contains


@bounded
@given(pairs=pairs_strategy)
def test_terms_are_ordered_by_their_utf_8_bytes(pairs: Pairs) -> None:
    terms = terms_of(pairs)
    ordered = [terms.terms[code] for code in terms.order]
    assert ordered == sorted({term for _, term in pairs}, key=lambda term: term.encode())


@bounded
@given(
    first=pairs_strategy,
    second=pairs_strategy,
    third=pairs_strategy,
    kept=st.lists(st.booleans(), min_size=3 * ROW_COUNT, max_size=3 * ROW_COUNT),
)
def test_merged_terms_are_those_of_the_kept_rows(
    first: Pairs, second: Pairs, third: Pairs, kept: list[bool]
) -> None:
    sources = (first, second, third)
    new_rows = [
        np.array([3 * r + place if kept[3 * r + place] else -1 for r in range(ROW_COUNT)])
        for place in range(3)
    ]
    merged, new_codes = merge_terms([terms_of(one) for one in sources], new_rows, 3 * ROW_COUNT)
    for place, pairs in enumerate(sources):
        before = terms_of(pairs)
        for row, term in pairs:
            if new_rows[place][row] >= 0:
                code = before.code_of(term)
                assert code is not None
                assert merged.code_of(term) == new_codes[place][code]
    expected: dict[str, set[int]] = {}
    for pairs, moved in zip(sources, new_rows, strict=True):
        for row, term in pairs:
            if moved[row] >= 0:
                expected.setdefault(term, set()).add(int(moved[row]))
    found = {
        term: set(merged.rows_of(code).tolist())
        for code, term in enumerate(merged.terms)
        if len(merged.rows_of(code))
    }
    assert found == expected


def test_strings_that_share_a_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terms_module, "hash", lambda term: len(term), raising=False)
    pairs = [(0, "aa"), (1, "ab"), (2, "ba"), (3, "b"), (4, "ab")]
    terms = terms_of(pairs)
    assert rows_found(terms.equal_to(["ab"])) == [1, 4]
    assert rows_found(terms.equal_to(["bb"])) == []
    same_rows = np.arange(ROW_COUNT)
    nowhere = np.full(ROW_COUNT, -1)
    more = terms_of([(5, "bb"), (6, "ba"), (7, "ab")])
    merged, _ = merge_terms([terms, more], [same_rows, same_rows], ROW_COUNT)
    assert rows_found(merged.equal_to(["ba"])) == [2, 6]
    assert rows_found(merged.equal_to(["bb"])) == [5]
    merged, _ = merge_terms([terms, more], [nowhere, same_rows], ROW_COUNT)
    assert rows_found(merged.equal_to(["ab", "aa"])) == [7]
