"""What does a worker say for its connectors, where they say nothing themselves?

The worker's own file is one of Kafka Connect's (`connect-distributed.properties`). What
it says of clients, converters and offsets holds for each connector; what only a JVM or a
cluster of workers has is named in a warning and otherwise passed over.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from headrace.sink.client_settings import CONSUMER_PREFIX, PRODUCER_PREFIX
from headrace.sink.errors import ConfigError
from headrace.sink.properties import read_properties

logger = logging.getLogger(__name__)

_FOR_CONNECTORS: Final = ("bootstrap.servers", "offset.flush.interval.ms")
_CONVERTERS: Final = ("key.converter", "value.converter")
# The worker's prefix, and the connector's that says the same.
_CLIENTS: Final = {"consumer.": CONSUMER_PREFIX, "producer.": PRODUCER_PREFIX}


@dataclass(frozen=True, slots=True)
class WorkerDefaults:
    """What a worker's file says.

    Attributes:
        settings: keys of a connector, which one that has its own does not take.
        host, port: where its REST API listens (`listeners`); None if it does not say.
    """

    settings: Mapping[str, str] = field(default_factory=dict)
    host: str | None = None
    port: int | None = None


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
    for key, value in properties.items():
        client = next((prefix for prefix in _CLIENTS if key.startswith(prefix)), None)
        if client is not None:
            settings[_CLIENTS[client] + key.removeprefix(client)] = value
        elif key in _FOR_CONNECTORS or key.startswith(_CONVERTERS):
            settings[key] = value
        elif key != "listeners":
            ignored.append(key)
    if ignored:
        logger.warning("%s: has no meaning here and is ignored: %s", path, ", ".join(ignored))
    return WorkerDefaults(settings, *_listener(properties.get("listeners", "")))


def with_defaults(config: Mapping[str, str], defaults: Mapping[str, str]) -> dict[str, str]:
    """A connector's configuration over its worker's; a converter comes whole from one."""
    own_converters = tuple(f"{one}." for one in _CONVERTERS if one in config)
    taken = {
        key: value
        for key, value in defaults.items()
        if not (own_converters and key.startswith(own_converters))
    }
    return {**taken, **config}


def _listener(text: str) -> tuple[str | None, int | None]:
    if not text.strip():
        return None, None
    parts = urlsplit(text.strip())
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if parts.scheme.lower() != "http" or port is None or "," in text:
        raise ConfigError("listeners", f"'{text}' must be one, such as http://127.0.0.1:8083")
    # Connect writes no host for all addresses.
    return host or "0.0.0.0", port
