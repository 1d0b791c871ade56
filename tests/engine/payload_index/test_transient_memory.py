"""Columns that no payload index demands share one bound of memory."""

from __future__ import annotations

from pathlib import Path

import orjson

from headrace.engine.engine import Engine
from headrace.engine.payload_index.part_key import PartKey, PartKind
from headrace.engine.payload_index.transient_memory import TransientColumn, TransientMemory
from headrace.model.collection_config import CollectionConfig
from headrace.model.filters import FieldCondition, Filter, MatchValue
from headrace.model.operations import WriteBatch
from headrace.model.points import PointStruct
from headrace.model.upserts import build_upsert


class Owner:
    """Has columns of so many bytes, by the time at which they were used."""

    def __init__(self, memory: TransientMemory, sizes: dict[float, int]) -> None:
        self.sizes = sizes
        memory.add(self)

    def transient_columns(self) -> list[TransientColumn]:
        return [TransientColumn(key_of(at), at, size) for at, size in self.sizes.items()]

    def forget(self, keys: set[PartKey]) -> None:
        self.sizes = {at: size for at, size in self.sizes.items() if key_of(at) not in keys}


def key_of(used_at: float) -> PartKey:
    return PartKey((), f"field_{used_at}", PartKind.STRINGS)


def test_those_unused_longest_make_room_whichever_collection_they_are_of() -> None:
    memory = TransientMemory(100)
    a, b = Owner(memory, {1.0: 40, 4.0: 40}), Owner(memory, {2.0: 40, 3.0: 40})
    assert memory.nbytes == 160
    memory.keep_within_bound(a, {key_of(4.0)})
    assert (a.sizes, b.sizes) == ({4.0: 40}, {3.0: 40})
    assert memory.nbytes == 80


def test_nothing_is_given_up_within_the_bound() -> None:
    memory = TransientMemory(160)
    a, b = Owner(memory, {1.0: 40, 4.0: 40}), Owner(memory, {2.0: 80})
    memory.keep_within_bound(b, set())
    assert memory.nbytes == 160
    assert len(a.sizes) == 2


def test_what_the_filter_in_hand_needs_stays_and_all_else_goes() -> None:
    memory = TransientMemory(100)
    a, b = Owner(memory, {1.0: 500, 2.0: 1}), Owner(memory, {3.0: 1})
    memory.keep_within_bound(a, {key_of(1.0)})
    assert (a.sizes, b.sizes) == ({1.0: 500}, {})


def test_an_owner_that_is_gone_counts_no_more() -> None:
    memory = TransientMemory(100)
    owner = Owner(memory, {1.0: 40})
    assert memory.nbytes == 40
    del owner
    assert memory.nbytes == 0


def test_the_collections_of_an_engine_share_its_bound(tmp_path: Path) -> None:
    config = CollectionConfig(vectors={})
    engine = Engine.open(tmp_path, transient_bytes_max=300_000)
    points = [
        PointStruct(n, {}, orjson.dumps({f"f{i}": f"{n % 50}" for i in range(5)}))
        for n in range(1000)
    ]
    for name in ("a", "b"):
        engine.create_collection(name, config)
        engine.collection(name).write(WriteBatch([build_upsert(points, config)]))
    taken: list[int] = []
    for field in range(5):
        for name in ("a", "b"):
            filter = Filter(must=(FieldCondition(f"f{field}", match=MatchValue("7")),))
            assert engine.collection(name).count(filter) == 20
            taken.append(engine._transient_memory.nbytes)
    engine.close()
    assert max(taken) <= 300_000
    assert taken[-1] > taken[0], "columns of both are kept as long as there is room"
