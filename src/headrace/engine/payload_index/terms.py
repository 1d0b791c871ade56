"""Which rows have a string, or one that begins with a prefix or contains a text?

Distinct strings, each with a code, and behind each code its ascending rows. A string is
found by its hash; the order of the strings, which prefixes need, is made when it is first
asked for. So strings are added and merged without sorting them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from headrace.engine.payload_index.entries import (
    Entries,
    LocalRows,
    Stretches,
    all_but,
    joined,
    sort_pairs,
)
from headrace.model.vectors import Rows

Hashes = NDArray[np.int64]

# What a short `str` takes besides its characters, and the list's reference to it.
_STRING_BYTES = 49 + 8

# Codes that lost all their rows are closed up when they are this share of all.
_UNUSED_SHARE_MAX = 1 / 2


class Terms:
    """Distinct strings and their rows.

    Attributes:
        terms: by code.
        hashes: shape (len(terms),): `hash` of each, by code.
        bounds: shape (len(terms) + 1,): code i has entries `bounds[i]` to `bounds[i + 1]`,
            which may be none.
        entries: the rows, ascending within each code.
    """

    def __init__(self, terms: list[str], hashes: Hashes, bounds: Rows, entries: Entries) -> None:
        self.terms = terms
        self.hashes = hashes
        self.bounds = bounds
        self.entries = entries
        self._by_hash = np.argsort(hashes).astype(np.int32)
        self._sorted_hashes = hashes[self._by_hash]

    @classmethod
    def of(
        cls, terms: list[str], hashes: Hashes, codes: Rows, rows: LocalRows, row_count: int
    ) -> Terms:
        """Sort (term, row) pairs; a row that has a term twice counts once.

        Args:
            terms, hashes: distinct, by code.
            codes, rows: shape (n,): the code and the row of each pair.
            row_count: rows are below this.
        """
        sorted_codes, sorted_rows = sort_pairs(codes, rows)
        bounds = np.searchsorted(sorted_codes, np.arange(len(terms) + 1))
        return cls(terms, hashes, bounds, Entries(sorted_rows, row_count))

    @cached_property
    def nbytes(self) -> int:
        """Bytes of memory."""
        strings = sum(map(len, self.terms)) + _STRING_BYTES * len(self.terms)
        arrays = (self.hashes, self._by_hash, self._sorted_hashes, self.bounds)
        order_and_ranks = 2 * 8 * len(self.terms)
        return strings + self.entries.nbytes + sum(a.nbytes for a in arrays) + order_and_ranks

    @cached_property
    def order(self) -> Rows:
        """shape (len(terms),): the codes in the order of their strings.

        By code point, which is the order of the strings' UTF-8 bytes.
        """
        return np.array(sorted(range(len(self.terms)), key=self.terms.__getitem__), np.int64)

    @cached_property
    def ranks(self) -> Rows:
        """shape (len(terms),): the place of each code in `order`."""
        ranks = np.empty(len(self.terms), dtype=np.int64)
        ranks[self.order] = np.arange(len(self.terms))
        return ranks

    def equal_to(self, wanted: Iterable[str]) -> Stretches:
        """The rows with one of these strings."""
        return self._of_codes(self._known(wanted))

    def other_than(self, unwanted: Iterable[str]) -> Stretches:
        """The rows with a string that is none of these."""
        codes = self._known(unwanted)
        begins, ends = self._stretches_of(codes)
        return all_but(self.entries, *joined(begins, ends))

    def starting_with(self, prefix: str) -> Stretches:
        """The rows with a string that begins with `prefix`."""
        size = len(prefix)
        term_of = self.terms.__getitem__
        first = bisect_left(self.order, prefix, key=lambda code: term_of(code)[:size])
        last = bisect_left(
            self.order, True, lo=first, key=lambda code: term_of(code)[:size] > prefix
        )
        return self._of_codes(np.sort(self.order[first:last]).tolist())

    def containing(self, text: str) -> Stretches:
        """The rows with a string that contains a text."""
        return self._of_codes([code for code, term in enumerate(self.terms) if text in term])

    def where(self, test: Callable[[str], bool]) -> Stretches:
        """The rows with a string that passes a test; each distinct string is tested."""
        return self._of_codes([code for code, term in enumerate(self.terms) if test(term)])

    def code_of(self, term: str) -> int | None:
        """The code of a string, if it is there."""
        hashed = hash(term)
        place = int(self._sorted_hashes.searchsorted(hashed))
        while place < len(self.terms) and self._sorted_hashes[place] == hashed:
            code = int(self._by_hash[place])
            if self.terms[code] == term:
                return code
            place += 1
        return None

    def codes_of(self, terms: Sequence[str], hashes: Hashes) -> Rows:
        """The codes of many strings, -1 where a string is not there; shape (len(terms),)."""
        codes = np.full(len(terms), -1, dtype=np.int64)
        places = np.searchsorted(self._sorted_hashes, hashes)
        ends = np.searchsorted(self._sorted_hashes, hashes, side="right")
        for number in np.flatnonzero(ends > places).tolist():
            code = int(self._by_hash[places[number]])
            if self.terms[code] != terms[number]:
                found = self.code_of(terms[number])  # two strings share a hash
                code = -1 if found is None else found
            codes[number] = code
        return codes

    def rows_of(self, code: int) -> LocalRows:
        """The rows that have a term, ascending."""
        return self.entries.rows[self.bounds[code] : self.bounds[code + 1]]

    def _known(self, terms: Iterable[str]) -> list[int]:
        """The codes of those strings that are there, ascending."""
        codes = map(self.code_of, set(terms))
        return sorted(code for code in codes if code is not None)

    def _stretches_of(self, codes: list[int]) -> tuple[list[int], list[int]]:
        bounds = self.bounds
        if len(codes) < 16:
            return [int(bounds[c]) for c in codes], [int(bounds[c + 1]) for c in codes]
        places = np.array(codes, dtype=np.int64)
        return bounds[places].tolist(), bounds[places + 1].tolist()

    def _of_codes(self, codes: list[int]) -> Stretches:
        begins, ends = self._stretches_of(codes)
        return Stretches(self.entries, *joined(begins, ends), one_value=len(codes) < 2)


class TermsBuilder:
    """Collects strings, a chunk of rows at a time."""

    def __init__(self) -> None:
        self._codes_by_term: dict[str, int] = {}
        self._hashes: list[Hashes] = [np.empty(0, dtype=np.int64)]
        self._codes: list[Rows] = [np.empty(0, dtype=np.int64)]
        self._rows: list[LocalRows] = [np.empty(0, dtype=np.int32)]

    def add(self, rows: Sequence[int], terms: Sequence[str]) -> Rows:
        """Take the strings of some rows, and say which code each string got."""
        by_term = self._codes_by_term
        known_count = len(by_term)
        codes = np.array([by_term.setdefault(term, len(by_term)) for term in terms], np.int64)
        # Each new code is first met at the string that got it.
        new = np.flatnonzero(codes >= known_count)
        if len(new):
            firsts = new[np.unique(codes[new], return_index=True)[1]].tolist()
            self._hashes.append(np.array([hash(terms[place]) for place in firsts], np.int64))
        self._rows.append(np.array(rows, dtype=np.int32))
        self._codes.append(codes)
        return codes

    def finish(self, row_count: int) -> Terms:
        """The part."""
        return Terms.of(
            list(self._codes_by_term),
            np.concatenate(self._hashes),
            np.concatenate(self._codes),
            np.concatenate(self._rows),
            row_count,
        )


def merge_terms(
    parts: Sequence[Terms], new_rows: Sequence[Rows], row_count: int
) -> tuple[Terms, list[Rows]]:
    """One part from several; see `merge_numbers`.

    Returns:
        The part, and for each of `parts` the new code of each of its codes, or -1.
    """
    merged = _Merge(max(parts, key=lambda part: len(part.terms)))
    codes, rows = [], []
    new_codes = [merged.codes_of(part) for part in parts]
    for part, moved, part_codes in zip(parts, new_rows, new_codes, strict=True):
        to = moved[part.entries.rows]
        kept = to >= 0
        codes.append(np.repeat(part_codes, np.diff(part.bounds))[kept])
        rows.append(to[kept].astype(np.int32))
    all_codes = np.concatenate(codes)
    terms, hashes, closed_up = merged.closed_up(all_codes)
    if closed_up is not None:
        all_codes = closed_up[all_codes]
        new_codes = [closed_up[part_codes] for part_codes in new_codes]
    return Terms.of(terms, hashes, all_codes, np.concatenate(rows), row_count), new_codes


class _Merge:
    """The strings of several parts; those of the largest keep their codes."""

    def __init__(self, base: Terms) -> None:
        self._base = base
        self._added: dict[str, int] = {}
        self._added_hashes: list[Hashes] = [base.hashes]

    def codes_of(self, part: Terms) -> Rows:
        """The merged code of each code of a part."""
        if part is self._base:
            return np.arange(len(part.terms))
        base_count = len(self._base.terms)
        codes = self._base.codes_of(part.terms, part.hashes)
        missing = np.flatnonzero(codes < 0)
        known_count = len(self._added)
        added = self._added
        places = [added.setdefault(part.terms[code], len(added)) for code in missing.tolist()]
        codes[missing] = np.array(places, dtype=np.int64) + base_count
        is_new = codes >= base_count + known_count
        self._added_hashes.append(part.hashes[is_new])
        return codes

    def closed_up(self, codes: Rows) -> tuple[list[str], Hashes, Rows | None]:
        """All strings and hashes by code; many that no pair uses are left out.

        Returns:
            (terms, hashes, new code of each code if they changed).
        """
        terms = self._base.terms + list(self._added)
        hashes = np.concatenate(self._added_hashes)
        used = np.zeros(len(terms), dtype=np.bool_)
        used[codes] = True
        used_codes = np.flatnonzero(used)
        if len(used_codes) >= len(terms) * (1 - _UNUSED_SHARE_MAX):
            return terms, hashes, None
        new_codes = np.full(len(terms), -1, dtype=np.int64)
        new_codes[used_codes] = np.arange(len(used_codes))
        return [terms[code] for code in used_codes.tolist()], hashes[used_codes], new_codes
