"""Who opens a data directory in this process, and who closes it?

Everything that opens one path shares one engine, and the last to close closes it. What
was not closed is closed when it is collected, or when the interpreter ends. A forked child
has no engine: it may neither use nor close its parent's.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from headrace.client.errors import UsedAfterFork
from headrace.client.memory import MEMORY, create_memory_directory
from headrace.model.errors import MalformedInput, Unavailable
from headrace.service.service import Service

_T = TypeVar("_T")

# As many as the server has for writes: they mostly wait for one another's sync.
_THREADS = 32


class SharedStore:
    """An opened data directory; lives until the last `Lease` of it is closed.

    Args:
        directory: the data directory.
        is_temporary: whether it is removed when it is closed.

    Raises: as `Service.open`.
    """

    def __init__(self, directory: Path, is_temporary: bool) -> None:
        self.holders = 0
        self._directory = directory
        self._is_temporary = is_temporary
        self._pid = os.getpid()
        self._service: Service | None = Service.open(directory)
        self._threads: ThreadPoolExecutor | None = None
        self._starting = threading.Lock()

    @property
    def is_usable(self) -> bool:
        """Whether it is open, in the process that opened it."""
        return self._service is not None and self._pid == os.getpid()

    @property
    def service(self) -> Service:
        """The opened store.

        Raises:
            UsedAfterFork: this process is a fork of the one that opened it.
            Unavailable: it is closed.
        """
        self._check_owner()
        service = self._service
        if service is None:
            raise Unavailable(f"The data directory {self._directory} is closed")
        return service

    def _check_owner(self) -> None:
        if self._pid != os.getpid():
            raise UsedAfterFork(str(self._directory), self._pid)

    def submit(self, work: Callable[[], _T]) -> Future[_T]:
        """Run something on a thread of the store.

        Raises:
            UsedAfterFork: this process is a fork: the threads are its parent's.
        """
        self._check_owner()
        if self._threads is None:
            with self._starting:
                if self._threads is None:
                    self._threads = ThreadPoolExecutor(_THREADS, "headrace-store")
        return self._threads.submit(work)

    def run_write(self, work: Callable[[], _T]) -> _T:
        """Run a write to its end, whatever interrupts the caller.

        Ctrl-C strikes the main thread between any two steps, so writes never run there:
        the caller is interrupted, the write is not.
        """
        if threading.current_thread() is threading.main_thread():
            return self.submit(work).result()
        return work()

    def close(self) -> None:
        """Finish running writes and give the directory up; for its last holder."""
        service, self._service = self._service, None
        if service is None or self._pid != os.getpid():
            return
        service.close()
        if self._threads is not None:
            self._threads.shutdown(wait=False)
        if self._is_temporary:
            shutil.rmtree(self._directory, ignore_errors=True)


class Lease:
    """One holder's right to a store, from `lease_store` to `close`."""

    def __init__(self, path: str, store: SharedStore) -> None:
        self._path = path
        self._store: SharedStore | None = store

    @property
    def store(self) -> SharedStore:
        """The store.

        Raises:
            Unavailable: the lease is closed.
        """
        if self._store is None:
            raise Unavailable("This connection to the data directory is closed")
        return self._store

    def close(self) -> None:
        """Give the store up; the last holder closes it. Twice is once."""
        with _registry_lock:
            store, self._store = self._store, None
            if store is None:
                return
            store.holders -= 1
            if store.holders == 0:
                if _stores.get(self._path) is store:
                    del _stores[self._path]
                store.close()

    def close_with(self, holder: object) -> None:
        """Close when `holder` is collected.

        On another thread: garbage is collected at any step of any thread, also of one that
        holds what closing waits for.
        """
        finalizer = weakref.finalize(holder, _close_elsewhere, self)
        finalizer.atexit = False


def _close_elsewhere(lease: Lease) -> None:
    # Where no thread can be started the interpreter ends, and all stores are closed anyway.
    with contextlib.suppress(RuntimeError):
        threading.Thread(target=lease.close, name="headrace-close", daemon=True).start()


def lease_store(path: str | os.PathLike[str]) -> Lease:
    """Open a data directory, or share the one that this process has open.

    Args:
        path: a directory, made if it is not there; or ":memory:" for a new, empty store
            that nobody shares and nothing is left of.

    Raises:
        DirectoryInUse: another process has it open.
        CorruptFile: a file is damaged beyond a torn tail.
        MalformedInput: `path` is a URL.
    """
    text = os.fspath(path)
    if text == MEMORY:
        return _lease_memory_store()
    if "://" in text:
        raise MalformedInput(
            f"{text} is not a directory; for a server use qdrant_client.QdrantClient(url=...)"
        )
    real_path = os.path.realpath(text)
    with _registry_lock:
        store = _stores.get(real_path)
        if store is None or not store.is_usable:
            store = SharedStore(Path(real_path), is_temporary=False)
            _stores[real_path] = store
        store.holders += 1
        return Lease(real_path, store)


def _lease_memory_store() -> Lease:
    directory = create_memory_directory()
    try:
        store = SharedStore(directory, is_temporary=True)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    with _registry_lock:
        _stores[str(directory)] = store
        store.holders = 1
        return Lease(str(directory), store)


_registry_lock = threading.Lock()
_stores: dict[str, SharedStore] = {}


def _forget_stores_in_child() -> None:
    global _registry_lock
    _registry_lock = threading.Lock()
    _stores.clear()


def _close_all_stores() -> None:
    with _registry_lock:
        for store in list(_stores.values()):
            store.close()


atexit.register(_close_all_stores)
os.register_at_fork(after_in_child=_forget_stores_in_child)
