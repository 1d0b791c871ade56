"""How are the options of a configuration read: those that are known, each by its own rule?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import partial
from typing import Any

from headrace.server.rest.body import Node

ReadValue = Callable[[Node], Any]


class Memory(StrEnum):
    """Where data is held; always on disk too, so it is a hint."""

    COLD = "cold"
    CACHED = "cached"
    PINNED = "pinned"


def read_members(node: Node, readers: Mapping[str, ReadValue]) -> dict[str, Any]:
    """The known members of an object that are set; others are ignored, as in Qdrant.

    Raises:
        FormatError: one has the wrong type.
    """
    return {
        name: read(child) for name, read in readers.items() if (child := node.get(name)) is not None
    }


def read_memory(node: Node) -> str:
    """A memory placement. Raises FormatError."""
    return node.one_of(Memory).value


def at_least(minimum: int) -> ReadValue:
    """A reader of unsigned integers with a least value."""
    return partial(Node.unsigned, minimum=minimum)
