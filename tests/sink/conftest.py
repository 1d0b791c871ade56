"""A mock cluster for the tests of the sink."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sink.mock_kafka import MockKafka, MockKafkaUnavailable


@pytest.fixture
def kafka() -> Iterator[MockKafka]:
    """A cluster of one broker, the test's own."""
    try:
        cluster = MockKafka()
    except MockKafkaUnavailable as error:
        pytest.skip(str(error))
    yield cluster
    cluster.close()
