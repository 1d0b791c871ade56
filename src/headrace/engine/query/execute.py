"""How does a query become scored points?

Ids become vectors first; then each prefetch is run, deepest first, and what it found is
all that the stage above may choose from. Filters are handed down as sets of rows: the root's
holds for every stage, a prefetch's for those below it.
"""

from __future__ import annotations

from itertools import repeat

import msgspec
import numpy as np

from headrace.engine.query.formula import score_by_formula
from headrace.engine.query.fusion import fuse
from headrace.engine.query.mask import known, passing_set
from headrace.engine.query.order import order_rows
from headrace.engine.query.ranked import Ranked, union_rows
from headrace.engine.query.records import check_vector_selection, read_records
from headrace.engine.query.resolve import FindView, Resolver, is_resolved
from headrace.engine.query.scroll import rows_in_id_order
from headrace.engine.query.vector_query import run_vector_query
from headrace.engine.segment.segment import View
from headrace.engine.vectors.row_set import RowSet
from headrace.model.collection_config import CollectionConfig
from headrace.model.errors import BadRequest, WrongInput
from headrace.model.points import Pieces, ScoredPoint
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
    RelevanceFeedback,
    RrfFusion,
    Sample,
)
from headrace.model.vectors import Distance


class QueryContext(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What a query runs on.

    Attributes:
        name, config, view: the collection.
        find_view: where other collections are found, for `lookup_from`.
    """

    name: str
    config: CollectionConfig
    view: View
    find_view: FindView


def run_query(context: QueryContext, query: Query) -> list[ScoredPoint]:
    """Answer one query, best first.

    Raises:
        UnknownVectorName, WrongVectorDimension, WrongInput, BadRequest: it does not fit.
        NotFound: an example id is not stored or lacks the vector, or a collection is missing.
    """
    if query.with_vectors.names:
        check_vector_selection(context.view, query.with_vectors)
    ranked = rank(context, query)
    offset = offset_of(query)
    if offset:
        ranked = ranked.part(slice(offset, None))
    return to_points(context, query, ranked)


def query_pieces(context: QueryContext, query: Query, points_max: int) -> Pieces[ScoredPoint]:
    """The answer of a query, of which `points_max` points at a time are read.

    Raises: as `run_query`.
    """
    check_vector_selection(context.view, query.with_vectors)
    ranked = rank(context, query)

    def piece(first: int) -> list[ScoredPoint]:
        return to_points(context, query, ranked.part(slice(first, first + points_max)))

    offset = offset_of(query)
    pieces = map(piece, range(offset, len(ranked.rows), points_max))
    return Pieces(max(0, len(ranked.rows) - offset), pieces)


def to_points(context: QueryContext, query: Query, ranked: Ranked) -> list[ScoredPoint]:
    """What the answer shows for these rows."""
    records = read_records(context.view, ranked.rows, query.with_payload, query.with_vectors)
    kind = query.query
    if kind is None or isinstance(kind, (OrderBy, Sample)):
        values = ranked.order_values or repeat(None)
        records = [
            msgspec.structs.replace(record, version=0, order_value=value)
            for record, value in zip(records, values, strict=False)
        ]
    return list(map(ScoredPoint, records, ranked.scores.tolist()))


def rank(context: QueryContext, query: Query) -> Ranked:
    """The rows of a query, best first; `offset` is not taken off yet.

    Raises: as `run_query`.
    """
    example_rows: set[int] = set()
    if not is_resolved(query):
        resolver = Resolver(context.view, context.name, context.find_view, example_rows)
        query = resolver.resolve(query)
    allowed = passing_set(query.filter, context.view)
    if example_rows:
        examples = np.array(sorted(example_rows), dtype=np.int64)
        allowed = allowed - RowSet.of_rows(examples, allowed.row_count)
    return _run_stage(context, query, allowed, query.limit + offset_of(query))


def offset_of(query: Query) -> int:
    """How many of the best are passed over: of a sample none, as in Qdrant."""
    return 0 if query.offset and isinstance(query.query, Sample) else query.offset


def _run_stage(
    context: QueryContext, node: Query | Prefetch, allowed: RowSet, limit: int
) -> Ranked:
    """The best `limit` of the allowed rows by this node's query."""
    if not isinstance(node.query, OrderBy):  # where a point stands once for each value
        limit = min(limit, context.view.row_count)
    sources = []
    if node.prefetch:
        sources = [
            _run_stage(
                context, prefetch, _narrowed(context, prefetch, allowed), prefetch.limit
            ).once()
            for prefetch in node.prefetch
        ]
        allowed = RowSet.of_rows(union_rows(sources), allowed.row_count)
    kind = node.query
    match kind:
        case Nearest() | Recommend() | Discover() | Context() | RelevanceFeedback():
            distance = vector_distance(context.config, node.using)
            return run_vector_query(
                context.view,
                node.using,
                distance,
                kind,
                allowed,
                limit,
                node.params,
                node.score_threshold,
            )
        case None:
            return _by_id(context.view, node, allowed, limit)
        case RrfFusion() | DbsfFusion():
            _require_prefetches(node, "Fusion")
            ranked = fuse(sources, kind, allowed.count)
            return _better_than(ranked, node.score_threshold, limit)
        case Formula():
            _require_prefetches(node, "Formula")
            ranked = score_by_formula(context.view, kind, sources)
            return _better_than(ranked, node.score_threshold, limit)
        case OrderBy():
            return order_rows(context.view, kind, allowed, limit).ranked()
        case Sample():
            chosen = np.random.default_rng().permutation(allowed.rows)[:limit]
            return Ranked(chosen, np.ones(len(chosen), dtype=np.float32))


def vector_distance(config: CollectionConfig, using: str) -> Distance:
    """The distance of a vector name; sparse vectors have the dot product.

    Raises:
        UnknownVectorName: there is no such vector.
    """
    params = config.vectors.get(using)
    if params is not None:
        return params.distance
    config.vector_params(using)
    return Distance.DOT


def _narrowed(context: QueryContext, prefetch: Prefetch, allowed: RowSet) -> RowSet:
    if prefetch.filter is None:
        return allowed
    return allowed & passing_set(prefetch.filter, context.view)


def _by_id(view: View, node: Query | Prefetch, allowed: RowSet, limit: int) -> Ranked:
    if node.prefetch:
        raise BadRequest(
            "A query is needed to merge the prefetches. "
            "Can't have prefetches without defining a query."
        )
    rows = rows_in_id_order(view, known(allowed), None, limit)
    return Ranked(rows, np.ones(len(rows), dtype=np.float32))


def _require_prefetches(node: Query | Prefetch, what: str) -> None:
    if not node.prefetch:
        raise WrongInput(f"Validation failed: cannot apply {what} without prefetches")


def _better_than(ranked: Ranked, threshold: float | None, limit: int) -> Ranked:
    """Fusion and formula: at least the threshold, larger is better."""
    if threshold is not None:
        kept = ranked.scores >= np.float32(threshold)
        ranked = Ranked(ranked.rows[kept], ranked.scores[kept])
    return Ranked(ranked.rows[:limit], ranked.scores[:limit])
