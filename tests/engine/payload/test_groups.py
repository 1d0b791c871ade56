"""Payloads come out of mapped files, and take no memory once all of them were read."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from headrace.engine.collection.collection import Collection
from headrace.engine.engine import Engine
from headrace.engine.payload.chunk import CHUNK_ROWS, PackedChunk
from headrace.engine.payload.groups import (
    GROUP_ROWS,
    GroupState,
    drop_mapped_pages,
    encode_group,
    mapped_chunks,
    move_into_file,
    move_out_of_file,
)
from headrace.engine.payload.store import PayloadStore, PayloadTable, payloads_at
from headrace.engine.segment import checkpoint
from headrace.engine.storage.data_file import DataFileRef, map_data_file, write_data_file
from headrace.model.collection_config import (
    CollectionConfig,
    PayloadFieldSchema,
    PayloadFieldType,
)
from headrace.model.errors import CorruptFile
from headrace.model.filters import FieldCondition, Filter, MatchValue
from headrace.model.operations import (
    CreatePayloadIndex,
    PointSelector,
    SetPayload,
    WriteBatch,
)
from headrace.model.points import PointStruct
from headrace.model.upserts import build_upsert

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads memory from /proc")

# Before and behind the content of a file, where pages are not of the content alone.
BESIDE_BYTES = 2 * mmap.PAGESIZE

ROWS = 5000
PAYLOADS = [b'{"n":%d,"text":"%s"}' % (n % 10, b"x" * (n % 300)) for n in range(ROWS)]


def mapped(directory: Path, name: str) -> PayloadTable:
    store = PayloadStore()
    store.append(PAYLOADS)
    table = store.snapshot()
    group = GroupState(table, [len(chunk) for chunk in table])
    ref = write_data_file(directory, name, encode_group(group))
    return list(mapped_chunks(map_data_file(directory, ref), ROWS))


def filled(engine: Engine, payloads: Sequence[bytes]) -> Collection:
    """A new collection of points without vectors."""
    config = CollectionConfig({})
    engine.create_collection("c", config)
    collection = engine.collection("c")
    points = [PointStruct(n, {}, payload) for n, payload in enumerate(payloads)]
    collection.write(WriteBatch([build_upsert(points, config)]))
    return collection


def resident_bytes(file_name_end: str) -> int:
    """How much of the mapped files of such a name is in this process's memory."""
    return _bytes_of("Rss:", file_name_end)


def mapped_bytes(file_name_end: str) -> int:
    """How much of the files of such a name this process has mapped."""
    return _bytes_of("Size:", file_name_end)


def _bytes_of(what: str, file_name_end: str) -> int:
    found, is_such = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            is_such = line.endswith(file_name_end)
        elif words[0] == what and is_such:
            found += 1024 * int(words[1])
    return found


def test_mapped_payloads_come_out_as_they_went_in_also_once_dropped(tmp_path: Path) -> None:
    table = mapped(tmp_path, "a") + mapped(tmp_path, "b")
    for _ in range(2):
        assert payloads_at(table, range(ROWS)) == PAYLOADS
        assert [payload for chunk in table for payload in chunk] == 2 * PAYLOADS
        drop_mapped_pages(table)


@ON_LINUX
def test_dropping_some_chunks_gives_back_the_files_that_they_are_in(tmp_path: Path) -> None:
    first, second = mapped(tmp_path, "first.here"), mapped(tmp_path, "second.here")
    assert resident_bytes("first.here") >= sum(map(len, PAYLOADS))
    drop_mapped_pages([[b"{}"], *first[2:3]])
    assert resident_bytes("first.here") <= BESIDE_BYTES
    assert resident_bytes("second.here") >= sum(map(len, PAYLOADS))
    drop_mapped_pages(first + second)
    assert resident_bytes(".here") <= 2 * BESIDE_BYTES


def test_payloads_move_into_their_file_for_all_who_hold_them(tmp_path: Path) -> None:
    store = PayloadStore()
    store.append(PAYLOADS)
    before = store.snapshot()
    for name in ("first", "second"):
        # A chunk with a changed payload is a list, and the last one, which grows, is as well. In
        # the second file the payloads behind the changed one lie at other places.
        store.replace([2000], [b'{"name":"%s"}' % name.encode()])
        table = store.snapshot()
        group = GroupState(table, [len(chunk) for chunk in table])
        ref = write_data_file(tmp_path, name, encode_group(group))
        content = map_data_file(tmp_path, ref)
        move_into_file(group, content)
        packed = [chunk for chunk in table if isinstance(chunk, PackedChunk)]
        assert len(packed) == ROWS // CHUNK_ROWS - 1
        assert all(chunk.file is content for chunk in packed)
        assert payloads_at(before, range(ROWS)) == PAYLOADS
        changed = PAYLOADS.copy()
        changed[2000] = b'{"name":"%s"}' % name.encode()
        assert payloads_at(table, range(ROWS)) == changed


@pytest.mark.parametrize(("left", "stays"), [(1, False), (2, False), (3, True)])
def test_a_few_payloads_left_in_a_replaced_file_are_copied(
    tmp_path: Path, left: int, stays: bool
) -> None:
    table = mapped(tmp_path, "first")
    group = GroupState(table, [len(chunk) for chunk in table])
    old = [chunk for chunk in table if isinstance(chunk, PackedChunk)]
    content = old[0].file
    assert content is not None
    for chunk, copy in zip(old[left:], mapped(tmp_path, "second")[left:], strict=True):
        assert isinstance(copy, PackedChunk)
        chunk.move_to(copy)
    move_out_of_file(group, content)
    assert any(chunk.file is content for chunk in old) is stays
    assert payloads_at(table, range(ROWS)) == PAYLOADS


def test_nothing_is_dropped_of_payloads_in_memory() -> None:
    store = PayloadStore()
    store.append(PAYLOADS)
    drop_mapped_pages(store.snapshot())
    assert store.get_many(range(ROWS)) == PAYLOADS


@ON_LINUX
def test_opening_and_indexing_leave_no_payloads_in_memory(tmp_path: Path) -> None:
    # More than one group, the last one with a chunk that may grow.
    count = GROUP_ROWS + 3000
    with closing(Engine.open(tmp_path)) as engine:
        filled(engine, [PAYLOADS[n % ROWS] for n in range(count)]).checkpoint()
        # Of the rows that were full chunks.
        assert mapped_bytes("-payloads.data") >= sum(map(len, PAYLOADS)) * (count // ROWS)
        assert resident_bytes("-payloads.data") <= 2 * BESIDE_BYTES
    with closing(Engine.open(tmp_path)) as engine:
        collection = engine.collection("c")
        assert resident_bytes("-payloads.data") <= 2 * BESIDE_BYTES
        index = CreatePayloadIndex("n", PayloadFieldSchema(PayloadFieldType.INTEGER))
        collection.write(WriteBatch([index]))
        # All parts, which the background may be building still when a count has those it needs.
        collection.keep_payload_index_up()
        threes = Filter(must=(FieldCondition("n", match=MatchValue(3)),))
        assert collection.count(threes) == len(range(3, count, 10))
        assert resident_bytes("-payloads.data") <= 2 * BESIDE_BYTES


@ON_LINUX
def test_a_file_that_a_checkpoint_replaced_is_let_go_of(tmp_path: Path) -> None:
    with closing(Engine.open(tmp_path)) as engine:
        filled(engine, PAYLOADS).checkpoint()
    with closing(Engine.open(tmp_path)) as engine:
        collection = engine.collection("c")
        for name in ("first", "second"):
            patch = SetPayload(PointSelector(ids=(3,)), b'{"name":"%s"}' % name.encode())
            collection.write(WriteBatch([patch]))
            collection.checkpoint()
            # A removed file keeps its room on the disk while it is mapped.
            assert mapped_bytes("-payloads.data") > 0
            assert mapped_bytes("-payloads.data (deleted)") == 0
            assert collection.view.payload(4) == PAYLOADS[4]
            assert name.encode() in collection.view.payload(3)


def test_a_file_that_is_damaged_before_payloads_move_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damage_and_map(directory: Path, ref: DataFileRef, is_cold: bool = False) -> memoryview:
        path = directory / ref.name
        path.write_bytes(path.read_bytes().replace(b'{"n":4', b'{"n":5', 1))
        return map_data_file(directory, ref, is_cold)

    with closing(Engine.open(tmp_path)) as engine:
        collection = filled(engine, PAYLOADS)
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "map_data_file", damage_and_map)
            with pytest.raises(CorruptFile):
                collection.checkpoint()
        assert collection.view.payload(4) == PAYLOADS[4]
        collection.checkpoint()
    with closing(Engine.open(tmp_path)) as engine:
        assert payloads_at(engine.collection("c").view.payloads, range(ROWS)) == PAYLOADS


@ON_LINUX
def test_chunks_that_a_payload_index_still_holds_keep_no_replaced_file(tmp_path: Path) -> None:
    with closing(Engine.open(tmp_path)) as engine:
        collection = filled(engine, PAYLOADS)
        index = CreatePayloadIndex("n", PayloadFieldSchema(PayloadFieldType.INTEGER))
        collection.write(WriteBatch([index]))
        threes = Filter(must=(FieldCondition("n", match=MatchValue(3)),))
        assert collection.count(threes) == ROWS // 10
        for n in range(3, ROWS - CHUNK_ROWS, CHUNK_ROWS):
            collection.write(WriteBatch([SetPayload(PointSelector(ids=(n,)), b'{"n":10}')]))
            collection.checkpoint()
            assert mapped_bytes("-payloads.data (deleted)") == 0
        tens = Filter(must=(FieldCondition("n", match=MatchValue(10)),))
        assert collection.count(tens) == len(range(3, ROWS - CHUNK_ROWS, CHUNK_ROWS))
