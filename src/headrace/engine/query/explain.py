"""What would a query do?

The stages are walked as a search walks them: the same filters become the same sets of
rows, and the stores say how they would search them. Prefetches are planned, not run.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np

from headrace.engine.query.execute import QueryContext, offset_of
from headrace.engine.query.mask import passing_set
from headrace.engine.query.plan import SearchStep, StagePlan, Strategy, plan_filter
from headrace.engine.query.records import check_vector_selection
from headrace.engine.query.resolve import Resolver
from headrace.engine.vector_index.cost import Strategy as RangeStrategy
from headrace.engine.vector_index.indexed_vectors import IndexedVectors
from headrace.engine.vectors.base import VectorStore
from headrace.engine.vectors.dense import DenseVectors
from headrace.engine.vectors.row_set import RowSet
from headrace.engine.vectors.sparse import SparseVectors
from headrace.model.queries import (
    Context,
    DbsfFusion,
    Discover,
    Formula,
    Nearest,
    OrderBy,
    Prefetch,
    Query,
    Recommend,
    RecommendStrategy,
    RelevanceFeedback,
    RrfFusion,
    Sample,
    SearchParams,
)


def explain_query(context: QueryContext, query: Query) -> StagePlan:
    """The plan of a query against the newest view.

    Raises: as `run_query`.
    """
    check_vector_selection(context.view, query.with_vectors)
    example_rows: set[int] = set()
    query = Resolver(context.view, context.name, context.find_view, example_rows).resolve(query)
    allowed = passing_set(query.filter, context.view)
    if example_rows:
        examples = np.array(sorted(example_rows), dtype=np.int64)
        allowed = allowed - RowSet.of_rows(examples, allowed.row_count)
    return _plan_stage(context, query, allowed, query.limit + offset_of(query))


def _plan_stage(
    context: QueryContext, node: Query | Prefetch, allowed: RowSet, limit: int
) -> StagePlan:
    view = context.view
    below = []
    for prefetch in node.prefetch:
        narrowed = allowed
        if prefetch.filter is not None:
            narrowed = allowed & passing_set(prefetch.filter, view)
        below.append(_plan_stage(context, prefetch, narrowed, prefetch.limit))
    found_below = sum(min(stage.limit, stage.cardinality) for stage in below)
    if below:
        steps = [_prefetched_step(allowed, min(allowed.count, found_below))]
    else:
        steps = list(_steps(context, node, allowed, limit))
    return StagePlan(
        query=_NAMES[type(node.query)],
        using=node.using if isinstance(node.query, _VECTOR_QUERIES) else None,
        limit=limit,
        cardinality=min(allowed.count, found_below) if below else allowed.count,
        filter=None if node.filter is None else plan_filter(node.filter, view),
        steps=tuple(steps),
        prefetch=tuple(below),
    )


def _prefetched_step(allowed: RowSet, candidates: int) -> SearchStep:
    return SearchStep(
        Strategy.PREFETCHED,
        row_begin=0,
        row_end=allowed.row_count,
        cardinality=candidates,
        cost=candidates,
        reason="only what the prefetches found is scored",
    )


def _steps(
    context: QueryContext, node: Query | Prefetch, allowed: RowSet, limit: int
) -> Iterator[SearchStep]:
    match node.query:
        case None:
            yield _step(Strategy.ID_ORDER, allowed, 0, "no query: points in the order of their ids")
        case OrderBy(key):
            yield _step(Strategy.VALUE_ORDER, allowed, 0, f"the payload index of {key} is walked")
        case Sample():
            yield _step(Strategy.SAMPLE, allowed, 0, "drawn from the allowed rows")
        case Nearest() | Recommend(strategy=RecommendStrategy.AVERAGE_VECTOR):
            store = context.view.vectors(node.using)
            dim = (
                context.config.vectors[node.using].size
                if node.using in context.config.vectors
                else 0
            )
            yield from _nearest_steps(store, allowed, node.params, dim, limit)
        case _:
            store = context.view.vectors(node.using)
            present = allowed.having(store.present(allowed.row_count))
            yield _step(
                Strategy.EXACT_ROWS, present, present.count, "every allowed row is compared"
            )


def _nearest_steps(
    store: VectorStore, allowed: RowSet, params: SearchParams, dim: int, limit: int
) -> Iterator[SearchStep]:
    present = allowed.having(store.present(allowed.row_count))
    if isinstance(store, SparseVectors):
        yield _step(Strategy.POSTINGS, present, present.count, "only shared dimensions are read")
    elif isinstance(store, IndexedVectors) and store.ranges and not params.exact:
        yield from _range_steps(store, present, params, dim, limit)
    elif isinstance(store, DenseVectors) and not present.is_few:
        yield _scan(present, 0)
    else:
        yield _step(Strategy.EXACT_ROWS, present, present.count, "few rows are allowed")


def _range_steps(
    store: IndexedVectors, allowed: RowSet, params: SearchParams, dim: int, limit: int
) -> Iterator[SearchStep]:
    """One step for each graph, one for the rows behind them."""
    settings = store.settings
    for sealed in store.ranges:
        plan = sealed.plan(allowed, dim, limit, settings, params)
        if params.ignore_quantization and sealed.is_coarse:
            reason = "quantised vectors are ignored"
            plan = msgspec.structs.replace(plan, strategy=RangeStrategy.EXACT, reason=reason)
        if plan.strategy is RangeStrategy.EXACT:
            strategy, cost = Strategy.EXACT_ROWS, plan.cardinality
        elif plan.strategy is RangeStrategy.CODES:
            strategy, cost = Strategy.CODES, plan.cardinality
        elif plan.strategy is RangeStrategy.SKETCHES:
            strategy, cost = Strategy.SKETCHES, plan.cardinality
        else:
            is_masked = plan.cardinality < sealed.vector_count
            strategy = Strategy.MASKED_GRAPH if is_masked else Strategy.GRAPH
            cost = plan.ef * settings.m
        yield SearchStep(
            strategy,
            sealed.row_begin,
            sealed.row_end,
            plan.cardinality,
            cost,
            plan.reason,
            plan.ef if plan.strategy is RangeStrategy.GRAPH else None,
        )
    tail_begin = store.ranges[-1].row_end
    if tail_begin < allowed.row_count:
        rows = allowed.rows[int(np.searchsorted(allowed.rows, tail_begin)) :]
        step = _scan(RowSet.of_rows(rows, allowed.row_count), tail_begin)
        if store.compares_tail_codes(len(rows), allowed.row_count - tail_begin, limit):
            step = msgspec.structs.replace(step, strategy=Strategy.CODES)
        yield step


def _scan(allowed: RowSet, row_begin: int) -> SearchStep:
    """The step of rows without a graph."""
    rows_count = allowed.row_count - row_begin
    is_full = allowed.count == rows_count
    return SearchStep(
        Strategy.FULL_SCAN if is_full else Strategy.MASKED_SCAN,
        row_begin,
        allowed.row_count,
        allowed.count,
        rows_count,
        "these rows have no graph yet",
    )


def _step(strategy: Strategy, allowed: RowSet, cost: int, reason: str) -> SearchStep:
    return SearchStep(strategy, 0, allowed.row_count, allowed.count, cost, reason)


_VECTOR_QUERIES = (Nearest, Recommend, Discover, Context, RelevanceFeedback)

_NAMES: dict[type, str] = {
    type(None): "points by id",
    Nearest: "nearest",
    Recommend: "recommend",
    Discover: "discover",
    Context: "context",
    RelevanceFeedback: "relevance_feedback",
    OrderBy: "order_by",
    RrfFusion: "rrf",
    DbsfFusion: "dbsf",
    Formula: "formula",
    Sample: "sample",
}
