"""Requests that nobody sends who means well: are they refused, and at what cost?"""

from __future__ import annotations

import gzip
import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import httpx
import pytest
from qdrant_client import grpc as qdrant

from headrace.server.options import ServeOptions
from headrace.server.run import Serving, serve_in_thread
from tests.headrace_process import HeadraceProcess

JSON = {"content-type": "application/json"}
MEMORY_MIB_MAX = 64
SEED = 7

# Parts that lead elsewhere, end a text early, are devices, or are too long.
NAME_PARTS = (
    *("..", "../", "/", "\\", "%2f", "%2e%2e", "%00", "\0", "CON", "NUL.txt", "COM1", "~", "."),
    *("x", "a" * 256, "\u202e", "\U0001f600", " ", "\n", "\x7f", "file:", "$HOME", "`id`", "|"),
)


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    data = tmp_path_factory.mktemp("outer") / "data"
    with serve_in_thread(ServeOptions(data, http_port=0, grpc_port=0)) as serving:
        with httpx.Client(base_url=serving.rest_url) as http:
            made = http.put("/collections/c", json={"vectors": {"size": 2, "distance": "Dot"}})
            assert made.status_code == 200
        yield serving


@pytest.fixture
def http(serving: Serving) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=serving.rest_url, timeout=60) as client:
        yield client


@pytest.fixture
def points(serving: Serving) -> Iterator[qdrant.PointsStub]:
    with grpc.insecure_channel(serving.grpc_address or "") as channel:
        yield qdrant.PointsStub(channel)  # type: ignore[no-untyped-call]


def memory_mib(pid: int, field: str) -> float:
    """One of the `Vm` fields of the system's account of a process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    found = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    assert found
    return int(found[1]) / 1024


def too_long() -> Iterator[bytes]:
    for _ in range(33):
        yield b" " * 2**20


def test_deep_and_large_bodies_are_refused_in_little_memory(tmp_path: Path) -> None:
    refused: list[tuple[dict[str, str], Callable[[], Any]]] = [
        (JSON, lambda: b"[" * 100_000 + b"]" * 100_000),
        (JSON, lambda: b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
        (JSON, lambda: b'{"filter":{"must":' * 100_000 + b"{}" + b"}}" * 100_000),
        (JSON, lambda: b"[" * 4_000_000),
        (JSON, lambda: b" " * (33 * 2**20)),
        (JSON, too_long),
        (JSON | {"content-encoding": "gzip"}, lambda: gzip.compress(b"[" * (40 * 2**20))),
    ]
    process = HeadraceProcess("serve", "--data", str(tmp_path), "--http-port", "0", "--no-grpc")
    with process, httpx.Client(timeout=60) as http:
        url = process.wait_until_serving()["rest"] + "/collections/c/points/scroll"
        http.post(url, content=b" " * 2**20, headers=JSON)
        for _ in range(2):
            # What the allocator keeps of one is there for the next.
            for headers, body in refused:
                before = memory_mib(process.pid, "VmRSS")
                Path(f"/proc/{process.pid}/clear_refs").write_text("5", encoding="utf-8")
                answer = http.post(url, content=body(), headers=headers)
                assert 400 <= answer.status_code < 500
                assert memory_mib(process.pid, "VmHWM") - before <= MEMORY_MIB_MAX
        first_round = memory_mib(process.pid, "VmRSS")
        for headers, body in refused:
            http.post(url, content=body(), headers=headers)
        assert memory_mib(process.pid, "VmRSS") - first_round <= MEMORY_MIB_MAX / 2


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("points/scroll", {"limit": 2**64 - 1}),
        ("points/query", {"query": [1, 0], "limit": 2**64 - 1}),
        ("points/query", {"query": [1, 0], "offset": 2**64 - 1}),
        ("points/query", {"prefetch": {"limit": 2**64 - 1}, "query": {"fusion": "rrf"}}),
        ("points/query/groups", {"query": [1, 0], "group_by": "a", "group_size": 2**64 - 1}),
        ("points/search", {"vector": [1, 0], "limit": 2**64 - 1}),
        ("points/search/matrix/pairs", {"sample": 2**64 - 1}),
        ("facet", {"key": "a", "limit": 2**64 - 1}),
    ],
)
def test_no_limit_is_too_large_to_be_refused(http: httpx.Client, path: str, body: Any) -> None:
    assert http.post(f"/collections/c/{path}", json=body).status_code in (400, 422)


def test_no_limit_is_too_large_to_be_refused_over_grpc(points: qdrant.PointsStub) -> None:
    for call, request in (
        (points.Query, qdrant.QueryPoints(collection_name="c", limit=2**64 - 1)),
        (points.Search, qdrant.SearchPoints(collection_name="c", vector=[1, 0], limit=2**64 - 1)),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            call(request)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("clause", "condition"),
    [
        (b'{"must":[%s]}', b'{"has_id":[]}'),
        (b'{"min_should":{"min_count":1,"conditions":[%s]}}', b"{}"),
    ],
)
def test_a_million_conditions_are_refused(
    http: httpx.Client, clause: bytes, condition: bytes
) -> None:
    body = b'{"filter":%s}' % (clause % b",".join([condition] * 1_000_000))
    answer = http.post("/collections/c/points/count", content=body, headers=JSON)
    assert answer.status_code == 400


@pytest.mark.parametrize("wait", ["true", "false"])
@pytest.mark.parametrize(
    "vector",
    [
        *(b"[NaN, 1]", b"[Infinity, 1]", b"[-Infinity, 1]", b"[1e39, 1]", b"[1e999, 1]"),
        *(b"[]", b"[1]", b"[1, 2, 3]", b"[[1, 2], [3]]", b"[null, 1]", b'["1", 2]'),
        *(b'{"": []}', b'{"": [1]}', b'{"other": [1, 2]}', b'{"indices": [1], "values": [1]}'),
    ],
)
def test_a_vector_that_is_none_is_refused_waited_for_or_not(
    http: httpx.Client, vector: bytes, wait: str
) -> None:
    before = http.post("/collections/c/points/count", json={}).json()["result"]
    body = b'{"points": [{"id": 1, "vector": [1, 2]}, {"id": 2, "vector": %s}]}' % vector
    path = f"/collections/c/points?wait={wait}"
    assert http.put(path, content=body, headers=JSON).status_code in (400, 422)
    update = b'{"points": [{"id": 2, "vector": %s}]}' % vector
    path = f"/collections/c/points/vectors?wait={wait}"
    assert 400 <= http.put(path, content=update, headers=JSON).status_code < 500
    query = b'{"query": %s}' % vector
    answer = http.post("/collections/c/points/query", content=query, headers=JSON)
    assert 400 <= answer.status_code < 500
    assert http.post("/collections/c/points/count", json={}).json()["result"] == before


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("vector", [[float("nan"), 1], [float("inf"), 1], [], [1], [1, 2, 3]])
def test_a_vector_that_is_none_is_refused_over_grpc(
    points: qdrant.PointsStub, vector: list[float], wait: bool
) -> None:
    dense = qdrant.Vectors(vector=qdrant.Vector(dense=qdrant.DenseVector(data=vector)))
    point = qdrant.PointStruct(id=qdrant.PointId(num=1), vectors=dense)
    with pytest.raises(grpc.RpcError) as refused:
        points.Upsert(qdrant.UpsertPoints(collection_name="c", wait=wait, points=[point]))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def names() -> Iterator[str]:
    chance = random.Random(SEED)
    for _ in range(250):
        yield "".join(chance.choices(NAME_PARTS, k=chance.randint(1, 4)))


def test_a_thousand_names_lead_nowhere_outside_of_the_data(
    serving: Serving, http: httpx.Client
) -> None:
    outer = serving.data.parent
    body = {"vectors": {"size": 2, "distance": "Dot"}}
    made = []
    for name in names():
        path = quote(name, safe="%")
        created = http.put(f"/collections/{path}", json=body)
        assert created.status_code < 500, name
        if created.status_code == 200:
            made.append(path)
        for method, where in (
            ("GET", f"/collections/c/snapshots/{path}"),
            ("DELETE", f"/snapshots/{path}"),
            ("POST", f"/collections/{path}/snapshots"),
        ):
            answer = http.request(method, where)
            assert answer.status_code < 500, (method, where)
            assert "octet-stream" not in answer.headers.get("content-type", ""), where
    assert [path.name for path in outer.iterdir()] == [serving.data.name]
    assert 0 < len(made) < 250
    listed = http.get("/collections").json()["result"]["collections"]
    assert len(listed) == len(set(made)) + 1
    for path in made:
        assert http.delete(f"/collections/{path}").json()["result"] is True


SCRIPT = "<script>alert(1)</script>"


def test_stored_script_is_only_ever_sent_as_json(http: httpx.Client) -> None:
    name = quote("img onerror=alert(1)")
    http.put(f"/collections/{name}", json={"vectors": {}, "metadata": {SCRIPT: SCRIPT}})
    body = {"points": [{"id": 1, "vector": {}, "payload": {SCRIPT: SCRIPT}}]}
    assert http.put(f"/collections/{name}/points?wait=true", json=body).status_code == 200
    for method, path in (
        ("GET", f"/collections/{name}"),
        ("GET", f"/collections/{name}/points/1"),
        ("GET", f"/collections/{quote(SCRIPT, safe='')}"),
        ("GET", f"/collections/{name}/points/{quote('<svg onload=x>')}"),
        ("POST", f"/collections/{name}/points/scroll"),
    ):
        answer = http.request(method, path, json={} if method == "POST" else None)
        assert answer.headers["content-type"] == "application/json", path
        assert answer.headers["x-content-type-options"] == "nosniff", path
    assert http.get("/dashboard").status_code == 404
    assert http.delete(f"/collections/{name}").status_code == 200


def test_a_server_answers_while_bodies_are_refused(http: httpx.Client) -> None:
    started = time.monotonic()
    for _ in range(20):
        http.post("/collections/c/points/scroll", content=b"[" * 2**20, headers=JSON)
        assert http.get("/readyz").status_code == 200
    assert time.monotonic() - started < 60
