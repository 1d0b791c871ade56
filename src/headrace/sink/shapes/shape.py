"""What is a connector's records' shape: envelopes, operations, rows, change events?"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import orjson

from headrace.model.operations import OverwritePayload, SetPayload
from headrace.sink.changes import Change, Delete, Merge, PayloadPatch, Upsert
from headrace.sink.connect_value import plain
from headrace.sink.envelope import read_delete, read_id_field, read_upsert
from headrace.sink.errors import Reason, RecordError
from headrace.sink.json_value import InvalidJson, JsonValue
from headrace.sink.shapes.debezium import is_change_event, is_deleted_row, read_change_event
from headrace.sink.shapes.metadata import Metadata
from headrace.sink.shapes.operations import read_operation
from headrace.sink.shapes.routing import Routing
from headrace.sink.shapes.rows import RowFields, row_collection
from headrace.sink.shapes.texts import TextVector
from headrace.sink.shapes.versions import VersionGuard
from headrace.sink.transforms.base import ConnectRecord


@dataclass(frozen=True, slots=True)
class Shape:
    """How a connector reads its records once they are converted and transformed.

    Attributes:
        routing: which collection each topic has.
        rows: the fields of flat rows; None if records are envelopes.
        merges: whether a plain record keeps what it does not name.
        metadata: what payloads say of their records, if anything.
        guard: how stale records are found, if they are.
        text: which text becomes a vector, if one does.
    """

    routing: Routing = field(default_factory=Routing)
    rows: RowFields | None = None
    merges: bool = False
    metadata: Metadata | None = None
    guard: VersionGuard | None = None
    text: TextVector | None = None

    def read(self, record: ConnectRecord) -> tuple[Change, ...]:
        """The changes that a record stands for, in order.

        Raises:
            RecordError: the record is wrong by itself.
        """
        collection_name = self.routing.collection_of(record.topic)
        kafka_key = plain(record.kafka_key)
        if record.value is None:
            changes = self._tombstone(kafka_key, collection_name)
        else:
            changes = self._read_value(plain(record.value), kafka_key, collection_name)
        return tuple(self._finished(change, record) for change in changes)

    def finish(self, upsert: Upsert, record: ConnectRecord) -> tuple[Change, ...]:
        """The change of a plain envelope that was read in a faster way.

        Raises:
            RecordError: the record has no version.
        """
        if self.text is not None:
            upsert = self._with_text(upsert, orjson.loads(upsert.point.payload))
        return (self._finished(self._put(upsert), record),)

    @property
    def is_plain(self) -> bool:
        """Whether an envelope is all that there is to a record."""
        return not self.merges and not any((self.metadata, self.guard, self.text))

    def _read_value(
        self, value: JsonValue, kafka_key: JsonValue, collection_name: str | None
    ) -> tuple[Change, ...]:
        if self.text is not None and isinstance(value, str):
            # A topic of plain texts.
            value = {self.text.field: value}
        if not isinstance(value, dict):
            raise RecordError("Record value must be an object", Reason.NOT_AN_OBJECT)
        if is_change_event(value):
            row, is_deleted = read_change_event(value)
            if is_deleted:
                return self._deleted_row(row, kafka_key, collection_name)
            assert row is not None
            return self._plain_record(row, kafka_key, collection_name)
        if is_deleted_row(value):
            return self._deleted_row(value, kafka_key, collection_name)
        # A column of a row may be called that.
        if "op" in value and self.rows is None:
            return read_operation(value, collection_name)
        return self._plain_record(value, kafka_key, collection_name)

    def _plain_record(
        self, fields: dict[str, JsonValue], kafka_key: JsonValue, collection_name: str | None
    ) -> tuple[Change, ...]:
        if self.rows is None:
            upsert = read_upsert(fields, collection_name)
            payload = fields.get("payload")
            upsert = self._with_text(upsert, payload if isinstance(payload, dict) else {})
        else:
            name = row_collection(fields, collection_name)
            point = self.rows.read_point(fields, kafka_key, collection_name is not None)
            upsert = self._with_text(Upsert(name, point), fields)
        return (self._put(upsert),)

    def _with_text(self, upsert: Upsert, fields: dict[str, JsonValue]) -> Upsert:
        """With its text, unless it brings the vector along."""
        if self.text is None or self.text.vector in upsert.point.vectors:
            return upsert
        text = self.text.read(fields, is_required=not self.merges)
        return msgspec.structs.replace(upsert, text=text)

    def _put(self, upsert: Upsert) -> Change:
        if not self.merges:
            return upsert
        return Merge(upsert.collection_name, upsert.point, text=upsert.text)

    def _deleted_row(
        self,
        row: dict[str, JsonValue] | None,
        kafka_key: JsonValue,
        collection_name: str | None,
    ) -> tuple[Change, ...]:
        """A row may be known by its key alone: databases need not tell what was there."""
        from_key = self.rows is not None and self.rows.id_from_key
        if from_key or row is None or row.get(self._id_field) is None:
            return self._tombstone(kafka_key, collection_name)
        return (Delete(row_collection(row, collection_name), read_id_field(row, self._id_field)),)

    def _tombstone(self, kafka_key: JsonValue, collection_name: str | None) -> tuple[Change, ...]:
        if isinstance(kafka_key, dict) and self._id_field in kafka_key:
            point_id = read_id_field(kafka_key, self._id_field)
            return (Delete(row_collection(kafka_key, collection_name), point_id),)
        return (read_delete(kafka_key, collection_name),)

    def _finished(self, change: Change, record: ConnectRecord) -> Change:
        try:
            if self.metadata is not None:
                change = _with_metadata(change, record, self.metadata)
            if self.guard is not None:
                change = self.guard.guarded(change, record)
        except InvalidJson as error:
            detail = f"Payload cannot be stored exactly: {error}"
            raise RecordError(detail, Reason.INVALID_PAYLOAD) from None
        return change

    @property
    def _id_field(self) -> str:
        return "id" if self.rows is None else self.rows.point_id


def _with_metadata(change: Change, record: ConnectRecord, metadata: Metadata) -> Change:
    if isinstance(change, Upsert | Merge):
        payload = metadata.added_to(change.point.payload, record)
        point = msgspec.structs.replace(change.point, payload=payload)
        return msgspec.structs.replace(change, point=point)
    if isinstance(change, PayloadPatch):
        operation = change.operation
        if isinstance(operation, OverwritePayload) or (
            isinstance(operation, SetPayload) and operation.key is None
        ):
            payload = metadata.added_to(operation.payload, record)
            operation = msgspec.structs.replace(operation, payload=payload)
            return msgspec.structs.replace(change, operation=operation)
    return change
