"""Which vector name is to be made or removed?

A collection's vector names are settled when it is made: what asks for them as they are is
granted, anything else refused.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson
from qdrant_client import grpc as qdrant

from headrace.model.collection_config import CollectionConfig
from headrace.model.errors import MalformedInput, WrongInput
from headrace.server.errors import not_supported
from headrace.server.grpc.config_json import config_json
from headrace.server.grpc.rules import broken_rule, refuse_other_fields
from headrace.server.rest.collection_changes import parse_vector_name

# Raises what keeps a change from being granted to a collection of this configuration.
Check = Callable[[CollectionConfig], None]


def read_create_vector_name(message: qdrant.CreateVectorNameRequest) -> Check:
    """A vector name with its parameters.

    Raises:
        MalformedInput, InvalidBody: a part of it is missing, or breaks a rule.
        BadRequest: it asks for what is not supported.
    """
    refuse_other_fields(message, "vector_name", "dense_config", "sparse_config")
    name = _checked_name(message.vector_name)
    match message.WhichOneof("vector_config"):
        case "dense_config":
            body = {"dense": config_json(message.dense_config)}
        case "sparse_config":
            body = {"sparse": _sparse_json(message.sparse_config)}
        case _:
            raise MalformedInput("Vector config is missing")
    params = parse_vector_name(orjson.dumps(body))

    def check(config: CollectionConfig) -> None:
        known = config.vectors.get(name) or config.sparse_vectors.get(name)
        if known is None:
            raise not_supported("adding a vector name to a collection")
        if known != params:
            raise WrongInput(f"Vector `{name}` already exists with a different configuration")

    return check


def read_delete_vector_name(message: qdrant.DeleteVectorNameRequest) -> Check:
    """A vector name alone.

    Raises:
        InvalidBody: it is empty.
    """
    refuse_other_fields(message, "vector_name")
    name = _checked_name(message.vector_name)

    def check(config: CollectionConfig) -> None:
        if name in config.vectors or name in config.sparse_vectors:
            raise not_supported("removing a vector name from a collection")

    return check


def _checked_name(name: str) -> str:
    if not name:
        raise broken_rule("vector_name", 'value "" invalid, must be at least 1 characters')
    return name


def _sparse_json(message: qdrant.SparseVectorCreationConfig) -> dict[str, object]:
    """The body that REST takes, where the datatype belongs to the index."""
    sparse: dict[str, object] = config_json(message)
    if "datatype" in sparse:
        sparse["index"] = {"datatype": sparse.pop("datatype")}
    return sparse
