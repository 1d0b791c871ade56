"""What do the routes of facets and distance matrices do?"""

from __future__ import annotations

from typing import Any

from headrace.server.auth import Need
from headrace.server.rest.aggregations import parse_facet, parse_matrix
from headrace.server.rest.answers import facet_answer, matrix_offsets_answer, matrix_pairs_answer
from headrace.server.rest.endpoint import Call, Operation, by_collection_size, read_timed_out
from headrace.server.rest.handlers.reads import begin_read
from headrace.server.rest.parameters import collection_name
from headrace.server.rest.routes import COLLECTION, JsonRoute
from headrace.service.service import MatrixRow


def facet(call: Call) -> Any:
    """POST /facet."""
    name = collection_name(call.path_parameters)
    request = parse_facet(call.body)
    begin_read(call, name, request.shard_key)
    return facet_answer(call.service.facet(name, request.facet))


def matrix_pairs(call: Call) -> Any:
    """POST /points/search/matrix/pairs."""
    return matrix_pairs_answer(_matrix(call))


def matrix_offsets(call: Call) -> Any:
    """POST /points/search/matrix/offsets."""
    return matrix_offsets_answer(_matrix(call))


def _matrix(call: Call) -> list[MatrixRow]:
    name = collection_name(call.path_parameters)
    request = parse_matrix(call.body)
    begin_read(call, name, request.shard_key)
    return call.service.matrix(name, request.matrix)


ROUTES = tuple(
    JsonRoute(
        "POST",
        COLLECTION + path,
        Operation(handle, by_collection_size, True, read_timed_out),
        Need.READ,
    )
    for path, handle in (
        ("/facet", facet),
        ("/points/search/matrix/pairs", matrix_pairs),
        ("/points/search/matrix/offsets", matrix_offsets),
    )
)
