"""What is a read, between the edge that took it and the engine that answers it?"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from headrace.model.filters import Filter
from headrace.model.formula import Expression
from headrace.model.ids import PointId
from headrace.model.vectors import DEFAULT_VECTOR_NAME, Vector

# A vector, or the id of a stored point whose vector is meant.
VectorInput = Vector | PointId


class PayloadSelection(msgspec.Struct, frozen=True):
    """Which part of a payload an answer carries.

    Attributes:
        enabled: no payload at all if False.
        include: only these paths, if not None.
        exclude: all but these paths, if not None.
    """

    enabled: bool = True
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None


class VectorSelection(msgspec.Struct, frozen=True):
    """Which vectors an answer carries: none, all, or the named ones."""

    enabled: bool = False
    names: tuple[str, ...] | None = None


NO_PAYLOAD = PayloadSelection(enabled=False)
WHOLE_PAYLOAD = PayloadSelection()
NO_VECTORS = VectorSelection()
ALL_VECTORS = VectorSelection(enabled=True)


class Idf(msgspec.Struct, frozen=True):
    """Over which points inverse document frequencies are counted.

    Attributes:
        corpus: those that pass this filter; None = all.
    """

    corpus: Filter | None = None


class SearchParams(msgspec.Struct, frozen=True, gc=False):
    """Hints for the search: `exact` skips graphs; `hnsw_ef` widens their walk.

    Attributes:
        ignore_quantization: whether quantised vectors are left alone.
        rescore: whether candidates by quantised vectors are scored again from the original
            ones; None = where that is worth it.
        oversampling: how many times the limit a quantised search considers.
        idf: over which points inverse document frequencies are counted; not a hint.
    """

    hnsw_ef: int | None = None
    exact: bool = False
    indexed_only: bool = False
    ignore_quantization: bool = False
    rescore: bool | None = None
    oversampling: float | None = None
    idf: Idf | None = None


DEFAULT_SEARCH_PARAMS = SearchParams()


class Mmr(msgspec.Struct, frozen=True):
    """Maximal marginal relevance: trade relevance for variety among the nearest.

    Attributes:
        diversity: 0 keeps relevance alone, 1 variety alone.
        candidates_limit: how many nearest points are considered; None = the query's limit.
    """

    diversity: float = 0.5
    candidates_limit: int | None = None


class Nearest(msgspec.Struct, frozen=True, eq=False, gc=False):
    """The points nearest to a vector, or to a stored point (which is then left out)."""

    target: VectorInput
    mmr: Mmr | None = None


class RecommendStrategy(StrEnum):
    """How examples become a score."""

    AVERAGE_VECTOR = "average_vector"
    BEST_SCORE = "best_score"
    SUM_SCORES = "sum_scores"


class Recommend(msgspec.Struct, frozen=True, eq=False):
    """Points like the positive and unlike the negative examples."""

    positive: tuple[VectorInput, ...]
    negative: tuple[VectorInput, ...]
    strategy: RecommendStrategy = RecommendStrategy.AVERAGE_VECTOR


class ContextPair(msgspec.Struct, frozen=True, eq=False):
    """A pair of examples that splits the space: nearer to one than to the other."""

    positive: VectorInput
    negative: VectorInput


class Discover(msgspec.Struct, frozen=True, eq=False):
    """The points on the right side of most pairs, those near the target first."""

    target: VectorInput
    context: tuple[ContextPair, ...]


class Context(msgspec.Struct, frozen=True, eq=False):
    """The points on the right side of all pairs."""

    pairs: tuple[ContextPair, ...]


class FeedbackItem(msgspec.Struct, frozen=True, eq=False):
    """An example and how relevant it was found."""

    example: VectorInput
    score: float


class RelevanceFeedback(msgspec.Struct, frozen=True, eq=False):
    """Nearest to a target, corrected by feedback on examples (the `naive` strategy).

    score = a * sim(target) + sum over pairs i, j with score_i > score_j of
    (score_i - score_j) ** b * c * (sim_i - sim_j).
    """

    target: VectorInput
    feedback: tuple[FeedbackItem, ...]
    a: float
    b: float
    c: float


class Direction(StrEnum):
    """Which way values are ordered."""

    ASC = "asc"
    DESC = "desc"


class OrderBy(msgspec.Struct, frozen=True):
    """Points by a payload value.

    Attributes:
        start_from: the first value shown; a datetime is given as microseconds since
            1970-01-01 UTC with `start_is_datetime`.
    """

    key: str
    direction: Direction = Direction.ASC
    start_from: int | float | None = None
    start_is_datetime: bool = False


class RrfFusion(msgspec.Struct, frozen=True):
    """Reciprocal rank fusion: 1 / ((rank + 1) / weight + k - 1), summed over the lists."""

    k: int = 2
    weights: tuple[float, ...] | None = None


class DbsfFusion(msgspec.Struct, frozen=True):
    """Distribution-based score fusion: (score - (mean - 3 sd)) / (6 sd), summed."""


class Sample(msgspec.Struct, frozen=True):
    """Points at random."""


class Formula(msgspec.Struct, frozen=True):
    """Score prefetched points by an expression over payload and prefetch scores.

    Attributes:
        defaults: values for payload paths and `$score[i]` that a point lacks.
    """

    expression: Expression
    defaults: dict[str, Any] = {}


class LookupFrom(msgspec.Struct, frozen=True):
    """The collection, and its vector name, that example ids are looked up in."""

    collection_name: str
    vector_name: str | None = None


QueryKind = (
    Nearest
    | Recommend
    | Discover
    | Context
    | RelevanceFeedback
    | OrderBy
    | RrfFusion
    | DbsfFusion
    | Formula
    | Sample
)


class Prefetch(msgspec.Struct, frozen=True, eq=False):
    """A search whose results are the only candidates of the query above it."""

    query: QueryKind | None = None
    prefetch: tuple[Prefetch, ...] = ()
    using: str = DEFAULT_VECTOR_NAME
    filter: Filter | None = None
    params: SearchParams = SearchParams()
    score_threshold: float | None = None
    limit: int = 10
    lookup_from: LookupFrom | None = None


class Query(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One search: `query` None lists points by id.

    Attributes:
        prefetch: searches whose results are the only candidates.
        using: the vector name that is searched.
        score_threshold: results that are not strictly better are dropped.
        lookup_from: where example ids are looked up, if not in this collection.
    """

    query: QueryKind | None = None
    prefetch: tuple[Prefetch, ...] = ()
    using: str = DEFAULT_VECTOR_NAME
    filter: Filter | None = None
    params: SearchParams = SearchParams()
    score_threshold: float | None = None
    limit: int = 10
    offset: int = 0
    lookup_from: LookupFrom | None = None
    with_payload: PayloadSelection = NO_PAYLOAD
    with_vectors: VectorSelection = NO_VECTORS


class Scroll(msgspec.Struct, frozen=True):
    """One page of points in id order, from `start_id` on (which need not exist).

    With `order_by` it is one page by payload value, and there is no next one.
    """

    start_id: PointId | None = None
    limit: int = 10
    filter: Filter | None = None
    with_payload: PayloadSelection = WHOLE_PAYLOAD
    with_vectors: VectorSelection = NO_VECTORS
    order_by: OrderBy | None = None


class GroupBy(msgspec.Struct, frozen=True):
    """Group the results of a query by a payload value.

    Attributes:
        key: the payload path.
        limit: how many groups at most.
        group_size: how many points a group has at most.
    """

    key: str
    limit: int = 10
    group_size: int = 3


class GroupLookup(msgspec.Struct, frozen=True):
    """A collection whose points are named by the values of groups."""

    collection_name: str
    with_payload: PayloadSelection = WHOLE_PAYLOAD
    with_vectors: VectorSelection = NO_VECTORS


class Facet(msgspec.Struct, frozen=True):
    """Count points by the values of a field."""

    key: str
    filter: Filter | None = None
    limit: int = 10


class FacetHit(msgspec.Struct, frozen=True):
    """One value and how many points have it."""

    value: str | int | bool
    count: int


class MatrixRequest(msgspec.Struct, frozen=True):
    """Distances within a random sample of points.

    Attributes:
        sample: how many points are drawn at most.
        limit: how many neighbours each gets at most.
    """

    using: str = DEFAULT_VECTOR_NAME
    filter: Filter | None = None
    sample: int = 10
    limit: int = 3
