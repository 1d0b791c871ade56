"""How does the official client speak to an engine in its own process?

It stays what it is, `QdrantRemote` included; only its HTTP transport is ours. So every
method, conversion and error is that of a client of the server, in this version of
`qdrant-client` and the next.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn, TypeVar

from qdrant_client import AsyncQdrantClient, QdrantClient
from qdrant_client.async_qdrant_remote import AsyncQdrantRemote
from qdrant_client.qdrant_remote import QdrantRemote

from headrace.client.dispatch import Dispatcher
from headrace.client.shared import Lease, lease_store
from headrace.client.transport import EngineTransport

_T = TypeVar("_T")

# Of a domain that never exists, so that nothing goes there by mistake.
_URL = "http://headrace.invalid"


def connect(
    path: str | os.PathLike[str],
    *,
    timeout: float | None = None,
    local_inference_batch_size: int | None = None,
    cloud_inference: bool = False,
    **remote_options: Any,
) -> QdrantClient:
    """A `QdrantClient` whose engine runs in this process; thread-safe.

    Writes are durable when they return, unless `path` is ":memory:". Connections of one
    process to one directory share its engine; the last `close()` closes it.

    Args:
        path: the data directory, made if it is not there; or ":memory:" for a store that
            is empty, unshared, and gone when it is closed.
        timeout: seconds after which a call raises `ResponseHandlingException`, unless it
            is given a timeout of its own; None waits for ever.
        local_inference_batch_size: as `QdrantClient` has it.
        cloud_inference: whether texts in place of vectors go to the engine, and its models,
            rather than to fastembed; nothing leaves the process.
        **remote_options: refused; here so that the error can say why.

    Raises:
        DirectoryInUse: another process has the directory open.
        CorruptFile: a file is damaged beyond a torn tail.
        TypeError: an option that only a server has, such as `prefer_grpc`.
    """
    _refuse(remote_options)
    return EmbeddedQdrantClient(
        lease_store(path), timeout, local_inference_batch_size, cloud_inference
    )


def connect_async(
    path: str | os.PathLike[str],
    *,
    timeout: float | None = None,
    local_inference_batch_size: int | None = None,
    cloud_inference: bool = False,
    **remote_options: Any,
) -> AsyncQdrantClient:
    """An `AsyncQdrantClient` whose engine runs in this process, on threads; see `connect`.

    The directory is opened before this returns, which takes as long as replaying its logs.

    Args and Raises: as `connect`.
    """
    _refuse(remote_options)
    return AsyncEmbeddedQdrantClient(
        lease_store(path), timeout, local_inference_batch_size, cloud_inference
    )


class EmbeddedQdrantClient(QdrantClient):
    """A `QdrantClient` on an engine in this process; made by `connect`.

    Args:
        lease: the store; closed with the client.
        timeout_s: see `connect`.
        local_inference_batch_size: see `QdrantClient`.
        cloud_inference: see `connect`.
    """

    def __init__(
        self,
        lease: Lease,
        timeout_s: float | None,
        local_inference_batch_size: int | None,
        cloud_inference: bool,
    ) -> None:
        self._lease = lease
        lease.close_with(self)
        options = _http_options(lease, timeout_s)
        super().__init__(
            local_inference_batch_size=local_inference_batch_size,
            cloud_inference=cloud_inference,
            **options,
        )
        self._client = _EmbeddedRemote(**options)

    def close(self, grpc_grace: float | None = None, **kwargs: Any) -> None:
        """Close the client, and the engine if no other connection of this process has it."""
        super().close(grpc_grace=grpc_grace, **kwargs)
        self._lease.close()

    def __del__(self) -> None:
        """Leaves closing to the lease, which may not be closed just anywhere."""

    @property
    def grpc_collections(self) -> NoReturn:
        """Refused: there is no server. Raises NotImplementedError."""
        raise _no_grpc()

    @property
    def grpc_points(self) -> NoReturn:
        """Refused: there is no server. Raises NotImplementedError."""
        raise _no_grpc()


class AsyncEmbeddedQdrantClient(AsyncQdrantClient):
    """An `AsyncQdrantClient` on an engine in this process; made by `connect_async`.

    Args:
        lease: the store; closed with the client.
        timeout_s: see `connect`.
        local_inference_batch_size: see `AsyncQdrantClient`.
        cloud_inference: see `connect`.
    """

    def __init__(
        self,
        lease: Lease,
        timeout_s: float | None,
        local_inference_batch_size: int | None,
        cloud_inference: bool,
    ) -> None:
        self._lease = lease
        lease.close_with(self)
        options = _http_options(lease, timeout_s)
        super().__init__(
            local_inference_batch_size=local_inference_batch_size,
            cloud_inference=cloud_inference,
            **options,
        )
        self._client = _AsyncEmbeddedRemote(**options)

    async def close(self, grpc_grace: float | None = None, **kwargs: Any) -> None:
        """Close the client, and the engine if no other connection of this process has it."""
        await super().close(grpc_grace=grpc_grace, **kwargs)
        self._lease.close()

    @property
    def grpc_collections(self) -> NoReturn:
        """Refused: there is no server. Raises NotImplementedError."""
        raise _no_grpc()

    @property
    def grpc_points(self) -> NoReturn:
        """Refused: there is no server. Raises NotImplementedError."""
        raise _no_grpc()


class _EmbeddedRemote(QdrantRemote):
    """Uploads with `parallel` threads, where the official client starts processes."""

    def _upload_collection(
        self,
        batches_iterator: Iterable[Any],
        collection_name: str,
        max_retries: int,
        parallel: int = 1,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        def upload(batches: Iterable[Any]) -> None:
            QdrantRemote._upload_collection(
                self, batches, collection_name, max_retries, 1, *args, **kwargs
            )

        _on_threads(parallel, batches_iterator, upload)


class _AsyncEmbeddedRemote(AsyncQdrantRemote):
    """Uploads with `parallel` threads, where the official client starts processes."""

    def _upload_collection(
        self,
        batches_iterator: Iterable[Any],
        collection_name: str,
        max_retries: int,
        parallel: int = 1,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        def upload(batches: Iterable[Any]) -> None:
            AsyncQdrantRemote._upload_collection(
                self, batches, collection_name, max_retries, 1, *args, **kwargs
            )

        _on_threads(parallel, batches_iterator, upload)


class _SharedIterator(Iterator[_T]):
    """An iterator that several threads take from."""

    def __init__(self, items: Iterable[_T]) -> None:
        self._items = iter(items)
        self._lock = threading.Lock()

    def __next__(self) -> _T:
        with self._lock:
            return next(self._items)


def _on_threads(parallel: int, batches: Iterable[Any], upload: Any) -> None:
    """Let `parallel` threads (0: one for each core) upload until no batch is left.

    Raises:
        ValueError: `parallel` is negative.
    """
    if parallel < 0:
        raise ValueError(f"Number of workers must be non-negative, got {parallel}")
    if parallel == 1:
        upload(batches)
        return
    threads_count = parallel or os.cpu_count() or 1
    shared = _SharedIterator(batches)
    with ThreadPoolExecutor(threads_count, "headrace-upload") as threads:
        for running in [threads.submit(upload, shared) for _ in range(threads_count)]:
            running.result()


def _http_options(lease: Lease, timeout_s: float | None) -> dict[str, Any]:
    """What makes a remote client an embedded one.

    `trust_env` off: a proxy in the environment must not come between.
    """
    return {
        "url": _URL,
        "check_compatibility": False,
        "transport": EngineTransport(Dispatcher(lease, timeout_s)),
        "trust_env": False,
    }


def _refuse(remote_options: dict[str, Any]) -> None:
    if remote_options:
        raise TypeError(
            f"The engine runs in this process, where {', '.join(sorted(remote_options))} "
            "would have no effect: leave it out, or use qdrant_client.QdrantClient for a server"
        )


def _no_grpc() -> NotImplementedError:
    return NotImplementedError("gRPC client is not supported for an embedded engine")
