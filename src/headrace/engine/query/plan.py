"""How is a query answered, and why so?

A plan is a value: what `explain` shows and tests assert on. Cardinalities are exact; they
come from the same finds that a search takes its rows from.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

import msgspec

from headrace.engine.payload_index.conditions import demanded_parts
from headrace.engine.payload_index.part_key import PartKind
from headrace.engine.query.describe import describe
from headrace.engine.query.mask import Answer, encoded_filter, kept_set
from headrace.engine.segment.segment import View
from headrace.model.filter_bounds import check_size
from headrace.model.filters import Filter


class Access(StrEnum):
    """What a condition is answered from."""

    PAYLOAD_INDEX = "payload index"
    COLUMN = "transient column"
    POINTS = "ids and vectors"
    PAYLOADS = "payloads, one by one"


class ConditionPlan(msgspec.Struct, frozen=True):
    """One condition of a filter; `should` and `min_should` count as one each.

    Attributes:
        clause: must, must_not, should or min_should.
        condition: in words, as it stands in the clause.
        access: what it is answered from, each once.
        at_most: how many rows it was known to hold at most, before any was looked at.
        cardinality: how many points satisfy it; of must_not, how many do not.
        is_slow: whether payloads must be read one by one.
    """

    clause: str
    condition: str
    access: tuple[Access, ...]
    at_most: int
    cardinality: int
    is_slow: bool


class FilterPlan(msgspec.Struct, frozen=True):
    """How a filter becomes rows.

    Attributes:
        cardinality: how many points pass.
        points_count: of how many.
        conditions: in the order in which they are taken, the most selective first.
        evaluated_rows: rows newer than the index, which are evaluated one by one.
        is_cached: whether the answer was at hand already.
    """

    cardinality: int
    points_count: int
    conditions: tuple[ConditionPlan, ...]
    evaluated_rows: int
    is_cached: bool


class Strategy(StrEnum):
    """How the rows of a stage are found."""

    EXACT_ROWS = "exact rows"  # the allowed rows are scored, and no others
    CODES = "codes of rows"  # the same by their codes, and the best ones by their vectors again
    SKETCHES = "sketches of rows"  # sketches rule out rows, the others are compared as above
    MASKED_SCAN = "scan with mask"  # all rows are scored, those not allowed left out
    FULL_SCAN = "full scan"
    GRAPH = "vector index"
    MASKED_GRAPH = "vector index with mask"
    POSTINGS = "inverted postings"
    ID_ORDER = "id order"
    VALUE_ORDER = "payload index order"
    SAMPLE = "random sample"
    PREFETCHED = "prefetched points"  # only what the prefetches found


class SearchStep(msgspec.Struct, frozen=True):
    """How one stretch of rows is searched.

    Attributes:
        strategy: see `Strategy`.
        row_begin, row_end: the stretch.
        cardinality: how many of its rows are allowed; exact.
        cost: how many vectors are looked at, roughly.
        ef: how wide a graph is walked, where one is.
        reason: in words.
    """

    strategy: Strategy
    row_begin: int
    row_end: int
    cardinality: int
    cost: int
    reason: str
    ef: int | None = None


class StagePlan(msgspec.Struct, frozen=True):
    """How a query, or a prefetch, is answered.

    Attributes:
        query: what is asked, such as `nearest`.
        using: the vector name, where vectors are compared.
        limit: how many points are wanted.
        cardinality: how many points may be returned; of a stage above prefetches, at most.
        filter: its own filter, if it has one; the filters above it hold too.
        steps: how its rows are searched.
        prefetch: the stages below.
    """

    query: str
    using: str | None
    limit: int
    cardinality: int
    filter: FilterPlan | None
    steps: tuple[SearchStep, ...]
    prefetch: tuple[StagePlan, ...] = ()

    @property
    def cost(self) -> int:
        """How many vectors are looked at, roughly, prefetches included."""
        own = sum(step.cost for step in self.steps)
        return own + sum(stage.cost for stage in self.prefetch)


def plan_filter(filter: Filter, view: View) -> FilterPlan:
    """How a filter is answered; answers it, and each condition by itself.

    Raises:
        BadRequest, MalformedInput: as `passing_set`.
    """
    check_size(filter)
    cache_key = encoded_filter(filter)
    is_cached = kept_set(filter, view) is not None
    whole = Answer(view, filter, cache_key)
    conditions = [_plan_clause(clause, part, view) for clause, part in _clauses(filter)]
    return FilterPlan(
        cardinality=whole.row_set().count,
        points_count=view.live_count,
        conditions=tuple(sorted(conditions, key=lambda one: (one.is_slow, one.at_most))),
        evaluated_rows=len(whole.unknown),
        is_cached=is_cached,
    )


def _clauses(filter: Filter) -> Iterator[tuple[str, Filter]]:
    """The filter in parts that all must hold, each a filter of its own."""
    for condition in filter.must:
        yield "must", Filter(must=(condition,))
    for condition in filter.must_not:
        yield "must_not", Filter(must_not=(condition,))
    if filter.should:
        yield "should", Filter(should=filter.should)
    if filter.min_should is not None:
        yield "min_should", Filter(min_should=filter.min_should)


def _plan_clause(clause: str, part: Filter, view: View) -> ConditionPlan:
    found = Answer(view, part, encoded_filter(part))
    demanded = demanded_parts(view.schema)
    access = {
        Access.PAYLOAD_INDEX if key in demanded else Access.COLUMN
        for key in found.keys
        if key.kind is not PartKind.ELEMENTS
    }
    if found.is_slow:
        access.add(Access.PAYLOADS)
    return ConditionPlan(
        clause=clause,
        condition=describe(Filter(must=part.must_not) if part.must_not else part),
        access=tuple(sorted(access)) or (Access.POINTS,),
        at_most=min(found.at_most, view.live_count),
        cardinality=found.row_set().count,
        is_slow=found.is_slow,
    )
