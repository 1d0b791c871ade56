"""In which form does a moment stand in a key or a value?"""

from __future__ import annotations

import datetime
from typing import Final

from headrace.sink.connect_value import ConnectValue
from headrace.sink.transforms.base import (
    ConnectRecord,
    Part,
    Settings,
    TransformError,
    fields_of,
    java_name,
)
from headrace.sink.transforms.java_dates import JavaDateFormat

_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
# How many units make a millisecond, or how many milliseconds make a unit.
_UNITS_PER_MS: Final = {"milliseconds": 1, "microseconds": 1_000, "nanoseconds": 1_000_000}
_MS_PER_SECOND: Final = 1_000
_PRECISIONS: Final = ("seconds", *_UNITS_PER_MS)


class TimestampConverter:
    """Converts one field, or the whole, between text, Unix time and moments."""

    def __init__(self, part: Part, settings: Settings) -> None:
        self._part = part
        self._field = settings.text("field")
        self._target = settings.choice(
            "target.type", "", ("string", "unix", "Date", "Time", "Timestamp")
        )
        self._precision = settings.choice("unix.precision", "milliseconds", _PRECISIONS)
        self._format = read_date_format(settings, "format", "")
        if self._target == "string" and self._format is None:
            raise settings.error("format", "is required with target.type=string")
        settings.check_null_default()

    def apply(self, record: ConnectRecord) -> ConnectRecord:
        """See `Transform`."""
        value = self._part.of(record)
        if value is None:
            return record
        if not self._field:
            return self._part.replaced(record, self._converted(value))
        changed = dict(fields_of(value, "converting timestamp formats"))
        if self._field in changed:
            changed[self._field] = self._converted(changed[self._field])
        return self._part.replaced(record, changed)

    def _converted(self, value: ConnectValue) -> ConnectValue:
        if value is None:
            return None
        try:
            return self._written(self._read(value))
        except OverflowError:
            raise TransformError(f"The timestamp {value!r} is beyond the year 9999") from None

    def _read(self, value: ConnectValue) -> datetime.datetime:
        if isinstance(value, datetime.datetime):
            return (
                value.astimezone(datetime.UTC)
                if value.tzinfo
                else value.replace(tzinfo=datetime.UTC)
            )
        if isinstance(value, datetime.date):
            return datetime.datetime(value.year, value.month, value.day, tzinfo=datetime.UTC)
        if isinstance(value, datetime.time):
            return datetime.datetime.combine(_EPOCH.date(), value, tzinfo=datetime.UTC)
        if isinstance(value, int) and not isinstance(value, bool):
            return _EPOCH + datetime.timedelta(milliseconds=self._milliseconds(value))
        if isinstance(value, str):
            return self._parsed(value)
        raise TransformError(
            f"TimestampConverter does not support {java_name(value)} objects as timestamps"
        )

    def _parsed(self, text: str) -> datetime.datetime:
        if self._format is None:
            raise TransformError(f"Could not parse timestamp: no format is set for '{text}'")
        try:
            return self._format.parse(text)
        except ValueError:
            raise TransformError(
                f"Could not parse timestamp: value ({text}) does not match pattern"
            ) from None

    def _milliseconds(self, unix: int) -> int:
        if self._precision == "seconds":
            return unix * _MS_PER_SECOND
        units = _UNITS_PER_MS[self._precision]
        return unix // units if unix >= 0 else -(-unix // units)

    def _written(self, moment: datetime.datetime) -> ConnectValue:
        match self._target:
            case "string":
                assert self._format is not None
                return self._format.format(moment)
            case "Date":
                return moment.date()
            case "Time":
                return moment.time()
            case "Timestamp":
                return moment
        milliseconds = (moment - _EPOCH) // datetime.timedelta(milliseconds=1)
        if self._precision == "seconds":
            whole = abs(milliseconds) // _MS_PER_SECOND
            return whole if milliseconds >= 0 else -whole
        return milliseconds * _UNITS_PER_MS[self._precision]


def read_date_format(settings: Settings, name: str, default: str) -> JavaDateFormat | None:
    """A pattern of `SimpleDateFormat`; None if none is given."""
    pattern = settings.text(name, default)
    if not pattern.strip():
        return None
    try:
        return JavaDateFormat(pattern)
    except ValueError as error:
        raise settings.error(name, f"'{pattern}': {error}") from None
