"""May this request pass: what do the quotas and the collection's strict mode say?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.engine.collection.collection import Collection
from headrace.engine.segment.segment import View
from headrace.model.collection_config import CollectionConfig, Datatype
from headrace.model.errors import BadRequest
from headrace.model.filters import Filter
from headrace.model.operations import Operation, UpsertPoints
from headrace.model.queries import GroupBy, Query
from headrace.service.quotas import Quotas
from headrace.service.rate_limits import RateLimits
from headrace.service.strict_mode import (
    Limits,
    active_limits,
    check_group_by,
    check_limit,
    check_query,
    check_read_filter,
    check_write,
    is_consuming,
    read_cost,
    write_cost,
)

_DATATYPE_BYTES = {Datatype.FLOAT32: 4, Datatype.FLOAT16: 2, Datatype.UINT8: 1}

# The size of all payloads is judged by so many of them.
_SAMPLED_PAYLOADS = 1000


class Gate:
    """Refuses what a collection, or the machine, will not take; thread-safe.

    Args:
        quotas: of the machine.
    """

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas
        self._rate_limits = RateLimits()

    def forget(self, collection_name: str) -> None:
        """Drop what is kept of a collection that is gone."""
        self._rate_limits.forget(collection_name)

    def check_timeout(self, collection: Collection, timeout_s: int | None) -> None:
        """Refuse a timeout above the collection's limit.

        Raises:
            BadRequest: it is.
        """
        limits = _limits(collection)
        if limits is not None:
            check_limit(limits, "max_timeout", timeout_s, "timeout")

    def check_queries(self, collection: Collection, queries: Sequence[Query]) -> None:
        """Let queries pass, which are a batch if they are not one.

        Raises:
            BadRequest: one asks for too much, or they are too many.
            RateLimited: the collection has taken too many reads.
        """
        limits = _limits(collection)
        if limits is None:
            return
        if len(queries) != 1:
            check_limit(limits, "search_max_batchsize", len(queries), "search batch size")
        for query in queries:
            check_query(limits, collection.view.schema, query)
        self._take(limits, collection, sum(read_cost(query) for query in queries))

    def check_groups(self, collection: Collection, query: Query, group_by: GroupBy) -> None:
        """Let a grouped query pass. Raises: as `check_queries`."""
        limits = _limits(collection)
        if limits is None:
            return
        most = group_by.limit * group_by.group_size
        check_limit(limits, "max_query_limit", most, "limit")
        check_group_by(limits, collection.view.schema, group_by.key)
        check_query(limits, collection.view.schema, query)
        self._take(limits, collection, read_cost(query))

    def check_read(
        self,
        collection: Collection,
        filter: Filter | None = None,
        limit: int | None = None,
        cost: int = 1,
    ) -> None:
        """Let any other read pass.

        Args:
            collection: that is read.
            filter: of the read.
            limit: how many points it may show.
            cost: what it takes from the rate limit.

        Raises: as `check_queries`.
        """
        limits = _limits(collection)
        if limits is None:
            return
        check_limit(limits, "max_query_limit", limit, "limit")
        check_read_filter(limits, collection.view.schema, filter)
        self._take(limits, collection, cost)

    def check_write(self, collection: Collection, operations: Sequence[Operation]) -> None:
        """Let a write pass.

        Raises:
            BadRequest: an operation asks for too much, or the collection is full.
            RateLimited: the collection has taken too many writes.
            NoSpace: a quota is reached, and the write takes more room.
        """
        consuming = any(is_consuming(operation) for operation in operations)
        if consuming:
            self._quotas.check()
        limits = _limits(collection)
        if limits is None:
            return
        view = collection.view
        for operation in operations:
            check_write(limits, view.schema, operation)
        if any(isinstance(operation, UpsertPoints) for operation in operations):
            _check_points_count(limits, view)
        if consuming:
            self._check_sizes(limits, view, collection.config)
        per_minute = limits.get("write_rate_limit")
        if per_minute is not None:
            self._rate_limits.take(collection.name, "Write", per_minute, write_cost(operations))

    def _take(self, limits: Limits, collection: Collection, cost: int) -> None:
        per_minute = limits.get("read_rate_limit")
        if per_minute is not None:
            self._rate_limits.take(collection.name, "Read", per_minute, cost)

    def _check_sizes(self, limits: Limits, view: View, config: CollectionConfig) -> None:
        bytes_max = limits.get("max_collection_vector_size_bytes")
        if bytes_max is not None and _vector_bytes(view, config) >= bytes_max:
            raise BadRequest(f"Max vector storage size limit of {bytes_max} bytes reached!")
        bytes_max = limits.get("max_collection_payload_size_bytes")
        if bytes_max is not None and _payload_bytes(view) >= bytes_max:
            raise BadRequest(f"Max payload storage size limit of {bytes_max} bytes reached!")
        memory_percent = limits.get("max_resident_memory_percent")
        if memory_percent is not None:
            self._quotas.check_memory(memory_percent)


def _limits(collection: Collection) -> Limits | None:
    config = collection.view.config.strict_mode_config
    return None if config is None else active_limits(config)


def _check_points_count(limits: Limits, view: View) -> None:
    points_max = limits.get("max_points_count")
    if points_max is not None and view.live_count >= points_max:
        raise BadRequest(f"Max points count limit of {points_max} reached!")


def _vector_bytes(view: View, config: CollectionConfig) -> int:
    """What the vectors take: dense ones by their dimension, others by what was stored."""
    dense = sum(
        params.size * _DATATYPE_BYTES[params.datatype or Datatype.FLOAT32]
        for params in config.vectors.values()
        if not params.is_multi
    )
    others = sum(
        stored.bytes_count
        for name, stored in view.stored_arrays().items()
        if name.startswith("vectors/") and stored.length is not None
    )
    return view.live_count * dense + others


def _payload_bytes(view: View) -> int:
    """What the payloads take, judged by some of them."""
    rows = np.flatnonzero(view.live)
    step = max(1, len(rows) // _SAMPLED_PAYLOADS)
    sampled = [len(view.payload(row)) for row in rows[::step].tolist()]
    return sum(sampled) * len(rows) // max(1, len(sampled))
