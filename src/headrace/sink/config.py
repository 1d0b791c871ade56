"""What does a connector's configuration say?

Files and keys are those of Kafka Connect and of qdrant-kafka, plus a few of our own. What
is known and cannot be done is refused; what Kafka Connect would ignore is logged. Values
are kept as they were written, placeholders and all; `ConnectorConfig` fills in secrets
only where a client is made.
"""

from __future__ import annotations

import difflib
import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from headrace.model.errors import HeadraceError
from headrace.model.names import collection_name_problems
from headrace.model.vectors import Distance
from headrace.service.inference import BM25_MODEL, embed_texts
from headrace.sink.client_settings import (
    CONSUMER_PREFIX,
    PRODUCER_PREFIX,
    ClientSettings,
    consumer_overrides,
    filled_in,
    producer_overrides,
)
from headrace.sink.config_keys import (
    REFUSED_KEYS,
    REFUSED_PREFIXES,
    SUPPORTED_KEYS,
    without_effect,
)
from headrace.sink.converters import (
    BYTES_CONVERTER_CLASS,
    JSON_CONVERTER_CLASS,
    SIMPLE_HEADER_CONVERTER_CLASS,
    STRING_CONVERTER_CLASS,
    Converter,
    JsonConverter,
    MessagePackConverter,
    TextConverter,
)
from headrace.sink.errors import ConfigError, Stage
from headrace.sink.placeholders import has_placeholder, resolve, shown
from headrace.sink.properties import read_properties
from headrace.sink.registry import (
    AUTHENTICATION_KEYS,
    AVRO_CONVERTER_CLASS,
    JSON_SCHEMA_CONVERTER_CLASS,
    PROTOBUF_CONVERTER_CLASS,
    REGISTRY_CONVERTERS,
    read_registry_converter,
)
from headrace.sink.shapes.metadata import METADATA_PARTS, Metadata
from headrace.sink.shapes.routing import TOPIC_PLACEHOLDER, Routing
from headrace.sink.shapes.rows import RowFields
from headrace.sink.shapes.shape import Shape
from headrace.sink.shapes.texts import TextVector
from headrace.sink.shapes.versions import FROM_HEADER, FROM_OFFSET, FROM_PAYLOAD, VersionGuard
from headrace.sink.topic_pattern import posix_pattern
from headrace.sink.transforms.chain import TRANSFORM_PREFIXES, TransformChain, read_transforms

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

# The sparse vector of `qdrant/bm25` texts, if none is named.
BM25_VECTOR: Final = "bm25"
CONNECTOR_CLASS: Final = "io.qdrant.kafka.QdrantSinkConnector"
_PREFIXES_WITH_OWN_CHECKS: Final = (CONSUMER_PREFIX, PRODUCER_PREFIX, *TRANSFORM_PREFIXES)
CONNECTOR_CLASSES: Final = (CONNECTOR_CLASS, "QdrantSinkConnector", "QdrantSink")


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When a batch is closed: by count, by bytes of keys and values, or by time."""

    records_max: int
    bytes_max: int
    linger_ms: int


@dataclass(frozen=True, slots=True)
class RetryLimits:
    """How a target that cannot take anything now is tried again; no timeout if None."""

    timeout_ms: int | None
    backoff_ms: int
    backoff_max_ms: int


@dataclass(frozen=True, slots=True)
class ErrorPolicy:
    """What becomes of a bad record.

    Attributes:
        tolerate: go on after one (`errors.tolerance=all`), else fail the task.
        dead_letter_topic: where bad records are written, if anywhere.
        context_headers: whether a dead letter says in headers what was wrong.
        replication_factor: of the dead-letter topic, if it has to be made.
        log: whether each bad record is logged.
        log_coordinates: whether that line says which record it was.
    """

    tolerate: bool
    dead_letter_topic: str | None
    context_headers: bool
    replication_factor: int
    log: bool
    log_coordinates: bool


@dataclass(frozen=True, slots=True)
class AutoCreate:
    """How a collection is made that a record names and that is not there.

    Attributes:
        bm25_vector: the sparse vector whose weights lack the rarity of words, if there is one.
    """

    distance: Distance
    on_disk: bool
    bm25_vector: str | None = None


@dataclass(frozen=True, repr=False)
class ConnectorConfig:
    """A checked configuration; make one with `from_mapping` or `load_connector_config`.

    Attributes:
        raw: every key as it was written, placeholders and all.
        topics: the topics by name; empty if they are given by pattern.
        topics_pattern: a POSIX extended pattern that whole topic names must match, or None.
        grpc_url, rest_url: a remote target, at most one of them, as written; with neither
            the target is the engine of this process.
        collection_name: the collection of all records, over what they say; None if theirs.
        value_converter: plain JSON if none is given; Connect's `JsonConverter` by its class
            name expects schemas, unless `value.converter.schemas.enable` is false.
        key_converter: None if none is given: then keys are looked at for tombstones alone,
            and read as JSON or as a bare UUID.
        reads_json_headers: whether a header's bytes are JSON, else what they are.
        transforms: what every record goes through, if anything.
        shape: what records look like, and what is made of them.
        member: tells this worker's members of a static group from those of other workers.
        max_in_flight: how many requests to a remote target travel at once, for each task.
    """

    raw: Mapping[str, str]
    name: str
    tasks_max: int
    topics: tuple[str, ...]
    topics_pattern: str | None
    grpc_url: str | None
    rest_url: str | None
    request_timeout_ms: int
    collection_name: str | None
    auto_create: AutoCreate | None
    value_converter: Converter
    key_converter: Converter | None
    reads_json_headers: bool
    transforms: TransformChain | None
    shape: Shape
    batch: BatchLimits
    max_in_flight: int
    retry: RetryLimits
    errors: ErrorPolicy
    offset_flush_interval_ms: int
    group_instance_id: str | None
    member: str = ""

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, str]) -> ConnectorConfig:
        """Check a configuration.

        Raises:
            ConfigError: names the key that is missing, wrong, or not supported.
        """
        return _Reader(dict(mapping)).read()

    @property
    def is_embedded(self) -> bool:
        """Whether records go into the engine of this process."""
        return self.grpc_url is None and self.rest_url is None

    @property
    def source(self) -> str:
        """The consumer group, and the name under which the engine keeps offsets."""
        return f"connect-{self.name}"

    @property
    def reset_to_latest(self) -> bool:
        """Whether a partition that was never read is read from its end on."""
        key = f"{CONSUMER_PREFIX}auto.offset.reset"
        return self.raw.get(key, "earliest") in {"latest", "largest", "end"}

    @property
    def max_poll_interval_ms(self) -> int:
        """After how long without a poll the group takes a task for dead."""
        key = f"{CONSUMER_PREFIX}max.poll.interval.ms"
        return int(self.resolved(key) or 300_000)

    def reads(self, topic: str) -> bool:
        """Whether records of a topic of this name are read."""
        pattern = self.topics_pattern
        return topic in self.topics or (
            pattern is not None and re.fullmatch(pattern, topic) is not None
        )

    def consumer_settings(self, task: int) -> ClientSettings:
        """The settings of one task's consumer, secrets filled in: not to be shown.

        Raises:
            ConfigError: a placeholder cannot be filled in.
        """
        settings: ClientSettings = {
            "bootstrap.servers": self._resolved("bootstrap.servers"),
            "group.id": self.source,
            "client.id": f"connector-consumer-{self.name}-{task}",
            "isolation.level": "read_committed",
            # A full queue is refilled at once when it is drained: the default waits 1 s.
            "fetch.queue.backoff.ms": 10,
            **filled_in(CONSUMER_PREFIX, consumer_overrides(self.raw)),
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "partition.assignment.strategy": "cooperative-sticky",
        }
        instance_id = settings.pop("group.instance.id", self.group_instance_id)
        if instance_id is not None:
            # Each member of the group needs its own.
            parts = [str(instance_id), *([self.member] if self.member else [])]
            parts += [str(task)] if self.tasks_max > 1 else []
            settings["group.instance.id"] = "-".join(parts)
        return settings

    def producer_settings(self, task: int) -> ClientSettings:
        """The settings of one task's dead-letter producer, secrets filled in.

        Raises:
            ConfigError: a placeholder cannot be filled in.
        """
        return {
            "bootstrap.servers": self._resolved("bootstrap.servers"),
            "client.id": f"connector-dlq-producer-{self.name}-{task}",
            "acks": "all",
            "enable.idempotence": True,
            # Well below max.poll.interval.ms, which is 300 s: a task that waits for its
            # dead letters stays a member of the group. As long as Java's producer waits.
            "message.timeout.ms": 120_000,
            # The broker alone decides what is too large: a dead letter has more headers
            # than the record, which it took.
            "message.max.bytes": 1_000_000_000,
            "linger.ms": 0,
            **filled_in(PRODUCER_PREFIX, producer_overrides(self.raw)),
        }

    def resolved(self, key: str) -> str | None:
        """The value of a key, placeholders filled in: not to be shown or kept.

        Raises:
            ConfigError: a placeholder cannot be filled in.
        """
        return self._resolved(key) if key in self.raw else None

    def shown(self) -> dict[str, str]:
        """The configuration as it may be shown: with placeholders, without bare secrets."""
        return {key: shown(key, value) for key, value in self.raw.items()}

    def __repr__(self) -> str:
        return f"ConnectorConfig({self.shown()})"

    def _resolved(self, key: str) -> str:
        return resolve(key, self.raw[key])


def load_connector_config(path: Path) -> ConnectorConfig:
    """Read and check a connector file: `.properties`, or JSON, flat or with name and config.

    Raises:
        ConfigError: the file cannot be read or parsed, or a key is wrong.
    """
    return ConnectorConfig.from_mapping(read_connector_file(path))


def read_connector_file(path: Path) -> dict[str, str]:
    """The keys of a connector file as they stand there, not checked yet.

    Raises:
        ConfigError: the file cannot be read or parsed.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError("", f"cannot be read: {error.strerror}") from None
    is_json = path.suffix.lower() == ".json"
    return _read_json(data) if is_json else read_properties(data)


def _read_json(data: bytes) -> dict[str, str]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ConfigError("", f"not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ConfigError("", "the file must hold a JSON object")
    if isinstance(document.get("config"), dict):
        config = document["config"]
        name = document.get("name")
        if name is not None and config.setdefault("name", name) != name:
            raise ConfigError("name", f"is '{name}' outside of 'config', another one inside")
        document = config
    return {key: _json_scalar(key, value) for key, value in document.items() if value is not None}


def _json_scalar(key: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise ConfigError(key, "must be a string")


def _meant(key: str) -> str:
    """The key that was probably meant, as the end of a sentence; empty if none is like it."""
    found = difflib.get_close_matches(key, SUPPORTED_KEYS, n=1, cutoff=0.85)
    return f": did you mean '{found[0]}'?" if found else ""


class _Reader:
    """Turns the texts of a configuration into values, one key at a time."""

    def __init__(self, raw: dict[str, str]) -> None:
        self._raw = raw

    def read(self) -> ConnectorConfig:
        self._check_keys()
        name = self._required("name")
        if self._text("connector.class", CONNECTOR_CLASS) not in CONNECTOR_CLASSES:
            raise ConfigError("connector.class", f"must be {CONNECTOR_CLASS}")
        self._required("bootstrap.servers")
        topics, pattern = self._topics()
        config = ConnectorConfig(
            raw=self._raw,
            name=name,
            tasks_max=self._integer("tasks.max", 1, at_least=1),
            topics=topics,
            topics_pattern=pattern,
            grpc_url=self._url("qdrant.grpc.url"),
            rest_url=self._url("qdrant.rest.url"),
            request_timeout_ms=self._integer("qdrant.request.timeout.ms", 30_000, at_least=1),
            collection_name=self._text("qdrant.collection.name", "") or None,
            auto_create=self._auto_create(),
            value_converter=self._converter("value", Stage.VALUE_CONVERTER)
            or JsonConverter(Stage.VALUE_CONVERTER, schemas_enable=False),
            key_converter=self._converter("key", Stage.KEY_CONVERTER),
            reads_json_headers=self._reads_json_headers(),
            transforms=read_transforms(self._raw),
            shape=self._shape(),
            batch=self._batch_limits(),
            max_in_flight=self._integer("max.in.flight.requests", 4, at_least=1, at_most=32),
            retry=self._retry_limits(),
            errors=self._error_policy(),
            offset_flush_interval_ms=self._integer("offset.flush.interval.ms", 1_000, at_least=1),
            group_instance_id=self._text("group.instance.id", "") or None,
        )
        self._check_together(config, pattern)
        return config

    def _check_keys(self) -> None:
        consumer_overrides(self._raw)
        producer_overrides(self._raw)
        for key in self._raw:
            if key in SUPPORTED_KEYS or key.startswith(_PREFIXES_WITH_OWN_CHECKS):
                continue
            instead = without_effect(key)
            if instead is not None:
                logger.warning("connector configuration: '%s' has no effect: %s", key, instead)
                continue
            if key in REFUSED_KEYS or key.startswith(REFUSED_PREFIXES):
                raise ConfigError(key, f"is not supported by this version{_meant(key)}")
            logger.warning(
                "connector configuration: the key '%s' is unknown and ignored%s", key, _meant(key)
            )

    def _check_together(self, config: ConnectorConfig, pattern: str | None) -> None:
        if config.grpc_url is not None and config.rest_url is not None:
            raise ConfigError("qdrant.rest.url", "cannot be given together with qdrant.grpc.url")
        for key in ("qdrant.api.key", "qdrant.request.timeout.ms"):
            if config.is_embedded and self._raw.get(key):
                raise ConfigError(key, "needs qdrant.grpc.url or qdrant.rest.url")
        reset = self._raw.get(f"{CONSUMER_PREFIX}auto.offset.reset", "earliest")
        if reset not in {"earliest", "smallest", "beginning", "latest", "largest", "end"}:
            raise ConfigError(
                f"{CONSUMER_PREFIX}auto.offset.reset", "must be 'earliest' or 'latest'"
            )
        dead_letters = config.errors.dead_letter_topic
        if dead_letters is not None and config.reads(dead_letters):
            raise ConfigError(
                "errors.deadletterqueue.topic.name", f"'{dead_letters}' is one of the inputs"
            )

    def _topics(self) -> tuple[tuple[str, ...], str | None]:
        topics = tuple(dict.fromkeys(filter(None, map(str.strip, self._list("topics")))))
        pattern = self._text("topics.regex", "")
        if bool(topics) == bool(pattern):
            raise ConfigError("topics", "give either topics or topics.regex")
        return topics, posix_pattern(pattern) if pattern else None

    def _auto_create(self) -> AutoCreate | None:
        distance = self._choice(
            "collection.auto.create.distance", "Cosine", [one.value for one in Distance]
        )
        on_disk = self._boolean("collection.auto.create.on.disk", False)
        if self._boolean("collection.auto.create", False):
            text = self._text_vector()
            is_bm25 = text is not None and text.model.lower() == BM25_MODEL
            bm25_vector = text.vector if text is not None and is_bm25 else None
            return AutoCreate(Distance(distance), on_disk, bm25_vector)
        for key in ("collection.auto.create.distance", "collection.auto.create.on.disk"):
            if key in self._raw:
                raise ConfigError(key, "needs collection.auto.create=true")
        return None

    def _batch_limits(self) -> BatchLimits:
        return BatchLimits(
            records_max=self._integer("batch.size", 1_000, at_least=1, at_most=100_000),
            bytes_max=self._integer("batch.bytes", 16 * 2**20, at_least=1),
            linger_ms=self._integer("linger.ms", 5, at_least=0, at_most=60_000),
        )

    def _retry_limits(self) -> RetryLimits:
        timeout_ms = self._integer("retry.timeout.ms", -1, at_least=-1)
        return RetryLimits(
            timeout_ms=None if timeout_ms == -1 else timeout_ms,
            backoff_ms=self._integer("retry.backoff.ms", 100, at_least=1),
            backoff_max_ms=self._integer("retry.backoff.max.ms", 5_000, at_least=1),
        )

    def _error_policy(self) -> ErrorPolicy:
        return ErrorPolicy(
            tolerate=self._choice("errors.tolerance", "none", ["none", "all"]) == "all",
            dead_letter_topic=self._text("errors.deadletterqueue.topic.name", "") or None,
            context_headers=self._boolean("errors.deadletterqueue.context.headers.enable", False),
            replication_factor=self._integer(
                "errors.deadletterqueue.topic.replication.factor", 3, at_least=1, at_most=32_767
            ),
            log=self._boolean("errors.log.enable", False),
            log_coordinates=self._boolean("errors.log.include.messages", False),
        )

    def _shape(self) -> Shape:
        return Shape(
            routing=self._routing(),
            rows=self._row_fields(),
            merges=self._choice("write.method", "replace", ["replace", "merge"]) == "merge",
            metadata=self._metadata(),
            guard=self._version_guard(),
            text=self._text_vector(),
        )

    def _routing(self) -> Routing:
        name = self._text("qdrant.collection.name", "") or None
        name_format = self._text("collection.name.format", "") or None
        if name_format is not None and name is not None:
            raise ConfigError(
                "collection.name.format", "cannot be given together with qdrant.collection.name"
            )
        if name_format is not None and TOPIC_PLACEHOLDER not in name_format:
            raise self._invalid("collection.name.format", f"has no {TOPIC_PLACEHOLDER} in it")
        by_topic = []
        for pair in self._names("topic.to.collection"):
            topic, _, collection_name = map(str.strip, pair.partition(":"))
            if not topic or not collection_name:
                raise self._invalid("topic.to.collection", "must be pairs such as topic:collection")
            by_topic.append((topic, collection_name))
            self._check_collection_name("topic.to.collection", collection_name)
        self._check_collection_name("qdrant.collection.name", name)
        # Kafka's topics have nothing in their names that a collection's cannot have.
        self._check_collection_name("collection.name.format", name_format)
        return Routing(tuple(by_topic), name, name_format)

    def _check_collection_name(self, key: str, name: str | None) -> None:
        """Refuse a name that no collection can have: else each record would be refused."""
        is_new = self._boolean("collection.auto.create", False)
        text = (name or "").replace(TOPIC_PLACEHOLDER, "topic")
        for problem in collection_name_problems(text, is_new) if text else ():
            raise self._invalid(key, f"cannot be: {problem}")

    def _row_fields(self) -> RowFields | None:
        point_id = self._text("id.field", "")
        vector = self._text("vector.field", "")
        payload = self._names("payload.fields")
        id_from_key = self._choice("id.from", "value", ["value", "key"]) == "key"
        if not point_id and not vector and not payload and not id_from_key:
            return None
        if "*" in payload and len(payload) > 1:
            raise self._invalid("payload.fields", "must be a list of fields, or * alone")
        chosen = None if payload in ([], ["*"]) else tuple(payload)
        return RowFields(point_id or "id", vector or None, chosen, id_from_key)

    def _text_vector(self) -> TextVector | None:
        field = self._text("vector.from.text", "")
        if not field:
            for key, default in (("model", BM25_MODEL), ("vector", ""), ("options", "")):
                if self._text(f"vector.from.text.{key}", default) != default:
                    raise ConfigError(f"vector.from.text.{key}", "needs vector.from.text")
            return None
        model = self._text("vector.from.text.model", BM25_MODEL)
        is_bm25 = model.lower() == BM25_MODEL
        vector = self._text("vector.from.text.vector", BM25_VECTOR if is_bm25 else "")
        key = "vector.from.text.options"
        try:
            options = json.loads(self._text(key, "{}"))
        except (ValueError, RecursionError):
            options = None
        if not isinstance(options, dict):
            raise self._invalid(key, "must be a JSON object")
        if is_bm25:
            try:
                embed_texts(["text"], model, options)
            except HeadraceError as error:
                raise ConfigError(key, error.message) from None
        return TextVector(field, vector, model, options)

    def _metadata(self) -> Metadata | None:
        parts = tuple(self._names("payload.metadata"))
        field = self._text("payload.metadata.field", "_kafka")
        if not set(parts) <= set(METADATA_PARTS):
            raise self._invalid("payload.metadata", f"must be of {', '.join(METADATA_PARTS)}")
        if not field:
            raise self._invalid("payload.metadata.field", "cannot be empty")
        return Metadata(field, parts) if parts else None

    def _version_guard(self) -> VersionGuard | None:
        field = self._text("version.field", "")
        source = self._text("version.from", FROM_PAYLOAD)
        is_header = source.startswith(FROM_HEADER) and source != FROM_HEADER
        if source not in {FROM_PAYLOAD, FROM_OFFSET} and not is_header:
            raise self._invalid("version.from", "must be payload, offset or header.<name>")
        if not field and source != FROM_PAYLOAD:
            raise ConfigError("version.from", "needs version.field")
        return VersionGuard(field, source) if field else None

    def _converter(self, part: str, stage: Stage) -> Converter | None:
        key = f"{part}.converter"
        schemas_key = f"{key}.schemas.enable"
        kind = self._text(key, "")
        if kind in {STRING_CONVERTER_CLASS, BYTES_CONVERTER_CLASS, "string", "bytes"}:
            # Connect's two take this key from the worker's defaults and have no use for it.
            self._boolean(schemas_key, False)
            is_text = stage is Stage.VALUE_CONVERTER and bool(self._text("vector.from.text", ""))
            return TextConverter(only_objects=is_text)
        if kind in REGISTRY_CONVERTERS:
            self._boolean(schemas_key, False)
            return read_registry_converter(self._raw, part, stage)
        for name in ("schema.registry.url", *AUTHENTICATION_KEYS):
            if f"{key}.{name}" in self._raw:
                raise ConfigError(f"{key}.{name}", "needs a converter that uses a registry")
        if kind == "msgpack":
            self._boolean(schemas_key, False)
            return MessagePackConverter(stage)
        if kind in {"", "json", JSON_CONVERTER_CLASS}:
            schemas_enable = self._boolean(schemas_key, kind == JSON_CONVERTER_CLASS)
            return JsonConverter(stage, schemas_enable) if kind or schemas_enable else None
        raise ConfigError(
            key,
            f"'{kind}' is not supported by this version: give json, string, bytes, msgpack, avro, "
            f"protobuf, json-schema, {AVRO_CONVERTER_CLASS}, {PROTOBUF_CONVERTER_CLASS}, "
            f"{JSON_SCHEMA_CONVERTER_CLASS}, "
            f"{JSON_CONVERTER_CLASS}, {STRING_CONVERTER_CLASS} or {BYTES_CONVERTER_CLASS}",
        )

    def _reads_json_headers(self) -> bool:
        kind = self._text("header.converter", SIMPLE_HEADER_CONVERTER_CLASS)
        schemas = self._boolean("header.converter.schemas.enable", kind == JSON_CONVERTER_CLASS)
        if kind in {JSON_CONVERTER_CLASS, "json"}:
            if schemas:
                raise ConfigError(
                    "header.converter.schemas.enable",
                    "must be false: headers with schemas are not supported",
                )
            return True
        as_they_are = {
            *(SIMPLE_HEADER_CONVERTER_CLASS, STRING_CONVERTER_CLASS, BYTES_CONVERTER_CLASS),
            *("string", "bytes"),
        }
        if kind not in as_they_are:
            raise self._invalid("header.converter", "is not supported")
        return False

    def _url(self, key: str) -> str | None:
        text = self._raw.get(key)
        if text is None:
            return None
        if not has_placeholder(text) and not re.match(r"https?://[^/\s]+", text):
            raise ConfigError(key, "must be a URL such as http://localhost:6334")
        return text

    # Values by type. Their texts come from `_text`, the error texts from the raw value.

    def _required(self, key: str) -> str:
        text = self._text(key, "")
        if not text:
            raise ConfigError(key, "is required")
        return text

    def _text(self, key: str, default: str) -> str:
        return resolve(key, self._raw[key]).strip() if key in self._raw else default

    def _names(self, key: str) -> list[str]:
        return [part.strip() for part in self._list(key) if part.strip()]

    def _list(self, key: str) -> list[str]:
        return self._text(key, "").split(",")

    def _integer(self, key: str, default: int, at_least: int, at_most: int = 2**31 - 1) -> int:
        number = self._parsed(key, default, int)
        if not at_least <= number <= at_most:
            raise self._invalid(key, f"must be from {at_least} to {at_most}")
        return number

    def _boolean(self, key: str, default: bool) -> bool:
        text = self._text(key, str(default)).lower()
        if text not in {"true", "false"}:
            raise self._invalid(key, "must be true or false")
        return text == "true"

    def _choice(self, key: str, default: str, choices: list[str]) -> str:
        text = self._text(key, default)
        for choice in choices:
            if choice.lower() == text.lower():
                return choice
        raise self._invalid(key, f"must be one of {', '.join(choices)}")

    def _parsed(self, key: str, default: _T, parse: Callable[[str], _T]) -> _T:
        if key not in self._raw:
            return default
        try:
            return parse(self._text(key, ""))
        except ValueError:
            raise self._invalid(key, "is not a number") from None

    def _invalid(self, key: str, reason: str) -> ConfigError:
        return ConfigError(key, f"'{shown(key, self._raw[key])}' {reason}")
