"""Can this operation be applied to this collection at all, and in what form?

Everything that depends on the collection's configuration alone is decided here, before a
write is queued: names, dimensions, payload paths. What depends on stored points is
decided when it is applied, and taken back if it fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from headrace.engine.filter.text import text_pipeline
from headrace.engine.vectors.distances import normalised
from headrace.model.collection_changes import (
    changed_config,
    config_with_vector,
    config_without_vector,
)
from headrace.model.collection_config import (
    CollectionConfig,
    Datatype,
    PayloadFieldType,
    SparseVectorParams,
)
from headrace.model.errors import BadRequest, InvalidVector, WrongVectorDimension
from headrace.model.filter_bounds import check_size
from headrace.model.ids import PointId
from headrace.model.operations import (
    ChangeConfig,
    CreatePayloadIndex,
    CreateVectorName,
    DeletePayload,
    DeleteVectors,
    DropPayloadIndex,
    DropVectorName,
    Operation,
    PointSelector,
    RewindSource,
    SetPayload,
    UpdateVectors,
    UpsertPoints,
    WriteBatch,
)
from headrace.model.payload_path import parse_payload_path
from headrace.model.vectors import DenseBatch, Distance, MultiBatch, SparseBatch, VectorBatch

# Half a step above the largest number of float16: from here on it rounds to infinity.
_FLOAT16_OVERFLOW = 65_520.0


def prepare_batch(batch: WriteBatch, config: CollectionConfig) -> WriteBatch:
    """The batch as it is logged; its operations see the configuration that earlier ones make.

    Raises: as `prepare`.
    """
    operations = []
    for operation in batch.operations:
        operations.append(prepare(operation, config))
        config = config_after(operation, config)
    return WriteBatch(operations, batch.source_offsets)


def config_after(operation: Operation, config: CollectionConfig) -> CollectionConfig:
    """The configuration after an operation: the same object if that changes nothing of it.

    Raises:
        WrongInput: a vector name is there and means something else.
        UnknownVectorName: a change names a vector that the collection lacks.
    """
    match operation:
        case CreateVectorName(name=name):
            return config_with_vector(config, name, operation.params)
        case DropVectorName(name=name) if config.find_vector(name) is not None:
            return config_without_vector(config, name)
        case ChangeConfig(change=change):
            return changed_config(config, change)
        case _:
            return config


def prepare(operation: Operation, config: CollectionConfig) -> Operation:
    """The operation as it is logged: checked, cosine vectors normalised, paths canonical.

    Raises:
        UnknownVectorName, WrongVectorDimension, InvalidVector: a vector does not fit.
        MalformedInput: a payload path is not one.
        BadRequest: a selector selects by nothing, or by a filter that is too deep or long.
        WrongInput: a text index wants something that is not available here.
    """
    match operation:
        case UpsertPoints(vectors=vectors) | UpdateVectors(vectors=vectors):
            if operation.update_filter is not None:
                check_size(operation.update_filter)
            prepared = _prepare_vectors(vectors, config, operation.ids)
            return msgspec.structs.replace(operation, vectors=prepared)
        case DeleteVectors(selector=selector, names=names):
            _check_selector(selector)
            for name in names:
                config.vector_params(name)
        case SetPayload(selector=selector, key=key):
            _check_selector(selector)
            if key is not None:
                parse_payload_path(key)
        case DeletePayload(selector=selector, keys=keys):
            _check_selector(selector)
            for key in keys:
                parse_payload_path(key)
        case CreatePayloadIndex(key=key, schema=schema):
            if schema.data_type is PayloadFieldType.TEXT:
                text_pipeline(schema.params)
            return msgspec.structs.replace(operation, key=str(parse_payload_path(key)))
        case DropPayloadIndex(key=key):
            return msgspec.structs.replace(operation, key=str(parse_payload_path(key)))
        case CreateVectorName() | DropVectorName() | ChangeConfig():
            config_after(operation, config)
        case RewindSource():
            pass
        case _:
            _check_selector(operation.selector)
    return operation


def _check_selector(selector: PointSelector) -> None:
    if selector.ids is None and selector.filter is None:
        raise BadRequest("No filter or points provided")
    if selector.filter is not None:
        check_size(selector.filter)


def _prepare_vectors(
    vectors: Mapping[str, VectorBatch], config: CollectionConfig, ids: Sequence[PointId]
) -> dict[str, VectorBatch]:
    return {name: _prepare_batch(name, batch, config, ids) for name, batch in vectors.items()}


def _prepare_batch(
    name: str, batch: VectorBatch, config: CollectionConfig, ids: Sequence[PointId]
) -> VectorBatch:
    params = config.vector_params(name)
    if isinstance(params, SparseVectorParams):
        if not isinstance(batch, SparseBatch):
            raise InvalidVector("Expected a sparse vector, got another kind", name)
        return batch
    expected = MultiBatch if params.is_multi else DenseBatch
    if not isinstance(batch, expected):
        raise InvalidVector(f"Expected a {expected.__name__}, got another kind", name)
    if batch.values.shape[1] != params.size:
        raise WrongVectorDimension(params.size, batch.values.shape[1], name)
    if params.distance is Distance.COSINE and params.datatype is not Datatype.UINT8:
        batch = msgspec.structs.replace(batch, values=normalised(batch.values))
    if params.datatype is Datatype.FLOAT16:
        _check_float16(name, batch, ids)
    return batch


def _check_float16(name: str, batch: DenseBatch | MultiBatch, ids: Sequence[PointId]) -> None:
    """Refuse what would be stored as infinity: nothing could be compared with that."""
    too_large = np.abs(batch.values) >= _FLOAT16_OVERFLOW
    if not too_large.any():
        return
    row, element = np.argwhere(too_large)[0].tolist()
    owner = row
    if isinstance(batch, MultiBatch):
        owner = int(np.searchsorted(batch.bounds, row, side="right")) - 1
    raise InvalidVector(
        f"Vector element {element} is not finite in float16: {batch.values[row, element]}",
        name,
        ids[int(batch.positions[owner])],
    )
