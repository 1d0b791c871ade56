"""From ids to rows, against a dictionary; and what that takes of memory."""

from __future__ import annotations

import subprocess
import sys
import threading
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.engine.segment.id_index import IdIndex
from headrace.engine.segment.ids import NO_ROW, IdWords, RowIds
from headrace.model.ids import PointId
from tests.engine.segment.test_ids import IDS

BYTES_PER_POINT_MAX = 48


class IndexedIds:
    """Rows that are named and pointed to, as a segment does it."""

    def __init__(self) -> None:
        self.row_ids = RowIds()
        self.index = IdIndex(self.row_ids)
        self.row_count = 0

    def append(self, ids: list[PointId]) -> list[int]:
        rows = np.arange(self.row_count, self.row_count + len(ids))
        self.row_ids.write(self.row_count, IdWords.of(ids))
        self.index.point_to(ids, rows)
        self.row_count += len(ids)
        return list(rows.tolist())


@given(st.lists(st.lists(IDS, unique=True, max_size=40)))
def test_the_index_answers_as_a_dictionary(batches: list[list[PointId]]) -> None:
    indexed, model = IndexedIds(), dict[PointId, int]()
    for ids in batches:
        model.update(zip(ids, indexed.append(ids), strict=True))
        known = [*model, 2**64 - 7, UUID(int=2**64 - 7)]
        expected = [model.get(one, NO_ROW) for one in known]
        assert indexed.index.rows(known).tolist() == expected
        assert indexed.index.rows_of_words(IdWords.of(known)).tolist() == expected
        assert [indexed.index.row(one) for one in known] == expected
    loaded = IdIndex(indexed.row_ids)
    loaded.load(np.array(list(model.values()), dtype=np.int64))
    assert loaded.rows(list(model)).tolist() == list(model.values())


@given(st.lists(IDS, unique=True, min_size=1))
def test_an_id_can_be_pointed_back_to_an_older_row(ids: list[PointId]) -> None:
    indexed = IndexedIds()
    before = indexed.append(ids)
    indexed.append(ids)
    indexed.index.point_to(ids, np.array(before))
    assert indexed.index.rows(ids).tolist() == before


@pytest.mark.parametrize("kind", ["numbers", "UUIDs"])
def test_many_ids_are_found_while_the_index_grows(kind: str) -> None:
    indexed = IndexedIds()
    numbers = np.random.default_rng(1).permutation(200_000).tolist()
    ids: list[PointId] = [UUID(int=n << 64) for n in numbers] if kind == "UUIDs" else numbers
    for begin in range(0, len(ids), 10_000):
        indexed.append(ids[begin : begin + 10_000])
    assert (indexed.index.rows(ids) == np.arange(len(ids))).all()
    assert indexed.index._used == len(ids)
    # Ids far apart and ids in a row are spread alike: no probe goes far.
    assert indexed.index.row(10**15) == NO_ROW


def test_readers_find_every_id_while_a_writer_adds_others() -> None:
    indexed = IndexedIds()
    known: list[PointId] = list(range(0, 3000, 3))
    rows = indexed.append(known)
    failures: list[str] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            if indexed.index.rows(known).tolist() != rows:
                failures.append("many at once")
            if [indexed.index.row(one) for one in known] != rows:
                failures.append("one by one")

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for begin in range(10**6, 10**6 + 100_000, 500):
        indexed.append(list(range(begin, begin + 500)))
    stop.set()
    for reader in readers:
        reader.join(60)
    assert failures == []


MEASURE = """
import sys
from uuid import UUID
import numpy as np
from headrace.engine.segment.segment import Segment
from headrace.engine.vector_index.builder import IndexBuilder
from headrace.model.collection_config import CollectionConfig

kind, count = sys.argv[1], int(sys.argv[2])

def resident_bytes():
    with open("/proc/self/smaps_rollup") as rollup:
        fields = dict(line.split(":") for line in rollup if line.startswith("Anonymous"))
    # What is mapped from files, as code is, comes and goes with other processes.
    return 1024 * int(fields["Anonymous"].split()[0])

class NoPayloads:
    # Payloads are counted by themselves: see the payload store.
    def append(self, payloads): pass
    def snapshot(self): return []

segment = Segment(CollectionConfig(), IndexBuilder())
segment._payloads = NoPayloads()

def append(begin, end):
    ids = [i * 0x9E3779B97F4A7C15 % 2**64 for i in range(begin, end)]
    if kind == "uuid":
        ids = [UUID(int=i << 64 | i ^ 0x5555) for i in ids]
    segment.begin(begin + 1)
    segment.append(ids, {}, [b"{}"] * len(ids))
    segment.end_batches()

append(0, 1000)
before = resident_bytes()
for begin in range(1000, count, 1000):
    append(begin, begin + 1000)
view = segment.working_view()
print((resident_bytes() - before) / count)
"""


def bytes_per_point(kind: str, count: int) -> float:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, kind, str(count)],
        capture_output=True,
        text=True,
        check=True,
        timeout=280,
    )
    return float(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads resident memory from /proc")
@pytest.mark.parametrize("kind", ["number", "uuid"])
def test_ids_and_versions_take_at_most_48_bytes_of_memory_a_point(kind: str) -> None:
    # Once in hundreds of runs a page of 2 MiB, 10 bytes a point, is given where little is asked.
    least = min(bytes_per_point(kind, 200_000) for _ in range(2))
    assert least <= BYTES_PER_POINT_MAX


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads resident memory from /proc")
@pytest.mark.parametrize("kind", ["number", "uuid"])
# Right behind a doubling of the arrays, or of the table, and right before.
@pytest.mark.parametrize("count", [630_000, 1_000_000, 1_060_000, 1_270_000])
def test_a_million_ids_and_versions_take_at_most_48_bytes_a_point(kind: str, count: int) -> None:
    assert bytes_per_point(kind, count) <= BYTES_PER_POINT_MAX
