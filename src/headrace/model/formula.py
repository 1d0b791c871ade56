"""What is a scoring formula?

A tree of frozen structs over numbers: constants, payload values, prefetch scores,
conditions (1 or 0), distances on the globe, datetimes (seconds) and arithmetic.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from headrace.model.filters import Condition, Geo


class Constant(msgspec.Struct, frozen=True, tag="constant"):
    """A number."""

    value: float


class PayloadVariable(msgspec.Struct, frozen=True, tag="payload"):
    """The number at a payload path."""

    key: str


class ScoreVariable(msgspec.Struct, frozen=True, tag="score"):
    """The score of the point in one prefetch, counted from 0."""

    prefetch: int


class ConditionValue(msgspec.Struct, frozen=True, tag="condition"):
    """1 if the condition holds for the point, else 0."""

    condition: Condition


class GeoDistance(msgspec.Struct, frozen=True, tag="geo_distance"):
    """Metres from a place to the place at a payload path."""

    origin: Geo
    to: str


class Datetime(msgspec.Struct, frozen=True, tag="datetime"):
    """A datetime constant, in microseconds since 1970-01-01 UTC; its value is in seconds."""

    micros: int


class DatetimeKey(msgspec.Struct, frozen=True, tag="datetime_key"):
    """The datetime at a payload path; its value is in seconds."""

    key: str


class Mult(msgspec.Struct, frozen=True, tag="mult"):
    """Product; 0 as soon as a factor is 0."""

    factors: tuple[Expression, ...]


class Sum(msgspec.Struct, frozen=True, tag="sum"):
    """Sum."""

    terms: tuple[Expression, ...]


class UnaryFunction(StrEnum):
    """Functions of one number."""

    NEG = "neg"
    ABS = "abs"
    SQRT = "sqrt"
    EXP = "exp"
    LOG10 = "log10"
    LN = "ln"


class Unary(msgspec.Struct, frozen=True, tag="unary"):
    """A function of one number."""

    function: UnaryFunction
    operand: Expression


class Div(msgspec.Struct, frozen=True, tag="div"):
    """Quotient; 0 if the left is 0, `by_zero_default` if the right is."""

    left: Expression
    right: Expression
    by_zero_default: float | None = None


class Pow(msgspec.Struct, frozen=True, tag="pow"):
    """Power."""

    base: Expression
    exponent: Expression


class DecayKind(StrEnum):
    """The shape of a decay."""

    LIN = "lin_decay"
    EXP = "exp_decay"
    GAUSS = "gauss_decay"


class Decay(msgspec.Struct, frozen=True, tag="decay"):
    """1 at the target, `midpoint` at a distance of `scale` from it."""

    kind: DecayKind
    x: Expression
    target: Expression | None = None
    scale: float = 1.0
    midpoint: float = 0.5


Expression = (
    Constant
    | PayloadVariable
    | ScoreVariable
    | ConditionValue
    | GeoDistance
    | Datetime
    | DatetimeKey
    | Mult
    | Sum
    | Unary
    | Div
    | Pow
    | Decay
)
