"""Apache Kafka's own command-line tools against the sink: records in, offsets, dead letters."""

from __future__ import annotations

import pytest

from headrace.server.run import Serving
from tests.kafka.node import CONSOLE_CONSUMER, CONSOLE_PRODUCER, consumer_groups, run_tool
from tests.stream.harness import (
    connector_settings,
    new_topic,
    produce,
    rest_client,
    running_sink,
    wait_until,
)
from tests.stream.load import kafka_key_of, make_collection, value_of
from tests.stream.test_outage import committed

COLLECTION = "tools"
RECORDS = 5

pytestmark = pytest.mark.kafka


def test_the_console_producer_puts_points_in_and_the_console_consumer_reads_the_dead_letters(
    kafka_bootstrap_servers: str, serving: Serving
) -> None:
    topic = new_topic(kafka_bootstrap_servers, "console")
    dead_letter_topic = new_topic(kafka_bootstrap_servers, "console-dead")
    good = value_of(COLLECTION, 1, 7).decode()
    key = kafka_key_of(COLLECTION, 1).decode()
    # Headers, key and value of each line are parted by tabs.
    lines = f'trace:abc\t{key}\t{good}\ntrace:def\t"bad key"\tno JSON\n'
    run_tool(
        CONSOLE_PRODUCER,
        kafka_bootstrap_servers,
        *("--topic", topic, "--property", "parse.key=true", "--property", "parse.headers=true"),
        stdin=lines,
    ).check_returncode()
    settings = connector_settings(
        kafka_bootstrap_servers,
        topic,
        payload__metadata="topic,headers",
        errors__tolerance="all",
        errors__deadletterqueue__topic__name=dead_letter_topic,
        errors__deadletterqueue__context__headers__enable="true",
    )
    with rest_client(serving.rest_url) as client:
        make_collection(client, COLLECTION)
        with running_sink(settings, "gRPC", serving) as connector:
            wait_until(lambda: connector.progress().records_read == 2, "both are read")
            wait_until(lambda: connector.progress().lag == 0, "both are settled")
        (point,) = client.retrieve(COLLECTION, [1])
    assert point.payload == {
        "number": 7,
        "_kafka": {"topic": topic, "headers": {"trace": "abc"}},
    }
    read = run_tool(
        CONSOLE_CONSUMER,
        kafka_bootstrap_servers,
        *("--topic", dead_letter_topic, "--from-beginning", "--max-messages", "1"),
        *("--property", "print.headers=true", "--property", "print.key=true"),
    )
    # The stack trace among the headers has a tab of its own.
    headers, kafka_key, value = read.stdout.strip().rsplit("\t", 2)
    assert (kafka_key, value) == ('"bad key"', "no JSON")
    assert headers.startswith("trace:def,")
    assert f"__connect.errors.topic:{topic}" in headers
    assert "__connect.errors.offset:1" in headers
    assert "__connect.errors.stage:VALUE_CONVERTER" in headers


@pytest.mark.parametrize("target", ["embedded", "gRPC"])
def test_kafka_consumer_groups_resets_a_stopped_connector_whose_target_keeps_no_offsets(
    kafka_bootstrap_servers: str, serving: Serving, target: str
) -> None:
    """Into the store of the same process, the store's own offsets count, and Kafka's do not."""
    topic = new_topic(kafka_bootstrap_servers, "reset")
    settings = connector_settings(kafka_bootstrap_servers, topic, offset__flush__interval__ms="50")
    group = f"connect-{settings['name']}"
    pairs = [(kafka_key_of(COLLECTION, n), value_of(COLLECTION, n, n)) for n in range(RECORDS)]
    produce(kafka_bootstrap_servers, topic, pairs)
    with rest_client(serving.rest_url) as client:
        make_collection(client, COLLECTION)
        with running_sink(settings, target, serving):
            wait_until(
                lambda: committed(kafka_bootstrap_servers, group, topic) == {0: RECORDS},
                "all is committed",
            )
        reset = consumer_groups(
            kafka_bootstrap_servers,
            *("--group", group, "--topic", topic),
            *("--reset-offsets", "--to-earliest", "--execute"),
        )
        assert reset.returncode == 0, reset.stdout + reset.stderr
        assert committed(kafka_bootstrap_servers, group, topic) == {0: 0}
        produce(kafka_bootstrap_servers, topic, [(None, value_of(COLLECTION, RECORDS, RECORDS))])
        with running_sink(settings, target, serving) as connector:
            wait_until(
                lambda: committed(kafka_bootstrap_servers, group, topic) == {0: RECORDS + 1},
                "all is committed again",
            )
            expected = 1 if target == "embedded" else RECORDS + 1
            assert connector.progress().records_read == expected
        assert client.count(COLLECTION).count == RECORDS + 1
