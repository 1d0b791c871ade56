"""What a dry run says of topics that are not there, and of collections that there cannot be."""

from __future__ import annotations

import pytest

from headrace.model.errors import Unavailable
from headrace.sink.config import ConnectorConfig
from headrace.sink.worker.dry_run import dry_run
from tests.sink.mock_kafka import MockKafka
from tests.sink.records import value
from tests.sink.worker.harness import config_of


@pytest.mark.parametrize(
    ("asked", "named"),
    [({"topics": "topik,other"}, "topik, other"), ({"topics.regex": "topik.*"}, r"topik\.\*")],
)
def test_topics_that_are_not_there_are_named(
    kafka: MockKafka, asked: dict[str, str], named: str
) -> None:
    raw = {**config_of("a"), "bootstrap.servers": kafka.bootstrap_servers}
    del raw["topics"]
    with pytest.raises(Unavailable, match=f"no topic of the connector's: {named}"):
        dry_run(ConnectorConfig.from_mapping(raw | asked), None, 10)


def test_a_record_of_a_collection_that_there_cannot_be_would_be_refused(kafka: MockKafka) -> None:
    kafka.produce("topic", value(1), value(2, collection_name="a/b"))
    raw = {**config_of("a"), "bootstrap.servers": kafka.bootstrap_servers}
    found = dry_run(ConnectorConfig.from_mapping(raw), None, 10)
    assert list(found.collections) == ["c"]
    assert [one.reason for one in found.refused] == ['collection name cannot contain "/" char']
