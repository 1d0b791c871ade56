"""What does a node tell of itself, at each level of detail?

The members at each level are Qdrant's; what is not measured here is left out or null.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from headrace.model.errors import NotFound
from headrace.server.auth import Access
from headrace.server.metrics import anonymous
from headrace.server.node import QDRANT_API_VERSION, Node
from headrace.server.requests_log import Durations, Protocol, is_failure
from headrace.service.quotas import memory_bytes_max, resident_bytes
from headrace.service.service import Service

_KIB = 1024
_MILLIS = 1_000
_MICROS = 1_000_000

ConfigAnswer = Callable[[str], dict[str, Any]]


def telemetry_answer(
    service: Service,
    node: Node,
    access: Access,
    config_answer: ConfigAnswer,
    details_level: int,
    per_collection: bool = False,
    anonymize: bool = False,
) -> dict[str, Any]:
    """The telemetry of a node.

    Args:
        service: the store.
        node: what was answered.
        access: of the caller, who is told of the collections that it may see.
        config_answer: the configuration of a collection as its info shows it.
        details_level: 0 and up; more from level to level.
        per_collection: whether requests are counted for each collection, too.
        anonymize: whether collections are told by a hash of their names.
    """
    shown = anonymous if anonymize else str
    names = [name for name in service.collection_names() if access.sees(name)]
    collections: dict[str, Any] = {"number_of_collections": len(names)}
    if details_level > 0:
        told = []
        for name in names:
            with suppress(NotFound):  # deleted meanwhile
                config = config_answer(name)
                told.append(_collection_answer(service, name, shown(name), config, details_level))
        collections = {"number_of_collections": len(told), "collections": told}
    answer: dict[str, Any] = {
        "id": node.id,
        "app": _app_answer(service, node, details_level),
        "collections": collections,
        "cluster": {"enabled": False},
        "requests": {
            protocol.value: _requests_answer(node, protocol, per_collection, shown)
            for protocol in Protocol
        },
    }
    if details_level > 0:
        answer["memory"] = _memory_answer()
        answer["hardware"] = {"collection_data": {}}
        answer["quota"] = {
            "config": msgspec.to_builtins(service.quotas.config),
            "exceeded": msgspec.to_builtins(service.quotas.exceeded()),
        }
    return answer


def _app_answer(service: Service, node: Node, details_level: int) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "name": "qdrant",
        "version": QDRANT_API_VERSION,
        "startup": node.started_at.isoformat(),
        "jwt_rbac": node.authenticator.takes_tokens,
    }
    if details_level > 0:
        answer["features"] = {
            "debug": False,
            "service_debug_feature": False,
            "recovery_mode": False,
            "gpu": False,
            "rocksdb": False,
            "staging": False,
        }
        answer["system"] = {
            "distribution": platform.system(),
            "distribution_version": platform.release(),
            "is_docker": Path("/.dockerenv").exists(),
            "cores": os.cpu_count(),
            "ram_size": memory_bytes_max() // _KIB,
            "disk_size": shutil.disk_usage(service.directory).total // _KIB,
            "cpu_flags": platform.machine(),
            "cpu_endian": sys.byteorder,
        }
    return answer


def _collection_answer(
    service: Service, name: str, shown_name: str, config: dict[str, Any], details_level: int
) -> dict[str, Any]:
    vectors = service.vector_counts(name)
    vectors_count = sum(one.total for one in vectors.values())
    info = service.collection_info(name)
    if details_level == 1:
        return {
            "vectors": vectors_count,
            "optimizers_status": "ok" if info.index_error is None else {"error": info.index_error},
            "params": config["params"],
        }
    answer = {
        "id": shown_name,
        "init_time_ms": round(info.load_seconds * _MILLIS),
        "config": config,
    }
    if details_level == 2:
        return answer
    local = {
        "variant_name": None,
        "status": "yellow" if info.is_optimizing else "green",
        "total_optimized_points": info.indexed_vectors_count,
        "num_points": info.points_count,
        "num_vectors": vectors_count,
        "num_vectors_by_name": {name: one.total for name, one in vectors.items()},
        "update_queue": {"length": 0},
    }
    shard: dict[str, Any] = {
        "id": 0,
        "key": None,
        "local": local,
        "remote": [],
        "replicate_states": {"0": "Active"},
        "partial_snapshot": None,
    }
    return answer | {"shards": [shard], "transfers": [], "resharding": []}


def _requests_answer(
    node: Node, protocol: Protocol, per_collection: bool, shown: Callable[[str], str]
) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for endpoint, durations in node.requests_log.durations().items():
        if endpoint.protocol is protocol:
            by_status = responses.setdefault(endpoint.name, {})
            by_status[str(endpoint.status)] = _durations_answer(durations, is_failure(endpoint))
    answer = {"responses": responses}
    if per_collection:
        by_collection: dict[str, Any] = {}
        for endpoint, durations in node.requests_log.durations(per_collection=True).items():
            if endpoint.protocol is protocol and endpoint.collection_name:
                by_name = by_collection.setdefault(shown(endpoint.collection_name), {})
                by_status = by_name.setdefault(endpoint.name, {})
                by_status[str(endpoint.status)] = _durations_answer(durations, is_failure(endpoint))
        answer["per_collection_responses"] = by_collection
    return answer


def _durations_answer(durations: Durations, failed: bool) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "count": durations.count,
        "avg_duration_micros": durations.average_s * _MICROS,
        "min_duration_micros": durations.min_s * _MICROS,
        "max_duration_micros": durations.max_s * _MICROS,
        "total_duration_micros": int(durations.total_s * _MICROS),
        "last_responded": _time_answer(durations.last_at),
    }
    if failed:
        answer["fail_count"] = durations.count
    return answer


def _time_answer(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def _memory_answer() -> dict[str, int] | None:
    """What the process holds: its allocator tells no more, so that stands for all of it."""
    resident = resident_bytes()
    if resident is None:
        return None
    return {
        "active_bytes": resident,
        "allocated_bytes": resident,
        "metadata_bytes": 0,
        "resident_bytes": resident,
        "retained_bytes": 0,
    }
