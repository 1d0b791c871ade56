"""Which filters were answered for a view lately?"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

from headrace.engine.vectors.row_set import RowSet
from headrace.model.vectors import Rows

BYTES_MAX = 16 * 2**20

# Of sets with so few rows only the rows are kept, and not when they were asked for: at most so
# many of them, which take another 16 MiB.
_FEW_ROWS_MAX = 256
_FEW_SETS_MAX = 8192


class RowSetCache:
    """The answers that were asked for last, within a bound of memory; thread-safe.

    Args:
        bytes_max: how much memory the sets of more than a few rows may take.
    """

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._few: dict[Hashable, tuple[int, int, Rows]] = {}
        self._sets: OrderedDict[Hashable, RowSet] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> RowSet | None:
        """The set that was put under a key, if it is still there."""
        few = self._few.get(key)
        if few is not None:
            return RowSet(*few)
        found = self._sets.get(key)
        if found is not None:
            with self._lock:
                if key in self._sets:
                    self._sets.move_to_end(key)
        return found

    def put(self, key: Hashable, rows: RowSet) -> None:
        """Keep a set; those that were not asked for longest make room."""
        if rows.count <= _FEW_ROWS_MAX and rows.is_listed:
            few = self._few
            if len(few) >= _FEW_SETS_MAX:
                self._few = few = {}
            # Not the set itself, which might come to exist as a mask.
            few[key] = (rows.row_count, rows.count, rows.rows)
            return
        sets, bytes_max = self._sets, self._bytes_max
        with self._lock:
            if key in sets:
                return
            sets[key] = rows
            # Of each, should it come to exist both as rows and as a mask.
            taken = self._bytes + rows.row_count + 8 * rows.count
            while taken > bytes_max and len(sets) > 1:
                _, gone = sets.popitem(last=False)
                taken -= gone.row_count + 8 * gone.count
            self._bytes = taken
