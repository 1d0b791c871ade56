"""What do the routes do that tell how the node is doing?"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from typing import Any, NamedTuple
from urllib.parse import quote

import orjson

from headrace.model.errors import BadRequest
from headrace.server.auth import Need
from headrace.server.errors import not_supported
from headrace.server.logs import LogFormat, change_format, current_format
from headrace.server.metrics import metrics_text
from headrace.server.rest.body import Node, read_body
from headrace.server.rest.collection_info import config_answer
from headrace.server.rest.endpoint import (
    Call,
    Operation,
    on_loop,
    on_read_thread,
)
from headrace.server.rest.parameters import (
    boolean_parameter,
    collection_name,
    collection_timeout_s,
    integer_parameter,
    text_parameter,
)
from headrace.server.rest.routes import COLLECTION, JsonRoute
from headrace.server.rest.sending import accepted_answer, text_answer
from headrace.server.telemetry import telemetry_answer
from headrace.service.issues import UnindexedField

_SLOW_REQUESTS_DEFAULT = 10

# Levels by the names that Qdrant's log has for them.
_LOG_LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}


class _LoggerChange(NamedTuple):
    """What a change of the log asks for.

    Attributes:
        levels: by logger; "" is that of all.
    """

    levels: dict[str, str]
    log_format: LogFormat | None


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
    """GET /issues: what slow reads lacked."""
    return {"issues": [_issue_answer(one) for one in call.service.issues()]}


def clear_issues(call: Call) -> Any:
    """DELETE /issues."""
    call.service.clear_issues()
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
    return {
        "log_level": _level_name(logging.getLogger()),
        "format": current_format().value,
        "on_disk": {"enabled": False},
    }


def set_logger(call: Call) -> Any:
    """POST /logger: levels and format, for this life of the process."""
    wanted = read_body(call.body, _read_logger)
    for name, level in wanted.levels.items():
        logging.getLogger(name).setLevel(_LOG_LEVELS[level])
    if wanted.log_format is not None:
        change_format(wanted.log_format)
    return True


def slow_requests(call: Call) -> Any:
    """GET /profiler/slow_requests: the slowest ones whose route contains a text."""
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
                "duration": round(one.seconds, 3),
                "datetime": one.ended_at.isoformat(),
                "approx_count": one.times,
                "request_body": one.shape,
            }
            for one in found[:limit]
        ]
    }


def debugger(call: Call) -> Any:
    """GET /debugger: no profiler is attached."""
    return {"pyroscope": None}


def change_debugger(call: Call) -> Any:
    """PATCH /debugger: none can be."""
    if read_body(call.body, lambda body: body.get("pyroscope")) is not None:
        raise not_supported("`pyroscope`")
    return True


def truncate_unapplied_wal(call: Call) -> Any:
    """POST /truncate_unapplied_wal: none is, since a write is applied before it is logged."""
    call.service.points_count(collection_name(call.path_parameters))
    if boolean_parameter(call.query_string, "wait", default=True):
        return 0
    return accepted_answer(0.0)


def audit_logs(call: Call) -> Any:
    """POST /audit/logs: there is no audit log."""
    read_body(call.body, Node.members)
    raise BadRequest("Audit logging is not enabled")


def _issue_answer(issue: UnindexedField) -> dict[str, Any]:
    path, name = issue.needed.payload_path, issue.collection_name
    solutions = [_index_action(issue, kind.field_schema()) for kind in issue.suggested()]
    kind = "immediate" if len(solutions) == 1 else "immediate_choice"
    return {
        "id": f"UNINDEXED_FIELD/{name}/{path}",
        "description": (
            f"Unindexed field '{path}' might be slowing queries down in collection '{name}'"
        ),
        "solution": {kind: solutions[0] if len(solutions) == 1 else solutions},
        "timestamp": issue.seen_at.isoformat(),
    }


def _index_action(issue: UnindexedField, field_schema: Any) -> dict[str, Any]:
    """The request that makes an index."""
    path, name = issue.needed.payload_path, issue.collection_name
    shown = orjson.dumps(field_schema).decode()
    return {
        "message": f"Create an index on field '{path}' of schema {shown} in collection '{name}'.",
        "action": {
            "method": "PUT",
            "uri": f"/collections/{quote(name, safe='')}/index",
            "headers": {"content-type": "application/json"},
            "body": {"field_name": path, "field_schema": field_schema},
        },
    }


def _read_logger(body: Node) -> _LoggerChange:
    for name in body.members():
        if name not in ("log_level", "format", "on_disk"):
            raise not_supported(f"`{name}`")
    on_disk = body.get("on_disk")
    if on_disk is not None:
        for name, value in on_disk.members().items():
            # Qdrant ignores the file here, since only its settings may name one.
            if value is not None and value is not False and name != "log_file":
                raise not_supported("`on_disk`: a log file")
    levels, log_format = body.get("log_level"), body.get("format")
    return _LoggerChange(
        {} if levels is None else _levels(levels.text()),
        None if log_format is None else LogFormat(log_format.one_of(LogFormat)),
    )


def _levels(directives: str) -> dict[str, str]:
    """By logger: `info` is that of all, `headrace.server=debug` that of one and those below."""
    levels = {}
    for directive in directives.split(","):
        name, _, level = directive.strip().rpartition("=")
        if level.lower() not in _LOG_LEVELS:
            known = ", ".join(_LOG_LEVELS)
            raise BadRequest(f"`log_level` must be one of {known}, got `{level}`")
        name = name.strip()
        if name and not _is_logger(name):
            raise BadRequest(f"`log_level`: nothing logs as `{name}`")
        levels[name] = level.lower()
    return levels


def _is_logger(name: str) -> bool:
    """Whether something logs under this name, or below it."""
    known = logging.root.manager.loggerDict
    return any(one == name or one.startswith(f"{name}.") for one in known)


def _level_name(logger: logging.Logger) -> str:
    level = logger.getEffectiveLevel()
    return next((name for name, one in _LOG_LEVELS.items() if level <= one), "error")


ROUTES = (
    JsonRoute("GET", "/metrics", Operation(metrics, on_read_thread), Need.GLOBAL_READ),
    JsonRoute("GET", "/telemetry", Operation(telemetry, on_read_thread), Need.IDENTITY),
    JsonRoute("GET", "/issues", Operation(list_issues, on_loop), Need.MANAGE),
    JsonRoute("DELETE", "/issues", Operation(clear_issues, on_loop), Need.MANAGE),
    JsonRoute("GET", "/stacktrace", Operation(stacktrace, on_read_thread), Need.MANAGE),
    JsonRoute("GET", "/logger", Operation(get_logger, on_loop), Need.GLOBAL_READ),
    JsonRoute("POST", "/logger", Operation(set_logger, on_loop, True), Need.MANAGE),
    JsonRoute("GET", "/profiler/slow_requests", Operation(slow_requests, on_loop), Need.MANAGE),
    JsonRoute("GET", "/debugger", Operation(debugger, on_loop), Need.MANAGE),
    JsonRoute("PATCH", "/debugger", Operation(change_debugger, on_loop, True), Need.MANAGE),
    JsonRoute(
        "POST",
        f"{COLLECTION}/truncate_unapplied_wal",
        Operation(truncate_unapplied_wal, on_loop),
        Need.MANAGE,
    ),
    JsonRoute("POST", "/audit/logs", Operation(audit_logs, on_loop, True), Need.MANAGE),
)
