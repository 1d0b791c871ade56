"""Where does a connector read on, and how is that changed while it is stopped?

For a connector into the store of this process the store's own positions count, and what
its collections have taken of each partition; Kafka's committed offsets follow them, so
that Kafka's tools show the same. For one into a server elsewhere Kafka's count alone.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from headrace.model.errors import Unavailable
from headrace.model.operations import SourcePartition
from headrace.service.service import Service
from headrace.sink.client_settings import admin_settings
from headrace.sink.config import ConnectorConfig
from headrace.sink.worker.errors import BadWorkerRequest

logger = logging.getLogger(__name__)

_REQUEST_TIMEOUT_S: Final = 10.0

# By topic and partition, the offset of the next record to read.
Offsets = Mapping[tuple[str, int], int]


class GroupInUse(Unavailable):
    """The consumer group still has members, so that Kafka lets nobody change its offsets."""


def read_offsets(config: ConnectorConfig, service: Service | None) -> Offsets:
    """Where a connector reads on, in each partition that it has read.

    Raises:
        Unavailable: Kafka does not answer.
    """
    if config.is_embedded and service is not None:
        positions = service.source_positions(config.source)
        return {(one.stream, one.partition): at for one, at in positions.items()}
    return _committed(_admin(config), config.source)


def change_offsets(
    config: ConnectorConfig,
    service: Service | None,
    changes: Mapping[tuple[str, int], int | None],
) -> None:
    """Make a connector, whose tasks have all ended, read on elsewhere.

    Args:
        config: the connector's.
        service: the store of this process, if it has one.
        changes: the next offset to read; None makes the partition one that was never read.

    Raises:
        BadWorkerRequest: Kafka has no such partition; nothing was changed.
        GroupInUse: somebody is still, or again, a member of the consumer group.
        Unavailable: Kafka does not answer; nothing, or not everything, was changed.
        NoSpace, StorageFailed: the store could not be written; call again.
    """
    admin = _admin(config)
    _change_committed(admin, config.source, changes)
    if config.is_embedded and service is not None:
        service.move_source(
            {
                SourcePartition(config.source, topic, partition): at
                for (topic, partition), at in changes.items()
            }
        )


def _change_committed(
    admin: AdminClient, group: str, changes: Mapping[tuple[str, int], int | None]
) -> None:
    given = {one: at for one, at in changes.items() if at is not None}
    _check_there(admin, group, given)
    if len(given) < len(changes):
        # The client has no call that forgets single partitions: the group goes as a whole,
        # and what is to stay is committed again.
        kept = {one: at for one, at in _committed(admin, group).items() if one not in changes}
        _delete_group(admin, group)
        given = kept | given
    if not given:
        return
    asked = ConsumerGroupTopicPartitions(
        group, [TopicPartition(topic, number, at) for (topic, number), at in given.items()]
    )
    try:
        answer = admin.alter_consumer_group_offsets([asked], request_timeout=_REQUEST_TIMEOUT_S)
        for one in answer[group].result().topic_partitions:
            if one.error is not None:
                raise KafkaException(one.error)
    except KafkaException as error:
        raise _translated(error, group) from error


def _check_there(admin: AdminClient, group: str, asked: Offsets) -> None:
    """Make sure that Kafka has these partitions, before anything is changed.

    Raises:
        BadWorkerRequest: it has not.
        Unavailable: it does not answer.
    """
    if not asked:
        return
    try:
        topics = admin.list_topics(timeout=_REQUEST_TIMEOUT_S).topics
    except KafkaException as error:
        raise _translated(error, group) from error
    for topic, number in asked:
        if topic not in topics:
            raise BadWorkerRequest(f"The cluster has no topic '{topic}'")
        if number not in topics[topic].partitions:
            raise BadWorkerRequest(f"Topic '{topic}' has no partition {number}")


def _delete_group(admin: AdminClient, group: str) -> None:
    try:
        admin.delete_consumer_groups([group], request_timeout=_REQUEST_TIMEOUT_S)[group].result()
    except KafkaException as error:
        if error.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
            raise _translated(error, group) from error


def _committed(admin: AdminClient, group: str) -> dict[tuple[str, int], int]:
    asked = ConsumerGroupTopicPartitions(group)
    try:
        answer = admin.list_consumer_group_offsets([asked], request_timeout=_REQUEST_TIMEOUT_S)
        found = answer[group].result().topic_partitions
    except KafkaException as error:
        if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
            return {}
        raise _translated(error, group) from error
    return {(one.topic, one.partition): one.offset for one in found or [] if one.offset >= 0}


def _admin(config: ConnectorConfig) -> AdminClient:
    return AdminClient(dict(admin_settings(config.consumer_settings(0))), logger=logger)


def _translated(error: KafkaException, group: str) -> Unavailable:
    cause: KafkaError = error.args[0]
    if cause.code() in (KafkaError.NON_EMPTY_GROUP, KafkaError.UNKNOWN_MEMBER_ID):
        return GroupInUse(
            f"Kafka does not let the offsets of consumer group {group} be changed: it has members "
            "still. Either its tasks have not left it yet, those with a group.instance.id do so "
            "session.timeout.ms after they have stopped, or another worker runs the connector"
        )
    return Unavailable(f"Kafka does not answer for consumer group {group}: {cause.str()}")
