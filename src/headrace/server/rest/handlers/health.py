"""What does the server say about itself?"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from headrace.server.node import BUILD_ID, QDRANT_API_VERSION, TITLE


async def index(request: Request) -> Response:
    """GET /."""
    return JSONResponse({"title": TITLE, "version": QDRANT_API_VERSION, "commit": BUILD_ID})


async def healthz(request: Request) -> Response:
    """GET /healthz and /livez."""
    return PlainTextResponse("healthz check passed")


async def readyz(request: Request) -> Response:
    """GET /readyz: logs are replayed before the server listens, so it is ready."""
    return PlainTextResponse("all shards are ready")


ROUTES = (
    Route("/", index),
    Route("/healthz", healthz),
    Route("/livez", healthz),
    Route("/readyz", readyz),
)
