"""Dead letters go back where they came from, each once, though more come meanwhile."""

from __future__ import annotations

from headrace.sink.config import ConnectorConfig
from headrace.sink.kafka_record import KafkaHeaders
from headrace.sink.worker.dead_letter_topic import DeadLetterTopic
from tests.sink.mock_kafka import MockKafka

LETTERS = 3_000


def dead_letters_of(kafka: MockKafka) -> DeadLetterTopic:
    settings = {"errors.deadletterqueue.topic.name": "dead", "errors.tolerance": "all"}
    return DeadLetterTopic(
        ConnectorConfig.from_mapping(
            {"name": "a", "topics": "topic", "bootstrap.servers": kafka.bootstrap_servers}
            | {"consumer.override.fetch.wait.max.ms": "20"}
            | settings
        )
    )


def test_letters_that_come_back_while_others_are_replayed_wait_for_the_next_time(
    kafka: MockKafka,
) -> None:
    kafka.create_topic("dead")
    # As from a connector that runs and refuses each again: what is replayed is a dead letter.
    came_from: KafkaHeaders = [("__connect.errors.topic", b"dead")]
    kafka.produce("dead", *(b"%d" % n for n in range(LETTERS)), headers=came_from)
    dead = dead_letters_of(kafka)
    try:
        assert dead.replay() == (LETTERS, [])
        assert len(list(dead.read(only_new=False))) == 2 * LETTERS
        assert len(list(dead.read(only_new=True))) == LETTERS
    finally:
        dead.close()


def test_nothing_is_replayed_of_an_empty_topic(kafka: MockKafka) -> None:
    kafka.create_topic("dead")
    dead = dead_letters_of(kafka)
    try:
        assert dead.replay() == (0, [])
    finally:
        dead.close()
