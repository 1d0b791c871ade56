"""How is a formula's score computed for a point?

In float64, one point at a time over the few that the prefetches found; the result is
float32. The rules (what counts as zero, which value is missing, which result is refused)
and the words of the refusals are Qdrant's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import orjson

from headrace.engine.filter.evaluate import matches
from headrace.engine.filter.geo import geo_of, haversine_m, is_on_earth
from headrace.engine.filter.indexed import indexed_value
from headrace.engine.payload.paths import JsonValue, leaf_values, values_at
from headrace.engine.query.points import RowPoint
from headrace.engine.query.ranked import Ranked, best_first, union_rows
from headrace.engine.segment.segment import View
from headrace.model.collection_config import PayloadFieldSchema, PayloadFieldType
from headrace.model.datetimes import parse_datetime_micros
from headrace.model.errors import WrongInput
from headrace.model.filters import Filter, Geo
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
from headrace.model.payload_path import EachElement, parse_payload_path
from headrace.model.queries import Formula

_MICROS_PER_SECOND = 1e6

_UNARY: dict[UnaryFunction, Callable[[float], float]] = {
    UnaryFunction.NEG: lambda x: -x,
    UnaryFunction.ABS: abs,
    UnaryFunction.SQRT: np.sqrt,
    UnaryFunction.EXP: np.exp,
    UnaryFunction.LOG10: np.log10,
    UnaryFunction.LN: np.log,
}


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
    with np.errstate(all="ignore"):  # what is not finite is refused by name
        for place, row in enumerate(rows.tolist()):
            own = [by_row.get(row) for by_row in prefetch_scores]
            value = _Evaluation(view, row, own, formula.defaults).value(formula.expression)
            scores[place] = value
            _finite(float(scores[place]), f"{_shown(value)} as f32")
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
                return haversine_m(origin, self._place(to))
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
            raise _unexpected("number", key, "Value is not a number")
        return float(value)

    def _seconds(self, key: str) -> float:
        value = self._one_value(key, "datetime")
        if not isinstance(value, str):
            raise _unexpected("datetime", key, "Value is not a string")
        micros = parse_datetime_micros(value)
        if micros is None:
            raise _unexpected("datetime", key, "input contains invalid characters")
        return micros / _MICROS_PER_SECOND

    def _place(self, key: str) -> Geo:
        value = self._one_value(key, "geo point")
        if isinstance(value, list) and len(value) == 2:  # Qdrant's reader takes that here
            value = {"lon": value[0], "lat": value[1]}
        place = geo_of(value)
        if place is None or not is_on_earth(place):
            raise _unexpected("geo point", key, "Value is not a geo point")
        return place

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
        """The payload's value at a path, or else the default; several are an array."""
        values = self._values(key)
        if len(values) == 1:
            return values[0]
        if values:
            return values
        if key not in self._defaults:
            raise _unexpected(kind, key, "No value found in a payload nor defaults")
        default: JsonValue = self._defaults[key]
        return default

    def _values(self, key: str) -> list[JsonValue]:
        """The values at a path: those that its payload index holds, if it has one."""
        path = parse_payload_path(key)
        values = values_at(self._payload, path)
        schema = self._view.schema.get(str(path))
        if schema is None or schema.data_type is PayloadFieldType.TEXT:
            is_open = isinstance(path.steps[-1], EachElement)
            return list(values if is_open else leaf_values(values))
        held = [(indexed_value(leaf, schema.data_type), leaf) for leaf in leaf_values(values)]
        held = [(value, leaf) for value, leaf in held if value is not None]
        return list(dict(held).values()) if _holds_once(schema) else [leaf for _, leaf in held]

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
        if right == 0 and division.by_zero_default is not None:
            return division.by_zero_default
        return _finite(np.divide(left, right), f"{_shown(left)}/{_shown(right)}")

    def _decay(self, decay: Decay) -> float:
        target = 0.0 if decay.target is None else self.value(decay.target)
        difference = abs(self.value(decay.x) - target)
        match decay.kind:
            case DecayKind.LIN:
                return max(0.0, 1 - (1 - decay.midpoint) / decay.scale * difference)
            case DecayKind.EXP:
                return math.exp(math.log(decay.midpoint) / decay.scale * difference)
            case DecayKind.GAUSS:
                rate = math.log(decay.midpoint) / decay.scale**2
                return math.exp(rate * difference * difference)


def _holds_once(schema: PayloadFieldSchema) -> bool:
    """Whether an index holds a value that a point has twice once: those for equality do."""
    match schema.data_type:
        case PayloadFieldType.INTEGER:
            return (schema.params or {}).get("lookup") is not False
        case PayloadFieldType.KEYWORD | PayloadFieldType.UUID:
            return True
    return False


def _unary(function: UnaryFunction, x: float) -> float:
    value = _UNARY[function](x)
    if function in (UnaryFunction.NEG, UnaryFunction.ABS):
        return value
    name = "√{}" if function is UnaryFunction.SQRT else f"{function.value}({{}})"
    return _finite(value, name.format(_shown(x)))


def _power(base: float, exponent: float) -> float:
    return _finite(np.power(float(base), float(exponent)), f"{_shown(base)}^{_shown(exponent)}")


def _finite(value: float, expression: str) -> float:
    if not math.isfinite(value):
        raise WrongInput(
            f"The expression {expression} = {_shown(value)} produced a non-finite number"
        )
    return float(value)


def _shown(value: float) -> str:
    """A number as Qdrant's texts show it: all digits, and none that are not needed."""
    if math.isnan(value):
        return "NaN"
    return np.format_float_positional(value, trim="-")


def _unexpected(kind: str, key: str, reason: str) -> WrongInput:
    return WrongInput(
        f"Expected {kind} value for {key} in the payload and/or in the formula defaults. "
        f"Error: {reason}"
    )
