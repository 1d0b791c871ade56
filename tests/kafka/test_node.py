from __future__ import annotations

import pytest
from confluent_kafka.admin import AdminClient

pytestmark = pytest.mark.kafka


def test_one_node_answers_as_a_whole_cluster(kafka_bootstrap_servers: str) -> None:
    metadata = AdminClient({"bootstrap.servers": kafka_bootstrap_servers}).list_topics(timeout=10)
    assert [f"{one.host}:{one.port}" for one in metadata.brokers.values()] == [
        kafka_bootstrap_servers
    ]
