"""Which headers does a record have?"""

from __future__ import annotations

import msgspec

from headrace.sink.transforms.base import ConnectHeaders, ConnectRecord, Part, Settings, fields_of


class DropHeaders:
    """Takes headers away, by name."""

    def __init__(self, settings: Settings) -> None:
        self._names = set(settings.required_names("headers"))

    def apply(self, record: ConnectRecord) -> ConnectRecord:
        """See `Transform`."""
        kept = [one for one in record.headers if one[0] not in self._names]
        return msgspec.structs.replace(record, headers=kept)


class HeaderFrom:
    """Copies or moves fields into headers."""

    def __init__(self, part: Part, settings: Settings) -> None:
        self._part = part
        self._fields = settings.required_names("fields")
        self._headers = settings.required_names("headers")
        self._moves = settings.choice("operation", "", ("move", "copy")) == "move"
        if len(self._fields) != len(self._headers):
            raise settings.error("headers", "must have as many elements as fields")
        settings.check_null_default()

    def apply(self, record: ConnectRecord) -> ConnectRecord:
        """See `Transform`."""
        operation = "move" if self._moves else "copy"
        fields = dict(fields_of(self._part.of(record), f"header {operation}"))
        headers: ConnectHeaders = [
            *record.headers,
            *((new, fields.get(old)) for old, new in zip(self._fields, self._headers, strict=True)),
        ]
        if self._moves:
            for name in self._fields:
                fields.pop(name, None)
        record = msgspec.structs.replace(record, headers=headers)
        return self._part.replaced(record, fields)


class InsertHeader:
    """Adds a header with a fixed text."""

    def __init__(self, settings: Settings) -> None:
        self._header = settings.required("header")
        self._literal = settings.required("value.literal")

    def apply(self, record: ConnectRecord) -> ConnectRecord:
        """See `Transform`."""
        headers = [*record.headers, (self._header, self._literal)]
        return msgspec.structs.replace(record, headers=headers)
