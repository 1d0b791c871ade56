"""A server in Qdrant's place that answers what it is told, over REST and over gRPC."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import grpc
from qdrant_client import grpc as qdrant

_GRPC_WRITES: Final = ("Upsert", "Delete", "UpdateBatch")
# What the stub says of its one collection, which takes vectors of two dimensions.
_REST_COLLECTION: Final = {
    "status": "green",
    "optimizer_status": "ok",
    "segments_count": 1,
    "config": {
        "params": {"vectors": {"size": 2, "distance": "Dot"}},
        "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10_000},
        "optimizer_config": {
            "deleted_threshold": 0.2,
            "vacuum_min_vector_number": 1_000,
            "default_segment_number": 0,
            "flush_interval_sec": 5,
        },
        "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0},
    },
    "payload_schema": {},
}


@dataclass
class Answer:
    """How a write is answered instead of being taken.

    Attributes:
        http_status, grpc_code: by protocol.
        text: what the server says of it.
        retry_after_s: sent along, if given.
        delay_s: before the answer.
    """

    http_status: int
    grpc_code: grpc.StatusCode
    text: str = "told to"
    retry_after_s: int | None = None
    delay_s: float = 0.0


@dataclass
class StubQdrant:
    """The stub's state.

    Attributes:
        url: where it listens.
        writes: for each write that it took, how many points, and whether `wait` was set.
        asked_s: when each write was asked for, by the monotonic clock.
        answers: what the next writes are answered, in order; then they are taken.
        answer_of: what a write of so many bytes is answered, if not None.
        api_keys: what the clients sent.
    """

    url: str = ""
    writes: list[tuple[int, bool]] = field(default_factory=list)
    asked_s: list[float] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    answer_of: Callable[[int], Answer | None] | None = None
    api_keys: set[str | bytes | None] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, points: int, waits: bool, bytes_count: int) -> Answer | None:
        """Take a write, or say how it is to be answered instead."""
        with self._lock:
            self.asked_s.append(time.monotonic())
            answer = self.answers.pop(0) if self.answers else None
            if answer is None and self.answer_of is not None:
                answer = self.answer_of(bytes_count)
            if answer is None:
                self.writes.append((points, waits))
        if answer is not None:
            time.sleep(answer.delay_s)
        return answer


@contextmanager
def stub_qdrant(protocol: str) -> Iterator[StubQdrant]:
    """A stub that listens while the block runs, over "grpc" or "rest"."""
    with (_serve_grpc if protocol == "grpc" else _serve_rest)() as stub:
        yield stub


@contextmanager
def _serve_rest() -> Iterator[StubQdrant]:
    stub = StubQdrant()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(200, {"result": _REST_COLLECTION, "status": "ok", "time": 0.0})

        def do_PUT(self) -> None:
            self._write()

        def do_POST(self) -> None:
            self._write()

        def _write(self) -> None:
            stub.api_keys.add(self.headers.get("api-key"))
            body = self.rfile.read(int(self.headers["Content-Length"]))
            waits = parse_qs(urlsplit(self.path).query).get("wait") == ["true"]
            document = json.loads(body)
            points = len(document.get("points", document.get("operations", ())))
            answer = stub.take(points, waits, len(body))
            if answer is None:
                result = {"operation_id": 1, "status": "completed"}
                self._answer(200, {"result": result, "status": "ok", "time": 0.0})
                return
            headers = {}
            if answer.retry_after_s is not None:
                headers["Retry-After"] = str(answer.retry_after_s)
            error = {"status": {"error": answer.text}, "time": 0.0}
            self._answer(answer.http_status, error, headers)

        def _answer(
            self, status: int, document: dict[str, Any], headers: dict[str, str] | None = None
        ) -> None:
            data = json.dumps(document).encode()
            self.send_response(status)
            for name, text in (headers or {}).items():
                self.send_header(name, text)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def _serve_grpc() -> Iterator[StubQdrant]:
    stub = StubQdrant()

    def write(request: Any, context: grpc.ServicerContext) -> Any:
        stub.api_keys.add(dict(context.invocation_metadata()).get("api-key"))
        answer = stub.take(_points_in(request), request.wait, request.ByteSize())
        if answer is None:
            return _done(request)
        if answer.retry_after_s is not None:
            context.set_trailing_metadata((("retry-after", str(answer.retry_after_s)),))
        return context.abort(answer.grpc_code, answer.text)

    def get(_request: Any, _context: grpc.ServicerContext) -> Any:
        size = qdrant.VectorParams(size=2, distance=qdrant.Distance.Dot)
        params = qdrant.CollectionParams(vectors_config=qdrant.VectorsConfig(params=size))
        config = qdrant.CollectionConfig(
            params=params,
            hnsw_config=qdrant.HnswConfigDiff(m=16, ef_construct=100, full_scan_threshold=10_000),
            optimizer_config=qdrant.OptimizersConfigDiff(
                deleted_threshold=0.2,
                vacuum_min_vector_number=1_000,
                default_segment_number=0,
                flush_interval_sec=5,
            ),
            wal_config=qdrant.WalConfigDiff(wal_capacity_mb=32, wal_segments_ahead=0),
        )
        info = qdrant.CollectionInfo(status=qdrant.CollectionStatus.Green, config=config)
        return qdrant.GetCollectionInfoResponse(result=info)

    server = grpc.server(
        futures.ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", -1)]
    )
    requests: dict[str, Any] = {
        "Upsert": qdrant.UpsertPoints,
        "Delete": qdrant.DeletePoints,
        "UpdateBatch": qdrant.UpdateBatchPoints,
    }
    services: dict[str, dict[str, tuple[Any, Any]]] = {
        "qdrant.Points": {name: (write, requests[name]) for name in _GRPC_WRITES},
        "qdrant.Collections": {"Get": (get, qdrant.GetCollectionInfoRequest)},
    }
    for service, handlers in services.items():
        methods: dict[str, Any] = {
            name: grpc.unary_unary_rpc_method_handler(
                function,
                request_deserializer=kind.FromString,
                response_serializer=lambda message: message.SerializeToString(),
            )
            for name, (function, kind) in handlers.items()
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
    stub.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield stub
    finally:
        server.stop(None).wait()


def _points_in(request: Any) -> int:
    if isinstance(request, qdrant.UpsertPoints):
        return len(request.points)
    if isinstance(request, qdrant.DeletePoints):
        return len(request.points.points.ids)
    return len(request.operations)


def _done(request: Any) -> Any:
    result = qdrant.UpdateResult(operation_id=1, status=qdrant.UpdateStatus.Completed)
    if isinstance(request, qdrant.UpdateBatchPoints):
        return qdrant.UpdateBatchResponse(result=[result] * len(request.operations))
    return qdrant.PointsOperationResponse(result=result)
