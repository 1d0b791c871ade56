"""Several requests at once: the order of each point, and what counts as written."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.model.collection_config import CollectionConfig
from headrace.model.errors import TimedOut, Unavailable
from headrace.model.ids import PointId
from headrace.model.operations import SourceOffset, SourcePartition
from headrace.model.points import PointStruct
from headrace.sink.batch import KafkaRecord, decode_batch
from headrace.sink.config import ConnectorConfig
from headrace.sink.decode import RecordDecoder
from headrace.sink.errors import TaskFailed
from headrace.sink.json_value import JsonValue
from headrace.sink.lanes import Lanes
from headrace.sink.partition_locks import stripe_of
from headrace.sink.progress import TaskCounters
from headrace.sink.writer import BatchWriter
from tests.sink.memory_target import MemoryTarget
from tests.sink.records import PARTITION, kafka_records, tombstone_key, value

OTHER_PARTITION = SourcePartition("connect-test", "topic", 1)
PATIENCE_S = 20.0


class RemoteTarget(MemoryTarget):
    """A target elsewhere, which says how many requests it had at once.

    Attributes:
        during_write: called while a request is under way, beside others.
        sizes: how many points each request had.
        asked: the points whose stored versions were asked for.
    """

    def __init__(self, **dims: int) -> None:
        super().__init__(keeps_positions=False, **dims)
        self.during_write: Callable[[Sequence[PointStruct]], None] = lambda _points: None
        self.under_way = 0
        self.under_way_max = 0
        self.sizes: list[int] = []
        self.asked: list[PointId] = []
        self._counting = threading.Lock()

    def write(
        self,
        collection_name: str,
        points: Sequence[PointStruct],
        deleted_ids: Sequence[PointId],
        source_offsets: Sequence[SourceOffset],
    ) -> None:
        with self._counting:
            self.under_way += 1
            self.under_way_max = max(self.under_way, self.under_way_max)
            self.sizes.append(len(points) + len(deleted_ids))
        try:
            self.during_write(points)
            super().write(collection_name, points, deleted_ids, source_offsets)
        finally:
            with self._counting:
                self.under_way -= 1

    def stored_values(
        self, collection_name: str, ids: Sequence[PointId], payload_key: str | None
    ) -> dict[PointId, JsonValue]:
        self.asked += ids
        return super().stored_values(collection_name, ids, payload_key)


class Rig:
    """Lanes into a remote target with a collection `c` of two-wide vectors."""

    def __init__(self, count: int, **settings: str) -> None:
        raw = {"name": "test", "topics": "topic", "bootstrap.servers": "unused"}
        raw |= {"qdrant.rest.url": "http://unused", "errors.tolerance": "all"}
        raw |= {"retry.backoff.ms": "1", "retry.backoff.max.ms": "2"}
        raw |= {name.replace("__", "."): text for name, text in settings.items()}
        self.config = ConnectorConfig.from_mapping(raw)
        self.target = RemoteTarget(c=2)
        self.counters = TaskCounters()
        self.durable: list[dict[SourcePartition, int]] = []
        self.is_stopping = False
        writer = BatchWriter(
            self.config,
            self.target,
            None,
            self.counters,
            lambda _partition: None,
            lambda: self.is_stopping,
            lambda name: self.lanes.first_entries(name),
        )
        self.lanes = Lanes(
            "test", count, writer.write, self.config.retry, self.counters, lambda: self.is_stopping
        )

    def submit(self, records: Sequence[KafkaRecord]) -> None:
        self.lanes.submit(decode_batch(records, RecordDecoder.of(self.config)))

    def write(self, records: Sequence[KafkaRecord]) -> None:
        """Submit, as a task does, once there is room."""
        assert self.lanes.wait_for_room(PATIENCE_S)
        self.lanes.check()
        self.submit(records)
        self.durable += self.lanes.take_written()

    def finish(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not self.lanes.flush(60.0):
            self.lanes.check()
            assert time.monotonic() < deadline
        self.durable += self.lanes.take_written()


@contextmanager
def lanes(count: int, **settings: str) -> Iterator[Rig]:
    rig = Rig(count, **settings)
    yield rig
    rig.lanes.close()


def test_requests_travel_side_by_side_and_a_batch_counts_when_all_are_taken() -> None:
    all_there = threading.Barrier(4)

    def wait_for_all(_points: object) -> None:
        all_there.wait(PATIENCE_S)

    with lanes(4) as rig:
        rig.target.during_write = wait_for_all
        rig.write(kafka_records(*(value(n) for n in range(400))))
        rig.finish()
        assert rig.target.under_way_max == 4
        assert rig.durable == [{PARTITION: 400}]
    assert len(rig.target.collections["c"]) == 400


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 3), st.booleans()), max_size=120),
    st.integers(1, 5),
    st.integers(0, 2**32),
)
def test_the_last_record_of_each_point_wins_however_requests_overtake_each_other(
    stream: list[tuple[int, int, bool]], count: int, seed: int
) -> None:
    chance = random.Random(seed)
    expected: dict[int, int] = {}
    pairs: list[tuple[bytes | None, bytes | None]] = []
    for number, (point_id, kind, _) in enumerate(stream):
        if kind == 0:
            expected.pop(point_id, None)
            pairs.append((tombstone_key(point_id), None))
        elif kind == 1:
            # Two points at once, which one lane alone may settle.
            ids = [point_id, point_id + 1]
            pairs.append((None, operation("delete", ids)))
            for one in ids:
                expected.pop(one, None)
        else:
            expected[point_id] = number
            pairs.append((None, value(point_id, n=number)))
    guard = threading.Lock()

    def dawdle(_points: object) -> None:
        with guard:
            wait_s, fails = chance.random() / 500, chance.random() < 0.2
        time.sleep(wait_s)
        if fails:
            raise Unavailable("flaky")

    with lanes(count, batch__size="5") as rig:
        rig.target.during_write = dawdle
        first = 0
        while first < len(pairs):
            size = 1 + chance.randrange(12)
            rig.write(kafka_records(*pairs[first : first + size], first_offset=first))
            first += size
        rig.finish()
        stored = {key: json.loads(text)["n"] for key, text in rig.target.collections["c"].items()}
    assert stored == expected
    ends = [one[PARTITION] for one in rig.durable]
    assert ends == sorted(ends)
    assert ends[-1:] == [len(pairs)][: len(ends[-1:])]


def operation(name: str, ids: list[int]) -> bytes:
    return json.dumps({"op": name, "collection_name": "c", "ids": ids}).encode()


def test_a_later_batch_does_not_count_before_an_earlier_one() -> None:
    first_taken, may_go_on = threading.Event(), threading.Event()

    def hold_zero(points: Sequence[PointStruct]) -> None:
        if any(b'"slow"' in point.payload for point in points):
            first_taken.set()
            may_go_on.wait(PATIENCE_S)

    with lanes(4) as rig:
        rig.target.during_write = hold_zero
        rig.submit(kafka_records(value(1, slow=1)))
        assert first_taken.wait(PATIENCE_S)
        others = [value(n) for n in range(2, 50)]
        rig.submit(kafka_records(*others, first_offset=1))
        wait_until(lambda: len(rig.target.collections["c"]) > 0)
        assert rig.lanes.take_written() == []
        assert rig.lanes.is_full
        may_go_on.set()
        rig.finish()
        assert rig.durable == [{PARTITION: 1}, {PARTITION: 49}]


def test_what_is_written_behind_a_stuck_request_takes_no_memory_however_much_it_is() -> None:
    lane_of = {number: stripe_of("c", number) % 4 for number in range(200)}
    stuck_id = next(number for number, lane in lane_of.items() if lane != 0)
    others = [number for number, lane in lane_of.items() if lane != lane_of[stuck_id]]
    may_go_on = threading.Event()

    def hold_one(points: Sequence[PointStruct]) -> None:
        if any(point.id == stuck_id for point in points):
            may_go_on.wait(PATIENCE_S)

    with lanes(4) as rig:
        rig.target.during_write = hold_one
        rig.write(kafka_records(value(stuck_id)))
        end = 1
        for _ in range(30):
            rig.write(kafka_records(*(value(n) for n in others), first_offset=end))
            end += len(others)
        wait_until(lambda: not rig.lanes.is_full)
        assert rig.durable == [] == rig.lanes.take_written()
        held = [batch for batch, _ in rig.lanes._in_hand]
        assert [sum(map(len, batch.entries.values())) for batch in held] == [1, 0]
        rig.lanes.drop({OTHER_PARTITION})
        may_go_on.set()
        rig.finish()
        assert rig.durable == [{PARTITION: 1}, {PARTITION: end}]
    assert set(rig.target.collections["c"]) == {stuck_id, *others}


def test_a_written_piece_keeps_none_of_those_that_it_waited_for() -> None:
    may_go_on = threading.Semaphore(0)

    def wait_to_go_on(_points: object) -> None:
        may_go_on.acquire(timeout=PATIENCE_S)

    with lanes(4) as rig:
        rig.target.during_write = wait_to_go_on
        for number in range(8):
            # Each is a barrier for the next.
            rig.write(kafka_records(operation("delete", [1, 2]), first_offset=number))
            if number:
                may_go_on.release()
        chain, depth = rig.lanes._lanes[0].pieces[-1].after, 0
        while chain:
            chain, depth = chain[0].after, depth + 1
        assert depth <= 2
        may_go_on.release()
        rig.finish()


def test_lost_partitions_are_forgotten_in_every_lane_and_the_rest_lands() -> None:
    is_down = True

    def refuse(_points: object) -> None:
        if is_down:
            raise Unavailable("down")

    with lanes(3) as rig:
        rig.target.during_write = refuse
        lost = kafka_records(*(value(n) for n in range(20)))
        kept = kafka_records(*(value(n) for n in range(20, 40)), partition=OTHER_PARTITION)
        rig.submit([*lost, *kept])
        wait_until(lambda: rig.counters.retries > 3)
        rig.lanes.drop({PARTITION})
        is_down = False
        rig.finish()
        assert rig.durable == [{OTHER_PARTITION: 20}]
    assert set(rig.target.collections["c"]) == set(range(20, 40))


def test_a_bad_record_fails_the_task_and_the_rest_of_its_batch_lands() -> None:
    with lanes(3, errors__tolerance="none") as rig:
        rig.write(kafka_records(*(value(n) for n in range(30)), value(99, dim=5)))
        wait_until(lambda: rig.lanes.flush(60.0) is not None and has_failed(rig))
        with pytest.raises(TaskFailed, match="Bad record"):
            rig.lanes.check()
        rig.lanes.close()
        assert rig.lanes.take_written() == []
    assert set(rig.target.collections["c"]) == set(range(30))


def test_a_record_of_many_points_is_refused_once() -> None:
    with lanes(4) as rig:
        patch = {"op": "set_payload", "collection_name": "c", "payload": {"a": 1}}
        record = json.dumps(patch | {"ids": list(range(100, 140))}).encode()
        rig.write(kafka_records(*(value(n) for n in range(40)), record))
        rig.finish()
    assert rig.counters.bad_records == {"no_such_point": 1}
    assert len(rig.target.collections["c"]) == 40


def test_lanes_end_while_the_target_is_down_and_nothing_of_it_counts() -> None:
    def refuse(_points: object) -> None:
        raise Unavailable("down")

    with lanes(3, retry__backoff__ms="100000", retry__backoff__max__ms="100000") as rig:
        rig.target.during_write = refuse
        rig.submit(kafka_records(*(value(n) for n in range(30))))
        wait_until(lambda: rig.counters.retries == 3)
        rig.lanes.close()
        assert rig.lanes.take_written() == []


def test_a_collection_is_made_from_its_oldest_record_whichever_lane_comes_first() -> None:
    with lanes(8, collection__auto__create="true") as rig:
        narrow = value(0, dim=3, collection_name="new")
        wide = [value(n, dim=4, collection_name="new") for n in range(1, 60)]
        rig.write(kafka_records(narrow, *wide))
        rig.finish()
    config: CollectionConfig = rig.target.configs["new"]
    assert config.vectors[""].size == 3
    assert rig.counters.bad_records == {"wrong_vector_dimension": 59}


def too_slow_for_many(points: Sequence[PointStruct]) -> None:
    if len(points) > 30:
        raise TimedOut("slow")


def test_requests_shrink_while_the_target_times_out_and_grow_again() -> None:
    with lanes(1, batch__size="200") as rig:
        rig.target.during_write = too_slow_for_many
        rig.write(kafka_records(*(value(n) for n in range(200))))
        rig.finish()
        assert rig.target.sizes[:4] == [200, 100, 50, 25]
        assert rig.durable == [{PARTITION: 200}]
        assert len(rig.target.collections["c"]) == 200
        rig.target.during_write = lambda _points: None
        rig.target.sizes.clear()
        for batch in range(1, 20):
            rig.write(kafka_records(*(value(n) for n in range(200)), first_offset=200 * batch))
        rig.finish()
        assert rig.target.sizes[-1] == 200
        assert rig.counters.request_points_max == 200


def test_small_requests_ask_once_for_the_version_of_each_point() -> None:
    with lanes(1, batch__size="200", version__field="v") as rig:
        rig.target.during_write = too_slow_for_many
        rig.write(kafka_records(*(value(n, v=1) for n in range(200))))
        rig.finish()
        rig.target.during_write = lambda _points: None
        rig.target.sizes.clear()
        rig.target.asked.clear()
        rig.write(kafka_records(*(value(n, v=n % 2) for n in range(200)), first_offset=200))
        rig.finish()
        # Half of them are stale; the requests are still small.
        assert sum(rig.target.sizes) == 100
        assert len(rig.target.sizes) > 1
        assert sorted(rig.target.asked) == list(range(200))
        assert rig.counters.records_stale == 100
        assert rig.durable == [{PARTITION: 200}, {PARTITION: 400}]


def test_an_oversize_record_travels_alone() -> None:
    with lanes(1, batch__bytes="2000") as rig:
        large = value(50, pad="x" * 5_000)
        rig.write(kafka_records(*(value(n) for n in range(10)), large, value(60)))
        rig.finish()
    assert 1 in rig.target.sizes
    assert sum(rig.target.sizes) == 12


def has_failed(rig: Rig) -> bool:
    try:
        rig.lanes.check()
    except TaskFailed:
        return True
    return False


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.005)
