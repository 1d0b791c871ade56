"""How do lines become a picture? As a small SVG, written by hand: no library for four plots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT = 640, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 150, 40, 50
_COLOURS = ("#1f6feb", "#d1711a", "#3f8f4f", "#8250df")
_TICKS = 5


class Line(NamedTuple):
    """One line of a plot: its name, and its points in order."""

    name: str
    points: Sequence[tuple[float, float]]


class Axis(NamedTuple):
    """What an axis shows, and whether each step is a factor of ten."""

    label: str
    is_logarithmic: bool = False

    def place(self, value: float) -> float:
        """Where a value lies, before the axis is stretched to the plot."""
        return math.log10(value) if self.is_logarithmic else value


def plot(title: str, across: Axis, up: Axis, lines: Sequence[Line]) -> str:
    """A plot of lines as SVG.

    Args:
        title: above it.
        across, up: the axes.
        lines: at least one with a point; values on logarithmic axes are above 0.
    """
    xs = [across.place(x) for line in lines for x, _ in line.points]
    ys = [up.place(y) for line in lines for _, y in line.points]
    x_span, y_span = _span(xs), _span(ys)

    def place(x: float, y: float) -> tuple[float, float]:
        right = (across.place(x) - x_span[0]) / (x_span[1] - x_span[0])
        above = (up.place(y) - y_span[0]) / (y_span[1] - y_span[0])
        return (
            _LEFT + right * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - above * (_HEIGHT - _TOP - _BOTTOM),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        _text(_LEFT, 22, title, "start", 14),
        _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 10, across.label, "middle"),
        _text(_LEFT, _TOP - 6, up.label, "start"),
    ]
    for tick in range(_TICKS):
        share = tick / (_TICKS - 1)
        x, y = _value(across, x_span, share), _value(up, y_span, share)
        left, bottom = place(x, y)
        parts.append(_rule(left, _TOP, left, _HEIGHT - _BOTTOM))
        parts.append(_rule(_LEFT, bottom, _WIDTH - _RIGHT, bottom))
        parts.append(_text(left, _HEIGHT - _BOTTOM + 16, _number(x), "middle"))
        parts.append(_text(_LEFT - 6, bottom + 4, _number(y), "end"))
    for number, line in enumerate(lines):
        parts += _drawn(line, [place(x, y) for x, y in line.points], number)
    return "\n".join([*parts, "</svg>", ""])


def _drawn(line: Line, places: Sequence[tuple[float, float]], number: int) -> list[str]:
    colour = _COLOURS[number % len(_COLOURS)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    top = _TOP + 10 + 18 * number
    beside = _WIDTH - _RIGHT + 12
    return [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places),
        f'<circle cx="{beside}" cy="{top}" r="4" fill="{colour}"/>',
        _text(beside + 8, top + 4, line.name, "start"),
    ]


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _value(axis: Axis, span: tuple[float, float], share: float) -> float:
    placed = span[0] + share * (span[1] - span[0])
    return float(10**placed) if axis.is_logarithmic else placed


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _text(x: float, y: float, text: str, anchor: str, size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'fill="#24292f">{escape(text)}</text>'
    )


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        'stroke="#d0d7de" stroke-width="1"/>'
    )
