"""What do the routes that read points do?"""

from __future__ import annotations

from typing import Any

from headrace.model.errors import BadRequest, HeadraceError, NotFound
from headrace.model.queries import ALL_VECTORS, WHOLE_PAYLOAD
from headrace.server.auth import Need
from headrace.server.rest.answers import (
    PIECE_POINTS,
    WHOLE_POINTS_MAX,
    listed,
    plan_answer,
    query_answer,
    record_answer,
    records_answer,
    scored_points_answer,
    scroll_answer,
)
from headrace.server.rest.endpoint import (
    Call,
    Operation,
    Place,
    by_collection_size,
    by_points_size,
    is_long_to_read,
    on_read_thread,
    read_timed_out,
)
from headrace.server.rest.parameters import collection_name, point_id, read_timeout_s
from headrace.server.rest.queries import (
    SearchRequest,
    parse_count,
    parse_query,
    parse_query_batch,
    parse_retrieve,
    parse_scroll,
)
from headrace.server.rest.routes import COLLECTION, JsonRoute

# Of more, the vectors are counted.
_IDS_IN_PLACE_MAX = 100


def query_points(call: Call) -> Any:
    """POST /points/query."""
    name = collection_name(call.path_parameters)
    request = call.read(parse_query)
    begin_read(call, name, request.shard_key)
    call.access.check_lookups(request.query)
    if request.query.limit > WHOLE_POINTS_MAX:
        return _long_query_answer(call, name, request)
    answer = query_answer(call.service.query(name, request.query))
    if request.explain:
        answer["explain"] = plan_answer(call.service.explain(name, request.query))
    return answer


def query_points_batch(call: Call) -> Any:
    """POST /points/query/batch: each query by itself."""
    name = collection_name(call.path_parameters)
    requests = parse_query_batch(call.body)
    begin_read(call, name, *(request.shard_key for request in requests))
    queries = [request.query for request in requests]
    for query in queries:
        call.access.check_lookups(query)
    answers = [query_answer(points) for points in call.service.query_batch(name, queries)]
    for request, answer in zip(requests, answers, strict=True):
        if request.explain:
            answer["explain"] = plan_answer(call.service.explain(name, request.query))
    return answers


def scroll_points(call: Call) -> Any:
    """POST /points/scroll."""
    name = collection_name(call.path_parameters)
    request = parse_scroll(call.body)
    begin_read(call, name, request.shard_key)
    return scroll_answer(call.service.scroll_pieces(name, request.scroll, PIECE_POINTS))


def count_points(call: Call) -> Any:
    """POST /points/count."""
    name = collection_name(call.path_parameters)
    request = parse_count(call.body)
    begin_read(call, name, request.shard_key)
    return {"count": call.service.count(name, request.filter)}


def retrieve_points(call: Call) -> Any:
    """POST /points: by id."""
    name = collection_name(call.path_parameters)
    request = parse_retrieve(call.body)
    begin_read(call, name, request.shard_key)
    found = call.service.retrieve_pieces(
        name, request.ids, request.with_payload, request.with_vectors, PIECE_POINTS
    )
    return listed(found, records_answer, lambda points: points)


def get_point(call: Call) -> Any:
    """GET /points/{id}: with payload and vectors."""
    name = collection_name(call.path_parameters)
    wanted = point_id(call.path_parameters)
    begin_read(call, name)
    records = call.service.retrieve(name, [wanted], WHOLE_PAYLOAD, ALL_VECTORS)
    if not records:
        raise NotFound(f"Point with id {wanted} does not exists!")
    return record_answer(records[0])


def _long_query_answer(call: Call, name: str, request: SearchRequest) -> Any:
    found = call.service.query_pieces(name, request.query, PIECE_POINTS)
    more = {}
    if request.explain:
        more["explain"] = plan_answer(call.service.explain(name, request.query))
    return listed(found, scored_points_answer, lambda points: {"points": points, **more})


def by_query_duration(call: Call) -> Place:
    """On the event loop if the query is certainly short, or the collection is small.

    A thread's hop and its share of the interpreter cost three times what a search of a
    graph does.
    """
    if is_long_to_read(call.body):
        return Place.READ_THREAD
    try:
        name = collection_name(call.path_parameters)
        is_short = call.service.is_short(name, call.read(parse_query).query)
    except HeadraceError:
        return Place.LOOP  # whose handler then tells it
    return Place.LOOP if is_short else by_collection_size(call)


def by_ids_count(call: Call) -> Place:
    """On the event loop if the points that are asked for are soon found and written down."""
    place = by_collection_size(call)
    ids_count = call.body.count(b",") + 1
    if place is not Place.LOOP or ids_count <= _IDS_IN_PLACE_MAX:
        return place
    try:
        return by_points_size(call, collection_name(call.path_parameters), ids_count)
    except HeadraceError:
        return Place.LOOP  # whose handler then tells it


def begin_read(call: Call, name: str, *shard_keys: str | None) -> None:
    """Check what stands in a read's query string, then that its collection is there.

    Args:
        call: the request.
        name: of the collection.
        shard_keys: that the body names; no collection has shards to choose from.

    Raises:
        MalformedInput: the query string does not parse.
        NotFound: no such collection.
        BadRequest: the timeout is too long, or there is a shard key.
    """
    call.service.check_timeout(name, read_timeout_s(call.query_string))
    for shard_key in shard_keys:
        if shard_key is not None:
            raise BadRequest(f"Shard key {shard_key} not found")


ROUTES = tuple(
    JsonRoute(
        method,
        COLLECTION + path,
        Operation(handle, place, body, read_timed_out),
        Need.READ,
    )
    for method, path, handle, place, body in (
        ("POST", "/points/query", query_points, by_query_duration, True),
        ("POST", "/points/query/batch", query_points_batch, on_read_thread, True),
        ("POST", "/points/scroll", scroll_points, by_collection_size, True),
        ("POST", "/points/count", count_points, by_collection_size, True),
        ("POST", "/points", retrieve_points, by_ids_count, True),
        ("GET", "/points/{id}", get_point, by_collection_size, False),
    )
)
