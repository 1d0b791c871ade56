"""How is a collection shown: Qdrant's shape, with its defaults where nothing was set?"""

from __future__ import annotations

from typing import Any

import msgspec

from headrace.model.collection_config import CollectionConfig
from headrace.model.vectors import DEFAULT_VECTOR_NAME
from headrace.service.service import CollectionInfo, PayloadIndexInfo

# Qdrant 1.19's own defaults: the collection behaves as its hints say or better.
_PARAMS = {
    "shard_number": 1,
    "replication_factor": 1,
    "write_consistency_factor": 1,
    "on_disk_payload": True,
}
_HNSW = {
    "m": 16,
    "ef_construct": 100,
    "full_scan_threshold": 10_000,
    "max_indexing_threads": 0,
    "on_disk": False,
}
_OPTIMIZERS = {
    "deleted_threshold": 0.2,
    "vacuum_min_vector_number": 1000,
    "default_segment_number": 0,
    "max_segment_size": None,
    "memmap_threshold": None,
    "indexing_threshold": 10_000,
    "flush_interval_sec": 5,
    "max_optimization_threads": None,
}
_WAL = {"wal_capacity_mb": 32, "wal_segments_ahead": 0, "wal_retain_closed": 1}
_STRICT_MODE = {"enabled": False}


def collection_info_answer(info: CollectionInfo) -> dict[str, Any]:
    """The result of GET /collections/{collection_name}.

    A write is visible when it is answered, so nothing is ever queued; the status is yellow
    while vectors wait for their graph, and dead rows for being taken out.
    """
    optimizer_status = "ok" if info.index_error is None else {"error": info.index_error}
    return {
        "status": "yellow" if info.is_optimizing else "green",
        "optimizer_status": optimizer_status,
        "indexed_vectors_count": info.indexed_vectors_count,
        "points_count": info.points_count,
        "segments_count": info.segments_count,
        "config": config_answer(info.config),
        "payload_schema": {
            path: _payload_index_answer(payload_index)
            for path, payload_index in info.payload_schema.items()
        },
        "update_queue": {"length": 0},
    }


def config_answer(config: CollectionConfig) -> dict[str, Any]:
    """A configuration, with defaults where nothing was set."""
    answer = {
        "params": _params_answer(config),
        "hnsw_config": _HNSW | config.hnsw_config,
        "optimizer_config": _OPTIMIZERS | config.optimizers_config,
        "wal_config": _WAL | config.wal_config,
        "quantization_config": config.quantization_config,
        "strict_mode_config": _STRICT_MODE | (config.strict_mode_config or {}),
    }
    if config.metadata is not None:
        answer["metadata"] = config.metadata
    return answer


def _params_answer(config: CollectionConfig) -> dict[str, Any]:
    vectors = msgspec.to_builtins(config.vectors)
    answer = {
        "vectors": vectors[DEFAULT_VECTOR_NAME] if [*vectors] == [DEFAULT_VECTOR_NAME] else vectors,
        **_PARAMS,
        **config.params,
    }
    if config.sparse_vectors:
        answer["sparse_vectors"] = msgspec.to_builtins(config.sparse_vectors)
    return answer


def _payload_index_answer(info: PayloadIndexInfo) -> dict[str, Any]:
    answer: dict[str, Any] = {"data_type": info.schema.data_type.value}
    if info.schema.params is not None:
        answer["params"] = info.schema.params
    answer["points"] = info.points
    return answer
