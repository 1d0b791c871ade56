"""Which metrics does Prometheus scrape?

Names and labels are Qdrant's, so that its dashboards work; ours begin with `headrace_`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from headrace.model.errors import NotFound
from headrace.server.node import QDRANT_API_VERSION, Node
from headrace.server.requests_log import (
    DURATION_BOUNDS_S,
    Durations,
    Endpoint,
    Protocol,
    is_failure,
)
from headrace.service.quotas import resident_bytes
from headrace.service.service import Service

_ANONYMOUS_HEX_DIGITS = 16


def metrics_text(
    service: Service, node: Node, per_collection: bool = False, anonymize: bool = False
) -> str:
    """All metrics, in Prometheus's text format.

    Args:
        service: the store.
        node: what was answered.
        per_collection: whether requests are counted for each collection.
        anonymize: whether collections are told by a hash of their names.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_NodeCollector(service, node, per_collection, anonymize))
    ProcessCollector(registry=registry)
    return generate_latest(registry).decode()


def anonymous(name: str) -> str:
    """What stands for a name that is not to be told."""
    return sha256(name.encode()).hexdigest()[:_ANONYMOUS_HEX_DIGITS]


class _NodeCollector(Collector):
    def __init__(self, service: Service, node: Node, per_collection: bool, anonymize: bool) -> None:
        self._service = service
        self._node = node
        self._per_collection = per_collection
        self._anonymize = anonymize

    def collect(self) -> Iterator[Metric]:
        yield _gauge(
            "app_info",
            "information about qdrant server",
            [({"name": "qdrant", "version": QDRANT_API_VERSION}, 1)],
        )
        yield _gauge("app_status_recovery_mode", "is running in recovery mode", [({}, 0)])
        yield from self._collections()
        yield _gauge("cluster_enabled", "is cluster support enabled", [({}, 0)])
        for protocol in Protocol:
            yield from self._responses(protocol)
        resident = resident_bytes()
        if resident is not None:
            yield _gauge(
                "memory_resident_bytes",
                "Maximum number of bytes in physically resident data pages mapped",
                [({}, resident)],
            )
        yield _gauge(
            "headrace_requests_running",
            "Requests that are being answered now",
            [({}, self._node.requests_log.running)],
        )

    def _collections(self) -> Iterator[Metric]:
        counts = self._service.points_counts()
        yield _gauge("collections_total", "number of collections", [({}, len(counts))])
        yield _gauge(
            "collection_points",
            "approximate amount of points per collection",
            [({"id": self._shown(name)}, count) for name, count in counts.items()],
        )
        yield from self._vectors(list(counts))
        yield from self._snapshots(list(counts))
        yield from (
            _gauge(name, what, [({}, value)])
            # A collection is one shard of one replica, which answers while its process does.
            for name, what, value in (
                ("collection_active_replicas_min", "least active replicas", min(1, len(counts))),
                ("collection_active_replicas_max", "most active replicas", min(1, len(counts))),
                ("collection_dead_replicas", "replicas that are not active", 0),
            )
        )
        yield _gauge(
            "collection_update_queue_length",
            "writes that were acknowledged and are not visible",
            [({"id": self._shown(name)}, 0) for name in counts],
        )

    def _snapshots(self, names: Iterable[str]) -> Iterator[Metric]:
        found = [
            ({"id": self._shown(name)}, self._service.snapshots.counts(name)) for name in names
        ]
        yield _gauge(
            "snapshot_creation_running",
            "snapshots that are being made",
            [(labels, counts.creating) for labels, counts in found],
        )
        yield _gauge(
            "snapshot_recovery_running",
            "snapshots that are being restored",
            [(labels, counts.recovering) for labels, counts in found],
        )
        created = CounterMetricFamily("snapshot_created", "snapshots made since the start")
        for labels, counts in found:
            created.add_sample("snapshot_created_total", labels, counts.created)
        yield created

    def _vectors(self, names: Iterable[str]) -> Iterator[Metric]:
        vectors, excluded, running = [], [], []
        for collection_name in names:
            shown = self._shown(collection_name)
            try:
                counts = self._service.vector_counts(collection_name)
                graphs = self._service.graph_builds(collection_name).values()
                linking = sum(one.vectors_to_link > 0 for one in graphs)
                parts = len(self._service.payload_index_builds(collection_name))
            except NotFound:  # deleted meanwhile
                continue
            running.append(({"id": shown}, linking + parts))
            for name, one in counts.items():
                vectors.append(({"collection": shown, "vector": name}, one.total))
                excluded.append(({"id": shown, "vector": name}, one.indexed_only_excluded))
        total = sum(count for _, count in vectors)
        yield _gauge("collections_vector_total", "number of vectors", [({}, total)])
        yield _gauge("collection_vectors", "number of vectors by name", vectors)
        yield _gauge(
            "collection_indexed_only_excluded_points",
            "points that a search with `indexed_only` leaves out",
            excluded,
        )
        yield _gauge("collection_running_optimizations", "builds in the background", running)

    def _responses(self, protocol: Protocol) -> Iterator[Metric]:
        found = [
            (self._labels(endpoint), endpoint, durations)
            for endpoint, durations in self._node.requests_log.durations(
                self._per_collection
            ).items()
            if endpoint.protocol is protocol
        ]
        prefix = f"{protocol}_responses"
        total = CounterMetricFamily(prefix, "total number of responses")
        failed = CounterMetricFamily(f"{prefix}_fail", "total number of failed responses")
        histogram = HistogramMetricFamily(
            f"{prefix}_duration_seconds", "response duration histogram"
        )
        for labels, endpoint, durations in found:
            total.add_sample(f"{prefix}_total", labels, durations.count)
            if is_failure(endpoint):
                failed.add_sample(f"{prefix}_fail_total", labels, durations.count)
            _add_histogram_into(histogram, labels, durations)
        yield total
        yield failed
        for name, what, seconds in (
            ("avg", "average", [durations.average_s for _, _, durations in found]),
            ("min", "minimum", [durations.min_s for _, _, durations in found]),
            ("max", "maximum", [durations.max_s for _, _, durations in found]),
        ):
            samples = [
                (labels, value) for (labels, _, _), value in zip(found, seconds, strict=True)
            ]
            yield _gauge(f"{prefix}_{name}_duration_seconds", f"{what} response duration", samples)
        yield histogram

    def _labels(self, endpoint: Endpoint) -> dict[str, str]:
        labels = {"endpoint": endpoint.name, "status": str(endpoint.status)}
        if endpoint.protocol is Protocol.REST:
            method, _, route = endpoint.name.partition(" ")
            labels |= {"method": method, "endpoint": route}
        if self._per_collection:
            labels["collection"] = self._shown(endpoint.collection_name)
        return labels

    def _shown(self, name: str) -> str:
        return anonymous(name) if self._anonymize and name else name


def _gauge(name: str, what: str, samples: Iterable[tuple[dict[str, str], float]]) -> Metric:
    gauge = GaugeMetricFamily(name, what)
    for labels, value in samples:
        gauge.add_sample(name, labels, value)
    return gauge


def _add_histogram_into(
    histogram: HistogramMetricFamily, labels: dict[str, str], durations: Durations
) -> None:
    bounds = [*(str(bound) for bound in DURATION_BOUNDS_S), "+Inf"]
    for bound, count in zip(bounds, accumulate(durations.buckets), strict=True):
        histogram.add_sample(f"{histogram.name}_bucket", {**labels, "le": bound}, count)
    histogram.add_sample(f"{histogram.name}_count", labels, durations.count)
    histogram.add_sample(f"{histogram.name}_sum", labels, durations.total_s)
