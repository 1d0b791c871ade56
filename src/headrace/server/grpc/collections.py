"""How does a collection's configuration cross the wire, on its way in and out?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from qdrant_client import grpc as qdrant

from headrace.model.collection_changes import CollectionChange
from headrace.model.collection_config import CollectionConfig
from headrace.model.vectors import DEFAULT_VECTOR_NAME
from headrace.server.errors import not_supported
from headrace.server.grpc.config_json import config_json, write_config_into
from headrace.server.grpc.payload import write_object_into
from headrace.server.grpc.payload_indexes import payload_index_message
from headrace.server.grpc.rules import read_as_json
from headrace.server.rest.collection_changes import parse_update_collection
from headrace.server.rest.collection_info import collection_info_answer
from headrace.server.rest.collections import parse_create_collection
from headrace.service.service import CollectionInfo

# Fields with other names than REST's members, and those that are no part of the body.
_RENAMED = {"vectors_config": "vectors", "sparse_vectors_config": "sparse_vectors"}
_FIELD_NAMES = {member: field for field, member in _RENAMED.items()}
_NOT_CONFIG = frozenset({"collection_name", "timeout"})


def read_collection_config(message: qdrant.CreateCollection) -> CollectionConfig:
    """The configuration of a new collection.

    Raises:
        MalformedInput, InvalidBody: a value in it is wrong.
        WrongInput: two vectors have one name.
        BadRequest: something is not supported.
    """
    sent = _sent_json(message)
    config = read_as_json(parse_create_collection, sent, _FIELD_NAMES)
    _refuse_unread(sent, config)
    return config


def read_collection_change(message: qdrant.UpdateCollection) -> CollectionChange:
    """What is to change in a collection.

    Raises: as `read_collection_config`.
    """
    sent = _sent_json(message)
    if message.vectors_config.WhichOneof("config") == "params":
        sent["vectors"] = {DEFAULT_VECTOR_NAME: sent["vectors"]}
    change = read_as_json(parse_update_collection, sent, _FIELD_NAMES)
    _refuse_unread(sent, change)
    return change


def collection_info_message(info: CollectionInfo) -> qdrant.CollectionInfo:
    """A collection as its info call shows it."""
    shown = collection_info_answer(info)
    message = qdrant.CollectionInfo(
        status=(
            qdrant.CollectionStatus.Yellow if info.is_optimizing else qdrant.CollectionStatus.Green
        ),
        optimizer_status=qdrant.OptimizerStatus(
            ok=info.index_error is None, error=info.index_error or ""
        ),
        segments_count=shown["segments_count"],
        points_count=shown["points_count"],
        indexed_vectors_count=shown["indexed_vectors_count"],
        update_queue=qdrant.UpdateQueueInfo(length=shown["update_queue"]["length"]),
        payload_schema={
            path: payload_index_message(payload_index)
            for path, payload_index in info.payload_schema.items()
        },
    )
    _write_config_into(shown["config"], message.config)
    return message


def _sent_json(message: qdrant.CreateCollection | qdrant.UpdateCollection) -> dict[str, Any]:
    """The body that REST takes for the same."""
    sent = {
        _RENAMED.get(name, name): value
        for name, value in config_json(message).items()
        if name not in _NOT_CONFIG
    }
    optimizers = sent.get("optimizers_config", {})
    if "deprecated_max_optimization_threads" in optimizers:
        threads = optimizers.pop("deprecated_max_optimization_threads")
        optimizers.setdefault("max_optimization_threads", threads)
    return sent


def _refuse_unread(sent: Mapping[str, Any], config: CollectionConfig | CollectionChange) -> None:
    """Refuse what REST's reader leaves out, as it does with members that it does not know.

    Raises:
        BadRequest: it left something out.
    """
    read = msgspec.to_builtins(config)
    read = {**read, **read.get("params", {})}
    for name, value in sent.items():
        if name not in read and value:
            raise not_supported(f"`{name}`")
        if name in ("vectors", "sparse_vectors"):
            continue
        if name != "metadata" and isinstance(value, Mapping):
            for unread in value.keys() - read.get(name, {}).keys():
                raise not_supported(f"`{name}.{unread}`")


def _write_config_into(shown: Mapping[str, Any], config: qdrant.CollectionConfig) -> None:
    _write_params_into(shown["params"], config.params)
    write_config_into(shown["hnsw_config"], config.hnsw_config)
    write_config_into(shown["wal_config"], config.wal_config)
    if shown["quantization_config"] is not None:
        write_config_into(shown["quantization_config"], config.quantization_config)
    write_config_into(shown["strict_mode_config"], config.strict_mode_config)
    write_object_into(shown.get("metadata", {}), config.metadata)
    optimizers = dict(shown["optimizer_config"])
    threads = optimizers.pop("max_optimization_threads")
    write_config_into(optimizers, config.optimizer_config)
    if threads is not None:
        config.optimizer_config.max_optimization_threads.value = threads


def _write_params_into(shown: Mapping[str, Any], params: qdrant.CollectionParams) -> None:
    rest = dict(shown)
    vectors = rest.pop("vectors")
    sparse_vectors = rest.pop("sparse_vectors", None)
    write_config_into(rest, params)
    if "size" in vectors:
        write_config_into(vectors, params.vectors_config.params)
    elif vectors:
        write_config_into(vectors, params.vectors_config.params_map)
    if sparse_vectors:
        write_config_into(sparse_vectors, params.sparse_vectors_config)
