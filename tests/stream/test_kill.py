"""Sinks that are killed again and again while records stream in lose and double nothing."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.server.run import Serving
from tests.stream.harness import (
    HeadraceProcess,
    connector_settings,
    new_topic,
    rest_client,
    write_properties,
)
from tests.stream.load import (
    SEED,
    Stream,
    last_number,
    make_collection,
    wait_until_folded,
    wait_until_more_is_written,
)

COLLECTION = "killed"
PARTITIONS = 4
# The second is the gate of the fault table.
KILLS = [4, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(3_600)])]

pytestmark = pytest.mark.kafka


@pytest.mark.parametrize("kills", KILLS)
def test_an_engine_killed_with_its_sink_is_the_fold_of_the_topic(
    kafka_bootstrap_servers: str, tmp_path: Path, data: Path, kills: int
) -> None:
    topic = new_topic(kafka_bootstrap_servers, "killed", PARTITIONS)
    settings = connector_settings(
        kafka_bootstrap_servers,
        topic,
        tasks__max="2",
        # A killed member stays in its group until its session ends, if it has no name.
        group__instance__id="the-one",
    )
    connector_file = write_properties(tmp_path / "connector.properties", settings)

    def start() -> HeadraceProcess:
        return HeadraceProcess.over("up", data, "--connector", connector_file)

    process = HeadraceProcess.over("serve", data)
    try:
        process.wait_until_serving()
        with rest_client(process.rest_url) as client:
            make_collection(client, COLLECTION)
    finally:
        process.kill()
    stream = Stream(kafka_bootstrap_servers, topic, COLLECTION)
    try:
        kill_at_random_moments(start, kills)
    finally:
        stream.end()
    process = start()
    try:
        process.wait_until_serving()
        with rest_client(process.rest_url) as client:
            wait_until_folded(client, kafka_bootstrap_servers, topic, COLLECTION)
    finally:
        process.kill()


def kill_at_random_moments(start: Callable[[], HeadraceProcess], kills: int) -> None:
    """Every kill but each third comes while records are being written; those come earlier."""
    moments = random.Random(SEED)
    written = 0
    for number in range(kills):
        process = start()
        try:
            if number % 3 == 2:
                time.sleep(moments.uniform(0.1, 2.0))
            else:
                process.wait_until_serving()
                with rest_client(process.rest_url) as client:
                    written = wait_until_more_is_written(client, COLLECTION, written)
                time.sleep(moments.uniform(0.0, 0.5))
        finally:
            process.kill()


@pytest.mark.parametrize("kills", KILLS)
def test_a_server_whose_two_workers_are_killed_in_turns_is_the_fold_of_the_topic(
    kafka_bootstrap_servers: str, tmp_path: Path, serving: Serving, kills: int
) -> None:
    """One worker writes over gRPC, the other over REST."""
    topic = new_topic(kafka_bootstrap_servers, "killed", PARTITIONS)
    urls = (("grpc", f"http://{serving.grpc_address}"), ("rest", serving.rest_url))

    def start(number: int) -> HeadraceProcess:
        protocol, url = urls[number]
        settings = connector_settings(
            kafka_bootstrap_servers, topic, group__instance__id=f"worker-{number}"
        )
        settings[f"qdrant.{protocol}.url"] = url
        path = write_properties(tmp_path / f"worker-{number}.properties", settings)
        return HeadraceProcess(path.with_suffix(".log"), "sink", "run", path)

    moments = random.Random(SEED)
    with rest_client(serving.rest_url) as client:
        make_collection(client, COLLECTION)
        stream = Stream(kafka_bootstrap_servers, topic, COLLECTION)
        workers = [start(0), start(1)]
        try:
            for number in range(kills):
                if number % 3 != 2:
                    before = last_number(client, COLLECTION)
                    wait_until_more_is_written(client, COLLECTION, before)
                time.sleep(moments.uniform(0.0, 1.0))
                workers[number % 2].kill()
                workers[number % 2] = start(number % 2)
            stream.end()
            wait_until_folded(client, kafka_bootstrap_servers, topic, COLLECTION)
        finally:
            stream.end()
            for worker in workers:
                worker.kill()
