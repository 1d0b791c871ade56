"""How long does a call take, on a machine that others use too?

Both engines are asked in turn, a block of calls each, so that whatever slows the machine
slows both. Of a block the median counts, of the blocks the fastest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

BLOCKS = 4


class Timed(NamedTuple):
    """What one engine showed.

    Attributes:
        seconds: of a call.
        answers: of the calls, each once.
    """

    seconds: float
    answers: list[Any]


def alternate(
    asks: Sequence[Callable[..., Any]],
    asked: Sequence[Sequence[tuple[Any, ...]]],
    blocks: int = BLOCKS,
) -> list[Timed]:
    """Time several engines, in turn.

    Args:
        asks: for each engine, what is called.
        asked: for each engine, the arguments of its calls; the first one only warms. With
            each block other ones are called, so that none is answered from a cache.
        blocks: how many parts the calls are done in.
    """
    medians: list[list[float]] = [[] for _ in asks]
    answers: list[list[Any]] = [[] for _ in asks]
    for ask, arguments in zip(asks, asked, strict=True):
        ask(*arguments[0])
    for block in range(blocks):
        for number, ask in enumerate(asks):
            seconds = []
            for arguments in asked[number][1 + block :: blocks]:
                started = time.perf_counter()
                answer = ask(*arguments)
                seconds.append(time.perf_counter() - started)
                answers[number].append(answer)
            if seconds:
                medians[number].append(float(np.median(seconds)))
    return [Timed(min(of_side), found) for of_side, found in zip(medians, answers, strict=True)]


def in_block_order(items: Sequence[Any], blocks: int = BLOCKS) -> list[Any]:
    """The items in the order in which `alternate` asks them, without the first."""
    return [item for block in range(blocks) for item in items[1 + block :: blocks]]


def seconds_of(work: Callable[[], object]) -> float:
    """How long something takes that can only be done once."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
