"""How does the `query` of a request become one of the kinds of query?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from qdrant_client import grpc as qdrant

from headrace.model.errors import MalformedInput
from headrace.model.queries import (
    Context,
    ContextPair,
    DbsfFusion,
    Direction,
    Discover,
    FeedbackItem,
    Mmr,
    Nearest,
    OrderBy,
    QueryKind,
    Recommend,
    RecommendStrategy,
    RelevanceFeedback,
    RrfFusion,
    Sample,
    VectorInput,
)
from headrace.model.query_rules import check_finite
from headrace.server.errors import not_supported
from headrace.server.grpc.datetimes import read_datetime_text_micros, read_timestamp_micros
from headrace.server.grpc.formulas import read_formula
from headrace.server.grpc.ids import read_point_id
from headrace.server.grpc.rules import (
    broken_rule,
    canonical_path,
    check_at_least,
    check_between,
    check_is_number,
    refuse_other_fields,
)
from headrace.server.grpc.vectors import (
    read_dense,
    read_document,
    read_multi_dense,
    read_sparse,
)

_MMR_CANDIDATES_MAX = 16_384

_STRATEGIES: dict[int, RecommendStrategy] = {
    qdrant.RecommendStrategy.AverageVector: RecommendStrategy.AVERAGE_VECTOR,
    qdrant.RecommendStrategy.BestScore: RecommendStrategy.BEST_SCORE,
    qdrant.RecommendStrategy.SumScores: RecommendStrategy.SUM_SCORES,
}
_DIRECTIONS = {qdrant.Direction.Asc: Direction.ASC, qdrant.Direction.Desc: Direction.DESC}


def read_query_kind(message: qdrant.Query) -> QueryKind:
    """What a query ranks by.

    Raises:
        MalformedInput: a part of it is missing or no such thing.
        InvalidBody: a value in it breaks a rule.
        InvalidVector: a vector is ragged or not finite.
        BadRequest: it is of a kind that is not supported.
    """
    variant = message.WhichOneof("variant")
    if variant is None:
        raise MalformedInput("Query variant is missing")
    if variant not in _KINDS:
        raise not_supported(f"the `{variant}` query")
    return _KINDS[variant](getattr(message, variant))


def read_order_by(message: qdrant.OrderBy) -> OrderBy:
    """An order by payload value.

    Raises: as `read_query_kind`.
    """
    if message.direction not in _DIRECTIONS:
        raise MalformedInput(f"Unknown direction: {message.direction}")
    start, is_datetime = _read_start_from(message.start_from)
    return OrderBy(canonical_path(message.key), _DIRECTIONS[message.direction], start, is_datetime)


def read_recommend_strategy(number: int) -> RecommendStrategy:
    """How examples become a score.

    Raises:
        MalformedInput: there is no such strategy.
    """
    if number not in _STRATEGIES:
        raise MalformedInput(f"Unknown recommend strategy: {number}")
    return _STRATEGIES[number]


def _read_start_from(message: qdrant.StartFrom) -> tuple[int | float | None, bool]:
    match message.WhichOneof("value"):
        case "integer":
            return message.integer, False
        case "float":
            check_is_number("start_from", message.float)
            return message.float, False
        case "timestamp":
            return read_timestamp_micros("start_from", message.timestamp), True
        case "datetime":
            return read_datetime_text_micros(message.datetime), True
        case _:
            return None, False


def _read_input(message: qdrant.VectorInput) -> VectorInput:
    """A vector, or the id of the point whose vector is meant."""
    match message.WhichOneof("variant"):
        case "id":
            return read_point_id(message.id)
        case "dense":
            return check_finite(read_dense(message.dense.data))
        case "sparse":
            return check_finite(read_sparse(message.sparse.indices, message.sparse.values))
        case "multi_dense":
            return check_finite(read_multi_dense(message.multi_dense))
        case None:
            raise MalformedInput("VectorInput variant is missing")
        case "document":
            return check_finite(read_document(message.document))
        case kind:
            raise not_supported(f"inference (`{kind}`)")


def _read_inputs(messages: Iterable[qdrant.VectorInput]) -> tuple[VectorInput, ...]:
    return tuple(_read_input(message) for message in messages)


def _read_pairs(message: qdrant.ContextInput) -> tuple[ContextPair, ...]:
    return tuple(
        ContextPair(_read_input(pair.positive), _read_input(pair.negative))
        for pair in message.pairs
    )


def _read_mmr(message: qdrant.NearestInputWithMmr) -> Nearest:
    mmr = message.mmr
    refuse_other_fields(mmr, "diversity", "candidates_limit")
    if mmr.HasField("diversity"):
        check_between("mmr.diversity", mmr.diversity, 0.0, 1.0)
    check_between("mmr.candidates_limit", mmr.candidates_limit, 0, _MMR_CANDIDATES_MAX)
    return Nearest(
        _read_input(message.nearest),
        Mmr(
            mmr.diversity if mmr.HasField("diversity") else 0.5,
            mmr.candidates_limit if mmr.HasField("candidates_limit") else None,
        ),
    )


def _read_recommend(message: qdrant.RecommendInput) -> Recommend:
    strategy = read_recommend_strategy(message.strategy)
    if not (message.positive or message.negative):
        raise broken_rule(
            "recommend.positives, negatives",
            "Validation error: At least one positive or negative vector/id must be provided [{}]",
        )
    return Recommend(
        _read_inputs(message.positive),
        _read_inputs(message.negative),
        strategy,
    )


def _read_feedback(message: qdrant.RelevanceFeedbackInput) -> RelevanceFeedback:
    if message.strategy.WhichOneof("variant") != "naive":
        raise MalformedInput("Relevance feedback needs a strategy")
    if not message.feedback:
        raise broken_rule(
            "relevance_feedback.feedback", "value [] invalid, must be at least 1 characters"
        )
    naive = message.strategy.naive
    for name, coefficient in (("a", naive.a), ("b", naive.b), ("c", naive.c)):
        check_is_number(f"naive.{name}", coefficient)
    check_at_least("naive.b", naive.b, 0.0)
    return RelevanceFeedback(
        _read_input(message.target),
        tuple(_read_feedback_item(item) for item in message.feedback),
        naive.a,
        naive.b,
        naive.c,
    )


def _read_feedback_item(message: qdrant.FeedbackItem) -> FeedbackItem:
    check_is_number("feedback.score", message.score)
    return FeedbackItem(_read_input(message.example), message.score)


def _read_fusion(fusion: int) -> QueryKind:
    if fusion == qdrant.Fusion.RRF:
        return RrfFusion()
    if fusion == qdrant.Fusion.DBSF:
        return DbsfFusion()
    raise MalformedInput(f"Unknown fusion: {fusion}")


def _read_rrf(message: qdrant.Rrf) -> RrfFusion:
    if message.HasField("k"):
        check_at_least("rrf.k", message.k, 1)
    for weight in message.weights:
        check_is_number("rrf.weights", weight)
    return RrfFusion(
        message.k if message.HasField("k") else RrfFusion().k, tuple(message.weights) or None
    )


def _read_sample(sample: int) -> Sample:
    if sample != qdrant.Sample.Random:
        raise MalformedInput(f"Unknown sample: {sample}")
    return Sample()


_KINDS: dict[str, Callable[[Any], QueryKind]] = {
    "nearest": lambda message: Nearest(_read_input(message)),
    "nearest_with_mmr": _read_mmr,
    "recommend": _read_recommend,
    "discover": lambda message: Discover(_read_input(message.target), _read_pairs(message.context)),
    "context": lambda message: Context(_read_pairs(message)),
    "relevance_feedback": _read_feedback,
    "order_by": read_order_by,
    "fusion": _read_fusion,
    "rrf": _read_rrf,
    "sample": _read_sample,
    "formula": read_formula,
}
