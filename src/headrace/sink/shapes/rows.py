"""How does a flat row, such as one of a table, become a point?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from headrace.model.ids import PointId
from headrace.model.points import PointStruct
from headrace.sink.envelope import (
    read_collection_name,
    read_id_field,
    read_payload,
    read_point_id,
    read_vectors,
)
from headrace.sink.errors import Reason, RecordError
from headrace.sink.json_value import JsonValue

DELETED_FIELD: Final = "__deleted"
COLLECTION_FIELD: Final = "collection_name"


@dataclass(frozen=True, slots=True)
class RowFields:
    """Which fields of a row are what.

    Attributes:
        point_id: `id.field`.
        vector: `vector.field`; the row has no vectors if None.
        payload: `payload.fields`; all that are nothing else if None.
        id_from_key: whether the id is the record's key, or that field of it (`id.from=key`).
    """

    point_id: str = "id"
    vector: str | None = None
    payload: tuple[str, ...] | None = None
    id_from_key: bool = False

    def read_point(
        self, row: dict[str, JsonValue], kafka_key: JsonValue, has_collection: bool
    ) -> PointStruct:
        """The point of a row.

        Args:
            row: the row.
            kafka_key: the record's key.
            has_collection: whether its collection is known otherwise; a field of that name
                is then one like any other.

        Raises:
            RecordError: the row has no id, or a field is not what it should be.
        """
        point_id = self._read_id(row, kafka_key)
        vectors = read_vectors(None if self.vector is None else row.get(self.vector))
        return PointStruct(point_id, vectors, read_payload(self._payload(row, has_collection)))

    def _read_id(self, row: dict[str, JsonValue], kafka_key: JsonValue) -> PointId:
        if not self.id_from_key:
            return read_id_field(row, self.point_id)
        if isinstance(kafka_key, dict):
            return read_id_field(kafka_key, self.point_id)
        if kafka_key is None:
            raise RecordError("The record has no key, which is to be the id", Reason.INVALID_ID)
        return read_point_id(kafka_key)

    def _payload(self, row: dict[str, JsonValue], has_collection: bool) -> JsonValue:
        if self.payload is not None:
            return {name: row[name] for name in self.payload if name in row}
        others = {self.vector, DELETED_FIELD}
        if not self.id_from_key:
            others.add(self.point_id)
        if not has_collection:
            others.add(COLLECTION_FIELD)
        return {name: value for name, value in row.items() if name not in others}


def row_collection(row: dict[str, JsonValue], known: str | None) -> str:
    """The collection of a row: the known one, or the one that it names.

    Raises:
        RecordError: neither is there.
    """
    return known or read_collection_name(row)
