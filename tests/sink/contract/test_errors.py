"""Section 3 of the sink's contract, sentence by sentence: what becomes of what goes wrong."""

from __future__ import annotations

import itertools
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from headrace.model.errors import NoSpace, WrongInput
from headrace.service.service import Service
from headrace.sink.config import ConnectorConfig
from headrace.sink.connector import Connector
from headrace.sink.errors import DATA_EXCEPTION, Reason, Stage
from headrace.sink.kafka_record import KafkaHeaders
from headrace.sink.qdrant_target import QdrantTarget
from headrace.sink.retry import Backoff
from headrace.sink.target import Target
from headrace.sink.task import TaskState
from tests.sink import mock_kafka
from tests.sink.contract.sink import Sink, config_of, make_collection, value_of
from tests.sink.memory_target import MemoryTarget
from tests.sink.mock_kafka import MockKafka
from tests.sink.records import kafka_records, value
from tests.sink.stub_qdrant import Answer, StubQdrant, stub_qdrant
from tests.sink.test_batch import Rig
from tests.sink.test_connector import (
    PATIENCE_S,
    SOURCE,
    running,
    settings,
    wait_until,
    wait_until_failed,
    wait_until_read,
)

TOLERANT = {"errors__tolerance": "all"}
DEAD_LETTERS = {"errors__tolerance": "all", "errors__deadletterqueue__topic__name": "dead"}
CONTEXT = {"errors__deadletterqueue__context__headers__enable": "true"}
UNDECODABLE = b"{"
INVALID = value(-1)
REJECTED = value(7, dim=3)


@pytest.fixture(params=["grpc", "rest"])
def stub(request: pytest.FixtureRequest) -> Iterator[StubQdrant]:
    """A server that answers what it is told, by each protocol."""
    with stub_qdrant(request.param) as stub:
        stub.protocol = request.param  # type: ignore[attr-defined]
        yield stub


@contextmanager
def running_into(kafka: MockKafka, stub: StubQdrant, **changed: str) -> Iterator[Connector]:
    """A connector into the stub, of topic `topic`, with dead letters in `dead`."""
    url = {f"qdrant__{stub.protocol}__url": stub.url}  # type: ignore[attr-defined]
    given = {**DEAD_LETTERS, "qdrant__request__timeout__ms": "1000", **url, **changed}
    config = ConnectorConfig.from_mapping(settings(kafka, **given))
    target: Target = QdrantTarget(config)
    connector = Connector(config, target)
    connector.start()
    try:
        yield connector
    finally:
        connector.stop(PATIENCE_S)
        target.close()


@pytest.fixture
def topics(kafka: MockKafka) -> MockKafka:
    """A cluster with the topics `topic` and `dead`."""
    kafka.create_topic("topic")
    kafka.create_topic("dead")
    return kafka


# Record errors


@pytest.mark.parametrize("bad", [UNDECODABLE, INVALID, REJECTED])
def test_exactly_the_bad_record_is_dead_lettered_and_every_other_record_of_the_batch_lands(
    bad: bytes,
) -> None:
    rig = Rig()
    rig.write(kafka_records(value(1), value(2), bad, value(3), value(4)))
    assert rig.dead.offsets == [2]
    assert set(rig.points) == {1, 2, 3, 4}


@pytest.mark.parametrize("bad", [UNDECODABLE, INVALID, REJECTED])
def test_without_a_dead_letter_topic_a_bad_record_is_skipped_and_counted(
    topics: MockKafka, bad: bytes
) -> None:
    topics.produce("topic", value(1), bad, value(2))
    target = MemoryTarget(c=2)
    with running(topics, target, **TOLERANT) as connector:
        wait_until_read(connector, 3)
        assert connector.progress().records_skipped == 1
        assert connector.status().state is TaskState.RUNNING
    assert set(target.collections["c"]) == {1, 2}
    assert topics.committed(SOURCE, "topic") == 3


@pytest.mark.parametrize("bad", [UNDECODABLE, INVALID, REJECTED])
def test_without_tolerance_a_bad_record_fails_the_task(topics: MockKafka, bad: bytes) -> None:
    topics.produce("topic", value(1), bad, value(2))
    target = MemoryTarget(c=2)
    with running(topics, target) as connector:
        assert "offset=1" in wait_until_failed(connector)
    assert set(target.collections["c"]) == {1, 2}
    assert topics.committed(SOURCE, "topic") <= 0


def test_a_batch_that_the_server_refuses_is_bisected(topics: MockKafka, stub: StubQdrant) -> None:
    refused = Answer(400, grpc.StatusCode.INVALID_ARGUMENT, "one of them is wrong")
    # Whatever has the record with the long payload is refused.
    stub.answer_of = lambda bytes_count: refused if bytes_count > 60_000 else None
    topics.produce("topic", *(value(n) for n in range(50)), value(50, pad="x" * 60_000))
    with running_into(topics, stub) as connector:
        wait_until_read(connector, 51)
        assert connector.progress().dead_letters == 1
        assert connector.progress().points_written == 50
    (letter,) = topics.read("dead")
    assert letter.value() == value(50, pad="x" * 60_000)


@pytest.mark.parametrize("auto_create", ["false", "true"])
@pytest.mark.parametrize("name", ["a/b", "..", "a?b", "x" * 256, "\ud800"])
def test_a_record_of_a_collection_that_there_cannot_be_is_a_bad_record(
    service: Service, name: str, auto_create: str
) -> None:
    sink = Sink(service, collection__auto__create=auto_create)
    make_collection(service)
    sink.take(
        value_of(id=1, vector=[1.0, 2.0]),
        value_of(id=2, vector=[1.0, 2.0], collection_name=name),
        (json.dumps({"id": 2, "collection_name": name}).encode(), None),
        value_of(id=3, vector=[1.0, 2.0]),
    )
    assert sink.dead.offsets == [1, 2]
    assert {one.error.reason for one in sink.dead.letters} == {Reason.INVALID_COLLECTION_NAME}
    assert sink.point(1) is not None
    assert sink.point(3) is not None
    assert service.collection_names() == ["c"]


@pytest.mark.parametrize(
    "vector", [[0.0] * 65_537, {"a/b": [1.0]}, {"x" * 201: [1.0]}, {"\ud800": [1.0]}]
)
def test_no_collection_is_made_of_vectors_that_none_can_have(
    service: Service, vector: object
) -> None:
    sink = Sink(service)
    sink.take(value_of(id=1, vector=vector))
    assert service.collection_names() == []
    sink.take(value_of(id=2, vector=vector), value_of(id=3, vector=[1.0, 2.0]))
    assert sink.dead.offsets == [0, 1]
    assert {one.error.reason for one in sink.dead.letters} == {Reason.INVALID_VECTOR}
    assert service.collection_config("c").vectors[""].size == 2
    assert sink.point(3) is not None


# Target errors


@pytest.mark.parametrize(
    "answer",
    [
        Answer(503, grpc.StatusCode.UNAVAILABLE),
        Answer(500, grpc.StatusCode.INTERNAL),
        Answer(408, grpc.StatusCode.DEADLINE_EXCEEDED),
        Answer(429, grpc.StatusCode.RESOURCE_EXHAUSTED),
        # It answers, but later than the request may take.
        Answer(503, grpc.StatusCode.UNAVAILABLE, delay_s=1.5),
        # The text speaks of a bad record: the code decides.
        Answer(503, grpc.StatusCode.UNAVAILABLE, "Wrong input: Vector dimension error"),
    ],
    ids=["unavailable", "internal", "deadline", "exhausted", "too late", "misleading"],
)
def test_what_the_target_cannot_take_now_is_tried_again_and_costs_no_record(
    topics: MockKafka, stub: StubQdrant, answer: Answer
) -> None:
    stub.answers = [answer] * 10_000
    topics.produce("topic", value(1), value(2))
    with running_into(topics, stub) as connector:
        wait_until(lambda: connector.progress().retries > 2)
        assert connector.status().state is TaskState.RUNNING
        assert topics.committed(SOURCE, "topic") <= 0
        stub.answers = []
        wait_until_read(connector, 2)
        assert connector.progress().dead_letters == 0
    assert topics.read("dead") == []
    assert topics.committed(SOURCE, "topic") == 2


def test_a_full_disk_is_an_error_of_the_target(topics: MockKafka) -> None:
    topics.produce("topic", value(1))
    target = MemoryTarget(c=2)
    target.failures = [NoSpace("no space left")] * 3
    with running(topics, target, **DEAD_LETTERS) as connector:
        wait_until_read(connector, 1)
        assert connector.progress().retries == 3
    assert topics.read("dead") == []


def test_a_wrong_record_is_told_from_a_target_that_is_away_by_the_code(
    topics: MockKafka, stub: StubQdrant
) -> None:
    # The text speaks of an outage: the code decides.
    wrong = Answer(400, grpc.StatusCode.INVALID_ARGUMENT, "Service unavailable, try again later")
    stub.answer_of = lambda _bytes_count: wrong
    topics.produce("topic", value(1))
    with running_into(topics, stub) as connector:
        wait_until_read(connector, 1)
        assert connector.progress().retries == 0
    assert len(topics.read("dead")) == 1


def test_retry_after_is_honoured(topics: MockKafka, stub: StubQdrant) -> None:
    exhausted = grpc.StatusCode.RESOURCE_EXHAUSTED
    stub.answers = [Answer(429, exhausted, "slow down", retry_after_s=2)]
    topics.produce("topic", value(1))
    with running_into(topics, stub, retry__backoff__max__ms="10") as connector:
        wait_until_read(connector, 1)
    first_s, second_s = stub.asked_s[:2]
    assert second_s - first_s >= 2.0


def test_retries_back_off_with_full_jitter_and_for_ever() -> None:
    limits = config_of(retry__backoff__ms="100", retry__backoff__max__ms="1000").retry
    assert limits.timeout_ms is None
    backoffs = [Backoff(limits) for _ in range(200)]
    for bound_s in (0.1, 0.2, 0.4, 0.8, 1.0, 1.0):
        waits_s = [one.next_wait_s() for one in backoffs]
        assert max(waits_s) <= bound_s
        # Anything from nothing to the bound: not the bound and a little around it.
        assert min(waits_s) < 0.1 * bound_s
        assert max(waits_s) > 0.9 * bound_s
    assert not any(one.is_exhausted for one in backoffs)


def test_retries_end_after_the_retry_timeout_if_there_is_one(
    topics: MockKafka, stub: StubQdrant
) -> None:
    stub.answers = [Answer(503, grpc.StatusCode.UNAVAILABLE)] * 10_000
    topics.produce("topic", value(1))
    with running_into(topics, stub, retry__timeout__ms="300") as connector:
        assert "(retry.timeout.ms)" in wait_until_failed(connector)
    assert topics.committed(SOURCE, "topic") <= 0
    assert topics.read("dead") == []


def test_partitions_are_paused_while_the_target_takes_nothing(topics: MockKafka) -> None:
    topics.produce("topic", value(0))
    target = MemoryTarget(c=2)
    target.failures = [NoSpace("no space left")] * 100_000
    with running(topics, target, batch__size="10") as connector:
        wait_until(lambda: connector.progress().retries > 3)
        topics.produce("topic", *(value(n) for n in range(1, 100)))
        wait_until(lambda: connector._tasks[0]._source._is_paused)
        time.sleep(0.5)
        # The batch that waits for the target, and one behind it.
        assert connector.progress().records_read <= 20
        target.failures.clear()
        wait_until_read(connector, 100)


# Setup errors


def test_a_missing_collection_fails_the_task_with_a_text_that_says_what_to_do(
    topics: MockKafka, stub: StubQdrant
) -> None:
    missing = Answer(404, grpc.StatusCode.NOT_FOUND, "Not found: Collection `c` doesn't exist!")
    stub.answers = [missing] * 10
    topics.produce("topic", value(1))
    with running_into(topics, stub) as connector:
        trace = wait_until_failed(connector)
    assert "Create the collection and restart the connector" in trace
    assert "collection.auto.create=true" in trace
    assert topics.read("dead") == []


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
@pytest.mark.parametrize(
    ("http_status", "grpc_code"),
    [(401, grpc.StatusCode.UNAUTHENTICATED), (403, grpc.StatusCode.PERMISSION_DENIED)],
)
def test_a_wrong_api_key_fails_the_task_with_a_text_that_says_what_to_do(
    topics: MockKafka, stub: StubQdrant, http_status: int, grpc_code: grpc.StatusCode
) -> None:
    stub.answers = [Answer(http_status, grpc_code, "Invalid API key")] * 10
    topics.produce("topic", value(1))
    with running_into(topics, stub, qdrant__api__key="wrong") as connector:
        trace = wait_until_failed(connector)
    assert "Invalid API key" in trace
    assert "qdrant.api.key" in trace
    assert "restart the connector" in trace
    assert "wrong" not in trace.replace("Wrong", "")
    assert stub.api_keys == {"wrong"}
    assert topics.committed(SOURCE, "topic") <= 0


# Keys


def test_the_error_keys_have_connects_defaults() -> None:
    policy = config_of().errors
    assert (policy.tolerate, policy.dead_letter_topic) == (False, None)
    assert (policy.context_headers, policy.replication_factor) == (False, 3)
    assert (policy.log, policy.log_coordinates) == (False, False)


@pytest.mark.parametrize("include", [False, True])
@pytest.mark.parametrize("enable", [False, True])
def test_a_bad_record_is_logged_if_asked_and_its_place_if_asked(
    caplog: pytest.LogCaptureFixture, enable: bool, include: bool
) -> None:
    rig = Rig(
        errors__log__enable=str(enable).lower(),
        errors__log__include__messages=str(include).lower(),
    )
    with caplog.at_level(logging.ERROR, "headrace.sink.writer"):
        rig.write(kafka_records(value(1), b'{"id":"opensesame"}'))
    lines = [one.getMessage() for one in caplog.records]
    if not enable:
        assert lines == []
        return
    (line,) = lines
    place = "topic='topic', partition=0, offset=1"
    assert "'collection_name' value is required" in line
    assert (place in line) == include
    assert "opensesame" not in line


# Dead letters


def test_a_dead_letter_is_the_original_key_value_headers_and_timestamp(topics: MockKafka) -> None:
    bad = (b"\x00\xff key", b"\x00\xff value")
    headers = [("a", b"1"), ("a", b"2"), ("none", None), ("empty", b"")]
    topics.produce("topic", bad, headers=headers, timestamp_ms=1_234_567)  # type: ignore[arg-type]
    with running(topics, MemoryTarget(c=2), **DEAD_LETTERS) as connector:
        wait_until_read(connector, 1)
    (letter,) = topics.read("dead")
    assert (letter.key(), letter.value()) == bad
    assert letter.headers() == headers
    assert letter.timestamp()[1] == 1_234_567


STAGES = [
    (
        Stage.KEY_CONVERTER,
        (b"{", value(1)),
        {"key__converter": "json"},
        "org.apache.kafka.connect.json.JsonConverter",
    ),
    (
        Stage.VALUE_CONVERTER,
        (None, b"{"),
        {},
        "org.apache.kafka.connect.json.JsonConverter",
    ),
    (
        Stage.HEADER_CONVERTER,
        (None, value(2)),
        # Headers are looked at where a payload is to have them.
        {"header__converter": "json", "payload__metadata": "headers"},
        "org.apache.kafka.connect.json.JsonConverter",
    ),
    (
        Stage.TRANSFORMATION,
        (None, b"[1]"),
        {
            "transforms": "t",
            "transforms__t__type": "org.apache.kafka.connect.transforms.InsertField$Value",
            "transforms__t__static__field": "a",
            "transforms__t__static__value": "b",
        },
        "org.apache.kafka.connect.transforms.InsertField$Value",
    ),
    (Stage.TASK_PUT, (None, value(-1)), {}, "org.apache.kafka.connect.sink.SinkTask"),
    (Stage.TASK_PUT, (None, REJECTED), {}, "org.apache.kafka.connect.sink.SinkTask"),
]


@pytest.mark.parametrize(("stage", "record", "changed", "class_name"), STAGES)
def test_context_headers_say_in_utf_8_what_was_wrong_where(
    topics: MockKafka,
    stage: Stage,
    record: tuple[bytes | None, bytes],
    changed: dict[str, str],
    class_name: str,
) -> None:
    topics.produce("topic", value(1))
    bad_header: KafkaHeaders = [("bad", b"{")] if stage is Stage.HEADER_CONVERTER else []
    topics.produce("topic", record, headers=bad_header)
    with running(topics, MemoryTarget(c=2), **DEAD_LETTERS, **CONTEXT, **changed) as connector:
        wait_until_read(connector, 2)
    (letter,) = topics.read("dead")
    pairs: list[tuple[str, bytes]] = list(letter.headers() or [])  # type: ignore[arg-type]
    assert pairs[: len(bad_header)] == bad_header
    pairs = pairs[len(bad_header) :]
    prefix = "__connect.errors."
    headers = {name.removeprefix(prefix): text.decode("utf-8") for name, text in pairs}
    assert list(headers) == [
        *("topic", "partition", "offset", "connector.name", "task.id", "stage", "class.name"),
        *("exception.class.name", "exception.message", "exception.stacktrace"),
    ]
    assert (headers["topic"], headers["partition"], headers["offset"]) == ("topic", "0", "1")
    assert (headers["connector.name"], headers["task.id"]) == ("test", "0")
    assert (headers["stage"], headers["class.name"]) == (stage.value, class_name)
    assert headers["exception.class.name"] == DATA_EXCEPTION
    assert headers["exception.message"]
    assert headers["exception.message"] in headers["exception.stacktrace"]


def test_old_context_headers_are_replaced_and_not_doubled(topics: MockKafka) -> None:
    names = ("topic", "stage", "exception.message")
    old = [(f"__connect.errors.{name}", b"old") for name in names]
    topics.produce("topic", b"{", headers=[*old, ("mine", b"kept")])
    with running(topics, MemoryTarget(c=2), **DEAD_LETTERS, **CONTEXT) as connector:
        wait_until_read(connector, 1)
    (letter,) = topics.read("dead")
    pairs: list[tuple[str, bytes]] = list(letter.headers() or [])  # type: ignore[arg-type]
    assert len(pairs) == len(dict(pairs))
    assert b"old" not in dict(pairs).values()
    assert dict(pairs)["mine"] == b"kept"


def test_two_byte_identical_bad_records_are_two_dead_letters(topics: MockKafka) -> None:
    topics.produce("topic", b"{", b"{", value(1), b"{")
    with running(topics, MemoryTarget(c=2), **DEAD_LETTERS) as connector:
        wait_until_read(connector, 4)
        assert connector.progress().dead_letters == 3
    assert [one.value() for one in topics.read("dead")] == [b"{"] * 3


def test_dead_letters_are_acknowledged_before_offsets_move() -> None:
    rig = Rig()
    rig.write(kafka_records(value(1), b"{", REJECTED, value(2)))
    # The second is what only the write itself showed.
    assert rig.target.events == ["dead letters 1", "dead letters 1", "write c +2 -0"]


def test_a_dead_letter_topic_that_cannot_be_written_stops_the_task_and_commits_nothing(
    topics: MockKafka,
) -> None:
    topics.produce("topic", value(1), b"{", value(2))
    refusal = [mock_kafka.TOPIC_AUTHORIZATION_FAILED] * 100
    topics.fail_next(mock_kafka.PRODUCE_REQUEST, refusal)
    target = MemoryTarget(keeps_positions=False, c=2)
    with running(topics, target, **DEAD_LETTERS) as connector:
        trace = wait_until_failed(connector)
    assert "make the topic writable and restart the connector" in trace
    assert topics.committed(SOURCE, "topic") <= 0


def test_without_tolerance_the_record_is_written_to_the_dead_letters_and_the_task_fails(
    topics: MockKafka,
) -> None:
    topics.produce("topic", value(1), b"{")
    strict = {**DEAD_LETTERS, "errors__tolerance": "none"}
    with running(topics, MemoryTarget(c=2), **strict) as connector:
        wait_until_failed(connector)
    assert [one.value() for one in topics.read("dead")] == [b"{"]


def test_the_classes_of_errors_are_told_apart_by_their_codes_alone() -> None:
    """A refusal that is raised with any text costs its record, and only that."""
    for text, number in zip(("timeout", "unavailable", "disk full"), itertools.count()):
        rig = Rig()
        rig.target.failures = [WrongInput(text)] * 3
        rig.write(kafka_records(value(number), value(number + 10)))
        assert len(rig.dead.letters) == 1
        assert len(rig.points) == 1
