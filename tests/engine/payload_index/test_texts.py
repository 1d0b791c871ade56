"""Texts as tokens match what the evaluator matches for each row."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.engine.filter.text import FullTextMatch, full_text_matches, text_pipeline
from headrace.engine.payload_index.texts import Texts, TextsBuilder, merge_texts
from headrace.model.filters import MatchPhrase, MatchText, MatchTextAny

bounded = settings(max_examples=150, derandomize=True, database=None, deadline=None)

ROW_COUNT = 8
PIPELINE = text_pipeline(
    {"type": "text", "phrase_matching": True, "stopwords": {"custom": ["the"]}}
)
WORDS = ("red", "Red", "green", "the", "blue")
texts = st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join)
rows_of_texts = st.lists(st.lists(texts, max_size=3), min_size=ROW_COUNT, max_size=ROW_COUNT)
queries: st.SearchStrategy[FullTextMatch] = st.one_of(
    st.builds(MatchText, texts), st.builds(MatchTextAny, texts), st.builds(MatchPhrase, texts)
)


def part_of(rows: list[list[str]]) -> Texts:
    builder = TextsBuilder(PIPELINE)
    for row, own in enumerate(rows):
        builder.add([row] * len(own), own)
    return builder.finish(len(rows))


def expected_rows(rows: list[list[str]], match: FullTextMatch, alone: bool) -> list[int]:
    if alone:
        return [
            row
            for row, own in enumerate(rows)
            if any(full_text_matches(match, [text], PIPELINE) for text in own)
        ]
    return [row for row, own in enumerate(rows) if full_text_matches(match, own, PIPELINE)]


@bounded
@given(rows=rows_of_texts, match=queries, alone=st.booleans())
def test_tokens_match_as_the_evaluator_has_it(
    rows: list[list[str]], match: FullTextMatch, alone: bool
) -> None:
    found = part_of(rows).matching(match, PIPELINE, alone)
    assert found.row_set().rows.tolist() == expected_rows(rows, match, alone)


@bounded
@given(
    first=rows_of_texts,
    second=rows_of_texts,
    kept=st.lists(st.booleans(), min_size=2 * ROW_COUNT, max_size=2 * ROW_COUNT),
    match=queries,
)
def test_merged_texts_match_as_those_of_the_kept_rows(
    first: list[list[str]], second: list[list[str]], kept: list[bool], match: FullTextMatch
) -> None:
    new_rows = [
        np.array([2 * row + odd if kept[2 * row + odd] else -1 for row in range(ROW_COUNT)])
        for odd in (0, 1)
    ]
    merged_rows: list[list[str]] = [[] for _ in range(2 * ROW_COUNT)]
    for rows, moved in zip((first, second), new_rows, strict=True):
        for own, to in zip(rows, moved.tolist(), strict=True):
            if to >= 0:
                merged_rows[to] = own
    merged = merge_texts([part_of(first), part_of(second)], new_rows, 2 * ROW_COUNT)
    found = merged.matching(match, PIPELINE, alone=False)
    assert found.row_set().rows.tolist() == expected_rows(merged_rows, match, alone=False)
