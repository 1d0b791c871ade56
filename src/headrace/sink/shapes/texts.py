"""Which text of a record becomes which of its point's vectors?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.sink.errors import Reason, RecordError
from headrace.sink.json_value import JsonValue


@dataclass(frozen=True, slots=True)
class TextVector:
    """What `vector.from.text` and its settings say.

    Attributes:
        field: the text, in the payload of an envelope, or in a row.
        vector: the name of the vector that it becomes.
        model: what makes the vector.
        options: what the model is told besides.
    """

    field: str
    vector: str
    model: str
    options: Mapping[str, Any]

    def read(self, fields: dict[str, JsonValue], is_required: bool) -> str | None:
        """The text of a record; None if it has none and need not.

        Raises:
            RecordError: it is missing, empty, or no text.
        """
        name = self.field
        if name not in fields:
            if is_required:
                raise _error(f"'{name}' value is required")
            return None
        text = fields[name]
        if text is None:
            raise _error(f"'{name}' value cannot be null")
        if not isinstance(text, str):
            raise _error(f"'{name}' must be a string, since it is to be embedded")
        if not text.strip():
            raise _error(f"'{name}' is empty, and cannot be embedded")
        return text


def _error(detail: str) -> RecordError:
    return RecordError(detail, Reason.INVALID_TEXT)
