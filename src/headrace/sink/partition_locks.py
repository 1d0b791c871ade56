"""How do tasks of one process keep each other from writing at the same time?"""

from __future__ import annotations

import threading
from collections.abc import Collection
from contextlib import AbstractContextManager, ExitStack

from headrace.model.operations import SourcePartition


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


def guard_of(collection_name: str) -> SourcePartition:
    """What stands for a whole collection among partitions to be held; no topic has it."""
    return SourcePartition("", collection_name, -1)
