"""What does a point's payload say of the record that it came from?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import orjson

from headrace.model.operations import PayloadJson
from headrace.sink.connect_value import plain
from headrace.sink.json_value import JsonValue, encode_object
from headrace.sink.transforms.base import ConnectRecord

METADATA_PARTS: Final = ("topic", "partition", "offset", "timestamp", "headers")


@dataclass(frozen=True, slots=True)
class Metadata:
    """What to add to each payload.

    Attributes:
        field: the payload key of the object that is added.
        parts: what it holds, of `METADATA_PARTS`.
    """

    field: str
    parts: tuple[str, ...]

    def added_to(self, payload: PayloadJson, record: ConnectRecord) -> PayloadJson:
        """The payload with what is known of its record; a field of that name gives way."""
        fields: dict[str, JsonValue] = orjson.loads(payload)
        fields[self.field] = self._of(record)
        return encode_object(fields)

    def _of(self, record: ConnectRecord) -> dict[str, JsonValue]:
        """Of headers given twice the last one counts; one that is not UTF-8 is base64."""
        known: dict[str, JsonValue] = {
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.kafka_offset,
            "timestamp": record.timestamp_ms,
        }
        if "headers" in self.parts:
            known["headers"] = {name: header_value(value) for name, value in record.headers}
        return {part: known[part] for part in self.parts}


def header_value(value: object) -> JsonValue:
    """A header as JSON: bytes as the text that they usually are."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return plain(value)
    return plain(value)  # type: ignore[arg-type]
