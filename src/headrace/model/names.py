"""Which names can collections and vectors have?

Qdrant's rules and texts. It is stricter with what is to be made than with what may be there.
"""

from __future__ import annotations

from typing import Final

NO_TEXT: Final = "has half of a surrogate pair in it, which is no text"

_COLLECTION_NAME_CHARS_MAX: Final = 255
_VECTOR_NAME_BYTES_MAX: Final = 200
_FORBIDDEN: Final = "/\0"
_FORBIDDEN_IN_NEW: Final = '<>:"/\\|?*\0\x1f'


def collection_name_problems(name: str, new: bool = False) -> list[str]:
    """Why no collection can have a name.

    Args:
        name: any text.
        new: whether the collection is to be made.
    """
    if not is_text(name):
        return [f"collection name {NO_TEXT}"]
    problems = []
    if not 1 <= len(name) <= _COLLECTION_NAME_CHARS_MAX:
        problems.append(
            f'value "{name}" invalid, must be from 1 to {_COLLECTION_NAME_CHARS_MAX} characters'
        )
    problems += _forbidden_in(name, _FORBIDDEN_IN_NEW if new else _FORBIDDEN, "collection")
    # Clients take these for a step in a path.
    if name in (".", ".."):
        problems.append(f'collection name cannot be "{name}"')
    return problems


def vector_name_problems(name: str) -> list[str]:
    """Why no new vector can have a name."""
    if not is_text(name):
        return [f"vector name {NO_TEXT}"]
    problems = []
    if len(name.encode()) > _VECTOR_NAME_BYTES_MAX:
        problems.append(f"vector name is longer than {_VECTOR_NAME_BYTES_MAX} bytes")
    return problems + _forbidden_in(name, _FORBIDDEN_IN_NEW, "vector")


def is_text(name: str) -> bool:
    """Whether a name can be written in UTF-8: one from JSON may have half of a surrogate pair."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _forbidden_in(name: str, forbidden: str, what: str) -> list[str]:
    """The first character that a name of a collection or a vector must not have."""
    found = [char for char in forbidden if char in name][:1]
    return [f'{what} name cannot contain "{char}" char' for char in found]
