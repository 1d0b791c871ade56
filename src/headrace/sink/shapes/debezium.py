"""Which row does a change event of Debezium carry, and is it there or gone?

An event is `{"op": "c", "before": .., "after": .., "source": ..}`; a delete is followed by a
tombstone of the same key. Flattened by Debezium's `ExtractNewRecordState` it is the row
itself, with `"__deleted": "true"` if it is gone.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from headrace.sink.errors import Reason, RecordError
from headrace.sink.json_value import JsonValue
from headrace.sink.shapes.rows import DELETED_FIELD

_OPERATIONS: Final = frozenset({"c", "r", "u", "d", "t", "m"})
_PUTS: Final = frozenset({"c", "r", "u"})


class RowEvent(NamedTuple):
    """A row and whether it is gone; of one that is gone the row may be None."""

    row: dict[str, JsonValue] | None
    is_deleted: bool


def is_change_event(fields: dict[str, JsonValue]) -> bool:
    """Whether a value is an event with its envelope."""
    name = fields.get("op")
    has_row = "before" in fields or "after" in fields
    return isinstance(name, str) and name in _OPERATIONS and (has_row or name in {"t", "m"})


def read_change_event(fields: dict[str, JsonValue]) -> RowEvent:
    """The row of an event.

    Raises:
        RecordError: the event is not about one row, or lacks its row.
    """
    name = fields["op"]
    if name == "d":
        before = fields.get("before")
        return RowEvent(before if isinstance(before, dict) else None, is_deleted=True)
    if name not in _PUTS:
        raise RecordError(f"Debezium event '{name}' is not about one row", Reason.INVALID_OPERATION)
    after = fields.get("after")
    if not isinstance(after, dict):
        raise RecordError(
            f"Debezium event '{name}' has no row in 'after'", Reason.INVALID_OPERATION
        )
    return RowEvent(after, is_deleted=False)


def is_deleted_row(fields: dict[str, JsonValue]) -> bool:
    """Whether a flattened event says that its row is gone."""
    return fields.get(DELETED_FIELD) in ("true", True)
