"""How do the fronts live in one process, from a clean start to a clean stop?

REST (uvicorn) and gRPC (grpc.aio) share one event loop and one opened `Service`.
Companions, such as sink connectors, run on threads of their own over the same service:
the layer above hands them in, so that this module knows nothing of Kafka.

A stop goes in one order: take no new requests and no new records; finish what is in hand,
within `stop_timeout_s`; close the service. Nothing acknowledged depends on that order
being finished, since every acknowledged write is already synced.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import grpc.aio
import uvicorn
import uvloop

from headrace.model.errors import StorageFailed
from headrace.server.auth import Authenticator
from headrace.server.grpc.server import create_grpc_server
from headrace.server.http_connection import BoundedHttpProtocol
from headrace.server.listen import (
    StartFailed,
    add_grpc_port,
    authority,
    bound_sockets,
    check_grpc_port,
    check_tls_files,
    listen,
    warn_if_reachable_from_outside,
)
from headrace.server.node import Node
from headrace.server.options import ServeOptions
from headrace.server.rest.app import create_app
from headrace.service.embedding_models import BadEmbeddingModel, register_from_setting
from headrace.service.service import Service

logger = logging.getLogger(__name__)

# What a shell reports for a program that SIGINT ended: 128 + 2.
EXIT_CODE_FORCED = 130
EXIT_CODE_HUNG = 2
# After the fronts and companions had their time, closing the service gets this much more.
_CLOSE_TIMEOUT_S = 20.0


class Companion(Protocol):
    """Work that runs beside the fronts, on threads of its own, over the same service."""

    @property
    def name(self) -> str:
        """What logs call it."""

    def start(self) -> None:
        """Begin; returns at once."""

    def stop(self, timeout_s: float) -> bool:
        """Finish what is in hand or give it up whole; False if it still runs after that."""


CompanionFactory = Callable[[Service], Sequence[Companion]]


def no_companions(service: Service) -> Sequence[Companion]:
    """The factory of a server that runs alone."""
    return ()


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that answers now.

    Attributes:
        service: the opened store; the server closes it.
        rest_url: such as `http://127.0.0.1:6333`.
        grpc_address: such as `127.0.0.1:6334`; None without gRPC.
        data: the data directory.
    """

    service: Service = field(repr=False)
    rest_url: str
    grpc_address: str | None
    data: Path

    def line(self) -> str:
        """The one line that says where to reach it; scripts may parse it, so it stays."""
        grpc = f" gRPC {self.grpc_address}" if self.grpc_address else ""
        return f"serving: REST {self.rest_url}{grpc} data {self.data}"


def run(
    options: ServeOptions,
    on_ready: Callable[[Serving], None],
    make_companions: CompanionFactory = no_companions,
) -> None:
    """Serve until SIGTERM or Ctrl-C, then stop cleanly; a second Ctrl-C ends the process.

    Args:
        options: where to serve what.
        on_ready: called once, when every front answers and every companion has started.
        make_companions: builds the companions over the opened service.

    Raises:
        StartFailed: a port or the directory cannot be used.
        DirectoryInUse, CorruptFile, NoSpace: as `Service.open`.
        HeadraceError: whatever `make_companions` raises.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run_until_signalled(options, on_ready, make_companions))


@contextlib.contextmanager
def serve_in_thread(
    options: ServeOptions, make_companions: CompanionFactory = no_companions
) -> Iterator[Serving]:
    """Serve on a thread of its own while the caller goes on; stops when the block ends.

    Raises: as `run`.
    """
    ready: Future[tuple[Serving, Callable[[], object]]] = Future()

    async def live() -> None:
        stop = asyncio.Event()
        stop_from_outside = partial(asyncio.get_running_loop().call_soon_threadsafe, stop.set)
        await serve(
            options,
            stop,
            lambda serving: ready.set_result((serving, stop_from_outside)),
            make_companions,
        )

    def thread_main() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(live())

    def give_start_error(finished: Future[None]) -> None:
        if not ready.done():
            ready.set_exception(finished.exception() or StartFailed("The server ended by itself"))

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="headrace-server") as pool:
        finished = pool.submit(thread_main)
        finished.add_done_callback(give_start_error)
        serving, stop_from_outside = ready.result()
        try:
            yield serving
        finally:
            with contextlib.suppress(RuntimeError):  # the loop ended by itself
                stop_from_outside()
            finished.result()


async def serve(
    options: ServeOptions,
    stop: asyncio.Event,
    on_ready: Callable[[Serving], None],
    make_companions: CompanionFactory = no_companions,
) -> None:
    """Serve until `stop` is set. One process life: start, answer, finish, close.

    Raises: as `run`.
    """
    with bound_sockets(options.host, options.http_port, "http_port") as sockets:
        check_grpc_port(options)
        if options.tls is not None:
            check_tls_files(options.tls)
        await _register_embedding_models(options)
        service = await _opened_service(options)
        try:
            companions = make_companions(service)
            fronts = _Fronts(service, options, sockets)
            started: list[Companion] = []
            try:
                serving = await fronts.start()
                for companion in companions:
                    companion.start()
                    started.append(companion)
                warn_if_reachable_from_outside(
                    sockets, Authenticator(options.auth).is_on, options.tls is not None
                )
                on_ready(serving)
                await fronts.wait(stop)
                logger.info("stopping: finishing what is in hand")
            finally:
                await asyncio.gather(
                    fronts.stop(), *(_stop_companion(one, options) for one in started)
                )
        finally:
            await asyncio.to_thread(service.close)
    logger.info("stopped: the data directory is closed")


class _Fronts:
    """REST and gRPC over one service."""

    def __init__(
        self, service: Service, options: ServeOptions, sockets: list[socket.socket]
    ) -> None:
        self._service = service
        self._options = options
        self._sockets = sockets
        self._node = Node(Authenticator(options.auth))
        self._rest = _RestServer(
            uvicorn.Config(
                create_app(service, self._node, options.cors_origins),
                http=BoundedHttpProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                # Nothing here depends on where a proxy says that a request came from.
                proxy_headers=False,
                # uvicorn counts whole seconds; 0 would mean: cancel at once.
                timeout_graceful_shutdown=max(1, math.ceil(options.stop_timeout_s)),
                ssl_certfile=options.tls.cert if options.tls else None,
                ssl_keyfile=options.tls.key if options.tls else None,
            )
        )
        self._rest_task: asyncio.Task[None] | None = None
        self._grpc: grpc.aio.Server | None = None

    async def start(self) -> Serving:
        """Bring both fronts up; they answer when it returns."""
        options = self._options
        grpc_address = None
        if options.grpc_port is not None:
            self._grpc = await create_grpc_server(self._service, self._node)
            grpc_port = add_grpc_port(self._grpc, options.host, options.grpc_port, options.tls)
            await self._grpc.start()
            grpc_address = authority(options.host, grpc_port)
        listen(self._sockets, "http_port")
        self._rest_task = asyncio.create_task(self._rest.serve(self._sockets))
        await self._until_rest_ends_or(self._rest.listening)
        http_port = self._sockets[0].getsockname()[1]
        scheme = "https" if options.tls else "http"
        rest_url = f"{scheme}://{authority(options.host, http_port)}"
        return Serving(self._service, rest_url, grpc_address, options.data)

    async def wait(self, stop: asyncio.Event) -> None:
        """Return when `stop` is set; raise what ended REST if that ends by itself."""
        await self._until_rest_ends_or(stop)

    async def stop(self) -> None:
        """Take nothing new, finish what is in hand within the time given, cancel the rest."""
        self._rest.should_exit = True
        grpc_stop = self._grpc.stop(self._options.stop_timeout_s) if self._grpc else _nothing()
        rest_stop = self._rest_task or _nothing()
        await asyncio.gather(grpc_stop, rest_stop, return_exceptions=True)

    async def _until_rest_ends_or(self, event: asyncio.Event) -> None:
        assert self._rest_task is not None
        waiting = asyncio.create_task(event.wait())
        done, _ = await asyncio.wait(
            (waiting, self._rest_task), return_when=asyncio.FIRST_COMPLETED
        )
        waiting.cancel()
        if self._rest_task in done:
            await self._rest_task
            raise StartFailed("The REST front ended by itself")


class _RestServer(uvicorn.Server):
    """uvicorn inside a process that handles its own signals."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def _run_until_signalled(
    options: ServeOptions,
    on_ready: Callable[[Serving], None],
    make_companions: CompanionFactory,
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set() and number == signal.SIGINT:
            _end_process(EXIT_CODE_FORCED, "second Ctrl-C: ending now")
        if not stop.is_set():
            stop.set()
            _end_process_after(options.stop_timeout_s + _CLOSE_TIMEOUT_S)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
    await serve(options, stop, on_ready, make_companions)


async def _opened_service(options: ServeOptions) -> Service:
    """Open the store on a thread, since replay may take long and Ctrl-C must be heard."""
    try:
        return await asyncio.to_thread(
            Service.open,
            options.data,
            snapshot_urls=options.snapshot_urls,
            transient_bytes_max=options.transient_columns_mb * 2**20,
        )
    except StorageFailed as error:
        raise StartFailed(
            f"Cannot open the data directory {options.data}: {error.detail}. "
            "Give a directory that this user can write, on a disk that works"
        ) from error


async def _register_embedding_models(options: ServeOptions) -> None:
    """Import the operator's functions on a thread, since a model may take long to load."""
    try:
        for setting in options.embedding_models:
            name = await asyncio.to_thread(register_from_setting, setting)
            logger.info("the embedding model %s is there", name)
    except BadEmbeddingModel as error:
        raise StartFailed(error.message) from error


async def _stop_companion(companion: Companion, options: ServeOptions) -> None:
    stopped = await asyncio.to_thread(companion.stop, options.stop_timeout_s)
    if not stopped:
        logger.warning(
            "%s did not stop within %g s; its batch in hand is given up whole",
            companion.name,
            options.stop_timeout_s,
        )


def _end_process_after(seconds: float) -> None:
    """The last bound of a stop: a thread that hangs must not keep the process for ever."""
    timer = threading.Timer(
        seconds, _end_process, (EXIT_CODE_HUNG, f"not stopped after {seconds:g} s: ending now")
    )
    timer.daemon = True
    timer.start()


def _end_process(exit_code: int, reason: str) -> None:
    """End at once. Safe for the data: what was acknowledged is synced."""
    logger.error("%s", reason)
    logging.shutdown()
    os._exit(exit_code)


async def _nothing() -> None:
    return None
