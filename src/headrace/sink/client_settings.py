"""Which settings of the Kafka clients may a connector's configuration change?

`consumer.override.*` and `producer.override.*` go through to librdkafka by allow-list:
nothing that loads code, runs a command, or would break what the sink promises.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from headrace.sink.errors import ConfigError
from headrace.sink.jaas import JAAS, jaas_settings
from headrace.sink.placeholders import has_placeholder, resolve

ClientSettings = dict[str, str | int | bool]

CONSUMER_PREFIX: Final = "consumer.override."
PRODUCER_PREFIX: Final = "producer.override."

_CONNECTION: Final = frozenset(
    [
        "bootstrap.servers",
        "client.id",
        "client.rack",
        "client.dns.lookup",
        "broker.address.family",
        "broker.address.ttl",
        "connections.max.idle.ms",
        "api.version.request.timeout.ms",
        "metadata.max.age.ms",
        "topic.metadata.refresh.interval.ms",
        "topic.metadata.refresh.fast.interval.ms",
        "metadata.recovery.strategy",
        "metadata.recovery.rebootstrap.trigger.ms",
        "message.max.bytes",
        "receive.message.max.bytes",
        "reconnect.backoff.ms",
        "reconnect.backoff.max.ms",
        "retry.backoff.ms",
        "retry.backoff.max.ms",
        "socket.timeout.ms",
        "socket.connection.setup.timeout.ms",
        "socket.keepalive.enable",
        "socket.nagle.disable",
        "socket.send.buffer.bytes",
        "socket.receive.buffer.bytes",
        "security.protocol",
        "sasl.mechanism",
        "sasl.mechanisms",
        "sasl.username",
        "sasl.password",
        "sasl.oauthbearer.method",
        "sasl.oauthbearer.client.id",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.scope",
        "sasl.oauthbearer.extensions",
        "sasl.oauthbearer.token.endpoint.url",
        "ssl.ca.location",
        "ssl.ca.pem",
        "ssl.certificate.location",
        "ssl.certificate.pem",
        "ssl.key.location",
        "ssl.key.pem",
        "ssl.key.password",
        "ssl.keystore.location",
        "ssl.keystore.password",
        "ssl.crl.location",
        "ssl.cipher.suites",
        "ssl.curves.list",
        "ssl.sigalgs.list",
        "ssl.endpoint.identification.algorithm",
        "enable.ssl.certificate.verification",
        "https.ca.location",
        "https.ca.pem",
    ]
)
_CONSUMER: Final = _CONNECTION | frozenset(
    [
        "auto.offset.reset",
        "isolation.level",
        "group.instance.id",
        "session.timeout.ms",
        "heartbeat.interval.ms",
        "max.poll.interval.ms",
        "fetch.wait.max.ms",
        "fetch.min.bytes",
        "fetch.max.bytes",
        "max.partition.fetch.bytes",
        "fetch.message.max.bytes",
        "fetch.error.backoff.ms",
        "fetch.queue.backoff.ms",
        "queued.min.messages",
        "queued.max.messages.kbytes",
        "check.crcs",
    ]
)
_PRODUCER: Final = _CONNECTION | frozenset(
    [
        "enable.idempotence",
        "compression.type",
        "compression.level",
        "delivery.timeout.ms",
        "message.timeout.ms",
        "request.timeout.ms",
        "linger.ms",
        "queue.buffering.max.ms",
        "batch.size",
        "batch.num.messages",
        "max.in.flight.requests.per.connection",
    ]
)

# Java's spellings of settings that librdkafka calls otherwise.
_JAVA_NAMES: Final = {"fetch.max.wait.ms": "fetch.wait.max.ms"}

# Java's settings that have no meaning here, and what to write instead.
_INSTEAD: Final = {
    "ssl.truststore.location": "give ssl.ca.location, a PEM file",
    "ssl.truststore.password": "give ssl.ca.location, a PEM file",
    "ssl.truststore.type": "give ssl.ca.location, a PEM file",
    "max.poll.records": "set batch.size",
    "acks": "a dead letter is always acknowledged by all replicas",
    "group.id": "the consumer group is always connect-<name>",
    "enable.auto.commit": "offsets are committed once their records are durable",
    "partition.assignment.strategy": "it is always cooperative-sticky",
}

# What an administration client needs of a producer's settings, and nothing else.
_ADMIN_PREFIXES: Final = ("bootstrap.", "security.", "sasl.", "ssl.", "https.", "enable.ssl.")

# The keys of a worker's file that say how the worker itself reaches Kafka.
WORKER_CONNECTION_KEYS: Final = frozenset(
    key for key in (JAAS, *_CONNECTION) if key.startswith(_ADMIN_PREFIXES)
)


def consumer_overrides(config: Mapping[str, str]) -> dict[str, str]:
    """The consumer settings of a configuration, by librdkafka's names.

    Raises:
        ConfigError: a setting that is not on the allow-list.
    """
    return _overrides(config, CONSUMER_PREFIX, _CONSUMER)


def producer_overrides(config: Mapping[str, str]) -> dict[str, str]:
    """The producer settings of a configuration, by librdkafka's names.

    Raises:
        ConfigError: a setting that is not on the allow-list.
    """
    return _overrides(config, PRODUCER_PREFIX, _PRODUCER)


def filled_in(prefix: str, overrides: Mapping[str, str]) -> dict[str, str]:
    """Overrides with their placeholders filled in, for librdkafka: not to be shown.

    Raises:
        ConfigError: a placeholder cannot be filled in, or what it stands for is wrong.
    """
    settings = {name: resolve(prefix + name, text) for name, text in overrides.items()}
    jaas = settings.pop(JAAS, None)
    if jaas is not None:
        settings = {**jaas_settings(prefix + JAAS, jaas), **settings}
    return settings


def is_worker_setting(key: str) -> bool:
    """Whether `worker_settings` looks at a key of a worker's file."""
    return key in WORKER_CONNECTION_KEYS or (key.startswith(_ADMIN_PREFIXES) and key in _INSTEAD)


def worker_settings(properties: Mapping[str, str]) -> dict[str, str]:
    """What a worker's file says of its own connections to Kafka, by librdkafka's names.

    Raises:
        ConfigError: a setting that only Java's clients understand.
    """
    connection = {key: value for key, value in properties.items() if is_worker_setting(key)}
    return _overrides(connection, "", _CONNECTION)


def admin_settings(producer_settings: ClientSettings) -> ClientSettings:
    """The settings with which to make topics where a producer writes."""
    return {
        name: value for name, value in producer_settings.items() if name.startswith(_ADMIN_PREFIXES)
    }


def _overrides(config: Mapping[str, str], prefix: str, allowed: frozenset[str]) -> dict[str, str]:
    overrides: dict[str, str] = {}
    for key, value in config.items():
        if not key.startswith(prefix):
            continue
        name = key.removeprefix(prefix)
        if name == JAAS:
            # One that is to be filled in is read once it is.
            if not has_placeholder(value):
                jaas_settings(key, value)
            overrides[name] = value
            continue
        if name in _INSTEAD:
            raise ConfigError(key, f"cannot be set: {_INSTEAD[name]}")
        name = _JAVA_NAMES.get(name, name)
        if name not in allowed:
            raise ConfigError(key, "is not a client setting that a connector may change")
        overrides[name] = value
    return overrides
