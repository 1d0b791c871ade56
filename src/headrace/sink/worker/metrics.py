"""Which metrics of its connectors does a worker tell Prometheus?

Names are those that Kafka Connect's JMX exporters give, so that its dashboards work; what
Connect does not have begins with `headrace_sink_`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    UnknownMetricFamily,
)
from prometheus_client.registry import Collector

from headrace.sink.progress import FRESHNESS_BOUNDS_S, TaskCounters
from headrace.sink.worker.worker import Worker

_LABELS: Final = ("connector", "task")

_Value = Callable[[TaskCounters], float]

# By name, what it is and how it is counted. Connect's totals that do not end in `_total`
# keep their names, so they cannot be declared as counters.
_OF_TASK: Final[dict[str, tuple[type[Metric], str, _Value]]] = {
    "kafka_connect_sink_task_sink_record_read": (
        CounterMetricFamily,
        "Records read from Kafka",
        lambda one: one.records_read,
    ),
    "kafka_connect_sink_task_sink_record_send": (
        CounterMetricFamily,
        "Records that were not bad, and so went on to the target",
        lambda one: one.records_read - sum(one.bad_records.copy().values()),
    ),
    "kafka_connect_sink_task_sink_record_lag_max": (
        GaugeMetricFamily,
        "Records not durable in the target yet, in the partition that has most",
        lambda one: max(one.partition_lags.values(), default=0),
    ),
    "kafka_connect_sink_task_partition_count": (
        GaugeMetricFamily,
        "Partitions assigned to the task, as far as their ends are known",
        lambda one: len(one.partition_lags),
    ),
    "kafka_connect_sink_task_put_batch_avg_time_ms": (
        GaugeMetricFamily,
        "What the write of one batch took on average",
        lambda one: 1000 * one.write_time_s / max(1, one.batches_written),
    ),
    "kafka_connect_sink_task_put_batch_max_time_ms": (
        GaugeMetricFamily,
        "What the slowest write of a batch took",
        lambda one: 1000 * one.write_time_max_s,
    ),
    "kafka_connect_sink_task_offset_commit_completion": (
        CounterMetricFamily,
        "Commits of offsets that Kafka has confirmed",
        lambda one: one.commits_completed,
    ),
    "kafka_connect_task_error_total_record_failures": (
        UnknownMetricFamily,
        "Bad records",
        lambda one: sum(one.bad_records.copy().values()),
    ),
    "kafka_connect_task_error_total_records_skipped": (
        UnknownMetricFamily,
        "Bad records that went nowhere",
        lambda one: one.records_skipped,
    ),
    "kafka_connect_task_error_total_retries": (
        UnknownMetricFamily,
        "Writes tried again because the target could take nothing",
        lambda one: one.retries,
    ),
    "kafka_connect_task_error_deadletterqueue_produce_requests": (
        UnknownMetricFamily,
        "Bad records given to the dead-letter topic",
        lambda one: one.dead_letters + one.dead_letter_failures,
    ),
    "kafka_connect_task_error_deadletterqueue_produce_failures": (
        UnknownMetricFamily,
        "Bad records that the dead-letter topic did not take",
        lambda one: one.dead_letter_failures,
    ),
    "headrace_sink_request_points_max": (
        GaugeMetricFamily,
        "Points that a request to a target elsewhere may have now; 0 without requests",
        lambda one: one.request_points_max,
    ),
    "headrace_sink_consumers_abandoned": (
        CounterMetricFamily,
        "Consumers that fetched nothing though there was more, and were replaced",
        lambda one: one.consumers_abandoned,
    ),
}


def metrics_text(worker: Worker) -> str:
    """The metrics of all connectors that run, in Prometheus's text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(SinkCollector(worker))
    return generate_latest(registry).decode()


class SinkCollector(Collector):
    """The metrics of a worker, for any registry."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        tasks = [
            ((name, str(number)), counters)
            for name, tasks, _ in self._worker.running()
            for number, counters in enumerate(tasks)
        ]
        for name, (kind, what, value) in _OF_TASK.items():
            family = kind(name, what, labels=_LABELS)  # type: ignore[call-arg]
            for labels, counters in tasks:
                family.add_metric(labels, value(counters))  # type: ignore[attr-defined]
            yield family
        yield from _by_partition_and_reason(tasks)
        yield _freshness(tasks)


def _by_partition_and_reason(tasks: list[tuple[tuple[str, str], TaskCounters]]) -> Iterator[Metric]:
    lags = GaugeMetricFamily(
        "headrace_sink_partition_lag",
        "Records in Kafka that are not durable in the target yet: log end minus position",
        labels=(*_LABELS, "topic", "partition"),
    )
    reasons = CounterMetricFamily(
        "headrace_sink_bad_records", "Bad records by why they are bad", labels=(*_LABELS, "reason")
    )
    for labels, counters in tasks:
        for partition, lag in counters.partition_lags.items():
            lags.add_metric((*labels, partition.stream, str(partition.partition)), lag)
        for reason, count in sorted(counters.bad_records.copy().items()):
            reasons.add_metric((*labels, reason), count)
    yield lags
    yield reasons


def _freshness(tasks: list[tuple[tuple[str, str], TaskCounters]]) -> Metric:
    histogram = HistogramMetricFamily(
        "headrace_sink_freshness_seconds",
        "From a record's timestamp to its point being searchable",
        labels=_LABELS,
    )
    bounds = [*(str(bound) for bound in FRESHNESS_BOUNDS_S), "+Inf"]
    for labels, counters in tasks:
        freshness = counters.freshness
        buckets = list(zip(bounds, accumulate(map(float, freshness.counts)), strict=True))
        histogram.add_metric(labels, buckets, freshness.total_s)
    return histogram
