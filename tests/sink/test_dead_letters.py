from __future__ import annotations

import threading
import time

import pytest

from headrace.sink.batch import Refusal
from headrace.sink.config import ConnectorConfig
from headrace.sink.dead_letters import DeadLetterQueue, DeadLettersUnwritable, Interrupted
from headrace.sink.errors import Reason, RecordError
from tests.sink import mock_kafka
from tests.sink.mock_kafka import MockKafka
from tests.sink.records import kafka_records

PATIENCE_S = 60.0


def queue_of(kafka: MockKafka, **settings: str) -> DeadLetterQueue:
    raw = {"name": "test", "topics": "topic", "bootstrap.servers": kafka.bootstrap_servers}
    raw |= {f"producer.override.{name.replace('__', '.')}": text for name, text in settings.items()}
    config = ConnectorConfig.from_mapping(raw)
    return DeadLetterQueue("dead", config.errors, config.producer_settings(0), "test", 0)


def refusals_of(*values: bytes) -> list[Refusal]:
    error = RecordError("told to", Reason.INVALID_ID)
    return [Refusal(one, error) for one in kafka_records(*values)]


def test_lanes_that_give_up_together_are_all_interrupted(kafka: MockKafka) -> None:
    kafka.create_topic("dead")
    subject = queue_of(kafka)
    subject.write(refusals_of(b"first"), lambda: False)
    kafka.set_down()
    must_end = threading.Event()
    ends: list[Exception] = []

    def write(number: int) -> None:
        try:
            subject.write(refusals_of(b"%d" % number), must_end.is_set)
        except (Interrupted, DeadLettersUnwritable) as error:
            ends.append(error)

    lanes = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for lane in lanes:
        lane.start()
    must_end.wait(0.5)
    assert not ends
    must_end.set()
    for lane in lanes:
        lane.join(PATIENCE_S)
    assert [type(one) for one in ends] == [Interrupted] * 4
    kafka.set_up()
    subject.write(refusals_of(b"last"), lambda: False)
    assert [one.value() for one in kafka.read("dead")] == [b"first", b"last"]
    subject.close()


def test_an_outage_longer_than_a_message_may_take_is_waited_for(
    kafka: MockKafka, caplog: pytest.LogCaptureFixture
) -> None:
    kafka.create_topic("dead")
    subject = queue_of(kafka, message__timeout__ms="3000", reconnect__backoff__max__ms="200")
    subject.write(refusals_of(b"first"), lambda: False)
    kafka.set_down()
    errors: list[Exception] = []

    def write() -> None:
        try:
            subject.write(refusals_of(b"second", b"third"), lambda: False)
        except DeadLettersUnwritable as error:
            errors.append(error)

    lane = threading.Thread(target=write)
    lane.start()
    deadline = time.monotonic() + PATIENCE_S
    while caplog.text.count("takes nothing: Kafka went away") < 2 and lane.is_alive():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    kafka.set_up()
    lane.join(PATIENCE_S)
    assert errors == []
    found = [one.value() for one in kafka.read("dead")]
    assert sorted({one for one in found if one}) == [b"first", b"second", b"third"]
    subject.close()


def test_a_topic_that_a_broker_does_not_take_in_time_is_unwritable(kafka: MockKafka) -> None:
    kafka.create_topic("dead")
    # Long enough for the first connection, also on a busy machine.
    subject = queue_of(kafka, message__timeout__ms="5000")
    subject.write(refusals_of(b"first"), lambda: False)
    kafka.fail_next(mock_kafka.PRODUCE_REQUEST, [mock_kafka.NOT_ENOUGH_REPLICAS] * 100)
    with pytest.raises(DeadLettersUnwritable, match="timed out"):
        subject.write(refusals_of(b"second"), lambda: False)
    subject.close()


def test_one_refusal_among_many_is_enough_to_stop(kafka: MockKafka) -> None:
    kafka.create_topic("dead")
    subject = queue_of(kafka)
    kafka.fail_next(mock_kafka.PRODUCE_REQUEST, [mock_kafka.INVALID_RECORD])
    with pytest.raises(DeadLettersUnwritable, match="make the topic writable and restart"):
        subject.write(refusals_of(b"1", b"2"), lambda: False)
    subject.close()
