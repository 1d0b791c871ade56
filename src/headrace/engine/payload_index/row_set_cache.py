"""Which filters were answered for a view lately?"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

from headrace.engine.vectors.row_set import RowSet
from headrace.model.vectors import Rows

BYTES_MAX = 16 * 2**20

# Of sets with so few rows only the rows are kept, and not when they were asked for: at most so
# many of them, under keys that are no longer, which take another 20 MiB.
_FEW_ROWS_MAX = 256
_FEW_SETS_MAX = 8192
_FEW_KEY_BYTES_MAX = 512


class RowSetCache:
    """The answers that were asked for last, within a bound of memory; thread-safe.

    A key is bytes, which may be many, as a filter may name any number of ids; or a tuple that
    is small.

    Args:
        bytes_max: how much memory the sets of more than a few rows may take, and long keys.
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
        is_short = _bytes_of(key) <= _FEW_KEY_BYTES_MAX
        if is_short and rows.count <= _FEW_ROWS_MAX and rows.is_listed:
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
            taken = self._bytes + _room_of(key, rows)
            while taken > bytes_max and len(sets) > 1:
                taken -= _room_of(*sets.popitem(last=False))
            self._bytes = taken


def _bytes_of(key: Hashable) -> int:
    return len(key) if isinstance(key, bytes) else 0


def _room_of(key: Hashable, rows: RowSet) -> int:
    """Bytes of memory, should the set come to exist both as rows and as a mask."""
    return _bytes_of(key) + rows.row_count + 8 * rows.count
