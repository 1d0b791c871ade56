"""The official client on an engine in its own process."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient, models
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

import headrace
from headrace.client import memory
from headrace.client.errors import UsedAfterFork
from headrace.client.shared import lease_store
from headrace.model.errors import DirectoryInUse, MalformedInput, Unavailable
from headrace.model.vectors import Vector
from headrace.service.inference import register_model
from headrace.service.service import Service
from tests.headrace_process import HeadraceProcess

VECTORS = models.VectorParams(size=4, distance=models.Distance.DOT)
CHILD_TIMEOUT_S = 60


def points(begin: int, end: int) -> list[models.PointStruct]:
    return [
        models.PointStruct(id=i, vector=[1.0, 2.0, 3.0, float(i)], payload={"n": i})
        for i in range(begin, end)
    ]


def child_output(program: str, *arguments: object) -> str:
    """What a new interpreter prints; it must end by itself, without a word of complaint."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=CHILD_TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# What it is


def test_connect_gives_the_official_client(client: QdrantClient) -> None:
    assert isinstance(client, QdrantClient)
    assert client.info().version == "1.19.0"


def test_connect_async_gives_the_official_async_client() -> None:
    async def run() -> None:
        client = headrace.connect_async(":memory:")
        assert isinstance(client, AsyncQdrantClient)
        await client.create_collection("c", vectors_config=VECTORS)
        await client.upsert("c", points(0, 10))
        assert (await client.count("c")).count == 10
        await asyncio.gather(*(client.upsert("c", points(i, i + 1)) for i in range(10, 90)))
        assert (await client.count("c", timeout=20)).count == 90
        client.upload_points("c", points(90, 120), batch_size=4, parallel=3, wait=True)
        assert (await client.count("c")).count == 120
        await client.close()

    asyncio.run(run())


def test_an_async_client_can_be_used_on_one_loop_after_another(tmp_path: Path) -> None:
    client = headrace.connect_async(tmp_path)
    assert asyncio.run(client.collection_exists("c")) is False
    assert asyncio.run(client.create_collection("c", vectors_config=VECTORS)) is True
    asyncio.run(client.close())


def test_a_client_works_inside_a_running_event_loop(client: QdrantClient) -> None:
    async def run() -> None:
        client.create_collection("c", vectors_config=VECTORS)
        client.upsert("c", points(0, 3))
        assert client.count("c").count == 3
        assert client.info().title

    asyncio.run(run())


@pytest.mark.parametrize("option", ["prefer_grpc", "url", "api_key"])
def test_options_of_a_server_are_refused(option: str) -> None:
    with pytest.raises(TypeError, match=f"in this process, where {option}"):
        headrace.connect(":memory:", **{option: True})
    with pytest.raises(TypeError, match=option):
        headrace.connect_async(":memory:", **{option: True})


def test_texts_go_to_the_models_of_this_process() -> None:
    def embed(text: str, options: Mapping[str, Any], as_query: bool) -> Vector:
        return np.array([len(text), as_query, 0, 0], dtype=np.float32)

    register_model("test/embedded", embed)
    [three, four] = (models.Document(text=text, model="test/embedded") for text in ("abc", "abcd"))

    with closing(headrace.connect(":memory:", cloud_inference=True)) as client:
        client.create_collection("c", vectors_config=VECTORS)
        client.upsert("c", [models.PointStruct(id=1, vector=three)])
        assert client.retrieve("c", [1], with_vectors=True)[0].vector == [3.0, 0.0, 0.0, 0.0]
        assert client.query_points("c", query=four).points[0].score == 12.0

    async def stored() -> object:
        one = headrace.connect_async(":memory:", cloud_inference=True)
        await one.create_collection("c", vectors_config=VECTORS)
        await one.upsert("c", [models.PointStruct(id=1, vector=four)])
        [record] = await one.retrieve("c", [1], with_vectors=True)
        await one.close()
        return record.vector

    assert asyncio.run(stored()) == [4.0, 0.0, 0.0, 0.0]


def test_a_url_is_no_path() -> None:
    with pytest.raises(MalformedInput, match="for a server use"):
        headrace.connect("http://localhost:6333")


def test_grpc_stubs_are_refused(client: QdrantClient) -> None:
    for name in ("grpc_points", "grpc_collections"):
        with pytest.raises(NotImplementedError, match="embedded"):
            getattr(client, name)


def test_the_raw_calls_of_the_client_work_too(client: QdrantClient) -> None:
    assert client.http.collections_api.get_collections().result is not None
    assert "check_compatibility" in client.init_options

    async def names() -> object:
        one = headrace.connect_async(":memory:")
        answer = await one.http.collections_api.get_collections()
        await one.close()
        return answer.result

    assert asyncio.run(names()) is not None


def test_a_proxy_in_the_environment_comes_not_between() -> None:
    with patch.dict(os.environ, {"HTTP_PROXY": "http://127.0.0.1:1", "ALL_PROXY": "socks5://x"}):
        client = headrace.connect(":memory:")
    assert client.get_collections().collections == []
    client.close()


def test_a_body_may_be_larger_than_a_server_takes(client: QdrantClient) -> None:
    client.create_collection("c", vectors_config=VECTORS)
    text = "x" * (33 * 2**20)
    point = models.PointStruct(id=1, vector=[1.0] * 4, payload={"text": text})
    client.upsert("c", [point])
    [record] = client.retrieve("c", [1])
    assert record.payload == {"text": text}


# Time


def blocked_count(released: threading.Event) -> Callable[..., int]:
    def count(*arguments: object) -> int:
        assert released.wait(CHILD_TIMEOUT_S)
        return 7

    return count


def test_a_call_that_takes_longer_than_its_own_timeout_is_answered_as_by_a_server() -> None:
    client = headrace.connect(":memory:", timeout=CHILD_TIMEOUT_S)
    client.create_collection("c", vectors_config=VECTORS)
    released = threading.Event()
    with patch.object(Service, "count", blocked_count(released)):
        with pytest.raises(UnexpectedResponse) as caught:
            client.count("c", timeout=1)
        released.set()
    assert caught.value.status_code == 408
    client.close()


def test_a_call_that_takes_longer_than_the_connections_timeout_raises(tmp_path: Path) -> None:
    patient = headrace.connect(tmp_path)
    patient.create_collection("c", vectors_config=VECTORS)
    client = headrace.connect(tmp_path, timeout=0.05)
    released = threading.Event()
    with patch.object(Service, "count", blocked_count(released)):
        with pytest.raises(ResponseHandlingException) as caught:
            client.count("c")
        released.set()
    assert isinstance(caught.value.source, httpx.ReadTimeout)
    client.close()
    patient.close()


def test_async_calls_have_the_same_timeouts() -> None:
    async def run() -> None:
        client = headrace.connect_async(":memory:")
        await client.create_collection("c", vectors_config=VECTORS)
        await client.upsert("c", points(0, 2500))
        released = threading.Event()
        with patch.object(Service, "count", blocked_count(released)):
            with pytest.raises(UnexpectedResponse) as caught:
                await client.count("c", timeout=1)
            released.set()
        assert caught.value.status_code == 408
        await client.close()

    asyncio.run(run())


# Threads and processes


def test_sixteen_threads_read_and_write_at_once(client: QdrantClient) -> None:
    client.create_collection("c", vectors_config=VECTORS)

    def work(worker: int) -> None:
        for i in range(worker * 20, worker * 20 + 20):
            client.upsert("c", points(i, i + 1))
            [record] = client.retrieve("c", [i])
            assert record.payload == {"n": i}
            found = client.query_points("c", [0.0, 0.0, 0.0, 1.0], limit=3).points
            assert found[0].score >= i
            client.set_payload("c", {"by": worker}, points=[i])
        client.delete("c", points_selector=[worker * 20])

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(work, range(16)))
    assert client.count("c").count == 16 * 19
    for worker in range(16):
        by_worker = models.FieldCondition(key="by", match=models.MatchValue(value=worker))
        assert client.count("c", models.Filter(must=[by_worker])).count == 19


def test_parallel_uploads_run_on_threads(client: QdrantClient) -> None:
    client.create_collection("c", vectors_config=VECTORS)
    client.upload_points("c", points(0, 500), batch_size=8, parallel=4, wait=True)
    client.upload_collection(
        "c", vectors=[[1.0] * 4] * 300, ids=range(500, 800), batch_size=8, parallel=0
    )
    assert client.count("c").count == 800


def test_an_error_in_a_parallel_upload_reaches_the_caller(client: QdrantClient) -> None:
    client.create_collection("c", vectors_config=VECTORS)
    wrong = [models.PointStruct(id=1, vector=[1.0])]
    with pytest.raises(UnexpectedResponse):
        client.upload_points("c", wrong, parallel=2, max_retries=0)
    with pytest.raises(ValueError, match="non-negative"):
        client.upload_points("c", wrong, parallel=-1)


def test_a_transport_cannot_be_pickled(client: QdrantClient) -> None:
    with pytest.raises(TypeError, match="cannot be sent to another process"):
        pickle.dumps(client.init_options["transport"])


def use_in_child(
    client: QdrantClient, path: str, answers: multiprocessing.SimpleQueue[str]
) -> None:
    try:
        client.count("c")
    except ResponseHandlingException as error:
        answers.put(type(error.source).__name__)
    client.close()
    try:
        headrace.connect(path)
    except DirectoryInUse as error:
        answers.put(str(error))


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_may_not_use_the_engine_and_does_it_no_harm(tmp_path: Path) -> None:
    client = headrace.connect(tmp_path)
    client.create_collection("c", vectors_config=VECTORS)
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=use_in_child, args=(client, str(tmp_path), answers))
    child.start()
    child.join(CHILD_TIMEOUT_S)
    assert child.exitcode == 0
    assert answers.get() == UsedAfterFork.__name__
    assert f"in use by process {os.getpid()}" in answers.get()
    client.upsert("c", points(0, 5))
    client.close()
    again = headrace.connect(tmp_path)
    assert again.count("c").count == 5
    again.close()


# Directories


def test_connections_to_one_directory_share_its_engine(tmp_path: Path) -> None:
    first = headrace.connect(tmp_path)
    second = headrace.connect(tmp_path / ".." / tmp_path.name)
    first.create_collection("c", vectors_config=VECTORS)
    first.close()
    second.upsert("c", points(0, 2))
    assert second.count("c").count == 2
    with headrace.open(tmp_path) as store:
        assert store.collection("c").count() == 2
    second.close()
    with pytest.raises(ResponseHandlingException):
        second.count("c")
    Service.open(tmp_path).close()


def test_closing_twice_gives_up_one_share(tmp_path: Path) -> None:
    first, second = headrace.connect(tmp_path), headrace.connect(tmp_path)
    first.close()
    first.close()
    assert second.get_collections().collections == []
    second.close()


def test_a_closed_lease_says_so(tmp_path: Path) -> None:
    lease = lease_store(tmp_path)
    store = lease.store
    lease.close()
    with pytest.raises(Unavailable, match="connection"):
        _ = lease.store
    with pytest.raises(Unavailable, match="is closed"):
        _ = store.service


def test_a_client_that_is_dropped_gives_its_directory_up(tmp_path: Path) -> None:
    client = headrace.connect(tmp_path)
    store = client.init_options["transport"]._dispatcher._lease.store
    del client
    gc.collect()
    for thread in threading.enumerate():
        if thread.name == "headrace-close":
            thread.join(CHILD_TIMEOUT_S)
    assert not store.is_usable
    Service.open(tmp_path).close()


def test_another_process_is_told_who_has_the_directory(tmp_path: Path) -> None:
    client = headrace.connect(tmp_path)
    said = child_output(
        "import headrace, sys\n"
        "try:\n    headrace.connect(sys.argv[1])\n"
        "except Exception as error:\n    print(type(error).__name__, error)",
        tmp_path,
    )
    assert said.startswith("DirectoryInUse")
    assert f"in use by process {os.getpid()}" in said
    client.close()


def test_an_interpreter_that_ends_closes_what_is_open(tmp_path: Path) -> None:
    program = (
        "import headrace, sys\n"
        "from qdrant_client import models\n"
        "client = headrace.connect(sys.argv[1])\n"
        "memory = headrace.connect(':memory:')\n"
        "store = headrace.open(sys.argv[1])\n"
        "client.create_collection('c', vectors_config=models.VectorParams(size=1, "
        "distance=models.Distance.DOT))\n"
        "client.upsert('c', [models.PointStruct(id=1, vector=[1.0])])\n"
        "print(memory._client.openapi_client.client._client._transport._dispatcher"
        "._lease.store._directory)"
    )
    temporary = Path(child_output(program, tmp_path).strip())
    assert not temporary.exists()
    assert (tmp_path / "lock").read_text().partition("\n")[0] == ""
    client = headrace.connect(tmp_path)
    assert client.count("c").count == 1
    client.close()


def test_an_interpreter_that_ends_gives_up_a_graph_without_a_word(tmp_path: Path) -> None:
    program = (
        "import headrace, numpy, sys, time\n"
        "from qdrant_client import models\n"
        "client = headrace.connect(sys.argv[1])\n"
        "client.create_collection('c', vectors_config=models.VectorParams(size=64, "
        "distance=models.Distance.COSINE))\n"
        "vectors = numpy.random.default_rng(1).standard_normal((50_000, 64)).astype('float32')\n"
        "client.upload_collection('c', vectors, ids=range(50_000))\n"
        "time.sleep(0.5)"
    )
    child_output(program, tmp_path)


def test_what_was_written_embedded_is_served_and_the_other_way_round(tmp_path: Path) -> None:
    client = headrace.connect(tmp_path)
    client.create_collection("c", vectors_config=VECTORS)
    client.upsert("c", points(0, 50))
    client.close()
    with HeadraceProcess(
        "serve", "--data", str(tmp_path), "--http-port", "0", "--no-grpc"
    ) as server:
        rest_url = server.wait_until_serving()["rest"]
        served = QdrantClient(url=rest_url, check_compatibility=False)
        assert served.count("c").count == 50
        assert served.scroll("c", limit=1, with_vectors=True)[0][0].payload == {"n": 0}
        served.upsert("c", points(50, 60))
        served.close()
        with pytest.raises(DirectoryInUse, match=f"in use by process {server.pid}"):
            headrace.connect(tmp_path)
        assert server.stop() == 0
    client = headrace.connect(tmp_path)
    assert client.count("c").count == 60
    client.close()


def test_a_collection_migrates_from_an_embedded_store_to_a_server(
    client: QdrantClient, server_url: str
) -> None:
    client.create_collection("moved", vectors_config=VECTORS)
    client.upsert("moved", points(0, 30))
    served = QdrantClient(url=server_url, check_compatibility=False)
    client.migrate(served, ["moved"])
    assert served.count("moved").count == 30
    served.delete_collection("moved")
    served.close()


# Files


def test_snapshots_are_downloaded_and_uploaded(client: QdrantClient) -> None:
    client.create_collection("c", vectors_config=VECTORS)
    client.upsert("c", points(0, 5))
    snapshot = client.create_snapshot("c")
    assert snapshot is not None
    transport = client.init_options["transport"]
    with httpx.Client(transport=transport, base_url="http://headrace.invalid") as http:
        content = http.get(f"/collections/c/snapshots/{snapshot.name}").content
        assert len(content) == snapshot.size
        files = {"snapshot": ("c.snapshot", content)}
        answer = http.post("/collections/copy/snapshots/upload", files=files)
    assert answer.json()["result"] is True
    assert client.count("copy").count == 5

    async def download() -> bytes:
        async with httpx.AsyncClient(
            transport=transport, base_url="http://headrace.invalid"
        ) as http:
            return (await http.get(f"/collections/c/snapshots/{snapshot.name}")).content

    assert asyncio.run(download()) == content


# Memory


def test_memory_stores_are_empty_unshared_and_leave_nothing() -> None:
    before = set(memory._parent().glob(f"{memory._PREFIX}*"))
    first, second = headrace.connect(":memory:"), headrace.connect(":memory:")
    first.create_collection("c", vectors_config=VECTORS)
    assert second.get_collections().collections == []
    first.close()
    second.close()
    assert set(memory._parent().glob(f"{memory._PREFIX}*")) <= before


def test_what_a_killed_process_left_in_memory_is_removed(tmp_path: Path) -> None:
    with patch.object(memory, "_MEMORY_FILE_SYSTEM", tmp_path):
        abandoned = memory.create_memory_directory()
        young = memory.create_memory_directory()
        held = memory.create_memory_directory()
        service = Service.open(held)
        for directory in (abandoned, held):
            os.utime(directory, (0, 0))
        new = memory.create_memory_directory()
        assert sorted(tmp_path.iterdir()) == sorted([young, held, new])
        service.close()
