"""Which Kafka cluster does a worker belong to?"""

from __future__ import annotations

from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from headrace.sink.client_settings import ClientSettings, admin_settings
from headrace.sink.config import ConnectorConfig
from headrace.sink.errors import ConfigError
from headrace.sink.worker.worker import Worker

_TIMEOUT_S: Final = 2.0


def cluster_id(worker: Worker) -> str | None:
    """The id of the worker's cluster, else of its first connector's; None if none answers."""
    settings = _client_settings(worker)
    if settings is None:
        return None
    try:
        found: str | None = AdminClient(dict(settings)).list_topics(timeout=_TIMEOUT_S).cluster_id
    except KafkaException:
        return None
    return found


def _client_settings(worker: Worker) -> ClientSettings | None:
    of_the_worker = worker.effective({"name": "worker", "topics": "none"})
    for config in (of_the_worker, *worker.effective_configs()):
        try:
            return admin_settings(ConnectorConfig.from_mapping(config).consumer_settings(0))
        except ConfigError:
            continue
    return None
