"""What could be done to make a collection's requests faster?

A read that took long and filtered a field without a payload index that serves the condition
is an issue, whose solution is the request that makes such an index. It is one until the
index is there, or until it is cleared.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

import msgspec

from headrace.model.collection_config import PayloadFieldType
from headrace.model.filters import Filter
from headrace.model.queries import Prefetch, Query
from headrace.service.needed_indexes import IndexKind, NeededIndex, Schema, needed_by_filter

# As in Qdrant.
SLOW_READ_S = 1.2

# A client may filter any number of fields.
_KEPT = 1000


class UnindexedField(msgspec.Struct, frozen=True):
    """A field that slow reads filter without an index.

    Attributes:
        needed: the index that would have served.
        seen_at: when it was last seen, in UTC.
    """

    collection_name: str
    needed: NeededIndex
    seen_at: datetime

    def suggested(self) -> list[IndexKind]:
        """The indexes to choose from; the simpler one, where two do the same."""
        return [kind for kind in self.needed.kinds if kind.data_type is not PayloadFieldType.UUID]


class Issues:
    """The issues of one process, the latest ones; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: OrderedDict[tuple[str, str], UnindexedField] = OrderedDict()

    def slow_read(self, collection_name: str, schema: Schema, filters: Iterable[Filter]) -> None:
        """Look at a read that took long.

        Args:
            collection_name: what was read.
            schema: its payload indexes.
            filters: of the read.
        """
        now = datetime.now(UTC)
        for filter in filters:
            for needed in needed_by_filter(filter):
                if not needed.is_there(schema):
                    self._add(UnindexedField(collection_name, needed, now))

    def unsolved(self, schema_of: Callable[[str], Schema | None]) -> list[UnindexedField]:
        """The issues that there are, the latest first.

        Args:
            schema_of: gives the payload indexes of a collection; None if it is gone.
        """
        with self._lock:
            found = list(self._found.items())[::-1]
        kept = []
        for key, issue in found:
            schema = schema_of(issue.collection_name)
            if schema is None or issue.needed.is_there(schema):
                self._forget(key)
            else:
                kept.append(issue)
        return kept

    def clear(self) -> None:
        """Forget all issues."""
        with self._lock:
            self._found.clear()

    def _add(self, issue: UnindexedField) -> None:
        key = (issue.collection_name, issue.needed.payload_path)
        with self._lock:
            self._found.pop(key, None)
            self._found[key] = issue
            if len(self._found) > _KEPT:
                self._found.popitem(last=False)

    def _forget(self, key: tuple[str, str]) -> None:
        with self._lock:
            self._found.pop(key, None)


def filters_of(read: Filter | Query | Prefetch) -> Iterator[Filter]:
    """The filters of a read, those of its prefetches included."""
    if isinstance(read, Filter):
        yield read
        return
    if read.filter is not None:
        yield read.filter
    for prefetch in read.prefetch:
        yield from filters_of(prefetch)
