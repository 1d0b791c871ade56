"""What may stand in a key or value between its converter and the point it becomes?

JSON, and what binary formats have beside it: bytes, decimals, dates and times. Transforms
see these as they are; a point gets plain JSON.
"""

from __future__ import annotations

import base64
import datetime
from decimal import Decimal
from typing import Final, TypeAlias, cast
from uuid import UUID

from headrace.sink.json_value import JsonValue

Moment: TypeAlias = datetime.datetime | datetime.date | datetime.time
ConnectValue: TypeAlias = (
    "bool | int | float | str | bytes | Decimal | UUID | Moment | "
    "list[ConnectValue] | dict[str, ConnectValue] | None"
)

_PLAIN_SCALARS: Final = frozenset({bool, int, float, str, type(None)})


def as_connect(value: JsonValue) -> ConnectValue:
    """A JSON value, which is one as it is."""
    return cast(ConnectValue, value)


def plain(value: ConnectValue) -> JsonValue:
    """The JSON value that a payload gets; the same object where nothing has to change.

    Bytes become base64, as in Kafka Connect's JSON. Decimals become their digits as a
    string, since a float would change them. Moments become what Qdrant's datetime index
    reads: RFC 3339 in UTC.
    """
    return cast(JsonValue, value) if _is_plain(value) else _converted(value)


def _is_plain(value: ConnectValue) -> bool:
    """Without recursion: what is too deep to be stored is refused later, with a text."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, list):
            if not _PLAIN_SCALARS.issuperset(map(type, item)):
                waiting.extend(item)
        elif type(item) not in _PLAIN_SCALARS:
            return False
    return True


def _converted(value: ConnectValue) -> JsonValue:
    if isinstance(value, list):
        return [_converted(item) for item in value]
    if isinstance(value, dict):
        return {name: _converted(item) for name, item in value.items()}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, datetime.datetime):
        return rfc_3339(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, Decimal | UUID):
        return str(value)
    # A subclass of a scalar, such as an enumeration.
    return cast(JsonValue, value)


def rfc_3339(moment: datetime.datetime) -> str:
    """A moment in UTC, such as `2026-01-31T23:59:59.123Z`; one without a zone is UTC."""
    if moment.tzinfo is not None:
        moment = moment.astimezone(datetime.UTC).replace(tzinfo=None)
    precision = "microseconds" if moment.microsecond % 1000 else "milliseconds"
    return moment.isoformat(timespec=precision) + "Z"
