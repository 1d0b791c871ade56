"""How do the bytes of a Kafka key or value become a value, as Kafka Connect has it?

`json` (or Connect's `JsonConverter`) demands JSON. `string` and `bytes` take any bytes;
since a point is a JSON object, text that is JSON is read as JSON here too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol, cast

import msgspec

from headrace.model.ids import parse_uuid
from headrace.sink.connect_schema import SchemaMismatch, convert_with_schema
from headrace.sink.connect_value import ConnectValue, as_connect
from headrace.sink.errors import Reason, RecordError, Stage
from headrace.sink.json_value import InvalidJson, parse_json

JSON_CONVERTER_CLASS: Final = "org.apache.kafka.connect.json.JsonConverter"
STRING_CONVERTER_CLASS: Final = "org.apache.kafka.connect.storage.StringConverter"
BYTES_CONVERTER_CLASS: Final = "org.apache.kafka.connect.converters.ByteArrayConverter"
SIMPLE_HEADER_CONVERTER_CLASS: Final = "org.apache.kafka.connect.storage.SimpleHeaderConverter"

# Kafka's own text, with the advice that people look for.
_ENVELOPE_NEEDED: Final = (
    'JsonConverter with schemas.enable requires "schema" and "payload" fields and may not '
    "contain additional fields. If you are trying to deserialize plain JSON data, set "
    "schemas.enable=false in your converter configuration."
)


class Converter(Protocol):
    """Turns the bytes of a key or of a value into a value."""

    @property
    def reads_plain_json(self) -> bool:
        """Whether a JSON text stands for itself, so that it may be read in a faster way."""
        ...

    @property
    def refuses_bytes(self) -> bool:
        """Whether there are bytes that Kafka Connect would not let pass this converter."""
        ...

    def convert(self, data: bytes) -> ConnectValue:
        """The value of some bytes.

        Raises:
            RecordError: the bytes are not what this converter reads.
        """
        ...


@dataclass(frozen=True, slots=True)
class JsonConverter:
    """Connect's `JsonConverter`.

    Args:
        stage: whether it reads keys or values.
        schemas_enable: whether each text carries its schema beside its payload.
    """

    stage: Stage
    schemas_enable: bool

    @property
    def reads_plain_json(self) -> bool:
        """A text without a schema is its own value."""
        return not self.schemas_enable

    @property
    def refuses_bytes(self) -> bool:
        """What is not JSON does not pass."""
        return True

    def convert(self, data: bytes) -> ConnectValue:
        """See `Converter`."""
        try:
            value = parse_json(data)
        except InvalidJson as error:
            raise self._error(
                "Converting byte[] to Kafka Connect data failed due to serialization error: "
                f"{error}",
                Reason.INVALID_JSON,
            ) from None
        if not self.schemas_enable:
            return as_connect(value)
        if not isinstance(value, dict) or value.keys() != {"schema", "payload"}:
            raise self._error(_ENVELOPE_NEEDED, Reason.INVALID_SCHEMA)
        try:
            return convert_with_schema(value["schema"], value["payload"])
        except SchemaMismatch as error:
            raise self._error(str(error), Reason.INVALID_SCHEMA) from None

    def _error(self, detail: str, reason: Reason) -> RecordError:
        return RecordError(detail, reason, self.stage, JSON_CONVERTER_CLASS)


@dataclass(frozen=True, slots=True)
class TextConverter:
    """Connect's `StringConverter` and `ByteArrayConverter`: any bytes pass.

    Args:
        only_objects: whether text that is JSON, but no object, stays text.
    """

    only_objects: bool = False

    @property
    def reads_plain_json(self) -> bool:
        """A JSON text is read as JSON."""
        return True

    @property
    def refuses_bytes(self) -> bool:
        """Nothing is refused before the sink looks at it."""
        return False

    def convert(self, data: bytes) -> ConnectValue:
        """A bare UUID as a string, else the JSON value, else the text itself.

        Raises:
            RecordError: the bytes are not UTF-8.
        """
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise RecordError(
                f"Neither JSON nor text: not UTF-8 at byte {error.start}", Reason.INVALID_JSON
            ) from None
        if parse_uuid(text) is not None:
            return text
        try:
            value = parse_json(data)
        except InvalidJson:
            return text
        if self.only_objects and not isinstance(value, dict):
            return text
        return as_connect(value)


@dataclass(frozen=True, slots=True)
class MessagePackConverter:
    """MessagePack, whose maps must have strings for keys; Connect has none of its own.

    Args:
        stage: whether it reads keys or values.
    """

    stage: Stage

    @property
    def reads_plain_json(self) -> bool:
        """It is not JSON."""
        return False

    @property
    def refuses_bytes(self) -> bool:
        """What is not MessagePack does not pass."""
        return True

    def convert(self, data: bytes) -> ConnectValue:
        """See `Converter`."""
        try:
            value = msgspec.msgpack.decode(data)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise self._error(f"Not MessagePack: {error}") from None
        waiting = [value]
        while waiting:
            item = waiting.pop()
            if isinstance(item, dict):
                if not all(isinstance(name, str) for name in item):
                    raise self._error("MessagePack: the keys of a map must be strings")
                waiting.extend(item.values())
            elif isinstance(item, list):
                waiting.extend(item)
            elif isinstance(item, msgspec.msgpack.Ext):
                raise self._error(f"MessagePack: the extension {item.code} is not supported")
        return cast(ConnectValue, value)

    def _error(self, detail: str) -> RecordError:
        return RecordError(detail, Reason.INVALID_MESSAGE_PACK, self.stage, "msgpack")
