"""How much memory may columns take that no payload index demands?

One bound for all collections of an engine. When a new column goes beyond it, those that
were not used for longest make room, whichever collection they are of. What the filter in
hand needs stays, however large it is.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import NamedTuple, Protocol
from weakref import WeakSet

from headrace.engine.payload_index.part_key import PartKey

TRANSIENT_BYTES_MAX = 256 * 2**20


class TransientColumn(NamedTuple):
    """A part that no payload index demands.

    Attributes:
        used_at: when it was used last, by the monotonic clock.
        nbytes: of memory, in all runs of its payload index.
    """

    key: PartKey
    used_at: float
    nbytes: int


class ColumnOwner(Protocol):
    """Who has transient columns: the payload index of one segment."""

    def transient_columns(self) -> list[TransientColumn]:
        """All that it has."""

    def forget(self, keys: set[PartKey]) -> None:
        """Give up some of them."""


class TransientMemory:
    """The bound, and all who must keep it; thread-safe.

    Args:
        bytes_max: what all transient columns may take together.
    """

    def __init__(self, bytes_max: int = TRANSIENT_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._owners: WeakSet[ColumnOwner] = WeakSet()
        self._lock = threading.Lock()

    def add(self, owner: ColumnOwner) -> None:
        """Count the columns of another owner, for as long as there is one."""
        with self._lock:
            self._owners.add(owner)

    @property
    def nbytes(self) -> int:
        """What all transient columns take, in bytes."""
        return sum(column.nbytes for _, column in self._columns())

    def keep_within_bound(self, asking: ColumnOwner, needed: Collection[PartKey]) -> None:
        """Have columns given up until the bound is kept, those first that were unused longest.

        Args:
            asking: whose filter is in hand.
            needed: its columns that stay.
        """
        columns = self._columns()
        excess = sum(column.nbytes for _, column in columns) - self._bytes_max
        for owner, column in sorted(columns, key=lambda one: one[1].used_at):
            if excess <= 0:
                return
            if owner is not asking or column.key not in needed:
                owner.forget({column.key})
                excess -= column.nbytes

    def _columns(self) -> list[tuple[ColumnOwner, TransientColumn]]:
        with self._lock:
            owners = list(self._owners)
        return [(owner, column) for owner in owners for column in owner.transient_columns()]
