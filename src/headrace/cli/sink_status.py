"""`headrace sink status`: what the connectors of a worker are doing, as a table."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from headrace.cli.failures import EXIT_UNEXPECTED, CommandFailed

_TIMEOUT_S = 10.0
_READ = "kafka_connect_sink_task_sink_record_read_total"
_LAG = "headrace_sink_partition_lag"
_BAD = "headrace_sink_bad_records_total"
_FRESHNESS = "headrace_sink_freshness_seconds_bucket"

# Shared by the commands that ask a worker.
UrlOption = Annotated[
    str, typer.Option("--url", metavar="URL", help="Where the worker's REST API answers.")
]
DEFAULT_URL = "http://127.0.0.1:8083"


@dataclass(slots=True)
class _Counts:
    """What the metrics say of one connector; no lag is known before it has partitions."""

    records_read: float = 0
    lag: float | None = None
    bad_records: dict[str, int] = field(default_factory=dict)
    fresh_within: dict[float, float] = field(default_factory=dict)


def status(
    url: UrlOption = DEFAULT_URL,
    interval_s: Annotated[
        float,
        typer.Option(
            "--interval-s", min=0.1, metavar="SECONDS", help="Over how long the rate is measured."
        ),
    ] = 1.0,
) -> None:
    """Show each connector of a worker: state, lag, rate, freshness, bad records by reason.

    The lag counts records that are in Kafka and not durable in the target yet. The rate is
    measured while the command runs; freshness is the time from a record's timestamp to its
    point being searchable, of half and of 99 % of the records since the tasks started.
    """
    from rich.console import Console
    from rich.table import Table

    before, started_s = _counts(url), time.monotonic()
    time.sleep(interval_s)
    after, taken_s = _counts(url), time.monotonic() - started_s
    table = Table()
    headings = ("connector", "state", "tasks", "lag", "records/s", "fresh p50/p99", "bad records")
    for heading in headings:
        # In a narrow terminal words go on in the next line, rather than being cut; but those
        # of the last column stand one on each line, whole.
        table.add_column(heading, overflow="fold", no_wrap=heading == headings[-1])
    for name, standing in sorted(_get(url, "/connectors?expand=status").items()):
        counts = after.get(name)
        row = ["-"] * 4
        if counts is not None:
            grown = counts.records_read - before.get(name, _Counts()).records_read
            bad = "\n".join(f"{reason} {n}" for reason, n in sorted(counts.bad_records.items()))
            row = [
                "-" if counts.lag is None else f"{counts.lag:.0f}",
                f"{max(0.0, grown) / taken_s:.0f}",
                f"{_quantile(counts, 0.5)} / {_quantile(counts, 0.99)}",
                bad or "none",
            ]
        table.add_row(name, standing["status"]["connector"]["state"], _tasks(standing), *row)
    Console().print(table)


def _tasks(standing: dict[str, Any]) -> str:
    states = [one["state"] for one in standing["status"]["tasks"]]
    return ", ".join(f"{states.count(one)} {one}" for one in sorted(set(states))) or "none"


def _counts(url: str) -> dict[str, _Counts]:
    counts: dict[str, _Counts] = {}
    for name, labels, value in _samples(url):
        one = counts.setdefault(labels.get("connector", ""), _Counts())
        if name == _READ:
            one.records_read += value
        elif name == _LAG:
            one.lag = (one.lag or 0) + value
        elif name == _BAD:
            reason = labels["reason"]
            one.bad_records[reason] = one.bad_records.get(reason, 0) + int(value)
        elif name == _FRESHNESS:
            bound = float(labels["le"])
            one.fresh_within[bound] = one.fresh_within.get(bound, 0) + value
    return counts


def _samples(url: str) -> Iterator[tuple[str, dict[str, str], float]]:
    from prometheus_client.parser import text_string_to_metric_families

    for family in text_string_to_metric_families(_ask(url, "/metrics")):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


def _quantile(counts: _Counts, part: float) -> str:
    """The upper bound of the bucket that the quantile is in."""
    buckets = sorted(counts.fresh_within.items())
    if not buckets or not buckets[-1][1]:
        return "-"
    bound = next(bound for bound, count in buckets if count >= part * buckets[-1][1])
    return "longer" if math.isinf(bound) else f"<{bound:g} s"


def _get(url: str, path: str) -> dict[str, Any]:
    import orjson

    found: dict[str, Any] = orjson.loads(_ask(url, path))
    return found


def _ask(url: str, path: str) -> str:
    import httpx

    try:
        return httpx.get(url.rstrip("/") + path, timeout=_TIMEOUT_S).raise_for_status().text
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise CommandFailed(
            f"No worker answers at {url}: {str(error).rstrip('.')}. Start `headrace up` or "
            "`headrace sink worker`, or give --url",
            EXIT_UNEXPECTED,
        ) from error
