"""What may be asked of a collection that is there: its configuration, and its vector names?"""

from __future__ import annotations

from typing import Any

from headrace.model.collection_changes import CollectionChange, VectorChange
from headrace.model.collection_config import Modifier, SparseVectorParams
from headrace.model.operations import CreateVectorName
from headrace.server.errors import not_supported
from headrace.server.rest.body import U32_MAX, Node, read_body
from headrace.server.rest.collections import (
    HNSW,
    OPTIMIZERS,
    read_payload_storage,
    read_section,
    read_sparse_datatype,
    read_sparse_vector_params,
    read_strict_mode,
    read_vector_space,
)
from headrace.server.rest.members import Memory, ReadValue, read_members, read_memory
from headrace.server.rest.quantization import read_quantization_change


def parse_update_collection(body: bytes) -> CollectionChange:
    """PATCH /collections/{collection_name}.

    Raises:
        FormatError, InvalidBody: the body is wrong.
        BadRequest: something is not supported.
    """
    return read_body(body, _read_change)


def parse_create_vector_name(name: str, body: bytes) -> CreateVectorName:
    """PUT /collections/{collection_name}/vectors/{vector_name}.

    Raises:
        FormatError, InvalidBody: the body is wrong.
        BadRequest: something is not supported.
    """
    return read_body(body, lambda node: _read_vector_name(name, node))


def _read_change(body: Node) -> CollectionChange:
    vectors, sparse_vectors = body.get("vectors"), body.get("sparse_vectors")
    metadata = body.get("metadata")
    return CollectionChange(
        vectors={}
        if vectors is None
        else {name: _read_vector_change(child) for name, child in vectors.entries()},
        sparse_vectors={}
        if sparse_vectors is None
        else {name: read_sparse_vector_params(child) for name, child in sparse_vectors.entries()},
        params=read_section(body, "params", _PARAMS),
        hnsw_config=read_section(body, "hnsw_config", HNSW),
        optimizers_config=read_section(body, "optimizers_config", OPTIMIZERS),
        quantization_config=read_quantization_change(body.get("quantization_config")),
        strict_mode_config=read_strict_mode(body.get("strict_mode_config")),
        metadata=None if metadata is None else metadata.members(),
    )


def _read_vector_change(node: Node) -> VectorChange:
    hnsw_config, on_disk, memory = node.get("hnsw_config"), node.get("on_disk"), node.get("memory")
    if memory is not None and memory.value == Memory.PINNED:
        memory.broken("`pinned` is not supported for dense vector storage")
    return VectorChange(
        hnsw_config=None if hnsw_config is None else read_members(hnsw_config, HNSW),
        quantization_config=read_quantization_change(node.get("quantization_config")),
        on_disk=None if on_disk is None else on_disk.boolean(),
        memory=None if memory is None else read_memory(memory),
    )


def _read_vector_name(name: str, body: Node) -> CreateVectorName:
    """Only what cannot be changed later is read; other members are ignored, as in Qdrant."""
    if body.has("dense"):
        return CreateVectorName(name, dense=read_vector_space(body.require("dense")))
    if body.has("sparse"):
        return CreateVectorName(name, sparse=_read_sparse_space(body.require("sparse")))
    raise body.format_error("data did not match any variant of untagged enum VectorNameConfig")


def _read_sparse_space(node: Node) -> SparseVectorParams:
    """The datatype belongs to the index of the vector that is made."""
    modifier, datatype = node.get("modifier"), node.get("datatype")
    return SparseVectorParams(
        index=None if datatype is None else {"datatype": read_sparse_datatype(datatype)},
        modifier=None if modifier is None else modifier.one_of(Modifier),
    )


def _read_read_fan_out(node: Node) -> Any:
    raise not_supported(f"`{node.path}`, which needs replicas,")


_PARAMS: dict[str, ReadValue] = {
    "replication_factor": lambda node: node.unsigned(U32_MAX, minimum=1),
    "write_consistency_factor": lambda node: node.unsigned(U32_MAX, minimum=1),
    "read_fan_out_factor": _read_read_fan_out,
    "read_fan_out_delay_ms": _read_read_fan_out,
    "on_disk_payload": Node.boolean,
    "payload": read_payload_storage,
}
