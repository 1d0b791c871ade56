"""What does the route do that tells what is done to a collection in the background?

A collection is one segment. What is done to it: graphs are made (`indexing`) and merged
(`merge`), rows of deleted points are dropped (`vacuum`), and parts of the payload index are
built (`payload_index`).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from headrace.model.errors import MalformedInput
from headrace.server.auth import Need
from headrace.server.rest.endpoint import Call, Operation, on_loop
from headrace.server.rest.parameters import collection_name, integer_parameter, text_parameter
from headrace.server.rest.routes import COLLECTION, JsonRoute
from headrace.service.service import BuildProgress, FinishedWork, GraphProgress

_PARTS = ("queued", "completed", "idle_segments")
_COMPLETED_DEFAULT = 16


def optimizations(call: Call) -> Any:
    """GET /optimizations."""
    name = collection_name(call.path_parameters)
    wanted = _wanted_parts(call.query_string)
    completed_max = integer_parameter(call.query_string, "completed_limit", _COMPLETED_DEFAULT)
    points_count = call.service.points_count(name)
    segment = {"uuid": _uuid(name), "points_count": points_count}
    graphs = call.service.graph_builds(name)
    waiting = [one for one in graphs.values() if not one.vectors_to_link]
    running = [
        *(_graph(segment, of, one) for of, one in graphs.items() if one.vectors_to_link),
        *(_payload_index(segment, one) for one in call.service.payload_index_builds(name)),
    ]
    is_idle = not graphs
    found: dict[str, list[Any]] = {
        "queued": [{"optimizer": "indexing", "segments": [segment]} for _ in waiting],
        "completed": [
            _finished(name, one) for one in call.service.finished_work(name)[:completed_max]
        ],
        "idle_segments": [segment] if is_idle else [],
    }
    return {
        "summary": {
            "queued_optimizations": len(waiting),
            "queued_segments": min(1, len(waiting)),
            "queued_points": points_count if waiting else 0,
            "idle_segments": int(is_idle),
        },
        "running": running,
        **{part: found[part] for part in _PARTS if part in wanted},
    }


def _wanted_parts(query_string: bytes) -> set[str]:
    parts = text_parameter(query_string, "with")
    wanted = {part.strip() for part in parts.split(",")} if parts else set()
    for part in wanted.difference(_PARTS):
        expected = ", ".join(f"`{one}`" for one in _PARTS)
        raise MalformedInput(
            "Deserialize error in query parameters: "
            f"unknown variant `{part}`, expected one of {expected}"
        )
    return wanted


def _graph(segment: dict[str, Any], vector_name: str, build: GraphProgress) -> dict[str, Any]:
    return {
        "uuid": _uuid(f"graph of {vector_name}"),
        "optimizer": "indexing",
        "status": "optimizing",
        "segments": [segment],
        "progress": {
            "name": f"graph of vector '{vector_name}': {build.reason}",
            "done": build.vectors_linked,
            "total": build.vectors_to_link,
        },
    }


def _payload_index(segment: dict[str, Any], build: BuildProgress) -> dict[str, Any]:
    paths = ", ".join(build.payload_paths)
    return {
        "uuid": _uuid(paths),
        "optimizer": "payload_index",
        "status": "optimizing",
        "segments": [segment],
        "progress": {
            "name": f"payload index of {paths}",
            "done": build.rows_done,
            "total": build.rows_total,
        },
    }


def _finished(name: str, work: FinishedWork) -> dict[str, Any]:
    ended_at = work.began_at + timedelta(seconds=work.seconds)
    return {
        "uuid": _uuid(f"{work.kind} {work.what} {work.began_at}"),
        "optimizer": work.kind,
        "status": "done",
        "segments": [{"uuid": _uuid(name), "points_count": work.rows}],
        "progress": {
            "name": f"{work.kind}: {work.what}",
            "started_at": work.began_at.isoformat(),
            "finished_at": ended_at.isoformat(),
            "duration_sec": work.seconds,
            "done": work.rows,
            "total": work.rows,
        },
    }


def _uuid(name: str) -> str:
    return str(uuid5(NAMESPACE_OID, name))


ROUTES = (
    JsonRoute(
        "GET", f"{COLLECTION}/optimizations", Operation(optimizations, on_loop), Need.READ_EXTRAS
    ),
)
