"""What do the routes of snapshots do?

A collection is one shard, number 0, so the routes of a shard's snapshots do the same as
those of its collection.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from time import perf_counter
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote

import msgspec
from anyio import to_thread
from starlette.routing import Route

from headrace.model.errors import HeadraceError, MalformedInput, NotFound
from headrace.server.auth import Need
from headrace.server.node import Node as FrontNode
from headrace.server.rest.body import FormatError, Node, Rules, read_body
from headrace.server.rest.endpoint import (
    Call,
    Endpoint,
    Operation,
    Place,
    Request,
    Threads,
    on_write_thread,
    success_answer,
)
from headrace.server.rest.parameters import (
    boolean_parameter,
    collection_name,
    path_parameter,
    text_parameter,
)
from headrace.server.rest.routes import COLLECTION, JsonRoute
from headrace.server.rest.sending import Answer, accepted_answer
from headrace.server.rest.snapshot_uploads import receive_upload
from headrace.service.service import Service

logger = logging.getLogger(__name__)

_SHARD = f"{COLLECTION}/shards/{{shard_id}}"
_SHA256 = re.compile(r"[0-9A-Fa-f]{64}")


class _Priority(StrEnum):
    """Which replica wins: on one node there is one alone, so that all mean the same."""

    NO_SYNC = "no_sync"
    SNAPSHOT = "snapshot"
    REPLICA = "replica"


class _Recovery(NamedTuple):
    """The body of a recovery."""

    location: str
    checksum: str | None
    api_key: str | None


def list_snapshots(call: Call) -> Any:
    """GET /collections/{collection_name}/snapshots."""
    name = _collection(call)
    return [msgspec.to_builtins(one) for one in call.service.snapshots.descriptions(name)]


def create_snapshot(call: Call) -> Any:
    """POST /collections/{collection_name}/snapshots."""
    name = _collection(call)
    call.service.collection_config(name)
    return _done(call, lambda: msgspec.to_builtins(call.service.snapshots.create(name)))


def delete_snapshot(call: Call) -> Any:
    """DELETE /collections/{collection_name}/snapshots/{snapshot_name}."""
    path = _snapshot_path(call)
    name = _collection(call)
    return _done(call, lambda: _true(call.service.snapshots.delete, name, path.name))


def recover(call: Call) -> Any:
    """PUT /collections/{collection_name}/snapshots/recover: makes the collection if need be."""
    name = _collection(call, new=True)
    request = read_body(call.body, _read_recovery)
    if "://" not in request.location:
        if "shard_id" not in call.path_parameters:
            raise FormatError("relative URL without a base", "location")
        location = call.service.snapshots.path(name, request.location).absolute().as_uri()
        request = request._replace(location=location)
    return _done(call, lambda: _true(call.service.snapshots.recover, name, *request))


def list_full_snapshots(call: Call) -> Any:
    """GET /snapshots."""
    return [msgspec.to_builtins(one) for one in call.service.snapshots.full_descriptions()]


def create_full_snapshot(call: Call) -> Any:
    """POST /snapshots."""
    return _done(call, lambda: msgspec.to_builtins(call.service.snapshots.create_full()))


def delete_full_snapshot(call: Call) -> Any:
    """DELETE /snapshots/{snapshot_name}."""
    path = _snapshot_path(call)
    return _done(call, lambda: _true(call.service.snapshots.delete_full, path.name))


def download(call: Call) -> Any:
    """GET /collections/{collection_name}/snapshots/{snapshot_name}."""
    path = _snapshot_path(call)
    return _file_answer(path.open("rb"), path.name)


def download_new(call: Call) -> Any:
    """GET /collections/{collection_name}/shards/{shard_id}/snapshot: kept nowhere."""
    name = _collection(call)
    snapshots = call.service.snapshots
    path = snapshots.path(name, snapshots.create(name).name)
    file = path.open("rb")
    snapshots.delete(name, path.name)
    return _file_answer(file, path.name)


def recover_upload(call: Call, upload: Path) -> Any:
    """POST /collections/{collection_name}/snapshots/upload.

    Args:
        call: the request, without its body.
        upload: the file that came with it; removed when it is done with.
    """
    name = _collection(call, new=True)
    rules = Rules("query parameters")
    priority = text_parameter(call.query_string, "priority", _Priority.REPLICA)
    if priority not in list(_Priority):
        expected = ", ".join(f"`{one}`" for one in _Priority)
        raise MalformedInput(
            "Deserialize error in query parameters: "
            f"unknown variant `{priority}`, expected one of {expected}"
        )
    checksum = text_parameter(call.query_string, "checksum") or None
    if checksum is not None and not _SHA256.fullmatch(checksum):
        rules.broken("checksum", "invalid sha256 checksum")
    rules.check()

    def restore() -> Any:
        try:
            return _true(call.service.snapshots.recover_upload, name, upload, checksum)
        finally:
            upload.unlink(missing_ok=True)

    return _done(call, restore)


def _collection(call: Call, new: bool = False) -> str:
    """The collection of a request; of its shards there is number 0 alone."""
    shard = call.path_parameters.get("shard_id", "0")
    name = collection_name(call.path_parameters, new=new)
    if not (shard.isascii() and shard.isdigit()):
        raise MalformedInput(
            f'Deserialize error in path parameters: can not parse "{shard[:20]}" to a u32'
        )
    if shard.strip("0"):
        raise NotFound(f"Shard {shard[:20]} not found")
    return name


def _snapshot_path(call: Call) -> Path:
    name = path_parameter(call.path_parameters, "snapshot_name")
    if "collection_name" not in call.path_parameters:
        return call.service.snapshots.full_path(name)
    return call.service.snapshots.path(_collection(call), name)


def _read_recovery(body: Node) -> _Recovery:
    location = body.require("location").text()
    priority, checksum, api_key = (body.get(name) for name in ("priority", "checksum", "api_key"))
    if priority is not None:
        priority.one_of(_Priority)
    if checksum is not None and not _SHA256.fullmatch(checksum.text()):
        checksum.broken("invalid sha256 checksum")
    return _Recovery(
        location,
        None if checksum is None else checksum.text(),
        None if api_key is None else api_key.text(),
    )


def _true(work: Callable[..., object], *arguments: object) -> bool:
    work(*arguments)
    return True


def _done(call: Call, work: Callable[[], Any]) -> Any:
    """The result of work; with `wait=false` an answer at once, while the work goes on."""
    if boolean_parameter(call.query_string, "wait", default=True):
        return work()
    started = perf_counter()

    def work_unheard() -> None:
        try:
            work()
        except HeadraceError as error:
            logger.warning("a snapshot that nobody waits for failed: %s", error)
        except Exception:
            logger.exception("a snapshot that nobody waits for failed")

    threading.Thread(target=work_unheard, name="snapshot", daemon=True).start()
    return accepted_answer(perf_counter() - started)


def _file_answer(file: BinaryIO, name: str) -> Answer:
    disposition = f"attachment; filename*=UTF-8''{quote(name)}"
    headers = ((b"content-disposition", disposition.encode()),)
    return Answer(200, b"", headers, b"application/octet-stream", file)


class _Upload(Endpoint):
    """The ASGI application of a route that takes a form with a file."""

    async def _answer(self, request: Request) -> Answer:
        scope = request.scope
        access = self._access(request.headers, scope["path_params"])
        call = Call(
            self._service, self._node, access, scope["path_params"], scope["query_string"], b""
        )
        path = await to_thread.run_sync(self._service.snapshots.incoming_path)

        def work() -> Answer:
            try:
                self._node.authenticator.confirm(access, self._service)
                result = recover_upload(call, path)
            except BaseException:
                path.unlink(missing_ok=True)
                raise
            return success_answer(result, request.started)

        try:
            await receive_upload(request.headers, request.receive, path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return await self._threads.run(work, Place.WRITE_THREAD)


ROUTES = (
    JsonRoute(
        "GET", "/snapshots", Operation(list_full_snapshots, on_write_thread), Need.GLOBAL_READ
    ),
    JsonRoute("POST", "/snapshots", Operation(create_full_snapshot, on_write_thread), Need.MANAGE),
    JsonRoute(
        "GET", "/snapshots/{snapshot_name}", Operation(download, on_write_thread), Need.GLOBAL_READ
    ),
    JsonRoute(
        "GET", f"{_SHARD}/snapshot", Operation(download_new, on_write_thread), Need.WRITE_EXTRAS
    ),
    JsonRoute(
        "DELETE",
        "/snapshots/{snapshot_name}",
        Operation(delete_full_snapshot, on_write_thread),
        Need.MANAGE,
    ),
    *(
        route
        for base in (COLLECTION, _SHARD)
        for route in (
            JsonRoute(
                "GET",
                f"{base}/snapshots",
                Operation(list_snapshots, on_write_thread),
                Need.READ_EXTRAS,
            ),
            JsonRoute(
                "POST",
                f"{base}/snapshots",
                Operation(create_snapshot, on_write_thread),
                Need.WRITE_EXTRAS,
            ),
            JsonRoute(
                "PUT",
                f"{base}/snapshots/recover",
                Operation(recover, on_write_thread, takes_body=True),
                Need.MANAGE,
            ),
            JsonRoute(
                "GET",
                f"{base}/snapshots/{{snapshot_name}}",
                Operation(download, on_write_thread),
                Need.READ_EXTRAS,
            ),
            JsonRoute(
                "DELETE",
                f"{base}/snapshots/{{snapshot_name}}",
                Operation(delete_snapshot, on_write_thread),
                Need.WRITE_EXTRAS,
            ),
        )
    ),
)


def upload_routes(service: Service, node: FrontNode, threads: Threads) -> list[Route]:
    """The routes that take a form with a file."""
    routes = []
    for base in (COLLECTION, _SHARD):
        path = f"{base}/snapshots/upload"
        # Its own application; the operation of the route is never asked.
        route = JsonRoute("POST", path, Operation(list_snapshots, on_write_thread), Need.MANAGE)
        routes.append(Route(path, _Upload(route, service, node, threads), methods=["POST"]))
    return routes
