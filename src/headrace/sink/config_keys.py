"""Which configuration keys act, and which are refused?

A key in neither table is one that Kafka Connect would ignore, too.
"""

from __future__ import annotations

from typing import Final

# Every key that acts, but for those that begin like
# `consumer.override.*`, `producer.override.*`, `transforms.*` and `predicates.*`.
SUPPORTED_KEYS: Final = frozenset(
    [
        "name",
        "connector.class",
        "tasks.max",
        "topics",
        "topics.regex",
        "bootstrap.servers",
        "group.instance.id",
        "key.converter",
        "key.converter.schemas.enable",
        "key.converter.schema.registry.url",
        "key.converter.basic.auth.credentials.source",
        "key.converter.basic.auth.user.info",
        "value.converter",
        "value.converter.schemas.enable",
        "value.converter.schema.registry.url",
        "value.converter.basic.auth.credentials.source",
        "value.converter.basic.auth.user.info",
        "header.converter",
        "header.converter.schemas.enable",
        "transforms",
        "predicates",
        "qdrant.grpc.url",
        "qdrant.rest.url",
        "qdrant.api.key",
        "qdrant.collection.name",
        "qdrant.request.timeout.ms",
        "collection.name.format",
        "topic.to.collection",
        "id.field",
        "id.from",
        "vector.field",
        "vector.from.text",
        "vector.from.text.model",
        "vector.from.text.vector",
        "vector.from.text.options",
        "payload.fields",
        "payload.metadata",
        "payload.metadata.field",
        "write.method",
        "version.field",
        "version.from",
        "collection.auto.create",
        "collection.auto.create.distance",
        "collection.auto.create.on.disk",
        "batch.size",
        "batch.bytes",
        "linger.ms",
        "max.in.flight.requests",
        "retry.timeout.ms",
        "retry.backoff.ms",
        "retry.backoff.max.ms",
        "errors.tolerance",
        "errors.deadletterqueue.topic.name",
        "errors.deadletterqueue.context.headers.enable",
        "errors.deadletterqueue.topic.replication.factor",
        "errors.log.enable",
        "errors.log.include.messages",
        "offset.flush.interval.ms",
    ]
)

# Keys that people may rightly expect to act, and that do not: to ignore one would change
# what is written where, or how.
REFUSED_KEYS: Final = frozenset(
    [
        "group.id",
        "listeners",
    ]
)
# Keys of Kafka Connect that change nothing of what is written, with what acts in their place.
_WITHOUT_EFFECT: Final = {
    "errors.retry.timeout": "retry.timeout.ms says how long is tried again",
    "errors.retry.delay.max.ms": "retry.backoff.max.ms says how long is waited at most",
    "config.action.reload": "secrets are read whenever a connector starts",
}
# What converters are told about writing, and about how they keep schemas.
_CONVERTER_WITHOUT_EFFECT: Final = frozenset(
    [
        "schemas.cache.size",
        "schemas.cache.config",
        "decimal.format",
        "auto.register.schemas",
        "use.latest.version",
        "latest.compatibility.strict",
        "key.subject.name.strategy",
        "value.subject.name.strategy",
        "enhanced.avro.schema.support",
        "connect.meta.data",
    ]
)
REFUSED_PREFIXES: Final = (
    "header.converter.", "key.converter.", "value.converter.",
    "qdrant.", "errors.", "collection.", "batch.", "retry.", "topics.", "rest.",
    "payload.", "version.", "vector.", "id.",
    "consumer.", "producer.", "admin.", "security.", "sasl.", "ssl.",
)  # fmt: skip


def without_effect(key: str) -> str | None:
    """Why a key of Kafka Connect has no effect here; None if that is not known of it."""
    for part in ("key.converter.", "value.converter.", "header.converter."):
        if key.startswith(part) and key.removeprefix(part) in _CONVERTER_WITHOUT_EFFECT:
            return "it is about writing, or about a cache"
    return _WITHOUT_EFFECT.get(key)
