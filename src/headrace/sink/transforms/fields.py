"""Which fields does a key or a value have, and under which names?"""

from __future__ import annotations

from typing import Final

import msgspec

from headrace.sink.connect_value import ConnectValue
from headrace.sink.transforms.base import (
    ConnectRecord,
    Part,
    Settings,
    TransformError,
    fields_of,
    java_name,
)


class InsertField:
    """Adds fields from the record's metadata, or a fixed one. A null value stays null."""

    def __init__(self, part: Part, settings: Settings) -> None:
        self._part = part
        self._topic = _insertion(settings.text("topic.field"))
        self._partition = _insertion(settings.text("partition.field"))
        self._offset = _insertion(settings.text("offset.field"))
        self._timestamp = _insertion(settings.text("timestamp.field"))
        self._static = _insertion(settings.text("static.field"))
        self._static_value = settings.text("static.value")
        if self._static and not self._static_value:
            raise settings.error("static.value", "is required with static.field")
        settings.check_null_default()

    def apply(self, record: ConnectRecord) -> ConnectRecord:
        """See `Transform`."""
        value = self._part.of(record)
        if value is None:
            return record
        inserted: dict[str, ConnectValue] = dict(fields_of(value, "field insertion"))
        if self._topic:
            inserted[self._topic] = record.topic
        if self._partition:
            inserted[self._partition] = record.partition
        if self._offset:
            inserted[self._offset] = record.kafka_offset
        if self._timestamp and record.timestamp_ms is not None:
            inserted[self._timestamp] = record.timestamp_ms
        if self._static:
            inserted[self._static] = self._static_value
        return self._part.replaced(record, inserted)


class ReplaceField:
    """Leaves out fields, and renames them."""

    def __init__(self, part: Part, settings: Settings) -> None:
        self._part = part
        # The second of each is its name before Kafka 2.6.
        self._exclude = {*settings.names("exclude"), *settings.names("blacklist")}
        self._include = {*settings.names("include"), *settings.names("whitelist")}
        self._renames = settings.pairs("renames")
        settings.check_null_default()

    def apply(self, record: ConnectRecord) -> ConnectRecord:
        """See `Transform`."""
        value = self._part.of(record)
        if value is None:
            return record
        kept = {
            self._renames.get(name, name): item
            for name, item in fields_of(value, "field replacement").items()
            if name not in self._exclude and (not self._include or name in self._include)
        }
        return self._part.replaced(record, kept)


class ExtractField:
    """Puts one field in place of the whole; null if there is no such field."""

    def __init__(self, part: Part, settings: Settings) -> None:
        self._part = part
        self._field = settings.required("field")
        _check_syntax(settings)
        settings.check_null_default()

    def apply(self, record: ConnectRecord) -> ConnectRecord:
        """See `Transform`."""
        value = self._part.of(record)
        if value is None:
            return record
        return self._part.replaced(record, fields_of(value, "field extraction").get(self._field))


class HoistField:
    """Puts the whole into one field of a new object, null too."""

    def __init__(self, part: Part, settings: Settings) -> None:
        self._part = part
        self._field = settings.required("field")

    def apply(self, record: ConnectRecord) -> ConnectRecord:
        """See `Transform`."""
        return self._part.replaced(record, {self._field: self._part.of(record)})


class Flatten:
    """Puts the fields of objects within objects on the top level; arrays stay as they are."""

    def __init__(self, part: Part, settings: Settings) -> None:
        self._part = part
        self._delimiter = settings.text("delimiter", ".")

    def apply(self, record: ConnectRecord) -> ConnectRecord:
        """See `Transform`."""
        value = self._part.of(record)
        if value is None:
            return record
        flat: dict[str, ConnectValue] = {}
        waiting = [iter(fields_of(value, "flattening").items())]
        names: list[str] = []
        # With a stack of its own: an object may be nested deeper than Python calls.
        while waiting:
            name, item = next(waiting[-1], (None, None))
            if name is None:
                waiting.pop()
                del names[-1:]
            elif isinstance(item, dict):
                waiting.append(iter(item.items()))
                names.append(name)
            else:
                flat[self._delimiter.join([*names, name])] = item
        return self._part.replaced(record, flat)


class MaskField:
    """Puts the empty value of its type in place of a field, or a replacement."""

    def __init__(self, part: Part, settings: Settings) -> None:
        self._part = part
        self._fields = settings.required_names("fields")
        self._replacement = settings.text("replacement") or None
        settings.check_null_default()

    def apply(self, record: ConnectRecord) -> ConnectRecord:
        """See `Transform`."""
        value = self._part.of(record)
        if value is None:
            return record
        masked = dict(fields_of(value, "mask fields"))
        for name in self._fields:
            if masked.get(name) is not None:
                masked[name] = self._masked(masked[name])
        return self._part.replaced(record, masked)

    def _masked(self, value: ConnectValue) -> ConnectValue:
        if self._replacement is None:
            if isinstance(value, bool | int | float | str | list | dict):
                return type(value)()
            raise TransformError(f"Cannot mask value of type: {java_name(value)}")
        if isinstance(value, str):
            return self._replacement
        try:
            if isinstance(value, int) and not isinstance(value, bool):
                return int(self._replacement)
            if isinstance(value, float):
                return float(self._replacement)
        except ValueError:
            raise TransformError(f"Unable to convert {self._replacement} to number") from None
        raise TransformError(
            f"Cannot mask value of type {java_name(value)} with custom replacement."
        )


class ValueToKey:
    """Makes the key of fields of the value."""

    def __init__(self, settings: Settings) -> None:
        self._fields = settings.required_names("fields")
        settings.check_null_default()

    def apply(self, record: ConnectRecord) -> ConnectRecord:
        """See `Transform`."""
        fields = fields_of(record.value, "copying fields from value to key")
        new_key: dict[str, ConnectValue] = {name: fields.get(name) for name in self._fields}
        return msgspec.structs.replace(record, kafka_key=new_key)


_SYNTAX: Final = "field.syntax.version"


def _check_syntax(settings: Settings) -> None:
    if settings.choice(_SYNTAX, "V1", ("V1", "V2")) == "V2":
        raise settings.error(_SYNTAX, "V2 is not supported")


def _insertion(spec: str) -> str:
    """The name of a field; the mark that makes it required or optional is for schemas."""
    return spec[:-1] if spec.endswith(("!", "?")) else spec
