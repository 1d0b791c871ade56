"""How does a JSON formula become an `Expression`?"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

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
from headrace.server.rest.body import FormatError, Node
from headrace.server.rest.filters import read_condition, read_datetime, read_geo

_SCORE = re.compile(r"\$score(?:\[([0-9]{1,9})\])?")


def read_formula(node: Node) -> Formula:
    """`{formula, defaults}`.

    Raises:
        FormatError: a part of it is no expression.
        BadRequest: it has too many conditions.
    """
    defaults = node.get("defaults")
    return Formula(
        _read_expression(node.require("formula")),
        {} if defaults is None else _read_defaults(defaults),
    )


def _read_expression(node: Node) -> Expression:
    if isinstance(node.value, str):
        return _read_variable(node)
    if not isinstance(node.value, dict):
        return Constant(node.number())
    for name, read in _EXPRESSIONS.items():
        if node.has(name):
            return read(node.require(name))
    return ConditionValue(read_condition(node))


def _read_variable(node: Node) -> Expression:
    """A prefetch's score (`$score`, `$score[1]`), else a payload path."""
    text = node.text()
    if not text.startswith("$"):
        return PayloadVariable(node.payload_path())
    score = _SCORE.fullmatch(text)
    if score is None:
        raise node.format_error(f"Invalid reserved variable: {text}")
    return ScoreVariable(int(score.group(1) or 0))


def _read_defaults(node: Node) -> dict[str, Any]:
    """Values by variable, named in canonical form; a score's default must be a number."""
    defaults = {}
    for name, value in node.members().items():
        try:
            variable = _read_variable(Node(name, node.path, node.rules))
        except FormatError as error:
            node.broken(error.reason)
            continue
        if isinstance(variable, PayloadVariable):
            defaults[variable.key] = value
        elif type(value) in (int, float):
            defaults[name] = value
        else:
            node.broken("Validation error: Score default must be a number [{}]")
    return defaults


def _read_all(node: Node) -> tuple[Expression, ...]:
    return tuple(_read_expression(element) for element in node.elements())


def _read_unary(function: UnaryFunction) -> Callable[[Node], Expression]:
    return lambda node: Unary(function, _read_expression(node))


def _read_div(node: Node) -> Expression:
    default = node.get("by_zero_default")
    return Div(
        _read_expression(node.require("left")),
        _read_expression(node.require("right")),
        None if default is None else default.number(),
    )


def _read_decay(kind: DecayKind) -> Callable[[Node], Expression]:
    def read(node: Node) -> Expression:
        target, scale, midpoint = node.get("target"), node.get("scale"), node.get("midpoint")
        return Decay(
            kind,
            x=_read_expression(node.require("x")),
            target=None if target is None else _read_expression(target),
            scale=1.0 if scale is None else scale.number(),
            midpoint=0.5 if midpoint is None else midpoint.number(),
        )

    return read


_EXPRESSIONS: dict[str, Callable[[Node], Expression]] = {
    "geo_distance": lambda node: GeoDistance(
        read_geo(node.require("origin")), node.require("to").payload_path()
    ),
    "datetime": lambda node: Datetime(read_datetime(node)),
    "datetime_key": lambda node: DatetimeKey(node.payload_path()),
    "mult": lambda node: Mult(_read_all(node)),
    "sum": lambda node: Sum(_read_all(node)),
    "div": _read_div,
    "pow": lambda node: Pow(
        _read_expression(node.require("base")), _read_expression(node.require("exponent"))
    ),
    **{function.value: _read_unary(function) for function in UnaryFunction},
    **{kind.value: _read_decay(kind) for kind in DecayKind},
}
