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
from benchmarks.sides import COLLECTION, EdgeSide, HeadraceSide
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


def compare_ingest(dataset: Dataset, data: str, folder: Path) -> Figure:
    """Take the same record values into both engines, in the sink's default batches.

    Args:
        dataset: its points become the records.
        data: what the figure calls it.
        folder: an empty folder on the disk that is to be measured.
    """
    values = make_record_values(dataset)
    ours = HeadraceSide(folder / "headrace-ingest", dataset.dim, indexes={})
    try:
        ours_s = ingest_headrace(ours, values)
        assert ours.points_count() == len(values)
    finally:
        ours.close()
    theirs = EdgeSide(folder / "edge-ingest", dataset.dim, indexes={})
    try:
        theirs_s = ingest_edge(theirs, values)
        assert theirs.points_count() == len(values)
    finally:
        theirs.close()
    return Figure(
        what=f"record values to searchable points, JSON, {_CONFIG.batch.records_max} a batch, "
        "synced, without Kafka",
        ratio=theirs_s / ours_s,
        target=None,
        better="higher",
        unit="records/s",
        headrace=len(values) / ours_s,
        rival=len(values) / theirs_s,
        rival_name=f"orjson and {EdgeSide.name}, not synced",
        data=data,
    )


def make_record_values(dataset: Dataset, first_id: int = 0) -> list[bytes]:
    """Each point as a connector's record value."""
    return [
        orjson.dumps(
            {
                "collection_name": COLLECTION,
                "id": first_id + point_id,
                "vector": vector,
                "payload": payload,
            },
            option=orjson.OPT_SERIALIZE_NUMPY,
        )
        for point_id, vector, payload in zip(
            dataset.ids, dataset.vectors, dataset.payloads, strict=True
        )
    ]


def ingest_headrace(store: HeadraceSide, values: list[bytes]) -> float:
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


def ingest_edge(store: EdgeSide, values: list[bytes]) -> float:
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
