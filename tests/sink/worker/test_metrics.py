"""What Prometheus is told of tasks in states that are hard to come by."""

from __future__ import annotations

from types import SimpleNamespace

from prometheus_client import CollectorRegistry

from headrace.sink.progress import TaskCounters
from headrace.sink.worker.metrics import SinkCollector


def test_the_size_of_requests_and_replaced_consumers_are_told_by_task() -> None:
    slow, fast = TaskCounters(request_points_max=50), TaskCounters(request_points_max=1_000)
    fast.add(consumers_abandoned=2)
    worker = SimpleNamespace(running=lambda: [("a", [slow, fast], None)])
    registry = CollectorRegistry()
    registry.register(SinkCollector(worker))  # type: ignore[arg-type]
    told = [
        (
            registry.get_sample_value("headrace_sink_request_points_max", labels),
            registry.get_sample_value("headrace_sink_consumers_abandoned_total", labels),
        )
        for labels in ({"connector": "a", "task": "0"}, {"connector": "a", "task": "1"})
    ]
    assert told == [(50, 0), (1_000, 2)]
