"""How fast do Kafka record values become searchable points, Kafka itself left out?

Headrace's side is the sink's own: decode the bytes of a batch, write it with its source
offsets in one synced log record. The rival's side is the shortest Python that does the
same work: parse the JSON, make points, upsert them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import orjson
import qdrant_edge as edge

from benchmarks.data import Dataset
from benchmarks.results import Figure
from benchmarks.stores import COLLECTION_NAME, EdgeStore, HeadraceStore
from headrace.model.operations import SourcePartition
from headrace.sink.batch import KafkaRecord, decode_batch
from headrace.sink.config import ConnectorConfig
from headrace.sink.decode import RecordDecoder
from headrace.sink.progress import TaskCounters
from headrace.sink.target import EmbeddedTarget
from headrace.sink.writer import BatchWriter

_CONFIG = ConnectorConfig.from_mapping(
    {"name": "bench", "topics": "bench", "bootstrap.servers": "no-broker-is-asked"}
)
_T = TypeVar("_T")
_PARTITION = SourcePartition(_CONFIG.source, "bench", 0)


def compare_ingest(dataset: Dataset, folder: Path) -> Figure:
    """Take the same record values into both engines, in the sink's default batches.

    Args:
        dataset: its points become the records.
        folder: an empty folder on the disk that is to be measured.
    """
    dim = dataset.vectors.shape[1]
    values = make_record_values(dataset)
    with HeadraceStore(folder / "headrace-ingest", dim) as headrace_store:
        ours_s = ingest_headrace(headrace_store, values)
        assert headrace_store.points_count() == len(values)
    with EdgeStore(folder / "edge-ingest", dim) as edge_store:
        theirs_s = ingest_edge(edge_store, values)
        assert edge_store.points_count() == len(values)
    return Figure(
        what=f"record values to searchable points, JSON, {_CONFIG.batch.records_max} a batch, "
        "synced, without Kafka",
        ratio=theirs_s / ours_s,
        target=None,
        better="higher",
        unit="records/s",
        headrace=len(values) / ours_s,
        rival=len(values) / theirs_s,
        rival_name=f"orjson and {EdgeStore.name}, not synced",
    )


def make_record_values(dataset: Dataset) -> list[bytes]:
    """Each point as a connector's record value."""
    return [
        orjson.dumps(
            {
                "collection_name": COLLECTION_NAME,
                "id": point_id,
                "vector": vector,
                "payload": payload,
            },
            option=orjson.OPT_SERIALIZE_NUMPY,
        )
        for point_id, vector, payload in zip(
            dataset.ids, dataset.vectors, dataset.payloads, strict=True
        )
    ]


def ingest_headrace(store: HeadraceStore, values: list[bytes]) -> float:
    """Seconds until all values are durable and searchable."""
    decoder = RecordDecoder(_CONFIG.value_converter, _CONFIG.key_converter)
    writer = BatchWriter(
        _CONFIG,
        EmbeddedTarget(store.service),
        dead_letters=None,
        counters=TaskCounters(),
        log_end=lambda partition: None,
        is_interrupted=lambda: False,
    )
    kafka_records = [
        KafkaRecord(_PARTITION, kafka_offset, kafka_key=None, kafka_value=value)
        for kafka_offset, value in enumerate(values)
    ]
    started = time.perf_counter()
    for batch in _batches(kafka_records):
        writer.write(decode_batch(batch, decoder))
    return time.perf_counter() - started


def ingest_edge(store: EdgeStore, values: list[bytes]) -> float:
    """Seconds until all values are searchable."""
    started = time.perf_counter()
    for batch in _batches(values):
        documents = map(orjson.loads, batch)
        store.upsert_points(
            [edge.Point(one["id"], one["vector"], one["payload"]) for one in documents]
        )
    return time.perf_counter() - started


def _batches(items: list[_T]) -> Iterator[list[_T]]:
    for start in range(0, len(items), _CONFIG.batch.records_max):
        yield items[start : start + _CONFIG.batch.records_max]
