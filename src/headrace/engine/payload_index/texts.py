"""Which rows have a text with these tokens?

Each string at a path is a text of its own, made into tokens once. Behind each token stand
the texts that have it; a phrase is looked for in the token sequences of the texts that
have all of its tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from headrace.engine.filter.text import FullTextMatch, TextPipeline
from headrace.engine.payload_index.entries import LocalRows, expand, unique_places
from headrace.engine.payload_index.found import Exactly
from headrace.engine.payload_index.terms import Terms, TermsBuilder, merge_terms
from headrace.engine.vectors.row_set import RowSet
from headrace.model.filters import MatchPhrase, MatchText, MatchTextAny
from headrace.model.vectors import Mask, Rows


class Sequences:
    """The tokens of each text, in order.

    Attributes:
        codes: shape (n,): places in the tokens' `Terms`.
        bounds: shape (texts + 1,): text i has `codes[bounds[i] : bounds[i + 1]]`.
    """

    def __init__(self, codes: NDArray[np.int32], bounds: Rows) -> None:
        self.codes = codes
        self.bounds = bounds

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.codes.nbytes + self.bounds.nbytes

    def with_run(self, texts: Rows, phrase: Sequence[int]) -> Mask:
        """Which of the given texts have these codes one after the other.

        Args:
            texts: shape (n,).
            phrase: codes, one or more.
        """
        # A text is looked at with as many places behind it as the phrase is long, less
        # one, so that no phrase reaches from one text into the next.
        begins, counts = self.bounds[texts], np.diff(self.bounds)[texts]
        starts_count = np.maximum(counts - (len(phrase) - 1), 0)
        owners, starts = expand(begins, starts_count)
        matches = np.ones(len(starts), dtype=np.bool_)
        for place, code in enumerate(phrase):
            matches &= self.codes[starts + place] == code
        found = np.zeros(len(texts), dtype=np.bool_)
        found[owners[matches]] = True
        return found


class Texts:
    """Texts, their tokens and their rows.

    Attributes:
        text_rows: shape (texts,), ascending: the row of each text.
        tokens: the texts (in the place of rows) that have each token.
        sequences: the tokens in order, if phrases are to be matched.
        row_count: rows are below this.
    """

    def __init__(
        self, text_rows: LocalRows, tokens: Terms, sequences: Sequences | None, row_count: int
    ) -> None:
        self.text_rows = text_rows
        self.tokens = tokens
        self.sequences = sequences
        self.row_count = row_count

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        sequences = self.sequences.nbytes if self.sequences else 0
        return self.text_rows.nbytes + self.tokens.nbytes + sequences

    def row_mask(self) -> Mask:
        """shape (row_count,): which rows have a text."""
        mask = np.zeros(self.row_count, dtype=np.bool_)
        mask[self.text_rows] = True
        return mask

    def matching(self, match: FullTextMatch, pipeline: TextPipeline, alone: bool) -> Exactly:
        """The rows whose texts match.

        Args:
            match: what is looked for.
            pipeline: what the tokens were made with.
            alone: whether each text must match by itself, as inside array elements; else
                tokens may come from several texts of a row.
        """
        rows = self._matching_rows(match, pipeline, alone)
        return Exactly(RowSet.of_rows(rows.astype(np.int64), self.row_count))

    def _matching_rows(
        self, match: FullTextMatch, pipeline: TextPipeline, alone: bool
    ) -> LocalRows:
        match match:
            case MatchText(text):
                return self._with_all(pipeline.query_tokens(text), alone)
            case MatchTextAny(text):
                return self._with_any(pipeline.query_tokens(text))
            case MatchPhrase(text):
                return self._with_phrase(pipeline.document_tokens(text))

    @property
    def _no_texts(self) -> LocalRows:
        return np.empty(0, dtype=np.int32)

    def _known(self, tokens: Sequence[str]) -> list[int]:
        codes = (self.tokens.code_of(token) for token in dict.fromkeys(tokens))
        return [code for code in codes if code is not None]

    def _with_all(self, tokens: Sequence[str], alone: bool) -> LocalRows:
        codes = self._known(tokens)
        if not codes or len(codes) < len(set(tokens)):
            return self._no_texts
        texts = sorted((self.tokens.rows_of(code) for code in codes), key=len)
        if alone:
            return _distinct(self.text_rows[reduce(_both, texts)])
        return reduce(_both, [_distinct(self.text_rows[one]) for one in texts])

    def _with_any(self, tokens: Sequence[str]) -> LocalRows:
        texts = [self.tokens.rows_of(code) for code in self._known(tokens)]
        return np.unique(self.text_rows[np.concatenate([*texts, self._no_texts])])

    def _with_phrase(self, tokens: Sequence[str]) -> LocalRows:
        codes = self._known(tokens)
        if self.sequences is None or not codes or len(codes) < len(set(tokens)):
            return self._no_texts
        texts = sorted((self.tokens.rows_of(code) for code in codes), key=len)
        candidates = reduce(_both, texts).astype(np.int64)
        by_token = dict(zip(dict.fromkeys(tokens), codes, strict=True))
        phrase = [by_token[token] for token in tokens]
        return _distinct(self.text_rows[candidates[self.sequences.with_run(candidates, phrase)]])


class TextsBuilder:
    """Collects texts, a chunk of rows at a time."""

    def __init__(self, pipeline: TextPipeline) -> None:
        self._pipeline = pipeline
        self._rows: list[LocalRows] = [np.empty(0, dtype=np.int32)]
        self._count = 0
        self._tokens = TermsBuilder()
        self._codes: list[Rows] = [np.empty(0, dtype=np.int64)]
        self._lengths: list[int] = []

    def add(self, rows: Sequence[int], texts: Sequence[str]) -> None:
        """Take the texts of some rows, which do not descend."""
        documents = [self._pipeline.document_tokens(text) for text in texts]
        numbers = range(self._count, self._count + len(texts))
        owners = [n for n, tokens in zip(numbers, documents, strict=True) for _ in tokens]
        codes = self._tokens.add(owners, [token for tokens in documents for token in tokens])
        if self._pipeline.phrase_matching:
            self._codes.append(codes)
            self._lengths.extend(map(len, documents))
        self._rows.append(np.array(rows, dtype=np.int32))
        self._count += len(texts)

    def finish(self, row_count: int) -> Texts:
        """The part."""
        tokens = self._tokens.finish(self._count)
        sequences = None
        if self._pipeline.phrase_matching:
            codes = np.concatenate(self._codes).astype(np.int32)
            bounds = np.concatenate(([0], np.cumsum(self._lengths, dtype=np.int64)))
            sequences = Sequences(codes, bounds)
        return Texts(np.concatenate(self._rows), tokens, sequences, row_count)


def merge_texts(parts: Sequence[Texts], new_rows: Sequence[Rows], row_count: int) -> Texts:
    """One part from several; see `merge_numbers`."""
    moved_rows = [moved[part.text_rows] for part, moved in zip(parts, new_rows, strict=True)]
    new_texts, text_rows = renumbered(moved_rows)
    tokens, new_codes = merge_terms([part.tokens for part in parts], new_texts, len(text_rows))
    sequences = None
    if all(part.sequences is not None for part in parts):
        sequences = _merge_sequences(parts, new_texts, new_codes)
    return Texts(text_rows.astype(np.int32), tokens, sequences, row_count)


def renumbered(moved_rows: Sequence[Rows]) -> tuple[list[Rows], Rows]:
    """New numbers for things that belong to rows, when the rows move.

    Args:
        moved_rows: for each part: the new row of each thing, or -1 to leave it out; things
            of one row are next to one another.

    Returns:
        (numbers, rows): for each part the new number of each thing, or -1; and the new
        row of each thing that is left, ascending.
    """
    everything = np.concatenate(moved_rows)
    order = np.argsort(everything, kind="stable")
    order = order[int(np.count_nonzero(everything < 0)) :]
    numbers = np.full(len(everything), -1, dtype=np.int64)
    numbers[order] = np.arange(len(order))
    bounds = np.cumsum([len(one) for one in moved_rows])[:-1]
    return np.split(numbers, bounds), everything[order]


def _merge_sequences(
    parts: Sequence[Texts], new_texts: Sequence[Rows], new_codes: Sequence[Rows]
) -> Sequences:
    count = sum(int(np.count_nonzero(numbers >= 0)) for numbers in new_texts)
    lengths = np.zeros(count, dtype=np.int64)
    for part, numbers in zip(parts, new_texts, strict=True):
        assert part.sequences is not None
        is_kept = numbers >= 0
        lengths[numbers[is_kept]] = np.diff(part.sequences.bounds)[is_kept]
    bounds = np.concatenate(([0], np.cumsum(lengths)))
    codes = np.empty(int(bounds[-1]), dtype=np.int32)
    for part, numbers, part_codes in zip(parts, new_texts, new_codes, strict=True):
        assert part.sequences is not None
        kept = np.flatnonzero(numbers >= 0)
        _, sources = expand(part.sequences.bounds[kept], np.diff(part.sequences.bounds)[kept])
        _, targets = expand(bounds[numbers[kept]], lengths[numbers[kept]])
        codes[targets] = part_codes[part.sequences.codes[sources]]
    return Sequences(codes, bounds)


def _both(a: LocalRows, b: LocalRows) -> LocalRows:
    """What is in two ascending arrays, each without duplicates; the first is the shorter."""
    if not len(b):
        return b
    places = np.searchsorted(b, a)
    places[places == len(b)] = 0
    in_both: LocalRows = a[b[places] == a]
    return in_both


def _distinct(ascending: LocalRows) -> LocalRows:
    return ascending[unique_places(ascending)]
