"""The floor of serving: a bare uvicorn handler that parses a query, calls FAISS and answers.

`python -m benchmarks.bare_server VECTORS.npy EF` serves `POST /query` and prints its address.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

import faiss
import numpy as np
import orjson
import uvicorn
import uvloop
from numpy.typing import NDArray

GRAPH_M = 16
GRAPH_EF_CONSTRUCTION = 100


def make_index(vectors: NDArray[np.float32], ef: int) -> Any:
    """A graph over normalised vectors, searched by inner product."""
    index = faiss.IndexHNSWFlat(vectors.shape[1], GRAPH_M, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = GRAPH_EF_CONSTRUCTION
    index.hnsw.efSearch = ef
    normalised = np.ascontiguousarray(vectors)
    faiss.normalize_L2(normalised)
    index.add(normalised)
    return index


def make_app(index: Any) -> Any:
    """An ASGI application that does the least that answers a query."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        request = orjson.loads(body)
        query = np.array([request["query"]], dtype=np.float32)
        faiss.normalize_L2(query)
        scores, ids = index.search(query, request["limit"])
        points = [
            {"id": point_id, "version": 0, "score": score}
            for point_id, score in zip(ids[0].tolist(), scores[0].tolist(), strict=True)
        ]
        answer = orjson.dumps({"result": {"points": points}, "status": "ok", "time": 0.0})
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(answer)),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return app


def main(vectors_file: str, ef: str) -> None:
    """Serve until the process is ended."""
    faiss.omp_set_num_threads(1)
    app = make_app(make_index(np.load(vectors_file), int(ef)))
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")
    print(f"serving: http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    uvloop.run(uvicorn.Server(config).serve(sockets=[listening]))


if __name__ == "__main__":
    main(*sys.argv[1:])
