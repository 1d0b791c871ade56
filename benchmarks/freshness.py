"""How soon is a record found, and how long do searches take, while records stream in?

First a process of its own puts records on a topic as fast as it can, into a store whose points
have a graph: how many a second are durable and searchable is the maximum rate, with producer,
broker, sink and the building of graphs on the same processors. Then it sends at half of that. One
thread searches a few hundred times a second: for a record that is not there yet, until it is
found, and for something else, in turns. The first tells how fresh the store is, the second
what a stream costs the searches beside it; the same thread has searched before the stream
began. How fresh a consumer is that stores nothing is told too: that is the broker's part.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson

from benchmarks.data import Dataset
from benchmarks.ingest import make_record_values
from benchmarks.paced_producer import TIME_PLACE
from benchmarks.results import Figure
from benchmarks.sides import HeadraceSide
from benchmarks.streaming import TOPIC, bare_consumer, make_topic, running_connector
from headrace.demo.broker import TansuBroker
from headrace.model.vectors import FloatMatrix, FloatVector

FRESH_WITHIN_S = 0.2
SLOWER_MAX = 3.0

# Between two searches.
_PAUSE_S = 0.002
_REST_SEARCHES = 1_500
_TIMEOUT_S = 120.0
_CONSUMED_AT_ONCE = 1_000
# A record that will be sent this much later is what is waited for next.
_AHEAD_S = 0.03


def compare_freshness(
    dataset: Dataset,
    data: str,
    folder: Path,
    stored: int,
    seconds_max: float,
    tell: Callable[[str], None],
) -> list[Figure]:
    """The 99th percentiles, while records come at half the maximum rate.

    Args:
        dataset: its first points are stored and indexed before; the rest becomes the records.
        data: what the figures call it.
        folder: an empty folder on the disk that is to be measured.
        stored: how many points are stored before.
        seconds_max: how long records come at most.
        tell: called with a line when something is done.
    """
    streamed = len(dataset.vectors) - stored
    assert streamed > 0, "the stream needs more points than there are"
    lines = folder / "records.jsonl"
    _write_records(_part(dataset, stored, len(dataset.vectors)), stored, lines)
    with _filled(folder / "rate", dataset, stored) as side:
        records_per_s = _max_rate(side, lines, streamed) / 2
    tell(f"freshness: half the maximum rate is {records_per_s:,.0f} records/s")
    streamed = min(streamed, int(records_per_s * seconds_max))
    dataset = _part(dataset, 0, stored + streamed)
    _write_records(_part(dataset, stored, len(dataset.vectors)), stored, lines)
    with TansuBroker.start() as broker:
        make_topic(broker)
        with _producer(broker, lines, records_per_s):
            bare_s = _consumed(broker, streamed)
    with _filled(folder / "store", dataset, stored) as side, TansuBroker.start() as broker:
        at_rest_s = _searches(side, dataset.queries, _REST_SEARCHES)
        with (
            _streaming_into(side, broker),
            _producer(broker, lines, records_per_s),
        ):
            fresh_s, streaming_s = _searches_beside(side, dataset, stored, records_per_s)
    fresh, rest, streaming = (_p99(one) for one in (fresh_s, at_rest_s, streaming_s))
    for what, of_what in (
        ("a record is found after", fresh_s),
        ("a consumer that stores nothing has it after", bare_s),
        ("searches at rest take", at_rest_s),
        ("searches in a stream take", streaming_s),
    ):
        median_ms, p99_ms = float(np.median(of_what)) * 1e3, _p99(of_what) * 1e3
        tell(f"freshness: {what} {median_ms:.1f} ms in the median, {p99_ms:.1f} ms at p99")
    # Not in `data`: figures of one name are those of one thing, run after run.
    rate = f"{records_per_s:,.0f} records/s"
    return [
        Figure(
            what="freshness at half the maximum rate: record timestamp to found by search, p99",
            ratio=fresh / FRESH_WITHIN_S,
            target=1.0,
            better="lower",
            unit="s",
            headrace=fresh,
            rival=FRESH_WITHIN_S,
            rival_name=f"the bound, at {rate}",
            data=data,
        ),
        Figure(
            what="search while records stream in at half the maximum rate, p99",
            ratio=streaming / rest,
            target=SLOWER_MAX,
            better="lower",
            unit="s",
            headrace=streaming,
            rival=rest,
            rival_name=f"the same at rest, for {rate}",
            data=data,
        ),
    ]


@contextmanager
def _filled(folder: Path, dataset: Dataset, stored: int) -> Iterator[HeadraceSide]:
    """A store of the first points, which have a graph."""
    with closing(HeadraceSide(folder, dataset.dim, indexes={})) as side:
        side.upsert_all(_part(dataset, 0, stored))
        side.wait_until_indexed()
        yield side


@contextmanager
def _streaming_into(side: HeadraceSide, broker: TansuBroker) -> Iterator[None]:
    """A connector that waits for the first record of the topic."""
    make_topic(broker)
    with running_connector(side, broker, "freshness") as connector:
        _wait(lambda: connector.progress().lag == 0, "the connector did not start")
        yield


def _max_rate(side: HeadraceSide, lines: Path, streamed: int) -> float:
    """Records a second from their producer to durable, searchable points, at most."""
    stored = side.points_count()
    with (
        TansuBroker.start() as broker,
        _streaming_into(side, broker),
        _producer(broker, lines, float("inf")),
    ):
        began = time.perf_counter()
        _wait(lambda: side.points_count() == stored + streamed, "not all records came")
        return streamed / (time.perf_counter() - began)


def _p99(seconds: list[float]) -> float:
    return float(np.percentile(seconds, 99))


def _consumed(broker: TansuBroker, count: int) -> list[float]:
    """Seconds from record to consumed, of the first record of each call."""
    taken, fresh_s = 0, []
    with closing(bare_consumer(broker)) as consumer:
        deadline = time.monotonic() + _TIMEOUT_S
        while taken < count and time.monotonic() < deadline:
            messages = consumer.consume(_CONSUMED_AT_ONCE, timeout=_PAUSE_S)
            if messages:
                sent_ms = messages[0].timestamp()[1]
                fresh_s.append(time.time() - sent_ms / 1e3)
                taken += len(messages)
    return fresh_s


def _searches(side: HeadraceSide, queries: FloatMatrix, count: int) -> list[float]:
    """Seconds of each of so many searches, one after the other."""
    return [_timed(side, queries[rank % len(queries)]) for rank in range(count)]


def _searches_beside(
    side: HeadraceSide, dataset: Dataset, first_id: int, records_per_s: float
) -> tuple[list[float], list[float]]:
    """Search until the last record is found.

    Args:
        side: what the records stream into.
        dataset: they are its points from `first_id` on.
        first_id: see `dataset`.
        records_per_s: how fast they come.

    Returns:
        Seconds from record to found, and of each other search.
    """
    fresh_s: list[float] = []
    searches_s: list[float] = []
    queries, last_id = dataset.queries, len(dataset.vectors) - 1
    ahead = int(records_per_s * _AHEAD_S)
    sought = first_id
    deadline = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < deadline:
        searches_s.append(_timed(side, queries[len(searches_s) % len(queries)]))
        sent_us = _sent_us(side, dataset.vectors[sought], sought)
        if sent_us is None:
            continue
        fresh_s.append(time.time() - sent_us / 1e6)
        if sought == last_id:
            return fresh_s, searches_s
        sought = min(sought + ahead, last_id)
    raise TimeoutError(f"point {sought} was not found")


def _timed(side: HeadraceSide, query: FloatVector) -> float:
    time.sleep(_PAUSE_S)
    began = time.perf_counter()
    side.search(query)
    return time.perf_counter() - began


def _sent_us(side: HeadraceSide, vector: FloatVector, point_id: int) -> int | None:
    """When a record was sent, if a search finds it."""
    payload = side.search_with_payloads(vector).get(point_id)
    return None if payload is None else int(orjson.loads(payload)["sent_us"])


def _part(dataset: Dataset, begin: int, end: int) -> Dataset:
    return replace(
        dataset, vectors=dataset.vectors[begin:end], payloads=dataset.payloads[begin:end]
    )


def _write_records(dataset: Dataset, first_id: int, file: Path) -> None:
    payloads = [{"sent_us": 0, **payload} for payload in dataset.payloads]
    values = make_record_values(replace(dataset, payloads=payloads), first_id)
    assert all(value.count(TIME_PLACE) == 1 for value in values)
    file.write_bytes(b"\n".join(values))


@contextmanager
def _producer(broker: TansuBroker, lines: Path, records_per_s: float) -> Iterator[None]:
    command = [sys.executable, "-m", "benchmarks.paced_producer", broker.bootstrap_servers]
    with subprocess.Popen(
        [*command, TOPIC, str(lines), str(records_per_s)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.terminate()


def _wait(is_done: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while not is_done():
        if time.monotonic() > deadline:
            raise TimeoutError(otherwise)
        time.sleep(0.01)
