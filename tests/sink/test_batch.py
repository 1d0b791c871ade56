from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.model.errors import NoSpace, Unavailable, WrongInput
from headrace.model.operations import SourcePartition
from headrace.model.points import PointStruct
from headrace.sink.batch import Batch, KafkaRecord, Refusal, decode_batch, fold
from headrace.sink.config import ConnectorConfig
from headrace.sink.converters import JsonConverter
from headrace.sink.decode import RecordDecoder
from headrace.sink.errors import Stage, TaskFailed
from headrace.sink.progress import TaskCounters
from headrace.sink.writer import BatchWriter
from tests.sink.memory_target import MemoryTarget, Points
from tests.sink.records import PARTITION, kafka_records, tombstone_key, value

OTHER_PARTITION = SourcePartition("connect-test", "topic", 1)


class Letters:
    """Dead letters in a list; `events` is shared with the target, to see the order."""

    def __init__(self, events: list[str]) -> None:
        self.letters: list[Refusal] = []
        self.is_writable = True
        self._events = events

    def write(self, refusals: Sequence[Refusal], is_interrupted: object) -> None:
        if not self.is_writable:
            raise TaskFailed("not writable")
        self._events.append(f"dead letters {len(refusals)}")
        self.letters += refusals

    @property
    def offsets(self) -> list[int]:
        return [one.kafka_record.kafka_offset for one in self.letters]


class Rig:
    """A writer into a memory target with a collection `c` of two-wide vectors."""

    def __init__(self, dead_letters: bool = True, **settings: str) -> None:
        raw = {"name": "test", "topics": "topic", "bootstrap.servers": "unused"}
        raw |= {"errors.tolerance": "all"} | {
            name.replace("__", "."): text for name, text in settings.items()
        }
        self.target = MemoryTarget(c=2)
        self.counters = TaskCounters()
        self.dead = Letters(self.target.events)
        self.log_ends: dict[SourcePartition, int] = {}
        self.config = ConnectorConfig.from_mapping(raw)
        self.writer = BatchWriter(
            self.config,
            self.target,
            self.dead if dead_letters else None,
            self.counters,
            self.log_ends.get,
            lambda: False,
        )

    def write(self, records: Sequence[KafkaRecord]) -> Batch:
        batch = decode_batch(records, RecordDecoder.of(self.config))
        self.writer.write(batch)
        return batch

    @property
    def points(self) -> Points:
        return self.target.collections["c"]


def decoded(records: Sequence[KafkaRecord]) -> Batch:
    converter = JsonConverter(Stage.VALUE_CONVERTER, schemas_enable=False)
    return decode_batch(records, RecordDecoder(converter))


class TestFolding:
    def test_the_last_record_of_a_point_wins(self) -> None:
        rig = Rig()
        rig.write(kafka_records(*(value(1, n=n) for n in range(1_000))))
        assert rig.points == {1: b'{"n":999}'}
        assert rig.target.events == ["write c +1 -0"]

    def test_upserts_and_deletes_share_one_write(self) -> None:
        rig = Rig()
        rig.target.collections["c"] = dict.fromkeys(range(1000), b"{}")
        records = kafka_records(
            *(value(n, n=1) if n % 2 else (tombstone_key(n), None) for n in range(1_000))
        )
        rig.write(records)
        assert rig.target.events == ["write c +500 -500"]
        assert sorted(map(str, rig.points)) == sorted(str(n) for n in range(1, 1_000, 2))

    def test_a_delete_after_an_upsert_deletes_and_the_reverse_puts(self) -> None:
        rig = Rig()
        rig.write(kafka_records(value(1), (tombstone_key(1), None), (tombstone_key(2), None)))
        assert rig.points == {}
        rig.write(kafka_records((tombstone_key(1), None), value(1, n=2), first_offset=3))
        assert rig.points == {1: b'{"n":2}'}

    def test_a_fold_has_each_id_once(self) -> None:
        entries = decoded(kafka_records(value(1), value(2), (tombstone_key(1), None))).entries["c"]
        folded = fold(entries)
        assert [one.change.point_id for one in folded.upserts] == [2]
        assert folded.deleted_ids == [1]
        assert [one.kafka_record.kafka_offset for one in folded.superseded] == [0]

    def test_collections_are_written_apart(self) -> None:
        rig = Rig()
        rig.target.create_collection("d", rig.target.configs["c"])
        rig.write(kafka_records(value(1), value(1, collection_name="d"), value(2)))
        assert rig.target.events == ["write c +2 -0", "write d +1 -0"]


class TestBadRecords:
    def test_exactly_the_bad_ones_are_dead_letters_and_the_rest_lands(self) -> None:
        rig = Rig()
        records = kafka_records(
            value(1), b"{", value(2, dim=3), value(-1), value(3), (None, None), value(4)
        )
        rig.write(records)
        assert rig.dead.offsets == [1, 3, 5, 2]
        assert set(rig.points) == {1, 3, 4}
        assert rig.counters.dead_letters == 4
        assert rig.counters.bad_records == {
            "invalid_json": 1,
            "invalid_id": 2,
            "wrong_vector_dimension": 1,
        }

    def test_the_older_good_record_of_a_refused_one_lands(self) -> None:
        rig = Rig()
        rig.write(kafka_records(value(1, n=1), value(1, n=2), value(1, dim=5), value(1, dim=6)))
        assert rig.points == {1: b'{"n":2}'}
        assert sorted(rig.dead.offsets) == [2, 3]

    def test_the_older_delete_of_a_refused_record_counts(self) -> None:
        rig = Rig()
        rig.target.collections["c"] = {1: b"{}"}
        rig.write(kafka_records((tombstone_key(1), None), value(1, dim=5)))
        assert rig.points == {}

    def test_a_bad_record_that_was_overtaken_is_a_dead_letter_too(self) -> None:
        rig = Rig()
        rig.write(
            kafka_records(value(1, dim=5), value(1, n=2), value(2, dim=7), (tombstone_key(2), None))
        )
        assert rig.points == {1: b'{"n":2}'}
        assert sorted(rig.dead.offsets) == [0, 2]

    def test_an_unknown_vector_name_is_refused_although_it_names_no_point(self) -> None:
        rig = Rig()
        bad = b'{"collection_name":"c","id":2,"vector":{"nope":[1]}}'
        rig.write(kafka_records(value(1), bad, value(3)))
        assert set(rig.points) == {1, 3}
        assert rig.counters.bad_records == {"unknown_vector_name": 1}

    def test_a_batch_of_bad_records_alone_writes_nothing(self) -> None:
        rig = Rig()
        rig.write(kafka_records(*(value(n, dim=3) for n in range(300))))
        assert len(rig.dead.letters) == 300
        assert rig.target.events == ["dead letters 300"]

    def test_what_only_the_target_knows_to_refuse_is_found_by_halves(self) -> None:
        rig = Rig()

        def refuse_13_and_77(points: Sequence[PointStruct]) -> None:
            if {13, 77} & {point.id for point in points}:
                raise WrongInput("unlucky number")

        rig.target.before_write = refuse_13_and_77
        rig.write(
            kafka_records(value(13, n=0), *(value(n, n=1) for n in range(100)), value(14, n=2))
        )
        assert set(rig.points) == set(range(100)) - {13, 77}
        assert rig.points[14] == b'{"n":2}'
        assert sorted(rig.dead.offsets) == [0, 14, 78]
        assert rig.counters.bad_records == {"refused_by_target": 3}
        assert rig.target.offsets["c"] == {PARTITION: 102}

    def test_dead_letters_are_safe_before_a_write_passes_over_them(self) -> None:
        rig = Rig()
        rig.write(kafka_records(value(1), b"{", value(2, dim=3)))
        assert rig.target.events == ["dead letters 1", "dead letters 1", "write c +1 -0"]

    def test_if_dead_letters_cannot_be_written_nothing_passes_over_them(self) -> None:
        for bad in (b"{", value(2, dim=3)):
            rig = Rig()
            rig.dead.is_writable = False
            with pytest.raises(TaskFailed):
                rig.write(kafka_records(value(1), bad))
            assert rig.target.offsets["c"] == {}

    def test_without_dead_letters_bad_records_are_skipped_and_counted(self) -> None:
        rig = Rig(dead_letters=False)
        rig.write(kafka_records(value(1), b"{", value(2, dim=3)))
        assert (rig.counters.records_skipped, rig.counters.dead_letters) == (2, 0)
        assert rig.counters.bad_records.total() == 2
        assert set(rig.points) == {1}

    @pytest.mark.parametrize("bad", [b"{", value(2, dim=3)])
    @pytest.mark.parametrize("dead_letters", [True, False])
    def test_without_tolerance_the_task_fails_once_the_rest_has_landed(
        self, bad: bytes, dead_letters: bool
    ) -> None:
        rig = Rig(dead_letters, errors__tolerance="none")
        with pytest.raises(
            TaskFailed, match=r"topic='topic', partition=0, offset=1.*tolerance=all"
        ):
            rig.write(kafka_records(value(1), bad, value(3)))
        assert set(rig.points) == {1, 3}
        assert rig.target.offsets["c"] == {}
        assert rig.dead.offsets == ([1] if dead_letters else [])


class TestDelivery:
    def test_offsets_are_in_the_same_write_for_every_partition_of_the_batch(self) -> None:
        rig = Rig()
        rig.write([*kafka_records(value(1)), *kafka_records(b"{", partition=OTHER_PARTITION)])
        assert rig.target.offsets["c"] == {PARTITION: 1, OTHER_PARTITION: 1}

    def test_records_that_a_collection_has_are_not_written_again(self) -> None:
        rig = Rig()
        rig.write(kafka_records(value(1, n=1), value(2, n=1)))
        rig.target.collections["c"][1] = b'{"n":"newer"}'
        rig.write(kafka_records(value(1, n=1), value(2, n=1), value(3, n=1)))
        assert rig.points == {1: b'{"n":"newer"}', 2: b'{"n":1}', 3: b'{"n":1}'}
        assert rig.counters.records_repeated == 2
        assert rig.target.events[1:] == ["write c +1 -0"]

    def test_taken_offsets_beyond_the_end_of_the_log_fail_the_task(self) -> None:
        rig = Rig()
        rig.target.offsets["c"] = {PARTITION: 1_000}
        rig.log_ends[PARTITION] = 10
        with pytest.raises(TaskFailed, match=r"ends at offset 10.*1000 were taken.*another name"):
            rig.write(kafka_records(value(1)))
        assert rig.points == {}

    def test_a_second_try_goes_on_where_the_first_ended(self) -> None:
        rig = Rig()
        rig.target.create_collection("d", rig.target.configs["c"])
        batch = decoded(
            kafka_records(value(1), b"{", value(2, dim=3), value(1, collection_name="d"))
        )
        for failure in (Unavailable("down"), NoSpace("full")):
            rig.target.failures = [failure]
            with pytest.raises(type(failure)):
                rig.writer.write(batch)
        rig.writer.write(batch)
        assert sorted(rig.dead.offsets) == [1, 2]
        assert set(rig.points) == {1}
        assert set(rig.target.collections["d"]) == {1}
        assert batch.entries == {}

    def test_records_of_dropped_partitions_are_not_written(self) -> None:
        rig = Rig()
        batch = decoded(
            [*kafka_records(value(1), b"{"), *kafka_records(value(2), partition=OTHER_PARTITION)]
        )
        batch.drop({PARTITION})
        rig.writer.write(batch)
        assert set(rig.points) == {2}
        assert rig.dead.letters == []
        assert rig.target.offsets["c"] == {OTHER_PARTITION: 1}


class TestCollections:
    def test_a_missing_collection_fails_the_task_with_advice(self) -> None:
        rig = Rig()
        with pytest.raises(TaskFailed, match=r"`x` doesn't exist!.*collection\.auto\.create=true"):
            rig.write(kafka_records(value(1, collection_name="x")))

    def test_a_missing_collection_is_made_from_its_first_point(self) -> None:
        rig = Rig(collection__auto__create="true", collection__auto__create__distance="Euclid")
        bare = b'{"collection_name":"x","id":1}'
        rich = (
            b'{"collection_name":"x","id":2,"vector":{"d":[1,2,3],"m":[[1,2]],'
            b'"s":{"indices":[1],"values":[1]}}}'
        )
        rig.write(kafka_records((tombstone_key(9, "x"), None), bare, rich, value(3, 4, "x")))
        config = rig.target.configs["x"]
        assert {
            name: (one.size, one.distance, one.is_multi) for name, one in config.vectors.items()
        } == {
            "d": (3, "Euclid", False),
            "m": (2, "Euclid", True),
        }
        assert set(config.sparse_vectors) == {"s"}
        assert set(rig.target.collections["x"]) == {1, 2}
        assert rig.counters.bad_records == {"unknown_vector_name": 1}

    def test_a_delete_alone_makes_no_collection(self) -> None:
        rig = Rig(collection__auto__create="true")
        rig.write(kafka_records((tombstone_key(1, "x"), None)))
        assert "x" not in rig.target.collections


ACTIONS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(["put", "put", "delete", "bad json", "bad dim", "bad id", "bad tombstone"]),
    ),
    max_size=40,
)


def as_pair(n: int, point_id: int, action: str) -> tuple[bytes | None, bytes | None]:
    match action:
        case "put":
            return None, value(point_id, n=n)
        case "delete":
            return tombstone_key(point_id), None
        case "bad json":
            return None, b"{"
        case "bad dim":
            return None, value(point_id, dim=3)
        case "bad id":
            return None, value(-1)
        case _:
            return None, None


@settings(deadline=None, max_examples=150)
@given(ACTIONS, st.data())
def test_any_split_into_batches_equals_one_record_after_the_other(
    actions: list[tuple[int, str]], data: st.DataObject
) -> None:
    expected: Points = {}
    expected_letters = []
    for n, (point_id, action) in enumerate(actions):
        if action == "put":
            expected[point_id] = b'{"n":%d}' % n
        elif action == "delete":
            expected.pop(point_id, None)
        else:
            expected_letters.append(n)
    records = kafka_records(*(as_pair(n, *one) for n, one in enumerate(actions)))
    rig = Rig()
    while records:
        size = data.draw(st.integers(1, len(records)))
        # A batch may fail and be tried again, and one that was written may be read again.
        if data.draw(st.booleans()):
            rig.target.failures = [Unavailable("down")]
            batch = decoded(records[:size])
            try:
                rig.writer.write(batch)
            except Unavailable:
                rig.writer.write(batch)
            rig.target.failures = []
        else:
            rig.write(records[:size])
        records = records[size:]
    assert rig.points == expected
    assert sorted(rig.dead.offsets) == expected_letters


def operation(name: str, point_id: object = 1, **fields: object) -> bytes:
    return json.dumps({"op": name, "collection_name": "c", "id": point_id, **fields}).encode()


class TestOperations:
    def test_changes_of_one_point_are_made_in_their_order(self) -> None:
        rig = Rig()
        rig.write(
            kafka_records(
                value(1, a=1, b=1),
                operation("set_payload", payload={"a": 2, "c": 3}),
                operation("delete_payload", keys=["a"]),
                operation("set_payload", payload={"a": 4}),
                operation("update_vectors", vector=[1, 2]),
            )
        )
        assert rig.points == {1: b'{"b":1,"c":3,"a":4}'}
        assert rig.target.offsets["c"] == {PARTITION: 5}

    def test_what_came_before_a_whole_point_or_a_delete_does_not_count(self) -> None:
        rig = Rig()
        rig.write(kafka_records(operation("set_payload", payload={"a": 1}), value(1, b=2)))
        assert rig.points == {1: b'{"b":2}'}
        rig.write(
            kafka_records(
                operation("clear_payload"), (tombstone_key(1), None), value(2), first_offset=2
            )
        )
        assert rig.points == {2: b"{}"}
        assert rig.dead.letters == []

    def test_many_points_share_operations(self) -> None:
        rig = Rig()
        rig.target.collections["c"] = dict.fromkeys(range(100), b"{}")
        changed = [operation("set_payload", n, payload={"a": 1}) for n in range(100)]
        vectors = [operation("update_vectors", n, vector=[1, 2]) for n in range(100)]
        rig.write(kafka_records(*changed, *vectors))
        assert rig.target.events == ["apply c 2 operations"]
        assert rig.counters.points_written == 100

    @pytest.mark.parametrize("before", [[], [(tombstone_key(1), None)]])
    def test_an_operation_on_a_point_that_is_not_there_is_refused(
        self, before: list[tuple[bytes | None, bytes | None]]
    ) -> None:
        rig = Rig()
        rig.write(kafka_records(*before, operation("set_payload", payload={"a": 1}), value(2)))
        assert set(rig.points) == {2}
        assert rig.dead.offsets == [len(before)]
        assert rig.counters.bad_records == {"no_such_point": 1}

    def test_a_record_of_many_points_is_refused_once_and_whole(self) -> None:
        rig = Rig()
        rig.target.collections["c"] = {1: b"{}", 3: b"{}"}
        many = b'{"op":"set_payload","collection_name":"c","ids":[1,2,3,4],"payload":{"a":1}}'
        rig.write(kafka_records(many, operation("set_payload", 3, payload={"b": 1})))
        assert rig.points == {1: b"{}", 3: b'{"b":1}'}
        assert rig.dead.offsets == [0]

    def test_a_bad_vector_in_an_operation_costs_no_other_record(self) -> None:
        rig = Rig()
        rig.write(
            kafka_records(
                value(1, n=1),
                operation("update_vectors", vector=[1, 2, 3]),
                operation("set_payload", payload={"m": 2}),
                value(2),
            )
        )
        assert rig.points == {1: b'{"n":1,"m":2}', 2: b"{}"}
        assert rig.counters.bad_records == {"wrong_vector_dimension": 1}

    def test_operations_alone_make_no_collection(self) -> None:
        rig = Rig(collection__auto__create="true")
        rig.write(kafka_records(b'{"op":"clear_payload","collection_name":"x","id":1}'))
        assert "x" not in rig.target.collections
        assert rig.counters.bad_records == {"no_such_point": 1}

    def test_a_merge_keeps_what_it_does_not_name(self) -> None:
        rig = Rig(write__method="merge")
        rig.write(kafka_records(value(1, a=1, b=1, gone=None)))
        assert rig.points == {1: b'{"a":1,"b":1}'}
        rig.write(kafka_records(value(1, b=2), value(1, c=None, a=None), first_offset=1))
        assert rig.points == {1: b'{"b":2}'}
        merged = kafka_records((tombstone_key(1), None), value(1, d=4), first_offset=3)
        rig.write(merged)
        assert rig.points == {1: b'{"d":4}'}


class TestVersions:
    def test_a_stale_record_is_counted_and_skipped(self) -> None:
        rig = Rig(version__field="v")
        rig.write(kafka_records(value(1, v=5), value(1, v=3), value(1, v=5, same=1), value(2, v=1)))
        assert rig.points == {1: b'{"v":5,"same":1}', 2: b'{"v":1}'}
        rig.write(kafka_records(value(1, v=4), value(2, v=1.5), first_offset=4))
        assert rig.points == {1: b'{"v":5,"same":1}', 2: b'{"v":1.5}'}
        assert rig.counters.records_stale == 2
        assert rig.dead.letters == []

    def test_a_bad_record_makes_no_older_one_stale(self) -> None:
        rig = Rig(version__field="v")
        rig.write(kafka_records(value(1, dim=3, v=5), value(1, v=3), value(1, v=2)))
        assert rig.points == {1: b'{"v":3}'}
        assert rig.dead.offsets == [0]
        assert rig.counters.records_stale == 1

    def test_a_record_without_a_version_or_with_another_kind_is_refused(self) -> None:
        rig = Rig(version__field="v")
        rig.write(kafka_records(value(1, v="2026-01-01"), value(2), value(1, v=7), value(3, v=[])))
        assert set(rig.points) == {1}
        assert sorted(rig.dead.offsets) == [1, 2, 3]
        assert rig.counters.bad_records == {"invalid_version": 3}

    def test_the_source_offset_is_a_version(self) -> None:
        rig = Rig(version__field="v", version__from="offset")
        rig.write(kafka_records(value(1, n=1), (tombstone_key(2), None), first_offset=10))
        rig.target.offsets["c"] = {}
        rig.write(kafka_records(value(1, n=2), first_offset=4))
        assert rig.points == {1: b'{"n":1,"v":10}'}
        assert rig.counters.records_stale == 1

    def test_a_stale_delete_deletes_nothing(self) -> None:
        rig = Rig(version__field="v", version__from="offset")
        rig.write(kafka_records(value(1), first_offset=10))
        rig.target.offsets["c"] = {}
        rig.write(kafka_records((tombstone_key(1), None), first_offset=4))
        assert set(rig.points) == {1}

    def test_a_header_is_a_version(self) -> None:
        rig = Rig(version__field="v", version__from="header.seq")
        (first, second) = (
            msgspec.structs.replace(one, headers=[("seq", seq)])
            for one, seq in zip(
                kafka_records(value(1, n=1), value(1, n=2)), [b"10", b"9"], strict=True
            )
        )
        rig.write([first, second])
        assert rig.points == {1: b'{"n":1,"v":10}'}


OPERATIONS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(
            ["put", "delete", "set", "unset", "overwrite", "clear", "vectors", "bad dim"]
        ),
    ),
    max_size=30,
)


def as_operation(n: int, point_id: int, action: str) -> bytes:
    match action:
        case "put":
            fields = {"collection_name": "c", "id": point_id, "vector": [1, 1]}
            return json.dumps(fields | {"payload": {f"k{n % 3}": n}}).encode()
        case "set":
            return operation("set_payload", point_id, payload={f"k{n % 3}": n})
        case "unset":
            return operation("delete_payload", point_id, keys=[f"k{n % 3}"])
        case "overwrite":
            return operation("overwrite_payload", point_id, payload={f"k{n % 3}": n})
        case "clear":
            return operation("clear_payload", point_id)
        case "vectors":
            return operation("update_vectors", point_id, vector=[1, 2])
        case "bad dim":
            return operation("update_vectors", point_id, vector=[1])
        case _:
            return operation("delete", point_id)


def after_operation(points: dict[int, dict[str, int]], n: int, point_id: int, action: str) -> bool:
    """Make one change; False if it is one to be refused."""
    payload = points.get(point_id)
    match action:
        case "put":
            points[point_id] = {f"k{n % 3}": n}
            return True
        case "delete":
            points.pop(point_id, None)
            return True
    if payload is None or action == "bad dim":
        return False
    match action:
        case "set":
            payload[f"k{n % 3}"] = n
        case "unset":
            payload.pop(f"k{n % 3}", None)
        case "overwrite":
            points[point_id] = {f"k{n % 3}": n}
        case "clear":
            payload.clear()
    return True


@settings(deadline=None, max_examples=200)
@given(OPERATIONS, st.data(), st.booleans())
def test_any_split_of_operations_equals_one_after_the_other(
    actions: list[tuple[int, str]], data: st.DataObject, merges: bool
) -> None:
    expected: dict[int, dict[str, int]] = {}
    for n, one in enumerate(actions):
        if merges and one[1] == "put" and one[0] in expected:
            expected[one[0]][f"k{n % 3}"] = n
        else:
            after_operation(expected, n, *one)
    records = kafka_records(*(as_operation(n, *one) for n, one in enumerate(actions)))
    rig = Rig(write__method="merge" if merges else "replace")
    while records:
        size = data.draw(st.integers(1, len(records)))
        batch = decode_batch(records[:size], RecordDecoder.of(rig.config))
        if data.draw(st.booleans()):
            rig.target.failures = [Unavailable("down")]
        try:
            rig.writer.write(batch)
        except Unavailable:
            rig.writer.write(batch)
        rig.target.failures = []
        records = records[size:]
    assert {one: json.loads(payload) for one, payload in rig.points.items()} == expected


def test_source_offsets_are_the_next_ones() -> None:
    assert decoded(kafka_records(b"{", value(1), first_offset=7)).next_offsets == {PARTITION: 9}
