"""Which rows of a view pass a filter?

The runs of the payload index answer for nearly all rows, the evaluator for the few whose
payloads are newer than the runs. The answer is kept as long as the view is.
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Protocol

import msgspec
import numpy as np

from headrace.engine.filter.indexed import index_serves
from headrace.engine.payload_index.conditions import compile_filter, indexed_part
from headrace.engine.payload_index.coverage import CoveredRun
from headrace.engine.payload_index.entries import Stretches
from headrace.engine.payload_index.found import Found
from headrace.engine.payload_index.numbers import Numbers
from headrace.engine.payload_index.questions import Ground
from headrace.engine.payload_index.terms import Terms
from headrace.engine.query.points import ViewPoints, evaluate_rows
from headrace.engine.segment.segment import View
from headrace.engine.vectors.row_set import RowSet
from headrace.model.collection_config import PayloadFieldType
from headrace.model.errors import BadRequest
from headrace.model.filter_bounds import check_size
from headrace.model.filters import DatetimeRange, FieldCondition, Filter, MatchValue, Range
from headrace.model.vectors import Mask, Rows

# Up to this many rows are evaluated by their payloads, at a few microseconds each.
_EVALUATED_ROWS_MAX = 32

# Longer keywords are asked for by their encoded filter, whose length counts where it is kept.
_KEYWORD_CHARS_MAX = 128

# A field, and the range or the keyword that is asked of it.
_Asked = tuple[str, Range | DatetimeRange | str]

_encoder = msgspec.msgpack.Encoder(uuid_format="bytes")


class Passing(Protocol):
    """What passes a filter, as far as one wants to know."""

    @property
    def at_most(self) -> int:
        """No more rows than this; costs next to nothing."""

    def count(self) -> int:
        """How many live rows pass; exact."""

    def row_set(self) -> RowSet:
        """All live rows that pass."""

    def holds(self, rows: Rows) -> Mask:
        """Which of these live, ascending rows pass, shape (len(rows),)."""


def passing_set(filter: Filter | None, view: View) -> RowSet:
    """The live rows that pass a filter.

    Raises:
        BadRequest: the filter is too deep or too long.
        MalformedInput: a payload path does not parse.
    """
    if filter is None or filter.is_unconstrained():
        return view.live_set
    asked = _asked(filter)
    if asked is not None:
        known = view.row_sets.get(asked)
        if known is not None:
            return known
        found = _found_at_once(asked, view)
        if found is not None:
            rows = _live(view, found.row_set())
            view.row_sets.put(asked, rows)
            return rows
    cache_key = encoded_filter(filter)
    known = view.row_sets.get(cache_key)
    return known if known is not None else Answer(view, filter, cache_key).row_set()


def kept_set(filter: Filter, view: View) -> RowSet | None:
    """The live rows that pass a filter, if they are known already.

    Raises:
        BadRequest: it is too deep.
    """
    asked = _asked(filter)
    known = None if asked is None else view.row_sets.get(asked)
    return known if known is not None else view.row_sets.get(encoded_filter(filter))


def passing(filter: Filter | None, view: View) -> Passing:
    """What passes a filter, without finding all of it yet.

    Raises: as `passing_set`.
    """
    if filter is None or filter.is_unconstrained():
        return _Known(view.live_set)
    asked = None if view.live_count < view.row_count else _asked(filter)
    found = None if asked is None else _found_at_once(asked, view)
    if asked is not None and found is not None:
        return _Found(view, found, asked)
    cache_key = encoded_filter(filter)
    known = view.row_sets.get(cache_key)
    return _Known(known) if known is not None else Answer(view, filter, cache_key)


def known(rows: RowSet) -> Passing:
    """What passes where all of it is known already."""
    return _Known(rows)


def filter_rows(filter: Filter, view: View, rows: Rows) -> Rows:
    """Those of `rows` (live ones) that pass the filter, in their order.

    Raises: as `passing_set`.
    """
    if filter.is_unconstrained():
        return rows
    if len(rows) > _EVALUATED_ROWS_MAX:
        return rows[passing_set(filter, view).contains(rows)]
    check_size(filter)
    return rows[evaluate_rows(filter, view, rows)]


def encoded_filter(filter: Filter) -> bytes:
    """The filter as bytes that tell 1, 1.0 and true apart, as `==` does not.

    Raises:
        BadRequest: it is too deep.
    """
    try:
        return _encoder.encode(filter)
    except RecursionError:
        raise BadRequest("Filter is nested too deeply") from None


def _asked(filter: Filter) -> _Asked | None:
    """What the commonest filters ask, which a payload index may answer at once.

    If it does, it does so whatever else the condition says: the first operator decides that
    an index serves.
    """
    if not filter.has_one_field_condition():
        return None
    condition = filter.must[0]
    assert isinstance(condition, FieldCondition)
    match, bounds = condition.match, condition.range
    if match is None:
        return None if bounds is None else (condition.key, bounds)
    if type(match) is MatchValue:
        value = match.value
        if type(value) is str and len(value) <= _KEYWORD_CHARS_MAX:
            return (condition.key, value)
    return None


def _found_at_once(asked: _Asked, view: View) -> Stretches | None:
    """The same rows as an `Answer`, in half the time where they are few.

    Returns:
        Rows of deleted points among them; None where it is not so simple: the field has no
        index that serves, or there are payloads outside of its only run.
    """
    key, wanted = asked
    schema = view.schema.get(key)
    if schema is None:
        return None
    run = view.segment.payload_index.sole_run(view)
    if run is None:
        return None
    if isinstance(wanted, str):
        if schema.data_type is not PayloadFieldType.KEYWORD:
            return None
        terms = run.parts.get(indexed_part(key, schema))
        return terms.equal_to((wanted,)) if isinstance(terms, Terms) else None
    if not index_serves(wanted, schema):
        return None
    numbers = run.parts.get(indexed_part(key, schema))
    return numbers.within(wanted) if isinstance(numbers, Numbers) else None


def _live(view: View, rows: RowSet) -> RowSet:
    return rows & view.live_set if view.live_count < view.row_count else rows


class _Known:
    """A set that is known already."""

    def __init__(self, rows: RowSet) -> None:
        self._rows = rows
        self.at_most = rows.count

    def count(self) -> int:
        return self._rows.count

    def row_set(self) -> RowSet:
        return self._rows

    def holds(self, rows: Rows) -> Mask:
        return self._rows.contains(rows)


class _Found:
    """What was found at once, and is kept once it is a set."""

    def __init__(self, view: View, found: Stretches, asked: _Asked) -> None:
        self._view = view
        self._found = found
        self._asked = asked
        self.at_most = found.at_most

    def count(self) -> int:
        count = self._found.exact_count
        return self.row_set().count if count is None else count

    def row_set(self) -> RowSet:
        row_sets = self._view.row_sets
        rows = row_sets.get(self._asked)
        if rows is None:
            rows = self._found.row_set()
            row_sets.put(self._asked, rows)
        return rows

    def holds(self, rows: Rows) -> Mask:
        return self._found.holds(rows)


class Answer:
    """What the runs and the evaluator say to a filter.

    Args:
        view: whose rows.
        filter: what is asked.
        cache_key: under which the set is kept with the view.

    Attributes:
        keys: the parts of the payload index that were asked.
        unknown: the rows that the evaluator is asked about.
        at_most: no more rows than this pass.

    Raises: as `passing_set`.
    """

    def __init__(self, view: View, filter: Filter, cache_key: bytes) -> None:
        self._view = view
        self._filter = filter
        self._cache_key = cache_key
        question = compile_filter(filter, view.schema)
        index = view.segment.payload_index
        coverage = index.coverage(view)
        self.unknown = coverage.unknown
        self.keys = keys = question.keys
        self.at_most = len(self.unknown)
        points = ViewPoints(view)
        self._runs: list[tuple[CoveredRun, Found]] = []
        for covered in coverage.runs:
            parts = index.require(covered.run, keys, view.schema)
            found = question.find(Ground(covered.run, parts, points))
            self._runs.append((covered, found))
            self.at_most += found.at_most

    @property
    def is_slow(self) -> bool:
        """Whether payloads must be read one by one."""
        return any(found.is_slow for _, found in self._runs)

    def count(self) -> int:
        """See `Passing`."""
        if self._view.live_count == self._view.row_count:
            found = self._whole()
            if isinstance(found, Stretches) and found.exact_count is not None:
                return found.exact_count
        return self.row_set().count

    def row_set(self) -> RowSet:
        """See `Passing`; kept with the view."""
        view = self._view
        whole = self._whole()
        if whole is not None:
            rows = whole.row_set()
        else:
            parts = [run.outer_set(found.row_set(), view.row_count) for run, found in self._runs]
            rows = reduce(or_, parts, RowSet.none(view.row_count))
        rows = _live(view, rows)
        if len(self.unknown):
            passing = self.unknown[evaluate_rows(self._filter, view, self.unknown)]
            rows = rows - RowSet.of_rows(self.unknown, view.row_count)
            rows = rows | RowSet.of_rows(passing, view.row_count)
        view.row_sets.put(self._cache_key, rows)
        return rows

    def _whole(self) -> Found | None:
        """What the only run says, if it speaks for all rows of the view, as mostly."""
        if len(self._runs) != 1 or len(self.unknown):
            return None
        covered, found = self._runs[0]
        is_whole = covered.superseded is None and covered.run.is_whole(self._view.row_count)
        return found if is_whole else None

    def holds(self, rows: Rows) -> Mask:
        """See `Passing`."""
        whole = self._whole()
        if whole is not None:
            return whole.holds(rows)
        held = np.zeros(len(rows), dtype=np.bool_)
        for covered, found in self._runs:
            places, inner = covered.places_of(rows)
            held[places] = found.holds(inner)
        if len(self.unknown):
            places = np.flatnonzero(np.isin(rows, self.unknown))
            held[places] = evaluate_rows(self._filter, self._view, rows[places])
        return held
