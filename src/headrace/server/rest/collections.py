"""What may be asked of a new collection?

Placement and tuning hints are checked, kept and shown; what would change results or
behaviour and is not there yet is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import partial
from typing import Any

import msgspec

from headrace.model.collection_config import (
    VECTOR_DIM_MAX,
    CollectionConfig,
    Datatype,
    Modifier,
    MultiVectorConfig,
    SparseVectorParams,
    VectorParams,
)
from headrace.model.errors import WrongInput
from headrace.model.names import vector_name_problems
from headrace.model.vectors import DEFAULT_VECTOR_NAME, Distance
from headrace.server.errors import not_supported
from headrace.server.rest.body import U32_MAX, Node, read_body
from headrace.server.rest.members import Memory, ReadValue, at_least, read_members, read_memory
from headrace.server.rest.quantization import read_quantization


class _AnyDatatype(StrEnum):
    """The datatypes that Qdrant has."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    UINT8 = "uint8"
    TURBO4 = "turbo4"


class _Comparator(StrEnum):
    MAX_SIM = "max_sim"


class _ShardingMethod(StrEnum):
    AUTO = "auto"
    CUSTOM = "custom"


def parse_create_collection(body: bytes) -> CollectionConfig:
    """PUT /collections/{collection_name}.

    Raises:
        FormatError, InvalidBody: the body is wrong.
        WrongInput: two vectors have one name.
        BadRequest: something is not supported.
    """
    return read_body(body, _read_collection_config)


def _read_collection_config(body: Node) -> CollectionConfig:
    vectors = body.get("vectors")
    sparse_vectors = body.get("sparse_vectors")
    config = CollectionConfig(
        vectors={} if vectors is None else _read_vectors(vectors),
        sparse_vectors={} if sparse_vectors is None else _read_sparse_vectors(sparse_vectors),
        params=read_members(body, _PARAMS),
        hnsw_config=read_section(body, "hnsw_config", HNSW),
        optimizers_config=read_section(body, "optimizers_config", OPTIMIZERS),
        wal_config=read_section(body, "wal_config", _WAL),
        quantization_config=read_quantization(body.get("quantization_config")),
        strict_mode_config=read_strict_mode(body.get("strict_mode_config")),
        metadata=_read_metadata(body.get("metadata")),
    )
    for name in config.vectors.keys() & config.sparse_vectors.keys():
        raise WrongInput(f"Dense and sparse vectors must have different names: {name}")
    return config


def read_section(body: Node, name: str, readers: Mapping[str, ReadValue]) -> dict[str, Any]:
    """An object of the body as `read_members` reads it; {} if it is not there."""
    node = body.get(name)
    return {} if node is None else read_members(node, readers)


def _read_vectors(node: Node) -> dict[str, VectorParams]:
    """The parameters of one vector without a name, or a map of them by name."""
    members = node.members()
    is_single = any(name in members for name in ("size", "distance")) and not all(
        isinstance(value, dict) for value in members.values()
    )
    if is_single:
        return {DEFAULT_VECTOR_NAME: read_vector_params(node)}
    for name, child in node.entries():
        check_vector_name(name, child)
    return {name: read_vector_params(child) for name, child in node.entries()}


def read_vector_params(node: Node) -> VectorParams:
    """The parameters of a dense vector or a multi-vector. Raises FormatError, BadRequest."""
    space = read_vector_space(node)
    memory = node.get("memory")
    if memory is not None and memory.value == Memory.PINNED:
        memory.broken("`pinned` is not supported for dense vector storage")
    hnsw_config = read_section(node, "hnsw_config", HNSW)
    return msgspec.structs.replace(
        space,
        hnsw_config=hnsw_config or None,
        quantization_config=read_quantization(node.get("quantization_config")),
        on_disk=None if (on_disk := node.get("on_disk")) is None else on_disk.boolean(),
        memory=None if memory is None else read_memory(memory),
    )


def read_vector_space(node: Node) -> VectorParams:
    """Those parameters of a dense vector or a multi-vector that never change.

    Raises:
        FormatError, BadRequest: one is wrong, or is not supported.
    """
    multivector = node.get("multivector_config")
    return VectorParams(
        size=node.require("size").unsigned(minimum=1, maximum=VECTOR_DIM_MAX),
        distance=node.require("distance").one_of(Distance),
        datatype=_read_datatype(node.get("datatype")),
        multivector_config=None if multivector is None else _read_multivector(multivector),
    )


def _read_sparse_vectors(node: Node) -> dict[str, SparseVectorParams]:
    vectors = {}
    for name, child in node.entries():
        if name == DEFAULT_VECTOR_NAME:
            raise WrongInput("Sparse vector name must not be empty")
        check_vector_name(name, child)
        vectors[name] = read_sparse_vector_params(child)
    return vectors


def read_sparse_vector_params(node: Node) -> SparseVectorParams:
    """The parameters of a sparse vector. Raises FormatError, BadRequest."""
    index_params, modifier = node.get("index"), node.get("modifier")
    return SparseVectorParams(
        index=None if index_params is None else read_members(index_params, _SPARSE_INDEX),
        modifier=None if modifier is None else modifier.one_of(Modifier),
    )


def check_vector_name(name: str, node: Node) -> None:
    """Note what is wrong with the name of a vector, whose parameters are `node`."""
    for problem in vector_name_problems(name):
        node.broken(problem)


def _read_multivector(node: Node) -> MultiVectorConfig:
    return MultiVectorConfig(node.require("comparator").one_of(_Comparator).value)


def _read_datatype(node: Node | None) -> Datatype | None:
    if node is None:
        return None
    datatype = node.one_of(_AnyDatatype)
    if datatype is _AnyDatatype.TURBO4:
        raise not_supported(f"the datatype `{datatype}`")
    return Datatype(datatype)


def read_sparse_datatype(node: Node) -> Datatype:
    """How the weights of a sparse index are stored. Raises FormatError."""
    if node.value == _AnyDatatype.TURBO4:
        node.broken("turbo4 datatype is not supported for sparse vectors")
    return node.one_of(Datatype)


def read_strict_mode(node: Node | None) -> dict[str, Any] | None:
    """The limits that are set. Raises FormatError."""
    if node is None:
        return None
    return read_members(node, _STRICT_MODE)


def _read_limits_by_vector(member: str) -> ReadValue:
    """A reader of one limit for each vector name."""
    return lambda node: {
        name: read_members(child, {member: at_least(1)}) for name, child in node.entries()
    }


def _read_metadata(node: Node | None) -> dict[str, Any] | None:
    return None if node is None else node.members()


def _read_shard_number(node: Node) -> int:
    shard_number = node.unsigned(U32_MAX, minimum=1)
    if shard_number > 1:
        raise not_supported("a `shard_number` above 1")
    return shard_number


def _read_sharding_method(node: Node) -> str:
    method = node.one_of(_ShardingMethod)
    if method is _ShardingMethod.CUSTOM:
        raise not_supported("the sharding method `custom`")
    return method.value


def read_payload_storage(node: Node) -> dict[str, Any]:
    """Where payloads are held. Raises FormatError."""
    memory = node.get("memory")
    if memory is not None and memory.value == Memory.PINNED:
        memory.broken("`pinned` is not supported for payload storage")
    return read_members(node, {"memory": read_memory})


def _read_optimization_threads(node: Node) -> int | None:
    """A number of threads; `auto` is shown as null."""
    return None if node.value == "auto" else node.unsigned()


_PARAMS: dict[str, ReadValue] = {
    "shard_number": _read_shard_number,
    "sharding_method": _read_sharding_method,
    "replication_factor": partial(Node.unsigned, bound=U32_MAX, minimum=1),
    "write_consistency_factor": partial(Node.unsigned, bound=U32_MAX, minimum=1),
    "on_disk_payload": Node.boolean,
    "payload": read_payload_storage,
}

HNSW: dict[str, ReadValue] = {
    "m": Node.unsigned,
    "ef_construct": at_least(4),
    "full_scan_threshold": at_least(10),
    "max_indexing_threads": Node.unsigned,
    "on_disk": Node.boolean,
    "memory": read_memory,
    "payload_m": Node.unsigned,
    "inline_storage": Node.boolean,
}

OPTIMIZERS: dict[str, ReadValue] = {
    "deleted_threshold": partial(Node.number, minimum=0.0, maximum=1.0),
    "vacuum_min_vector_number": at_least(100),
    "default_segment_number": Node.unsigned,
    "max_segment_size": at_least(1),
    "memmap_threshold": Node.unsigned,
    "indexing_threshold": Node.unsigned,
    "flush_interval_sec": Node.unsigned,
    "max_optimization_threads": _read_optimization_threads,
    "prevent_unoptimized": Node.boolean,
}

_WAL: dict[str, ReadValue] = {
    "wal_capacity_mb": at_least(1),
    "wal_segments_ahead": Node.unsigned,
    "wal_retain_closed": at_least(1),
}

_SPARSE_INDEX: dict[str, ReadValue] = {
    "full_scan_threshold": Node.unsigned,
    "on_disk": Node.boolean,
    "memory": read_memory,
    "datatype": read_sparse_datatype,
}

_STRICT_MODE: dict[str, ReadValue] = {
    "enabled": Node.boolean,
    "max_query_limit": at_least(1),
    "max_timeout": at_least(1),
    "unindexed_filtering_retrieve": Node.boolean,
    "unindexed_filtering_update": Node.boolean,
    "search_max_hnsw_ef": Node.unsigned,
    "search_allow_exact": Node.boolean,
    "search_max_oversampling": Node.number,
    "upsert_max_batchsize": Node.unsigned,
    "search_max_batchsize": Node.unsigned,
    "max_collection_vector_size_bytes": Node.unsigned,
    "read_rate_limit": at_least(1),
    "write_rate_limit": at_least(1),
    "max_collection_payload_size_bytes": Node.unsigned,
    "max_points_count": at_least(1),
    "filter_max_conditions": Node.unsigned,
    "condition_max_size": Node.unsigned,
    "multivector_config": _read_limits_by_vector("max_vectors"),
    "sparse_config": _read_limits_by_vector("max_length"),
    "max_payload_index_count": Node.unsigned,
    "max_resident_memory_percent": partial(Node.unsigned, minimum=1, maximum=100),
}
