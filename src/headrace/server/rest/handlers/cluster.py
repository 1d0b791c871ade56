"""What does a single node answer where a cluster is asked for?

One node holds one shard of each collection, number 0, which is all of it.
"""

from __future__ import annotations

from typing import Any

from headrace.model.errors import BadRequest, MalformedInput, NotFound, NotSupported
from headrace.server.auth import Need
from headrace.server.rest.body import U32_MAX, Node, read_body
from headrace.server.rest.endpoint import (
    Call,
    Operation,
    by_collection_size,
    on_loop,
    read_timed_out,
)
from headrace.server.rest.handlers.reads import count_points, retrieve_points, scroll_points
from headrace.server.rest.parameters import (
    boolean_parameter,
    collection_name,
    collection_timeout_s,
    integer_parameter,
    path_parameter,
)
from headrace.server.rest.routes import COLLECTION, JsonRoute

# Qdrant's number of a node that is in no cluster.
_PEER_ID = 0
_SHARD_ID = 0

_SHARD = f"{COLLECTION}/shards/{{shard_id}}"


def cluster_status(call: Call) -> Any:
    """GET /cluster."""
    return {"status": "disabled"}


def cluster_telemetry(call: Call) -> Any:
    """GET /cluster/telemetry."""
    integer_parameter(call.query_string, "details_level", 0)
    collection_timeout_s(call.query_string)
    names = [name for name in call.service.collection_names() if call.access.sees(name)]
    return {"collections": {name: {"id": name} for name in names}}


def refuse_standalone(call: Call) -> Any:
    """Routes that change a cluster."""
    raise NotSupported("Qdrant is running in standalone mode")


def collection_cluster(call: Call) -> Any:
    """GET /collections/{collection_name}/cluster."""
    name = collection_name(call.path_parameters)
    local = {
        "shard_id": _SHARD_ID,
        "points_count": call.service.points_count(name),
        "state": "Active",
    }
    return {
        "peer_id": _PEER_ID,
        "shard_count": 1,
        "local_shards": [local],
        "remote_shards": [],
        "shard_transfers": [],
    }


def refuse_distributed(call: Call) -> Any:
    """Routes that move or make shards."""
    name = collection_name(call.path_parameters)
    read_body(call.body, Node.members)
    collection_timeout_s(call.query_string)
    call.service.points_count(name)
    raise BadRequest("Distributed mode disabled")


def shard_keys(call: Call) -> Any:
    """GET /collections/{collection_name}/shards: no collection has shard keys."""
    call.service.points_count(collection_name(call.path_parameters))
    return {}


def retrieve_from_shard(call: Call) -> Any:
    """POST /shards/{shard}/points."""
    _check_shard(call)
    return retrieve_points(call)


def scroll_shard(call: Call) -> Any:
    """POST /shards/{shard}/points/scroll."""
    _check_shard(call)
    read_body(call.body, _check_hash_ring)
    return scroll_points(call)


def count_shard(call: Call) -> Any:
    """POST /shards/{shard}/points/count."""
    _check_shard(call)
    read_body(call.body, _check_hash_ring)
    return count_points(call)


def clean_shard(call: Call) -> Any:
    """POST /shards/{shard}/cleanup: no point is in a shard that it does not belong to."""
    _check_shard(call)
    wait = boolean_parameter(call.query_string, "wait")
    collection_timeout_s(call.query_string)
    return {"status": "completed" if wait else "acknowledged"}


def _check_shard(call: Call) -> None:
    name = collection_name(call.path_parameters)
    text = path_parameter(call.path_parameters, "shard_id")
    if not (text.isascii() and text.isdigit()) or int(text) > U32_MAX:
        raise MalformedInput(
            f'Deserialize error in path parameters: can not parse "{text}" to a u32'
        )
    call.service.points_count(name)
    if int(text) != _SHARD_ID:
        raise NotFound(f"Shard {int(text)} not found")


def _check_hash_ring(body: Node) -> None:
    """`hash_ring_filter` asks for the points that belong to a shard: to this one, all do."""
    ring = body.get("hash_ring_filter")
    if ring is None:
        return
    expected = ring.require("expected_shard_id").unsigned(U32_MAX)
    if expected != _SHARD_ID:
        raise BadRequest(f"hash_ring_filter: shard {expected} is not in the hash ring")


def _refused(method: str, path: str, has_body: bool = False) -> JsonRoute:
    return JsonRoute(method, path, Operation(refuse_standalone, on_loop, has_body), Need.MANAGE)


def _distributed(method: str, path: str) -> JsonRoute:
    return JsonRoute(method, path, Operation(refuse_distributed, on_loop, True), Need.MANAGE)


ROUTES = (
    JsonRoute("GET", "/cluster", Operation(cluster_status, on_loop), Need.GLOBAL_READ),
    JsonRoute("GET", "/cluster/telemetry", Operation(cluster_telemetry, on_loop), Need.IDENTITY),
    _refused("POST", "/cluster/recover"),
    _refused("DELETE", "/cluster/peer/{peer_id}"),
    _refused("GET", "/cluster/metadata/keys"),
    _refused("GET", "/cluster/metadata/keys/{key}"),
    _refused("PUT", "/cluster/metadata/keys/{key}", has_body=True),
    _refused("DELETE", "/cluster/metadata/keys/{key}"),
    JsonRoute(
        "GET", f"{COLLECTION}/cluster", Operation(collection_cluster, on_loop), Need.READ_EXTRAS
    ),
    _distributed("POST", f"{COLLECTION}/cluster"),
    JsonRoute("GET", f"{COLLECTION}/shards", Operation(shard_keys, on_loop), Need.READ_EXTRAS),
    _distributed("PUT", f"{COLLECTION}/shards"),
    _distributed("POST", f"{COLLECTION}/shards/delete"),
    *(
        JsonRoute(
            "POST",
            _SHARD + path,
            Operation(handle, by_collection_size, True, read_timed_out),
            Need.READ,
        )
        for path, handle in (
            ("/points", retrieve_from_shard),
            ("/points/scroll", scroll_shard),
            ("/points/count", count_shard),
        )
    ),
    JsonRoute("POST", f"{_SHARD}/cleanup", Operation(clean_shard, on_loop), Need.WRITE_EXTRAS),
)
