"""What may a query rank by, and how is each form recognised?

Forms are tried in Qdrant's order: a vector or an example id first, then an object whose
telling member says what it is.
"""

from __future__ import annotations

from collections.abc import Callable

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
from headrace.model.vectors import Vector
from headrace.server.rest.body import I64_MAX, I64_MIN, Node
from headrace.server.rest.filters import read_datetime
from headrace.server.rest.formulas import read_formula
from headrace.server.rest.ids import read_point_id
from headrace.server.rest.vectors import read_list_vector, read_sparse_vector, read_text
from headrace.service.inference import embed_text

# Qdrant's bound on the candidates of MMR, which compares each with each.
_MMR_CANDIDATES_MAX = 16_384


def read_query_kind(node: Node) -> QueryKind:
    """What a query ranks by.

    Raises:
        FormatError: it is no query.
        InvalidVector: a vector in it is not finite.
        MalformedInput, BadRequest: it asks for inference by a model that is not there.
    """
    if isinstance(node.value, dict):
        for name, read in _KINDS.items():
            if node.has(name):
                return read(node)
    return Nearest(read_input(node))


def read_order_by(node: Node) -> OrderBy:
    """An order by payload value: a path, or an object.

    Raises:
        FormatError: it is neither.
    """
    if isinstance(node.value, str):
        return OrderBy(node.payload_path())
    direction = node.get("direction")
    start_from = node.get("start_from")
    start, is_datetime = (None, False) if start_from is None else _read_start_from(start_from)
    return OrderBy(
        node.require("key").payload_path(),
        Direction.ASC if direction is None else direction.one_of(Direction),
        start,
        is_datetime,
    )


def _read_start_from(node: Node) -> tuple[int | float, bool]:
    value = node.value
    if isinstance(value, str):
        return read_datetime(node), True
    if type(value) is int and I64_MIN <= value <= I64_MAX:
        return value, False
    return node.number(), False


def read_input(node: Node) -> VectorInput:
    """A vector, or the id of the point whose vector is meant.

    Raises:
        FormatError: it is neither.
        InvalidVector: it is not finite.
        MalformedInput, BadRequest: it asks for inference by a model that is not there.
    """
    if isinstance(node.value, (list, dict)):
        return read_vector_input(node)
    return read_point_id(node)


def read_vector_input(node: Node) -> Vector:
    """A vector. Raises: as `read_input`."""
    if isinstance(node.value, list):
        return check_finite(read_list_vector(node))
    node.members()
    text = read_text(node)
    if text is not None:
        return check_finite(embed_text(text.text, text.model, text.options, as_query=True))
    if not (node.has("indices") or node.has("values")):
        raise node.format_error("data did not match any variant of untagged enum QueryInterface")
    return check_finite(read_sparse_vector(node))


def read_inputs(node: Node | None) -> tuple[VectorInput, ...]:
    """A list of examples. Raises: as `read_input`."""
    return () if node is None else tuple(read_input(element) for element in node.elements())


def _read_nearest(node: Node) -> Nearest:
    mmr = node.get("mmr")
    return Nearest(read_input(node.require("nearest")), None if mmr is None else _read_mmr(mmr))


def _read_mmr(node: Node) -> Mmr:
    diversity, candidates_limit = node.get("diversity"), node.get("candidates_limit")
    return Mmr(
        0.5 if diversity is None else diversity.number(0.0, 1.0),
        None
        if candidates_limit is None
        else candidates_limit.unsigned(maximum=_MMR_CANDIDATES_MAX),
    )


def _read_recommend(node: Node) -> Recommend:
    recommend = node.require("recommend")
    positive = read_inputs(recommend.get("positive"))
    negative = read_inputs(recommend.get("negative"))
    if not (positive or negative):
        recommend.rules.broken(
            f"{recommend.path}.positives, negatives",
            "Validation error: At least one positive or negative vector/id must be provided [{}]",
        )
    return Recommend(positive, negative, read_recommend_strategy(recommend))


def read_recommend_strategy(node: Node) -> RecommendStrategy:
    """`strategy`. Raises FormatError."""
    strategy = node.get("strategy")
    if strategy is None:
        return RecommendStrategy.AVERAGE_VECTOR
    return strategy.one_of(RecommendStrategy)


def _read_discover(node: Node) -> Discover:
    discover = node.require("discover")
    return Discover(
        read_input(discover.require("target")), read_context_pairs(discover.get("context"))
    )


def _read_context(node: Node) -> Context:
    return Context(read_context_pairs(node.get("context")))


def read_context_pairs(node: Node | None) -> tuple[ContextPair, ...]:
    """A list of pairs, or one pair without a list. Raises: as `read_input`."""
    if node is None:
        return ()
    pairs = node.elements() if isinstance(node.value, list) else [node]
    return tuple(
        ContextPair(read_input(pair.require("positive")), read_input(pair.require("negative")))
        for pair in pairs
    )


def _read_order(node: Node) -> OrderBy:
    return read_order_by(node.require("order_by"))


def _read_fusion(node: Node) -> QueryKind:
    fusion = node.require("fusion")
    text = fusion.text()
    if text == "rrf":
        return RrfFusion()
    if text == "dbsf":
        return DbsfFusion()
    raise fusion.format_error(f"unknown variant `{text}`, expected `rrf` or `dbsf`")


def _read_rrf(node: Node) -> RrfFusion:
    rrf = node.require("rrf")
    k, weights = rrf.get("k"), rrf.get("weights")
    return RrfFusion(
        RrfFusion().k if k is None else k.unsigned(minimum=1),
        None if weights is None else tuple(weight.number() for weight in weights.elements()),
    )


def _read_sample(node: Node) -> Sample:
    sample = node.require("sample")
    if sample.text() != "random":
        raise sample.format_error(f"unknown variant `{sample.text()}`, expected `random`")
    return Sample()


def _read_feedback(node: Node) -> RelevanceFeedback:
    feedback_node = node.require("relevance_feedback")
    items = feedback_node.require("feedback")
    feedback = tuple(
        FeedbackItem(read_input(item.require("example")), item.require("score").number())
        for item in items.elements()
    )
    if not feedback:
        items.broken("value [] invalid, must be at least 1 characters")
    naive = feedback_node.require("strategy").require("naive")
    return RelevanceFeedback(
        read_input(feedback_node.require("target")),
        feedback,
        a=naive.require("a").number(),
        b=naive.require("b").number(0.0),
        c=naive.require("c").number(),
    )


_KINDS: dict[str, Callable[[Node], QueryKind]] = {
    "nearest": _read_nearest,
    "recommend": _read_recommend,
    "discover": _read_discover,
    "context": _read_context,
    "order_by": _read_order,
    "fusion": _read_fusion,
    "rrf": _read_rrf,
    "formula": read_formula,
    "sample": _read_sample,
    "relevance_feedback": _read_feedback,
}
