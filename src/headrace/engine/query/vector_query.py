"""How are rows scored by their vectors?

Each kind of vector query scores the allowed rows that have the vector. The custom kinds
(recommend by score, discover, context, feedback) combine the similarities to several
examples by Qdrant's formulas; there a similarity is the raw one, larger always nearer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

import numpy as np

from headrace.engine.query.mask import passing_set
from headrace.engine.query.mmr import most_marginally_relevant
from headrace.engine.query.ranked import Ranked, best_first
from headrace.engine.segment.segment import View
from headrace.engine.vectors.base import VectorStore
from headrace.engine.vectors.distances import scores_from_similarities
from headrace.engine.vectors.row_set import RowSet
from headrace.engine.vectors.sparse import SparseVectors
from headrace.model.collection_config import Modifier
from headrace.model.errors import BadRequest, WrongInput
from headrace.model.queries import (
    DEFAULT_SEARCH_PARAMS,
    Context,
    ContextPair,
    Discover,
    Nearest,
    Recommend,
    RecommendStrategy,
    RelevanceFeedback,
    SearchParams,
    VectorInput,
)
from headrace.model.vectors import Distance, FloatVector, Rows, SparseVector, Vector

VectorQuery = Nearest | Recommend | Discover | Context | RelevanceFeedback

_EPSILON = np.finfo(np.float32).eps


def run_vector_query(
    view: View,
    using: str,
    distance: Distance,
    kind: VectorQuery,
    allowed: RowSet,
    limit: int,
    params: SearchParams = DEFAULT_SEARCH_PARAMS,
    score_threshold: float | None = None,
) -> Ranked:
    """The best allowed rows of a vector query whose ids are resolved.

    Args:
        view: where to search.
        using: the name of the vector.
        distance: its distance.
        kind: the query.
        allowed: the rows that pass the filter.
        limit: how many rows there are at most.
        params: how to search.
        score_threshold: where the rows end, or with MMR those that it chooses from: before
            the first score that is not beyond it in the direction of the distance. That is
            so for scores that mean something else, too, as in Qdrant; under Euclid and
            Manhattan, where these are best when large, it leaves all of them or none.

    Raises:
        WrongInput, WrongVectorDimension: a vector does not fit.
        BadRequest: there are no positive examples to average.
    """
    store = view.vectors(using)
    if params.idf is not None:
        _check_idf(view, using)
    match kind:
        case Nearest(target=target, mmr=None):
            ranked = _nearest(view, using, store, distance, target, allowed, limit, params)
            # As mostly, there is no threshold, and no call then.
            return ranked if score_threshold is None else _until(ranked, score_threshold, distance)
        case Nearest(target=target, mmr=mmr):
            assert mmr is not None
            candidates_limit = limit if mmr.candidates_limit is None else mmr.candidates_limit
            ranked = _nearest(
                view, using, store, distance, target, allowed, candidates_limit, params
            )
            ranked = _until(ranked, score_threshold, distance)
            return most_marginally_relevant(store, ranked, distance, mmr.diversity, limit)
        case Recommend(strategy=RecommendStrategy.AVERAGE_VECTOR):
            target = _average_target(kind)
            ranked = _nearest(view, using, store, distance, target, allowed, limit, params)
            return _until(ranked, score_threshold, distance)
    rows = allowed.having(store.present(allowed.row_count)).rows

    def similarity(example: VectorInput) -> FloatVector:
        return store.similarities(_query_vector(view, using, store, example, params), rows)

    ranked = best_first(rows, _custom_scores(kind, rows, similarity), limit)
    return _until(ranked, score_threshold, distance)


def _until(ranked: Ranked, threshold: float | None, distance: Distance) -> Ranked:
    """The rows before the first whose score is not strictly nearer than the threshold."""
    if threshold is None:
        return ranked
    bound = np.float32(threshold)
    is_beyond = ranked.scores > bound if distance.larger_is_nearer else ranked.scores < bound
    count = len(is_beyond) if is_beyond.all() else int(np.argmin(is_beyond))
    return Ranked(ranked.rows[:count], ranked.scores[:count])


def _nearest(
    view: View,
    using: str,
    store: VectorStore,
    distance: Distance,
    target: VectorInput,
    allowed: RowSet,
    limit: int,
    params: SearchParams,
) -> Ranked:
    vector = _query_vector(view, using, store, target, params)
    found = store.nearest(vector, allowed, min(limit, view.row_count), params)
    return Ranked(found.rows, scores_from_similarities(found.similarities, distance))


def _query_vector(
    view: View, using: str, store: VectorStore, example: VectorInput, params: SearchParams
) -> Vector:
    """A vector to compare with: checked, and weighted where the vector name says so."""
    assert not isinstance(example, (int, UUID)), "ids are resolved before scoring"
    vector = store.check_query(example)
    if isinstance(store, SparseVectors) and _has_idf(view, using):
        assert isinstance(vector, SparseVector)
        corpus = None if params.idf is None else params.idf.corpus
        vector = store.weighted(vector, passing_set(corpus, view).mask)
    return vector


def _has_idf(view: View, using: str) -> bool:
    params = view.config.sparse_vectors.get(using)
    return params is not None and params.modifier is Modifier.IDF


def _check_idf(view: View, using: str) -> None:
    if not _has_idf(view, using):
        raise WrongInput(
            "Validation failed: search param `idf` requires a sparse vector with the `idf` "
            f'modifier, which vector "{using}" is not'
        )


Similarity = Callable[[VectorInput], FloatVector]


def _custom_scores(kind: VectorQuery, rows: Rows, similarity: Similarity) -> FloatVector:
    match kind:
        case Recommend(positive=positive, negative=negative, strategy=strategy):
            liked = [similarity(example) for example in positive]
            disliked = [similarity(example) for example in negative]
            if strategy is RecommendStrategy.SUM_SCORES:
                return _sum(liked, rows) - _sum(disliked, rows)
            return _best_scores(_max(liked, rows), _max(disliked, rows))
        case Discover(target=target, context=pairs):
            scores = _scaled_sigmoid(similarity(target))
            for pair in pairs:
                scores += np.sign(similarity(pair.positive) - similarity(pair.negative))
            return scores
        case Context(pairs=pairs):
            return _sum([_pair_loss(pair, similarity) for pair in pairs], rows)
        case RelevanceFeedback():
            return _feedback_scores(kind, similarity, rows)
        case _:
            raise AssertionError(kind)


def _best_scores(liked: FloatVector, disliked: FloatVector) -> FloatVector:
    """Qdrant's best_score: the nearer of the best positive and the best negative decides."""
    return np.where(liked > disliked, _scaled_sigmoid(liked), -_scaled_sigmoid(disliked))


def _pair_loss(pair: ContextPair, similarity: Similarity) -> FloatVector:
    difference = similarity(pair.positive) - similarity(pair.negative) - _EPSILON
    return _sigmoid(np.minimum(difference, np.float32(0)))


def _feedback_scores(kind: RelevanceFeedback, similarity: Similarity, rows: Rows) -> FloatVector:
    """The `naive` strategy: see `RelevanceFeedback`."""
    judged = sorted(kind.feedback, key=lambda item: -item.score)
    similar = [similarity(item.example) for item in judged]
    scores = np.float32(kind.a) * similarity(kind.target)
    for better in range(len(judged)):
        for worse in range(better + 1, len(judged)):
            confidence = judged[better].score - judged[worse].score
            if confidence > 0:
                weight = np.float32(confidence**kind.b * kind.c)
                scores = scores + weight * (similar[better] - similar[worse])
    return scores


def _sum(columns: Sequence[FloatVector], rows: Rows) -> FloatVector:
    return sum(columns, start=np.zeros(len(rows), dtype=np.float32))


def _max(columns: Sequence[FloatVector], rows: Rows) -> FloatVector:
    if not columns:
        return np.full(len(rows), np.finfo(np.float32).min, dtype=np.float32)
    highest: FloatVector = np.maximum.reduce(columns)
    return highest


def _sigmoid(x: FloatVector) -> FloatVector:
    """x / (1 + |x|), Qdrant's fast sigmoid."""
    return np.asarray(x / (1 + np.abs(x)), dtype=np.float32)


def _scaled_sigmoid(x: FloatVector) -> FloatVector:
    """The fast sigmoid scaled to 0..1."""
    return np.asarray(0.5 * (_sigmoid(x) + 1), dtype=np.float32)


def _average_target(kind: Recommend) -> Vector:
    """The mean of the positives, moved away from the mean of the negatives."""
    if not kind.positive:
        raise BadRequest("At least one positive vector ID required with this strategy")
    positive = [_vector(example) for example in kind.positive]
    negative = [_vector(example) for example in kind.negative]
    if isinstance(positive[0], SparseVector):
        return _average_sparse(positive, negative)
    arrays = [vector for vector in positive + negative if not isinstance(vector, SparseVector)]
    if len(arrays) < len(positive) + len(negative) or len({a.shape[-1] for a in arrays}) > 1:
        raise WrongInput("Recommendation examples must be vectors of one kind and dimension")
    if any(array.ndim == 2 for array in arrays):
        signs = [1] * len(positive) + [-1] * len(negative)
        return np.concatenate(
            [sign * np.atleast_2d(array) for sign, array in zip(signs, arrays, strict=True)]
        )
    likes, dislikes = np.stack(arrays[: len(positive)]), arrays[len(positive) :]
    target: FloatVector = likes.mean(axis=0)
    if dislikes:
        target = 2 * target - np.stack(dislikes).mean(axis=0)
    return target


def _average_sparse(positive: Sequence[Vector], negative: Sequence[Vector]) -> SparseVector:
    factors = [(vector, 1 / len(positive)) for vector in positive]
    if negative:
        factors = [(vector, 2 * factor) for vector, factor in factors]
        factors += [(vector, -1 / len(negative)) for vector in negative]
    weights: dict[int, float] = {}
    for vector, factor in factors:
        if not isinstance(vector, SparseVector):
            raise WrongInput("Conversion between sparse and regular vectors failed")
        for dimension, value in zip(vector.indices.tolist(), vector.values.tolist(), strict=True):
            weights[dimension] = weights.get(dimension, 0.0) + factor * value
    dimensions = sorted(weights)
    return SparseVector(
        np.array(dimensions, dtype=np.uint32),
        np.array([weights[dimension] for dimension in dimensions], dtype=np.float32),
    )


def _vector(example: VectorInput) -> Vector:
    assert not isinstance(example, (int, UUID)), "ids are resolved before scoring"
    return example
