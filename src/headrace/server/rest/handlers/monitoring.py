"""What do the routes do that tell how the node is doing?"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from typing import Any

from headrace.model.errors import BadRequest
from headrace.server.auth import Need
from headrace.server.errors import not_supported
from headrace.server.metrics import metrics_text
from headrace.server.rest.body import Node, read_body
from headrace.server.rest.collection_info import config_answer
from headrace.server.rest.endpoint import (
    Call,
    Operation,
    Place,
    on_loop,
)
from headrace.server.rest.parameters import (
    boolean_parameter,
    collection_timeout_s,
    integer_parameter,
    text_parameter,
)
from headrace.server.rest.routes import JsonRoute
from headrace.server.rest.sending import text_answer
from headrace.server.telemetry import telemetry_answer

_SLOW_REQUESTS_DEFAULT = 10

# Levels by the names that Qdrant's log has for them.
_LOG_LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}


def on_read_thread(call: Call) -> Place:
    """For handlers that look at everything."""
    return Place.READ_THREAD


def metrics(call: Call) -> Any:
    """GET /metrics."""
    collection_timeout_s(call.query_string)
    text = metrics_text(
        call.service,
        call.node,
        boolean_parameter(call.query_string, "per_collection"),
        boolean_parameter(call.query_string, "anonymize"),
    )
    return text_answer(text)


def telemetry(call: Call) -> Any:
    """GET /telemetry."""
    collection_timeout_s(call.query_string)
    return telemetry_answer(
        call.service,
        call.node,
        call.access,
        lambda name: config_answer(call.service.collection_config(name)),
        integer_parameter(call.query_string, "details_level", 0),
        boolean_parameter(call.query_string, "per_collection"),
        boolean_parameter(call.query_string, "anonymize"),
    )


def list_issues(call: Call) -> Any:
    """GET /issues: an unindexed filter is no issue here, and nothing else is looked for."""
    return {"issues": []}


def clear_issues(call: Call) -> Any:
    """DELETE /issues."""
    return True


def stacktrace(call: Call) -> Any:
    """GET /stacktrace: where each thread is."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return {
        "threads": [
            {
                "id": ident,
                "name": names.get(ident, ""),
                "frames": [
                    f"{frame.filename}:{frame.lineno} {frame.name}"
                    for frame in traceback.extract_stack(top)
                ],
            }
            for ident, top in sys._current_frames().items()
        ]
    }


def get_logger(call: Call) -> Any:
    """GET /logger."""
    level = logging.getLogger().getEffectiveLevel()
    return {"log_level": next(name for name, one in _LOG_LEVELS.items() if level <= one)}


def set_logger(call: Call) -> Any:
    """POST /logger: the level, for this life of the process."""
    level = read_body(call.body, _read_log_level)
    if level is not None:
        logging.getLogger().setLevel(_LOG_LEVELS[level])
    return True


def slow_requests(call: Call) -> Any:
    """GET /profiler/slow_requests: the latest ones whose route contains a text."""
    limit = integer_parameter(call.query_string, "limit", _SLOW_REQUESTS_DEFAULT)
    part = text_parameter(call.query_string, "request")
    found = [one for one in call.node.requests_log.slow_requests() if part in one.endpoint.name]
    return {
        "requests": [
            {
                "request_id": one.request_id,
                "request_name": one.endpoint.name,
                "collection_name": one.endpoint.collection_name,
                "status": one.endpoint.status,
                "duration": one.seconds,
                "datetime": one.ended_at.isoformat(),
            }
            for one in found[:limit]
        ]
    }


def audit_logs(call: Call) -> Any:
    """POST /audit/logs: there is no audit log."""
    read_body(call.body, Node.members)
    raise BadRequest("Audit logging is not enabled")


def _read_log_level(body: Node) -> str | None:
    for name in body.members():
        if name != "log_level":
            raise not_supported(f"`{name}`")
    node = body.get("log_level")
    if node is None:
        return None
    level = node.text().lower()
    if level not in _LOG_LEVELS:
        raise BadRequest(f"`log_level` must be one of {', '.join(_LOG_LEVELS)}, got `{level}`")
    return level


ROUTES = (
    JsonRoute("GET", "/metrics", Operation(metrics, on_read_thread), Need.GLOBAL_READ),
    JsonRoute("GET", "/telemetry", Operation(telemetry, on_read_thread), Need.IDENTITY),
    JsonRoute("GET", "/issues", Operation(list_issues, on_loop), Need.MANAGE),
    JsonRoute("DELETE", "/issues", Operation(clear_issues, on_loop), Need.MANAGE),
    JsonRoute("GET", "/stacktrace", Operation(stacktrace, on_read_thread), Need.MANAGE),
    JsonRoute("GET", "/logger", Operation(get_logger, on_loop), Need.GLOBAL_READ),
    JsonRoute("POST", "/logger", Operation(set_logger, on_loop, True), Need.MANAGE),
    JsonRoute("GET", "/profiler/slow_requests", Operation(slow_requests, on_loop), Need.MANAGE),
    JsonRoute("POST", "/audit/logs", Operation(audit_logs, on_loop, True), Need.MANAGE),
)
