"""A MemoryError at any line of a write leaves the collection as it was before.

Python raises it wherever something is made; so each line of the engine that a write runs
through raises it once, also those that take a failed batch back. KeyboardInterrupt comes
anywhere too; whatever it ends, the collection is whole, and others' writes are done.
"""

from __future__ import annotations

import linecache
import random
import sys
import threading
import time
from collections.abc import Container
from pathlib import Path
from types import FrameType
from typing import Any

import orjson
import pytest

from headrace.engine.collection.collection import Collection
from headrace.engine.engine import Engine
from headrace.model.collection_config import PayloadFieldSchema, PayloadFieldType
from headrace.model.errors import HeadraceError, StorageFailed
from headrace.model.filters import Filter
from headrace.model.operations import (
    CreatePayloadIndex,
    DeletePayload,
    DeletePoints,
    DeleteVectors,
    Operation,
    OverwritePayload,
    PointSelector,
    SetPayload,
    UpdateVectors,
    UpsertPoints,
    WriteBatch,
)
from headrace.model.upserts import build_upsert
from tests.crash.test_engine_crash import CONFIG, random_point, state_of
from tests.engine.storage.faulty_file_ops import FaultyFileOps

ENGINE = str(Path(sys.modules["headrace.engine.engine"].__file__ or "").parent)

# From the successful sync on a write is durable and is acknowledged. What follows only tells
# others of it, and makes nothing that could be refused.
PAST_RETURN = {
    "_commit_next",
    "_sync",
    "_show",
    "_withdraw",
    "write",
    "end_batches",
    "sync",
    "_append_synced",
}


class Starved:
    """While entered, the line of that number in the engine raises MemoryError, or another.

    Attributes:
        lines: how many lines were counted.
        struck: where it was raised, if it was.
    """

    def __init__(
        self,
        line: int,
        error: type[BaseException] = MemoryError,
        past: Container[str] = PAST_RETURN,
    ) -> None:
        self.lines = 0
        self.struck: str | None = None
        self._line = line
        self._error = error
        self._past = past

    def __enter__(self) -> Starved:
        sys.settrace(self._enter_frame)
        return self

    def __exit__(self, *exc: object) -> None:
        sys.settrace(None)

    def _enter_frame(self, frame: FrameType, event: str, arg: Any) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(ENGINE) or code.co_name in self._past:
            return None
        return self._trace

    def _trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "line" and not _is_with(frame):
            self.lines += 1
            if self.lines == self._line:
                self.struck = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                raise self._error(self.struck)
        return self._trace


def _is_with(frame: FrameType) -> bool:
    """Whether it is at a `with`: there a trace function runs before a lock is given back."""
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    return line.lstrip().startswith("with ")


def batches(rng: random.Random) -> dict[str, list[Operation]]:
    def some(*ids: int) -> PointSelector:
        return PointSelector(ids=ids)

    def upsert(*ids: int) -> UpsertPoints:
        return build_upsert([random_point(i, rng) for i in ids], CONFIG)

    vectors = upsert(2, 3)
    return {
        "upsert": [upsert(1, 2, 50), upsert(*range(40, 70))],
        "delete": [DeletePoints(some(1, 2, 99)), DeletePoints(PointSelector(filter=Filter()))],
        "payloads": [
            SetPayload(some(1, 2), orjson.dumps({"a": [1]})),
            OverwritePayload(some(3), orjson.dumps({"b": 2})),
            DeletePayload(some(1), ("n",)),
        ],
        "vectors": [
            UpdateVectors(vectors.ids, vectors.vectors),
            DeleteVectors(some(4, 5), ("sparse",)),
        ],
        "index": [CreatePayloadIndex("n", PayloadFieldSchema(PayloadFieldType.INTEGER))],
        "refused": [
            upsert(1, 2, 51),
            SetPayload(some(1, 2), orjson.dumps({"a": [1]})),
            DeletePoints(some(3)),
            SetPayload(some(1000), b'{"a":1}'),
        ],
    }


def starve(directory: Path, kind: str, every: int, first: int) -> int:
    """Let every so many-th line of a kind of write fail once; returns how many lines did."""
    rng = random.Random(4)
    engine = Engine.open(directory)
    engine.create_collection("c", CONFIG)
    collection = engine.collection("c")
    collection.write(WriteBatch([build_upsert([random_point(i, rng) for i in range(20)], CONFIG)]))
    batch = WriteBatch(batches(rng)[kind])
    struck, line = 0, first
    while True:
        before = state_of(collection)
        with Starved(line) as starved:
            error = write_error(collection, batch)
        if starved.struck is None:
            break
        if isinstance(error, MemoryError):
            assert state_of(collection) == before, starved.struck
        else:
            # The line ran after the write, or for something that can be done without.
            assert error is None or kind == "refused", starved.struck
        struck += 1
        # The next write finds nothing of it, and what it leaves is whole.
        patch = SetPayload(PointSelector(ids=(19,)), orjson.dumps({"line": line}))
        expected = state_of(collection)
        if "19" in expected["points"]:
            seq_no = collection.write(WriteBatch([patch]))
            point = expected["points"]["19"]
            payload = orjson.dumps(orjson.loads(point[1]) | {"line": line})
            expected["points"]["19"] = [seq_no, payload, point[2]]
            assert state_of(collection) == expected, starved.struck
        line += every
    expected = state_of(collection)
    engine.close()
    engine = Engine.open(directory)
    assert state_of(engine.collection("c")) == expected
    engine.close()
    return struck


def write_error(collection: Collection, batch: WriteBatch) -> BaseException | None:
    try:
        collection.write(batch)
    except (MemoryError, HeadraceError) as error:
        return error
    return None


KINDS = ["upsert", "delete", "payloads", "vectors", "index", "refused"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_memory_error_at_any_41st_line_leaves_the_state_as_before(
    tmp_path: Path, kind: str
) -> None:
    assert starve(tmp_path, kind, every=41, first=7) > 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_a_memory_error_at_any_line_leaves_the_state_as_before(tmp_path: Path, kind: str) -> None:
    assert starve(tmp_path, kind, every=1, first=1) > 100


def interrupt(directory: Path, kind: str, every: int, first: int) -> int:
    """Let every so many-th line of a kind of write be interrupted; returns how many were."""
    engine = Engine.open(directory, FaultyFileOps())
    engine.create_collection("c", CONFIG)
    points = [random_point(i, random.Random(i)) for i in range(20)]
    engine.collection("c").write(WriteBatch([build_upsert(points, CONFIG)]))
    batch = WriteBatch(batches(random.Random(4))[kind])
    struck, line = 0, first
    while True:
        collection = engine.collection("c")
        before, seq_no = state_of(collection), collection.view.seq_no
        is_interrupted = False
        with Starved(line, KeyboardInterrupt, past=()) as starved:
            try:
                collection.write(batch)
            except HeadraceError:
                assert kind == "refused", starved.struck
            except KeyboardInterrupt:
                is_interrupted = True
        if starved.struck is None:
            break
        after = state_of(collection)
        written = collection.view.seq_no - seq_no
        assert written in ((0, 1) if is_interrupted else (1,)) or kind == "refused", starved.struck
        assert written or after == before, starved.struck
        # Others go on, unless what a log has taken is not known: then they are refused.
        patch = SetPayload(PointSelector(filter=Filter()), orjson.dumps({"line": line}))
        refusal = write_error(collection, WriteBatch([patch]))
        if refusal is not None:
            assert isinstance(refusal, StorageFailed), starved.struck
            assert "interrupted" in refusal.message, starved.struck
        else:
            after = state_of(collection)
            assert collection.view.seq_no == seq_no + written + 1, starved.struck
        if struck % 10 == 0 or refusal is not None:
            last = collection.view.seq_no
            engine.close()
            engine = Engine.open(directory, FaultyFileOps())
            collection = engine.collection("c")
            # A write that was not acknowledged may be there.
            assert collection.view.seq_no in (last, last + 1), starved.struck
            assert collection.view.seq_no > last or state_of(collection) == after, starved.struck
        struck += 1
        line += every
    engine.close()
    return struck


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupt_at_any_41st_line_leaves_a_whole_state(tmp_path: Path, kind: str) -> None:
    assert interrupt(tmp_path, kind, every=41, first=11) > 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupt_at_any_line_leaves_a_whole_state(tmp_path: Path, kind: str) -> None:
    assert interrupt(tmp_path, kind, every=1, first=1) > 100


def with_points(directory: Path, count: int) -> tuple[Engine, Collection]:
    engine = Engine.open(directory, FaultyFileOps())
    engine.create_collection("c", CONFIG)
    collection = engine.collection("c")
    collection.write(some_points(count))
    return engine, collection


def some_points(count: int) -> WriteBatch:
    points = [random_point(i, random.Random(i)) for i in range(count)]
    return WriteBatch([build_upsert(points, CONFIG)])


def test_an_interrupt_behind_the_sync_does_not_take_back_what_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, collection = with_points(tmp_path, 5)
    sync = collection._wal.sync

    def sync_and_interrupt() -> None:
        sync()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(collection._wal, "sync", sync_and_interrupt)
        with pytest.raises(KeyboardInterrupt):
            collection.write(some_points(8))
    assert collection.points_count() == 8
    collection.write(some_points(9))
    collection.checkpoint()
    expected = state_of(collection)
    engine.close()
    engine = Engine.open(tmp_path)
    assert state_of(engine.collection("c")) == expected
    engine.close()


@pytest.mark.parametrize("when", ["before", "behind"])
def test_an_interrupted_writer_does_not_interrupt_others_of_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    engine, collection = with_points(tmp_path, 5)
    ended: list[int | BaseException] = []

    def write() -> None:
        try:
            ended.append(collection.write(some_points(8)))
        except BaseException as error:
            ended.append(error)

    sync = collection._wal.sync

    def interrupted() -> None:
        if when == "behind":
            sync()
        raise KeyboardInterrupt

    other = threading.Thread(target=write)
    with collection._write_lock, monkeypatch.context() as patched:
        other.start()
        deadline = time.monotonic() + 20
        while not collection._queue and time.monotonic() < deadline:
            time.sleep(0.001)
        patched.setattr(collection._wal, "sync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            collection._commit_next()
    other.join(20)
    assert ended == [2]
    assert collection.points_count() == 8
    assert collection._queue == []
    assert collection.write(some_points(9)) == 3
    engine.close()
