"""Which of Qdrant's options shape a vector index, and what do they mean here?"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import msgspec

from headrace.model.collection_config import CollectionConfig, VectorParams

# Qdrant's defaults, and its automatic choice of building threads: at most eight.
_M = 16
_EF_CONSTRUCT = 100
_INDEXING_THRESHOLD_KB = 10_000
_DELETED_SHARE_MAX = 0.2
_BUILD_THREADS_MAX = 8


class IndexSettings(msgspec.Struct, frozen=True):
    """The index options of one vector name.

    Attributes:
        m: links a node has on the upper layers (twice as many on the lowest); 0 = no graph.
        ef_construct: candidates kept while a node is linked; also the width of a search
            that names none.
        full_scan_kb: rows that a filter leaves are scored one by one up to this size of
            their vectors; None = whatever is estimated to be cheaper.
        rows_min: this many rows without a graph get one; None = never.
        deleted_share_max: a graph with a larger share of dead nodes is made anew.
        build_threads: threads that link nodes.
    """

    m: int = _M
    ef_construct: int = _EF_CONSTRUCT
    full_scan_kb: int | None = None
    rows_min: int | None = 20_000
    deleted_share_max: float = _DELETED_SHARE_MAX
    build_threads: int = 1

    @classmethod
    def from_config(cls, params: VectorParams, config: CollectionConfig) -> IndexSettings:
        """The settings of one dense vector; its own `hnsw_config` goes before the collection's."""
        hnsw = _set(config.hnsw_config) | _set(params.hnsw_config)
        optimizers = _set(config.optimizers_config)
        m = int(hnsw.get("m", _M))
        # FAISS cannot link with one link a node: its layer probabilities divide by log(m).
        m = max(m, 2) if m else 0
        # As in Qdrant, 0 turns the building of graphs off.
        threshold_kb = int(optimizers.get("indexing_threshold", _INDEXING_THRESHOLD_KB))
        rows_min = max(1, threshold_kb * 1024 // (4 * params.size)) if m and threshold_kb else None
        threads = int(hnsw.get("max_indexing_threads", 0))
        return cls(
            m=m,
            ef_construct=int(hnsw.get("ef_construct", _EF_CONSTRUCT)),
            full_scan_kb=hnsw.get("full_scan_threshold"),
            rows_min=rows_min,
            deleted_share_max=float(optimizers.get("deleted_threshold", _DELETED_SHARE_MAX)),
            build_threads=threads or min(os.cpu_count() or 1, _BUILD_THREADS_MAX),
        )


def _set(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options that were given a value: null means "the default"."""
    return {name: value for name, value in (options or {}).items() if value is not None}
