"""How is a formula's score computed for a point?

In float64, one point at a time over the few that the prefetches found; the result is
float32. The rules (what counts as zero, which value is missing, which result is refused)
are Qdrant's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import orjson

from headrace.engine.filter.evaluate import matches
from headrace.engine.filter.geo import geo_of, haversine_m
from headrace.engine.payload.paths import JsonValue, values_at
from headrace.engine.query.points import RowPoint
from headrace.engine.query.ranked import Ranked, best_first, union_rows
from headrace.engine.segment.segment import View
from headrace.model.datetimes import parse_datetime_micros
from headrace.model.errors import WrongInput
from headrace.model.filters import Filter
from headrace.model.formula import (
    ConditionValue,
    Constant,
    Datetime,
    DatetimeKey,
    Decay,
    DecayKind,
    Div,
    Expression,
    GeoDistance,
    Mult,
    PayloadVariable,
    Pow,
    ScoreVariable,
    Sum,
    Unary,
    UnaryFunction,
)
from headrace.model.payload_path import parse_payload_path
from headrace.model.queries import Formula

_MICROS_PER_SECOND = 1e6


def score_by_formula(view: View, formula: Formula, sources: Sequence[Ranked]) -> Ranked:
    """All points of the sources, scored by the formula, largest first.

    Raises:
        WrongInput: a value is missing, of the wrong type, or a result is not finite.
    """
    rows = union_rows(list(sources))
    prefetch_scores = [
        dict(zip(source.rows.tolist(), source.scores.tolist(), strict=True)) for source in sources
    ]
    scores = np.empty(len(rows), dtype=np.float32)
    for place, row in enumerate(rows.tolist()):
        own = [by_row.get(row) for by_row in prefetch_scores]
        value = _Evaluation(view, row, own, formula.defaults).value(formula.expression)
        scores[place] = value
    return best_first(rows, scores, len(rows))


class _Evaluation:
    """The formula's values for one point."""

    def __init__(
        self, view: View, row: int, scores: Sequence[float | None], defaults: Mapping[str, Any]
    ) -> None:
        self._view = view
        self._row = row
        self._scores = scores
        self._defaults = defaults

    @cached_property
    def _payload(self) -> dict[str, Any]:
        payload: dict[str, Any] = orjson.loads(self._view.payload(self._row))
        return payload

    def value(self, expression: Expression) -> float:
        """The expression's value; raises WrongInput."""
        match expression:
            case Constant(value):
                return value
            case PayloadVariable(key):
                return self._number(key)
            case ScoreVariable(prefetch):
                return self._score(prefetch)
            case ConditionValue(condition):
                point = RowPoint(self._view, self._row)
                return float(matches(Filter(must=(condition,)), point, self._view.schema))
            case GeoDistance(origin, to):
                place = geo_of(self._one_value(to, "geo point"))
                if place is None:
                    raise _unexpected("geo point", to, "is not a geo point")
                return haversine_m(origin, place)
            case Datetime(micros):
                return micros / _MICROS_PER_SECOND
            case DatetimeKey(key):
                return self._seconds(key)
            case Mult(factors):
                return self._product(factors)
            case Sum(terms):
                return sum(self.value(term) for term in terms)
            case Unary(function, operand):
                return _unary(function, self.value(operand))
            case Div():
                return self._quotient(expression)
            case Pow(base, exponent):
                return _power(self.value(base), self.value(exponent))
            case Decay():
                return self._decay(expression)

    def _number(self, key: str) -> float:
        value = self._one_value(key, "number")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _unexpected("number", key, "is not a number")
        return float(value)

    def _seconds(self, key: str) -> float:
        value = self._one_value(key, "datetime")
        micros = parse_datetime_micros(value) if isinstance(value, str) else None
        if micros is None:
            raise _unexpected("datetime", key, "is not a datetime")
        return micros / _MICROS_PER_SECOND

    def _score(self, prefetch: int) -> float:
        score = self._scores[prefetch] if prefetch < len(self._scores) else None
        if score is not None:
            return score
        names = [f"$score[{prefetch}]"] + (["$score"] if prefetch == 0 else [])
        for name in names:
            if name in self._defaults:
                return float(self._defaults[name])
        return 0.0

    def _one_value(self, key: str, kind: str) -> JsonValue:
        """The payload's value at a path, or the default: a list of one counts as its element."""
        values: list[JsonValue] = [
            v for v in values_at(self._payload, parse_payload_path(key)) if v is not None
        ]
        if len(values) == 1 and isinstance(values[0], list):
            values = [v for v in values[0] if v is not None]
        if len(values) == 1:
            return values[0]
        if not values and key in self._defaults:
            default: JsonValue = self._defaults[key]
            return default
        raise _unexpected(kind, key, "has no value" if not values else "has several values")

    def _product(self, factors: Sequence[Expression]) -> float:
        product = 1.0
        for factor in factors:
            value = self.value(factor)
            if value == 0:
                return 0.0
            product *= value
        return product

    def _quotient(self, division: Div) -> float:
        left = self.value(division.left)
        if left == 0:
            return 0.0
        right = self.value(division.right)
        if right != 0:
            return _finite(left / right, f"{left} / {right}")
        if division.by_zero_default is None:
            raise _not_finite(f"{left} / {right}")
        return division.by_zero_default

    def _decay(self, decay: Decay) -> float:
        target = 0.0 if decay.target is None else self.value(decay.target)
        difference = abs(self.value(decay.x) - target)
        match decay.kind:
            case DecayKind.LIN:
                return max(0.0, 1 - (1 - decay.midpoint) / decay.scale * difference)
            case DecayKind.EXP:
                return math.exp(math.log(decay.midpoint) / decay.scale * difference)
            case DecayKind.GAUSS:
                return math.exp(math.log(decay.midpoint) / decay.scale**2 * difference**2)


def _unary(function: UnaryFunction, x: float) -> float:
    shown = f"{function.value}({x})"
    try:
        match function:
            case UnaryFunction.NEG:
                return -x
            case UnaryFunction.ABS:
                return abs(x)
            case UnaryFunction.SQRT:
                return math.sqrt(x)
            case UnaryFunction.EXP:
                return math.exp(x)
            case UnaryFunction.LOG10:
                return math.log10(x)
            case UnaryFunction.LN:
                return math.log(x)
    except (ValueError, OverflowError):
        raise _not_finite(shown) from None


def _power(base: float, exponent: float) -> float:
    try:
        value = math.pow(base, exponent)
    except (ValueError, OverflowError):
        raise _not_finite(f"{base} ^ {exponent}") from None
    return value


def _finite(value: float, shown: str) -> float:
    if not math.isfinite(value):
        raise _not_finite(shown)
    return value


def _not_finite(shown: str) -> WrongInput:
    return WrongInput(f"The expression {shown} produced a non-finite number")


def _unexpected(kind: str, key: str, reason: str) -> WrongInput:
    return WrongInput(
        f"Expected {kind} value for {key} in the payload and/or in the formula defaults. "
        f"Error: {key} {reason}"
    )
