"""Which names can collections and vectors have?

Qdrant's rules and texts. It is stricter with what is to be made than with what may be there.
"""

from __future__ import annotations

from typing import Final

COLLECTION_NAME_CHARS_MAX: Final = 255
FORBIDDEN_IN_NAMES: Final = "/\0"
FORBIDDEN_IN_NEW_NAMES: Final = '<>:"/\\|?*\0\x1f'

_VECTOR_NAME_BYTES_MAX: Final = 200
NO_TEXT: Final = "has half of a surrogate pair in it, which is no text"


def collection_name_problem(name: str, new: bool = False) -> str | None:
    """Why no collection can have a name; None if one can.

    Args:
        name: any text.
        new: whether the collection is to be made.
    """
    if not 1 <= len(name) <= COLLECTION_NAME_CHARS_MAX:
        return f"collection name must be from 1 to {COLLECTION_NAME_CHARS_MAX} characters"
    for char in FORBIDDEN_IN_NEW_NAMES if new else FORBIDDEN_IN_NAMES:
        if char in name:
            return f'collection name cannot contain "{char}" char'
    # Clients take these for a step in a path.
    if name in (".", ".."):
        return f'collection name cannot be "{name}"'
    return None if is_text(name) else f"collection name {NO_TEXT}"


def vector_name_problems(name: str) -> list[str]:
    """Why no new vector can have a name."""
    if not is_text(name):
        return [f"vector name {NO_TEXT}"]
    problems = []
    if len(name.encode()) > _VECTOR_NAME_BYTES_MAX:
        problems.append(f"vector name is longer than {_VECTOR_NAME_BYTES_MAX} bytes")
    for char in FORBIDDEN_IN_NEW_NAMES:
        if char in name:
            problems.append(f'vector name cannot contain "{char}" char')
            break
    return problems


def is_text(name: str) -> bool:
    """Whether a name can be written in UTF-8: one from JSON may have half of a surrogate pair."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
