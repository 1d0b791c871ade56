"""Which queries contradict themselves, whatever the collection and the protocol?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from headrace.model.errors import BadRequest, InvalidVector
from headrace.model.formula import Decay, Div, Expression, Mult, Pow, Sum, Unary
from headrace.model.queries import DbsfFusion, Formula, Nearest, OrderBy, Prefetch, Query, RrfFusion
from headrace.model.vectors import DEFAULT_VECTOR_NAME, SparseVector, Vector

# Qdrant's bound on prefetches within prefetches.
PREFETCH_DEPTH_MAX = 64


def check_query(query: Query) -> None:
    """Refuse a query whose parts do not go together.

    Raises:
        BadRequest: they do not.
    """
    if type(query.query) is Nearest and not query.prefetch:
        return  # as nearly always; nothing of it is forbidden
    _check_stage(query, 0)


def check_finite(vector: Vector) -> Vector:
    """The vector of a query, which may hold neither NaN nor infinity.

    Raises:
        InvalidVector: it does.
    """
    values = vector.values if isinstance(vector, SparseVector) else vector.reshape(-1)
    finite = np.isfinite(values)
    if 0 in finite.tobytes():  # of a short vector a third of the time of `all`
        element = int(np.flatnonzero(~finite)[0])
        raise InvalidVector(f"Vector element {element} is not finite in float32: {values[element]}")
    return vector


def _check_stage(stage: Query | Prefetch, depth: int) -> None:
    if depth > PREFETCH_DEPTH_MAX:
        raise BadRequest(f"prefetches are nested more than {PREFETCH_DEPTH_MAX} levels deep")
    kind = stage.query
    if stage.score_threshold is not None:
        if kind is None:
            raise BadRequest(
                "A query is needed to use the score_threshold. "
                "Can't have score_threshold without defining a query."
            )
        if isinstance(kind, OrderBy):
            raise BadRequest("Can't use score_threshold with an order_by query.")
    if isinstance(kind, (RrfFusion, DbsfFusion)) and stage.using != DEFAULT_VECTOR_NAME:
        raise BadRequest("Fusion queries cannot be combined with the 'using' field.")
    if isinstance(kind, Formula):
        for decay in _decays(kind.expression):
            _check_decay(decay)
    for prefetch in stage.prefetch:
        _check_stage(prefetch, depth + 1)


def _check_decay(decay: Decay) -> None:
    if not decay.scale > 0.0:
        raise BadRequest(f"`{decay.kind}.scale` must be larger than 0, got {decay.scale}")
    if not 0.0 < decay.midpoint < 1.0:
        raise BadRequest(f"`{decay.kind}.midpoint` must be between 0 and 1, got {decay.midpoint}")


def _decays(expression: Expression) -> Iterator[Decay]:
    """Every decay within an expression."""
    waiting: list[Expression] = [expression]
    while waiting:
        match waiting.pop():
            case Decay(x=x, target=target) as decay:
                yield decay
                waiting += [x] if target is None else [x, target]
            case Mult(factors):
                waiting += factors
            case Sum(terms):
                waiting += terms
            case Unary(operand=operand):
                waiting.append(operand)
            case Div(left=left, right=right):
                waiting += [left, right]
            case Pow(base=base, exponent=exponent):
                waiting += [base, exponent]
            case _:
                pass
