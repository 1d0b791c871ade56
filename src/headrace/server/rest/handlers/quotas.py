"""What do the routes of quotas do?"""

from __future__ import annotations

from typing import Any

import msgspec

from headrace.server.auth import Need
from headrace.server.rest.body import Node, read_body
from headrace.server.rest.endpoint import Call, Operation, on_loop, on_write_thread
from headrace.server.rest.parameters import boolean_parameter
from headrace.server.rest.query_parts import read_boolean
from headrace.server.rest.routes import JsonRoute
from headrace.service.quotas import QuotaConfig


def get_quotas(call: Call) -> Any:
    """GET /quotas."""
    return {
        "config": msgspec.to_builtins(call.service.quotas.config),
        "usage": msgspec.to_builtins(call.service.quotas.usage()),
    }


def set_quotas(call: Call) -> Any:
    """PUT /quotas: replaces all of them; with `wait` or without, they hold when it answers."""
    config = read_body(call.body, _read_config)
    boolean_parameter(call.query_string, "wait")
    call.service.quotas.change(config)
    return True


def _read_config(body: Node) -> QuotaConfig:
    return QuotaConfig(
        enabled=read_boolean(body, "enabled"),
        max_resident_memory_percent=_read_percent(body, "max_resident_memory_percent", 1),
        max_disk_usage_percent=_read_percent(body, "max_disk_usage_percent", 1),
        release_margin_percent=_read_percent(body, "release_margin_percent", 0),
    )


def _read_percent(body: Node, name: str, minimum: int) -> int | None:
    node = body.get(name)
    return None if node is None else node.unsigned(minimum=minimum, maximum=100)


ROUTES = (
    JsonRoute("GET", "/quotas", Operation(get_quotas, on_loop), Need.GLOBAL_READ),
    JsonRoute("PUT", "/quotas", Operation(set_quotas, on_write_thread, True), Need.MANAGE),
)
