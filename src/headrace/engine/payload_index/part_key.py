"""What is a part of a payload index called?

A part holds, for the rows of one run, the values of one kind at one payload path. Inside
arrays of objects the paths count from the elements: then `space` names the array.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

# The paths of the arrays that lead to the elements a part is about; () are the points.
Space = tuple[str, ...]

POINTS: Space = ()


class PartKind(StrEnum):
    """What a part holds of the values at its path."""

    SHAPES = "shapes"  # which kinds of values a row has: for is_empty, is_null, except
    COUNTS = "counts"  # how many values: for values_count
    STRINGS = "strings"
    INTEGERS = "integers"  # JSON integers of 64 bits, exact
    WHOLE_NUMBERS = "whole_numbers"  # what an integer index holds: integral floats too
    FLOATS = "floats"  # all numbers, as float64
    BOOLS = "bools"
    DATETIMES = "datetimes"  # strings that are datetimes, in microseconds
    UUIDS = "uuids"  # strings that are UUIDs, in canonical spelling
    PLACES = "places"
    TEXT = "text"  # the tokens of strings; `params` say which tokens
    ELEMENTS = "elements"  # the objects in the array at the path

    # That of the string, in C; an enum's own is a call of Python, and every filter asks.
    __hash__ = str.__hash__


class PartKey(NamedTuple):
    """The name of a part.

    Attributes:
        path: of the values, counted from `space`.
        params: of a text index, as JSON.
    """

    space: Space
    path: str
    kind: PartKind
    params: bytes = b""

    @property
    def inner_space(self) -> Space:
        """The space of the elements that a part of kind `ELEMENTS` holds."""
        return (*self.space, self.path)


def elements_keys(space: Space) -> list[PartKey]:
    """The parts that lead from the points to a space, outermost first."""
    return [PartKey(space[:depth], path, PartKind.ELEMENTS) for depth, path in enumerate(space)]
