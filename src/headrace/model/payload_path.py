"""How does a payload path such as `a.b[].c` name values inside a payload?

Grammar (Qdrant's): `first(.key | [N] | [])*`, where a key is letters, digits, `_` and
`-`, or any text in double quotes. `a.0` is the object key "0", not an array index.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import regex

from headrace.model.errors import MalformedInput

# Letters as Qdrant counts them, vowel signs of Indic scripts among them; `\w` of the
# standard library's `re` leaves those out.
_PLAIN_KEY = regex.compile(r"[\p{Alphabetic}\p{N}_-]+")
_QUOTED_KEY = r'"[^"\\]*"'
_KEY = regex.compile(rf"{_PLAIN_KEY.pattern}|{_QUOTED_KEY}")
_STEP = regex.compile(rf"\.({_KEY.pattern})|\[([0-9]*)\]")
_POSITION_MAX = 2**64 - 1
_POSITION_DIGITS_MAX = len(str(_POSITION_MAX))


@dataclass(frozen=True, slots=True)
class Key:
    """Descend into an object by key."""

    name: str


@dataclass(frozen=True, slots=True)
class ArrayElement:
    """Descend into one element of an array."""

    position: int


@dataclass(frozen=True, slots=True)
class EachElement:
    """Descend into every element of an array."""


PathStep = Key | ArrayElement | EachElement


@dataclass(frozen=True, slots=True)
class PayloadPath:
    """A parsed path; `str()` gives its canonical text, as `payload_schema` shows it."""

    steps: tuple[PathStep, ...]

    def __str__(self) -> str:
        text = ""
        for step in self.steps:
            match step:
                case Key(name):
                    shown = name if _PLAIN_KEY.fullmatch(name) else f'"{name}"'
                    text += f".{shown}" if text else shown
                case ArrayElement(position):
                    text += f"[{position}]"
                case EachElement():
                    text += "[]"
        return text

    def each_element(self) -> PayloadPath:
        """This path with `[]` at its end, as a nested condition reads it."""
        if self.steps[-1] == EachElement():
            return self
        return PayloadPath((*self.steps, EachElement()))


@lru_cache(maxsize=4096)
def parse_payload_path(text: str) -> PayloadPath:
    """Parse a payload path.

    Raises:
        MalformedInput: `text` is not a path, with Qdrant's text.
    """
    first = _KEY.match(text)
    if first is None:
        raise MalformedInput(f"Invalid json path: '{text}'")
    steps: list[PathStep] = [Key(first.group().strip('"'))]
    end = first.end()
    while end < len(text):
        step = _STEP.match(text, end)
        if step is None:
            raise MalformedInput(f"Invalid json path: '{text}'")
        key, position = step.groups()
        if key is not None:
            steps.append(Key(key.strip('"')))
        elif position:
            steps.append(ArrayElement(_parse_position(position, text)))
        else:
            steps.append(EachElement())
        end = step.end()
    return PayloadPath(tuple(steps))


def _parse_position(digits: str, text: str) -> int:
    significant = digits.lstrip("0") or "0"
    if len(significant) > _POSITION_DIGITS_MAX or int(significant) > _POSITION_MAX:
        raise MalformedInput(f"Invalid json path: '{text}'")
    return int(significant)
