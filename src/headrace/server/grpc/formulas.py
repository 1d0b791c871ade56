"""How does a `Formula` message become a formula?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from qdrant_client import grpc as qdrant

from headrace.model.errors import MalformedInput
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
from headrace.model.queries import Formula
from headrace.server.errors import not_supported
from headrace.server.grpc.datetimes import read_datetime_text_micros
from headrace.server.grpc.filters import read_condition, read_geo
from headrace.server.grpc.payload import read_object
from headrace.server.grpc.rules import broken_rule, canonical_path

_SCORE = re.compile(r"\$score(?:\[([0-9]{1,9})\])?")


def read_formula(message: qdrant.Formula) -> Formula:
    """A formula and its defaults.

    Raises:
        MalformedInput: a part of it is missing or no such thing.
        InvalidBody: a value in it breaks a rule.
        BadRequest: a function is not supported.
    """
    return Formula(_read_expression(message.expression), _read_defaults(message.defaults))


def _read_expression(message: qdrant.Expression) -> Expression:
    variant = message.WhichOneof("variant")
    if variant is None:
        raise MalformedInput("Malformed Expression type")
    if variant not in _EXPRESSIONS:
        raise not_supported(f"`{variant}` in a formula")
    return _EXPRESSIONS[variant](getattr(message, variant))


def _read_all(messages: Iterable[qdrant.Expression]) -> tuple[Expression, ...]:
    return tuple(_read_expression(message) for message in messages)


def _read_variable(text: str) -> Expression:
    """A prefetch's score (`$score`, `$score[1]`), else a payload path."""
    if not text.startswith("$"):
        return PayloadVariable(canonical_path(text))
    score = _SCORE.fullmatch(text)
    if score is None:
        raise MalformedInput(f"Invalid reserved variable: {text}")
    return ScoreVariable(int(score.group(1) or 0))


def _read_defaults(messages: Mapping[str, qdrant.Value]) -> dict[str, Any]:
    """Values by variable, named in canonical form; a score's default must be a number."""
    defaults: dict[str, Any] = {}
    for name, value in read_object(messages).items():
        variable = _read_variable(name)
        if isinstance(variable, PayloadVariable):
            defaults[variable.key] = value
        elif type(value) in (int, float):
            defaults[name] = value
        else:
            raise broken_rule(
                "formula.defaults", "Validation error: Score default must be a number [{}]"
            )
    return defaults


def _read_unary(function: UnaryFunction) -> Callable[[qdrant.Expression], Expression]:
    return lambda message: Unary(function, _read_expression(message))


def _read_div(message: qdrant.DivExpression) -> Expression:
    return Div(
        _read_expression(message.left),
        _read_expression(message.right),
        message.by_zero_default if message.HasField("by_zero_default") else None,
    )


def _read_decay(kind: DecayKind) -> Callable[[qdrant.DecayParamsExpression], Expression]:
    def read(message: qdrant.DecayParamsExpression) -> Expression:
        return Decay(
            kind,
            x=_read_expression(message.x),
            target=_read_expression(message.target) if message.HasField("target") else None,
            scale=message.scale if message.HasField("scale") else 1.0,
            midpoint=message.midpoint if message.HasField("midpoint") else 0.5,
        )

    return read


_EXPRESSIONS: dict[str, Callable[[Any], Expression]] = {
    "constant": Constant,
    "variable": _read_variable,
    "condition": lambda message: ConditionValue(read_condition(message)),
    "geo_distance": lambda message: GeoDistance(
        read_geo(message.origin), canonical_path(message.to)
    ),
    "datetime": lambda text: Datetime(read_datetime_text_micros(text)),
    "datetime_key": lambda path: DatetimeKey(canonical_path(path)),
    "mult": lambda message: Mult(_read_all(message.mult)),
    "sum": lambda message: Sum(_read_all(message.sum)),
    "div": _read_div,
    "pow": lambda message: Pow(_read_expression(message.base), _read_expression(message.exponent)),
    **{function.value: _read_unary(function) for function in UnaryFunction},
    **{kind.value: _read_decay(kind) for kind in DecayKind},
}
