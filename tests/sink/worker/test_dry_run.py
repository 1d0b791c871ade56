"""What a dry run says that finds nothing to look at."""

from __future__ import annotations

import pytest

from headrace.model.errors import Unavailable
from headrace.sink.config import ConnectorConfig
from headrace.sink.worker.dry_run import dry_run
from tests.sink.mock_kafka import MockKafka
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
