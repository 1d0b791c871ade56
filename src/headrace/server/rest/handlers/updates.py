"""What do the routes that write points do?

All sync before they answer, with `wait` or without: what was acknowledged is not lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.server.auth import Need
from headrace.server.rest.answers import update_answer
from headrace.server.rest.endpoint import Call, Operation, on_write_thread
from headrace.server.rest.parameters import collection_name, write_parameters
from headrace.server.rest.routes import COLLECTION, JsonRoute
from headrace.server.rest.writes import (
    Build,
    parse_batch,
    parse_clear_payload,
    parse_delete_payload,
    parse_delete_points,
    parse_delete_vectors,
    parse_overwrite_payload,
    parse_set_payload,
    parse_update_vectors,
    parse_upsert,
)


def update_timed_out(call: Call, timeout_s: int) -> Any:
    """The result of a write that goes on after its caller's time was over."""
    return {"status": "wait_timeout"}


def _update(parse: Callable[[bytes], Build]) -> Callable[[Call], Any]:
    """The handler of a route whose body is one update."""

    def handle(call: Call) -> Any:
        name = collection_name(call.path_parameters)
        build = parse(call.body)
        parameters = write_parameters(call.query_string)
        call.service.check_timeout(name, parameters.timeout_s)
        operations = build(call.service.collection_config(name))
        return update_answer(call.service.write(name, operations), parameters.wait)

    return handle


def update_batch(call: Call) -> Any:
    """POST /points/batch: all entries in order, as one atomic write."""
    name = collection_name(call.path_parameters)
    builds = parse_batch(call.body)
    parameters = write_parameters(call.query_string)
    call.service.check_timeout(name, parameters.timeout_s)
    config = call.service.collection_config(name)
    operations = [operation for build in builds for operation in build(config)]
    if not operations:
        return []
    operation_id = call.service.write(name, operations)
    return [update_answer(operation_id, parameters.wait)] * len(builds)


ROUTES = tuple(
    JsonRoute(
        method,
        COLLECTION + path,
        Operation(handle, on_write_thread, takes_body=True, on_timeout=update_timed_out),
        Need.WRITE,
    )
    for method, path, handle in (
        ("PUT", "/points", _update(parse_upsert)),
        ("POST", "/points/delete", _update(parse_delete_points)),
        ("PUT", "/points/vectors", _update(parse_update_vectors)),
        ("POST", "/points/vectors/delete", _update(parse_delete_vectors)),
        ("POST", "/points/payload", _update(parse_set_payload)),
        ("PUT", "/points/payload", _update(parse_overwrite_payload)),
        ("POST", "/points/payload/delete", _update(parse_delete_payload)),
        ("POST", "/points/payload/clear", _update(parse_clear_payload)),
        ("POST", "/points/batch", update_batch),
    )
)
