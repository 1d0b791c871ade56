"""Many threads on one collection: nothing is lost, and readers see whole batches only."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import orjson
import pytest

from headrace.model.collection_config import CollectionConfig, VectorParams
from headrace.model.errors import NotFound, Unavailable
from headrace.model.operations import (
    ClearPayload,
    DeletePoints,
    OverwritePayload,
    PointSelector,
    WriteBatch,
)
from headrace.model.points import PointStruct
from headrace.model.queries import NO_VECTORS, WHOLE_PAYLOAD, Nearest, Query, Scroll
from headrace.model.upserts import build_upsert
from headrace.model.vectors import Distance
from headrace.service.service import Service

CONFIG = CollectionConfig(vectors={"": VectorParams(2, Distance.DOT)})


@pytest.fixture
def service(tmp_path: Path) -> Service:
    service = Service.open(tmp_path)
    service.create_collection("c", CONFIG)
    return service


def point(point_id: int, value: int) -> PointStruct:
    vector = np.array([value, 1], dtype=np.float32)
    return PointStruct(point_id, {"": vector}, orjson.dumps({"value": value}))


def test_concurrent_writers_all_land_with_distinct_versions(service: Service) -> None:
    def write(number: int) -> int:
        return service.write("c", [build_upsert([point(number, number)], CONFIG)])

    with ThreadPoolExecutor(16) as pool:
        seq_nos = list(pool.map(write, range(300)))

    assert sorted(seq_nos) == list(range(1, 301))
    assert service.count("c") == 300
    service.close()


def test_a_refused_batch_does_not_disturb_its_group(service: Service) -> None:
    def write(number: int) -> bool:
        if number % 3:
            service.write("c", [build_upsert([point(number, number)], CONFIG)])
            return True
        with pytest.raises(NotFound):
            service.write(
                "c",
                [
                    build_upsert([point(number, number)], CONFIG),
                    ClearPayload(PointSelector(ids=(10**9,))),
                ],
            )
        return False

    with ThreadPoolExecutor(16) as pool:
        landed = sum(pool.map(write, range(300)))

    page = service.scroll("c", Scroll(limit=1000))
    assert [record.id for record in page.records] == [n for n in range(300) if n % 3]
    assert service.count("c") == landed
    service.close()


def test_readers_see_whole_batches_and_never_miss_a_point(service: Service, tmp_path: Path) -> None:
    ids = tuple(range(20))
    stop = threading.Event()
    failures: list[str] = []

    def write_all(value: int) -> None:
        if value % 2:
            service.write("c", [build_upsert([point(i, value) for i in ids], CONFIG)])
        else:
            service.write(
                "c",
                [
                    DeletePoints(PointSelector(ids=ids)),
                    build_upsert([point(i, value) for i in ids], CONFIG),
                    OverwritePayload(PointSelector(ids=ids), orjson.dumps({"value": value})),
                ],
            )

    def read() -> None:
        while not stop.is_set():
            page = service.scroll("c", Scroll(limit=100))
            values = {orjson.loads(record.payload or b"")["value"] for record in page.records}
            if len(page.records) != len(ids) or len(values) != 1:
                failures.append(f"scroll saw {len(page.records)} points, values {values}")
            if len(service.retrieve("c", ids, WHOLE_PAYLOAD, NO_VECTORS)) != len(ids):
                failures.append("retrieve missed a point")
            if len(service.query("c", Query(query=Nearest(3), limit=100))) != len(ids) - 1:
                failures.append("a query by id missed a point")

    write_all(1)
    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for value in range(2, 150):
        write_all(value)
    stop.set()
    for reader in readers:
        reader.join(30)
    assert failures == []
    service.close()
    reopened = Service.open(tmp_path)
    assert reopened.count("c") == len(ids)
    reopened.close()


def test_a_checkpoint_after_a_refused_batch_in_a_group_includes_no_write_to_come(
    service: Service, tmp_path: Path
) -> None:
    collection = service._engine.collection("c")
    good = WriteBatch([build_upsert([point(1, 1)], CONFIG)])
    refused = WriteBatch([ClearPayload(PointSelector(ids=(10**9,)))])
    with ThreadPoolExecutor(2) as pool:
        with collection._write_lock:
            # Both are queued, in this order, before either is committed.
            landed = pool.submit(collection.write, good)
            _wait_until(lambda: len(collection._queue) == 1)
            failed = pool.submit(collection.write, refused)
            _wait_until(lambda: len(collection._queue) == 2)
        assert landed.result(30) == 1
        with pytest.raises(NotFound):
            failed.result(30)
    assert collection.view.seq_no == 1
    collection.checkpoint()
    assert collection.write(WriteBatch([build_upsert([point(2, 2)], CONFIG)])) == 2
    service.close()

    reopened = Service.open(tmp_path)
    assert reopened.count("c") == 2
    reopened.close()


def test_a_write_that_waits_while_its_collection_is_deleted_finds_none(service: Service) -> None:
    collection = service._engine.collection("c")
    batch = WriteBatch([build_upsert([point(1, 1)], CONFIG)])
    with ThreadPoolExecutor(2) as pool:
        with collection._write_lock:
            deleted = pool.submit(service.delete_collection, "c")
            _wait_until(lambda: not service.collection_exists("c"))
            late = pool.submit(collection.write, batch)
            _wait_until(lambda: len(collection._queue) == 1)
        assert deleted.result(30)
        # It is written before the log is closed, or there is nothing to write into.
        error = late.exception(30)
    assert error is None or isinstance(error, NotFound)
    with pytest.raises(NotFound, match="Collection `c` doesn't exist!"):
        collection.write(batch)
    service.close()


def test_a_collection_whose_store_was_closed_is_not_said_to_be_missing(service: Service) -> None:
    collection = service._engine.collection("c")
    service.close()
    with pytest.raises(Unavailable):
        collection.write(WriteBatch([build_upsert([point(1, 1)], CONFIG)]))


def test_a_deleted_collection_keeps_no_graphs(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = service._engine.collection("c")
    monkeypatch.setattr(collection._checkpoints, "lacks_graphs", lambda _: True)
    monkeypatch.setattr(collection, "checkpoint", lambda: pytest.fail("made a checkpoint"))
    assert service.delete_collection("c")
    monkeypatch.undo()
    service.close()


def _wait_until(is_reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_reached():
        assert time.monotonic() < deadline
        time.sleep(0.001)
