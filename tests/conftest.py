"""Brokers that several folders of tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from headrace.demo.broker import BrokerUnavailable, TansuBroker
from tests.kafka.node import KafkaNode, KafkaNotRunnable

# Set where the tests against Apache Kafka must not be skipped.
REQUIRE_KAFKA = "HEADRACE_REQUIRE_KAFKA"


@pytest.fixture(scope="session")
def kafka_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaNode]:
    """An Apache Kafka node that lives as long as the session; a test may restart it."""
    try:
        node = KafkaNode.start(tmp_path_factory.mktemp("kafka"))
    except KafkaNotRunnable as error:
        if os.environ.get(REQUIRE_KAFKA) == "1":
            pytest.fail(f"{REQUIRE_KAFKA}=1, but {error}")
        pytest.skip(str(error))
    yield node
    node.stop()


@pytest.fixture(scope="session")
def kafka_bootstrap_servers(kafka_node: KafkaNode) -> str:
    """The address of the session's Apache Kafka node."""
    return kafka_node.bootstrap_servers


@pytest.fixture(scope="session")
def tansu_bootstrap_servers() -> Iterator[str]:
    """The address of an embedded broker that lives as long as the session."""
    try:
        broker = TansuBroker.start()
    except BrokerUnavailable as error:
        pytest.skip(str(error))
    with broker:
        yield broker.bootstrap_servers
