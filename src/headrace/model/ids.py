"""What is a point id?

An unsigned 64-bit integer or a UUID, exact. Everywhere inside, a number is an `int`
and a UUID is a `uuid.UUID`; only the edges see text.
"""

from __future__ import annotations

import re
from uuid import UUID

PointId = int | UUID

POINT_ID_NUMBER_MAX = 2**64 - 1

# The spellings that Qdrant takes: hyphenated, 32 hex digits, urn:uuid:, braces.
_HEX = "[0-9a-fA-F]"
_HYPHENATED = f"{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}"
_UUID_TEXT = re.compile(
    rf"(?:urn:uuid:)?{_HYPHENATED}|\{{{_HYPHENATED}\}}|{_HEX}{{32}}",
)


def parse_uuid(text: str) -> UUID | None:
    """The UUID that `text` spells in one of the forms Qdrant takes, else None."""
    if _UUID_TEXT.fullmatch(text) is None:
        return None
    return UUID(text)


def point_id_order(point_id: PointId) -> tuple[bool, int]:
    """Sort key of the order used everywhere: numbers ascending, then UUIDs by their bytes."""
    if isinstance(point_id, UUID):
        return True, point_id.int
    return False, point_id


def as_point_id(value: str | int) -> PointId | None:
    """The point id that a payload value names, if it names one."""
    if isinstance(value, str):
        return parse_uuid(value)
    return value if 0 <= value <= POINT_ID_NUMBER_MAX else None
