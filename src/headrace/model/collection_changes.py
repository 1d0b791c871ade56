"""What can be changed in a collection after it was made, and what does that make of it?

Tuning, strict mode and metadata can, and vector names come and go; what stored vectors
depend on cannot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from headrace.model.collection_config import (
    CollectionConfig,
    SparseVectorParams,
    VectorParams,
    same_space,
)
from headrace.model.errors import UnknownVectorName, WrongInput

# Instead of a configuration: quantised vectors are no longer wanted.
QUANTIZATION_DISABLED = "Disabled"


class VectorChange(msgspec.Struct, frozen=True):
    """New hints for one dense or multi-vector name; None leaves a hint as it is.

    Attributes:
        hnsw_config: merged into the vector's own; an empty one unsets all of it.
        quantization_config: in the place of the old one; "Disabled" unsets it.
    """

    hnsw_config: dict[str, Any] | None = None
    quantization_config: dict[str, Any] | str | None = None
    on_disk: bool | None = None
    memory: str | None = None


class CollectionChange(msgspec.Struct, frozen=True):
    """The parts of a collection's configuration that are to change.

    Sections are merged member by member. In `metadata`, null removes a member.

    Attributes:
        vectors: by vector name; the default vector's name is "".
        sparse_vectors: by vector name; their index hints and modifiers.
    """

    vectors: dict[str, VectorChange] = {}
    sparse_vectors: dict[str, SparseVectorParams] = {}
    params: dict[str, Any] = {}
    hnsw_config: dict[str, Any] = {}
    optimizers_config: dict[str, Any] = {}
    quantization_config: dict[str, Any] | str | None = None
    strict_mode_config: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None


def changed_config(config: CollectionConfig, change: CollectionChange) -> CollectionConfig:
    """The configuration after a change; `config` is left as it is.

    Raises:
        UnknownVectorName: the change names a vector that the collection lacks.
    """
    return msgspec.structs.replace(
        config,
        vectors=_changed_vectors(config.vectors, change.vectors),
        sparse_vectors=_changed_sparse_vectors(config.sparse_vectors, change.sparse_vectors),
        params=config.params | change.params,
        hnsw_config=config.hnsw_config | change.hnsw_config,
        optimizers_config=config.optimizers_config | change.optimizers_config,
        quantization_config=_changed_quantization(
            config.quantization_config, change.quantization_config
        ),
        strict_mode_config=_merged(config.strict_mode_config, change.strict_mode_config),
        metadata=_without_nulls(_merged(config.metadata, change.metadata)),
    )


def config_with_vector(
    config: CollectionConfig, name: str, params: VectorParams | SparseVectorParams
) -> CollectionConfig:
    """The configuration with one more vector name; as it is if the name is there.

    Raises:
        WrongInput: the name is there and means something else.
    """
    known = config.find_vector(name)
    if known is not None:
        if not same_space(known, params):
            raise WrongInput(f"Vector `{name}` already exists with a different configuration")
        return config
    if isinstance(params, SparseVectorParams):
        sparse_vectors = {**config.sparse_vectors, name: params}
        return msgspec.structs.replace(config, sparse_vectors=sparse_vectors)
    return msgspec.structs.replace(config, vectors={**config.vectors, name: params})


def config_without_vector(config: CollectionConfig, name: str) -> CollectionConfig:
    """The configuration without a vector name."""
    return msgspec.structs.replace(
        config,
        vectors={known: params for known, params in config.vectors.items() if known != name},
        sparse_vectors={
            known: params for known, params in config.sparse_vectors.items() if known != name
        },
    )


def _changed_vectors(
    vectors: Mapping[str, VectorParams], changes: Mapping[str, VectorChange]
) -> dict[str, VectorParams]:
    changed = dict(vectors)
    for name, change in changes.items():
        params = changed.get(name)
        if params is None:
            raise UnknownVectorName(name)
        changed[name] = msgspec.structs.replace(
            params,
            hnsw_config=_changed_hnsw(params.hnsw_config, change.hnsw_config),
            quantization_config=_changed_quantization(
                params.quantization_config, change.quantization_config
            ),
            on_disk=params.on_disk if change.on_disk is None else change.on_disk,
            memory=params.memory if change.memory is None else change.memory,
        )
    return changed


def _changed_sparse_vectors(
    vectors: Mapping[str, SparseVectorParams], changes: Mapping[str, SparseVectorParams]
) -> dict[str, SparseVectorParams]:
    changed = dict(vectors)
    for name, change in changes.items():
        params = changed.get(name)
        if params is None:
            raise UnknownVectorName(name)
        changed[name] = made = SparseVectorParams(
            index=_merged(params.index, change.index),
            modifier=params.modifier if change.modifier is None else change.modifier,
        )
        if made.datatype is not params.datatype:
            raise WrongInput(
                f"The datatype of sparse vector `{name}` cannot be changed; its weights are "
                "posted in it. Make another vector name with the datatype that you want"
            )
    return changed


def _changed_hnsw(
    config: dict[str, Any] | None, change: dict[str, Any] | None
) -> dict[str, Any] | None:
    return None if change == {} else _merged(config, change)


def _changed_quantization(
    config: dict[str, Any] | None, change: dict[str, Any] | str | None
) -> dict[str, Any] | None:
    if change is None:
        return config
    return None if isinstance(change, str) else change


def _merged(config: dict[str, Any] | None, change: dict[str, Any] | None) -> dict[str, Any] | None:
    return config if change is None else (config or {}) | change


def _without_nulls(metadata: dict[str, Any] | None) -> dict[str, Any] | None:
    if metadata is None:
        return None
    return {name: value for name, value in metadata.items() if value is not None}
