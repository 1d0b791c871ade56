"""What does a worker say for its connectors, where they say nothing themselves?

The worker's own file is one of Kafka Connect's (`connect-distributed.properties`). What
it says of clients, converters and offsets holds for each connector, and its topics are where
workers share them; what only a JVM has is named in a warning and otherwise passed over.
"""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from headrace.sink.client_settings import (
    CONSUMER_PREFIX,
    PRODUCER_PREFIX,
    ClientSettings,
    filled_in,
    is_worker_setting,
    worker_settings,
)
from headrace.sink.errors import ConfigError
from headrace.sink.properties import read_properties
from headrace.sink.worker.compacted_topic import CompactedTopic
from headrace.sink.worker.shared import SharedConnectors

logger = logging.getLogger(__name__)

_FOR_CONNECTORS: Final = ("bootstrap.servers", "offset.flush.interval.ms")
_CONVERTERS: Final = ("key.converter", "value.converter")
_CONFIG_TOPIC: Final = "config.storage.topic"
_CONFIG_REPLICAS: Final = "config.storage.replication.factor"
_STATUS_TOPIC: Final = "status.storage.topic"
_STATUS_REPLICAS: Final = "status.storage.replication.factor"
_STATUS_PARTITIONS: Final = "status.storage.partitions"
_ADVERTISED_HOST: Final = "rest.advertised.host.name"
_ADVERTISED_PORT: Final = "rest.advertised.port"
# What is read if there is a topic to be shared, beside the settings of the connection.
_SHARING: Final = frozenset(
    {
        _CONFIG_TOPIC,
        _CONFIG_REPLICAS,
        _STATUS_TOPIC,
        _STATUS_REPLICAS,
        _STATUS_PARTITIONS,
        _ADVERTISED_HOST,
        _ADVERTISED_PORT,
    }
)
_LISTENERS: Final = "listeners"
# Every key that acts, beside those that begin like `consumer.*`, `producer.*` or a converter,
# and the settings of the connection.
WORKER_KEYS: Final = frozenset({_LISTENERS, *_FOR_CONNECTORS, *_CONVERTERS, *_SHARING})
# What librdkafka takes for a topic that is to be made.
_REPLICAS_MAX: Final = 10_000
_PARTITIONS_MAX: Final = 100_000
# The worker's prefix, and the connector's that says the same.
_CLIENTS: Final = {"consumer.": CONSUMER_PREFIX, "producer.": PRODUCER_PREFIX}


@dataclass(frozen=True, slots=True)
class Sharing:
    """The topics that workers share, and how this one reaches and calls itself there.

    Attributes:
        client_settings: of the connection to Kafka, as configured: placeholders and all.
        status_topic: None for the topic of the configurations.
        advertised_host, advertised_port: what others call it; None if the file does not say.
    """

    client_settings: Mapping[str, str]
    config_topic: str
    config_replicas: int
    status_topic: str | None
    status_replicas: int
    status_partitions: int
    advertised_host: str | None = None
    advertised_port: int | None = None

    def connect(self) -> SharedConnectors:
        """The connectors of these topics.

        Raises:
            ConfigError: a placeholder cannot be filled in.
        """
        settings: ClientSettings = {**filled_in("", self.client_settings)}
        configs = CompactedTopic(self.config_topic, settings, self.config_replicas, 1)
        if self.status_topic is None:
            return SharedConnectors(configs)
        statuses = CompactedTopic(
            self.status_topic, settings, self.status_replicas, self.status_partitions
        )
        return SharedConnectors(configs, statuses)

    def worker_id(self, port: int) -> str:
        """What the others call this worker, whose REST API listens on this port."""
        return f"{self.advertised_host or socket.gethostname()}:{self.advertised_port or port}"


@dataclass(frozen=True, slots=True)
class WorkerDefaults:
    """What a worker's file says.

    Attributes:
        settings: keys of a connector, which one that has its own does not take.
        host, port: where its REST API listens (`listeners`); None if it does not say.
        sharing: None if it shares its connectors with nobody.
    """

    settings: Mapping[str, str] = field(default_factory=dict)
    host: str | None = None
    port: int | None = None
    sharing: Sharing | None = None


def read_worker_file(path: Path) -> WorkerDefaults:
    """Read a worker's `.properties` file.

    Raises:
        ConfigError: it cannot be read, or its listener is none that can be served.
    """
    try:
        properties = read_properties(path.read_bytes())
    except OSError as error:
        raise ConfigError("", f"{path} cannot be read: {error.strerror}") from None
    settings: dict[str, str] = {}
    ignored: list[str] = []
    is_shared = bool(properties.get(_CONFIG_TOPIC, "").strip())
    for key, value in properties.items():
        client = next((prefix for prefix in _CLIENTS if key.startswith(prefix)), None)
        if client is not None:
            settings[_CLIENTS[client] + key.removeprefix(client)] = value
        elif key in _FOR_CONNECTORS or key.startswith(_CONVERTERS):
            settings[key] = value
        elif key != _LISTENERS and not (is_shared and _is_of_sharing(key)):
            ignored.append(key)
    if ignored:
        logger.warning("%s: has no meaning here and is ignored: %s", path, ", ".join(ignored))
    listener = _listener(properties.get(_LISTENERS, ""))
    return WorkerDefaults(settings, *listener, _sharing(properties) if is_shared else None)


def with_defaults(config: Mapping[str, str], defaults: Mapping[str, str]) -> dict[str, str]:
    """A connector's configuration over its worker's; a converter comes whole from one."""
    own_converters = tuple(f"{one}." for one in _CONVERTERS if one in config)
    taken = {
        key: value
        for key, value in defaults.items()
        if not (own_converters and key.startswith(own_converters))
    }
    return {**taken, **config}


def _is_of_sharing(key: str) -> bool:
    return key in _SHARING or is_worker_setting(key)


def _sharing(properties: Mapping[str, str]) -> Sharing:
    if not properties.get("bootstrap.servers", "").strip():
        raise ConfigError("bootstrap.servers", f"is required with {_CONFIG_TOPIC}")
    return Sharing(
        worker_settings(properties),
        properties[_CONFIG_TOPIC].strip(),
        _number_or_default(properties, _CONFIG_REPLICAS, 3, _REPLICAS_MAX),
        properties.get(_STATUS_TOPIC, "").strip() or None,
        _number_or_default(properties, _STATUS_REPLICAS, 3, _REPLICAS_MAX),
        _number_or_default(properties, _STATUS_PARTITIONS, 5, _PARTITIONS_MAX),
        properties.get(_ADVERTISED_HOST, "").strip() or None,
        _port(properties.get(_ADVERTISED_PORT, "").strip()),
    )


def _number_or_default(properties: Mapping[str, str], key: str, default: int, at_most: int) -> int:
    """A number from 1 on, or -1 for the cluster's own default."""
    text = properties.get(key, str(default)).strip()
    if text == "-1" or (re.fullmatch(r"[0-9]{1,6}", text) and 1 <= int(text) <= at_most):
        return int(text)
    raise ConfigError(key, f"'{text}' must be from 1 to {at_most}, or -1 for Kafka's default")


def _port(text: str) -> int | None:
    if not text:
        return None
    if re.fullmatch(r"[0-9]{1,5}", text) and 1 <= int(text) <= 65_535:
        return int(text)
    raise ConfigError(_ADVERTISED_PORT, f"'{text}' must be a port, from 1 to 65535")


def _listener(text: str) -> tuple[str | None, int | None]:
    if not text.strip():
        return None, None
    parts = urlsplit(text.strip())
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if parts.scheme.lower() != "http" or port is None or "," in text:
        raise ConfigError(_LISTENERS, f"'{text}' must be one, such as http://127.0.0.1:8083")
    # Connect writes no host for all addresses.
    return host or "0.0.0.0", port
