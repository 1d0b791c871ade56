"""What do the routes of collections do?"""

from __future__ import annotations

from typing import Any

from headrace.model.names import vector_name_problems
from headrace.model.operations import DropVectorName
from headrace.server.auth import Need
from headrace.server.rest.answers import update_answer
from headrace.server.rest.body import Rules
from headrace.server.rest.collection_changes import (
    parse_create_vector_name,
    parse_update_collection,
)
from headrace.server.rest.collection_info import collection_info_answer
from headrace.server.rest.collections import parse_create_collection
from headrace.server.rest.endpoint import (
    Call,
    Operation,
    by_collection_size,
    on_loop,
    on_write_thread,
    read_timed_out,
)
from headrace.server.rest.parameters import (
    collection_name,
    collection_timeout_s,
    path_parameter,
    write_parameters,
)
from headrace.server.rest.routes import COLLECTION, JsonRoute


def list_collections(call: Call) -> Any:
    """GET /collections: those that the caller may see."""
    names = [name for name in call.service.collection_names() if call.access.sees(name)]
    return {"collections": [{"name": name} for name in names]}


def get_collection(call: Call) -> Any:
    """GET /collections/{collection_name}."""
    name = collection_name(call.path_parameters)
    return collection_info_answer(call.service.collection_info(name))


def collection_exists(call: Call) -> Any:
    """GET /collections/{collection_name}/exists: never a 404."""
    return {"exists": call.service.collection_exists(collection_name(call.path_parameters))}


def create_collection(call: Call) -> Any:
    """PUT /collections/{collection_name}."""
    name = collection_name(call.path_parameters, new=True)
    config = parse_create_collection(call.body)
    collection_timeout_s(call.query_string)
    call.service.create_collection(name, config)
    return True


def update_collection(call: Call) -> Any:
    """PATCH /collections/{collection_name}."""
    name = collection_name(call.path_parameters)
    change = parse_update_collection(call.body)
    collection_timeout_s(call.query_string)
    call.service.change_collection(name, change)
    return True


def delete_collection(call: Call) -> Any:
    """DELETE /collections/{collection_name}: false if there is none."""
    name = collection_name(call.path_parameters)
    collection_timeout_s(call.query_string)
    deleted = call.service.delete_collection(name)
    call.node.requests_log.forget_collection(name)
    return deleted


def create_vector_name(call: Call) -> Any:
    """PUT /vectors/{vector_name}."""
    name = collection_name(call.path_parameters)
    vector_name = _vector_name(call, new=True)
    operation = parse_create_vector_name(vector_name, call.body)
    parameters = write_parameters(call.query_string)
    return update_answer(call.service.write(name, [operation]), parameters.wait)


def delete_vector_name(call: Call) -> Any:
    """DELETE /vectors/{vector_name}: of a name that is not there as well."""
    name = collection_name(call.path_parameters)
    operation = DropVectorName(_vector_name(call))
    parameters = write_parameters(call.query_string)
    return update_answer(call.service.write(name, [operation]), parameters.wait)


def _vector_name(call: Call, new: bool = False) -> str:
    vector_name = path_parameter(call.path_parameters, "vector_name")
    rules = Rules("path parameters")
    if not vector_name:
        rules.broken("vector_name", 'value "" invalid, must be at least 1 characters')
    for problem in vector_name_problems(vector_name) if new else ():
        rules.broken("vector_name", problem)
    rules.check()
    return vector_name


ROUTES = (
    JsonRoute("GET", "/collections", Operation(list_collections, on_loop), Need.IDENTITY),
    JsonRoute("GET", COLLECTION, Operation(get_collection, by_collection_size), Need.READ_EXTRAS),
    JsonRoute("GET", f"{COLLECTION}/exists", Operation(collection_exists, on_loop), Need.READ),
    JsonRoute(
        "PUT",
        COLLECTION,
        Operation(create_collection, on_write_thread, True, read_timed_out),
        Need.MANAGE,
    ),
    JsonRoute(
        "PATCH",
        COLLECTION,
        Operation(update_collection, on_write_thread, True, read_timed_out),
        Need.MANAGE,
    ),
    JsonRoute(
        "DELETE",
        COLLECTION,
        Operation(delete_collection, on_write_thread, False, read_timed_out),
        Need.MANAGE,
    ),
    JsonRoute(
        "PUT",
        f"{COLLECTION}/vectors/{{vector_name}}",
        Operation(create_vector_name, on_write_thread, True),
        Need.WRITE_EXTRAS,
    ),
    JsonRoute(
        "DELETE",
        f"{COLLECTION}/vectors/{{vector_name}}",
        Operation(delete_vector_name, on_write_thread),
        Need.WRITE_EXTRAS,
    ),
)
