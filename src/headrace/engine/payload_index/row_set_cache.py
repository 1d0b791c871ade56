"""Which filters were answered for a view lately?"""

from __future__ import annotations

import threading
from collections import OrderedDict

from headrace.engine.vectors.row_set import RowSet

BYTES_MAX = 16 * 2**20


class RowSetCache:
    """The answers that were asked for last, within a bound of memory; thread-safe.

    Args:
        bytes_max: how much memory the sets may take.
    """

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._sets: OrderedDict[bytes, RowSet] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes) -> RowSet | None:
        """The set that was put under a key, if it is still there."""
        found = self._sets.get(key)
        if found is not None:
            with self._lock:
                if key in self._sets:
                    self._sets.move_to_end(key)
        return found

    def put(self, key: bytes, rows: RowSet) -> None:
        """Keep a set; those that were not asked for longest make room."""
        sets, bytes_max = self._sets, self._bytes_max
        with self._lock:
            if key in sets:
                return
            sets[key] = rows
            taken = self._bytes + _bytes_of(key, rows)
            while taken > bytes_max and len(sets) > 1:
                taken -= _bytes_of(*sets.popitem(last=False))
            self._bytes = taken


def _bytes_of(key: bytes, rows: RowSet) -> int:
    """Bytes of memory, should the set come to exist both as rows and as a mask."""
    return len(key) + rows.row_count + 8 * rows.count
