"""How do tasks of one process keep each other from writing at the same time?"""

from __future__ import annotations

import threading
from collections.abc import Collection
from contextlib import AbstractContextManager, ExitStack
from typing import Final

from headrace.model.ids import PointId
from headrace.model.operations import SourcePartition

# Many times what a connector has lanes, so that they hold different ones.
_STRIPES: Final = 64


class PartitionLocks:
    """A lock for each partition, made when it is first held; thread-safe."""

    def __init__(self) -> None:
        self._locks: dict[SourcePartition, threading.Lock] = {}
        self._locks_lock = threading.Lock()

    def hold(self, partitions: Collection[SourcePartition]) -> AbstractContextManager[object]:
        """Wait for all of these, always in one order, and hold them."""
        stack = ExitStack()
        with self._locks_lock:
            locks = [
                self._locks.setdefault(partition, threading.Lock())
                for partition in sorted(
                    partitions, key=lambda one: (one.partition, one.stream, one.source)
                )
            ]
        for lock in locks:
            stack.enter_context(lock)
        return stack


def stripe_of(collection_name: str, point_id: PointId) -> int:
    """One of a few numbers that a point keeps for the life of this process."""
    return hash((collection_name, point_id)) % _STRIPES


def guard_of(collection_name: str, stripe: int) -> SourcePartition:
    """What stands for the points of a stripe among partitions to be held; no topic has it."""
    return SourcePartition("", collection_name, -1 - stripe)
