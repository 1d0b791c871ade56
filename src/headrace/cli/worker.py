"""How does a worker live in a process: its connectors, its REST API and what is logged?"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Generator
from concurrent.futures import Future
from typing import Final

import uvicorn

from headrace.cli.connectors import ProgressRate, failure_reason, progress_line
from headrace.cli.failures import EXIT_FAILED_START, CommandFailed
from headrace.cli.options import DEFAULT_CONNECT_PORT
from headrace.model.errors import HeadraceError
from headrace.server.http_connection import BoundedHttpProtocol
from headrace.server.listen import authority, bound_sockets, listen, warn_if_reachable_from_outside
from headrace.sink.errors import ConfigError
from headrace.sink.progress import total_progress
from headrace.sink.task import TaskState
from headrace.sink.worker.defaults import Sharing, WorkerDefaults
from headrace.sink.worker.rest import create_worker_app
from headrace.sink.worker.shared import SharedConnectors
from headrace.sink.worker.worker import Standing, Worker

logger = logging.getLogger(__name__)

_LOOK_INTERVAL_S: Final = 0.2
_START_TIMEOUT_S: Final = 30.0
_HOST: Final = "127.0.0.1"
_PORT_SETTING: Final = "connect_port"


def connect_address(defaults: WorkerDefaults, connect_port: int) -> tuple[str, int]:
    """Where the REST API listens: the worker's file wins over the default of the option.

    Not where the server does: whoever reaches it may do anything, and needs no key.
    """
    if defaults.port is not None and connect_port == DEFAULT_CONNECT_PORT:
        return defaults.host or _HOST, defaults.port
    return _HOST, connect_port


def connect_shared(defaults: WorkerDefaults) -> SharedConnectors | None:
    """The connectors that the worker's file shares with other workers, if it does.

    Raises:
        CommandFailed: a placeholder of the file cannot be filled in.
    """
    try:
        return None if defaults.sharing is None else defaults.sharing.connect()
    except ConfigError as error:
        raise CommandFailed(f"The worker's file: {error.message}", EXIT_FAILED_START) from error


class RunningWorker:
    """A worker with its REST API and its log lines; a companion of the server.

    Args:
        worker: not started yet.
        address: host and port of the REST API; port 0 takes a free one; None serves none.
        progress_interval_s: how often a line of progress is logged; 0 for never.
        sharing: what the worker shares with others, which call it otherwise; None if nothing.
    """

    name = "the sink's worker"

    def __init__(
        self,
        worker: Worker,
        address: tuple[str, int] | None,
        progress_interval_s: float,
        sharing: Sharing | None = None,
    ) -> None:
        self._worker = worker
        self._sharing = sharing
        self._progress_interval_s = progress_interval_s
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="watch-worker", daemon=True)
        self._front = None if address is None else _Front(worker, *address)

    @property
    def url(self) -> str | None:
        """Where the REST API answers, once started; None without it."""
        return None if self._front is None else self._front.url

    def start(self) -> None:
        """Start the connectors and the REST API; returns once that answers.

        Raises:
            AddressNotAvailable: the port is taken.
        """
        if self._front is not None:
            self._front.start()
            logger.info("connectors are managed at %s", self._front.url)
        if self._sharing is not None:
            # Without a REST API the process tells workers of one machine apart.
            port = os.getpid() if self.url is None else int(self.url.rpartition(":")[2])
            self._worker.worker_id = self._sharing.worker_id(port)
        self._worker.start()
        self._watcher.start()

    def stop(self, timeout_s: float) -> bool:
        """Finish the batches in hand or give them up whole; False if some still run."""
        if self._front is not None:
            self._front.stop()
        last = self._worker.running()
        stopped = self._worker.stop(timeout_s)
        self._ended.set()
        self._watcher.join()
        for name, counters, _ in last:
            # The counts go on while the tasks end, and are whole now.
            progress = total_progress(counters)
            logger.info("connector %s stopped: %s", name, progress_line(progress))
        return stopped

    def _watch(self) -> None:
        """Log progress now and then, and each failure once."""
        told: dict[str, str] = {}
        rates: dict[str, ProgressRate] = {}
        next_line_at = time.monotonic() + self._progress_interval_s
        while not self._ended.wait(_LOOK_INTERVAL_S):
            is_time = self._progress_interval_s and time.monotonic() >= next_line_at
            next_line_at += self._progress_interval_s if is_time else 0
            for name, _, progress in self._worker.running():
                with contextlib.suppress(HeadraceError):  # it was deleted meanwhile
                    self._tell_failure(name, told)
                rate = rates.setdefault(name, ProgressRate())
                if is_time:
                    logger.info(
                        "connector %s: %s records_per_s=%.0f",
                        name,
                        progress_line(progress),
                        rate.since_last(progress.records_read),
                    )

    def _tell_failure(self, name: str, told: dict[str, str]) -> None:
        trace = _first_trace(self._worker.standing(name))
        if trace is None:
            told.pop(name, None)
        elif told.get(name) != trace:
            told[name] = trace
            logger.error(
                "connector %s failed and stays down until it is started anew: %s",
                name,
                failure_reason(trace),
            )


def _first_trace(standing: Standing) -> str | None:
    failed = [one.trace for one in standing.tasks if one.state is TaskState.FAILED]
    return failed[0] if failed else None


class _Front:
    """The REST API on a thread with an event loop of its own."""

    def __init__(self, worker: Worker, host: str, port: int) -> None:
        self.url = ""
        self._worker = worker
        self._host, self._port = host, port
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="connect-rest", daemon=True)
        self._server: _Server | None = None

    def start(self) -> None:
        """Bind and answer.

        Raises:
            AddressNotAvailable: the port is taken.
        """
        self._thread.start()
        self._ready.result(_START_TIMEOUT_S)

    def stop(self) -> None:
        """Answer what was asked, take nothing new."""
        if self._server is not None:
            self._server.should_exit = True
            self._thread.join(_START_TIMEOUT_S)

    def _run(self) -> None:
        try:
            with bound_sockets(self._host, self._port, _PORT_SETTING) as sockets:
                listen(sockets, _PORT_SETTING)
                self.url = f"http://{authority(self._host, sockets[0].getsockname()[1])}"
                self._worker.worker_id = self.url.removeprefix("http://")
                warn_if_reachable_from_outside(sockets, asks_for_keys=False, is_encrypted=False)
                self._server = _Server(_config(self._worker), self._ready)
                asyncio.run(self._server.serve(sockets))
        except Exception as error:
            if self._ready.done():
                logger.exception("the worker's REST API ended")
            else:
                self._ready.set_exception(error)


class _Server(uvicorn.Server):
    """uvicorn on a thread, in a process that handles its own signals."""

    def __init__(self, config: uvicorn.Config, ready: Future[None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._ready.set_result(None)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def _config(worker: Worker) -> uvicorn.Config:
    return uvicorn.Config(
        create_worker_app(worker),
        http=BoundedHttpProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )
