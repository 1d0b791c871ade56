"""Which vector name is to be made or removed?"""

from __future__ import annotations

from functools import partial

from qdrant_client import grpc as qdrant

from headrace.model.errors import MalformedInput
from headrace.model.names import vector_name_problems
from headrace.model.operations import CreateVectorName, DropVectorName
from headrace.server.grpc.config_json import config_json
from headrace.server.grpc.operations import Build
from headrace.server.grpc.rules import broken_rule, read_as_json, refuse_other_fields
from headrace.server.rest.collection_changes import parse_create_vector_name

_FIELD_NAMES = {"dense": "dense_config", "sparse": "sparse_config"}


def read_create_vector_name(message: qdrant.CreateVectorNameRequest) -> Build:
    """A vector name with its parameters.

    Raises:
        MalformedInput, InvalidBody: a part of it is missing, or breaks a rule.
        BadRequest: it asks for what is not supported.
    """
    refuse_other_fields(message, "vector_name", "dense_config", "sparse_config")
    name = _checked_name(message.vector_name)
    for problem in vector_name_problems(name):
        raise broken_rule("vector_name", problem)
    match message.WhichOneof("vector_config"):
        case "dense_config":
            body = {"dense": config_json(message.dense_config)}
        case "sparse_config":
            body = {"sparse": config_json(message.sparse_config)}
        case _:
            raise MalformedInput("Vector config is missing")
    operation: CreateVectorName = read_as_json(
        partial(parse_create_vector_name, name), body, _FIELD_NAMES
    )
    return lambda config: operation


def read_delete_vector_name(message: qdrant.DeleteVectorNameRequest) -> Build:
    """A vector name alone.

    Raises:
        InvalidBody: it is empty.
    """
    refuse_other_fields(message, "vector_name")
    operation = DropVectorName(_checked_name(message.vector_name))
    return lambda config: operation


def _checked_name(name: str) -> str:
    if not name:
        raise broken_rule("vector_name", 'value "" invalid, must be at least 1 characters')
    return name
