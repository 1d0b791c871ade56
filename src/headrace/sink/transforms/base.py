"""What is a transform given, and what may it say?

The classes, settings and texts are those of Kafka Connect, on data without schemas: a
converter has applied its schema by then. Source: `org.apache.kafka.connect.transforms`.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Final, Protocol

import msgspec

from headrace.sink.connect_value import ConnectValue
from headrace.sink.errors import ConfigError
from headrace.sink.placeholders import resolve

ConnectHeaders = list[tuple[str, ConnectValue]]

_JAVA_NAMES: Final[dict[type, str]] = {
    type(None): "null",
    bool: "java.lang.Boolean",
    int: "java.lang.Long",
    float: "java.lang.Double",
    str: "java.lang.String",
    bytes: "[B",
    list: "java.util.ArrayList",
    dict: "java.util.HashMap",
    Decimal: "java.math.BigDecimal",
    datetime.datetime: "java.util.Date",
    datetime.date: "java.util.Date",
    datetime.time: "java.util.Date",
}


class ConnectRecord(msgspec.Struct, frozen=True, eq=False):
    """A record whose key and value have been converted.

    Attributes:
        topic: where it comes from, or what a transform made of that.
        timestamp_ms: since 1970-01-01 UTC; None if it has none.
    """

    topic: str
    partition: int
    kafka_offset: int
    kafka_key: ConnectValue
    value: ConnectValue
    headers: ConnectHeaders
    timestamp_ms: int | None


class Part(StrEnum):
    """Which side of a record a transform works on."""

    KEY = "Key"
    VALUE = "Value"

    def of(self, record: ConnectRecord) -> ConnectValue:
        """This side of a record."""
        return record.kafka_key if self is Part.KEY else record.value

    def replaced(self, record: ConnectRecord, new: ConnectValue) -> ConnectRecord:
        """The record with another value on this side."""
        if self is Part.KEY:
            return msgspec.structs.replace(record, kafka_key=new)
        return msgspec.structs.replace(record, value=new)


class Transform(Protocol):
    """One step that a record takes."""

    def apply(self, record: ConnectRecord) -> ConnectRecord | None:
        """The record that goes on; None if none does.

        Raises:
            TransformError: the step cannot be taken with this record.
        """
        ...


class TransformError(Exception):
    """A transform cannot be applied to a record; the text is Kafka Connect's."""


class Settings:
    """The settings of one transform or predicate; each has to be asked for.

    Args:
        raw: the whole configuration.
        prefix: such as `transforms.route.`.
        reserved: names that somebody else reads.
    """

    def __init__(self, raw: Mapping[str, str], prefix: str, reserved: tuple[str, ...]) -> None:
        self._prefix = prefix
        self._texts = {
            key.removeprefix(prefix): text for key, text in raw.items() if key.startswith(prefix)
        }
        self._asked = set(reserved)

    def text(self, name: str, default: str = "") -> str:
        """A setting as it is, placeholders filled in."""
        self._asked.add(name)
        if name not in self._texts:
            return default
        return resolve(self._prefix + name, self._texts[name])

    def required(self, name: str) -> str:
        """A setting that must be given and not be empty."""
        text = self.text(name)
        if not text.strip():
            raise self.error(name, "is required")
        return text

    def names(self, name: str) -> list[str]:
        """A list, separated by commas; empty if it is not given."""
        return [part.strip() for part in self.text(name).split(",") if part.strip()]

    def required_names(self, name: str) -> list[str]:
        """A list that must have an element."""
        found = self.names(name)
        if not found:
            raise self.error(name, "is required")
        return found

    def pairs(self, name: str) -> dict[str, str]:
        """A list of `from:to`."""
        found: dict[str, str] = {}
        for pair in self.names(name):
            left, colon, right = pair.partition(":")
            if not left or not colon or not right or ":" in right:
                raise self.error(name, f"'{pair}' is not a pair such as a:b")
            found[left.strip()] = right.strip()
        return found

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        """One of a few words; required if there is no default."""
        text = self.text(name, default).strip()
        if text not in choices:
            raise self.error(name, f"must be one of {', '.join(choices)}")
        return text

    def check_null_default(self) -> None:
        """Read `replace.null.with.default`: converters fill in the defaults of schemas.

        Raises:
            ConfigError: it is false, and what a converter filled in would have to go.
        """
        name = "replace.null.with.default"
        if self.choice(name, "true", ("true", "false")) == "false":
            raise self.error(name, "false is not supported")

    def check_nothing_else(self) -> None:
        """Refuse settings that nobody asked for: one that is misspelled must not be ignored."""
        for name in self._texts:
            if name not in self._asked:
                raise self.error(name, "is not a setting of this type")

    def error(self, name: str, reason: str) -> ConfigError:
        """An error about one setting."""
        return ConfigError(self._prefix + name, reason)


def fields_of(value: ConnectValue, purpose: str) -> dict[str, ConnectValue]:
    """The fields of an object.

    Raises:
        TransformError: it is something else.
    """
    if not isinstance(value, dict):
        raise TransformError(
            f"Only Map objects supported in absence of schema for [{purpose}], "
            f"found: {java_name(value)}"
        )
    return value


def java_name(value: ConnectValue) -> str:
    """The Java class of a value, for error texts."""
    return _JAVA_NAMES.get(type(value), type(value).__name__)
