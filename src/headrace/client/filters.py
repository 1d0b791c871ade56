"""In which forms can a caller give a filter?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from qdrant_client import models

from headrace.model.filters import Filter
from headrace.server.rest.body import read_body
from headrace.server.rest.filters import read_filter

# As the official client has it, as the JSON of Qdrant's API, or as the engine has it.
FilterLike = models.Filter | Mapping[str, Any] | Filter


def as_filter(given: FilterLike | None) -> Filter | None:
    """The engine's form of a filter.

    Raises:
        FormatError, InvalidBody, BadRequest: it is none.
    """
    if given is None or isinstance(given, Filter):
        return given
    return read_body(as_json(given), read_filter)


def as_json(value: object) -> bytes:
    """The JSON of a value that may hold models of the official client.

    Raises:
        TypeError: something in it has no JSON form.
    """
    return orjson.dumps(value, default=_model_members)


def _model_members(value: object) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", exclude_none=True, by_alias=True)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
