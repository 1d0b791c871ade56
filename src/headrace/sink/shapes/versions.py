"""How is a late record told from a newer one?

By a version that stands in the payload of the stored point. Numbers are compared as
numbers, texts as texts, so timestamps must all be written alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec
import orjson

from headrace.model.operations import OverwritePayload, SetPayload
from headrace.sink.changes import Change, Merge, PayloadPatch, Upsert, Version
from headrace.sink.errors import Reason, RecordError
from headrace.sink.json_value import JsonValue, encode_object
from headrace.sink.shapes.metadata import header_value
from headrace.sink.transforms.base import ConnectRecord

FROM_PAYLOAD: Final = "payload"
FROM_OFFSET: Final = "offset"
FROM_HEADER: Final = "header."


@dataclass(frozen=True, slots=True)
class VersionGuard:
    """Where versions come from.

    Attributes:
        field: the payload key under which a stored point has its version.
        source: `payload`, `offset`, or `header.` and a name. What is not in the payload is
            put there.
    """

    field: str
    source: str = FROM_PAYLOAD

    def guarded(self, change: Change, record: ConnectRecord) -> Change:
        """The change with its version, in its payload too.

        Raises:
            RecordError: a whole point has none, or what stands there is none.
        """
        if self.source == FROM_PAYLOAD:
            return self._from_payload(change)
        version = self._of_record(record)
        if isinstance(change, Upsert | Merge):
            if version is None:
                raise self._missing()
            payload: dict[str, JsonValue] = orjson.loads(change.point.payload)
            payload[self.field] = version
            point = msgspec.structs.replace(change.point, payload=encode_object(payload))
            return msgspec.structs.replace(change, point=point, version=version)
        return msgspec.structs.replace(change, version=version)

    def _from_payload(self, change: Change) -> Change:
        if isinstance(change, Upsert | Merge):
            version = _version_in(change.point.payload, self.field)
            if version is None:
                raise self._missing()
            return msgspec.structs.replace(change, version=version)
        if isinstance(change, PayloadPatch) and _sets_top_level(change):
            assert isinstance(change.operation, SetPayload | OverwritePayload)
            version = _version_in(change.operation.payload, self.field)
            return msgspec.structs.replace(change, version=version)
        return change

    def _of_record(self, record: ConnectRecord) -> Version | None:
        if self.source == FROM_OFFSET:
            return record.kafka_offset
        name = self.source.removeprefix(FROM_HEADER)
        values = [value for header, value in record.headers if header == name]
        if not values:
            return None
        value = header_value(values[-1])
        if isinstance(value, str):
            # A number in a header is usually written as text.
            try:
                value = int(value)
            except ValueError:
                return value
        return as_version(value)

    def _missing(self) -> RecordError:
        where = f"'{self.field}'" if self.source == FROM_PAYLOAD else self.source
        return RecordError(f"The record has no version in {where}", Reason.INVALID_VERSION)


def is_stale(version: Version, stored: Version) -> bool:
    """Whether a version is older than the stored one.

    Raises:
        RecordError: a number cannot be compared with a text.
    """
    if isinstance(version, str) and isinstance(stored, str):
        return version < stored
    if isinstance(version, str) or isinstance(stored, str):
        raise RecordError(
            f"The version {version!r} cannot be compared with the stored {stored!r}",
            Reason.INVALID_VERSION,
        )
    return version < stored


def as_version(value: JsonValue) -> Version | None:
    """A payload value as a version; None if it is none.

    Raises:
        RecordError: it is neither a number nor a text.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise RecordError("A version must be a number or a string", Reason.INVALID_VERSION)
    return value


def _sets_top_level(change: PayloadPatch) -> bool:
    operation = change.operation
    if isinstance(operation, SetPayload):
        return operation.key is None
    return isinstance(operation, OverwritePayload)


def _version_in(payload: bytes, field: str) -> Version | None:
    fields: dict[str, JsonValue] = orjson.loads(payload)
    return as_version(fields.get(field))
