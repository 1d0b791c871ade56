"""What do the routes of payload indexes do?"""

from __future__ import annotations

from typing import Any

from headrace.model.errors import MalformedInput
from headrace.model.operations import DropPayloadIndex
from headrace.model.payload_path import parse_payload_path
from headrace.server.auth import Need
from headrace.server.rest.answers import update_answer
from headrace.server.rest.endpoint import Call, Operation, on_write_thread
from headrace.server.rest.handlers.updates import update_timed_out
from headrace.server.rest.parameters import collection_name, path_parameter, write_parameters
from headrace.server.rest.payload_indexes import parse_create_index
from headrace.server.rest.routes import COLLECTION, JsonRoute


def create_index(call: Call) -> Any:
    """PUT /index."""
    name = collection_name(call.path_parameters)
    operation = parse_create_index(call.body)
    parameters = write_parameters(call.query_string)
    call.service.check_timeout(name, parameters.timeout_s)
    return update_answer(call.service.write(name, [operation]), parameters.wait)


def drop_index(call: Call) -> Any:
    """DELETE /index/{field_name}: no error if there is none."""
    name = collection_name(call.path_parameters)
    try:
        key = str(parse_payload_path(path_parameter(call.path_parameters, "field_name")))
    except MalformedInput as error:
        raise MalformedInput(f"Deserialize error in path parameters: {error.detail}") from None
    parameters = write_parameters(call.query_string)
    call.service.check_timeout(name, parameters.timeout_s)
    operation_id = call.service.write(name, [DropPayloadIndex(key)])
    return update_answer(operation_id, parameters.wait)


ROUTES = (
    JsonRoute(
        "PUT",
        f"{COLLECTION}/index",
        Operation(create_index, on_write_thread, True, update_timed_out),
        Need.WRITE_EXTRAS,
    ),
    JsonRoute(
        "DELETE",
        f"{COLLECTION}/index/{{field_name}}",
        Operation(drop_index, on_write_thread, False, update_timed_out),
        Need.WRITE_EXTRAS,
    ),
)
