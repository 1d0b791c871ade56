"""A dead-letter topic that takes nothing stops the task; no offset passes the bad record."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType

from headrace.server.run import Serving
from headrace.sink.task import TaskState
from tests.stream.harness import (
    CALL_TIMEOUT_S,
    KafkaPair,
    connector_settings,
    new_topic,
    produce,
    read_topic,
    rest_client,
    running_sink,
)
from tests.stream.load import kafka_key_of, make_collection, value_of, wait_until_folded
from tests.stream.test_outage import committed

COLLECTION = "unwritable"
RECORDS = 50
# How often the topic is closed and opened; the second is the full size of the fault table's row.
ROUNDS = [1, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(1_800)])]

pytestmark = pytest.mark.kafka


def stream(round_number: int) -> Iterator[KafkaPair]:
    """Good records with one bad one among them."""
    for number in range(RECORDS):
        yield kafka_key_of(COLLECTION, number), value_of(COLLECTION, number, round_number)
    yield None, b"no JSON %d" % round_number
    for number in range(RECORDS):
        yield kafka_key_of(COLLECTION, number), value_of(COLLECTION, number, -round_number)


def set_message_bytes_max(bootstrap_servers: str, topic: str, bytes_max: int) -> None:
    """With a limit of a few bytes the broker takes no record."""
    entry = ConfigEntry(
        "max.message.bytes", str(bytes_max), incremental_operation=AlterConfigOpType.SET
    )
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(CALL_TIMEOUT_S)


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("target", ["embedded", "gRPC", "REST"])
def test_no_offset_is_committed_past_a_bad_record_that_no_dead_letter_topic_takes(
    kafka_bootstrap_servers: str, serving: Serving, target: str, rounds: int
) -> None:
    topic = new_topic(kafka_bootstrap_servers, "unwritable")
    dead_letter_topic = new_topic(kafka_bootstrap_servers, "unwritable-dead-letters")
    settings = connector_settings(
        kafka_bootstrap_servers,
        topic,
        errors__tolerance="all",
        errors__deadletterqueue__topic__name=dead_letter_topic,
        errors__deadletterqueue__topic__replication__factor="1",
        offset__flush__interval__ms="50",
    )
    group = f"connect-sink-{topic}"

    def positions() -> list[int]:
        """What the group has committed, and where the store would have it read on."""
        found = [*committed(kafka_bootstrap_servers, group, topic).values()]
        if target == "embedded":
            found += [at for _, at in serving.service.source_positions(group).items()]
            found += [
                at
                for one, at in serving.service.source_offsets(COLLECTION).items()
                if one.source == group
            ]
        return found

    with rest_client(serving.rest_url) as client:
        make_collection(client, COLLECTION)
        for number in range(1, rounds + 1):
            set_message_bytes_max(kafka_bootstrap_servers, dead_letter_topic, 10)
            produce(kafka_bootstrap_servers, topic, stream(number))
            bad_offset = (number - 1) * (2 * RECORDS + 1) + RECORDS
            for _ in range(2):
                # It stops there again when it is started again.
                with running_sink(settings, target, serving) as connector:
                    assert connector.wait(CALL_TIMEOUT_S)
                    status = connector.status()
                assert status.state is TaskState.FAILED
                assert f"'{dead_letter_topic}' cannot be written" in (status.trace or "")
                assert max(positions(), default=0) <= bad_offset
                assert len(read_topic(kafka_bootstrap_servers, dead_letter_topic)) == number - 1
            set_message_bytes_max(kafka_bootstrap_servers, dead_letter_topic, 2**20)
            with running_sink(settings, target, serving) as connector:
                wait_until_folded(client, kafka_bootstrap_servers, topic, COLLECTION)
                assert connector.status().trace is None
            letters = read_topic(kafka_bootstrap_servers, dead_letter_topic)
            assert [one.value() for one in letters] == [
                b"no JSON %d" % one for one in range(1, number + 1)
            ]
