"""Bad records among many good ones: exactly those are dead letters, by every path."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from headrace.server.run import Serving
from tests.stream.harness import (
    KafkaPair,
    connector_settings,
    headers_of,
    new_topic,
    produce,
    read_topic,
    rest_client,
    running_sink,
    wait_until,
)
from tests.stream.load import SEED, kafka_key_of, make_collection, value_of

COLLECTION = "poisoned"
PARTITIONS = 4
POISON_SHARE = 0.01
# The second is the gate of the fault table.
RECORDS = [3_000, pytest.param(100_000, marks=[pytest.mark.slow, pytest.mark.timeout(1_800)])]
# One of each kind: undecodable, no object, no id, a wrong id, not finite, and two that only
# the collection's configuration refuses.
POISON = (
    b'{"id": 1',
    b"[1]",
    b'{"collection_name": "poisoned"}',
    b'{"collection_name": "poisoned", "id": -1}',
    b'{"collection_name": "poisoned", "id": 1, "vector": [1, 2, 3, 4, 5, 6, 7, 1e39]}',
    b'{"collection_name": "poisoned", "id": 1, "vector": [1, 2]}',
    b'{"collection_name": "poisoned", "id": 1, "vector": {"other": [1]}}',
)

pytestmark = pytest.mark.kafka


def is_poison(kafka_key: bytes | None) -> bool:
    return kafka_key is not None and kafka_key.startswith(b'"poison')


def stream(records: int) -> Iterator[KafkaPair]:
    """Good records with an id each; one percent of all are bad, each kind in turn."""
    numbers = random.Random(SEED)
    bad = set(numbers.sample(range(records), round(records * POISON_SHARE)))
    kinds = iter(range(records))
    for number in range(records):
        if number in bad:
            yield b'"poison %d"' % number, POISON[next(kinds) % len(POISON)]
        else:
            yield kafka_key_of(COLLECTION, number), value_of(COLLECTION, number, number)


@pytest.mark.parametrize("records", RECORDS)
@pytest.mark.parametrize("target", ["embedded", "gRPC", "REST"])
def test_one_percent_of_poison_is_exactly_the_dead_letters(
    kafka_bootstrap_servers: str, serving: Serving, target: str, records: int
) -> None:
    topic = new_topic(kafka_bootstrap_servers, "poisoned", PARTITIONS)
    dead_letter_topic = f"{topic}-dead-letters"
    settings = connector_settings(
        kafka_bootstrap_servers,
        topic,
        errors__tolerance="all",
        errors__deadletterqueue__topic__name=dead_letter_topic,
        errors__deadletterqueue__context__headers__enable="true",
        errors__deadletterqueue__topic__replication__factor="1",
    )
    produce(kafka_bootstrap_servers, topic, stream(records))
    poison = round(records * POISON_SHARE)
    with rest_client(serving.rest_url) as client, ExitStack() as stack:
        make_collection(client, COLLECTION)
        workers = [stack.enter_context(running_sink(settings, target, serving)) for _ in range(2)]
        wait_until(
            lambda: (
                client.count(COLLECTION, exact=True).count == records - poison
                and [one.progress().lag for one in workers] == [0, 0]
            ),
            "all good records land",
            timeout_s=900,
        )
        assert sum(one.progress().dead_letters for one in workers) == poison
    bad = [one for one in read_topic(kafka_bootstrap_servers, topic) if is_poison(one.key())]
    letters = read_topic(kafka_bootstrap_servers, dead_letter_topic)
    sources = Counter(
        (int(headers["__connect.errors.partition"]), int(headers["__connect.errors.offset"]))
        for headers in map(headers_of, letters)
    )
    assert sources == Counter((one.partition(), one.offset()) for one in bad)
    assert sorted((one.key(), one.value()) for one in letters) == sorted(
        (one.key(), one.value()) for one in bad
    )
