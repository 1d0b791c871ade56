"""What is wrong with a connector's configuration, key by key?

First what can be told from the text alone, then, for a validation that is asked for, what
Kafka and the target say now.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException
from confluent_kafka.admin import AdminClient

from headrace.model.errors import ErrorCode, HeadraceError
from headrace.service.inference import model_names
from headrace.service.service import Service
from headrace.sink.client_settings import CONSUMER_PREFIX, PRODUCER_PREFIX, admin_settings
from headrace.sink.config import CONNECTOR_CLASS, ConnectorConfig
from headrace.sink.config_keys import SUPPORTED_KEYS
from headrace.sink.errors import ConfigError
from headrace.sink.placeholders import HIDDEN, shown
from headrace.sink.target import QdrantTarget
from headrace.sink.topics import error_text

_KAFKA_TIMEOUT_S: Final = 5.0

# What stands for a required key that is missing, so that the rest can be checked too.
_STAND_INS: Final = {"name": "name", "bootstrap.servers": "127.0.0.1:9092", "topics": "topic"}
_REQUIRED: Final = ("name", "bootstrap.servers")

_GROUPS: Final = (
    ("Errors", ("errors.",)),
    ("Retries", ("retry.",)),
    ("Batches", ("batch.", "linger.", "offset.flush.")),
    ("Target", ("qdrant.", "collection.", "topic.to.collection")),
    ("Converters", ("key.", "value.", "header.")),
    ("Transforms", ("transforms", "predicates")),
    ("Client Overrides", (CONSUMER_PREFIX, PRODUCER_PREFIX)),
)


def static_errors(config: Mapping[str, str], has_store: bool) -> dict[str, str]:
    """What is wrong with a configuration by itself, by key.

    Args:
        config: with the worker's defaults.
        has_store: whether the worker has a store, so that no server need be named.
    """
    errors = {
        key: "was hidden when it was read: give the value itself, best as a placeholder"
        for key, value in config.items()
        if value == HIDDEN
    }
    checked = dict(config)
    # The reader tells one error at a time: what it tells is mended, and it is asked again.
    for _ in range(2 * len(config) + len(_STAND_INS)):
        try:
            parsed = ConnectorConfig.from_mapping(checked)
        except ConfigError as error:
            errors.setdefault(error.key, error.reason)
            stand_in = _STAND_INS.get(error.key)
            if stand_in is None and error.key in checked:
                del checked[error.key]
                if error.key == "topics.regex":
                    checked.setdefault("topics", _STAND_INS["topics"])
            elif stand_in is not None and checked.get(error.key) != stand_in:
                checked[error.key] = stand_in
                if error.key == "topics":
                    checked.pop("topics.regex", None)
            else:
                break
        else:
            text = parsed.shape.text
            if text is not None and text.model.lower() not in model_names():
                errors["vector.from.text.model"] = (
                    f"'{text.model}' is none of this worker's models, {', '.join(model_names())}: "
                    "the operator names one with --embedding-model"
                )
            if parsed.is_embedded and not has_store and not errors:
                errors["qdrant.grpc.url"] = "is required: this worker has no store of its own"
            break
    return errors


def live_errors(config: ConnectorConfig, service: Service | None) -> dict[str, str]:
    """What Kafka and the target say of a configuration that is right by itself, by key."""
    return {**_kafka_errors(config), **_target_errors(config, service)}


def config_infos(
    config: Mapping[str, str], errors: Mapping[str, str], plugin: str
) -> dict[str, Any]:
    """The answer of Kafka Connect's validation.

    Args:
        config: as it was given.
        errors: by key.
        plugin: the name that was asked for.
    """
    keys = [*definitions(), *(key for key in {**config, **errors} if key not in SUPPORTED_KEYS)]
    configs = []
    for key in keys:
        definition = _definition(key)
        given = config.get(key)
        value = {
            "name": key,
            "value": definition["default_value"] if given is None else shown(key, given),
            "recommended_values": [],
            "errors": [f"{key}: {errors[key]}"] if key in errors else [],
            "visible": True,
        }
        configs.append({"definition": definition, "value": value})
    groups = list(dict.fromkeys(one["definition"]["group"] for one in configs))
    return {"name": plugin, "error_count": len(errors), "groups": groups, "configs": configs}


def definitions() -> dict[str, dict[str, Any]]:
    """Every key of a connector, as Kafka Connect describes one."""
    return {key: _definition(key) for key in sorted(SUPPORTED_KEYS, key=_order)}


def _definition(key: str) -> dict[str, Any]:
    return {
        "name": key,
        "type": _kind(key),
        "required": key in _REQUIRED,
        "default_value": CONNECTOR_CLASS if key == "connector.class" else None,
        "importance": "HIGH" if key in (*_REQUIRED, "topics", "topics.regex") else "MEDIUM",
        "documentation": "See docs/configuration.md",
        "group": _group(key),
        "width": "MEDIUM",
        "display_name": key,
        "dependents": [],
        "order": _order(key)[0],
    }


def _kind(key: str) -> str:
    if shown(key, "text") == HIDDEN:
        return "PASSWORD"
    if key.endswith((".enable", ".create", ".on.disk")):
        return "BOOLEAN"
    if key.endswith((".ms", ".max", ".size", ".bytes", ".factor")):
        return "LONG"
    return "LIST" if key in ("topics", "transforms", "predicates") else "STRING"


def _group(key: str) -> str:
    return next((name for name, prefixes in _GROUPS if key.startswith(prefixes)), "Common")


def _order(key: str) -> tuple[int, str]:
    names = ["Common", *(name for name, _ in _GROUPS)]
    return names.index(_group(key)), key


def _client_errors(config: ConnectorConfig) -> dict[str, str]:
    """What the Kafka client itself finds wrong with its settings."""
    settings = config.consumer_settings(0)
    try:
        Consumer({**settings, "log_level": 0}).close()
    except KafkaException as error:
        text = error_text(error)
        named = next((one for one in settings if f'"{one}"' in text), "")
        key = CONSUMER_PREFIX + named
        return {key if key in config.raw else "bootstrap.servers": f"cannot be used: {text}"}
    return {}


def _kafka_errors(config: ConnectorConfig) -> dict[str, str]:
    try:
        errors = _client_errors(config)
        if errors:
            return errors
        admin = AdminClient(dict(admin_settings(config.consumer_settings(0))))
        found = admin.list_topics(timeout=_KAFKA_TIMEOUT_S).topics
    except KafkaException as error:
        return {"bootstrap.servers": f"no broker answers: {error_text(error)}"}
    except ConfigError as error:
        return {error.key: error.reason}
    missing = [one for one in config.topics if one not in found]
    if missing:
        return {"topics": f"the cluster has no topic '{missing[0]}'"}
    pattern = config.topics_pattern
    if pattern is not None:
        dead_letters = config.errors.dead_letter_topic
        if not any(re.search(pattern, one) for one in found if one != dead_letters):
            return {"topics.regex": "matches no topic of the cluster"}
    return {}


def _target_errors(config: ConnectorConfig, service: Service | None) -> dict[str, str]:
    name = config.collection_name
    if config.is_embedded:
        if service is not None and name and not service.collection_exists(name):
            return _missing(config, f"Collection `{name}` doesn't exist!")
        return {}
    key = "qdrant.grpc.url" if config.grpc_url is not None else "qdrant.rest.url"
    target = None
    try:
        target = QdrantTarget(config)
        # Any name asks the server; only a configured one must be there.
        target.refusals(name or "headrace-validation", [])
    except ConfigError as error:
        return {error.key: error.reason}
    except HeadraceError as error:
        if error.code is ErrorCode.NOT_FOUND:
            return _missing(config, error.detail) if name else {}
        if error.code in (ErrorCode.UNAUTHENTICATED, ErrorCode.FORBIDDEN):
            return {"qdrant.api.key": error.message}
        return {key: f"the server cannot be used: {error.message}"}
    finally:
        if target is not None:
            target.close()
    return {}


def _missing(config: ConnectorConfig, text: str) -> dict[str, str]:
    if config.auto_create is not None:
        return {}
    return {"qdrant.collection.name": f"{text} Create it, or set collection.auto.create=true"}
