"""How is a value read whose schema stands in a registry?

Framing: byte 0, the schema's number in four bytes, then the value. Schemas are fetched once
by confluent-kafka's client and kept. A registry that does not answer, or answers 5xx, is an
outage: nothing is wrong with the record. Needs the extra `headrace[avro]`.
"""

from __future__ import annotations

import io
import json
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from headrace.model.errors import Unavailable
from headrace.sink.connect_value import ConnectValue, as_connect
from headrace.sink.errors import ConfigError, Reason, RecordError, Stage, TaskFailed
from headrace.sink.json_value import InvalidJson, parse_json
from headrace.sink.placeholders import resolve
from headrace.sink.protobuf_value import protobuf_reader

AVRO_CONVERTER_CLASS: Final = "io.confluent.connect.avro.AvroConverter"
JSON_SCHEMA_CONVERTER_CLASS: Final = "io.confluent.connect.json.JsonSchemaConverter"
PROTOBUF_CONVERTER_CLASS: Final = "io.confluent.connect.protobuf.ProtobufConverter"
_AVRO: Final = "AVRO"
_PROTOBUF: Final = "PROTOBUF"
_JSON: Final = "JSON"
REGISTRY_CONVERTERS: Final[dict[str, tuple[str, str]]] = {
    "avro": (_AVRO, AVRO_CONVERTER_CLASS),
    AVRO_CONVERTER_CLASS: (_AVRO, AVRO_CONVERTER_CLASS),
    "json-schema": (_JSON, JSON_SCHEMA_CONVERTER_CLASS),
    JSON_SCHEMA_CONVERTER_CLASS: (_JSON, JSON_SCHEMA_CONVERTER_CLASS),
    "protobuf": (_PROTOBUF, PROTOBUF_CONVERTER_CLASS),
    PROTOBUF_CONVERTER_CLASS: (_PROTOBUF, PROTOBUF_CONVERTER_CLASS),
}

AUTHENTICATION_KEYS: Final = ("basic.auth.credentials.source", "basic.auth.user.info")

_FRAME: Final = struct.Struct(">bI")
# One request; with no retries of the client's own, since the task retries and polls meanwhile.
_REQUEST_TIMEOUT_S: Final = 5
_CANNOT_NOW: Final = frozenset({408, 429})
_REFUSES_CLIENT: Final = frozenset({401, 403})

_Reader = Callable[[bytes], ConnectValue]


@dataclass(frozen=True, slots=True)
class RegistryAccess:
    """Where the registry is and who asks, as configured: placeholders and all.

    Attributes:
        prefix: of the keys, such as `value.converter.`.
        url: one URL, or several separated by commas.
        user_info: `name:password`, if it wants them.
    """

    prefix: str
    url: str
    user_info: str | None = field(default=None, repr=False)

    def client_settings(self) -> dict[str, Any]:
        """Settings for confluent-kafka's client, secrets filled in: not to be shown.

        Raises:
            ConfigError: a placeholder cannot be filled in.
        """
        settings: dict[str, Any] = {
            "url": resolve(f"{self.prefix}schema.registry.url", self.url),
            "timeout": _REQUEST_TIMEOUT_S,
            "max.retries": 0,
        }
        if self.user_info is not None:
            key = f"{self.prefix}basic.auth.user.info"
            settings["basic.auth.user.info"] = resolve(key, self.user_info)
        return settings


@dataclass(frozen=True)
class RegistryConverter:
    """Confluent's converters for Avro, Protobuf and JSON Schema; used by several tasks at once.

    Args:
        stage: whether it reads keys or values.
        schema_type: `AVRO`, `PROTOBUF` or `JSON`, as the registry calls it.
        class_name: the Java name, for dead letters.
        access: the registry.
    """

    stage: Stage
    schema_type: str
    class_name: str
    access: RegistryAccess
    _readers: dict[int, _Reader] = field(default_factory=dict, compare=False, repr=False)
    _clients: list[Any] = field(default_factory=list, compare=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, compare=False, repr=False)

    @property
    def reads_plain_json(self) -> bool:
        """What is framed is not JSON."""
        return False

    @property
    def refuses_bytes(self) -> bool:
        """What is not framed does not pass."""
        return True

    def convert(self, data: bytes) -> ConnectValue:
        """See `Converter`.

        Raises:
            Unavailable: the registry does not answer now.
            TaskFailed: the registry does not let this client in.
        """
        if len(data) < _FRAME.size or data[0] != 0:
            raise self._error("Unknown magic byte: not written with a schema registry")
        (_, schema_id) = _FRAME.unpack_from(data)
        reader = self._readers.get(schema_id)
        if reader is None:
            with self._lock:
                reader = self._readers.get(schema_id) or self._fetch(schema_id)
                self._readers[schema_id] = reader
        try:
            return reader(data[_FRAME.size :])
        except RecordError:
            raise
        except Exception as error:
            # fastavro and protobuf raise whatever the bytes make them stumble over.
            raise self._error(
                f"Failed to deserialize data with schema {schema_id}: "
                f"{type(error).__name__}: {error}"
            ) from None

    def _fetch(self, schema_id: int) -> _Reader:
        schema, references = self._schema(schema_id)
        if schema.schema_type != self.schema_type:
            raise self._error(
                f"Schema {schema_id} is of type {schema.schema_type}, not {self.schema_type}"
            )
        if self.schema_type == _JSON:
            return self._json_reader(schema.schema_str)
        try:
            if self.schema_type == _PROTOBUF:
                return protobuf_reader(schema.schema_str, references)
            return _avro_reader(schema.schema_str, [text for _, text in references])
        except Exception as error:
            # fastavro and protobuf have many errors for what is no schema.
            raise self._error(f"Schema {schema_id} cannot be used: {error}") from None

    def _json_reader(self, schema_text: str) -> _Reader:
        from jsonschema.exceptions import ValidationError
        from jsonschema.validators import validator_for

        schema = json.loads(schema_text)
        validator = validator_for(schema)(schema)

        def read(data: bytes) -> ConnectValue:
            try:
                value = parse_json(data)
                validator.validate(value)
            except InvalidJson as error:
                raise self._error(str(error), Reason.INVALID_JSON) from None
            except ValidationError as error:
                raise self._error(f"{error.json_path}: {error.message}") from None
            return as_connect(value)

        return read

    def _schema(self, schema_id: int) -> tuple[Any, list[tuple[str, str]]]:
        """A schema, and the names and texts of those it refers to, the innermost first."""
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        try:
            client = self._client()
            text_format = "serialized" if self.schema_type == _PROTOBUF else None
            schema = client.get_schema(schema_id, fmt=text_format)
            return schema, _references(client, schema, text_format, set())
        except SchemaRegistryError as error:
            raise self._registry_error(schema_id, error.http_status_code, str(error)) from None
        except ConfigError:
            raise
        except Exception as error:
            # The HTTP library's errors: no connection, no answer in time.
            raise Unavailable(f"The schema registry does not answer: {error}") from None

    def _registry_error(self, schema_id: int, status: int, text: str) -> Exception:
        if status >= 500 or status in _CANNOT_NOW:
            return Unavailable(f"The schema registry cannot answer now: {text}")
        if status in _REFUSES_CLIENT:
            return TaskFailed(
                f"The schema registry refuses this client: {text}. Check "
                f"{self.access.prefix}basic.auth.user.info and restart the connector"
            )
        return self._error(f"Schema {schema_id} is not in the registry: {text}")

    def _client(self) -> Any:
        from confluent_kafka.schema_registry import SchemaRegistryClient

        if not self._clients:
            self._clients.append(SchemaRegistryClient(self.access.client_settings()))
        return self._clients[0]

    def _error(self, detail: str, reason: Reason = Reason.INVALID_SCHEMA) -> RecordError:
        return RecordError(detail, reason, self.stage, self.class_name)


def read_registry_converter(raw: Mapping[str, str], part: str, stage: Stage) -> RegistryConverter:
    """The converter that `key.converter` or `value.converter` names, with its settings.

    Raises:
        ConfigError: a setting is missing, or the packages are not installed.
    """
    key = f"{part}.converter"
    schema_type, class_name = REGISTRY_CONVERTERS[raw[key].strip()]
    _check_installed(key)
    prefix = f"{key}."
    url = raw.get(f"{prefix}schema.registry.url", "")
    if not url.strip():
        raise ConfigError(f"{prefix}schema.registry.url", "is required with this converter")
    user_info = raw.get(f"{prefix}basic.auth.user.info") or None
    source_key = f"{prefix}basic.auth.credentials.source"
    source = raw.get(source_key, "USER_INFO" if user_info else "URL").strip()
    if source not in {"USER_INFO", "URL"}:
        raise ConfigError(source_key, "must be USER_INFO or URL")
    if (source == "USER_INFO") != (user_info is not None):
        raise ConfigError(
            f"{prefix}basic.auth.user.info", f"does not go with {source_key}={source}"
        )
    return RegistryConverter(stage, schema_type, class_name, RegistryAccess(prefix, url, user_info))


def _check_installed(key: str) -> None:
    try:
        import confluent_kafka.schema_registry  # noqa: F401
        import fastavro  # noqa: F401
        import jsonschema  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            key, f"needs packages that are not installed ({error.name}): install headrace[avro]"
        ) from None


def _references(
    client: Any, schema: Any, text_format: str | None, seen: set[tuple[str, int]]
) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for reference in schema.references or []:
        version = (reference.subject, reference.version)
        if reference.name.startswith("google/protobuf/") or version in seen:
            continue
        seen.add(version)
        referred = client.get_version(*version, fmt=text_format).schema
        found += _references(client, referred, text_format, seen)
        found.append((reference.name, referred.schema_str))
    return found


def _avro_reader(schema_text: str, references: list[str]) -> _Reader:
    import fastavro

    named: dict[str, Any] = {}
    for text in references:
        fastavro.parse_schema(json.loads(text), named_schemas=named)
    schema = fastavro.parse_schema(json.loads(schema_text), named_schemas=named)

    def read(data: bytes) -> ConnectValue:
        stream = io.BytesIO(data)
        value = fastavro.schemaless_reader(stream, schema, None)
        if stream.tell() != len(data):
            raise ValueError(f"{len(data) - stream.tell()} bytes are left over")
        return cast(ConnectValue, value)

    return read
