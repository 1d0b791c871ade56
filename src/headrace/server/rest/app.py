"""Which routes does the REST front have, and what surrounds them?"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from headrace.server.auth import TokenRefused, Unauthenticated
from headrace.server.node import Node
from headrace.server.rest.endpoint import Endpoint, Threads, caller_access, error_answer
from headrace.server.rest.handlers import (
    aggregations,
    aliases,
    cluster,
    collections,
    groups,
    health,
    monitoring,
    optimizations,
    payload_indexes,
    quotas,
    reads,
    searches,
    snapshots,
    updates,
)
from headrace.server.rest.routes import JsonRoute, RouteTable
from headrace.service.service import Service

# Routes are tried in this order, so the busiest come first.
JSON_ROUTES: tuple[JsonRoute, ...] = (
    *reads.ROUTES,
    *updates.ROUTES,
    *searches.ROUTES,
    *groups.ROUTES,
    *aggregations.ROUTES,
    *payload_indexes.ROUTES,
    *aliases.ROUTES,
    *collections.ROUTES,
    *cluster.ROUTES,
    *quotas.ROUTES,
    *monitoring.ROUTES,
    *optimizations.ROUTES,
    *snapshots.ROUTES,
)


def create_app(
    service: Service, node: Node | None = None, cors_origins: Sequence[str] = ()
) -> Starlette:
    """The REST front over an opened store, in the shapes of Qdrant 1.19.

    Args:
        service: the store; its owner closes it after the application has stopped.
        node: what it shares with other fronts; its own if not given.
        cors_origins: the web origins whose pages may call it; `*` is all, none is none.
    """
    return _RestApp(service, node or Node(), cors_origins)


def path_as_sent(raw_path: bytes) -> str:
    """The path that routes are matched on: percent-encoded, without slashes at its end.

    A `%2F` inside a name is then no separator, and the name is judged once it is decoded.
    """
    return raw_path.decode("latin-1").rstrip("/") or "/"


class _RestApp(Starlette):
    """Requests of JSON routes go to their endpoints at once, all others Starlette's way.

    An endpoint answers its errors itself, so the layers around Starlette's router would do
    nothing for it, but where browsers of other origins may call.
    """

    def __init__(self, service: Service, node: Node, cors_origins: Sequence[str]) -> None:
        threads = Threads()
        endpoints = [(route, Endpoint(route, service, node, threads)) for route in JSON_ROUTES]
        self._endpoints = RouteTable([] if cors_origins else endpoints)
        super().__init__(
            routes=[
                *(Route(one.path, endpoint, methods=[one.method]) for one, endpoint in endpoints),
                *snapshots.upload_routes(service, node, threads),
                *health.ROUTES,
            ],
            middleware=_cors(cors_origins),
            exception_handlers={HTTPException: _no_such_route(node)},
        )
        self.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = path_as_sent(scope["raw_path"])
            found = self._endpoints.find(scope["method"], path)
            if found is not None:
                endpoint, scope["path_params"] = found
                await endpoint(scope, receive, send)
                return
            scope = {**scope, "path": path}
        await super().__call__(scope, receive, send)


def _cors(origins: Sequence[str]) -> list[Middleware]:
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["retry-after", "x-request-id"],
        )
    ]


def _no_such_route(node: Node) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Answers an unknown path, or a known one with another method: nothing is said.

    As in Qdrant, who may not come in is not told what is there either.
    """

    async def answer(request: Request, error: Exception) -> Response:
        try:
            caller_access(node, dict(request.scope["headers"]))
        except (Unauthenticated, TokenRefused) as refusal:
            refused = error_answer(refusal, 0.0)
            return Response(refused.body, refused.status, media_type="text/plain")
        return Response(status_code=404)

    return answer
