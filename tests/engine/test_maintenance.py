"""Checkpoints and compaction run beside reads and writes, and nobody notices."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from headrace.engine.engine import Engine
from headrace.engine.segment.segment import Segment
from headrace.engine.storage.file_ops import ReadableBuffer
from headrace.engine.upkeep.check import check_directory
from headrace.model.collection_config import CollectionConfig, SparseVectorParams, VectorParams
from headrace.model.errors import NoSpace
from headrace.model.operations import DeletePoints, PointSelector, SetPayload, WriteBatch
from headrace.model.points import PointStruct
from headrace.model.queries import Nearest, Query, Scroll
from headrace.model.upserts import build_upsert
from headrace.model.vectors import Distance, SparseVector
from headrace.service.service import Service
from tests.engine.storage.faulty_file_ops import FaultyFileOps

CONFIG = CollectionConfig(
    vectors={"": VectorParams(4, Distance.DOT)},
    optimizers_config={"vacuum_min_vector_number": 100},
)
COLLECTION = "headrace.engine.collection.collection"


def points(begin: int, end: int, value: int) -> list[PointStruct]:
    payload = orjson.dumps({"value": value, "text": "x" * 200})
    vector = np.array([value, 1, 2, 3], dtype=np.float32)
    return [PointStruct(n, {"": vector}, payload) for n in range(begin, end)]


def wait_until_idle(service: Service) -> None:
    """Until the background thread has done what was requested of it, and what followed."""
    for _ in range(10):
        done = threading.Event()
        service._engine._maintenance.request(done.set)
        assert done.wait(30)


def test_a_long_log_is_replaced_by_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{COLLECTION}._CHECKPOINT_WAL_BYTES", 100_000)
    service = Service.open(tmp_path)
    service.create_collection("c", CONFIG)
    for begin in range(0, 3000, 100):
        service.write("c", [build_upsert(points(begin, begin + 100, 7), CONFIG)])
    wait_until_idle(service)
    wal_bytes = sum(path.stat().st_size for path in tmp_path.glob("collections/c/wal/*"))
    assert wal_bytes < 300_000
    assert list(tmp_path.glob("collections/c/data/*"))
    service.close()

    reopened = Service.open(tmp_path)
    assert reopened.count("c") == 3000
    assert len(reopened.query("c", Query(query=Nearest(5), limit=5000))) == 2999
    reopened.close()


def test_deleted_points_give_their_space_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{COLLECTION}._CHECKPOINT_WAL_BYTES", 100_000)
    service = Service.open(tmp_path)
    service.create_collection("c", CONFIG)
    for begin in range(0, 5000, 500):
        service.write("c", [build_upsert(points(begin, begin + 500, 7), CONFIG)])
    wait_until_idle(service)
    before = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())

    service.write("c", [DeletePoints(PointSelector(ids=tuple(range(4500))))])
    wait_until_idle(service)

    assert service._engine.collection("c").view.row_count == 500
    after = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert after < before / 4
    assert service.count("c") == 500
    service.close()


def test_a_threshold_of_zero_takes_out_every_dead_row(tmp_path: Path) -> None:
    config = CollectionConfig(
        vectors={"": VectorParams(4, Distance.DOT)},
        optimizers_config={"deleted_threshold": 0, "vacuum_min_vector_number": 0},
    )
    service = Service.open(tmp_path)
    service.create_collection("c", config)
    service.write("c", [build_upsert(points(0, 50, 7), config)])
    service.write("c", [DeletePoints(PointSelector(ids=(3,)))])
    wait_until_idle(service)
    assert service._engine.collection("c").view.row_count == service.count("c") == 49
    service.close()


class WritesBetween(FaultyFileOps):
    """Lets something happen after each write to a file, before what was written is summed up."""

    def __init__(self) -> None:
        super().__init__()
        self.between: Callable[[], None] | None = None

    def write(self, fd: int, data: ReadableBuffer, byte_offset: int) -> int:
        taken = super().write(fd, data, byte_offset)
        between, self.between = self.between, None
        if between is not None:
            between()
            self.between = between
        return taken


def test_payloads_that_change_while_a_checkpoint_is_written_do_not_damage_it(
    tmp_path: Path,
) -> None:
    ops = WritesBetween()
    engine = Engine.open(tmp_path, ops)
    engine.create_collection("c", CONFIG)
    collection = engine.collection("c")
    collection.write(WriteBatch([build_upsert(points(0, 50, 7), CONFIG)]))

    def change() -> None:
        patch = SetPayload(PointSelector(ids=tuple(range(50))), b'{"changed":1}')
        collection.write(WriteBatch([patch]))

    ops.between = change
    collection.checkpoint()
    ops.between = None
    assert collection.view.seq_no > 5
    versions = collection.view.versions(np.arange(50))
    engine.close()
    assert check_directory(tmp_path).problems == []
    engine = Engine.open(tmp_path)
    assert engine.collection("c").view.versions(np.arange(50)) == versions
    engine.close()


def test_a_write_that_is_taken_back_leaves_no_version_in_a_checkpoint(tmp_path: Path) -> None:
    """Nor in a compaction: its batch is applied, and then refused, while both begin."""
    ops = FaultyFileOps()
    engine = Engine.open(tmp_path, ops)
    engine.create_collection("c", CONFIG)
    collection = engine.collection("c")
    collection.write(WriteBatch([build_upsert(points(0, 50, 7), CONFIG)]))
    sync, beginnings = collection._wal.sync, []

    def sync_late() -> None:
        def begin() -> None:
            collection._compact()
            collection.checkpoint()

        beginnings.append(threading.Thread(target=begin))
        beginnings[0].start()
        time.sleep(0.2)
        raise NoSpace("no room")

    collection._wal.sync = sync_late  # type: ignore[method-assign]
    patch = SetPayload(PointSelector(ids=(1,)), b'{"changed":1}')
    with pytest.raises(NoSpace):
        collection.write(WriteBatch([patch]))
    collection._wal.sync = sync  # type: ignore[method-assign]
    beginnings[0].join(30)
    assert collection.view.versions(np.arange(50)) == [1] * 50
    engine.close()
    engine = Engine.open(tmp_path)
    assert engine.collection("c").view.versions(np.arange(50)) == [1] * 50
    engine.close()


def test_background_work_beside_readers_and_writers_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{COLLECTION}._CHECKPOINT_WAL_BYTES", 50_000)
    monkeypatch.setattr(f"{COLLECTION}._COMPACTION_PAUSE", 0.0)
    service = Service.open(tmp_path)
    service.create_collection("c", CONFIG)
    service.write("c", [build_upsert(points(0, 200, 0), CONFIG)])
    stop = threading.Event()
    failures: list[str] = []

    def read() -> None:
        while not stop.is_set():
            records = service.scroll("c", Scroll(limit=500)).records
            values = {orjson.loads(record.payload or b"")["value"] for record in records}
            if len(records) != 200 or len(values) != 1:
                failures.append(f"{len(records)} points, values {values}")
            if len(service.query("c", Query(query=Nearest(3), limit=500))) != 199:
                failures.append("a query by id missed a point")

    reader = threading.Thread(target=read)
    reader.start()
    for value in range(1, 200):
        service.write("c", [build_upsert(points(0, 200, value), CONFIG)])
    stop.set()
    reader.join(30)
    wait_until_idle(service)
    generations = service._engine.collection("c")._checkpoints._generation
    service.close()

    assert failures == []
    assert generations > 3
    reopened = Service.open(tmp_path)
    records = reopened.scroll("c", Scroll(limit=500)).records
    assert [orjson.loads(r.payload or b"")["value"] for r in records] == [199] * 200
    reopened.close()


def test_closing_does_not_wait_for_queued_work(tmp_path: Path) -> None:
    service = Service.open(tmp_path)
    started, release = threading.Event(), threading.Event()
    ran: list[int] = []

    def block() -> None:
        started.set()
        release.wait(30)

    maintenance = service._engine._maintenance
    maintenance.request(block)
    assert started.wait(30)
    maintenance.request(lambda: ran.append(1))
    closer = threading.Thread(target=service.close)
    closer.start()
    time.sleep(0.05)
    release.set()
    closer.join(30)
    assert not closer.is_alive()
    assert ran == []


def test_the_status_is_yellow_until_dead_rows_are_taken_out(tmp_path: Path) -> None:
    service = Service.open(tmp_path)
    service.create_collection("c", CONFIG)
    service.write("c", [build_upsert(points(0, 500, 7), CONFIG)])
    assert not service.collection_info("c").is_optimizing
    busy = threading.Event()

    def wait() -> None:
        busy.wait(30)

    service._engine._maintenance.request(wait)
    service.write("c", [DeletePoints(PointSelector(ids=tuple(range(400))))])
    assert service.collection_info("c").is_optimizing
    busy.set()
    wait_until_idle(service)
    assert not service.collection_info("c").is_optimizing
    assert service._engine.collection("c").view.row_count == 100
    service.close()


def test_sparse_vectors_are_indexed_from_the_start(tmp_path: Path) -> None:
    config = CollectionConfig(sparse_vectors={"words": SparseVectorParams()})
    service = Service.open(tmp_path)
    service.create_collection("c", config)
    word = SparseVector(np.array([3], dtype=np.uint32), np.ones(1, dtype=np.float32))
    written = [PointStruct(n, {"words": word} if n % 2 else {}, b"{}") for n in range(10)]
    service.write("c", [build_upsert(written, config)])
    service.write("c", [DeletePoints(PointSelector(ids=(1,)))])
    assert service.collection_info("c").indexed_vectors_count == 4
    service.close()


def test_a_compaction_shows_what_is_durable_and_was_not_shown_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for want of memory; shown later, it would bring the replaced rows back."""
    engine = Engine.open(tmp_path)
    engine.create_collection("c", CONFIG)
    collection = engine.collection("c")
    collection.write(WriteBatch([build_upsert(points(0, 50, 7), CONFIG)]))
    compacted, show = Segment.compacted, collection._show
    patch = WriteBatch([SetPayload(PointSelector(ids=(1,)), b'{"changed":1}')])

    def short_of_memory(*_: object) -> None:
        raise MemoryError

    def compacted_beside_a_write(*arguments: Any) -> Segment:
        made = compacted(*arguments)
        collection._show = short_of_memory  # type: ignore[method-assign, assignment]
        with pytest.raises(MemoryError):
            collection.write(patch)
        collection._show = show  # type: ignore[method-assign]
        return made

    monkeypatch.setattr(Segment, "compacted", compacted_beside_a_write)
    collection._compact()
    current = collection.view.segment
    append = collection._wal.append
    collection._wal.append = short_of_memory  # type: ignore[method-assign, assignment]
    with pytest.raises(MemoryError):
        collection.write(patch)
    collection._wal.append = append  # type: ignore[method-assign]
    assert collection.view.segment is current
    assert collection.view.versions(np.arange(2)) == [1, 2]
    engine.close()
