"""What would a connector write, and what would it refuse? Nothing is written or committed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from confluent_kafka import (
    OFFSET_BEGINNING,
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from headrace.model.errors import ErrorCode, HeadraceError, Unavailable
from headrace.model.names import collection_name_problems
from headrace.model.operations import SourcePartition
from headrace.sink.batch import Batch, KafkaRecord, decode_batch, fold
from headrace.sink.changes import Upsert
from headrace.sink.config import ConnectorConfig
from headrace.sink.decode import RecordDecoder
from headrace.sink.embedding import Embedder
from headrace.sink.target import Target
from headrace.sink.topics import error_text

logger = logging.getLogger(__name__)

_REQUEST_TIMEOUT_S: Final = 10.0
_SILENCE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class WouldRefuse:
    """A record that would be refused, and why."""

    topic: str
    partition: int
    kafka_offset: int
    reason: str


@dataclass(slots=True)
class WouldWrite:
    """What a collection would get.

    Attributes:
        upserts: points put, after records of one point are folded into the last.
        deletes: points deleted, likewise.
        updates: points of which a part changes: merged, or some vectors or payload keys.
        is_there: whether the collection is; None if no target was asked.
    """

    upserts: int = 0
    deletes: int = 0
    updates: int = 0
    is_there: bool | None = None


@dataclass(slots=True)
class DryRun:
    """What some records would come to.

    Attributes:
        records_read: how many were looked at.
        collections: by name.
        refused: in the order they were read, and then those the target would refuse.
    """

    records_read: int = 0
    collections: dict[str, WouldWrite] = field(default_factory=dict)
    refused: list[WouldRefuse] = field(default_factory=list)


def dry_run(config: ConnectorConfig, target: Target | None, records_max: int) -> DryRun:
    """Look at the records that a connector would read next.

    Args:
        config: the connector's.
        target: is asked what its collections admit; None leaves that out.
        records_max: how many records at most.

    Raises:
        Unavailable: Kafka or the target does not answer.
    """
    try:
        kafka_records = list(_next_records(config, records_max))
    except KafkaException as error:
        raise Unavailable(f"Kafka does not answer: {error_text(error)}") from error
    batch = decode_batch(kafka_records, RecordDecoder.of(config))
    # Tells why, if a schema registry did not answer.
    batch.decode_rest()
    embedder = Embedder(config.shape.text)
    while embedder.embed_some(batch):
        pass
    result = DryRun(len(kafka_records))
    for refusal in batch.refusals:
        result.refused.append(_refused(refusal.kafka_record, refusal.error.message))
    _look_at_collections(batch, target, config.auto_create is not None, result)
    return result


def _look_at_collections(
    batch: Batch, target: Target | None, is_made: bool, result: DryRun
) -> None:
    for name, entries in batch.entries.items():
        problems = collection_name_problems(name, new=is_made)
        if problems:
            result.refused += [_refused(one.kafka_record, problems[0]) for one in entries]
            continue
        would = result.collections[name] = WouldWrite()
        upserts = [one for one in entries if isinstance(one.change, Upsert)]
        points = [one.change.point for one in upserts if isinstance(one.change, Upsert)]
        bad: set[int] = set()
        if target is not None:
            try:
                errors = target.refusals(name, points)
                would.is_there = True
            except HeadraceError as error:
                if error.code is not ErrorCode.NOT_FOUND:
                    raise
                errors, would.is_there = [None] * len(points), False
            for entry, why in zip(upserts, errors, strict=True):
                if why is not None:
                    bad.add(id(entry))
                    result.refused.append(_refused(entry.kafka_record, why.message))
        folded = fold([one for one in entries if id(one) not in bad])
        would.upserts, would.deletes = len(folded.upserts), len(folded.deletes)
        would.updates = len(folded.patches)


def _refused(kafka_record: KafkaRecord, reason: str) -> WouldRefuse:
    partition = kafka_record.partition
    return WouldRefuse(partition.stream, partition.partition, kafka_record.kafka_offset, reason)


def _next_records(config: ConnectorConfig, records_max: int) -> Iterator[KafkaRecord]:
    """The next records after what the connector's group has committed, without joining it."""
    settings = config.consumer_settings(0)
    settings["auto.offset.reset"] = "earliest"
    settings.pop("group.instance.id", None)
    consumer = Consumer(settings, logger=logger)
    try:
        ends = _starts_into(consumer, config)
        deadline = time.monotonic() + _SILENCE_S
        found = 0
        while ends and found < records_max and time.monotonic() < deadline:
            for message in consumer.consume(min(500, records_max - found), 0.2):
                error = message.error()
                at = (str(message.topic()), int(message.partition() or 0))
                if error is not None:
                    if error.code() == KafkaError._PARTITION_EOF:
                        ends.discard(at)
                    continue
                deadline = time.monotonic() + _SILENCE_S
                found += 1
                yield _kafka_record(message, SourcePartition(config.source, *at))
        if ends and not found:
            raise Unavailable(f"Kafka gave no record for {_SILENCE_S:g} s")
    finally:
        consumer.close()


def _starts_into(consumer: Consumer, config: ConnectorConfig) -> set[tuple[str, int]]:
    """Assign the partitions from where the connector reads on; returns them."""
    metadata = consumer.list_topics(timeout=_REQUEST_TIMEOUT_S)
    names = [name for name in metadata.topics if config.reads(name)]
    asked = [
        TopicPartition(name, number)
        for name in names
        for number in metadata.topics[name].partitions
    ]
    if not asked:
        named = ", ".join(config.topics) or config.raw.get("topics.regex", "")
        raise Unavailable(f"The cluster has no topic of the connector's: {named}")
    committed = consumer.committed(asked, _REQUEST_TIMEOUT_S)
    for one in committed:
        one.offset = one.offset if one.offset >= 0 else OFFSET_BEGINNING
    consumer.assign(committed)
    return {(one.topic, one.partition) for one in committed}


def _kafka_record(message: Message, partition: SourcePartition) -> KafkaRecord:
    kind, timestamp_ms = message.timestamp()
    return KafkaRecord(
        partition,
        int(message.offset() or 0),
        message.key(),
        message.value(),
        list(message.headers() or []),  # type: ignore[arg-type]
        None if kind == TIMESTAMP_NOT_AVAILABLE else timestamp_ms,
    )
