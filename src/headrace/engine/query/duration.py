"""Is a query certainly short, so that others may wait until it is done?

Judged by what it will look at at most, before any of it is looked at.
"""

from __future__ import annotations

from headrace.engine.query.mask import kept_set
from headrace.engine.segment.segment import View
from headrace.engine.vector_index.indexed_vectors import IndexedVectors
from headrace.model.queries import Nearest, Query

# Scored one by one, so many components take a quarter of a millisecond.
_SCANNED_COMPONENTS_MAX = 2_000_000

# A walk of a graph takes about a tenth of a millisecond, and a few times that if it is wide.
_RANGES_MAX = 8
_EF_MAX = 512
_SHOWN_MAX = 100

# To write so many bytes down takes a fraction of a millisecond, to choose among their members one.
_PAYLOAD_BYTES_MAX = 256 * 1024

# Beyond so many rows, even to look through a mask takes long.
_ROWS_MAX = 4_000_000


def is_short(view: View, query: Query) -> bool:
    """Whether a query takes a millisecond or so at the most.

    True for the nearest of a few by one vector that has a graph, without a filter or with
    one whose rows are known, unless it makes sketches first; what else there is may well be
    short and is not judged.

    Raises:
        UnknownVectorName: there is no such vector.
        BadRequest: its filter is too deep.
    """
    kind = query.query
    if not isinstance(kind, Nearest) or kind.mmr is not None or query.prefetch:
        return False
    if query.limit + query.offset > _SHOWN_MAX or (query.params.hnsw_ef or 0) > _EF_MAX:
        return False
    if query.with_payload.enabled:
        payload_bytes = min(query.limit, view.row_count) * view.segment.payload_bytes_max
        if payload_bytes > _PAYLOAD_BYTES_MAX:
            return False
    store = view.vectors(query.using)
    if not isinstance(store, IndexedVectors) or len(store.ranges) > _RANGES_MAX:
        return False
    scanned = store.scanned_rows_max(view.row_count, query.params)
    if scanned * store.dim > _SCANNED_COMPONENTS_MAX or view.row_count > _ROWS_MAX:
        return False
    if query.filter is None:
        return True
    known = kept_set(query.filter, view)
    return known is not None and not store.makes_sketches(
        known, query.limit + query.offset, query.params
    )
