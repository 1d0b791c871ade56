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
from starlette.types import ASGIApp, Receive, Scope, Send

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
from headrace.server.rest.routes import JsonRoute
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
    threads = Threads()
    node = node or Node()
    routes = [
        Route(route.path, Endpoint(route, service, node, threads), methods=[route.method])
        for route in JSON_ROUTES
    ]
    app = Starlette(
        routes=[*routes, *snapshots.upload_routes(service, node, threads), *health.ROUTES],
        middleware=[*_cors(cors_origins), Middleware(_EncodedPaths)],
        exception_handlers={HTTPException: _no_such_route(node)},
    )
    app.router.redirect_slashes = False
    return app


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


class _EncodedPaths:
    """Matches routes on the path as it was sent, without slashes at its end.

    A `%2F` inside a name is then no separator, and the name is judged once it is decoded.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["raw_path"].decode("latin-1").rstrip("/")
            scope = {**scope, "path": path or "/"}
        await self._app(scope, receive, send)


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
