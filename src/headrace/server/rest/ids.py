"""How is a point id read from JSON?"""

from __future__ import annotations

from typing import Any

from headrace.model.ids import POINT_ID_NUMBER_MAX, PointId, parse_uuid
from headrace.server.rest.body import FormatError, Node


def point_id_of(value: Any) -> PointId | None:
    """The id that a JSON value spells: an integer literal or a UUID string; else None."""
    if type(value) is int:
        return value if 0 <= value <= POINT_ID_NUMBER_MAX else None
    return parse_uuid(value) if type(value) is str else None


def read_point_id(node: Node) -> PointId:
    """A point id.

    Raises:
        FormatError: it is none.
    """
    point_id = point_id_of(node.value)
    if point_id is None:
        raise not_a_point_id(node.value, node.path)
    return point_id


def read_point_ids(node: Node) -> list[PointId]:
    """A list of point ids; lists may be long, so no node is made for each.

    Raises:
        FormatError: one is none.
    """
    if type(node.value) is not list:
        node.elements()
    ids: list[PointId] = []
    for position, value in enumerate(node.value):
        point_id = point_id_of(value)
        if point_id is None:
            raise not_a_point_id(value, f"{node.path}[{position}]")
        ids.append(point_id)
    return ids


def not_a_point_id(value: Any, path: str) -> FormatError:
    """Qdrant's refusal of a value that is no point id."""
    shown = "null" if value is None else str(value).lower() if type(value) is bool else value
    if isinstance(value, (dict, list)):
        shown = "of another type"
    return FormatError(
        f"value {shown} is not a valid point ID, "
        "valid values are either an unsigned integer or a UUID",
        path,
    )
